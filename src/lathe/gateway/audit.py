"""The audit log: chains of hashes, one per replica, and signed checkpoints over the heads of all of them.

A record's hash takes in the hash before it, so a record that is changed, taken away, put in or moved breaks its chain;
what a chain begins with takes in its name, so no record fits into another chain. Leaves and checkpoints are hashed with
different first bytes, as RFC 6962 (section 2.1) does for its leaves and nodes. A checkpoint is canonical JSON
(RFC 8785) with an Ed25519 signature (RFC 8032); it names the head of every chain and the checkpoint before it, so a
chain or its tail can't go missing either, nor be written anew without the key.

What no log can show by itself: what was done to records after the last checkpoint by someone who hashes them anew
(`Verified.unsigned` counts them), and that its last checkpoints were taken away along with everything that they cover.
For the second a person keeps the hash of a checkpoint elsewhere, and verifies with it as an `anchor`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from lathe.gateway.canonical import canonical
from lathe.gateway.signing import KeyRing, Signer

_START, _RECORD, _CHECKPOINT = b"\x02", b"\x00", b"\x01"
_NO_CHECKPOINT = "0" * 64
_KEPT = 1_000


class Record(NamedTuple):
    """One line of the log: `body` is canonical JSON, as it was hashed; `seq` counts from 1 in each chain."""

    chain: str
    seq: int
    body: str
    hash: str


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last record of a chain."""

    seq: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="lathe.checkpoint.v1"):
    """The heads of all chains at `at` (milliseconds), and the hash of the checkpoint before; `seq` counts from 1."""

    seq: int
    at: int
    previous: str
    heads: dict[str, Head]


class SignedCheckpoint(NamedTuple):
    """A checkpoint as it is kept: its canonical text, its signature and the id of the key."""

    seq: int
    body: str
    signature: str
    signer: str

    @property
    def hash(self) -> str:
        """The hash by which the next checkpoint, or a person, knows this one."""
        return hashlib.sha256(_CHECKPOINT + _utf8(self.body)).hexdigest()


class Fault(NamedTuple):
    """Something that is not as it was written. `chain` is "" for a checkpoint, `seq` its number there."""

    chain: str
    seq: int
    message: str


class Verified(NamedTuple):
    """What was found: the first 1,000 `faults` of `faulty`, and how much was read.

    `unsigned` records come after the last checkpoint, which has the hash `head` and was made at `until` (milliseconds);
    a log without any has 64 zeros and 0.
    """

    faults: list[Fault]
    faulty: int
    records: int
    chains: int
    checkpoints: int
    unsigned: int
    head: str
    until: int


def genesis(chain: str) -> str:
    """Return the hash that a chain begins with."""
    return hashlib.sha256(_START + _utf8(chain)).hexdigest()


def link(previous_hash: str, body: bytes) -> str:
    """Return the hash of a record, from the hash before it and its body."""
    return hashlib.sha256(_RECORD + previous_hash.encode("utf-8", "surrogatepass") + body).hexdigest()


class Chain:
    """The end of one chain, to which records are added; `seq` is 0 and `hash` the genesis where there are none."""

    def __init__(self, name: str, seq: int = 0, hash: str = "") -> None:
        self.name = name
        self.seq = seq
        self.hash = hash or genesis(name)

    def add(self, event: Mapping[str, Any]) -> Record:
        """Return the next record; raise `UsageError` where the event has no canonical form."""
        body = canonical(dict(event))
        self.seq += 1
        self.hash = link(self.hash, body)
        return Record(self.name, self.seq, body.decode("utf-8"), self.hash)

    @property
    def head(self) -> Head:
        """The last record, as a checkpoint names it."""
        return Head(self.seq, self.hash)


def checkpoint(
    heads: Mapping[str, Head], previous: SignedCheckpoint | None, signer: Signer, *, at: int
) -> SignedCheckpoint:
    """Return the next checkpoint, over the heads of all chains that have records; `at` is in milliseconds."""
    seq = previous.seq + 1 if previous else 1
    body = canonical(Checkpoint(seq, at, previous.hash if previous else _NO_CHECKPOINT, dict(heads)))
    return SignedCheckpoint(seq, body.decode("utf-8"), signer.sign(body), signer.key_id)


def verify_chain(
    records: Iterable[Record],
    checkpoints: Iterable[SignedCheckpoint],
    public_keys: KeyRing,
    *,
    anchor: str = "",
) -> list[Fault]:
    """Return what is wrong with a log, as `verify_log` does."""
    return verify_log(records, checkpoints, public_keys, anchor=anchor).faults


def verify_log(
    records: Iterable[Record],
    checkpoints: Iterable[SignedCheckpoint],
    public_keys: KeyRing,
    *,
    anchor: str = "",
) -> Verified:
    """Return what is wrong with a log: any change, deletion, insertion or reordering up to the last checkpoint.

    `checkpoints` come in their order, `records` chain by chain, each in its order; the order of chains means nothing.
    `anchor` is the hash of a checkpoint that was kept elsewhere. Both are read once: what is held in memory is 40
    bytes for every head that a checkpoint names anew.
    """
    reader = _Reader(public_keys)
    for one in checkpoints:
        reader.checkpoint(one, anchor)
    if anchor and not reader.anchored:
        reader.fault("", reader.seq, f"the checkpoint {anchor[:64]} that was kept elsewhere is not there")
    for record in records:
        reader.record(record)
    return reader.result()


class _Signed:
    """The heads of one chain that checkpoints name, in their order: numbers, and hashes of 32 bytes each."""

    def __init__(self) -> None:
        self.seqs = array("Q")
        self.hashes = bytearray()
        self.met = 0

    def add(self, head: Head) -> None:
        if not self.seqs or self.seqs[-1] != head.seq:
            self.seqs.append(head.seq)
            self.hashes += bytes.fromhex(head.hash)

    def last(self) -> Head:
        return Head(self.seqs[-1], self.hashes[-32:].hex()) if self.seqs else Head(0, "")

    def disagrees(self, seq: int, hash: str) -> bool:
        """Say whether a checkpoint names another record of this number; each number is asked for once, in order."""
        while self.met < len(self.seqs) and self.seqs[self.met] < seq:
            self.met += 1
        if self.met == len(self.seqs) or self.seqs[self.met] != seq:
            return False
        return self.hashes[self.met * 32 : self.met * 32 + 32].hex() != hash


class _Reader:
    def __init__(self, public_keys: KeyRing) -> None:
        self._keys = public_keys
        self._faults: list[Fault] = []
        self._faulty = 0
        self._signed: dict[str, _Signed] = {}
        self._read: dict[str, Head] = {}
        self._at = ""
        self._here = Chain("")
        self._records = self._checkpoints = 0
        self._previous = _NO_CHECKPOINT
        self._time = 0
        self.seq = 0
        self.anchored = False

    def fault(self, chain: str, seq: int, message: str) -> None:
        self._faulty += 1
        if len(self._faults) < _KEPT:
            self._faults.append(Fault(chain, seq, message))

    def checkpoint(self, one: SignedCheckpoint, anchor: str) -> None:
        """Read the next checkpoint; one whose signature does not fit says nothing about the records."""
        self._checkpoints += 1
        expected, self.seq = self.seq + 1, one.seq
        previous, self._previous = self._previous, one.hash
        self.anchored |= one.hash == anchor
        body = _utf8(one.body)
        if one.seq != expected:
            self.fault("", one.seq, f"the checkpoint {expected} should stand here")
        if not self._keys.verify(one.signer, body, one.signature):
            known = "its signature does not fit it" if one.signer in self._keys else "its key is not known"
            self.fault("", one.seq, f"the checkpoint is not genuine: {known}")
            return
        try:
            found = msgspec.json.decode(body, type=Checkpoint)
        except msgspec.DecodeError as error:
            self.fault("", one.seq, f"the checkpoint is signed but is none: {error}")
            return
        if found.seq != one.seq:
            self.fault("", one.seq, f"the checkpoint is the one with the number {found.seq}")
        if found.previous != previous:
            self.fault("", one.seq, "the checkpoint does not follow the one before it")
        if found.at < self._time:
            self.fault("", one.seq, "the checkpoint is older than the one before it")
        self._time = max(self._time, found.at)
        self._heads(found)

    def _heads(self, found: Checkpoint) -> None:
        for chain in self._signed.keys() - found.heads.keys():
            self.fault(chain, self._signed[chain].last().seq, f"the checkpoint {found.seq} no longer names the chain")
        for chain, head in found.heads.items():
            signed = self._signed.setdefault(chain, _Signed())
            last = signed.last()
            if head.seq < last.seq or (head.seq == last.seq and head.hash != last.hash):
                self.fault(chain, head.seq, f"the checkpoint {found.seq} names an older head than the one before it")
            else:
                signed.add(head)

    def record(self, one: Record) -> None:
        if one.chain != self._at or not self._records:
            self._begin(one)
        self._records += 1
        here = self._here
        if one.seq != here.seq + 1:
            self.fault(one.chain, one.seq, _out_of_place(here.seq + 1, one.seq))
        hash = link(here.hash, _utf8(one.body))
        if hash != one.hash:
            self.fault(one.chain, one.seq, "the record does not follow the one before it, or has been changed")
        signed = self._signed.get(one.chain)
        if signed is not None and signed.disagrees(one.seq, one.hash):
            self.fault(one.chain, one.seq, "the record is not the one that a checkpoint names")
        here.seq, here.hash = one.seq, one.hash

    def _begin(self, one: Record) -> None:
        self._leave()
        self._at = one.chain
        self._here = Chain(one.chain)
        if one.chain in self._read:
            self.fault(one.chain, one.seq, "the chain stands in two places")
            self._here = Chain(one.chain, self._read[one.chain].seq, self._read[one.chain].hash)

    def _leave(self) -> None:
        if self._records:
            self._read[self._at] = self._here.head

    def result(self) -> Verified:
        self._leave()
        unsigned = 0
        for chain, signed in self._signed.items():
            last, read = signed.last(), self._read.get(chain, Head(0, ""))
            if read.seq < last.seq:
                missing = f"the chain ends at {read.seq}, its last checkpoint names {last.seq}"
                self.fault(chain, read.seq, missing if read.seq else "the whole chain is missing")
        for chain, read in self._read.items():
            last = self._signed[chain].last() if chain in self._signed else Head(0, "")
            unsigned += max(0, read.seq - last.seq)
        return Verified(
            self._faults,
            self._faulty,
            self._records,
            len(self._read),
            self._checkpoints,
            unsigned,
            self._previous,
            self._time,
        )


def _out_of_place(expected: int, found: int) -> str:
    if found > expected:
        return f"the records from {expected} to {found - 1} are missing before it"
    return f"the record {expected} should stand here"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
