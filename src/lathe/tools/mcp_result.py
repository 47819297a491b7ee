"""What an MCP server answers, as parts for a model and as an item for the listener."""

from __future__ import annotations

from typing import Any

import msgspec

from lathe.protocol.codec import encode
from lathe.protocol.events import McpToolCall
from lathe.protocol.items import ContentPart, InputImage, InputText
from lathe.tools.base import Outcome, ToolContext
from lathe.tools.mcp import CallAnswer
from lathe.tools.output import OutputBuffer

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Types that all three wires take."""

_IMAGE_LIMIT = 5_000_000
"""Base64 characters; what the strictest wire takes for one image."""


def answer_from(result: Any) -> CallAnswer:
    """Return the SDK's `CallToolResult` in Lathe's words."""
    parts = tuple(_part(block) for block in result.content)
    if not any(isinstance(part, InputText) for part in parts) and result.structured_content is not None:
        parts = (InputText(encode(result.structured_content).decode()), *parts)
    return CallAnswer(parts=parts, structured=result.structured_content, failed=bool(result.is_error))


def render(answer: CallAnswer, shown: McpToolCall, context: ToolContext) -> Outcome:
    """Return the outcome of a call that `shown` began; text beyond the model's share goes to the spill folder."""
    text = "\n".join(part.text for part in answer.parts if isinstance(part, InputText))
    images = tuple(part for part in answer.parts if isinstance(part, InputImage))
    if not text and not images:
        text = "(the tool failed and said nothing)" if answer.failed else "(the tool gave no output)"
    text = _limited(text, context) if text else ""
    content: list[dict[str, str]] = [{"type": "text", "text": text}] if text else []
    content += [{"type": "image", "mime_type": image.image_url[5:].partition(";")[0]} for image in images]
    result: dict[str, Any] = {"content": content}
    if answer.structured is not None and len(encode(answer.structured)) <= 4 * context.output_tokens:
        result["structured_content"] = answer.structured
    item = msgspec.structs.replace(
        shown,
        status="failed" if answer.failed else "completed",
        result=result,
        error={"message": text} if answer.failed else None,
    )
    told = f"The tool reported an error:\n{text}" if answer.failed else text
    if not images:
        return Outcome(told, item)
    head: tuple[ContentPart, ...] = (InputText(told),) if told else ()
    return Outcome((*head, *images), item)


def _limited(text: str, context: ToolContext) -> str:
    buffer = OutputBuffer(context.output_tokens, context.spill / f"{context.item_id}.txt", context.hiding)
    buffer.write(text.encode(errors="replace"))
    shown = buffer.take().text
    buffer.close()
    return shown


def _part(block: Any) -> ContentPart:
    match block.type:
        case "text":
            return InputText(block.text)
        case "image":
            return _image(block.data, block.mime_type)
        case "resource":
            return _resource(block.resource)
        case "resource_link":
            about = f": {block.description}" if block.description else ""
            return InputText(f"[resource {block.name} at {block.uri}{about}]")
        case kind:
            return InputText(f"[{kind} left out: {getattr(block, 'mime_type', None) or 'of no known type'}]")


def _resource(resource: Any) -> ContentPart:
    text = getattr(resource, "text", None)
    if text is not None:
        return InputText(text)
    if (resource.mime_type or "").startswith("image/"):
        return _image(resource.blob, resource.mime_type)
    return InputText(f"[resource {resource.uri} left out: {resource.mime_type or 'binary'}]")


def _image(data: str, mime_type: str) -> ContentPart:
    if mime_type not in _IMAGES:
        return InputText(f"[image left out: models don't read {mime_type}]")
    if len(data) > _IMAGE_LIMIT:
        return InputText(f"[image left out: {len(data) * 3 // 4:,} bytes is too large]")
    return InputImage(f"data:{mime_type};base64,{data}")
