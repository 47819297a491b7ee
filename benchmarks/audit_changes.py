"""An audit log made for the purpose, and random changes to it: of a bit, of lines, of their order."""

from __future__ import annotations

import random
from typing import NamedTuple

from lathe.gateway.audit import Chain, Record, SignedCheckpoint, checkpoint
from lathe.gateway.signing import Signer

KINDS = ("bit", "delete", "insert", "order", "chain", "tail", "checkpoint")


class Log(NamedTuple):
    records: list[Record]
    checkpoints: list[SignedCheckpoint]


def make(signer: Signer, *, chains: int, records: int, every: int) -> Log:
    """Return a log whose last checkpoint covers all; records go to the chains by turns, as requests would."""
    ends = [Chain(f"rep_{number:016x}") for number in range(chains)]
    lines: dict[str, list[Record]] = {end.name: [] for end in ends}
    checkpoints: list[SignedCheckpoint] = []
    for number in range(records):
        end = ends[number % chains]
        at = 1_790_000_000_000 + number
        event = {"at": at, "actor": f"user_{number % 97}", "what": "entitlement.granted", "target": f"ent_{number:08x}"}
        lines[end.name].append(end.add(event))
        if number % every == every - 1 or number == records - 1:
            heads = {one.name: one.head for one in ends if one.seq}
            checkpoints.append(checkpoint(heads, checkpoints[-1] if checkpoints else None, signer, at=at))
    return Log([record for of_chain in lines.values() for record in of_chain], checkpoints)


def changed(log: Log, kind: str, draw: random.Random) -> Log:
    """Return the log after one random change, by someone who has not the key."""
    records, checkpoints = list(log.records), list(log.checkpoints)
    at = draw.randrange(len(records))
    match kind:
        case "bit" if draw.random() < len(checkpoints) / len(records):
            at = draw.randrange(len(checkpoints))
            checkpoints[at] = SignedCheckpoint(*flipped(checkpoints[at], draw))
        case "bit":
            records[at] = Record(*flipped(records[at], draw))
        case "delete":
            del records[at : at + draw.choice((1, 1, 2, 5))]
        case "insert":
            place = draw.randrange(len(records))
            # a record that continues the end of a chain is no change to what the last checkpoint covers
            extra = records[at] if place == at + 1 and leaves(records, place, at) else forged(records[at])
            records.insert(place, draw.choice((records[at], extra)))
        case "order":
            other = draw.choice([n for n in (at - 1, at + 1, draw.randrange(len(records))) if 0 <= n < len(records)])
            while other == at:
                other = draw.randrange(len(records))
            records[at], records[other] = swapped(records[at], records[other], draw)
        case "chain":
            records = [one for one in records if one.chain != records[at].chain]
        case "tail":
            end = next(n for n in range(at, len(records) + 1) if n == len(records) or leaves(records, n, at))
            records[at:end] = rehashed(records[at:end], records[at - 1] if at else None) if draw.random() < 0.5 else []
        case _:
            del checkpoints[draw.randrange(max(1, len(checkpoints) - 1))]
    return Log(records, checkpoints)


def flipped(row: tuple[object, ...], draw: random.Random) -> list[object]:
    """Return the fields of a row with one bit of one of them changed, as a disk would have it."""
    fields = list(row)
    at = draw.randrange(len(fields))
    field = fields[at]
    if isinstance(field, int):
        fields[at] = field ^ 1 << draw.randrange(16)
    else:
        text = bytearray(str(field).encode())
        text[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        fields[at] = text.decode("utf-8", "surrogateescape")
    return fields


def swapped(one: Record, other: Record, draw: random.Random) -> tuple[Record, Record]:
    """Return two records each in the place of the other: as lines, or with their numbers made to fit."""
    if draw.random() < 0.5:
        return other, one
    return other._replace(chain=one.chain, seq=one.seq), one._replace(chain=other.chain, seq=other.seq)


def forged(record: Record) -> Record:
    """Return a record that follows this one as the next would, made without the key."""
    return Chain(record.chain, record.seq, record.hash).add({"what": "forged"})


def rehashed(records: list[Record], before: Record | None) -> list[Record]:
    """Return the records with the first changed and all hashes made to fit, as someone who can write would do it."""
    first = records[0]
    start = before if before is not None and before.chain == first.chain else None
    chain = Chain(first.chain, start.seq, start.hash) if start else Chain(first.chain)
    return [chain.add({"what": "forged", "at": one.seq}) for one in records]


def leaves(records: list[Record], number: int, at: int) -> bool:
    return records[number].chain != records[at].chain
