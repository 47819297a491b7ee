"""Reads the requests of the three wires back into one form, and holds them to the rules of their APIs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec

from lathe.models.script import Wire

Entry: TypeAlias = tuple[str, ...]
"""A kind ("input", "image", "say", "call", "output", "thought", "opaque") and its texts."""


def raw_input(wire: Wire, body: bytes) -> bytes:
    """Return the bytes of the conversation's array as they stand in `body`, without its closing bracket."""
    raw = bytes(raw_fields(body)["input" if wire == "responses" else "messages"])
    assert raw[:1] == b"["
    assert raw[-1:] == b"]"
    return raw[:-1]


def raw_fields(body: bytes) -> dict[str, bytes]:
    """Return the bytes of each value of the body's outermost object, by key and in order."""
    return {key: bytes(raw) for key, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


def prefix_breaks(wire: Wire, bodies: Sequence[bytes]) -> list[int]:
    """Return the places in `bodies` of requests that do not begin with the one before them, byte for byte.

    Input, and everything beside it: instructions, tools and settings. A retry, which is the same, breaks nothing.
    """
    field = "input" if wire == "responses" else "messages"
    breaks = []
    for place, (before, after) in enumerate(pairwise(bodies), start=1):
        begin, now = raw_input(wire, before), raw_input(wire, after)
        rest = [{key: raw for key, raw in raw_fields(body).items() if key != field} for body in (before, after)]
        if not now.startswith(begin) or now[len(begin) : len(begin) + 1] not in (b"", b",") or rest[0] != rest[1]:
            breaks.append(place)
    return breaks


def read(wire: Wire, body: dict[str, Any]) -> list[Entry]:
    """Return what `body` tells the model, in order, system prompt left out."""
    return READERS[wire](body)


def check(wire: Wire, body: dict[str, Any]) -> None:
    """Assert that `body` has nothing that the API of `wire` refuses a request for."""
    CHECKS[wire](body)
    called = [entry[1] for entry in read(wire, body) if entry[0] == "call"]
    assert len(called) == len(set(called)), "each call has an id of its own"


def _read_responses(body: dict[str, Any]) -> list[Entry]:
    entries: list[Entry] = []
    for item in body["input"]:
        match item.get("type"):
            case "message":
                kind = "say" if item["role"] == "assistant" else "input"
                entries += _parts(item["content"], kind)
            case "function_call":
                entries.append(("call", item["call_id"], item["name"], item["arguments"]))
            case "custom_tool_call":
                entries.append(("call", item["call_id"], item["name"], json.dumps({"input": item["input"]})))
            case "function_call_output" | "custom_tool_call_output":
                entries += _output(item["call_id"], _parts(item["output"], "text"))
            case "reasoning":
                texts = [part["text"] for part in item.get("content") or item.get("summary") or ()]
                entries.append(("thought", "".join(texts), item.get("encrypted_content", "")))
            case _:
                entries.append(("opaque", json.dumps(item, sort_keys=True)))
    return entries


def _parts(content: str | list[dict[str, Any]], kind: str) -> list[Entry]:
    if isinstance(content, str):
        return [(kind, content)]
    entries: list[Entry] = []
    for part in content:
        match part["type"]:
            case "input_image":
                entries.append(("image", part["image_url"]))
            case "image_url":
                entries.append(("image", part["image_url"]["url"]))
            case "image":
                source = part["source"]
                url = (
                    f"data:{source['media_type']};base64,{source['data']}"
                    if source["type"] == "base64"
                    else source["url"]
                )
                entries.append(("image", url))
            case "refusal":
                entries.append((kind, part["refusal"]))
            case _:
                entries.append((kind, part["text"]))
    return entries


def _output(call_id: str, parts: list[Entry]) -> list[Entry]:
    text = "".join(part[1] for part in parts if part[0] == "text")
    return [("output", call_id, text), *(part for part in parts if part[0] == "image")]


def _read_chat(body: dict[str, Any]) -> list[Entry]:
    entries: list[Entry] = []
    for message in body["messages"]:
        content = message.get("content")
        match message["role"]:
            case "assistant":
                if message.get("reasoning_content"):
                    entries.append(("thought", message["reasoning_content"], ""))
                entries += _parts(content or "", "say")
                entries += [("say", message["refusal"])] if message.get("refusal") else []
                for call in message.get("tool_calls") or ():
                    entries.append(("call", call["id"], call["function"]["name"], call["function"]["arguments"]))
            case "tool":
                entries += _output(message["tool_call_id"], _parts(content, "text"))
            case _:
                entries += _parts(content, "input")
    return entries[1:] if body["messages"][0]["role"] == "system" else entries


def _read_messages(body: dict[str, Any]) -> list[Entry]:
    entries: list[Entry] = []
    for message in body["messages"]:
        own = message["role"] == "assistant"
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text" | "image":
                    entries += _parts([block], "say" if own else "input")
                case "tool_use":
                    entries.append(("call", block["id"], block["name"], json.dumps(block["input"])))
                case "tool_result":
                    entries += _output(block["tool_use_id"], _parts(block.get("content") or [], "text"))
                case "thinking":
                    entries.append(("thought", block["thinking"], block["signature"]))
                case "redacted_thinking":
                    entries.append(("thought", "", block["data"]))
                case _:
                    entries.append(("opaque", json.dumps(block, sort_keys=True)))
    return entries


def _check_responses(body: dict[str, Any]) -> None:
    assert body["stream"] is True
    assert body["store"] is False
    open_calls: list[str] = []
    for item in body["input"]:
        if item["type"] in ("message", "reasoning", "function_call", "custom_tool_call"):
            assert item.get("id") is None  # with store: false the API looks ids up and finds none
        for part in item["content"] if item["type"] == "message" else ():
            assert part["type"] in (
                ("output_text", "refusal") if item["role"] == "assistant" else ("input_text", "input_image")
            )
        if item["type"].endswith("_call") and "call_id" in item:
            open_calls.append(item["call_id"])
        elif item["type"].endswith("_call_output"):
            open_calls.remove(item["call_id"])
    assert not open_calls


def _check_chat(body: dict[str, Any]) -> None:
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, "every call is answered before anyone else speaks"
        if message["role"] == "assistant":
            assert message.get("content") or message.get("tool_calls") or message.get("refusal")
            for call in message.get("tool_calls") or ():
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
                waiting.append(call["id"])
        else:
            assert message["content"]
    assert not waiting


def _check_messages(body: dict[str, Any]) -> None:
    assert body["stream"] is True
    assert body["max_tokens"] > 0
    assert body["messages"][0]["role"] == "user"
    assert body["messages"][-1]["role"] == "user"
    waiting: list[str] = []
    for message in body["messages"]:
        assert message["role"] in ("user", "assistant")
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        assert blocks
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert sorted(results) == sorted(waiting), "results follow their calls at once"
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert all(isinstance(block["input"], dict) for block in blocks if block["type"] == "tool_use")
        assert all(block["text"].strip() for block in blocks if block["type"] == "text"), "text must not be blank"
    assert not waiting


READERS: dict[Wire, Callable[[dict[str, Any]], list[Entry]]] = {
    "responses": _read_responses,
    "chat": _read_chat,
    "messages": _read_messages,
}
CHECKS: dict[Wire, Callable[[dict[str, Any]], None]] = {
    "responses": _check_responses,
    "chat": _check_chat,
    "messages": _check_messages,
}


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """Return `entries` with neighbours of words joined and empty words dropped: wires cut them differently."""
    result: list[Entry] = []
    for entry in entries:
        if entry[0] in ("say", "input") and result and result[-1][0] == entry[0]:
            result[-1] = (entry[0], result[-1][1] + entry[1])
        elif entry[0] not in ("say", "input") or entry[1]:
            result.append(entry)
    return result
