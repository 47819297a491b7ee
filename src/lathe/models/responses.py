"""The OpenAI Responses wire: `POST {base_url}/responses`, without server-side state.

Item ids are left out of what is sent back: with `store: false` OpenAI and Azure look them up and reject those
they do not find. Azure with `store: true` wants them, which is what its `item_ids` and `store` quirks are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from lathe.models.base import (
    Completed,
    ItemDone,
    ModelPart,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolSpec,
)
from lathe.models.catalogue import effort_for
from lathe.models.http import Fragment
from lathe.models.retry import BrokenStream, EndpointError, error_from_json
from lathe.models.sampling import for_responses, schema_form
from lathe.models.sse import SseEvent
from lathe.models.wire import (
    DECLINED,
    FREEFORM_PARAMETERS,
    GrowingInput,
    ToolTable,
    WireSetup,
    apart,
    arguments_of,
    call_of,
    dumps,
    loads,
    without_images,
)
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    Refusal,
)
from lathe.protocol.usage import Usage

SOURCE = "responses"


class ResponsesWire:
    """Encodes requests for, and decodes streams of, one model."""

    path = "/responses"

    def __init__(self, setup: WireSetup) -> None:
        self._model = setup.model
        self._quirks = setup.quirks
        self._key = setup.key
        self._input = GrowingInput(apart, self._encode_group)
        self._tools = ToolTable(self._encode_tool)

    def auth(self) -> Sequence[tuple[str, str]]:
        return [("authorization", f"Bearer {self._key}")] if self._key else []

    def encode(self, request: ModelRequest) -> list[Fragment]:
        quirks = self._quirks
        rest: dict[str, Any] = {
            "tool_choice": "auto",
            "parallel_tool_calls": request.parallel_tool_calls,
            "store": quirks.store,
            "stream": True,
        }
        if quirks.encrypted_reasoning:
            rest["include"] = ["reasoning.encrypted_content"]
        if request.thread_id and quirks.cache_key:
            rest["prompt_cache_key"] = request.thread_id
        effort = effort_for(request.reasoning_effort, self._model)
        if effort is not None:
            rest["reasoning"] = {"effort": effort, "summary": "auto"}
        elif self._model.efforts:
            rest["reasoning"] = {"summary": "auto"}
        if request.max_output_tokens is not None:
            rest["max_output_tokens"] = request.max_output_tokens
        if text := self._text(request):
            rest["text"] = text
        if request.sampling is not None:
            rest |= for_responses(request.sampling, request.tools, quirks.freeform)
        head = dumps({"model": self._model.name, "instructions": request.instructions})
        tools = self._tools.json(request.tools)
        middle = dumps(rest)[1:-1]
        return [
            head[:-1],
            b',"tools":',
            tools,
            b",",
            middle,
            b',"input":[',
            *self._input.fragments(request.transcript),
            b"]}",
        ]

    def _text(self, request: ModelRequest) -> dict[str, Any]:
        text: dict[str, Any] = {}
        if request.output_schema is not None and self._quirks.structured:
            text["format"] = {"type": "json_schema", **schema_form(request)}
        elif request.sampling is not None and request.sampling.json_object:
            text["format"] = {"type": "json_object"}
        if request.sampling is not None and request.sampling.verbosity:
            text["verbosity"] = request.sampling.verbosity
        return text

    def decoder(self, request: ModelRequest) -> ResponsesDecoder:
        self._tools.json(request.tools)
        return ResponsesDecoder(frozenset() if self._quirks.freeform else self._tools.freeform)

    def _encode_tool(self, tool: ToolSpec) -> dict[str, Any]:
        if tool.freeform and self._quirks.freeform:
            form = (
                {"type": "grammar", "syntax": tool.syntax, "definition": tool.grammar}
                if tool.grammar
                else {"type": "text"}
            )
            return {"type": "custom", "name": tool.name, "description": tool.description, "format": form}
        parameters = FREEFORM_PARAMETERS if tool.freeform else tool.parameters
        return {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": parameters,
            # The wire's default is strict, which rejects optional parameters.
            "strict": tool.strict,
        }

    def _encode_group(self, items: Sequence[Item]) -> list[bytes]:
        return [dumps(value) for item in items if (value := self._encode_item(item)) is not None]

    def _encode_item(self, item: Item) -> Any:
        item_id = getattr(item, "id", None) if self._quirks.item_ids else None
        match item:
            case Message(role=role, content=content):
                parts = self._content(content) if role != "assistant" else content
                return msgspec.structs.replace(item, content=tuple(parts), id=item_id)
            case FunctionCall():
                return msgspec.structs.replace(item, id=item_id)
            case CustomToolCall() if not self._quirks.freeform:
                return FunctionCall(call_id=item.call_id, name=item.name, arguments=arguments_of(item), id=item_id)
            case CustomToolCall():
                return msgspec.structs.replace(item, id=item_id)
            case FunctionCallOutput(call_id=call_id, output=output):
                return FunctionCallOutput(call_id=call_id, output=self._output(output))
            case CustomToolCallOutput(call_id=call_id, output=output):
                kind = CustomToolCallOutput if self._quirks.freeform else FunctionCallOutput
                return kind(call_id=call_id, output=self._output(output))
            case Reasoning():
                return self._reasoning(item, item_id)
            case OpaqueItem(raw=raw, source=source):
                return raw if source == SOURCE else None

    def _reasoning(self, item: Reasoning, item_id: str | None) -> dict[str, Any] | None:
        if item.source != SOURCE or not (item.encrypted_content or item.content):
            return None
        value: dict[str, Any] = {"type": "reasoning", "summary": item.summary}
        if item_id is not None:
            value["id"] = item_id
        if item.content:
            value["content"] = item.content
        if item.encrypted_content:
            value["encrypted_content"] = item.encrypted_content
        return value

    def _content(self, parts: Sequence[ContentPart]) -> Sequence[ContentPart]:
        return parts if self._quirks.images else without_images(parts)

    def _output(self, output: str | tuple[ContentPart, ...]) -> str | tuple[ContentPart, ...]:
        if isinstance(output, str):
            return output
        # Outputs of tools are input to the model: the wire has no `output_text` here.
        parts = (InputText(part.text) if isinstance(part, OutputText) else part for part in output)
        return tuple(self._content(tuple(parts)))


class ResponsesDecoder:
    """Decodes one stream."""

    def __init__(self, freeform: frozenset[str]) -> None:
        self.finished = False
        self._freeform = freeform
        self._done = 0
        self._refused = False
        self._called = False

    def feed(self, event: SseEvent) -> Sequence[ModelPart]:
        if event.data == "[DONE]":
            return ()
        data = loads(event.data)
        kind = data.get("type") or event.event
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                return (TextDelta(_text(data.get("delta")), kind == "response.refusal.delta"),)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return (ReasoningDelta(_text(data.get("delta"))),)
            case "response.reasoning_summary_part.added" if data.get("summary_index"):
                return (ReasoningDelta("\n\n"),)
            case "response.output_item.done":
                return (self._item(data.get("item")),)
            case "response.completed" | "response.done" | "response.incomplete":
                return self._end(data.get("response"))
            case "response.failed" | "error":
                raise failure_of(data)
            case _:
                return ()

    def close(self) -> Sequence[ModelPart]:
        raise BrokenStream("the stream ended before the response was complete")

    def _item(self, raw: Any) -> ItemDone:
        if not isinstance(raw, dict):
            raise BrokenStream("the stream has an output item that is no object")
        self._done += 1
        item = self._convert(raw)
        if isinstance(item, Message):
            self._refused |= any(isinstance(part, Refusal) for part in item.content)
        self._called |= isinstance(item, FunctionCall | CustomToolCall)
        return ItemDone(item)

    def _convert(self, raw: dict[str, Any]) -> Item:
        try:
            match raw.get("type"):
                case "message":
                    return msgspec.convert(raw, Message)
                case "reasoning":
                    # Some servers say null where they mean nothing.
                    given = {key: value for key, value in raw.items() if value is not None}
                    return msgspec.structs.replace(msgspec.convert(given, Reasoning), source=SOURCE)
                case "function_call":
                    given = {"call_id": raw.get("call_id") or raw.get("id") or ""}
                    call = msgspec.convert({**raw, **given}, FunctionCall)
                    return call_of(call.name, call.call_id, call.arguments, self._freeform, call.id)
                case "custom_tool_call":
                    return msgspec.convert(raw, CustomToolCall)
        except msgspec.ValidationError:
            pass
        return OpaqueItem(raw=raw, source=SOURCE)

    def _end(self, response: Any) -> Sequence[ModelPart]:
        if not isinstance(response, dict):
            raise BrokenStream("the stream's last event has no response")
        if isinstance(response.get("error"), dict) and response.get("status") == "failed":
            raise failure_of({"response": response})
        parts: list[ModelPart] = []
        output = response.get("output")
        if self._done == 0 and isinstance(output, list):
            parts.extend(self._item(raw) for raw in output)
        stop = "refusal" if self._refused and not self._called else "end"
        filtered: Literal["", "answer"] = ""
        details = response.get("incomplete_details")
        cause = details.get("reason") if isinstance(details, dict) else None
        if cause == "content_filter":
            stop, filtered = "refusal", "answer"
            if not self._refused:
                parts.append(ItemDone(Message(role="assistant", content=(Refusal(DECLINED),))))
        elif cause is not None or response.get("status") == "incomplete":
            stop = "length"
        self.finished = True
        parts.append(
            Completed(
                usage=read_usage(response.get("usage")),
                model=_text(response.get("model")),
                response_id=_text(response.get("id")),
                stop=stop,
                filtered=filtered,
                lathe=own if isinstance(own := response.get("lathe"), dict) else None,
            )
        )
        return parts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def failure_of(data: dict[str, Any]) -> EndpointError:
    """Return the error that a `response.failed` or `error` event, as decoded JSON, tells of."""
    response = data.get("response")
    error = response.get("error") if isinstance(response, dict) else None
    return error_from_json({"error": error} if error else {k: v for k, v in data.items() if k != "type"})


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


def read_usage(raw: Any) -> Usage:
    """Return the usage that a response tells of, as decoded JSON."""
    try:
        usage = msgspec.convert(raw or {}, _Usage)
    except msgspec.ValidationError:
        return Usage()
    details = usage.input_tokens_details or _InputDetails()
    return Usage(
        input_tokens=usage.input_tokens or 0,
        cached_input_tokens=details.cached_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        reasoning_output_tokens=(usage.output_tokens_details or _OutputDetails()).reasoning_tokens or 0,
        cache_write_tokens=details.cache_write_tokens or 0,
    )
