"""Every pair of wires through the gateway's dialects: a scripted turn comes out, and goes in, as it would directly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
from front import front
from models.driving import Drive, drive
from models.normal import came_items, said_items, stop_of, usage_of, without_ids, without_places, words_of
from models.turns import FINE, MENDED, Turn
from models.wire_reading import Entry, check, merged, read

from lathe.models.script import WIRES, Refuse, Wire

PAIRS = [(inbound, upstream) for inbound in WIRES for upstream in WIRES]
_direct: dict[tuple[str, Wire], Drive] = {}


async def directly(turn: Turn, wire: Wire) -> Drive:
    if (turn.name, wire) not in _direct:
        _direct[turn.name, wire] = await drive(turn, wire)
    return _direct[turn.name, wire]


def as_values(entries: Iterable[tuple[str, ...]]) -> list[Any]:
    """Return `entries` without ids of calls, and arguments as values: a wire may keep only those."""
    result: list[Any] = []
    for entry in entries:
        if entry[0] == "call":
            try:
                value = json.loads(entry[3])
            except ValueError:
                value = entry[3]
            result.append(("call", entry[2], value if isinstance(value, dict) else {"malformed_arguments": entry[3]}))
        else:
            result.append(entry)
    return result


def told(turn: Turn, inbound: Wire, upstream: Wire, entries: list[Entry]) -> list[Any]:
    """Return what a request tells the model, without what may differ between the direct way and the other."""
    thoughts, said, asked, calls = without_places(merged(entries))
    if inbound == "chat" and inbound != upstream:
        # A client of Chat Completions brings back words of thoughts, and only details can hold what others think;
        # it sends images of tools' outputs after them, and has no refusal that began as ordinary words.
        thoughts, said = "", said.split("\n\nThe model declined")[0]
        asked, calls = ("", []) if "image" in turn.name else (asked, calls)
    # Where a wire has no developer messages they have a mark around them.
    return [thoughts, said, "" if turn.name == "developer messages" else asked, as_values(calls)]


@pytest.mark.parametrize("turn", FINE, ids=lambda turn: turn.name)
@pytest.mark.parametrize(("inbound", "upstream"), PAIRS)
async def test_a_turn_is_the_same_through_the_gateway(turn: Turn, inbound: Wire, upstream: Wire) -> None:
    await compare(turn, inbound, upstream)


@pytest.mark.parametrize("turn", MENDED, ids=lambda turn: turn.name)
@pytest.mark.parametrize(("inbound", "upstream"), list(zip(WIRES, (*WIRES[1:], *WIRES[:1]), strict=True)))
async def test_what_goes_wrong_upstream_is_mended_by_the_client(turn: Turn, inbound: Wire, upstream: Wire) -> None:
    await compare(turn, inbound, upstream)


async def compare(turn: Turn, inbound: Wire, upstream: Wire) -> None:
    run = await drive(turn, inbound, partial(front, upstream))
    if run.error:
        raise run.error
    assert run.retries == turn.retries
    good = [number for number in range(len(turn.steps)) if is_answered(run, number)]
    assert len(good) == len(run.answers)
    for number, answer in zip(good, run.answers, strict=True):
        step = turn.steps[number]
        expected, came = without_ids(said_items(step, number)), without_ids(came_items(answer.items))
        if turn.loose:
            assert without_places(came) == without_places(expected)
        elif any(isinstance(said, Refuse) for said in step.say):
            assert words_of(came, "say", "refusal").startswith(words_of(expected, "say", "refusal"))
        else:
            assert as_values(came) == as_values(expected)
        assert answer.completed.usage == usage_of(step.usage)
        assert answer.completed.stop == stop_of(step)
        assert answer.text == words_of(expected, "say", "refusal")
        assert answer.thinking == words_of(expected, "thought")
    direct = await directly(turn, upstream)
    for sent, wanted in zip(run.requests, direct.requests, strict=True):
        assert sent.wire == upstream
        check(upstream, sent.json())
        if not turn.same_ids:
            through, otherwise = read(upstream, sent.json()), read(upstream, wanted.json())
            assert told(turn, inbound, upstream, through) == told(turn, inbound, upstream, otherwise)


def is_answered(run: Drive, number: int) -> bool:
    last = number == len(run.sent) - 1
    return run.error is None if last else run.sent[number] is not run.sent[number + 1]
