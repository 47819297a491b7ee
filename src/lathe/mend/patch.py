"""Changed files as text: the `*** Begin Patch` format, and a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TypeAlias

CONTEXT = 3
Opcode: TypeAlias = tuple[str, int, int, int, int]


def render_patch(changes: Mapping[str, tuple[str, str]], ascii_only: Collection[str] = ()) -> str:
    """Return a patch that turns, for each path, the first text into the second; "" where nothing differs.

    Every chunk has up to three lines of context on each side and, where that is not unique in the file, the line
    above that makes it so as an `@@` anchor, as far as there is one. A patch is UTF-8, so the paths in `ascii_only`,
    files in another encoding, get context only as far as it is ASCII.
    """
    parts = []
    for path, (before, after) in sorted(changes.items()):
        if before != after:
            parts.append(f"*** Update File: {path}\n{_chunks(_lines(before), _lines(after), path in ascii_only)}")
    return "*** Begin Patch\n" + "".join(parts) + "*** End Patch\n" if parts else ""


def render_diff(changes: Mapping[str, tuple[str, str]]) -> str:
    """Return the same as a unified diff."""
    parts = []
    for path, (before, after) in sorted(changes.items()):
        lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{path}", f"b/{path}", n=CONTEXT, lineterm="")
        parts += [f"{line}\n" for line in lines]
    return "".join(parts)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _chunks(before: list[str], after: list[str], ascii_only: bool, context: int = CONTEXT) -> str:
    written: list[str] = []
    for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(context):
        if ascii_only:
            group = _ascii_context(group, before)
        start, end = group[0][1], group[-1][2]
        anchor = _anchor(before, start, end)
        if anchor is None and not ascii_only and context < len(before):
            return _chunks(before, after, ascii_only, len(before))  # the whole file fits in one place only
        written.append(f"@@ {anchor}" if anchor else "@@")
        for tag, low, high, new_low, new_high in group:
            if tag == "equal":
                written += [f" {line}" for line in before[low:high]]
            else:
                written += [f"-{line}" for line in before[low:high]]
                written += [f"+{line}" for line in after[new_low:new_high]]
    return "".join(f"{line}\n" for line in written)


def _ascii_context(group: list[Opcode], lines: list[str]) -> list[Opcode]:
    """Return `group` without the lines of context at its ends that are not ASCII, and those beyond them."""
    tag, low, high, new_low, new_high = group[0]
    if tag == "equal":
        keep = next((count for count in range(high - low) if not lines[high - 1 - count].isascii()), high - low)
        group = [(tag, high - keep, high, new_high - keep, new_high), *group[1:]]
    tag, low, high, new_low, new_high = group[-1]
    if tag == "equal":
        keep = next((count for count in range(high - low) if not lines[low + count].isascii()), high - low)
        group = [*group[:-1], (tag, low, low + keep, new_low, new_low + keep)]
    return group


def _anchor(lines: list[str], start: int, end: int) -> str | None:
    """Return a line above `start` that occurs nowhere before and leaves one place where the chunk fits.

    "" where none is needed, None where there is none.
    """
    chunk = lines[start:end]
    first = next(at for at in range(len(lines)) if lines[at : at + len(chunk)] == chunk)
    if first == start:
        return ""
    for at in range(start - 1, first, -1):
        if lines[at].strip() and lines.index(lines[at]) == at:
            between = range(at + 1, start)
            if all(lines[other : other + len(chunk)] != chunk for other in between):
                return lines[at]
    return None
