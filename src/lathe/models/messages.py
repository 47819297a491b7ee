"""The Anthropic Messages wire: `POST {base_url}/v1/messages`.

Prompt caching leaves the messages as they are: the end of the system prompt is marked, and a top-level
`cache_control` has the endpoint mark the end of the conversation itself, so that the prefix stays stable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from lathe.models.base import ModelRequest, ToolSpec
from lathe.models.catalogue import UNKNOWN_OUTPUT, effort_for
from lathe.models.chat import DEVELOPER, joins
from lathe.models.http import Fragment
from lathe.models.messages_stream import SOURCE, MessagesDecoder
from lathe.models.sampling import for_messages
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
)

VERSION = "2023-06-01"
_EPHEMERAL = {"type": "ephemeral"}
_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 10_000, "high": 20_000, "xhigh": 32_000, "max": 32_000}
"""Thinking tokens for an effort, on models that know budgets only."""


class MessagesWire:
    """Encodes requests for, and decodes streams of, one model."""

    path = "/v1/messages"

    def __init__(self, setup: WireSetup) -> None:
        self._model = setup.model
        self._quirks = setup.quirks
        self._key = setup.key
        self._input = GrowingInput(joins, self._encode_group)
        self._tools = ToolTable(_encode_tool)

    def auth(self) -> Sequence[tuple[str, str]]:
        lines = [("anthropic-version", VERSION)]
        if self._key:
            lines.append(("authorization", f"Bearer {self._key}") if self._quirks.bearer else ("x-api-key", self._key))
        return lines

    def encode(self, request: ModelRequest) -> list[Fragment]:
        head = dumps({"model": self._model.name, "stream": True, **self._options(request)})
        tools = [b',"tools":', self._tools.json(request.tools)] if request.tools else []
        system = [b',"system":', dumps([self._system(request.instructions)])] if request.instructions else []
        return [head[:-1], *tools, *system, b',"messages":[', *self._input.fragments(request.transcript), b"]}"]

    def decoder(self, request: ModelRequest) -> MessagesDecoder:
        self._tools.json(request.tools)
        return MessagesDecoder(self._tools.freeform)

    def _system(self, text: str) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": text}
        if self._quirks.cache != "off":
            block["cache_control"] = _EPHEMERAL
        return block

    def _options(self, request: ModelRequest) -> dict[str, Any]:
        quirks, info = self._quirks, self._model
        max_tokens = request.max_output_tokens or info.max_output_tokens or UNKNOWN_OUTPUT
        options: dict[str, Any] = {"max_tokens": max_tokens}
        if quirks.cache == "auto":
            options["cache_control"] = _EPHEMERAL
        if request.tools and not request.parallel_tool_calls:
            options["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        output: dict[str, Any] = {}
        effort = effort_for(request.reasoning_effort, info)
        if effort is not None and info.efforts:
            output["effort"] = effort
        if quirks.thinking == "adaptive":
            options["thinking"] = {"type": "adaptive", "display": "summarized"}
        elif quirks.thinking == "budget" and effort in _BUDGETS and max_tokens > 2048:
            options["thinking"] = {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], max_tokens // 2)}
        if request.output_schema is not None and quirks.structured:
            output["format"] = {"type": "json_schema", "schema": request.output_schema}
        if output:
            options["output_config"] = output
        if request.sampling is not None:
            options |= for_messages(request.sampling, not request.tools or request.parallel_tool_calls)
        return options

    def _encode_group(self, items: Sequence[Item]) -> list[bytes]:
        first = items[0]
        if isinstance(first, FunctionCallOutput | CustomToolCallOutput):
            role, blocks = "user", [self._result(item) for item in items if isinstance(item, _OUTPUTS)]
        elif isinstance(first, Message) and first.role != "assistant":
            role, blocks = "user", self._words(first)
        else:
            role, blocks = "assistant", [block for item in items for block in self._answer(item)]
        return [dumps({"role": role, "content": blocks})] if blocks else []

    def _words(self, item: Message) -> list[Any]:
        if item.role == "user":
            return self._blocks(item.content)
        text = "\n".join(text_parts(item.content))
        return [{"type": "text", "text": DEVELOPER.format(text)}]

    def _blocks(self, parts: Sequence[ContentPart]) -> list[Any]:
        blocks: list[Any] = []
        for part in parts if self._quirks.images else without_images(parts):
            if isinstance(part, InputImage):
                blocks.append({"type": "image", "source": _image_source(part.image_url)})
            # The wire rejects blank text.
            elif (text := "".join(text_parts([part]))).strip():
                blocks.append({"type": "text", "text": text})
        return blocks

    def _result(self, item: FunctionCallOutput | CustomToolCallOutput) -> dict[str, Any]:
        content = item.output if isinstance(item.output, str) else self._blocks(item.output)
        return {"type": "tool_result", "tool_use_id": _word(item.call_id), "content": content}

    def _answer(self, item: Item) -> list[Any]:
        match item:
            case Message(content=content):
                return self._blocks(content)
            case FunctionCall() | CustomToolCall():
                call = {"type": "tool_use", "id": _word(item.call_id), "name": _word(item.name)}
                return [{**call, "input": msgspec.Raw(arguments_of(item).encode("utf-8", "replace"))}]
            case Reasoning(source=source) if source == SOURCE:
                return [_thinking(item)]
            case OpaqueItem(raw=raw, source=source) if source == SOURCE:
                return [raw]
            case _:
                return []


_OUTPUTS = FunctionCallOutput | CustomToolCallOutput


def _thinking(item: Reasoning) -> dict[str, Any]:
    if not item.content:
        return {"type": "redacted_thinking", "data": item.encrypted_content or ""}
    text = "".join(part.text for part in item.content)
    return {"type": "thinking", "thinking": text, "signature": item.encrypted_content or ""}


def _image_source(url: str) -> dict[str, str]:
    if url.startswith("data:"):
        kind, _, data = url[5:].partition(",")
        return {"type": "base64", "media_type": kind.removesuffix(";base64") or "image/png", "data": data}
    return {"type": "url", "url": url}


def _word(name: str) -> str:
    """Return `name` with what ids and names of tools may not have here replaced."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:128] or "_"


def _encode_tool(tool: ToolSpec) -> dict[str, Any]:
    schema = FREEFORM_PARAMETERS if tool.freeform else tool.parameters
    return {"name": tool.name, "description": tool.description, "input_schema": schema}
