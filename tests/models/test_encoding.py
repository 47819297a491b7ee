"""What is sent: the same bytes for the same items, however they came to be asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from asking import PATCH, SHELL, WIRES, a_request
from hypothesis import given, settings
from hypothesis import strategies as st

from lathe.models.base import ModelRequest, ToolSpec, Transcript
from lathe.models.catalogue import ModelInfo, quirks_of
from lathe.models.chat import ChatWire
from lathe.models.messages import MessagesWire
from lathe.models.provider import WireName
from lathe.models.responses import ResponsesWire
from lathe.models.wire import Wire, WireSetup, is_strict
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    assistant_message,
    developer_message,
    user_message,
)

MAKERS = {"responses": ResponsesWire, "chat": ChatWire, "messages": MessagesWire}
FIELD = {"responses": b'"input":', "chat": b'"messages":', "messages": b'"messages":'}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
every_wire = pytest.mark.parametrize("wire", WIRES)


def make(wire: WireName, quirks: dict[str, Any] | None = None, **info: Any) -> Wire:
    return MAKERS[wire](WireSetup(ModelInfo("m", **info), quirks_of(quirks or {}), "key"))


def encoded(wire: WireName, *items: Item, quirks: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    info = fields.pop("info", {})
    body = msgspec.json.decode(b"".join(make(wire, quirks, **info).encode(a_request(*items, **fields))))
    assert isinstance(body, dict)
    return body


def input_of(body: bytes, wire: WireName) -> bytes:
    """Return the input without the brackets that close it."""
    return body.split(FIELD[wire], 1)[1].removesuffix(b"]}")


texts = st.text(max_size=8)
ids = st.sampled_from(["c1", "c2", "call:3"])
parts = st.one_of(
    st.builds(InputText, texts), st.just(InputImage(PIXEL)), st.just(InputImage("https://x/y.png", "low"))
)
outputs = st.one_of(texts, st.lists(parts, max_size=3).map(tuple))
sources = st.sampled_from(["responses", "chat", "messages", None])
said = st.one_of(
    st.builds(lambda text: Message("assistant", (OutputText(text),), id="msg_1"), texts),
    st.builds(lambda text: Message("assistant", (Refusal(text),)), texts),
    st.builds(
        lambda text, secret, source: Reasoning(
            (SummaryText(text),), (ReasoningText(text),) if text else (), secret, "rs_1", source
        ),
        texts, st.one_of(st.none(), st.just("[]"), st.just("abc")), sources,
    ),
    st.builds(FunctionCall, ids, st.just("shell"), st.sampled_from(['{"cmd":"ls"}', "{}", "{broken", "[1]", ""])),
    st.builds(CustomToolCall, ids, st.just("apply_patch"), texts),
    st.just(OpaqueItem({"type": "web_search_call", "id": "ws_1"}, "responses")),
    st.just(OpaqueItem({"type": "server_tool_use", "id": "s"}, "messages")),
)  # fmt: skip
told = st.one_of(
    st.builds(lambda some: Message("user", tuple(some)), st.lists(parts, min_size=1, max_size=3)),
    st.builds(developer_message, texts),
)
answers = st.one_of(st.builds(FunctionCallOutput, ids, outputs), st.builds(CustomToolCallOutput, ids, outputs))
steps = st.lists(
    st.tuples(st.lists(said, min_size=1, max_size=4), st.lists(answers, max_size=3), st.lists(told, max_size=2)).filter(
        lambda step: step[1] or step[2]
    ),
    max_size=5,
)


@every_wire
@given(steps=steps, first=told)
@settings(max_examples=60, deadline=None)
def test_each_input_begins_with_the_one_before_and_a_resumed_thread_gives_the_same_bytes(
    wire: WireName, steps: list[tuple[list[Item], list[Item], list[Item]]], first: Item
) -> None:
    live, transcript, before = make(wire), Transcript([first]), b""
    tools = (SHELL, PATCH)
    for step in [*steps, ([], [], [])]:
        request = ModelRequest("Be brief.", tools, transcript)
        body = b"".join(live.encode(request))
        msgspec.json.decode(body)
        assert body == b"".join(live.encode(request)), "asking twice changes nothing"
        resumed = ModelRequest("Be brief.", tools, Transcript(transcript.items))
        assert body == b"".join(make(wire).encode(resumed))
        now = input_of(body, wire)
        assert now.startswith(before)
        before = now
        for items in step:
            transcript.append(items)


@every_wire
def test_a_compaction_starts_over(wire: WireName) -> None:
    live, transcript = make(wire), Transcript([user_message("One."), assistant_message("Two."), user_message("Three.")])
    request = ModelRequest("", (), transcript)
    live.encode(request)
    transcript.replace([user_message("Short.")])
    fresh = ModelRequest("", (), Transcript([user_message("Short.")]))
    assert b"".join(live.encode(request)) == b"".join(make(wire).encode(fresh))


@every_wire
def test_another_transcript_starts_over(wire: WireName) -> None:
    live = make(wire)
    live.encode(a_request(user_message("One."), assistant_message("Two."), user_message("Three.")))
    other = a_request(user_message("Other."))
    assert b"".join(live.encode(other)) == b"".join(make(wire).encode(other))


@every_wire
def test_each_item_is_encoded_once(wire: WireName, monkeypatch: pytest.MonkeyPatch) -> None:
    live, transcript = make(wire), Transcript([user_message("Go.")])
    seen: list[int] = []
    inner = live._input._encode  # type: ignore[attr-defined]
    monkeypatch.setattr(live._input, "_encode", lambda group: (seen.append(len(group)), inner(group))[1])  # type: ignore[attr-defined]
    for number in range(50):
        live.encode(ModelRequest("", (), transcript))
        call = FunctionCall(f"c{number}", "shell", "{}")
        transcript.append([call])
        transcript.append([FunctionCallOutput(call.call_id, "done")])
    assert sum(seen) == 1 + 49 * 2


@every_wire
def test_text_that_was_no_unicode_does_not_stop_a_request(wire: WireName) -> None:
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")
    call = FunctionCall("c1", "shell", f'{{"cmd": "{broken}"}}')
    body = encoded(wire, user_message(broken), call, FunctionCallOutput("c1", broken))
    assert "caf?" in str(body)


def test_responses_sends_stateless_requests() -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    body = encoded(
        "responses", reasoning_effort="minimal", output_schema=schema, quirks={"cache_key": True},
        info={"efforts": ("low", "high")},
    )  # fmt: skip
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["prompt_cache_key"] == "t1"
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["text"]["format"] == {"type": "json_schema", "name": "output", "schema": schema, "strict": True}
    assert [tool["type"] for tool in body["tools"]] == ["function", "custom"]
    assert body["tools"][1]["format"] == {"type": "grammar", "syntax": "lark", "definition": PATCH.grammar}


HISTORY: tuple[Item, ...] = (
    user_message("Hi."),
    Reasoning((SummaryText("s"),), (), "secret", "rs_1", "responses"),
    Message("assistant", (OutputText("Well."),), id="msg_1", phase="commentary"),
    FunctionCall("c1", "shell", "{}", id="fc_1"),
    CustomToolCall("c2", "apply_patch", "*** Begin", id="ctc_1"),
    FunctionCallOutput("c1", (OutputText("seen"), InputImage(PIXEL))),
    CustomToolCallOutput("c2", "ok"),
)


def test_responses_sends_no_ids_back_unless_the_endpoint_wants_them() -> None:
    without = encoded("responses", *HISTORY)["input"]
    assert not any("id" in value for value in without)
    assert without[1] == {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}],
                          "encrypted_content": "secret"}  # fmt: skip
    assert without[2]["phase"] == "commentary"
    assert without[5]["output"][0] == {"type": "input_text", "text": "seen"}
    having = encoded("responses", *HISTORY, quirks={"item_ids": True, "store": True})
    assert having["store"] is True
    assert [value.get("id") for value in having["input"]] == [None, "rs_1", "msg_1", "fc_1", "ctc_1", None, None]


def test_responses_has_functions_where_freeform_tools_are_unknown() -> None:
    body = encoded("responses", *HISTORY, quirks={"freeform": False})
    assert [tool["type"] for tool in body["tools"]] == ["function", "function"]
    assert body["input"][4] == {"type": "function_call", "call_id": "c2", "name": "apply_patch",
                                "arguments": '{"input":"*** Begin"}'}  # fmt: skip
    assert body["input"][6]["type"] == "function_call_output"


@every_wire
def test_reasoning_goes_only_to_the_wire_that_wrote_it(wire: WireName) -> None:
    thoughts = [Reasoning((), (ReasoningText(f"thought of {name}"),), "[]", None, name) for name in WIRES]
    sent = str(encoded(wire, user_message("Hi."), *thoughts, assistant_message("So."), user_message("Go on.")))
    assert [name for name in WIRES if f"thought of {name}" in sent] == [wire]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("reasoning_content", {"reasoning_content": "Hm."}),
        ("reasoning", {"reasoning": "Hm."}),
        ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}),
        ("", {}),
    ],
)
def test_chat_sends_reasoning_back_in_the_field_that_the_provider_wants(field: str, expected: dict[str, Any]) -> None:
    details = '[{"type":"reasoning.text","text":"Hm."}]'
    thought = Reasoning((), (ReasoningText("Hm."),), details, None, "chat")
    body = encoded("chat", user_message("Hi."), thought, FunctionCall("c", "shell", "{}"), quirks={"reasoning": field})
    message = body["messages"][2]
    assert {key: value for key, value in message.items() if "reasoning" in key} == expected


def test_chat_puts_images_of_outputs_into_one_message_after_all_outputs() -> None:
    body = encoded("chat", *HISTORY)
    assert [message["role"] for message in body["messages"]] == [
        "system", "user", "assistant", "tool", "tool", "user",
    ]  # fmt: skip
    assert body["messages"][2]["content"] == "Well."
    assert body["messages"][2]["tool_calls"][1]["function"]["arguments"] == '{"input":"*** Begin"}'
    assert body["messages"][5]["content"][1] == {"type": "image_url", "image_url": {"url": PIXEL}}


def test_chat_follows_its_quirks() -> None:
    quirks = {"system": "developer", "developer": "developer", "max_tokens": "max_completion_tokens",
              "effort": "reasoning", "cache": "auto", "stream_usage": False}  # fmt: skip
    body = encoded(
        "chat", user_message("Hi."), developer_message("Mind the time."), quirks=quirks, max_output_tokens=5,
        reasoning_effort="high", parallel_tool_calls=False,
    )  # fmt: skip
    assert [message["role"] for message in body["messages"]] == ["developer", "user", "developer"]
    assert body["max_completion_tokens"] == 5
    assert body["reasoning"] == {"effort": "high"}
    assert body["cache_control"] == {"type": "ephemeral"}
    assert body["parallel_tool_calls"] is False
    assert "stream_options" not in body
    default = encoded("chat", user_message("Hi."), developer_message("Mind the time."))
    assert default["messages"][2] == {"role": "user", "content": "<developer>\nMind the time.\n</developer>"}


def test_messages_marks_the_head_and_leaves_the_rest_alone() -> None:
    quirks = {"cache": "auto", "thinking": "adaptive"}
    body = encoded("messages", *HISTORY, quirks=quirks, reasoning_effort="max",
                   info={"efforts": ("low", "high"), "max_output_tokens": 64_000})  # fmt: skip
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert body["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in str(body["messages"])
    assert body["max_tokens"] == 64_000
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "high"}
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
    image = body["messages"][2]["content"][0]["content"][1]
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def test_messages_thinks_by_budget_on_older_models_only_when_asked() -> None:
    info = {"max_output_tokens": 64_000}
    assert "thinking" not in encoded("messages", quirks={"thinking": "budget"}, info=info)
    body = encoded("messages", quirks={"thinking": "budget"}, info=info, reasoning_effort="medium")
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 10_000}
    assert "output_config" not in body


def test_messages_tells_the_three_kinds_of_thinking_apart() -> None:
    thoughts = [
        Reasoning((), (ReasoningText("Hm."),), "sig", None, "messages"),
        Reasoning((), (ReasoningText(""),), "sig", None, "messages"),
        Reasoning((), (), "data", None, "messages"),
    ]
    body = encoded("messages", user_message("Hi."), *thoughts, FunctionCall("c", "shell", "{}"))
    assert body["messages"][1]["content"][:3] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "thinking", "thinking": "", "signature": "sig"},
        {"type": "redacted_thinking", "data": "data"},
    ]


def test_calls_of_other_wires_get_ids_and_objects_that_messages_takes() -> None:
    call = FunctionCall("functions.shell:0", "my tool", "{broken")
    body = encoded("messages", user_message("Hi."), call, FunctionCallOutput("functions.shell:0", ""))
    use, result = body["messages"][1]["content"][0], body["messages"][2]["content"][0]
    assert use == {"type": "tool_use", "id": "functions_shell_0", "name": "my_tool",
                   "input": {"malformed_arguments": "{broken"}}  # fmt: skip
    assert result["tool_use_id"] == "functions_shell_0"


@every_wire
def test_a_model_without_eyes_is_told_that_an_image_stood_here(wire: WireName) -> None:
    body = encoded(wire, user_message("See.", (InputImage(PIXEL),)), quirks={"images": False})
    assert "iVBOR" not in str(body) and "image stood here" in str(body)


@every_wire
def test_a_request_without_tools_or_instructions_is_one(wire: WireName) -> None:
    body = b"".join(make(wire).encode(ModelRequest("", (), Transcript([user_message("Hi.")]))))
    assert msgspec.json.decode(body)["model"] == "m"


def test_tools_are_encoded_anew_when_they_change() -> None:
    wire, transcript = make("chat"), Transcript([user_message("Hi.")])
    first = msgspec.json.decode(b"".join(wire.encode(ModelRequest("", (SHELL,), transcript))))
    other = ToolSpec("other", "", {"type": "object"})
    second = msgspec.json.decode(b"".join(wire.encode(ModelRequest("", (other,), transcript))))
    assert [body["tools"][0]["function"]["name"] for body in (first, second)] == ["shell", "other"]


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {}, "required": []}, False),
        ({"type": "array", "items": {"type": "object", "properties": {}}}, False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
    ],
)  # fmt: skip
def test_a_schema_is_strict_only_if_every_object_is_closed(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict
