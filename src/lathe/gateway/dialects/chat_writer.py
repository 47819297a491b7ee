"""Answers for callers of Chat Completions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lathe.gateway.dialects.base import Inbound, function_arguments
from lathe.gateway.dialects.errors import error_event
from lathe.gateway.dialects.reasoning import sealed, text_of_thought
from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.chat_events import ChatEvents
from lathe.models.wire import dumps
from lathe.protocol.items import CustomToolCall, FunctionCall, InputImage, Item, Message, Reasoning, Refusal
from lathe.protocol.usage import Usage

SEALED = "reasoning.encrypted"
"""The type of a reasoning detail that holds what only the upstream can read."""


class ChatWriter:
    """Writes one answer. Reasoning is `reasoning_content`, and `reasoning_details` where it must come back."""

    def __init__(self, inbound: Inbound, response_id: str, model: str) -> None:
        self._out = ChatEvents(response_id, model, int(time.time()))
        self._with_usage = inbound.head.include_usage
        self._freeform = inbound.freeform
        self._said = self._thought = self._refused = False
        self._done = Completed(usage=Usage())

    def begin(self) -> bytes:
        self._out.begin()
        return self._taken()

    def feed(self, part: ModelPart) -> bytes:
        match part:
            case TextDelta(text=text, refusal=refusal):
                self._said = True
                self._refused |= refusal
                self._out.say(text, "refusal" if refusal else "content")
            case ReasoningDelta(text=text):
                self._thought = True
                self._out.say(text, "reasoning_content")
            case ItemDone(item=item):
                self._item(item)
            case Completed():
                self._done = part
        return self._taken()

    def end(self, extension: Mapping[str, Any]) -> bytes:
        self._finish(extension)
        return self._taken()

    def fail(self, status: int, code: str, message: str, extra: Mapping[str, Any] | None = None) -> bytes:
        return error_event("chat", status, code, message, extra=extra)

    def whole(self, parts: Iterable[ModelPart], extension: Mapping[str, Any]) -> bytes:
        for part in parts:
            self.feed(part)
        return dumps(self._finish(extension))

    def _finish(self, extension: Mapping[str, Any]) -> dict[str, Any]:
        finish = ""
        if self._done.stop == "length":
            finish = "length"
        elif self._done.stop == "refusal" and not self._refused:
            finish = "content_filter"
        return self._out.end(self._done.usage, finish=finish, with_usage=self._with_usage, extra={"lathe": extension})

    def _item(self, item: Item) -> None:
        match item:
            case Message():
                self._end_message(item)
            case Reasoning():
                text = text_of_thought(item)
                if text and not self._thought:
                    self._out.say(text, "reasoning_content")
                self._thought = False
                if details := _details(item):
                    self._out.details(details)
            case CustomToolCall(call_id=call_id, name=name, input=text) if name in self._freeform:
                self._out.call(call_id, name, [text], freeform=True)
            case FunctionCall() | CustomToolCall():
                self._out.call(item.call_id, item.name, [function_arguments(item)])

    def _end_message(self, item: Message) -> None:
        for part in () if self._said else item.content:
            if isinstance(part, Refusal):
                self._refused = True
                self._out.say(part.refusal, "refusal")
            elif not isinstance(part, InputImage):
                self._out.say(part.text)
        self._said = False

    def _taken(self) -> bytes:
        taken = b"".join(self._out.events)
        self._out.events.clear()
        return taken


def _details(item: Reasoning) -> list[dict[str, Any]]:
    """Return what must come back of `item`; text alone comes back as text, where it does at all."""
    if item.source != "chat":
        return [{"type": SEALED, "data": sealed(item)}] if item.encrypted_content else []
    try:
        return msgspec.json.decode(item.encrypted_content or "[]", type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return []
