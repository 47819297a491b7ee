"""What passes through the gateway undecoded: heads of requests, streams that are watched, answers that are extended."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.gateway.dialects import DIALECTS, BadRequest
from lathe.gateway.dialects.fields import read_fields, rewritten
from lathe.gateway.dialects.watcher import Watcher, read_answer
from lathe.models.http import TransportError
from lathe.models.script import WIRES, Call, Step, Thought, Tokens, Wire, Words
from lathe.models.script_wires import render
from lathe.protocol.usage import Usage

every_wire = pytest.mark.parametrize("wire", WIRES)
FULL = Step(
    say=(Thought("Hm.", "E=="), Words('She said "usage": [DONE] and {"type":"error"}.\n\n'), Call("run", '{"a":"é"}')),
    usage=Tokens(1000, 400, 50, 20),
    model="served-1",
)
USAGE = Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=50, reasoning_output_tokens=20)
EXTENSION = b'{"decision":"d1"}'


def data_of(stream: bytes) -> list[Any]:
    lines = [line[5:].strip() for line in stream.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) if line != b"[DONE]" else "[DONE]" for line in lines]


def watched(watcher: Watcher, chunks: list[bytes]) -> bytes:
    passed = b"".join(piece for chunk in chunks for piece in watcher.feed(chunk))
    return passed + b"".join(watcher.close())


# Heads


def test_a_head_tells_what_a_request_is_judged_by() -> None:
    body = {
        "model": "m",
        "stream": True,
        "max_completion_tokens": 7,
        "user": "old",
        "safety_identifier": "u1",
        "store": False,
        "lathe": {"engagement": "e1"},
        "no_fallback": True,
        "input": "x",
    }
    head = DIALECTS["chat"].head(json.dumps(body).encode())
    assert (head.model, head.stream, head.include_usage, head.max_output_tokens) == ("m", True, False, 7)
    assert (head.end_user, head.store, head.options.engagement, head.options.no_fallback) == ("u1", False, "e1", True)
    asked = b'{"model":"m","stream_options":{"include_usage":true},"metadata":{"user_id":"u2"}}'
    assert DIALECTS["chat"].head(asked).include_usage
    assert DIALECTS["messages"].head(asked).end_user == "u2"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"m"} x', "invalid_json"),
        (b'{"model":"m","x":NaN}', "invalid_json"),
        (b'{"model":"m","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "invalid_json"),
        (b'{"model":"\xff"}', "invalid_utf8"),
        (b'{"model":"m","\xff":1}', "invalid_utf8"),
        (b'{"model":"a","model":"b"}', "duplicate_field"),
        (b'{"model":"a", "mod\\u0065l" : "a"}', "duplicate_field"),
        (b'{"x":12,"x":1,"model":"a"}', "duplicate_field"),
        (b'{"x":1,"x":12,"model":"a"}', "duplicate_field"),
        (b'{"x":"}","x":"\\"}","model":"a"}', "duplicate_field"),
        (b"{}", "model_missing"),
        (b'{"model":""}', "model_missing"),
        (b'{"model":"a\\u0000b"}', "model_unknown"),
        (b'{"model":"' + b"x" * 201 + b'"}', "model_unknown"),
        (b'{"model":1}', "invalid_type"),
        (b'{"model":"m","stream":"yes"}', "invalid_type"),
        (b'{"model":"m","max_tokens":1.5}', "invalid_type"),
        (b'{"model":"m","lathe":{"no_falback":true}}', "invalid_type"),
    ],
)
def test_a_body_that_cannot_be_judged_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        DIALECTS["chat"].head(body)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")


def test_a_body_goes_on_with_another_model_and_without_the_gateways_fields() -> None:
    body = b' { "model" : "a", "x":{"model":"a", "lathe":1} ,\n"lathe":{"no_fallback":true}, "stream":true} '
    head = DIALECTS["chat"].head(body)
    sent = DIALECTS["chat"].retitle(body, 'b"', head, ask_usage=True)
    assert json.loads(sent) == {
        "model": 'b"',
        "x": {"model": "a", "lathe": 1},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert b'"x":{"model":"a", "lathe":1}' in sent
    plain = b'{"model":"a","x":1.10}'
    assert DIALECTS["chat"].retitle(plain, "a", DIALECTS["chat"].head(plain)) is plain


values = st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3))
pairs = st.lists(st.tuples(st.sampled_from(["a", "b", 'q"', "\\", "é", "lathe"]), values), max_size=6)


@given(pairs, st.sampled_from([(",", ":"), (" ,\n", " : ")]), st.booleans(), values, st.sets(st.sampled_from("abé")))
def test_fields_are_found_and_changed_as_a_decoder_would(
    given_pairs: list[tuple[str, Any]], marks: tuple[str, str], plain: bool, new: Any, gone: set[str]
) -> None:
    comma, colon = marks
    texts = [json.dumps(k, ensure_ascii=plain) + colon + json.dumps(v, separators=marks) for k, v in given_pairs]
    body = (" {" + comma.join(texts) + "\t} ").encode()
    names = [name for name, _ in given_pairs]
    if len(set(names)) < len(names):
        with pytest.raises(BadRequest):
            read_fields(body)
        return
    fields = read_fields(body)
    whole = dict(given_pairs)
    assert {name: json.loads(body[place.value : place.end]) for name, place in fields.items()} == whole
    changes: dict[str, bytes | None] = {"lathe": json.dumps(new).encode(), **dict.fromkeys(gone)}
    wanted = {key: value for key, value in whole.items() if key not in gone} | {"lathe": new}
    assert json.loads(rewritten(body, fields, changes)) == wanted


# Streams


@every_wire
@given(data=st.data(), crlf=st.booleans(), drop=st.booleans())
def test_a_stream_split_anywhere_passes_whole_and_tells_the_same(
    wire: Wire, data: st.DataObject, crlf: bool, drop: bool
) -> None:
    stream = b": hello\n\n" + b"".join(render(FULL, wire, 0, "m").events)
    if crlf:
        stream = stream.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=40)))
    chunks = [stream[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(stream)])]
    watcher = Watcher(wire, drop_usage=drop)
    passed = watched(watcher, chunks)
    assert watcher.final is not None
    assert passed + watcher.final == stream
    assert (watcher.model, watcher.usage, watcher.complete, watcher.failed) == ("served-1", USAGE, True, None)
    before, after = data_of(stream), data_of(passed + watcher.finish(EXTENSION))
    if drop and wire == "chat":
        del before[-2]
    place = {"responses": -1, "chat": -2, "messages": -2}[wire]
    last = after[place]["response"] if wire == "responses" else after[place]
    assert last.pop("lathe") == {"decision": "d1"}
    assert after == before


@every_wire
def test_a_stream_without_its_end_is_told_as_broken(wire: Wire) -> None:
    events = render(FULL, wire, 0, "m").events
    for cut in range(len(events) - 3):
        watcher = Watcher(wire)
        assert watched(watcher, [b"".join(events[:cut])]) == b"".join(events[:cut])
        assert (watcher.complete, watcher.final) == (False, None)
        assert watcher.failed is not None


GARBAGE = [b"data: <html>502</html>\n\n", b'data: {"a": \n\n', b'data: {"a": "\xff"}\n\n', b"data: [\r\n\r\n"]


@every_wire
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_stream_is_told_and_not_passed_on(wire: Wire, garbage: bytes) -> None:
    events = render(FULL, wire, 0, "m").events
    for chunks in ([*events[:4], garbage, *events[4:]], [b"".join((*events[:4], garbage))]):
        watcher = Watcher(wire)
        assert watched(watcher, chunks[: 5 if len(chunks) > 1 else 1]) == b"".join(events[:4])
        assert (watcher.complete, str(watcher.failed)) == (False, "an event of the stream is no JSON")


@every_wire
def test_what_is_no_stream_at_all_is_not_passed_on(wire: Wire) -> None:
    watcher = Watcher(wire)
    assert watched(watcher, [b"<html>", b"bad\xff gateway</html>"]) == b""
    assert watcher.failed is not None
    assert not watcher.finish(EXTENSION)


@pytest.mark.parametrize("body", [b"<html>", b'{"id": [', b'{"id": "\xff"}', b"[]", b'"x"', b""])
def test_a_whole_answer_that_is_no_json_object_is_a_fault_of_its_upstream(body: bytes) -> None:
    with pytest.raises(TransportError):
        read_answer("chat", body)


@every_wire
def test_an_error_in_a_stream_is_told_and_can_be_extended(wire: Wire) -> None:
    step = Step(say=(Words("Half"),), error="overloaded", in_stream=True)
    watcher = Watcher(wire)
    passed = watched(watcher, render(step, wire, 0, "m").events)
    assert not watcher.complete
    assert "overloaded" in f"{watcher.failed}".lower()
    assert b"Half" in passed
    assert b'"lathe":{"decision":"d1"}' in watcher.finish(EXTENSION)


def test_usage_in_every_chunk_and_several_choices_hold_nothing_back_before_the_end() -> None:
    def chunk(index: int, finish: str | None, tokens: int) -> bytes:
        choice = {"index": index, "delta": {"content": "x"}, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice], "usage": {"completion_tokens": tokens}}).encode() + b"\n\n"

    chunks = [chunk(0, None, 1), chunk(0, "stop", 2), chunk(1, None, 3), chunk(1, "stop", 4), b"data: [DONE]\n\n"]
    watcher = Watcher("chat")
    assert [b"".join(watcher.feed(one)) for one in chunks] == [chunks[0], b"", chunks[1] + chunks[2], b"", b""]
    assert watcher.usage == Usage(output_tokens=4)
    assert watcher.final == chunks[3] + chunks[4]


# Extensions


@pytest.mark.parametrize(
    ("wire", "event", "wanted"),
    [
        ("chat", b"data:{}\n\n", b'data:{"lathe":1}\n\n'),
        ("chat", b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
        ("messages", b'event: e\r\ndata: { "a":1}\r\n\r\n', b'event: e\r\ndata: {"lathe":1, "a":1}\r\n\r\n'),
        ("responses", b'data: {"response" : { },"t":1}\n\n', b'data: {"response" : {"lathe":1 },"t":1}\n\n'),
        ("responses", b'data: {"o":{"response":{}},"t":1}\n\n', b'data: {"lathe":1,"o":{"response":{}},"t":1}\n\n'),
        # Another gateway stands behind this one.
        ("chat", b'data: {"a":1,"lathe":{"x":2}}\n\n', b'data: {"a":1,"lathe":1}\n\n'),
        ("responses", b'data: {"response":{"lathe":{"x":2}}}\n\n', b'data: {"response":{"lathe":1}}\n\n'),
    ],
)
def test_an_event_is_extended_as_bytes(wire: Wire, event: bytes, wanted: bytes) -> None:
    assert DIALECTS[wire].extend_event(event, b"1") == wanted


@every_wire
def test_a_whole_answer_is_extended_and_read(wire: Wire) -> None:
    whole = render(FULL, wire, 0, "m").whole
    body = msgspec.json.encode(whole)
    assert json.loads(DIALECTS[wire].extend_body(body, EXTENSION)) == {**whole, "lathe": {"decision": "d1"}}
    told = DIALECTS[wire].read_answer(body)
    assert (told.model, told.usage, told.response_id) == ("served-1", USAGE, whole["id"])
    assert DIALECTS[wire].extend_body(b"[1]", EXTENSION) == b"[1]"
