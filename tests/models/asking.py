"""Clients for loopback servers, and what one request of theirs gave."""

from __future__ import annotations

from typing import Any, NamedTuple

from loopback import sse

from lathe.models.base import (
    Completed,
    ItemDone,
    ModelClient,
    ModelRequest,
    RetryScheduled,
    TextDelta,
    ToolSpec,
    Transcript,
)
from lathe.models.catalogue import ModelInfo
from lathe.models.provider import Provider, WireName, open_client
from lathe.models.retry import RetryPolicy
from lathe.protocol.items import Item, user_message

QUICK = RetryPolicy(attempts=4, base_s=0.001, most_s=0.002)
PATCH = ToolSpec("apply_patch", "Edits files.", {"type": "object"}, freeform=True, grammar="start: /.+/")
SHELL = ToolSpec("shell", "Runs.", {"type": "object", "properties": {"cmd": {"type": "string"}}})


class Outcome(NamedTuple):
    """`items` are those of the answer that counts, `text` every delta since the last retry."""

    items: list[Item]
    completed: Completed
    retries: list[RetryScheduled]
    text: str


def client_of(
    url: str,
    wire: WireName = "chat",
    *,
    quirks: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    model: ModelInfo | None = None,
    retry: RetryPolicy = QUICK,
    idle_timeout_s: float = 30.0,
    **fields: Any,
) -> ModelClient:
    provider = Provider("local", url, wire, quirks=quirks or {}, **fields)
    return open_client(
        provider, model or ModelInfo("m"), environ=environ or {}, retry=retry, idle_timeout_s=idle_timeout_s
    )


def a_request(*items: Item, **fields: Any) -> ModelRequest:
    fields.setdefault("tools", (SHELL, PATCH))
    return ModelRequest(
        instructions="Be brief.", transcript=Transcript(items or (user_message("Hi."),)), thread_id="t1", **fields
    )


async def ask(client: ModelClient, request: ModelRequest | None = None) -> Outcome:
    items: list[Item] = []
    retries: list[RetryScheduled] = []
    text = ""
    completed = None
    async for part in client.stream(request or a_request()):
        match part:
            case ItemDone(item):
                items.append(item)
            case TextDelta(delta):
                text += delta
            case RetryScheduled():
                items.clear()
                text = ""
                retries.append(part)
            case Completed():
                completed = part
    assert completed is not None
    return Outcome(items, completed, retries, text)


async def ask_once(url: str, wire: WireName = "chat", request: ModelRequest | None = None, **options: Any) -> Outcome:
    client = client_of(url, wire, **options)
    try:
        return await ask(client, request)
    finally:
        await client.aclose()


HELLO: dict[WireName, bytes] = {
    "responses": sse(
        {"type": "response.created", "response": {"id": "r1", "model": "m"}},
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {
            "type": "response.output_item.done",
            "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
        },
        {
            "type": "response.completed",
            "response": {"id": "r1", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 2}},
        },
    ),
    "chat": sse(
        {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
        {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": {"content": "lo"}}]},
        {"id": "r1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "r1", "model": "m", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
        "[DONE]",
    ),
    "messages": sse(
        {"type": "message_start", "message": {"id": "r1", "model": "m", "usage": {"input_tokens": 7}}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ),
}
WIRES: tuple[WireName, ...] = ("responses", "chat", "messages")
