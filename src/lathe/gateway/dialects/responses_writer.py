"""Answers for callers of the Responses API."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from lathe.gateway.dialects.base import Inbound, function_arguments
from lathe.gateway.dialects.errors import error_object
from lathe.gateway.dialects.reasoning import opaque_part, text_of_thought
from lathe.gateway.dialects.responses import Spaced, spaced_tools
from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.responses_events import OpenMessage, OpenThought, ResponsesEvents, refusal_part, text_part
from lathe.models.wire import dumps
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    Refusal,
    ToolCall,
)
from lathe.protocol.usage import Usage

_ECHOED = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
)


class ResponsesWriter:
    """Writes one answer. Reasoning and a message may be open at once: some upstreams end both at their end."""

    def __init__(self, inbound: Inbound, response_id: str, model: str) -> None:
        echoed = {name: inbound.raw[name] for name in _ECHOED if inbound.raw.get(name) is not None}
        own = {"id": response_id, "created_at": int(time.time()), "model": model}
        self._out = ResponsesEvents(response_id.removeprefix("resp_"), {**echoed, **own})
        self._freeform = inbound.freeform
        self._spaced = spaced_tools(inbound.raw)
        self._message: OpenMessage | None = None
        self._thought: OpenThought | None = None
        self._refused = False
        self._done = Completed(usage=Usage())

    def begin(self) -> bytes:
        self._out.begin()
        return self._taken()

    def feed(self, part: ModelPart) -> bytes:
        match part:
            case TextDelta(text=text, refusal=refusal):
                self._message = self._message or self._out.message()
                self._message.say(text, refusal=refusal)
            case ReasoningDelta(text=text):
                self._thought = self._thought or self._out.thought()
                self._thought.say(text)
            case ItemDone(item=item):
                self._item(item)
            case Completed():
                self._done = part
        return self._taken()

    def end(self, extension: Mapping[str, Any]) -> bytes:
        self._finish(extension)
        return self._taken()

    def fail(self, status: int, code: str, message: str, extra: Mapping[str, Any] | None = None) -> bytes:
        # The field `error` beside the response is what the `openai` package raises; Codex looks into the response.
        self._out.fail(code, message, error=error_object("responses", status, code, message, extra=extra))
        return self._taken()

    def whole(self, parts: Iterable[ModelPart], extension: Mapping[str, Any]) -> bytes:
        for part in parts:
            self.feed(part)
        return dumps(self._finish(extension))

    def _finish(self, extension: Mapping[str, Any]) -> dict[str, Any]:
        if self._thought is not None:
            self._thought.done(None)
        if self._message is not None:
            self._message.done()
        incomplete = ""
        if self._done.stop == "length":
            incomplete = "max_output_tokens"
        elif self._done.stop == "refusal" and not self._refused:
            incomplete = "content_filter"
        return self._out.end(self._done.usage, incomplete=incomplete, extra={"lathe": extension})

    def _item(self, item: Item) -> None:
        match item:
            case Message():
                self._end_message(item)
            case Reasoning():
                self._end_thought(item)
            case FunctionCall() | CustomToolCall():
                self._call(item)
            case OpaqueItem(raw=raw, source="responses"):
                self._out.whole(raw)

    def _call(self, call: ToolCall) -> None:
        freeform = isinstance(call, CustomToolCall) and call.name in self._freeform
        text = call.input if isinstance(call, CustomToolCall) and freeform else function_arguments(call)
        spaced = self._spaced.get(call.name) or Spaced("", call.name)
        self._out.call(call.call_id, spaced.name, [text], freeform=freeform, namespace=spaced.namespace)

    def _end_message(self, item: Message) -> None:
        content: list[dict[str, Any]] = []
        message = self._message or self._out.message()
        for part in item.content:
            if isinstance(part, InputImage):
                continue
            refusal = isinstance(part, Refusal)
            text = part.refusal if isinstance(part, Refusal) else part.text
            self._refused |= refusal
            content.append(refusal_part(text) if refusal else text_part(text))
            if self._message is None:
                message.part(refusal=refusal)
                message.say(text, refusal=refusal)
        message.done(content=content)
        self._message = None

    def _end_thought(self, item: Reasoning) -> None:
        thought = self._thought or self._out.thought()
        text = text_of_thought(item)
        if self._thought is None and text:
            thought.say(text)
        thought.done(opaque_part(item, "responses"))
        self._thought = None

    def _taken(self) -> bytes:
        taken = b"".join(self._out.events)
        self._out.events.clear()
        return taken
