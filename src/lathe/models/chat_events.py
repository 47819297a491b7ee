"""Writes Chat Completions answers: chunks with one choice, a usage chunk, `[DONE]`; and the whole.

The form is that of platform.openai.com/docs/api-reference/chat/streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lathe.models.sse import sse_event
from lathe.protocol.usage import Usage


class ChatEvents:
    """One answer; `events` are those not yet taken."""

    def __init__(self, completion_id: str, model: str, created: int) -> None:
        self.events: list[bytes] = []
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self._head = {"id": completion_id, "created": created, "model": model}
        self._calls: list[dict[str, Any]] = []

    def data(self, payload: Mapping[str, Any]) -> None:
        """Add an event with `payload` as its data."""
        self.events.append(sse_event("", payload))

    def begin(self) -> None:
        """Add what every stream begins with."""
        self._delta({"role": "assistant", "content": ""})

    def say(self, text: str, field: str = "content") -> None:
        """Add words of the message's `field`: `content`, `refusal`, or what the endpoint calls its reasoning."""
        self._delta({field: text})
        self.message[field] = (self.message.get(field) or "") + text

    def details(self, details: list[dict[str, Any]]) -> None:
        """Add reasoning details: OpenRouter's form of what is sent back as it came ("Reasoning Tokens")."""
        self._delta({"reasoning_details": details})
        self.message["reasoning_details"] = [*self.message.get("reasoning_details", ()), *details]

    def call(self, call_id: str, name: str, pieces: Iterable[str], *, freeform: bool = False) -> None:
        """Add a call whose arguments, or text, come in `pieces`."""
        kind, field = ("custom", "input") if freeform else ("function", "arguments")
        at = len(self._calls)
        self._delta({"tool_calls": [{"index": at, "id": call_id, "type": kind, kind: {"name": name, field: ""}}]})
        text = ""
        for piece in pieces:
            text += piece
            self._delta({"tool_calls": [{"index": at, kind: {field: piece}}]})
        self._calls.append({"id": call_id, "type": kind, kind: {"name": name, field: text}})

    def end(
        self,
        usage: Usage | None,
        *,
        finish: str = "",
        with_usage: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Add the last chunks and return the whole completion.

        `finish` is the reason where it is neither that calls were made nor that all was said. `extra` are fields of
        the last chunk: the one with the usage, where `with_usage` asks for it.
        """
        finish = finish or ("tool_calls" if self._calls else "stop")
        counts = None if usage is None else usage_of(usage)
        with_usage = with_usage and counts is not None
        self._delta({}, finish, None if with_usage else extra)
        if with_usage:
            self.data({**(extra or {}), **self._chunk(), "choices": [], "usage": counts})
        self.events.append(b"data: [DONE]\n\n")
        if self._calls:
            self.message["tool_calls"] = self._calls
        choice = {"index": 0, "message": self.message, "finish_reason": finish, "logprobs": None}
        head = {**self._head, "object": "chat.completion"}
        return {**(extra or {}), **head, "choices": [choice], "usage": counts}

    def _chunk(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _delta(self, delta: dict[str, Any], finish: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self.data({**(extra or {}), **self._chunk(), "choices": [choice]})


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return `usage` as a completion tells it."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
    }
