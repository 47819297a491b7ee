"""What a block does to a thread: the offending item is set aside, and nothing else happens to the thread.

Everything here is a function of items and of what is blocked, so a thread that is resumed, forked, retried or handed
to a sub-agent comes to the same conversation. Three rules are the caller's: new input is judged by itself, whatever was
blocked before it; what of it is served is `let_in`; what is sent to a model or compacted is `without(items, blocked)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lathe.guard.ladder import Measure
from lathe.protocol.codec import encode
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    text_of,
)


class Blocked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item that is set aside: its `identity`, its id where it had one, and why. It never holds the content."""

    identity: str
    code: str
    clause: str
    decision: str
    id: str = ""


class Looked(NamedTuple):
    """That an item was judged, and whether it was blocked."""

    identity: str
    blocked: bool


def identity(item: Item) -> str:
    """Return the SHA-256 of what an item says, in hexadecimal.

    Ids don't count, nor do spaces or how a wire splits a text into parts: a retry, a fork and another wire give the
    same.
    """
    match item:
        case Message(role=role):
            said: list[str] = ["message", role, _words(text_of(item)), *_images(item)]
        case Reasoning():
            said = ["reasoning", _words(text_of(item)), item.encrypted_content or ""]
        case FunctionCall(name=name, arguments=arguments):
            said = ["call", name, _words(arguments)]
        case CustomToolCall(name=name, input=text):
            said = ["call", name, _words(text)]
        case FunctionCallOutput() | CustomToolCallOutput():
            said = ["output", _words(text_of(item)), *_images(item)]
        case OpaqueItem(raw=raw):
            plain = {key: value for key, value in raw.items() if key not in ("id", "status")}
            said = ["opaque", msgspec.json.encode(plain, order="sorted").decode()]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def set_aside(measure: Measure, items: Mapping[str, Item], *, newest: str, decision: str) -> tuple[Blocked, ...]:
    """Return what a measure blocks of `items`, which are named as the parts and calls that were judged.

    That is the call, or the items in which the evidence of its clause lies; where it names none, the `newest` input.
    """
    if not measure.blocks or measure.step == "restrict":
        return ()
    named = [span.part for one in measure.evidence if one.clause == measure.clause for span in one.spans]
    if measure.subject in items:
        named = [measure.subject]
    chosen = list(dict.fromkeys(name for name in named if name in items)) or [
        name for name in (newest,) if name in items
    ]
    return tuple(
        Blocked(
            identity=identity(items[name]),
            code=measure.code,
            clause=measure.clause,
            decision=decision,
            id=_model_id(items[name]),
        )
        for name in chosen
        if name in items
    )


def without(items: Sequence[Item], blocked: Iterable[Blocked]) -> list[Item]:
    """Return the items with a stand-in for each that is blocked; applied twice it changes nothing more.

    Each item's place depends only on itself (an output's on its call), so what was a prefix stays one. What the model
    thought is left out without a stand-in, for no provider takes another's words for its own.
    """
    by_identity = {one.identity: one for one in blocked}
    if not by_identity:
        return list(items)
    by_id = {one.id: one for one in by_identity.values() if one.id}
    calls: dict[str, Blocked] = {}
    kept: list[Item] = []
    for item in items:
        why = by_identity.get(identity(item)) or by_id.get(_model_id(item))
        if isinstance(item, FunctionCall | CustomToolCall):
            calls.pop(item.call_id, None)
            if why is not None:
                calls[item.call_id] = why
        elif why is None and isinstance(item, FunctionCallOutput | CustomToolCallOutput):
            why = calls.get(item.call_id)
        if why is None:
            kept.append(item)
        elif (instead := _stand_in(item, notice_line(why))) is not None:
            kept.append(instead)
    return kept


def joined(*sets: Iterable[Blocked]) -> tuple[Blocked, ...]:
    """Return what is blocked in any of several threads, for a fork or a sub-agent: the content stays out there too.

    Nothing else is handed on: no count of blocks, no pause, no standing.
    """
    return tuple({one.identity: one for blocked in sets for one in blocked}.values())


def released(blocked: Iterable[Blocked], decision: str) -> tuple[Blocked, ...]:
    """Return what stays blocked once a decision is reversed."""
    return tuple(one for one in blocked if one.decision != decision)


def let_in(blocked: Iterable[Blocked], served: Iterable[Item]) -> tuple[Blocked, ...]:
    """Return what stays blocked once items were judged anew and served: by another model, or with an access granted."""
    again = {identity(item) for item in served}
    return tuple(one for one in blocked if one.identity not in again)


def blocks_in_a_row(looked: Sequence[Looked]) -> int:
    """Return how many different items were blocked since the last that was not; a retry is the same item."""
    found: set[str] = set()
    for one in reversed(looked):
        if not one.blocked:
            break
        found.add(one.identity)
    return len(found)


def _words(text: str) -> str:
    return " ".join(text.split())


def _images(item: Message | FunctionCallOutput | CustomToolCallOutput) -> list[str]:
    parts = item.content if isinstance(item, Message) else item.output
    return [] if isinstance(parts, str) else [part.image_url for part in parts if isinstance(part, InputImage)]


def _model_id(item: Item) -> str:
    """Return the id of an item that a model made. A person may send other words under an id that was blocked."""
    if isinstance(item, FunctionCall | CustomToolCall | Reasoning):
        return item.id or ""
    return item.id or "" if isinstance(item, Message) and item.role == "assistant" else ""


def notice_line(why: Blocked) -> str:
    """Return the line that stands in place of what is set aside."""
    return f"[withheld: {why.code}, clause {why.clause}, decision {why.decision}. What stood here was set aside.]"


def _stand_in(item: Item, notice: str) -> Item | None:
    """Return what takes an item's place: of its kind and its call, so that the conversation stays a valid one."""
    match item:
        case Message(role="assistant"):
            return Message(role="assistant", content=(OutputText(notice),))
        case Message(role=role):
            return Message(role=role, content=(InputText(notice),))
        case FunctionCall(call_id=call_id, name=name):
            return FunctionCall(call_id=call_id, name=name, arguments=encode({"withheld": notice}).decode())
        case CustomToolCall(call_id=call_id, name=name):
            return CustomToolCall(call_id=call_id, name=name, input=notice)
        case FunctionCallOutput(call_id=call_id):
            return FunctionCallOutput(call_id=call_id, output=notice)
        case CustomToolCallOutput(call_id=call_id):
            return CustomToolCallOutput(call_id=call_id, output=notice)
        case OpaqueItem():
            return Message(role="assistant", content=(OutputText(notice),))
        case _:
            return None
