"""Requests of the three dialects, read: whatever comes is an `Inbound` or a `BadRequest` of one sentence."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.gateway.dialects import DIALECTS, BadRequest, Inbound, estimate_tokens
from lathe.models.base import ItemDone, ToolSpec
from lathe.models.catalogue import ModelInfo, Quirks
from lathe.models.client import make_wire
from lathe.models.script import WIRES, Wire
from lathe.models.wire import WireSetup
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    user_message,
)

PIXEL = "data:image/png;base64,AAAA"


def parse(wire: Wire, **fields: Any) -> Inbound:
    return DIALECTS[wire].parse(json.dumps({"model": "m", **fields}).encode())


def items_of(wire: Wire, entries: list[Any]) -> list[Any]:
    return parse(wire, **{"input" if wire == "responses" else "messages": entries}).request.transcript.items


def test_a_conversation_of_responses() -> None:
    search = {"type": "web_search_call", "id": "ws", "action": {"q": 1}}
    entries = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "input_text", "text": "See"}, {"type": "input_image", "image_url": PIXEL}]},
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "E"},
        {"type": "message", "role": "assistant", "id": "x", "phase": "final_answer", "content": [
            {"type": "output_text", "text": "Hi", "annotations": [{"a": 1}]}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{", "id": None, "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
        {"type": "custom_tool_call", "call_id": "d", "name": "p", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "o"},
        search,
    ]  # fmt: skip
    assert items_of("responses", entries) == [
        user_message("See", (InputImage(PIXEL),)),
        Reasoning((SummaryText("s"),), (), "E", "rs", "responses"),
        Message("assistant", (OutputText("Hi"), Refusal("no")), "x", "final_answer"),
        FunctionCall("c", "f", "{"),
        FunctionCallOutput("c", (InputText("o"),)),
        CustomToolCall("d", "p", "x"),
        CustomToolCallOutput("d", "o"),
        OpaqueItem(search, "responses"),
    ]
    assert parse("responses", input=entries[:1], instructions="One.").request.instructions == "One.\n\nBe brief."
    assert parse("responses", input="Hi").request.transcript.items == [user_message("Hi")]


def test_a_conversation_of_chat() -> None:
    entries = [
        {"role": "system", "content": "One."},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        {"role": "user", "content": [
            {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": PIXEL}}]},
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "d", "type": "custom", "custom": {"name": "p", "input": "x"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "o"},
        {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "p"}]},
        {"role": "system", "content": "Later."},
    ]  # fmt: skip
    inbound = parse("chat", messages=entries)
    assert inbound.request.instructions == "One.\n\nTwo."
    assert inbound.request.transcript.items == [
        user_message("See", (InputImage(PIXEL),)),
        Reasoning((), (ReasoningText("Hm"),), None, None, "chat"),
        Message("assistant", (OutputText("Hi"),)),
        FunctionCall("c", "f", "{}"),
        CustomToolCall("d", "p", "x"),
        FunctionCallOutput("c", "o"),
        CustomToolCallOutput("d", (InputText("p"),)),
        Message("developer", (InputText("Later."),)),
    ]


def test_a_conversation_of_messages() -> None:
    server = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    entries = [
        {"role": "user", "content": [{"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm", "signature": "S"}, {"type": "redacted_thinking", "data": "R"},
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}, server,
            {"type": "tool_use", "id": "c", "name": "f", "input": {"é": [1.5]}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "o"}]},
            {"type": "text", "text": "And?"}]},
    ]  # fmt: skip
    inbound = parse("messages", messages=entries, system=[{"type": "text", "text": "One."}], max_tokens=5)
    assert (inbound.request.instructions, inbound.request.max_output_tokens) == ("One.", 5)
    assert inbound.request.transcript.items == [
        user_message("See", (InputImage(PIXEL),)),
        Reasoning((), (ReasoningText("Hm"),), "S", None, "messages"),
        Reasoning((), (), "R", None, "messages"),
        Message("assistant", (OutputText("a"), OutputText("b"))),
        OpaqueItem(server, "messages"),
        FunctionCall("c", "f", '{"é":[1.5]}'),
        FunctionCallOutput("c", "o"),
        user_message("And?"),
    ]


def test_tools_and_the_choice_among_them() -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "a+"}
    tools = [
        {"type": "function", "name": "f", "parameters": {"a": 1}, "strict": True},
        {"type": "custom", "name": "p", "format": grammar},
    ]
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "p"}]}
    request = parse("responses", tools=tools, tool_choice=allowed).request
    assert request.tools == (ToolSpec("p", "", {}, freeform=True, grammar="a+", syntax="regex"),)
    assert request.sampling
    assert request.sampling.tool_choice == "required"
    nested = [
        {
            "type": "custom",
            "custom": {"name": "p", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}},
        }
    ]
    assert parse("chat", messages=[], tools=nested).request.tools == (
        ToolSpec("p", "", {}, freeform=True, grammar="x"),
    )


def test_tools_in_a_namespace_have_flat_names_for_other_wires() -> None:
    tool = {"type": "function", "name": "wait", "parameters": {}}
    tools = [{"type": "namespace", "name": "agents", "description": "d", "tools": [tool]}]
    call = {"type": "function_call", "call_id": "c", "name": "wait", "namespace": "agents", "arguments": "{}"}
    inbound = parse("responses", tools=tools, input=[call])
    assert [spec.name for spec in inbound.request.tools] == ["agents__wait"]
    assert inbound.request.transcript.items == [FunctionCall("c", "agents__wait", "{}")]
    writer = DIALECTS["responses"].writer(inbound, "resp_1", "m", "chat")
    answer = json.loads(writer.whole([ItemDone(FunctionCall("d", "agents__wait", "{}"))], {}))["output"][0]
    assert (answer["namespace"], answer["name"]) == ("agents", "wait")


def test_a_body_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(BadRequest, match="no UTF-8"):
        DIALECTS["responses"].parse(b'{"model":"m","input":"\xff"}')


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("wire", "fields", "param"),
    [
        ("chat", {}, ""),
        ("chat", {"messages": "x"}, "messages"),
        ("chat", {"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role"),
        ("chat", {"messages": user([{"type": "text", "text": 1}])}, "messages[0].content[0].text"),
        ("chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0]"),
        ("chat", {"messages": [], "tools": [{"type": "function"}]}, "tools[0].function"),
        ("chat", {"messages": [], "temperature": "hot"}, "temperature"),
        ("chat", {"messages": [], "tool_choice": {"type": "function"}}, "tool_choice"),
        ("responses", {"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ("responses", {"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
        ("responses", {"input": [{}]}, "input[0].type"),
        ("responses", {"tools": [{"name": "f"}]}, "tools[0].type"),
        ("messages", {"messages": user([{"type": "tool_result"}])}, "messages[0].content[0]"),
        ("messages", {"messages": [], "tools": [{"name": "f"}]}, "tools[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(wire: Wire, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(wire, **fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.count(". ") == 0


@pytest.mark.parametrize(
    ("wire", "upstream", "fields", "param"),
    [
        ("chat", "messages", {"messages": [], "n": 2}, "n"),
        ("chat", "responses", {"messages": [], "logprobs": True}, "logprobs"),
        ("chat", "responses", {"messages": [], "stop": "x"}, "stop"),
        ("chat", "messages", {"messages": [], "response_format": {"type": "json_object"}}, "json_object"),
        ("chat", "messages", {"messages": user([{"type": "input_audio"}])}, "messages[0].content[0]"),
        ("responses", "chat", {"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ("responses", "chat", {"background": True}, "background"),
        ("responses", "chat", {"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input"),
        ("messages", "chat", {"messages": user([{"type": "document"}])}, "messages[0].content[0]"),
        ("messages", "chat", {"messages": [], "tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0]"),
    ],
)  # fmt: skip
def test_what_another_wire_cannot_carry_is_named(
    wire: Wire, upstream: Wire, fields: dict[str, Any], param: str
) -> None:
    inbound = parse(wire, **fields)
    with pytest.raises(BadRequest) as caught:
        DIALECTS[wire].check_carried(inbound, upstream)
    assert (caught.value.code, caught.value.param) == ("not_carried", param)


def test_hosted_tools_that_need_not_be_used_are_left_out_by_name() -> None:
    function = {"type": "function", "name": "f"}
    more = {"type": "additional_tools", "role": "developer", "tools": [function, {"type": "tool_search"}]}
    inbound = parse("responses", tools=[{"type": "web_search"}], input=[more, {"role": "user", "content": "x"}])
    DIALECTS["responses"].check_carried(inbound, "chat")
    assert inbound.left_out == ("web_search", "tool_search")
    assert [tool.name for tool in inbound.request.tools] == ["f"]
    assert len(inbound.request.transcript.items) == 1


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_harmless_is_left_out(wire: Wire) -> None:
    hints = {"service_tier": "auto", "metadata": {"a": "b"}, "seed": 1, "prediction": {}, "logprobs": False, "n": 1}
    inbound = parse(wire, input="Hi", messages=[], **hints)
    for upstream in WIRES:
        DIALECTS[wire].check_carried(inbound, upstream)


GOOD: dict[Wire, dict[str, Any]] = {
    "responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "lathe1.e30="},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "tool_choice": {"type": "function", "name": "f"},
        "lathe": {"no_fallback": True},
    },
    "chat": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "o"},
        ],
        "stop": ["a"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "response_format": {"type": "json_object"},
    },
    "messages": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "o"}]},
        ],
        "system": [{"type": "text", "text": "s"}],
        "tools": [{"name": "f", "input_schema": {}}],
        "tool_choice": {"type": "any"},
        "metadata": {"user_id": "u"},
    },
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn, wire: Wire) -> bytes:
    """Return a good request with a value somewhere in it replaced by any other, or with bytes changed."""
    body = msgspec.json.decode(msgspec.json.encode({"model": "m", **GOOD[wire]}))
    place: Any = body
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = draw(anything)
        break
    data = bytearray(json.dumps(body).encode())
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize("wire", WIRES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_body_is_a_request_or_one_that_is_refused(wire: Wire, data: st.DataObject) -> None:
    body = data.draw(spoiled(wire))
    try:
        inbound = DIALECTS[wire].parse(body)
    except BadRequest as bad:
        assert bad.message.endswith(".")
        return
    assert estimate_tokens(body, inbound.head.fields) > 0
    # What was read can be sent on, over any wire.
    for upstream in WIRES:
        encoder = make_wire(upstream, WireSetup(ModelInfo("m"), Quirks(), ""))
        assert isinstance(msgspec.json.decode(b"".join(encoder.encode(inbound.request))), dict)


def test_tokens_are_estimated_by_size_and_images_by_number() -> None:
    words = [{"role": "user", "content": "word " * 4000}]
    images: dict[Wire, Any] = {
        "responses": {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000},
        "chat": {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}},
        "messages": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}},
    }
    for wire, image in images.items():
        field = "input" if wire == "responses" else "messages"
        plain = json.dumps({"model": "m", field: words}).encode()
        shown = json.dumps({"model": "m", field: [*words, {"role": "user", "content": [image, image]}]}).encode()
        counts = [estimate_tokens(body, DIALECTS[wire].head(body).fields) for body in (plain, shown)]
        assert 4000 < counts[0] < 7000
        assert 2000 < counts[1] - counts[0] < 4000
