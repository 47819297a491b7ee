"""Items: the entries of a conversation, in the vocabulary of the OpenAI Responses API.

Every wire is translated to and from these, so a thread can move from one provider to another.
An item of a type not listed here is kept whole as `OpaqueItem` and sent back as it came.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["user", "assistant", "system", "developer"]


class InputText(msgspec.Struct, frozen=True, tag="input_text", tag_field="type"):
    text: str


class InputImage(msgspec.Struct, frozen=True, omit_defaults=True, tag="input_image", tag_field="type"):
    """An image; `image_url` is an http(s) address or a `data:` URL with base64 content."""

    image_url: str
    detail: str | None = None


class OutputText(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    text: str


class Refusal(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    refusal: str


ContentPart: TypeAlias = InputText | InputImage | OutputText | Refusal


class Message(msgspec.Struct, frozen=True, omit_defaults=True, tag="message", tag_field="type"):
    role: Role
    content: tuple[ContentPart, ...]
    id: str | None = None
    phase: str | None = None


class SummaryText(msgspec.Struct, frozen=True, tag="summary_text", tag_field="type"):
    text: str


class ReasoningText(msgspec.Struct, frozen=True, tag="reasoning_text", tag_field="type"):
    text: str


class Reasoning(msgspec.Struct, frozen=True, omit_defaults=True, tag="reasoning", tag_field="type"):
    """What a model thought.

    `encrypted_content` is opaque and must be sent back unchanged to the provider that wrote it: the
    Responses API's encrypted reasoning, or the signature (with `content`) or redacted data (without)
    of an Anthropic thinking block. `source` names that provider's wire, and nobody else is sent it.
    """

    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] = ()
    encrypted_content: str | None = None
    id: str | None = None
    source: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, omit_defaults=True, tag="function_call", tag_field="type"):
    """A call with JSON arguments, kept as the text that the model wrote, valid or not."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None


class FunctionCallOutput(msgspec.Struct, frozen=True, tag="function_call_output", tag_field="type"):
    call_id: str
    output: str | tuple[ContentPart, ...]


class CustomToolCall(msgspec.Struct, frozen=True, omit_defaults=True, tag="custom_tool_call", tag_field="type"):
    """A call of a freeform tool: `input` is the text itself, not JSON."""

    call_id: str
    name: str
    input: str
    id: str | None = None


class CustomToolCallOutput(msgspec.Struct, frozen=True, tag="custom_tool_call_output", tag_field="type"):
    call_id: str
    output: str | tuple[ContentPart, ...]


class OpaqueItem(msgspec.Struct, frozen=True, tag="opaque", tag_field="type"):
    """An item of a type that only its provider understands (`web_search_call`, `compaction`, ...)."""

    raw: dict[str, Any]
    source: str


Item: TypeAlias = (
    Message | Reasoning | FunctionCall | FunctionCallOutput | CustomToolCall | CustomToolCallOutput | OpaqueItem
)
ToolCall: TypeAlias = FunctionCall | CustomToolCall
ToolOutput: TypeAlias = FunctionCallOutput | CustomToolCallOutput


def user_message(text: str, images: tuple[InputImage, ...] = ()) -> Message:
    """Return what a person said, with `images` after the words."""
    return Message(role="user", content=(InputText(text), *images))


def developer_message(text: str) -> Message:
    """Return an instruction of Lathe's own: above the person's words, below the system prompt."""
    return Message(role="developer", content=(InputText(text),))


def assistant_message(text: str) -> Message:
    """Return what a model said."""
    return Message(role="assistant", content=(OutputText(text),))


def text_of(item: Item) -> str:
    """Return the readable text of an item, parts joined by line breaks; "" where there is none."""
    match item:
        case Message(content=parts) | FunctionCallOutput(output=parts) | CustomToolCallOutput(output=parts):
            if isinstance(parts, str):
                return parts
            return "\n".join(_part_text(part) for part in parts if not isinstance(part, InputImage))
        case Reasoning(summary=summary, content=content):
            return "\n".join(part.text for part in (summary or content))
        case _:
            return ""


def output_for(call: ToolCall, output: str | tuple[ContentPart, ...]) -> ToolOutput:
    """Return the output item that answers `call`."""
    if isinstance(call, CustomToolCall):
        return CustomToolCallOutput(call_id=call.call_id, output=output)
    return FunctionCallOutput(call_id=call.call_id, output=output)


def _part_text(part: ContentPart) -> str:
    match part:
        case Refusal(refusal=text) | InputText(text=text) | OutputText(text=text):
            return text
        case _:
            return ""
