"""Anthropic Messages streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.retry import BrokenStream, EndpointError, error_from_json
from lathe.models.sse import SseEvent
from lathe.models.wire import DECLINED, call_of, dumps, loads, text_parts
from lathe.protocol.items import (
    ContentPart,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
)
from lathe.protocol.usage import Usage

SOURCE = "messages"


class _Block:
    """A content block in the making: what it began as, and the pieces that came since."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.text: list[str] = []
        self.json: list[str] = []
        self.signature: list[str] = []


class MessagesDecoder:
    """Decodes one stream. The last words are given at its end: only then is it known whether they are a refusal.

    Everything else is given when its block ends, and the words before it with it.
    """

    def __init__(self, freeform: frozenset[str]) -> None:
        self.finished = False
        self._freeform = freeform
        self._blocks: dict[int, _Block] = {}
        self._texts: list[ContentPart] = []
        self._model = ""
        self._id = ""
        self._usage: dict[str, Any] = {}
        self._stop = ""
        self._explanation = ""
        self._lathe: dict[str, Any] | None = None

    def feed(self, event: SseEvent) -> Sequence[ModelPart]:
        data = loads(event.data)
        match data.get("type") or event.event:
            case "message_start":
                message = _object(data.get("message"))
                self._model, self._id = _text(message.get("model")), _text(message.get("id"))
                self._count(message.get("usage"))
            case "content_block_start":
                self._blocks[_index(data)] = _Block(_object(data.get("content_block")))
            case "content_block_delta":
                return self._delta(data)
            case "content_block_stop":
                return self._stopped(_index(data))
            case "message_delta":
                delta = _object(data.get("delta"))
                self._stop = _text(delta.get("stop_reason")) or self._stop
                self._explanation = _text(_object(delta.get("stop_details")).get("explanation"))
                self._lathe = _object(data.get("lathe")) or self._lathe
                self._count(data.get("usage"))
            case "message_stop":
                return self._end()
            case "error":
                raise error_from_json(data)
        return ()

    def close(self) -> Sequence[ModelPart]:
        if not self._stop:
            raise BrokenStream("the stream ended before the message had stopped")
        return self._end()

    def _count(self, usage: Any) -> None:
        # Counts are cumulative; a later event may leave out or null what an earlier one said.
        self._usage.update({key: value for key, value in _object(usage).items() if value is not None})

    def _delta(self, data: dict[str, Any]) -> Sequence[ModelPart]:
        block = self._blocks.get(_index(data))
        if block is None:
            raise BrokenStream("the stream goes on with a block that it never began")
        delta = _object(data.get("delta"))
        match delta.get("type"):
            case "text_delta":
                block.text.append(text := _text(delta.get("text")))
                return (TextDelta(text),) if text else ()
            case "thinking_delta":
                block.text.append(text := _text(delta.get("thinking")))
                return (ReasoningDelta(text),) if text else ()
            case "input_json_delta":
                block.json.append(_text(delta.get("partial_json")))
            case "signature_delta":
                block.signature.append(_text(delta.get("signature")))
        return ()

    def _end(self) -> Sequence[ModelPart]:
        if self._stop == "model_context_window_exceeded":
            raise EndpointError("the context window is full", code=self._stop)
        self.finished = True
        parts = [part for index in list(self._blocks) for part in self._stopped(index)]
        texts = self._texts
        stop = "end"
        if self._stop == "refusal":
            stop = "refusal"
            # The last words are the refusal, without words there are some now.
            *before, last = texts or [OutputText(self._explanation or DECLINED)]
            texts = [*before, Refusal(text_parts([last])[0])]
        elif self._stop in ("max_tokens", "pause_turn"):
            # A paused turn is cut short too: the model goes on when it is sent back.
            stop = "length"
        if texts:
            parts.append(ItemDone(Message(role="assistant", content=tuple(texts))))
        # A model that declines of itself stops as it always does: this stop is the endpoint's filter, which goes on
        # refusing while the exchange is in the conversation (docs.anthropic.com, "Handle streaming refusals").
        filtered: Literal["", "exchange"] = "exchange" if stop == "refusal" else ""
        usage = read_usage(self._usage)
        done = Completed(usage, self._model, response_id=self._id, stop=stop, filtered=filtered)
        parts.append(msgspec.structs.replace(done, lathe=self._lathe))
        return parts

    def _stopped(self, index: int) -> list[ModelPart]:
        """Return the items that the end of a block completes."""
        block = self._blocks.pop(index, None)
        if block is None:
            return []
        if block.raw.get("type") == "text":
            if text := _text(block.raw.get("text")) + "".join(block.text):
                self._texts.append(OutputText(text))
            return []
        parts: list[ModelPart] = []
        if self._texts:
            parts.append(ItemDone(Message(role="assistant", content=tuple(self._texts))))
            self._texts = []
        return [*parts, ItemDone(self._item(block))]

    def _item(self, block: _Block) -> Item:
        raw = block.raw
        match raw.get("type"):
            case "thinking":
                text = _text(raw.get("thinking")) + "".join(block.text)
                signature = _text(raw.get("signature")) + "".join(block.signature)
                # Content tells this from redacted thinking, also where the endpoint shows no text.
                return Reasoning(content=(ReasoningText(text),), encrypted_content=signature or None, source=SOURCE)
            case "redacted_thinking":
                return Reasoning(encrypted_content=_text(raw.get("data")), source=SOURCE)
            case "tool_use":
                arguments = "".join(block.json) or dumps(raw.get("input") or {}).decode()
                return call_of(_text(raw.get("name")), _text(raw.get("id")), arguments, self._freeform)
            case _:
                if block.json:
                    raw = {**raw, "input": _parsed("".join(block.json))}
                return OpaqueItem(raw=raw, source=SOURCE)


def _index(data: dict[str, Any]) -> int:
    index = data.get("index")
    return index if isinstance(index, int) else -1


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}


def read_usage(usage: dict[str, Any]) -> Usage:
    """Return the usage that a message, or the events of one together, tell of, as decoded JSON."""

    def count(value: Any) -> int:
        return value if isinstance(value, int) else 0

    read, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    return Usage(
        # The wire counts what came from the cache, and what went there, beside the rest.
        input_tokens=count(usage.get("input_tokens")) + read + written,
        cached_input_tokens=read,
        output_tokens=count(usage.get("output_tokens")),
        reasoning_output_tokens=count(_object(usage.get("output_tokens_details")).get("thinking_tokens")),
        cache_write_tokens=written,
    )
