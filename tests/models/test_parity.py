"""The same scripted turn through the three wires: the same items, the same usage, and everything carried on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from models.driving import Drive, ask, client_for, drive, request_of
from models.normal import (
    came_items,
    part_text,
    said_items,
    stop_of,
    usage_of,
    without_ids,
    without_places,
    words_of,
)
from models.turns import ASK, FAILING, PATCH, TURNS, Turn, says
from models.wire_reading import Entry, check, merged, prefix_breaks, raw_input, read

from lathe.models.base import Transcript
from lathe.models.script import (
    WIRES,
    Call,
    FreeformCall,
    Step,
    Thought,
    Wire,
    Words,
)
from lathe.models.scripted import ScriptedServer
from lathe.protocol.codec import decode_item, encode
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    Refusal,
    text_of,
)

_drives: dict[tuple[str, Wire], Drive] = {}

every_turn = pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
every_wire = pytest.mark.parametrize("wire", WIRES)


async def driven(turn: Turn, wire: Wire) -> Drive:
    """Return the turn's run on `wire`; it is run once for all tests here."""
    if (turn.name, wire) not in _drives:
        _drives[turn.name, wire] = await drive(turn, wire)
    return _drives[turn.name, wire]


# What came: the answers


@every_wire
@every_turn
async def test_the_same_turn_gives_the_same_items_usage_and_stop(turn: Turn, wire: Wire) -> None:
    run = await driven(turn, wire)
    if turn.fails:
        assert run.error is not None
        assert (type(run.error), run.error.code) == turn.fails
    elif run.error:
        raise run.error
    assert run.retries == turn.retries
    good = [(number, step) for number, step in enumerate(turn.steps) if is_answered(run, number)]
    assert len(good) == len(run.answers)
    for (number, step), answer in zip(good, run.answers, strict=True):
        expected, came = said_items(step, number), came_items(answer.items)
        if turn.same_ids:
            # The id is the client's to change here, so that outputs find their calls.
            came, expected = without_ids(came), without_ids(expected)
        if turn.loose:
            assert without_places(came) == without_places(expected)
        else:
            assert came == expected
        assert answer.completed.usage == usage_of(step.usage)
        assert answer.completed.stop == stop_of(step)
        assert answer.completed.model == "scripted-1"
        assert answer.text == words_of(expected, "say", "refusal")
        assert answer.thinking == words_of(expected, "thought")


def is_answered(run: Drive, number: int) -> bool:
    """Return whether request `number` was not followed by one that carried the same, a retry."""
    last = number == len(run.sent) - 1
    return run.error is None if last else run.sent[number] is not run.sent[number + 1]


@every_wire
async def test_a_content_filter_is_a_refusal_that_keeps_the_words_said(wire: Wire) -> None:
    for step in (Step(stop="refusal"), says(Words("Half of"), stop="refusal")):
        run = await drive(Turn("filtered", (step,)), wire)
        came = came_items(run.answers[0].items)
        assert run.answers[0].completed.stop == "refusal"
        assert words_of(came, "refusal")
        assert words_of(step.say and said_items(step, 0), "say") in words_of(came, "say", "refusal")


# What was sent: the requests


def carried(wire: Wire, items: Sequence[Item]) -> list[Entry]:
    """Return what a request with `items` has to tell the model on `wire`."""
    entries: list[Entry] = []
    for item in items:
        match item:
            case Message(role="assistant", content=content):
                entries += [("say", part.refusal if isinstance(part, Refusal) else part_text(part)) for part in content]
            case Message(content=content):
                entries += [told(part) for part in content]
            case Reasoning(source=source, encrypted_content=encrypted):
                kept = {"responses": encrypted or item.content, "chat": item.content, "messages": True}
                if source == wire and kept[wire]:
                    entries.append(("thought", text_of(item), (encrypted or "") if wire != "chat" else ""))
            case FunctionCall(call_id=call_id, name=name, arguments=arguments):
                entries.append(("call", call_id, name, arguments))
            case CustomToolCall(call_id=call_id, name=name):
                entries.append(("call", call_id, name, json.dumps({"input": item.input})))
            case (
                FunctionCallOutput(call_id=call_id, output=output)
                | CustomToolCallOutput(call_id=call_id, output=output)
            ):
                entries.append(("output", call_id, text_of(item)))
                entries += [told(part) for part in output if isinstance(part, InputImage)]
            case OpaqueItem(raw=raw, source=source):
                if source == wire:
                    entries.append(("opaque", json.dumps(raw, sort_keys=True)))
    return entries


def told(part: ContentPart) -> Entry:
    return ("image", part.image_url) if isinstance(part, InputImage) else ("input", part_text(part))


def comparable(wire: Wire, entries: Sequence[Entry]) -> list[Any]:
    """Return `entries` with arguments as values, as far as `wire` has to keep only those."""
    result: list[Any] = []
    for entry in entries:
        if entry[0] != "call" or wire == "responses":
            result.append(entry)
            continue
        try:
            value = json.loads(entry[3])
        except ValueError:
            value = entry[3]
        result.append((*entry[:3], value if isinstance(value, dict) else {"malformed_arguments": entry[3]}))
    return result


def has_images(items: Sequence[Item]) -> bool:
    outputs = (item.output for item in items if isinstance(item, FunctionCallOutput | CustomToolCallOutput))
    return any(isinstance(part, InputImage) for output in outputs if not isinstance(output, str) for part in output)


@every_wire
@every_turn
async def test_each_request_carries_everything_and_keeps_the_rules_of_its_api(turn: Turn, wire: Wire) -> None:
    run = await driven(turn, wire)
    assert len(run.requests) == len(run.sent) == len(turn.steps)
    for request, items in zip(run.requests, run.sent, strict=True):
        assert request.wire == wire
        body = request.json()
        check(wire, body)
        assert body["model"] == "scripted-1"
        assert b"You are tested." in request.body
        compare(turn, wire, carried(wire, items), merged(read(wire, body)), has_images(items))
        if turn.schema:
            assert encode(turn.schema) in request.body


def compare(turn: Turn, wire: Wire, expected: list[Entry], actual: list[Entry], images_apart: bool) -> None:
    told_apart = [entry[1] for entry in expected if entry[0] == "input"]
    expected = merged(expected)
    if turn.loose:
        assert without_places(comparable(wire, actual)) == without_places(comparable(wire, expected))
        return
    if any(isinstance(item, Message) and item.role == "developer" for item in (*turn.begin, *sum(turn.then, ()))):
        # An instruction in mid-thread may get a mark that says whose words it is.
        words = words_of(actual, "input")
        assert all(text in words for text in told_apart)
        expected = [entry for entry in expected if entry[0] != "input"]
        actual = [entry for entry in actual if entry[0] != "input"]
    if images_apart:
        # Chat has no place for an image in a tool's output: it follows, with a word that says so.
        assert [entry for entry in actual if entry[0] == "image"] == [
            entry for entry in expected if entry[0] == "image"
        ]
        outputs = [entry for entry in actual if entry[0] == "output"]
        wanted = [entry for entry in expected if entry[0] == "output"]
        assert [entry[1] for entry in outputs] == [entry[1] for entry in wanted]
        assert all(want[2] in output[2] for want, output in zip(wanted, outputs, strict=True))
        return
    assert comparable(wire, actual) == comparable(wire, expected)


@every_wire
@every_turn
async def test_a_request_begins_with_the_one_before_it_byte_for_byte(turn: Turn, wire: Wire) -> None:
    run = await driven(turn, wire)
    assert prefix_breaks(wire, [request.body for request in run.requests]) == []


@every_wire
@every_turn
async def test_a_client_built_anew_from_the_journal_sends_the_same_bytes(turn: Turn, wire: Wire) -> None:
    run = await driven(turn, wire)
    for request, items in zip(run.requests, run.sent, strict=True):
        kept = Transcript(decode_item(encode(item)) for item in items)
        async with ScriptedServer([says(Words("x"))]) as server:
            client = client_for(wire, server.base_url)
            await ask(client, request_of(turn, kept))
            await client.aclose()
        assert server.requests[0].body == request.body


@every_wire
async def test_after_a_compaction_the_new_items_are_a_stable_prefix_again(wire: Wire) -> None:
    turn = Turn("compacted", ())
    transcript = Transcript([ASK])
    async with ScriptedServer([says(Words("w"))], repeat=True) as server:
        client = client_for(wire, server.base_url)
        for _ in range(2):
            transcript.append((await ask(client, request_of(turn, transcript))).items)
            transcript.append([ASK])
        short: list[Item] = [
            Message("user", ASK.content),
            *(await ask(client, request_of(turn, transcript))).items,
            ASK,
        ]
        transcript.replace(short)
        transcript.append((await ask(client, request_of(turn, transcript))).items)
        transcript.append([ASK])
        await ask(client, request_of(turn, transcript))
        await client.aclose()
    inputs = [raw_input(wire, request.body) for request in server.requests]
    assert len(inputs[3]) < len(inputs[2])
    assert inputs[4].startswith(inputs[3])


@pytest.mark.parametrize("first", WIRES)
@pytest.mark.parametrize("second", WIRES)
async def test_a_thread_moves_from_any_wire_to_any_other(first: Wire, second: Wire) -> None:
    calls = (Call("exec_command", '{"cmd": "ls"}'), FreeformCall("apply_patch", PATCH))
    turn = Turn("moves", (says(Thought("Hidden.", "SECRET"), Words("Shown."), *calls), says(Words("Done."))))
    run = await drive(turn, first)
    items = [*run.sent[-1], *run.answers[-1].items, ASK]
    async with ScriptedServer([says(Words("Here."))]) as server:
        client = client_for(second, server.base_url)
        await ask(client, request_of(turn, Transcript(items)))
        await client.aclose()
    body = server.requests[0].json()
    check(second, body)
    assert comparable(second, merged(read(second, body))) == comparable(second, merged(carried(second, items)))
    assert (b"SECRET" in server.requests[0].body) == (first == second != "chat")


@every_wire
async def test_a_connection_that_dies_between_requests_is_replaced_without_a_retry(wire: Wire) -> None:
    turn = Turn("dropped", ())
    async with ScriptedServer([says(Words("w"))], repeat=True) as server:
        client = client_for(wire, server.base_url)
        for _ in range(3):
            assert (await ask(client, request_of(turn, Transcript([ASK])))).retries == 0
            await server.drop()
        await client.aclose()
    assert len(server.requests) == 3


@every_wire
async def test_a_stream_that_falls_silent_is_asked_again(wire: Wire) -> None:
    turn = Turn("silent", ())
    async with ScriptedServer([says(Words("Half"), stall_s=60, stall_after_events=3), says(Words("Whole"))]) as server:
        client = client_for(wire, server.base_url, idle_timeout_s=0.5)
        answer = await ask(client, request_of(turn, Transcript([ASK])))
        await client.aclose()
    assert (answer.retries, answer.text) == (1, "Whole")


async def test_reasoning_details_of_a_router_come_back_as_they_were() -> None:
    turn = Turn("routed", (says(Thought("Open.", "SEALED=="), Call("list_plan")), says(Words("Done."))))
    async with ScriptedServer(turn.steps) as server:
        client = client_for("chat", server.base_url, quirks={"reasoning": "reasoning_details"})
        answer = await ask(client, request_of(turn, Transcript([ASK])))
        items = [ASK, *answer.items, FunctionCallOutput("call_0_1", "none")]
        await ask(client, request_of(turn, Transcript(items)))
        await client.aclose()
    message = server.requests[1].json()["messages"][2]
    assert message["reasoning_details"] == [
        {"type": "reasoning.encrypted", "data": "SEALED==", "id": "rs_0", "index": 0}
    ]


def test_a_prefix_that_changes_is_found() -> None:
    same = b'{"model":"m","input":[1,2]}'
    grown = b'{"model":"m","input":[1,2,3]}'
    assert prefix_breaks("responses", [same, same, grown]) == []
    assert prefix_breaks("responses", [same, b'{"model":"m","input":[1,23]}', same]) == [1, 2]
    assert prefix_breaks("responses", [same, b'{"model":"n","input":[1,2,3]}']) == [1]


def test_the_suite_has_the_turns_that_were_promised() -> None:
    assert len({turn.name for turn in TURNS}) == len(TURNS) >= 25
    assert len(FAILING) >= 5
