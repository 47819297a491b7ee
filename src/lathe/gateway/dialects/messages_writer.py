"""Answers for callers of the Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lathe.gateway.dialects.errors import error_event
from lathe.gateway.dialects.reasoning import opaque_part, sealed, text_of_thought
from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.messages_events import TEXT, THINKING, MessagesEvents, usage_of
from lathe.models.provider import WireName
from lathe.models.wire import arguments_of, dumps
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    ReasoningText,
    Refusal,
)
from lathe.protocol.usage import Usage


class MessagesWriter:
    """Writes one answer, block after block: one is open at a time.

    An upstream that ends its reasoning only when all is said leaves thinking without its opaque part when the words
    begin. It is signed with what is known then, and what comes late is a redacted block of its own.
    """

    def __init__(self, response_id: str, model: str, upstream: WireName) -> None:
        self._out = MessagesEvents(response_id, model)
        self._upstream = upstream
        self._open = ""
        self._said = self._thought = self._called = False
        self._done = Completed(usage=Usage())

    def begin(self) -> bytes:
        self._out.begin(Usage())
        return self._taken()

    def feed(self, part: ModelPart) -> bytes:
        match part:
            case TextDelta(text=text):
                self._switch("text")
                self._said = True
                self._out.say(text)
            case ReasoningDelta(text=text):
                self._switch("thinking")
                self._thought = True
                self._out.say(text)
            case ItemDone(item=item):
                self._item(item)
            case Completed():
                self._done = part
        return self._taken()

    def end(self, extension: Mapping[str, Any]) -> bytes:
        self._finish(extension)
        return self._taken()

    def fail(self, status: int, code: str, message: str, extra: Mapping[str, Any] | None = None) -> bytes:
        return error_event("messages", status, code, message, extra=extra)

    def whole(self, parts: Iterable[ModelPart], extension: Mapping[str, Any]) -> bytes:
        for part in parts:
            self.feed(part)
        return dumps(self._finish(extension))

    def _finish(self, extension: Mapping[str, Any]) -> dict[str, Any]:
        self._switch("")
        stop = {"length": "max_tokens", "refusal": "refusal"}.get(self._done.stop, "")
        stop = stop or ("tool_use" if self._called else "end_turn")
        usage = self._done.usage
        return self._out.end(stop, usage_of(usage), usage, extra={"lathe": extension})

    def _switch(self, kind: str, signature: str = "") -> None:
        """End the open block unless it is of `kind`, and begin one."""
        if self._open == kind:
            return
        if self._open == "thinking":
            text = (ReasoningText(self._out.text),)
            self._out.close(signature or sealed(Reasoning(content=text, source=self._upstream)))
        elif self._open:
            self._out.close()
        if kind:
            self._out.open(TEXT if kind == "text" else THINKING)
        self._open = kind

    def _item(self, item: Item) -> None:
        match item:
            case Message():
                for part in () if self._said else item.content:
                    if not isinstance(part, InputImage):
                        self._switch("")
                        self._switch("text")
                        self._out.say(part.refusal if isinstance(part, Refusal) else part.text)
                self._said = False
                if self._open == "text":
                    self._switch("")
            case Reasoning():
                self._end_thought(item)
            case FunctionCall() | CustomToolCall():
                self._switch("")
                self._called = True
                arguments = arguments_of(item)
                self._out.call(item.call_id, item.name, arguments, [arguments])
            case OpaqueItem(raw=raw, source="messages"):
                self._switch("")
                self._out.whole(raw)

    def _end_thought(self, item: Reasoning) -> None:
        opaque = opaque_part(item, "messages")
        text = text_of_thought(item)
        late = self._thought and self._open != "thinking"
        if late:
            if item.encrypted_content:
                self._switch("")
                rest = Reasoning(encrypted_content=item.encrypted_content, source=item.source)
                self._out.whole({"type": "redacted_thinking", "data": sealed(rest)})
        elif self._thought or text or item.content:
            self._switch("thinking")
            if not self._thought and text:
                self._out.say(text)
            self._switch("", opaque or sealed(item))
        elif opaque:
            self._switch("")
            self._out.whole({"type": "redacted_thinking", "data": opaque})
        self._thought = False

    def _taken(self) -> bytes:
        taken = b"".join(self._out.events)
        self._out.events.clear()
        return taken
