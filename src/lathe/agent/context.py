"""What the model is told of its surroundings: once at the start, then only what changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lathe.protocol.codec import encode
from lathe.protocol.items import FunctionCallOutput, InputImage, Item, Message, user_message

BYTES_PER_TOKEN = 3.6
IMAGE_TOKENS = 1_500
_PERSONAL = ("instructions", "skills")


def system_prompt() -> str:
    """Return the stable head of every request."""
    return (Path(__file__).parent / "prompts" / "system.md").read_text(encoding="utf-8").strip()


def opening(surroundings: Mapping[str, str]) -> list[Item]:
    """Return the items that a thread begins with.

    `surroundings` maps a name (`cwd`, `sandbox`, ...) to a line; `instructions` and `skills` are texts of
    several lines and get a block of their own.
    """
    lines = [f"{name}: {value}" for name, value in surroundings.items() if name not in _PERSONAL and value]
    blocks = ["<context>", *lines, "</context>"]
    for name in _PERSONAL:
        if text := surroundings.get(name):
            blocks += [f"<context_{name}>", text, f"</context_{name}>"]
    return [user_message("\n".join(blocks))]


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[Item]:
    """Return the item that says what changed since the model was last told, or nothing."""
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    changed.update({name: "(none any more)" for name in before if before[name] and not after.get(name)})
    if not changed:
        return []
    lines = [f"{name}: {value}" for name, value in changed.items() if name not in _PERSONAL]
    blocks = ["<context_change>", *lines, "</context_change>"]
    for name in _PERSONAL:
        if name in changed:
            blocks += [f"<context_{name} replaces_earlier>", changed[name], f"</context_{name}>"]
    return [user_message("\n".join(blocks))]


def budget_note(used: int, limit: int) -> Item:
    """Return the item that tells the model how much room is left, in tokens."""
    left = max(0, limit - used)
    share = round(100 * left / limit) if limit else 0
    return user_message(
        f"<context_budget>About {left:,} tokens ({share} %) are left before the conversation is compacted."
        " Keep outputs small and finish what is open.</context_budget>"
    )


def estimate_tokens(item: Item) -> int:
    """Return about how many tokens an item costs; images count a flat rate, whatever their bytes."""
    if isinstance(item, Message | FunctionCallOutput):
        parts = item.content if isinstance(item, Message) else item.output
        if not isinstance(parts, str) and any(isinstance(part, InputImage) for part in parts):
            images = sum(isinstance(part, InputImage) for part in parts)
            rest = [part for part in parts if not isinstance(part, InputImage)]
            return images * IMAGE_TOKENS + int(len(encode(rest)) / BYTES_PER_TOKEN)
    return int(len(encode(item)) / BYTES_PER_TOKEN) + 4
