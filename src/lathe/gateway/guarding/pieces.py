"""A conversation as callers send it, in the pieces that are judged and set aside one by one, for each wire.

A piece is one text of what a person, a developer or a model said, one tool call, or the output of one. What is
of no known shape is a piece too, with all the text that is in it: nothing goes unseen because nobody foresaw it. Shapes
are those of the vendors' references for Responses, Chat Completions and Messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from lathe.guard.findings import Provenance
from lathe.models.provider import WireName
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
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

Kind: TypeAlias = Literal["said", "call", "output", "thought", "other"]
FIELDS: dict[WireName, tuple[str, str]] = {
    "responses": ("input", "instructions"),
    "chat": ("messages", ""),
    "messages": ("messages", "system"),
}
"""In which fields of a request the conversation stands, and what the developer says before it."""
BESIDE: dict[WireName, tuple[str, ...]] = {
    "responses": ("tools", "prompt", "text"),
    "chat": ("tools", "functions", "prediction", "response_format"),
    "messages": ("tools", "output_config"),
}
"""Fields beside the conversation that hold texts a model reads."""
_ENCODED = frozenset({"type", "id", "signature", "encrypted_content", "file_data", "call_id", "status"})
_WEB = frozenset({"web_search_tool_result", "web_fetch_tool_result", "web_search_call", "search_result"})


class Piece(NamedTuple):
    """A piece: the item that it is in no wire's words, its text, who wrote it; `at` is the part, -1 for the whole."""

    kind: Kind
    item: Item
    text: str
    provenance: Provenance
    at: int = -1


def is_models(wire: WireName, element: Any) -> bool:
    """Say whether an element of a conversation is of the model's making."""
    if not isinstance(element, dict):
        return False
    if wire != "responses" or "role" in element:
        return element.get("role") == "assistant"
    kind = element.get("type")
    return isinstance(kind, str) and (
        kind == "reasoning" or (kind.endswith("_call") and kind != "function_call_output")
    )


def pieces_of(wire: WireName, element: Any) -> list[Piece]:
    """Return the pieces of one element of a conversation, or of what a developer says before it."""
    if isinstance(element, str):
        return [_said("user", element)] if element else []
    if not isinstance(element, dict):
        return [_other(element, "person")]
    if wire == "responses":
        return list(_responses(element))
    if wire == "chat":
        return list(_chat(element))
    return list(_messages(element))


def developers(field: Any) -> list[Piece]:
    """Return the pieces of what a developer says before a conversation, or beside it."""
    text = field if isinstance(field, str) else "\n".join(_every_text(field))
    return [_said("developer", text)] if text else []


def withheld(wire: WireName, element: Any, piece: Piece, notice: str) -> Any:
    """Return an element with `notice` in place of one of its pieces; None where nothing is left of it."""
    if not isinstance(element, dict):
        return notice if wire == "responses" else {"role": "user", "content": notice}
    if wire == "responses":
        return _without_item(element, piece, notice)
    if wire == "chat":
        return _without_part(element, piece, notice)
    return _without_block(element, piece, notice)


# Responses.


def _responses(item: dict[str, Any]) -> Iterator[Piece]:
    kind = item.get("type") or ("message" if "role" in item else "")
    call_id = _word(item.get("call_id"))
    if kind == "message":
        yield from _message(_role(item.get("role")), item.get("content"))
    elif kind == "function_call":
        yield _call(call_id, item.get("name"), item.get("arguments"), item.get("id"))
    elif kind == "custom_tool_call":
        name, text = _word(item.get("name")), _word(item.get("input"))
        made = CustomToolCall(call_id=call_id, name=name, input=text, id=_word(item.get("id")) or None)
        yield Piece("call", made, text, "model")
    elif kind in ("function_call_output", "custom_tool_call_output"):
        yield _output(call_id, item.get("output"))
    elif kind == "reasoning":
        yield _thought(item)
    elif kind == "item_reference":
        return
    else:
        yield _other(item, "web" if kind in _WEB else "tool" if kind.endswith("_output") else "model")


def _without_item(item: dict[str, Any], piece: Piece, notice: str) -> Any:
    if piece.kind == "thought":
        return None
    if piece.kind == "output":
        return {**item, "output": notice}
    if piece.kind == "call":
        if item.get("type") == "custom_tool_call":
            return {**_plain(item), "input": notice}
        return {**_plain(item), "arguments": _as_arguments(notice)}
    role = item.get("role") if piece.kind == "said" else "assistant"
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": notice}
    if piece.kind == "said" and piece.at >= 0:
        return {**item, "content": _put(item["content"], piece.at, part)}
    return {"type": "message", "role": role, "content": [part]}


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "id"}  # under the id an upstream may keep the first


# Chat Completions.


def _chat(message: dict[str, Any]) -> Iterator[Piece]:
    role = message.get("role")
    if role in ("tool", "function"):
        yield _output(_word(message.get("tool_call_id")) or _word(message.get("name")), message.get("content"))
        return
    yield from _message(_role(role), message.get("content"))
    if isinstance(refusal := message.get("refusal"), str):
        yield _said("assistant", refusal)
    if thought := message.get("reasoning_content"):
        yield _thought({"content": [{"text": _word(thought)}]})
    for at, call in enumerate(_listed(message.get("tool_calls"))):
        yield _chat_call(call, at)
    if isinstance(old := message.get("function_call"), dict):
        yield _call(_word(old.get("name")), old.get("name"), old.get("arguments"), None)


def _chat_call(call: Any, at: int) -> Piece:
    if not isinstance(call, dict):
        return _other(call, "model", at)
    if isinstance(custom := call.get("custom"), dict):
        text = _word(custom.get("input"))
        made = CustomToolCall(call_id=_word(call.get("id")), name=_word(custom.get("name")), input=text)
        return Piece("call", made, text, "model", at)
    given = call.get("function")
    function = given if isinstance(given, dict) else {}
    return _call(_word(call.get("id")), function.get("name"), function.get("arguments"), None)._replace(at=at)


def _without_part(message: dict[str, Any], piece: Piece, notice: str) -> Any:
    if piece.kind == "thought":
        return {key: value for key, value in message.items() if not key.startswith("reasoning")}
    if piece.kind != "call":
        content = message.get("content")
        if piece.kind == "said" and piece.at >= 0:
            return {**message, "content": _put(content, piece.at, {"type": "text", "text": notice})}
        return {**{key: value for key, value in message.items() if key != "refusal"}, "content": notice}
    if piece.at < 0:
        return {**message, "function_call": {**message["function_call"], "arguments": _as_arguments(notice)}}
    calls = list(message["tool_calls"])
    call = calls[piece.at]
    if "custom" in call:
        calls[piece.at] = {**call, "custom": {**call["custom"], "input": notice}}
    else:
        function = call.get("function")
        held = function if isinstance(function, dict) else {}
        calls[piece.at] = {**call, "function": {**held, "arguments": _as_arguments(notice)}}
    return {**message, "tool_calls": calls}


# Messages.


def _messages(message: dict[str, Any]) -> Iterator[Piece]:
    role, content = _role(message.get("role")), message.get("content")
    if isinstance(content, str):
        yield _said(role, content)
        return
    for at, block in enumerate(_listed(content)):
        kind = block.get("type") if isinstance(block, dict) else "text" if isinstance(block, str) else ""
        match kind:
            case "text" | "image" | "document":
                yield from _part(role, block, at)
            case "tool_use":
                arguments = msgspec.json.encode(block.get("input")).decode()
                yield _call(_word(block.get("id")), block.get("name"), arguments, None)._replace(at=at)
            case "tool_result":
                yield _output(_word(block.get("tool_use_id")), block.get("content"))._replace(at=at)
            case "thinking":
                yield _thought({"content": [{"text": _word(block.get("thinking"))}]})._replace(at=at)
            case "redacted_thinking":
                continue
            case _:
                yield _other(block, "web" if kind in _WEB else "tool" if role == "user" else "model", at)


def _without_block(message: dict[str, Any], piece: Piece, notice: str) -> Any:
    content = message.get("content")
    text = {"type": "text", "text": notice}
    if not isinstance(content, list):
        return {**message, "content": notice}
    block = content[piece.at]
    if piece.kind == "thought":
        kept = [*content[: piece.at], *content[piece.at + 1 :]]
        return {**message, "content": kept} if kept else None
    instead: Any = text
    if piece.kind == "call":
        instead = {**block, "input": {"withheld": notice}}
    elif piece.kind == "output":
        instead = {**{key: value for key, value in block.items() if key != "is_error"}, "content": notice}
    return {**message, "content": _put(content, piece.at, instead)}


# What they share.


def _role(role: Any) -> Role:
    return role if role in ("assistant", "system", "developer") else "user"


_AUTHORS: dict[Role, Provenance] = {
    "user": "person",
    "assistant": "model",
    "system": "developer",
    "developer": "developer",
}


def _message(role: Role, content: Any) -> Iterator[Piece]:
    if isinstance(content, str):
        yield _said(role, content)
    else:
        for at, part in enumerate(_listed(content)):
            yield from _part(role, part, at)


def _part(role: Role, part: Any, at: int) -> Iterator[Piece]:
    text, images = "\n".join(_texts([part])), tuple(_images([part]))
    if text or images:
        yield _said(role, text, images, at)


def _said(role: Role, text: str, images: tuple[str, ...] = (), at: int = -1) -> Piece:
    first = OutputText(text) if role == "assistant" else InputText(text)
    return Piece("said", Message(role, (first, *map(InputImage, images))), text, _AUTHORS[role], at)


def _put(content: Any, at: int, part: Any) -> list[Any]:
    return [*content[:at], part, *content[at + 1 :]]


def _call(call_id: str, name: Any, arguments: Any, id: Any) -> Piece:
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return Piece("call", FunctionCall(call_id, _word(name), text, _word(id) or None), text, "model")


def _output(call_id: str, output: Any) -> Piece:
    text = "\n".join(_texts(output))
    parts: tuple[ContentPart, ...] = (InputText(text), *map(InputImage, _images(output)))
    return Piece("output", FunctionCallOutput(call_id, parts), text, "tool")


def _thought(item: dict[str, Any]) -> Piece:
    text = "\n".join([*_texts(item.get("summary")), *_texts(item.get("content"))])
    made = Reasoning(content=(ReasoningText(text),), encrypted_content=_word(item.get("encrypted_content")) or None)
    return Piece("thought", made, text, "model")


def _other(value: Any, author: Provenance, at: int = -1) -> Piece:
    raw = value if isinstance(value, dict) else {"value": value}
    return Piece("other", OpaqueItem(raw, "caller"), "\n".join(_every_text(value)), author, at)


def _as_arguments(notice: str) -> str:
    return msgspec.json.encode({"withheld": notice}).decode()


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _texts(content: Any) -> Iterator[str]:
    """Yield the texts of a content: a string, or parts of any wire."""
    for part in _listed(content):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            if isinstance(text := part.get("text", part.get("refusal")), str):
                yield text
            elif part.get("type") not in ("image", "image_url", "input_image", "input_audio"):
                yield from _every_text(part)


def _images(content: Any) -> Iterator[str]:
    for part in _listed(content):
        if not isinstance(part, dict):
            continue
        match part.get("type"):
            case "image_url":
                url = part.get("image_url")
                yield _word(url.get("url")) if isinstance(url, dict) else _word(url)
            case "input_image":
                yield _word(part.get("image_url"))
            case "image":
                source = part.get("source")
                if isinstance(source, dict):
                    data = _word(source.get("data"))
                    yield f"data:{source.get('media_type')};base64,{data}" if data else _word(source.get("url"))


def _every_text(value: Any) -> Iterator[str]:
    """Yield all texts in a value, in order; what is encoded (base64, a signature) says nothing."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, dict):
            encoded = _ENCODED if one.get("type") != "base64" else _ENCODED | {"data"}
            waiting += [one[key] for key in reversed(one) if key not in encoded]
