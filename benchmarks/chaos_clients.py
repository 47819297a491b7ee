"""Clients of the chaos benchmark: the vendors' own libraries, and what each of them saw of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple, TypeAlias

import anthropic
import httpx2
import openai

from lathe.models.script import Wire

Kind: TypeAlias = Literal["complete", "refused", "broken", "left", "silent", "foreign"]
_NUMBER = re.compile(r"answer (\d+):")
TIMEOUT_S = 40.0


class Outcome(NamedTuple):
    """What a client saw of one request.

    `complete`: all of it, with the `number` of the upstream's answer and its usage. `refused`: an error in place of
    one. `broken`: an error of the library's own within it. `left`: the client went away itself. `silent`: it ended
    before its end, without an error. `foreign`: something was raised that is no error of the library's. `at` is
    seconds of `time.time`, `replica` the number of the gateway that was asked.
    """

    kind: Kind
    replica: int
    at: float
    wire: Wire
    stream: bool
    request: str = ""
    number: int = -1
    usage: tuple[int, int] = (-1, -1)
    error: str = ""


class _Seen:
    """What has come of an answer so far."""

    def __init__(self) -> None:
        self.request = ""
        self.text = ""
        self.usage = (-1, -1)
        self.complete = False


class Client:
    """One caller at one replica: asks, waits a little, asks again."""

    def __init__(self, number: int, replica: int, url: str, key: str, seed: int) -> None:
        self.wire: Wire = ("chat", "responses", "messages")[number % 3]  # type: ignore[assignment]
        self._draw = random.Random(seed * 1000 + number)
        self._replica = replica
        self._client: Any
        if self.wire == "messages":
            self._client = anthropic.AsyncAnthropic(api_key=key, base_url=url, max_retries=0)
        else:
            self._client = openai.AsyncOpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)

    async def run(self, until: float, outcomes: list[Outcome]) -> None:
        """Ask until `time.monotonic` is past `until`."""
        async with self._client:
            while time.monotonic() < until:
                outcome = await self.ask()
                outcomes.append(outcome)
                down = outcome.kind == "refused" and not outcome.request
                await asyncio.sleep(0.5 if down else self._draw.uniform(0.02, 0.2))

    async def ask(self) -> Outcome:
        """Ask once."""
        stream, leaves = self._draw.random() < 0.75, self._draw.random() < 0.05
        seen = _Seen()
        kind: Kind = "refused"
        error = ""
        try:
            async with contextlib.aclosing(self._events(seen, stream)) as events:
                async for _ in events:
                    kind = "broken"
                    if leaves and stream:
                        break
            kind = "complete" if seen.complete else "left" if leaves and stream else "silent"
        except (openai.APIStatusError, anthropic.APIStatusError) as raised:
            seen.request = seen.request or raised.response.headers.get("x-request-id", "")
            error = f"{raised.status_code} {raised}"
        except (openai.APIError, anthropic.APIError, httpx2.TransportError) as raised:
            # The libraries let what httpx2 raises within a stream through as it is.
            error = f"{type(raised).__name__}: {raised}"
        except Exception as raised:
            kind, error = "foreign", f"{type(raised).__name__}: {raised}"
        number = _NUMBER.search(seen.text)
        return Outcome(
            kind,
            self._replica,
            time.time(),
            self.wire,
            stream,
            seen.request,
            int(number[1]) if number else -1,
            seen.usage,
            error[:300],
        )

    async def _events(self, seen: _Seen, stream: bool) -> AsyncGenerator[None, None]:
        """Yield once for each event; `seen` is what has come by then."""
        asked: Any = {"model": f"chaos-{self.wire}", "timeout": TIMEOUT_S}
        told: Any = [{"role": "user", "content": "go"}]
        if self.wire == "chat":
            create, asked = self._client.chat.completions.with_raw_response.create, asked | {"messages": told}
            if stream:
                asked["stream_options"] = {"include_usage": True}
        elif self.wire == "responses":
            create, asked = self._client.responses.with_raw_response.create, asked | {"input": told, "store": False}
        else:
            create = self._client.messages.with_raw_response.create
            asked |= {"messages": told, "max_tokens": 1000}
        raw = await create(stream=stream, **asked)
        seen.request = raw.headers.get("x-request-id", "")
        parsed = raw.parse()
        if asyncio.iscoroutine(parsed):
            parsed = await parsed
        if not stream:
            _WHOLE[self.wire](seen, parsed)
            seen.complete = True
            yield
            return
        async with parsed:
            async for event in parsed:
                _EVENT[self.wire](seen, event)
                yield


def _chat_whole(seen: _Seen, answer: Any) -> None:
    seen.text = answer.choices[0].message.content
    seen.usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def _chat_event(seen: _Seen, chunk: Any) -> None:
    for choice in chunk.choices:
        seen.text += choice.delta.content or ""
        seen.complete = seen.complete or choice.finish_reason is not None
    if chunk.usage is not None:
        seen.usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


def _responses_whole(seen: _Seen, answer: Any) -> None:
    seen.text = answer.output_text
    seen.usage = (answer.usage.input_tokens, answer.usage.output_tokens)


def _responses_event(seen: _Seen, event: Any) -> None:
    if event.type == "response.output_text.delta":
        seen.text += event.delta
    elif event.type == "response.completed":
        _responses_whole(seen, event.response)
        seen.complete = True


def _messages_whole(seen: _Seen, answer: Any) -> None:
    seen.text = answer.content[0].text
    seen.usage = (answer.usage.input_tokens, answer.usage.output_tokens)


def _messages_event(seen: _Seen, event: Any) -> None:
    if event.type == "content_block_delta":
        seen.text += event.delta.text
    elif event.type == "message_start":
        seen.usage = (event.message.usage.input_tokens, -1)
    elif event.type == "message_delta":
        seen.usage = (seen.usage[0], event.usage.output_tokens)
    elif event.type == "message_stop":
        seen.complete = True


_WHOLE = {"chat": _chat_whole, "responses": _responses_whole, "messages": _messages_whole}
_EVENT = {"chat": _chat_event, "responses": _responses_event, "messages": _messages_event}
