"""The audit log: whatever is done to it is found, and nothing else is."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from lathe.gateway.audit import Chain, Fault, Record, SignedCheckpoint, checkpoint, verify_chain, verify_log
from lathe.gateway.signing import KeyRing, Signer

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from audit_changes import KINDS, Log, changed, make

SIGNER = Signer.fresh()
RING = KeyRing([SIGNER.public_key])
LOG = make(SIGNER, chains=3, records=60, every=7)


def faults(log: Log, anchor: str = "") -> list[Fault]:
    return verify_chain(iter(log.records), iter(log.checkpoints), RING, anchor=anchor)


def test_a_genuine_log_has_no_faults() -> None:
    found = verify_log(LOG.records, LOG.checkpoints, RING)
    assert (found.faults, found.records, found.chains, found.checkpoints, found.unsigned) == ([], 60, 3, 9, 0)
    assert found.head == LOG.checkpoints[-1].hash and found.until == 1_790_000_000_059
    chains = sorted({record.chain for record in LOG.records}, reverse=True)
    other_order = [record for chain in chains for record in LOG.records if record.chain == chain]
    assert not faults(Log(other_order, LOG.checkpoints))
    assert not faults(Log([], []))


def test_every_one_of_a_thousand_random_changes_is_found() -> None:
    draw = random.Random(11)
    missed = []
    for number in range(1000):
        kind = KINDS[number % len(KINDS)]
        log = changed(LOG, kind, draw)
        assert log != LOG, kind
        if not faults(log):
            missed.append(kind)
    assert not missed


def test_every_bit_of_a_record_and_of_a_checkpoint_counts() -> None:
    log = make(SIGNER, chains=2, records=4, every=2)
    for at, row in enumerate((log.records[1], log.checkpoints[0])):
        for field, text in enumerate(row):
            data = str(text).encode()
            for bit in range(len(data) * 8):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                value = flipped.decode("utf-8", "surrogateescape")
                if isinstance(text, int):
                    if not value.isdecimal():
                        continue
                    value = int(value)
                fields = [*row[:field], value, *row[field + 1 :]]
                records, checkpoints = list(log.records), list(log.checkpoints)
                if at == 0:
                    records[1] = Record(*fields)
                else:
                    checkpoints[0] = SignedCheckpoint(*fields)
                assert faults(Log(records, checkpoints)), (row._fields[field], bit)


def test_a_fault_says_where_it_is_and_is_told_once() -> None:
    records = list(LOG.records)
    chain = records[0].chain
    changed_body = [*records[:3], records[3]._replace(body=records[3].body.replace("user_", "user-")), *records[4:]]
    assert faults(Log(changed_body, LOG.checkpoints)) == [
        Fault(chain, 4, "the record does not follow the one before it, or has been changed")
    ]
    gone = [Fault(chain, 6, "the records from 4 to 5 are missing before it")]
    assert [one for one in faults(Log(records[:3] + records[5:], LOG.checkpoints)) if "missing" in one.message] == gone
    assert faults(Log([one for one in records if one.chain != chain], LOG.checkpoints)) == [
        Fault(chain, 0, "the whole chain is missing")
    ]
    assert faults(Log(records[1:19] + records[20:], LOG.checkpoints))


def test_what_comes_after_the_last_checkpoint_is_counted() -> None:
    shorter = Log(LOG.records, LOG.checkpoints[:-1])
    found = verify_log(*shorter, RING)
    assert (found.faults, found.unsigned) == ([], 60 - 7 * 8)


def test_a_checkpoint_kept_elsewhere_shows_that_the_end_was_cut_off() -> None:
    cut = make(SIGNER, chains=3, records=30, every=10)
    kept = cut.checkpoints[1].hash
    for log in (Log([], []), Log(cut.records[:0], cut.checkpoints[:1])):
        assert any("kept elsewhere" in fault.message for fault in faults(log, kept))
    assert not faults(cut, kept)


def test_a_log_written_anew_without_the_key_is_found() -> None:
    other = Signer.fresh()
    forged = make(other, chains=3, records=60, every=7)
    assert any("key is not known" in fault.message for fault in faults(forged))
    relabelled = [one._replace(signer=SIGNER.key_id) for one in forged.checkpoints]
    assert any("signature does not fit" in fault.message for fault in faults(Log(forged.records, relabelled)))
    both = verify_log(*forged, RING.joined(other.public_key))
    assert not both.faults


def test_a_history_that_went_back_in_time_is_found() -> None:
    """A database put back to an old copy and written on: each checkpoint is genuine, and they contradict each other."""
    first, again = Chain("rep_1"), Chain("rep_1")
    records = [first.add({"n": number}) for number in range(3)]
    one = checkpoint({"rep_1": first.head}, None, SIGNER, at=1)
    records = [again.add({"n": number}) for number in (0, 7, 8, 9)]
    two = checkpoint({"rep_1": again.head}, one, SIGNER, at=2)
    assert [fault.message for fault in faults(Log(records, [one, two]))] == [
        "the record is not the one that a checkpoint names"
    ]
    lost = checkpoint({}, one, SIGNER, at=1)
    older = checkpoint({"rep_1": Chain("rep_1", 2, records[1].hash).head}, one, SIGNER, at=0)
    messages = [fault.message for last in (lost, older) for fault in faults(Log(records, [one, last]))]
    assert "the checkpoint 2 no longer names the chain" in messages
    assert "the checkpoint 2 names an older head than the one before it" in messages
    assert "the checkpoint is older than the one before it" in messages


@pytest.mark.parametrize("faulty", [2_500])
def test_a_log_that_is_wrong_throughout_is_counted_and_not_listed(faulty: int) -> None:
    found = verify_log((Record("rep_1", 1, "{}", "") for _ in range(faulty)), [], RING)
    assert len(found.faults) == 1_000 and found.faulty > faulty
