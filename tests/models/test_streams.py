"""Oddities of real streams, and what they mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from asking import HELLO, WIRES, a_request, ask_once
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import always, in_turn, loopback, sse, whole

from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.catalogue import ModelInfo, Price, quirks_of
from lathe.models.chat import ChatWire
from lathe.models.messages import MessagesWire
from lathe.models.provider import WireName
from lathe.models.responses import ResponsesWire
from lathe.models.retry import (
    BrokenStream,
    EndpointError,
    Naming,
    as_error,
    error_from_body,
    error_from_json,
    judge,
    reason,
)
from lathe.models.sse import SseParser
from lathe.models.wire import DECLINED, WireSetup
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    assistant_message,
    user_message,
)
from lathe.protocol.usage import Usage

MAKERS = {"responses": ResponsesWire, "chat": ChatWire, "messages": MessagesWire}


def decode(wire: WireName, *events: Any, quirks: dict[str, Any] | None = None) -> list[ModelPart]:
    made = MAKERS[wire](WireSetup(ModelInfo("m"), quirks_of(quirks or {}), ""))
    decoder = made.decoder(a_request())
    parts: list[ModelPart] = []
    for event in SseParser().feed(sse(*events)):
        parts.extend(decoder.feed(event))
        if decoder.finished:
            return parts
    return [*parts, *decoder.close()]


def items_of(parts: list[ModelPart]) -> list[Item]:
    return [part.item for part in parts if isinstance(part, ItemDone)]


def last(parts: list[ModelPart]) -> Completed:
    assert isinstance(parts[-1], Completed)
    return parts[-1]


def chat(*deltas: dict[str, Any], finish: str | None = "stop", usage: Any = None) -> list[Any]:
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage})
    return [*chunks, "[DONE]"]


def tool(**fields: Any) -> dict[str, Any]:
    function = {key: fields.pop(key) for key in ("name", "arguments") if key in fields}
    return {"tool_calls": [{**fields, "function": function}]}


TWO_CALLS: dict[str, list[dict[str, Any]]] = {
    "in pieces, by index": [
        tool(index=0, id="a", name="shell", arguments=""), tool(index=1, id="b", name="shell", arguments=""),
        tool(index=0, arguments='{"x"'), tool(index=1, arguments='{"y"'), tool(index=0, arguments=":1}"),
        tool(index=1, arguments=":2}"),
    ],
    "whole, in one chunk": [
        {"tool_calls": [
            {"index": 0, "id": "a", "type": "function", "function": {"name": "shell", "arguments": '{"x":1}'}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "shell", "arguments": '{"y":2}'}},
        ]},
    ],
    "whole, without index": [
        tool(id="a", name="shell", arguments='{"x":1}'), tool(id="b", name="shell", arguments='{"y":2}'),
    ],
    "in pieces, without index": [
        tool(id="a", name="shell", arguments=""), tool(arguments='{"x":1}'),
        tool(id="b", name="shell", arguments=""), tool(arguments='{"y":2}'),
    ],
    "every call as number 0": [
        tool(index=0, id="a", name="shell", arguments='{"x":1}'),
        tool(index=0, id="b", name="shell", arguments='{"y":2}'),
    ],
    "id and name in every piece": [
        tool(index=0, id="a", name="shell", arguments='{"x"'), tool(index=0, id="a", name="shell", arguments=":1}"),
        tool(index=1, id="b", name="shell", arguments='{"y"'), tool(index=1, id="b", name="shell", arguments=":2}"),
    ],
    "id and name in every piece, without index": [
        tool(id="a", name="shell", arguments='{"x"'), tool(id="a", name="shell", arguments=":1}"),
        tool(id="b", name="shell", arguments='{"y"'), tool(id="b", name="shell", arguments=":2}"),
    ],
    "arguments as objects": [
        tool(index=0, id="a", name="shell", arguments={"x": 1}),
        tool(index=1, id="b", name="shell", arguments={"y": 2}),
    ],
    "nulls everywhere": [
        {"content": None, "tool_calls": None, "refusal": None, "reasoning_content": None},
        tool(index=0, id="a", name="shell", arguments=None), tool(index=0, id=None, name=None, arguments='{"x":1}'),
        tool(index=1, id="b", name="shell", arguments='{"y":2}'),
    ],
}  # fmt: skip


@pytest.mark.parametrize("style", TWO_CALLS)
def test_chat_reads_two_calls_in_every_style(style: str) -> None:
    parts = decode("chat", *chat(*TWO_CALLS[style], finish="tool_calls"))
    assert items_of(parts) == [FunctionCall("a", "shell", '{"x":1}'), FunctionCall("b", "shell", '{"y":2}')]


async def test_calls_without_ids_or_with_taken_ones_get_their_own() -> None:
    calls = chat(
        tool(index=0, id="", name="shell", arguments="{}"), tool(index=1, name="shell", arguments="{}"),
        tool(index=2, id="old", name="shell", arguments="{}"), tool(index=3, id="new", name="shell", arguments="{}"),
        tool(index=4, id="new", name="shell", arguments="{}"),
    )  # fmt: skip
    history = (user_message("Hi."), FunctionCall("old", "shell", "{}"), FunctionCallOutput("old", "x"))
    async with loopback(always(whole(sse(*calls)))) as place:
        outcome = await ask_once(place.base_url, request=a_request(*history))
    ids = [item.call_id for item in outcome.items if isinstance(item, FunctionCall)]
    assert len(set(ids)) == 5 and "old" not in ids and ids[3] == "new" and all(ids)


async def test_a_retried_answer_may_use_its_ids_again() -> None:
    calls = sse(*chat(tool(index=0, id="a", name="shell", arguments="{}")))
    torn = sse(*chat(tool(index=0, id="a", name="shell", arguments="{}"), finish=None)[:-1])
    async with loopback(in_turn(whole(torn), whole(calls))) as place:
        outcome = await ask_once(place.base_url)
    assert outcome.items == [FunctionCall("a", "shell", "{}")]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_chat_keeps_reasoning_under_either_name(field: str) -> None:
    parts = decode("chat", *chat({field: "Let me "}, {field: "see."}, {"content": "Yes."}))
    assert parts[:2] == [ReasoningDelta("Let me "), ReasoningDelta("see.")]
    thought = Reasoning(content=(ReasoningText("Let me see."),), source="chat")
    assert items_of(parts) == [thought, assistant_message("Yes.")]


def test_chat_joins_the_pieces_of_reasoning_details() -> None:
    text = {"type": "reasoning.text", "index": 0, "format": "x"}
    parts = decode("chat", *chat(
        {"reasoning_details": [{**text, "text": "Let me "}]},
        {"reasoning_details": [{**text, "text": "see.", "signature": "sig"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 1, "data": "abc"}]},
        {"content": "Yes."},
    ))  # fmt: skip
    thought = items_of(parts)[0]
    assert isinstance(thought, Reasoning) and thought.content == (ReasoningText("Let me see."),)
    assert msgspec.json.decode(thought.encrypted_content or "") == [
        {**text, "text": "Let me see.", "signature": "sig"},
        {"type": "reasoning.encrypted", "index": 1, "data": "abc"},
    ]


def test_chat_reads_content_in_typed_pieces() -> None:
    pieces = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Yes."}]
    parts = decode("chat", *chat({"content": pieces}))
    assert items_of(parts) == [
        Reasoning(content=(ReasoningText("Hm."),), source="chat"), assistant_message("Yes."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "stop", "items"),
    [
        (chat({"content": "Cut"}, finish="length"), "length", [assistant_message("Cut")]),
        (chat({"refusal": "I "}, {"refusal": "won't."}), "refusal", [Message("assistant", (Refusal("I won't."),))]),
        (chat(finish="content_filter"), "refusal", [Message("assistant", (Refusal(DECLINED),))]),
        (chat({"content": "Yes."}, finish=None), "end", [assistant_message("Yes.")]),
        (chat({"content": "Yes."})[:-1], "end", [assistant_message("Yes.")]),
        (chat(tool(index=0, id="a", name="shell"), finish="tool_calls"), "end", [FunctionCall("a", "shell", "{}")]),
        (chat(tool(index=0, id="a", name="shell", arguments='{"cm')), "end", [FunctionCall("a", "shell", '{"cm')]),
    ],
)
def test_chat_endings(events: list[Any], stop: str, items: list[Item]) -> None:
    parts = decode("chat", *events)
    assert (last(parts).stop, items_of(parts)) == (stop, items)


@pytest.mark.parametrize("text", ["*** Begin Patch\n*** End Patch", '{"not_input": 1}', "{broken", ""])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("wire", WIRES)
def test_a_freeform_call_is_its_text_on_every_wire(wire: WireName, text: str, wrapped: bool) -> None:
    arguments = msgspec.json.encode({"input": text}).decode() if wrapped else text
    if not arguments:
        return
    stream: dict[WireName, list[Any]] = {
        "chat": chat(tool(index=0, id="a", name="apply_patch", arguments=arguments)),
        "messages": messages({"type": "tool_use", "id": "a", "name": "apply_patch", "input": {}}, [
            {"type": "input_json_delta", "partial_json": arguments[:5]},
            {"type": "input_json_delta", "partial_json": arguments[5:]},
        ]),
        "responses": responses(
            {"type": "function_call", "call_id": "a", "name": "apply_patch", "arguments": arguments}
        ),
    }  # fmt: skip
    parts = decode(wire, *stream[wire], quirks={"freeform": False})
    assert items_of(parts) == [CustomToolCall("a", "apply_patch", text)]


def test_a_custom_call_of_the_responses_wire_is_its_text() -> None:
    raw = {"type": "custom_tool_call", "id": "ctc", "call_id": "a", "name": "apply_patch", "input": "*** Begin"}
    assert items_of(decode("responses", *responses(raw))) == [CustomToolCall("a", "apply_patch", "*** Begin", "ctc")]


def responses(*items: dict[str, Any], end: dict[str, Any] | None = None) -> list[Any]:
    done = [{"type": "response.output_item.done", "item": item} for item in items]
    return [*done, {"type": "response.completed", "response": {"id": "r", "model": "m", **(end or {})}}]


SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi.", "annotations": []}]}


def test_responses_takes_items_from_the_end_where_none_came_before() -> None:
    assert items_of(decode("responses", *responses(end={"output": [SAID]}))) == [assistant_message("Hi.")]
    assert items_of(decode("responses", *responses(SAID, end={"output": [SAID]}))) == [assistant_message("Hi.")]


def test_responses_keeps_reasoning_and_what_it_does_not_know() -> None:
    thought = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}], "content": None,
               "encrypted_content": "abc", "status": None}  # fmt: skip
    search = {"type": "web_search_call", "id": "ws", "action": {"query": "x"}}
    strange = {"type": "message", "role": "assistant", "content": [{"type": "output_hologram", "data": 1}]}
    assert items_of(decode("responses", *responses(thought, search, strange))) == [
        Reasoning((SummaryText("s"),), (), "abc", "rs", "responses"),
        OpaqueItem(search, "responses"),
        OpaqueItem(strange, "responses"),
    ]


@pytest.mark.parametrize(
    ("response", "stop", "items"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", []),
        ({"incomplete_details": {"reason": "content_filter"}}, "refusal", [Message("assistant", (Refusal(DECLINED),))]),
        ({"output": [{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]},
         "refusal", [Message("assistant", (Refusal("No."),))]),
    ],
)  # fmt: skip
def test_responses_endings(response: dict[str, Any], stop: str, items: list[Item]) -> None:
    parts = decode("responses", {"type": "response.incomplete", "response": response})
    assert (last(parts).stop, items_of(parts)) == (stop, items)


def test_responses_counts_usage() -> None:
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
             "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 8}}  # fmt: skip
    assert last(decode("responses", *responses(end={"usage": usage}))).usage == Usage(100, 60, 20, 8, 5)


def messages(*blocks: Any, stop: str = "end_turn", details: Any = None, usage: Any = None) -> list[Any]:
    """Return a stream of `blocks`: each block followed by the list of its deltas."""
    events: list[Any] = [{"type": "message_start", "message": {"id": "r", "model": "m", "usage": {"input_tokens": 1}}}]
    for index, (block, deltas) in enumerate(zip(blocks[::2], blocks[1::2], strict=True)):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_details": details}
    return [*events, {"type": "message_delta", "delta": delta, "usage": usage or {}}, {"type": "message_stop"}]


TEXT = {"type": "text", "text": ""}


def said(text: str) -> list[dict[str, str]]:
    return [{"type": "text_delta", "text": text}]


def test_messages_keeps_every_kind_of_thinking() -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    sign = {"type": "signature_delta", "signature": "sig"}
    parts = decode("messages", *messages(
        thinking, [{"type": "thinking_delta", "thinking": "Hm."}, sign], thinking, [sign],
        {"type": "redacted_thinking", "data": "xyz"}, [], TEXT, said("Yes."),
    ))  # fmt: skip
    assert items_of(parts) == [
        Reasoning((), (ReasoningText("Hm."),), "sig", None, "messages"),
        Reasoning((), (ReasoningText(""),), "sig", None, "messages"),
        Reasoning((), (), "xyz", None, "messages"),
        assistant_message("Yes."),
    ]
    assert [part for part in parts if isinstance(part, ReasoningDelta)] == [ReasoningDelta("Hm.")]


@pytest.mark.parametrize(
    ("block", "deltas", "arguments"),
    [
        ({"input": {}}, ['{"a"', ": 1}"], '{"a": 1}'),
        ({"input": {}}, [""], "{}"),
        ({"input": {}}, [], "{}"),
        ({"input": {"a": 1}}, [], '{"a":1}'),
        ({"input": {}}, ['{"a": '], '{"a": '),
    ],
)
def test_messages_keeps_arguments_as_they_were_written(
    block: dict[str, Any], deltas: list[str], arguments: str
) -> None:
    use = {"type": "tool_use", "id": "a", "name": "shell", **block}
    pieces = [{"type": "input_json_delta", "partial_json": delta} for delta in deltas]
    assert items_of(decode("messages", *messages(use, pieces, stop="tool_use"))) == [
        FunctionCall("a", "shell", arguments)
    ]


@pytest.mark.parametrize(
    ("events", "stop", "items"),
    [
        (messages(TEXT, said("Cut"), stop="max_tokens"), "length", [assistant_message("Cut")]),
        (messages(TEXT, said("Wait"), stop="pause_turn"), "length", [assistant_message("Wait")]),
        (messages(TEXT, said("No."), stop="refusal"), "refusal", [Message("assistant", (Refusal("No."),))]),
        (messages(stop="refusal"), "refusal", [Message("assistant", (Refusal(DECLINED),))]),
        (messages(stop="refusal", details={"explanation": "Why."}), "refusal",
         [Message("assistant", (Refusal("Why."),))]),
        (messages(TEXT, said("One."), TEXT, said("Two.")), "end",
         [Message("assistant", (OutputText("One."), OutputText("Two.")))]),
        (messages(TEXT, said("One."))[:-1], "end", [assistant_message("One.")]),
    ],
)  # fmt: skip
def test_messages_endings(events: list[Any], stop: str, items: list[Item]) -> None:
    parts = decode("messages", *events)
    assert (last(parts).stop, items_of(parts)) == (stop, items)


def test_messages_says_when_the_context_is_full() -> None:
    with pytest.raises(EndpointError, match="context window"):
        decode("messages", *messages(TEXT, said("Cut"), stop="model_context_window_exceeded"))


def test_messages_keeps_blocks_it_does_not_know() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    parts = decode("messages", *messages(block, [{"type": "input_json_delta", "partial_json": '{"query":"x"}'}]))
    assert items_of(parts) == [OpaqueItem({**block, "input": {"query": "x"}}, "messages")]


def test_messages_counts_usage_from_both_ends() -> None:
    events = messages(TEXT, said("Hi."), usage={"output_tokens": 20, "input_tokens": None})
    events[0]["message"]["usage"] = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 60,
                                     "cache_creation_input_tokens": 5}  # fmt: skip
    assert last(decode("messages", *events)).usage == Usage(75, 60, 20, 0, 5)


async def test_the_cost_is_the_endpoints_own_or_the_catalogues() -> None:
    info = ModelInfo("m", price=Price(input=1.0, output=10.0))
    async with loopback(always(whole(HELLO["chat"]))) as place:
        assert (await ask_once(place.base_url, model=info)).completed.usage.cost_usd == pytest.approx(27e-6)
    told = sse(*chat({"content": "Hi."}, usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}))
    async with loopback(always(whole(told))) as place:
        assert (await ask_once(place.base_url, model=info)).completed.usage.cost_usd == 0.5


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
EVENTS = {
    wire: [msgspec.json.decode(text[6:]) for text in HELLO[wire].split(b"\n\n") if text[6:7] == b"{"] for wire in WIRES
}


@st.composite
def spoiled(draw: st.DrawFn, wire: WireName) -> list[Any]:
    """Return a good stream with a value somewhere in it replaced by any other."""
    events = msgspec.json.decode(msgspec.json.encode(EVENTS[wire]))
    place: Any = events
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = draw(json)
        return events


@pytest.mark.parametrize("wire", WIRES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_spoiled_stream_is_an_answer_or_an_error_of_ours(wire: WireName, data: st.DataObject) -> None:
    try:
        parts = decode(wire, *data.draw(spoiled(wire)))
    except (BrokenStream, EndpointError):
        return
    assert isinstance(parts[-1], Completed)
    for part in parts:
        assert not isinstance(part, TextDelta | ReasoningDelta) or isinstance(part.text, str)
        if isinstance(part, ItemDone):
            msgspec.json.encode(part.item)


@given(status=st.sampled_from([None, 200, 400, 404, 429, 500]), body=st.one_of(json, st.binary(max_size=40)))
@settings(max_examples=200, deadline=None)
def test_any_error_body_has_a_verdict_and_words(status: int | None, body: Any) -> None:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    error = error_from_body(status or 400, {}, data)
    verdict = judge(error)
    assert isinstance(reason(error), str)
    if verdict != "retry":
        assert as_error(error, verdict, Naming("local", "http://x", "m", "KEY")).message
    in_stream = error_from_json(body if not isinstance(body, bytes) else body.decode("latin-1"))
    assert judge(in_stream)
