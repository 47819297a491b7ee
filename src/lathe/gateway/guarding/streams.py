"""Streams that pass through, read along for the guard: words and calls out of events, and an end before their own.

Events are those of the vendors' references: chunks of Chat Completions, events of Messages and of Responses. Of each
only what is judged is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lathe.gateway.guarding.answers import AnswerWatch
from lathe.models.messages_events import usage_of as messages_usage
from lathe.models.provider import WireName
from lathe.models.responses_events import EMPTY_RESPONSE
from lathe.models.responses_events import usage_of as responses_usage
from lathe.models.sse import sse_event
from lathe.protocol.usage import Usage


class _Named(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Named | None = None
    custom: _Named | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""


class _BlockDelta(msgspec.Struct):
    text: str | None = None
    partial_json: str | None = None


class _MessagesEvent(msgspec.Struct):
    type: str = ""
    index: int = 0
    content_block: _Block | None = None
    delta: _BlockDelta | None = None


class _ResponsesEvent(msgspec.Struct):
    type: str = ""
    delta: Any = None
    item: dict[str, Any] | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_messages = msgspec.json.Decoder(_MessagesEvent)
_responses = msgspec.json.Decoder(_ResponsesEvent)


class _Open:
    """A call whose arguments are still to come."""

    def __init__(self, id: str, name: str) -> None:
        self.id = id
        self.name = name
        self.pieces: list[str] = []


class StreamWatch:
    """Reads one stream of `wire` along for `answer`; raises `Withheld` before an event goes on that must not."""

    def __init__(self, wire: WireName, answer: AnswerWatch) -> None:
        self._answer = answer
        self._calls: dict[int, _Open] = {}
        self._items: list[dict[str, Any]] = []
        self._look = {"chat": self._chat, "messages": self._messages, "responses": self._responses}[wire]
        self._wire = wire

    async def feed(self, block: bytes) -> None:
        """Take over whole events that are about to go on."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for event in block.split(b"\n\n"):
            at = event.find(b"data:")
            if at >= 0:
                data = event[at + 5 :] if event.find(b"\ndata:", at) < 0 else _joined(event)
                try:
                    await self._look(data)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue  # what is no JSON, or of another shape, ends the stream or says nothing

    async def end(self) -> None:
        """Say that no more comes but the end."""
        for call in self._calls.values():
            await self._whole(call)
        self._calls.clear()
        self._answer.end()

    def stop(self, *, model: str, response_id: str, usage: Usage, extension: Mapping[str, Any]) -> bytes:
        """Return the events that end the stream here, in this wire's own way of saying that the rest is withheld."""
        if self._wire == "chat":
            choice = {"index": 0, "delta": {}, "finish_reason": "content_filter"}
            chunk = {"id": response_id, "object": "chat.completion.chunk", "created": 0, "model": model}
            return sse_event("", {**chunk, "choices": [choice], "lathe": extension}) + b"data: [DONE]\n\n"
        if self._wire == "messages":
            delta = {"stop_reason": "refusal", "stop_sequence": None}
            ended = {"type": "message_delta", "delta": delta, "usage": messages_usage(usage), "lathe": extension}
            return sse_event("message_delta", ended) + sse_event("message_stop", {"type": "message_stop"})
        response = {
            **EMPTY_RESPONSE,
            "id": response_id,
            "model": model,
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "output": self._items,
            "usage": responses_usage(usage),
            "lathe": extension,
        }
        event = {"type": "response.incomplete", "sequence_number": 1 << 20, "response": response}
        return sse_event("response.incomplete", event)

    async def _chat(self, data: bytes) -> None:
        for choice in _chunks.decode(data).choices or ():
            delta = choice.delta
            if delta is None:
                continue
            if said := delta.content or delta.refusal:
                self._answer.say(said)
            for call in delta.tool_calls or ():
                told = call.function or call.custom
                held = self._calls.setdefault(call.index, _Open(call.id or "", ""))
                if told is not None:
                    held.name = held.name or told.name or ""
                    held.pieces.append(told.arguments or told.input or "")

    async def _messages(self, data: bytes) -> None:
        event = _messages.decode(data)
        match event.type:
            case "content_block_start" if event.content_block is not None and "tool_use" in event.content_block.type:
                self._calls[event.index] = _Open(event.content_block.id, event.content_block.name)
            case "content_block_delta" if event.delta is not None:
                if event.delta.text:
                    self._answer.say(event.delta.text)
                elif event.delta.partial_json and event.index in self._calls:
                    self._calls[event.index].pieces.append(event.delta.partial_json)
            case "content_block_stop" if event.index in self._calls:
                await self._whole(self._calls.pop(event.index))

    async def _responses(self, data: bytes) -> None:
        if data.find(b'"delta"') < 0 and data.find(b'"response.output_item.done"') < 0:
            return
        event = _responses.decode(data)
        if event.type in ("response.output_text.delta", "response.refusal.delta"):
            if isinstance(event.delta, str):
                self._answer.say(event.delta)
        elif event.type == "response.output_item.done" and event.item is not None:
            item = event.item
            if str(item.get("type")).endswith("_call"):
                arguments = item.get("arguments", item.get("input", item.get("action")))
                text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
                await self._answer.call(str(item.get("call_id") or ""), str(item.get("name") or item["type"]), text)
            self._items.append(item)

    async def _whole(self, call: _Open) -> None:
        await self._answer.call(call.id, call.name or "call", "".join(call.pieces))


def _joined(event: bytes) -> bytes:
    return b"\n".join(line[5:] for line in event.split(b"\n") if line.startswith(b"data:"))
