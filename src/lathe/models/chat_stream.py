"""Chat Completions streams, with the liberties that servers take with them.

Seen in the wild: calls without an index, whole calls in one chunk, ids that are empty, repeated or shared,
arguments as an object, no finish reason, no `[DONE]`, no usage, reasoning under three names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.retry import BrokenStream, error_from_json
from lathe.models.sse import SseEvent
from lathe.models.wire import DECLINED, call_of, dumps
from lathe.protocol.items import ContentPart, Message, OutputText, Reasoning, ReasoningText, Refusal
from lathe.protocol.usage import Usage

SOURCE = "chat"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: Any = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cost: float | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    lathe: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class _Building:
    """A call in the making."""

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []


class ChatDecoder:
    """Decodes one stream. Items are given at its end, in the order reasoning, message, calls."""

    def __init__(self, freeform: frozenset[str]) -> None:
        self.finished = False
        self._freeform = freeform
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._calls: list[_Building] = []
        self._by_index: dict[int, _Building] = {}
        self._finish = ""
        self._usage = Usage()
        self._model = ""
        self._id = ""
        self._lathe: dict[str, Any] | None = None

    def feed(self, event: SseEvent) -> Sequence[ModelPart]:
        if event.data.strip() == "[DONE]":
            return self._end() if self._finish or self._anything() else ()
        try:
            chunk = _decoder.decode(event.data)
        except msgspec.DecodeError as error:
            raise BrokenStream(f"the stream has an event that is no chunk ({error})") from None
        if chunk.error:
            raise error_from_json({"error": chunk.error})
        self._id = chunk.id or self._id
        self._model = chunk.model or self._model
        self._lathe = chunk.lathe if isinstance(chunk.lathe, dict) else self._lathe
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        parts: list[ModelPart] = []
        for choice in (chunk.choices or ())[:1]:
            delta = choice.delta or choice.message
            if delta is not None:
                self._take(delta, parts)
            self._finish = choice.finish_reason or self._finish
        return parts

    def close(self) -> Sequence[ModelPart]:
        if not self._finish:
            raise BrokenStream("the stream ended before the model had finished")
        return self._end()

    def _anything(self) -> bool:
        return bool(self._text or self._calls or self._refusal)

    def _take(self, delta: _Delta, parts: list[ModelPart]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if isinstance(delta.content, list):
            # Mistral gives a list of typed pieces, thinking among them.
            text, more = _pieces(delta.content)
            thought = (thought or "") + more
        else:
            text = delta.content if isinstance(delta.content, str) else ""
        if delta.reasoning_details:
            self._details.extend(delta.reasoning_details)
            if not thought:
                thought = "".join(str(one.get("text") or one.get("summary") or "") for one in delta.reasoning_details)
        if thought:
            self._reasoning.append(thought)
            parts.append(ReasoningDelta(thought))
        if text:
            self._text.append(text)
            parts.append(TextDelta(text))
        if delta.refusal:
            self._refusal.append(delta.refusal)
            parts.append(TextDelta(delta.refusal, refusal=True))
        for call in delta.tool_calls or ():
            self._take_call(call)

    def _take_call(self, call: _Call) -> None:
        function = call.function or _Function()
        building = self._find(call, function)
        if function.name and not building.name:
            building.name = function.name
        if isinstance(function.arguments, str):
            building.arguments.append(function.arguments)
        elif function.arguments is not None:
            building.arguments.append(dumps(function.arguments).decode())

    def _find(self, call: _Call, function: _Function) -> _Building:
        """Return the call that a delta goes on with, or a new one."""
        if call.index is not None:
            current = self._by_index.get(call.index)
        else:
            current = self._calls[-1] if self._calls else None
            same = call.id and current is not None and call.id == current.id
            if function.name and not same:
                current = None
        # A new id with a new name under an old index is another call: some servers count every call as 0.
        other = current is not None and call.id and current.id and call.id != current.id and function.name
        if current is None or other:
            current = _Building(call.id or "")
            self._calls.append(current)
            if call.index is not None:
                self._by_index[call.index] = current
        current.id = current.id or call.id or ""
        return current

    def _end(self) -> Sequence[ModelPart]:
        if self._finish == "error":
            raise BrokenStream("the endpoint ended the stream with an error and no words")
        self.finished = True
        parts: list[ModelPart] = []
        if self._reasoning or self._details:
            thought = "".join(self._reasoning)
            parts.append(
                ItemDone(
                    Reasoning(
                        content=(ReasoningText(thought),) if thought else (),
                        encrypted_content=dumps(_merged(self._details)).decode() if self._details else None,
                        source=SOURCE,
                    )
                )
            )
        content: list[ContentPart] = []
        if self._text:
            content.append(OutputText("".join(self._text)))
        if self._refusal:
            content.append(Refusal("".join(self._refusal)))
        if content:
            parts.append(ItemDone(Message(role="assistant", content=tuple(content))))
        for building in self._calls:
            parts.append(ItemDone(call_of(building.name, building.id, "".join(building.arguments), self._freeform)))
        stop = "refusal" if self._refusal and not self._calls else "end"
        filtered: Literal["", "answer"] = ""
        if self._finish == "content_filter":
            stop, filtered = "refusal", "answer"
            if not self._refusal:
                parts.append(ItemDone(Message(role="assistant", content=(Refusal(DECLINED),))))
        elif self._finish == "length":
            stop = "length"
        done = Completed(usage=self._usage, model=self._model, response_id=self._id, stop=stop, filtered=filtered)
        parts.append(msgspec.structs.replace(done, lathe=self._lathe))
        return parts


def _pieces(content: list[Any]) -> tuple[str, str]:
    texts: list[str] = []
    thoughts: list[str] = []
    for piece in content:
        if not isinstance(piece, dict):
            continue
        if piece.get("type") == "thinking":
            inner = piece.get("thinking")
            thoughts.append(inner if isinstance(inner, str) else _pieces(inner)[0] if isinstance(inner, list) else "")
        elif isinstance(piece.get("text"), str):
            texts.append(piece["text"])
    return "".join(texts), "".join(thoughts)


def _merged(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return streamed reasoning details with the pieces of each joined (OpenRouter, "Reasoning Tokens")."""
    merged: list[dict[str, Any]] = []
    for detail in details:
        last = merged[-1] if merged else None
        if last is None or (last.get("type"), last.get("index")) != (detail.get("type"), detail.get("index")):
            merged.append(dict(detail))
            continue
        for key, value in detail.items():
            if key in ("text", "summary", "data") and isinstance(value, str) and isinstance(last.get(key), str):
                last[key] += value
            elif value is not None:
                last[key] = value
    return merged


def read_usage(raw: Any) -> Usage:
    """Return the usage that a completion or chunk tells of, as decoded JSON."""
    try:
        return _usage(msgspec.convert(raw or {}, _Usage))
    except msgspec.ValidationError:
        return Usage()


def _usage(usage: _Usage) -> Usage:
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        # DeepSeek counts hits in a field of its own.
        cached_input_tokens=prompt.cached_tokens or usage.prompt_cache_hit_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        reasoning_output_tokens=completion.reasoning_tokens or 0,
        cache_write_tokens=prompt.cache_write_tokens or 0,
        cost_usd=usage.cost,
    )
