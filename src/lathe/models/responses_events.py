"""Writes Responses answers: the events of a stream, and the whole.

The event sequences follow platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lathe.models.sse import sse_event
from lathe.protocol.usage import Usage

EMPTY_RESPONSE: Mapping[str, Any] = {
    "object": "response",
    "created_at": 0,
    "status": "in_progress",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "",
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
}
"""A response as it begins, with what the API says where nobody asked for anything else."""


class ResponsesEvents:
    """One answer. Every event has a sequence number and its type twice; `events` are those not yet taken.

    `tag` makes the ids of items; `response` are the fields in which this answer's response is its own.
    """

    def __init__(self, tag: str, response: Mapping[str, Any]) -> None:
        self.events: list[bytes] = []
        self.sequence = 0
        self._tag = tag
        self._response = {**EMPTY_RESPONSE, **response}
        self._items: list[dict[str, Any]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Add an event."""
        self.events.append(sse_event(kind, {"type": kind, "sequence_number": self.sequence, **fields}))
        self.sequence += 1

    def begin(self) -> None:
        """Add what every stream begins with."""
        self.emit("response.created", response=self._response)
        self.emit("response.in_progress", response=self._response)

    def message(self) -> OpenMessage:
        """Begin a message."""
        return OpenMessage(self, *self._place("msg"))

    def thought(self, encrypted: str | None = None) -> OpenThought:
        """Begin a reasoning item; `encrypted` is what of its opaque part is known."""
        return OpenThought(self, *self._place("rs"), encrypted)

    def call(self, call_id: str, name: str, pieces: Iterable[str], *, freeform: bool, namespace: str = "") -> None:
        """Add a call whose arguments, or text, come in `pieces`; `namespace` is that of its tool."""
        kind, field, prefix = ("custom_tool_call", "input", "ctc") if freeform else ("function_call", "arguments", "fc")
        event = "response.custom_tool_call_input" if freeform else "response.function_call_arguments"
        index, item_id = self._place(prefix)
        base = {"id": item_id, "type": kind, "call_id": call_id, "name": name}
        if namespace:
            base["namespace"] = namespace
        self.open(index, {**base, "status": "in_progress", field: ""})
        text = ""
        for piece in pieces:
            text += piece
            self.emit(f"{event}.delta", item_id=item_id, output_index=index, delta=piece)
        self.emit(f"{event}.done", item_id=item_id, output_index=index, **{field: text})
        self.close(index, {**base, "status": "completed", field: text})

    def whole(self, item: dict[str, Any]) -> None:
        """Add an item of any other type, as it is."""
        index, _ = self._place("item")
        self.open(index, item)
        self.close(index, item)

    def end(
        self, usage: Usage | None, *, incomplete: str = "", extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Add the last event and return its response; `incomplete` is the reason of an answer that is cut short."""
        status = "incomplete" if incomplete else "completed"
        response = {**(extra or {}), **self._response, "status": status, "output": self._items}
        response["usage"] = None if usage is None else usage_of(usage)
        if incomplete:
            response["incomplete_details"] = {"reason": incomplete}
        self.emit(f"response.{status}", response=response)
        return response

    def fail(self, code: str, message: str, **fields: Any) -> dict[str, Any]:
        """Add the event of an answer that failed and return its response; `fields` are the event's own besides."""
        response = {**self._response, "status": "failed", "error": {"code": code, "message": message}}
        self.emit("response.failed", response=response, **fields)
        return response

    def open(self, index: int, item: dict[str, Any]) -> None:
        """Say that an item begins, as `item`, at the place `index`."""
        self.emit("response.output_item.added", output_index=index, item=item)

    def close(self, index: int, item: dict[str, Any]) -> None:
        """Say that the item at `index` is whole."""
        self.emit("response.output_item.done", output_index=index, item=item)
        self._items[index] = item

    def _place(self, prefix: str) -> tuple[int, str]:
        index = len(self._items)
        self._items.append({})
        return index, f"{prefix}_{self._tag}_{index}"


class OpenMessage:
    """A message in the making."""

    def __init__(self, events: ResponsesEvents, index: int, item_id: str) -> None:
        self._events = events
        self._index = index
        self._base = {"id": item_id, "type": "message", "role": "assistant"}
        self._content: list[dict[str, Any]] = []
        self._words: list[str] | None = None
        self._refusal = False
        events.open(index, {**self._base, "status": "in_progress", "content": []})

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._base["id"], "output_index": self._index, "content_index": len(self._content)}

    def part(self, *, refusal: bool = False) -> None:
        """Begin a part of the content: text, or a refusal."""
        self._end_part()
        self._words, self._refusal = [], refusal
        self._events.emit("response.content_part.added", **self._where, part=_part("", refusal))

    def say(self, text: str, *, refusal: bool = False) -> None:
        """Add words to the part at hand, or to a new one where that is of another kind."""
        if self._words is None or self._refusal != refusal:
            self.part(refusal=refusal)
        assert self._words is not None
        self._words.append(text)
        if refusal:
            self._events.emit("response.refusal.delta", **self._where, delta=text)
        else:
            self._events.emit("response.output_text.delta", **self._where, delta=text, logprobs=[])

    def done(self, *, status: str = "completed", content: Sequence[dict[str, Any]] | None = None) -> None:
        """End the message; `content` is what it holds where that is not what was said piece by piece."""
        self._end_part()
        content = self._content if content is None else content
        self._events.close(self._index, {**self._base, "status": status, "content": content})

    def _end_part(self) -> None:
        if self._words is None:
            return
        text, where = "".join(self._words), self._where
        done = _part(text, self._refusal)
        if self._refusal:
            self._events.emit("response.refusal.done", **where, refusal=text)
        else:
            self._events.emit("response.output_text.done", **where, text=text, logprobs=[])
        self._events.emit("response.content_part.done", **where, part=done)
        self._content.append(done)
        self._words = None


class OpenThought:
    """A reasoning item in the making."""

    def __init__(self, events: ResponsesEvents, index: int, item_id: str, encrypted: str | None) -> None:
        self._events = events
        self._index = index
        self._base: dict[str, Any] = {"id": item_id, "type": "reasoning", "summary": []}
        self._words: list[str] = []
        self._raw = False
        events.open(index, self._base if encrypted is None else {**self._base, "encrypted_content": encrypted})

    @property
    def _where(self) -> dict[str, Any]:
        place = "content_index" if self._raw else "summary_index"
        return {"item_id": self._base["id"], "output_index": self._index, place: 0}

    @property
    def text(self) -> str:
        """What was thought so far."""
        return "".join(self._words)

    def say(self, text: str, *, raw: bool = False) -> None:
        """Add words: of the summary, or with `raw` of the reasoning itself."""
        self._raw = raw
        if not self._words and not raw:
            self._events.emit("response.reasoning_summary_part.added", **self._where, part=_summary(""))
        self._words.append(text)
        kind = "reasoning_text" if raw else "reasoning_summary_text"
        self._events.emit(f"response.{kind}.delta", **self._where, delta=text)

    def done(self, encrypted: str | None) -> None:
        """End the item; `encrypted` is its opaque part."""
        done, text = dict(self._base), self.text
        if encrypted is not None:
            done["encrypted_content"] = encrypted
        if text and self._raw:
            done["content"] = [{"type": "reasoning_text", "text": text}]
            self._events.emit("response.reasoning_text.done", **self._where, text=text)
        elif text:
            done["summary"] = [_summary(text)]
            self._events.emit("response.reasoning_summary_text.done", **self._where, text=text)
            self._events.emit("response.reasoning_summary_part.done", **self._where, part=_summary(text))
        self._events.close(self._index, done)


def _part(text: str, refusal: bool) -> dict[str, Any]:
    return refusal_part(text) if refusal else text_part(text)


def text_part(text: str) -> dict[str, Any]:
    """Return a message's part of words."""
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def refusal_part(text: str) -> dict[str, Any]:
    """Return a message's part of a refusal."""
    return {"type": "refusal", "refusal": text}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return `usage` as a response tells it."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
