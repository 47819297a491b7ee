"""Who wrote which part of a conversation. It follows from how an item came to be, never from what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lathe.agent.known import only_reads
from lathe.guard.findings import Part, Provenance
from lathe.guard.shell import plain_parts
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    text_of,
)
from lathe.store.threads import is_request

_FETCHES = re.compile(r"\b(?:curl|wget|lynx|w3m|links|httpie|https?)\b|://")
_WEB_TOOL = re.compile(r"web|fetch|browse|search|http|url|page", re.IGNORECASE)
_SUMMARY = "<context_state"
"""What a compaction made of the thread: the model's words about what was read."""


def parts_of(items: Iterable[Item]) -> list[Part]:
    """Return the texts of a conversation with who wrote them; what the model wrote itself is left out."""
    found: list[Part] = []
    calls: dict[str, FunctionCall | CustomToolCall] = {}
    for at, item in enumerate(items):
        if isinstance(item, FunctionCall | CustomToolCall):
            calls[item.call_id] = item
        elif isinstance(item, FunctionCallOutput | CustomToolCallOutput):
            found.append(Part(item.call_id, text_of(item), _of_output(calls.get(item.call_id))))
        elif isinstance(item, Message) and item.role != "assistant":
            found.append(Part(item.id or f"item_{at}", text_of(item), _of_message(item)))
    return found


def _of_message(item: Message) -> Provenance:
    if is_request(item):
        return "person"
    return "tool" if text_of(item).startswith(_SUMMARY) else "developer"


def _of_output(call: FunctionCall | CustomToolCall | None) -> Provenance:
    name = call.name if call is not None else ""
    if name == "ask_user":
        return "person"
    if name == "update_plan":
        return "model"
    if name == "view_image":
        return "file"
    if name == "exec_command" and isinstance(call, FunctionCall):
        return _of_command(call.arguments)
    return "web" if name.startswith("mcp__") and _WEB_TOOL.search(name) else "tool"


def _of_command(arguments: str) -> Provenance:
    try:
        given = decode_json(arguments)
    except DecodeError:
        return "tool"
    command = given.get("cmd") if isinstance(given, dict) else None
    if not isinstance(command, str):
        return "tool"
    if _FETCHES.search(command):
        return "web"
    parts = plain_parts(command)
    return "file" if parts is not None and all(only_reads(part) for part in parts) else "tool"
