"""What a scripted turn says, and what came of it, in one form that all wires can be compared in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from models.wire_reading import Entry

from lathe.models.script import Call, Foreign, FreeformCall, Refuse, Said, Step, Thought, Tokens, Words
from lathe.protocol.items import (
    ContentPart,
    CustomToolCall,
    FunctionCall,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    Refusal,
    text_of,
)
from lathe.protocol.usage import Usage

Normal: TypeAlias = tuple[str, ...]


def said_items(step: Step, number: int) -> list[Normal]:
    """Return what `step`, as answer to request `number`, should come out as."""
    return joined(entry for place, said in enumerate(step.say) for entry in said_item(said, number, place))


def said_item(said: Said, number: int, place: int) -> list[Normal]:
    match said:
        case Thought(text=text):
            return [("thought", text)]
        case Words(text=text):
            return [("say", text)]
        case Refuse(text=text):
            return [("refusal", text)]
        case Call(name=name, arguments=arguments, call_id=call_id):
            return [("call", call_id or f"call_{number}_{place}", name, arguments)]
        case FreeformCall(name=name, input=text, call_id=call_id):
            return [("freeform", call_id or f"call_{number}_{place}", name, text)]
        case Foreign():
            return []


def came_items(items: Iterable[Item]) -> list[Normal]:
    """Return items without what may differ: ids of items, sources, encrypted parts, how words are cut."""
    entries: list[Normal] = []
    for item in items:
        match item:
            case Message(role=role, content=content):
                assert role == "assistant"
                for part in content:
                    entries.append(("refusal", part.refusal) if isinstance(part, Refusal) else ("say", part_text(part)))
            case Reasoning():
                entries.append(("thought", text_of(item)))
            case FunctionCall():
                entries.append(("call", item.call_id, item.name, item.arguments))
            case CustomToolCall():
                entries.append(("freeform", item.call_id, item.name, item.input))
            case OpaqueItem():
                pass
            case _:
                raise AssertionError(f"a model does not say {item}")
    return joined(entries)


def part_text(part: ContentPart) -> str:
    assert not isinstance(part, InputImage | Refusal)
    return part.text


def joined(entries: Iterable[Normal]) -> list[Normal]:
    result: list[Normal] = []
    for entry in entries:
        if entry[0] in ("say", "thought"):
            if not entry[1]:
                continue
            if result and result[-1][0] == entry[0]:
                result[-1] = (entry[0], result[-1][1] + entry[1])
                continue
        result.append(entry)
    return result


def words_of(entries: Sequence[Entry], *kinds: str) -> str:
    return "".join(entry[1] for entry in entries if entry[0] in kinds)


def without_places(entries: Sequence[Entry]) -> list[Any]:
    """Return thoughts, words and calls, each kind on its own."""
    calls = [entry for entry in entries if entry[0] in ("call", "freeform", "output")]
    return [words_of(entries, "thought"), words_of(entries, "say"), words_of(entries, "input"), calls]


def without_ids(entries: Sequence[Normal]) -> list[Normal]:
    return [(entry[0], "", *entry[2:]) if entry[0] in ("call", "freeform") else entry for entry in entries]


def usage_of(tokens: Tokens | None) -> Usage:
    if tokens is None:
        return Usage()
    return Usage(
        input_tokens=tokens.input,
        cached_input_tokens=tokens.cached,
        output_tokens=tokens.output,
        reasoning_output_tokens=tokens.reasoning,
        cache_write_tokens=tokens.cache_write,
    )


def stop_of(step: Step) -> str:
    return step.stop or ("refusal" if any(isinstance(said, Refuse) for said in step.say) else "end")
