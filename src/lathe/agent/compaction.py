"""Compaction: a long conversation becomes a short one that lacks nothing the work needs.

What is certain is kept as it is: the person's messages, the plan, the diff so far, the last failing test run,
the open processes. What only the model knows is asked of the model; where it can't answer, the rest stands
without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lathe.agent.context import BYTES_PER_TOKEN, estimate_tokens
from lathe.models.base import Completed, ItemDone, ModelClient, ModelRequest, RetryScheduled, Transcript
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import ContextOverflow, LatheError
from lathe.protocol.items import (
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    text_of,
    user_message,
)
from lathe.protocol.usage import Usage

_TEST_RUN = re.compile(
    r"\b(pytest|unittest|tox|nox|jest|vitest|mocha|phpunit|rspec|ctest)\b"
    r"|\b(cargo|go|npm|pnpm|yarn|make|mvn|gradle|dotnet|deno|bun|mix|swift|zig)\s+(run\s+)?(test|check|t)\b"
)
_FAILED = re.compile(r"^exit (?!0\b)\d+")


class Kept(msgspec.Struct, frozen=True):
    """What is certain, as texts; "" where there is nothing."""

    plan: str = ""
    diff: str = ""
    processes: str = ""


class Shares(msgspec.Struct, frozen=True):
    """How many tokens of the new conversation each part may take."""

    messages: int
    diff: int
    failure: int

    @classmethod
    def of(cls, window: int) -> Shares:
        return cls(messages=max(500, window // 8), diff=max(300, window // 16), failure=max(200, window // 32))


def compact_prompt() -> str:
    """Return what the model is asked for the hand-over."""
    return (Path(__file__).parent / "prompts" / "compact.md").read_text(encoding="utf-8").strip()


def compacted(items: Sequence[Item], opening: Sequence[Item], kept: Kept, summary: str, window: int) -> list[Item]:
    """Return the new conversation: the opening, the person's messages, one message with all that is kept."""
    shares = Shares.of(window)
    blocks = ["<context_compacted>The conversation so far was shortened to what follows.</context_compacted>"]
    for name, text in (
        ("handover", summary),
        ("plan", kept.plan),
        ("diff_so_far", clip(kept.diff, shares.diff)),
        ("last_failing_tests", last_failing_tests(items, shares.failure)),
        ("open_processes", kept.processes),
    ):
        if text:
            blocks.append(f"<{name}>\n{text}\n</{name}>")
    said = [item for item in items if is_person(item)]
    return [
        *opening,
        *newest(said, shares.messages),
        user_message("\n".join(["<context_state>", *blocks, "</context_state>"])),
    ]


def is_person(item: Item) -> bool:
    """Return whether a person wrote this item."""
    return isinstance(item, Message) and item.role == "user" and not text_of(item).startswith("<context")


def newest(messages: Sequence[Item], limit: int) -> list[Item]:
    """Return the messages that fit into `limit` tokens: the first one always, then the newest; long ones clipped."""
    if not messages:
        return []
    first, *rest = (_clipped(message, limit // 2) for message in messages)
    left = limit - estimate_tokens(first)
    chosen: list[Item] = []
    for message in reversed(rest):
        left -= estimate_tokens(message)
        if left < 0:
            break
        chosen.append(message)
    return [first, *reversed(chosen)]


def last_failing_tests(items: Sequence[Item], limit: int) -> str:
    """Return the last test command that failed and its output, clipped; "" where a later run passed."""
    outputs = {item.call_id: text_of(item) for item in items if isinstance(item, FunctionCallOutput)}
    for item in reversed(items):
        if isinstance(item, FunctionCall) and (command := _command(item)) and _TEST_RUN.search(command):
            output = outputs.get(item.call_id, "")
            return f"$ {command}\n{clip(output, limit)}" if _FAILED.match(output) else ""
    return ""


def clip(text: str, tokens: int) -> str:
    """Return `text` with its middle left out where it is longer than about `tokens` tokens."""
    limit = int(tokens * BYTES_PER_TOKEN)
    if len(text) <= limit:
        return text
    head, tail = limit // 3, limit - limit // 3
    return f"{text[:head]}\n[... {len(text) - limit:,} characters left out ...]\n{text[-tail:]}"


async def ask_for_handover(client: ModelClient, request: ModelRequest, room: int) -> tuple[str, Usage]:
    """Return the model's own summary and what it cost; ("", what it cost) where it gives none.

    The request begins with the thread's own prefix, so that the provider's cache serves it; where that does
    not fit (`room` tokens), the longest outputs are clipped first.
    """
    question = user_message(compact_prompt())
    whole = Transcript([*request.transcript.items, question])
    shortened = Transcript([*_shortened(request.transcript.items, room), question])
    spent = Usage()
    attempts = [whole] if sum(map(estimate_tokens, whole.items)) < room else []
    for transcript in (*attempts, shortened):
        texts: list[str] = []
        try:
            async for part in client.stream(
                msgspec.structs.replace(request, transcript=transcript, output_schema=None)
            ):
                match part:
                    case ItemDone(item=Message() as message):
                        texts.append(text_of(message))
                    case RetryScheduled():
                        texts.clear()
                    case Completed(usage=usage, stop=stop):
                        spent = spent + usage
                        if stop == "refusal":
                            texts.clear()
                    case _:
                        pass
        except ContextOverflow:
            continue
        except LatheError:
            return "", spent
        return "\n".join(texts).strip(), spent
    return "", spent


def _shortened(items: Sequence[Item], room: int) -> list[Item]:
    """Return the items with long outputs clipped until they take about half of `room`."""
    limit = 2_000
    current = list(items)
    while limit >= 100 and sum(map(estimate_tokens, current)) > room // 2:
        current = [_clipped(item, limit) for item in current]
        limit //= 2
    return current


def _clipped(item: Item, tokens: int) -> Item:
    if estimate_tokens(item) <= tokens:
        return item
    if isinstance(item, FunctionCallOutput | CustomToolCallOutput):
        return msgspec.structs.replace(item, output=clip(text_of(item), tokens))
    if isinstance(item, Message) and item.role == "user":
        images = sum(isinstance(part, InputImage) for part in item.content)
        left_out = f"\n[{images} images were here and are left out]" if images else ""
        return user_message(clip(text_of(item), tokens) + left_out)
    return item


def _command(call: FunctionCall) -> str:
    try:
        arguments = decode_json(call.arguments)
    except DecodeError:
        return ""
    command = arguments.get("cmd", "") if isinstance(arguments, dict) else ""
    return command if isinstance(command, str) else ""
