"""Requests of the Messages API, read (docs.anthropic.com/en/api/messages)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lathe.gateway.dialects.base import Bound, Head, Inbound
from lathe.gateway.dialects.reading import decoded, only_here, shaped
from lathe.gateway.dialects.reasoning import opened
from lathe.models.base import ModelRequest, Sampling, ToolSpec, Transcript
from lathe.models.wire import dumps
from lathe.protocol.items import (
    ContentPart,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Role,
)

SOURCE = "messages"
_EFFORTS = ((1024, "minimal"), (4096, "low"), (16_384, "medium"))
"""The effort that a budget of thinking tokens stands for; a larger one is "high"."""


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class _Text(msgspec.Struct):
    text: str


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class _Image(msgspec.Struct):
    source: _Source


class _ToolUse(msgspec.Struct):
    id: str
    name: str
    input: dict[str, Any]


class _ToolResult(msgspec.Struct):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None


class _Thinking(msgspec.Struct):
    thinking: str
    signature: str | None = None


class _Redacted(msgspec.Struct):
    data: str


class _Tool(msgspec.Struct):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _ThinkingMode(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class _OutputFormat(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    effort: str | None = None
    format: _OutputFormat | None = None


class _Request(msgspec.Struct):
    messages: list[_Message]
    system: str | list[_Text] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: _Choice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: _ThinkingMode | None = None
    output_config: _Output | None = None
    mcp_servers: list[Any] | None = None
    container: Any = None


def parse(body: bytes, head: Head) -> Inbound:
    """Return what `body`, of which `head` is known, asks for; raise `BadRequest`."""
    raw = decoded(body)
    asked = shaped(raw, _Request, "")
    bound = [only_here("messages", name, f"`{name}`") for name in ("mcp_servers", "container") if getattr(asked, name)]
    tools = tuple(_tool(tool, place, bound) for place, tool in enumerate(asked.tools or ()))
    choice = asked.tool_choice or _Choice("auto")
    output = asked.output_config or _Output()
    sampling = Sampling(
        tool_choice="required" if choice.type == "any" else choice.type,
        tool_name=choice.name,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=tuple(asked.stop_sequences or ()),
        end_user=head.end_user,
    )
    system = asked.system
    request = ModelRequest(
        instructions=system if isinstance(system, str) else "\n\n".join(block.text for block in system or ()),
        tools=tuple(tool for tool in tools if tool is not None),
        transcript=Transcript(
            item
            for place, message in enumerate(asked.messages)
            for item in _items(message, f"messages[{place}].content", bound)
        ),
        output_schema=output.format.schema if output.format else None,
        reasoning_effort=output.effort or _effort(asked.thinking),
        max_output_tokens=head.max_output_tokens,
        parallel_tool_calls=not choice.disable_parallel_tool_use,
        sampling=sampling,
    )
    return Inbound("messages", head, request, raw, tuple(bound))


def _effort(thinking: _ThinkingMode | None) -> str | None:
    if thinking is None or thinking.type != "enabled" or thinking.budget_tokens is None:
        return None
    return next((effort for most, effort in _EFFORTS if thinking.budget_tokens <= most), "high")


def _tool(tool: dict[str, Any], place: int, bound: list[Bound]) -> ToolSpec | None:
    if tool.get("type") not in (None, "custom"):
        bound.append(only_here("messages", f"tools[{place}]", f"The tool {str(tool['type'])[:60]!r}"))
        return None
    given = shaped(tool, _Tool, f"tools[{place}]")
    return ToolSpec(given.name, given.description or "", given.input_schema, strict=bool(given.strict))


def _items(message: _Message, where: str, bound: list[Bound]) -> list[Item]:
    own = message.role == "assistant"
    role: Role = "developer" if message.role == "system" else message.role
    blocks = message.content
    if isinstance(blocks, str):
        return [Message(role, (OutputText(blocks) if own else InputText(blocks),))] if blocks else []
    items: list[Item] = []
    words: list[ContentPart] = []
    for place, block in enumerate(blocks):
        found = _block(block, f"{where}[{place}]", own, bound)
        if isinstance(found, InputText | OutputText | InputImage):
            words.append(found)
        elif found is not None:
            if words:
                items.append(Message(role, tuple(words)))
                words = []
            items.append(found)
    if words:
        items.append(Message(role, tuple(words)))
    return items


def _block(
    block: dict[str, Any], where: str, own: bool, bound: list[Bound]
) -> Item | InputText | OutputText | InputImage | None:
    match block.get("type"):
        case "text":
            text = shaped(block, _Text, where).text
            return OutputText(text) if own else InputText(text)
        case "image" if (image := _image(shaped(block, _Image, where).source)) is not None:
            return image
        case "tool_use":
            use = shaped(block, _ToolUse, where)
            return FunctionCall(use.id, use.name, dumps(use.input).decode())
        case "tool_result":
            result = shaped(block, _ToolResult, where)
            return FunctionCallOutput(result.tool_use_id, _output(result, where, bound))
        case "thinking":
            thinking = shaped(block, _Thinking, where)
            kept = opened(thinking.signature or "")
            content = (ReasoningText(thinking.thinking),)
            return kept or Reasoning(content=content, encrypted_content=thinking.signature or None, source=SOURCE)
        case "redacted_thinking":
            data = shaped(block, _Redacted, where).data
            return opened(data) or Reasoning(encrypted_content=data, source=SOURCE)
        case other if own:
            # What the provider's own tools said: it alone can read it, and the words beside it stand without.
            return OpaqueItem(block, SOURCE) if isinstance(other, str) else None
        case other:
            bound.append(only_here("messages", where, f"Content of the type {str(other)[:60]!r}"))
            return None


def _image(source: _Source) -> InputImage | None:
    if source.type == "base64" and source.data is not None:
        return InputImage(f"data:{source.media_type or 'image/png'};base64,{source.data}")
    return InputImage(source.url) if source.type == "url" and source.url is not None else None


def _output(result: _ToolResult, where: str, bound: list[Bound]) -> str | tuple[ContentPart, ...]:
    content = result.content
    if content is None or isinstance(content, str):
        return content or ""
    found = [_block(block, f"{where}.content[{place}]", False, bound) for place, block in enumerate(content)]
    parts = tuple(part for part in found if isinstance(part, InputText | InputImage))
    if len(parts) == 1 and isinstance(parts[0], InputText):
        return parts[0].text
    return parts
