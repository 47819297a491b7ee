"""Runs a scripted turn through a wire's client and keeps what came and what was sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, NamedTuple, TypeAlias

from models.turns import TOOLS, Turn

from lathe.models.base import (
    Completed,
    ItemDone,
    ModelClient,
    ModelRequest,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
    Transcript,
)
from lathe.models.catalogue import ModelInfo
from lathe.models.provider import Provider, open_client
from lathe.models.retry import RetryPolicy
from lathe.models.script import Wire
from lathe.models.scripted import RecordedRequest, ScriptedServer
from lathe.protocol.errors import LatheError
from lathe.protocol.items import CustomToolCall, FunctionCall, Item, output_for

QUIRKS: dict[Wire, dict[str, Any]] = {
    "responses": {},
    "chat": {},
    "messages": {"thinking": "adaptive", "cache": "auto"},
}

Between: TypeAlias = Callable[[str], AbstractAsyncContextManager[str]]


class Answer(NamedTuple):
    """One answer: `text` and `thinking` are the deltas since the last retry, joined."""

    items: list[Item]
    completed: Completed
    text: str
    thinking: str
    retries: int


class Drive(NamedTuple):
    """`sent[n]` are the items that request `n` carried; a retry carries the same as the one before it."""

    answers: list[Answer]
    requests: list[RecordedRequest]
    sent: list[list[Item]]
    error: LatheError | None
    retries: int


def client_for(
    wire: Wire, base_url: str, quirks: dict[str, Any] | None = None, idle_timeout_s: float = 30.0
) -> ModelClient:
    chosen = QUIRKS[wire] if quirks is None else quirks
    provider = Provider("scripted", base_url, wire, quirks=chosen)
    retry = RetryPolicy(attempts=3, base_s=0.001, most_s=0.01)
    return open_client(provider, ModelInfo("scripted-1"), environ={}, retry=retry, idle_timeout_s=idle_timeout_s)


def request_of(turn: Turn, transcript: Transcript) -> ModelRequest:
    return ModelRequest(
        instructions="You are tested.", tools=TOOLS, transcript=transcript, thread_id="t-1", output_schema=turn.schema
    )


async def ask(client: ModelClient, request: ModelRequest) -> Answer:
    """Return one whole answer; what a failed try said is forgotten, as `RetryScheduled` asks."""
    items: list[Item] = []
    text: list[str] = []
    thinking: list[str] = []
    retries = 0
    completed: Completed | None = None
    async for part in client.stream(request):
        assert completed is None, "Completed is the last part"
        match part:
            case ItemDone(item):
                items.append(item)
            case TextDelta(delta):
                text.append(delta)
            case ReasoningDelta(delta):
                thinking.append(delta)
            case RetryScheduled():
                retries += 1
                for parts in (items, text, thinking):
                    parts.clear()
            case Completed():
                completed = part
    assert completed is not None
    return Answer(items, completed, "".join(text), "".join(thinking), retries)


async def drive(turn: Turn, wire: Wire, between: Between = nullcontext) -> Drive:
    """Return the turn's run on `wire`; `between` may put a gateway before the address of the server."""
    answers: list[Answer] = []
    sent: list[list[Item]] = []
    error: LatheError | None = None
    transcript = Transcript(turn.begin)
    async with ScriptedServer(turn.steps) as server, between(server.base_url) as url:
        client = client_for(wire, url)
        try:
            while len(server.requests) < len(turn.steps):
                asked = list(transcript.items)
                answer = await ask(client, request_of(turn, transcript))
                sent += [asked] * (len(server.requests) - len(sent))
                answers.append(answer)
                transcript.append(answer.items)
                for item in answer.items:
                    if isinstance(item, FunctionCall | CustomToolCall):
                        transcript.append([output_for(item, turn.answers.get(item.call_id, "ok"))])
                transcript.append(turn.then[len(answers) - 1] if len(answers) <= len(turn.then) else ())
        except LatheError as failure:
            error = failure
            sent += [list(transcript.items)] * (len(server.requests) - len(sent))
        finally:
            await client.aclose()
    retries = len(server.requests) - len(answers) - (1 if error else 0)
    return Drive(answers, server.requests, sent, error, retries)
