"""What verifying the audit log costs, and which changes to it are found.

A log of three replicas with signed checkpoints is verified as it is, and then after each of 1,000 random changes: one
bit of a record or a checkpoint; lines deleted, put in, moved, also from chain to chain; a whole chain or its tail taken
away, or written anew with all its hashes; a checkpoint taken away. The baseline is SHA-256 over the same bytes: no
log with hashes can be verified in less. Memory is that of the process for a log that is made while it is read.

usage: gateway_audit.py [--check] [--json] [--changes N] [--records N]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import sys
import time
from collections.abc import Iterator

import audit_changes
from measuring import table

from lathe.gateway.audit import Chain, Head, Record, SignedCheckpoint, checkpoint, verify_log
from lathe.gateway.signing import KeyRing, Signer

BARS = {"changes": 1_000, "records_s": 50_000, "grown_mb": 20}
STREAMED = 1_000_000


def found(signer: Signer, changes: int) -> dict[str, tuple[int, int]]:
    """Return for each kind of change how many were tried and how many were missed."""
    log = audit_changes.make(signer, chains=3, records=300, every=20)
    ring = KeyRing([signer.public_key])
    draw = random.Random(5)
    outcome = dict.fromkeys(audit_changes.KINDS, (0, 0))
    for number in range(changes):
        kind = audit_changes.KINDS[number % len(audit_changes.KINDS)]
        records, checkpoints = audit_changes.changed(log, kind, draw)
        tried, missed = outcome[kind]
        outcome[kind] = (tried + 1, missed + (not verify_log(records, checkpoints, ring).faulty))
    return outcome


def streamed(signer: Signer, records: int) -> dict[str, float]:
    """Return by how many MB the peak of the process grows over a log that is made while it is read."""
    end, checkpoints = Chain("rep_1"), list[SignedCheckpoint]()
    for record in made(records):
        if record.seq % 1_000 == 0:
            heads = {end.name: Head(record.seq, record.hash)}
            checkpoints.append(checkpoint(heads, checkpoints[-1] if checkpoints else None, signer, at=record.seq))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verified = verify_log(made(records), checkpoints, KeyRing([signer.public_key]))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"grown_mb": grown, "streamed": verified.records, "streamed_faults": verified.faulty}


def made(records: int) -> Iterator[Record]:
    """Yield the records of one chain."""
    end = Chain("rep_1")
    for number in range(records):
        yield end.add({"at": number, "actor": "user_1", "what": "entitlement.granted"})


def speed(signer: Signer, records: int) -> dict[str, float]:
    """Return records verified in a second of CPU, and how many SHA-256 alone would do."""
    log = audit_changes.make(signer, chains=3, records=records, every=1_000)
    ring = KeyRing([signer.public_key])
    began = time.process_time()
    verified = verify_log(log.records, log.checkpoints, ring)
    took = time.process_time() - began
    bodies = [(record.hash + record.body).encode() for record in log.records]
    began = time.process_time()
    for body in bodies:
        hashlib.sha256(body).hexdigest()
    baseline = time.process_time() - began
    return {"records_s": records / took, "sha256_s": records / baseline, "false_alarms": verified.faulty}


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--changes", type=int, default=BARS["changes"])
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    signer = Signer.fresh()
    outcome = found(signer, options.changes)
    figures = {
        **streamed(signer, STREAMED),
        **speed(signer, options.records),
        "changes": sum(tried for tried, _ in outcome.values()),
        "missed": sum(missed for _, missed in outcome.values()),
    }
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures, "kinds": outcome}))
    else:
        rows = [
            (f"changes found: {kind}", f"{tried - missed}", f"{tried}") for kind, (tried, missed) in outcome.items()
        ]
        rows.append(("records verified a second of CPU", f"{figures['records_s']:,.0f}", f"{figures['sha256_s']:,.0f}"))
        rows.append(("MB that a streamed log of a million records needs", f"{figures['grown_mb']:.1f}", "0"))
        print(table(("audit log", "figure", "tried / SHA-256 alone"), rows))
    passed = (
        figures["changes"] >= BARS["changes"]
        and figures["missed"] == 0
        and figures["false_alarms"] + figures["streamed_faults"] == 0
        and figures["records_s"] >= BARS["records_s"]
        and figures["grown_mb"] <= BARS["grown_mb"]
    )
    return 1 if options.check and not passed else 0


if __name__ == "__main__":
    sys.exit(main())
