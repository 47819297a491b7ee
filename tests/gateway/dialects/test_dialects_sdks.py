"""The official SDKs, over real HTTP, read what the dialects write: streams, whole answers, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest
from front import front
from models.turns import PATCH

from lathe.models.script import WIRES, Call, FreeformCall, Refuse, Step, Thought, Tokens, Wire, Words
from lathe.models.scripted import ScriptedServer

every_upstream = pytest.mark.parametrize("upstream", WIRES)
TOOLS: list[dict[str, Any]] = [
    {
        "name": "shell",
        "description": "Runs.",
        "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
    }
]
FULL = Step(
    say=(
        Thought("I should look.", "OPAQUE=="),
        Words("Let me see: ünïcode 🦀."),
        Call("shell", '{"cmd": "ls"}', "c1"),
        Call("shell", '{"cmd": "pwd"}', "c2"),
    ),
    usage=Tokens(500, 100, 40, 30),
)
DECISION = {"decision": "d1", "served": "scripted-1"}


@asynccontextmanager
async def gateway(upstream: Wire, *steps: Step) -> AsyncIterator[tuple[ScriptedServer, str]]:
    async with ScriptedServer(steps) as server, front(upstream, server.base_url) as url:
        yield server, url


def openai_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0)


def anthropic_client(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key="k", base_url=url.removesuffix("/v1"), max_retries=0)


RESPONSES: dict[str, Any] = {
    "model": "m",
    "input": "Look.",
    "tools": [{"type": "function", "strict": False, **TOOLS[0]}, {"type": "custom", "name": "apply_patch"}],
}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look."}],
    "tools": [{"type": "function", "function": TOOLS[0]}],
}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Look."}],
    "tools": [{"name": "shell", "input_schema": TOOLS[0]["parameters"]}],
}


# Responses


@every_upstream
async def test_responses_stream(upstream: Wire) -> None:
    async with gateway(upstream, FULL) as (_, url), openai_client(url) as client:
        async with client.responses.stream(**RESPONSES) as stream:
            events = [event async for event in stream]
        final = await stream.get_final_response()
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == "Let me see: ünïcode 🦀."
    thought, message, *calls = final.output
    assert (thought.type, [part.text for part in thought.summary]) == ("reasoning", ["I should look."])
    assert message.content[0].text == said
    assert [(call.type, call.call_id, call.arguments) for call in calls] == [
        ("function_call", "c1", '{"cmd": "ls"}'),
        ("function_call", "c2", '{"cmd": "pwd"}'),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.lathe == DECISION
    assert (final.usage.input_tokens, final.usage.input_tokens_details.cached_tokens) == (500, 100)
    assert (final.usage.output_tokens, final.usage.output_tokens_details.reasoning_tokens) == (40, 30)


async def test_responses_freeform_calls_and_reasoning_go_there_and_back() -> None:
    step = Step(say=(Thought("Hm.", "SIGNATURE"), FreeformCall("apply_patch", PATCH, "f1")))
    async with gateway("messages", step, Step(say=(Words("Done."),))) as (server, url), openai_client(url) as client:
        first = await client.responses.create(**RESPONSES)
        call = first.output[-1]
        assert (call.type, call.input) == ("custom_tool_call", PATCH)
        output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"}
        history = [{"role": "user", "content": "Look."}, *first.output, output]
        second = await client.responses.create(**{**RESPONSES, "input": history})
        assert second.output_text == "Done."
    thinking, use = server.requests[1].json()["messages"][1]["content"]
    assert thinking == {"type": "thinking", "thinking": "Hm.", "signature": "SIGNATURE"}
    assert use["input"] == {"input": PATCH}


@every_upstream
async def test_responses_that_are_cut_or_refused(upstream: Wire) -> None:
    steps = (Step(say=(Words("On and"),), stop="length"), Step(say=(Refuse("I won't."),)))
    async with gateway(upstream, *steps) as (_, url), openai_client(url) as client:
        cut = await client.responses.create(**RESPONSES)
        refused = await client.responses.create(**RESPONSES)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert refused.output[-1].content[-1].refusal == "I won't."


# Chat Completions


@every_upstream
async def test_chat_stream(upstream: Wire) -> None:
    options = {"stream_options": {"include_usage": True}}
    async with (
        gateway(upstream, FULL) as (_, url),
        openai_client(url) as client,
        client.chat.completions.stream(**CHAT, **options) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    choice = final.choices[0]
    assert "".join(event.delta for event in events if event.type == "content.delta") == "Let me see: ünïcode 🦀."
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see: ünïcode 🦀.")
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("c1", "shell", '{"cmd": "ls"}'),
        ("c2", "shell", '{"cmd": "pwd"}'),
    ]
    assert choice.message.reasoning_content == "I should look."
    assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (500, 40)
    assert [event.chunk for event in events if event.type == "chunk"][-1].lathe == DECISION


@every_upstream
async def test_chat_without_usage_and_without_a_stream(upstream: Wire) -> None:
    async with gateway(upstream, FULL, FULL) as (_, url), openai_client(url) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(**CHAT, stream=True)]
        whole = await client.chat.completions.create(**CHAT)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert (chunks[-1].choices[0].finish_reason, chunks[-1].lathe) == ("tool_calls", DECISION)
    assert whole.choices[0].message.tool_calls[1].function.arguments == '{"cmd": "pwd"}'
    assert (whole.usage.total_tokens, whole.lathe) == (540, DECISION)


async def test_chat_reasoning_of_another_wire_comes_back_as_details() -> None:
    step = Step(say=(Thought("Hm.", "SIGNATURE"), Call("shell", '{"cmd": "ls"}', "c1")))
    async with gateway("messages", step, Step(say=(Words("Done."),))) as (server, url), openai_client(url) as client:
        first = (await client.chat.completions.create(**CHAT)).choices[0].message
        history = [*CHAT["messages"], first.to_dict(), {"role": "tool", "tool_call_id": "c1", "content": "a.py"}]
        await client.chat.completions.create(**{**CHAT, "messages": history})
    content = server.requests[1].json()["messages"][1]["content"]
    assert content[0] == {"type": "thinking", "thinking": "Hm.", "signature": "SIGNATURE"}


@every_upstream
async def test_chat_that_is_cut_or_refused(upstream: Wire) -> None:
    steps = (Step(say=(Words("On and"),), stop="length"), Step(say=(Refuse("I won't."),)))
    async with gateway(upstream, *steps) as (_, url), openai_client(url) as client:
        cut = await client.chat.completions.create(**CHAT)
        refused = (await client.chat.completions.create(**CHAT)).choices[0]
    assert cut.choices[0].finish_reason == "length"
    shown = (refused.finish_reason, refused.message.content, refused.message.refusal)
    # Messages tells only at its end that the words were a refusal.
    assert shown == (("content_filter", "I won't.", None) if upstream == "messages" else ("stop", None, "I won't."))


# Messages


@every_upstream
async def test_messages_stream(upstream: Wire) -> None:
    async with (
        gateway(upstream, FULL) as (_, url),
        anthropic_client(url) as client,
        client.messages.stream(**MESSAGES) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_message()
    assert "".join(event.text for event in events if event.type == "text") == "Let me see: ünïcode 🦀."
    kinds = [block.type for block in final.content]
    # Chat tells the opaque part of reasoning only at its end.
    late = ["redacted_thinking"] if upstream == "chat" else []
    assert kinds == ["thinking", "text", *late, "tool_use", "tool_use"]
    assert final.content[0].thinking == "I should look."
    assert final.content[0].signature
    assert [block.input for block in final.content[-2:]] == [{"cmd": "ls"}, {"cmd": "pwd"}]
    assert final.stop_reason == "tool_use"
    usage = final.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (400, 100, 40)
    assert next(event.lathe for event in events if event.type == "message_delta") == DECISION


@every_upstream
async def test_messages_thinking_goes_back_to_whoever_thought_it(upstream: Wire) -> None:
    if upstream == "chat":
        step = Step(say=(Thought("Hm."), Call("shell", '{"cmd": "ls"}', "c1")))
    else:
        step = Step(say=(Thought("Hm.", "OPAQUE=="), Call("shell", '{"cmd": "ls"}', "c1")))
    async with gateway(upstream, step, Step(say=(Words("Done."),))) as (server, url), anthropic_client(url) as client:
        first = await client.messages.create(**MESSAGES)
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "a.py"}]}
        answer = {"role": "assistant", "content": [block.to_dict() for block in first.content]}
        second = await client.messages.create(**{**MESSAGES, "messages": [*MESSAGES["messages"], answer, result]})
        assert second.content[0].text == "Done."
        assert second.lathe == DECISION
    body = server.requests[1].json()
    if upstream == "chat":
        assert body["messages"][1]["reasoning_content"] == "Hm."
    elif upstream == "responses":
        assert body["input"][1]["encrypted_content"] == "OPAQUE=="
    else:
        assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "OPAQUE=="}


@every_upstream
async def test_messages_that_are_cut_or_refused(upstream: Wire) -> None:
    steps = (Step(say=(Words("On and"),), stop="length"), Step(say=(Refuse("I won't."),)))
    async with gateway(upstream, *steps) as (_, url), anthropic_client(url) as client:
        cut = await client.messages.create(**MESSAGES)
        refused = await client.messages.create(**MESSAGES)
    assert cut.stop_reason == "max_tokens"
    assert (refused.stop_reason, refused.content[0].text) == ("refusal", "I won't.")


# Errors


@pytest.mark.parametrize(
    ("kind", "openai_error", "anthropic_error", "code"),
    [
        ("rate_limit", openai.RateLimitError, anthropic.RateLimitError, "rate_limit_exceeded"),
        ("context_length", openai.BadRequestError, anthropic.BadRequestError, "context_length_exceeded"),
        ("overloaded", openai.InternalServerError, anthropic.InternalServerError, "server_is_overloaded"),
        ("server", openai.InternalServerError, anthropic.InternalServerError, "upstream_server_error"),
        ("auth", openai.InternalServerError, anthropic.InternalServerError, "upstream_key"),
        ("quota", openai.InternalServerError, anthropic.InternalServerError, "upstream_quota"),
        ("not_found", openai.InternalServerError, anthropic.InternalServerError, "upstream_model_missing"),
        ("timeout", openai.InternalServerError, anthropic.InternalServerError, "upstream_timeout"),
    ],
)
@every_upstream
async def test_an_upstreams_error_is_the_callers_own_kind(
    upstream: Wire, kind: Any, openai_error: type[Exception], anthropic_error: type[Exception], code: str
) -> None:
    step = Step(error=kind, headers={"retry-after": "7"})
    async with gateway(upstream, step, step, step) as (_, url), openai_client(url) as client:
        with pytest.raises(openai_error) as first:
            await client.responses.create(**RESPONSES, stream=True)
        with pytest.raises(openai_error) as second:
            await client.chat.completions.create(**CHAT)
        async with anthropic_client(url) as other:
            with pytest.raises(anthropic_error) as third:
                await other.messages.create(**MESSAGES)
    for caught in (first.value, second.value):
        assert isinstance(caught, openai.APIStatusError)
        assert caught.code == code
        assert caught.body["lathe"]["code"] == code
    assert isinstance(third.value, anthropic.APIStatusError)
    assert third.value.body["error"]["lathe"]["code"] == code
    if kind == "rate_limit":
        assert third.value.response.headers["retry-after"] == "7"
        assert "try again in 7s" in str(first.value)
    if kind == "context_length":
        assert "prompt is too long" in str(third.value)


@every_upstream
async def test_an_error_in_mid_stream_is_raised(upstream: Wire) -> None:
    step = Step(say=(Words("Half"),), error="overloaded", in_stream=True)
    async with gateway(upstream, step, step, step) as (_, url), openai_client(url) as client:
        with pytest.raises(openai.APIError, match="overloaded"):
            async with client.responses.stream(**RESPONSES) as stream:
                [event async for event in stream]
        with pytest.raises(openai.APIError, match="overloaded"):
            async with client.chat.completions.stream(**CHAT) as chunks:
                [chunk async for chunk in chunks]
        async with anthropic_client(url) as other:
            with pytest.raises(anthropic.APIStatusError, match="overloaded"):
                async with other.messages.stream(**MESSAGES) as blocks:
                    [block async for block in blocks]


async def test_what_another_wire_cannot_do_is_said() -> None:
    async with gateway("messages") as (server, url), openai_client(url) as client:
        with pytest.raises(openai.BadRequestError, match="`n` exists on Chat Completions only") as caught:
            await client.chat.completions.create(**CHAT, n=2)
        assert caught.value.param == "n"
        with pytest.raises(openai.BadRequestError, match="'web_search' exists on the Responses API only"):
            await client.responses.create(**{**RESPONSES, "tool_choice": {"type": "web_search"}})
        assert server.requests == []


async def test_how_an_answer_is_made_is_carried_over() -> None:
    chosen = {"type": "function", "function": {"name": "shell"}}
    asked = {"tool_choice": chosen, "temperature": 0.5, "stop": ["END"], "safety_identifier": "u1"}
    async with gateway("messages", Step()) as (server, url), openai_client(url) as client:
        await client.chat.completions.create(**CHAT, **asked, max_completion_tokens=77, parallel_tool_calls=False)
    body = server.requests[0].json()
    assert body["tool_choice"] == {"type": "tool", "name": "shell", "disable_parallel_tool_use": True}
    assert (body["temperature"], body["stop_sequences"], body["max_tokens"]) == (0.5, ["END"], 77)
    assert body["metadata"] == {"user_id": "u1"}
    assert body["system"][0]["text"] == "Be brief."
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    async with gateway("responses", Step()) as (server, url), openai_client(url) as client:
        await client.chat.completions.create(**CHAT, response_format=form, tool_choice="required", verbosity="low")
    body = server.requests[0].json()
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        "verbosity": "low",
    }
    assert body["tool_choice"] == "required"
    assert json.loads(server.requests[0].body)["instructions"] == "Be brief."
