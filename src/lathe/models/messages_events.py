"""Writes Messages answers: blocks with an index, usage at both ends; and the whole.

The form is that of docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lathe.models.sse import sse_event
from lathe.protocol.usage import Usage

TEXT: Mapping[str, Any] = {"type": "text", "text": ""}
THINKING: Mapping[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


class MessagesEvents:
    """One answer; `events` are those not yet taken."""

    def __init__(self, message_id: str, model: str) -> None:
        self.events: list[bytes] = []
        self.content: list[dict[str, Any]] = []
        self._head: dict[str, Any] = {"id": message_id, "type": "message", "role": "assistant", "model": model}
        self._words: list[str] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Add an event."""
        self.events.append(sse_event(kind, {"type": kind, **fields}))

    def begin(self, usage: Usage) -> None:
        """Add what every stream begins with; `usage` is what is known of the input."""
        counts = {**usage_of(usage), "output_tokens": min(usage.output_tokens, 1)}
        ends: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        self.emit("message_start", message={**self._head, **ends, "usage": counts})
        self.emit("ping")

    def open(self, block: Mapping[str, Any]) -> None:
        """Begin a block, as `block`."""
        self.emit("content_block_start", index=len(self.content), content_block=block)
        self.content.append(dict(block))
        self._words = []

    def say(self, text: str) -> None:
        """Add words to the block at hand, of text or of thinking."""
        kind, field = _DELTAS[self.content[-1]["type"]]
        self._words.append(text)
        self._delta({"type": kind, field: text})

    def close(self, signature: str = "") -> None:
        """End the block at hand; `signature` is that of thinking."""
        block = self.content[-1]
        if block["type"] in _DELTAS:
            block[_DELTAS[block["type"]][1]] = "".join(self._words)
        if signature:
            self._delta({"type": "signature_delta", "signature": signature})
            block["signature"] = signature
        self.emit("content_block_stop", index=len(self.content) - 1)

    @property
    def text(self) -> str:
        """The words of the block at hand."""
        return "".join(self._words)

    def whole(self, block: Mapping[str, Any]) -> None:
        """Add a block of any other type, as it is."""
        self.open(block)
        self.close()

    def call(self, call_id: str, name: str, arguments: str, pieces: Iterable[str]) -> None:
        """Add a call; `pieces` are what `arguments` comes in."""
        self.open({"type": "tool_use", "id": call_id, "name": name, "input": {}})
        # The API sends one empty delta first, and nothing more for a call without arguments.
        for piece in ["", *(() if arguments == "{}" else pieces)]:
            self._delta({"type": "input_json_delta", "partial_json": piece})
        with contextlib.suppress(msgspec.DecodeError):
            self.content[-1]["input"] = msgspec.json.decode(arguments, type=dict[str, Any])
        self.close()

    def end(
        self, stop: str, counts: Mapping[str, Any], usage: Usage, *, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Add the last events and return the whole message.

        `counts` is what of the usage the stream's end tells; `extra` are fields of `message_delta` and the whole.
        """
        delta: dict[str, Any] = {"stop_reason": stop, "stop_sequence": None}
        if stop == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
        self.emit("message_delta", **(extra or {}), delta=delta, usage=counts)
        self.emit("message_stop")
        return {**(extra or {}), **self._head, **delta, "content": self.content, "usage": usage_of(usage)}

    def _delta(self, delta: dict[str, Any]) -> None:
        self.emit("content_block_delta", index=len(self.content) - 1, delta=delta)


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return `usage` as a message tells it: what came from the cache, and went there, beside the rest."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_output_tokens},
    }
