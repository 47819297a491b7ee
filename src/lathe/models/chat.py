"""The OpenAI Chat Completions wire: `POST {base_url}/chat/completions`, as OpenAI and everybody else speaks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lathe.models.base import ModelRequest, ToolSpec
from lathe.models.catalogue import effort_for
from lathe.models.chat_stream import SOURCE, ChatDecoder
from lathe.models.http import Fragment
from lathe.models.sampling import for_chat, schema_form
from lathe.models.wire import (
    FREEFORM_PARAMETERS,
    GrowingInput,
    ToolTable,
    WireSetup,
    arguments_of,
    dumps,
    text_parts,
    without_images,
)
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    ToolOutput,
)

DEVELOPER = "<developer>\n{}\n</developer>"
"""How Lathe's own words in mid-thread look where the wire, or a model's template, has no role for them."""


def joins(before: Item, item: Item) -> bool:
    """Return whether both belong to one answer of the model, or both to the outputs of one answer's calls."""
    return _side(before) == _side(item) != ""


def _side(item: Item) -> str:
    match item:
        case Message(role=role):
            return "model" if role == "assistant" else ""
        case FunctionCallOutput() | CustomToolCallOutput():
            return "tools"
        case Reasoning() | FunctionCall() | CustomToolCall() | OpaqueItem():
            return "model"


class ChatWire:
    """Encodes requests for, and decodes streams of, one model."""

    path = "/chat/completions"

    def __init__(self, setup: WireSetup) -> None:
        self._model = setup.model
        self._quirks = setup.quirks
        self._key = setup.key
        self._input = GrowingInput(joins, self._encode_group)
        self._tools = ToolTable(_encode_tool)

    def auth(self) -> Sequence[tuple[str, str]]:
        return [("authorization", f"Bearer {self._key}")] if self._key else []

    def encode(self, request: ModelRequest) -> list[Fragment]:
        head = dumps({"model": self._model.name, "stream": True, **self._options(request)})
        tools = [b',"tools":', self._tools.json(request.tools)] if request.tools else []
        system = b""
        if request.instructions:
            system = dumps({"role": self._quirks.system, "content": request.instructions})
        values = self._input.fragments(request.transcript)
        comma = b"," if system and any(values) else b""
        return [head[:-1], *tools, b',"messages":[', system, comma, *values, b"]}"]

    def decoder(self, request: ModelRequest) -> ChatDecoder:
        self._tools.json(request.tools)
        return ChatDecoder(self._tools.freeform)

    def _options(self, request: ModelRequest) -> dict[str, Any]:
        quirks = self._quirks
        options: dict[str, Any] = {}
        if quirks.stream_usage:
            options["stream_options"] = {"include_usage": True}
        if request.tools and not request.parallel_tool_calls:
            options["parallel_tool_calls"] = False
        if request.max_output_tokens is not None:
            options[quirks.max_tokens] = request.max_output_tokens
        effort = effort_for(request.reasoning_effort, self._model)
        if effort is not None and quirks.effort:
            options[quirks.effort] = {"effort": effort} if quirks.effort == "reasoning" else effort
        if request.output_schema is not None and quirks.structured:
            options["response_format"] = {"type": "json_schema", "json_schema": schema_form(request)}
        if request.thread_id and quirks.cache_key:
            options["prompt_cache_key"] = request.thread_id
        if quirks.cache == "auto":
            options["cache_control"] = {"type": "ephemeral"}
        if request.sampling is not None:
            options |= for_chat(request.sampling)
        return options

    def _encode_group(self, items: Sequence[Item]) -> list[bytes]:
        first = items[0]
        if isinstance(first, FunctionCallOutput | CustomToolCallOutput):
            return self._encode_outputs([item for item in items if isinstance(item, _OUTPUTS)])
        if isinstance(first, Message) and first.role != "assistant":
            return [dumps(self._encode_words(first))]
        return self._encode_answer(items)

    def _encode_words(self, item: Message) -> dict[str, Any]:
        role: str = item.role
        parts = self._allowed(item.content)
        if role == "developer":
            role = self._quirks.developer
            if role == "user":
                return {"role": "user", "content": DEVELOPER.format("\n".join(text_parts(parts)))}
        return {"role": role, "content": _content(parts)}

    def _encode_answer(self, items: Sequence[Item]) -> list[bytes]:
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        extra: dict[str, Any] = {}
        for item in items:
            match item:
                case Message(content=content):
                    texts.extend(text_parts(content))
                case FunctionCall() | CustomToolCall():
                    function = {"name": item.name, "arguments": arguments_of(item)}
                    calls.append({"id": item.call_id, "type": "function", "function": function})
                case Reasoning(source=source) if source == SOURCE:
                    self._add_reasoning(item, extra)
                case _:
                    pass
        if not texts and not calls and not extra:
            return []
        message: dict[str, Any] = {"role": "assistant", "content": "\n\n".join(texts) if texts or not calls else None}
        message.update(extra)
        if calls:
            message["tool_calls"] = calls
        return [dumps(message)]

    def _add_reasoning(self, item: Reasoning, extra: dict[str, Any]) -> None:
        field = self._quirks.reasoning
        if field == "reasoning_details" and item.encrypted_content:
            extra[field] = [*extra.get(field, []), *_details(item.encrypted_content)]
        elif field and item.content:
            name = "reasoning" if field == "reasoning_details" else field
            extra[name] = extra.get(name, "") + "".join(part.text for part in item.content)

    def _encode_outputs(self, items: Sequence[ToolOutput]) -> list[bytes]:
        values: list[bytes] = []
        pictures: list[dict[str, Any]] = []
        for item in items:
            if isinstance(item.output, str):
                text = item.output
            else:
                parts = self._allowed(item.output)
                text = "\n".join(text_parts(parts))
                images = [part for part in parts if isinstance(part, InputImage)]
                if images:
                    # A tool message can't hold an image: it follows in a message of its own.
                    pictures.append({"type": "text", "text": f"What the call {item.call_id} showed:"})
                    pictures.extend(map(_image, images))
                    text = text or "[The image follows.]"
            values.append(dumps({"role": "tool", "tool_call_id": item.call_id, "content": text}))
        if pictures:
            values.append(dumps({"role": "user", "content": pictures}))
        return values

    def _allowed(self, parts: Sequence[ContentPart]) -> Sequence[ContentPart]:
        return parts if self._quirks.images else without_images(parts)


_OUTPUTS = FunctionCallOutput | CustomToolCallOutput


def _content(parts: Sequence[ContentPart]) -> Any:
    if not any(isinstance(part, InputImage) for part in parts):
        return "\n".join(text_parts(parts))
    return [
        _image(part) if isinstance(part, InputImage) else {"type": "text", "text": "".join(text_parts([part]))}
        for part in parts
    ]


def _image(part: InputImage) -> dict[str, Any]:
    address = {"url": part.image_url}
    if part.detail is not None:
        address["detail"] = part.detail
    return {"type": "image_url", "image_url": address}


def _details(text: str) -> list[Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return []
    return value if isinstance(value, list) else []


def _encode_tool(tool: ToolSpec) -> dict[str, Any]:
    parameters = FREEFORM_PARAMETERS if tool.freeform else tool.parameters
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": parameters}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
