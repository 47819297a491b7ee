"""The lines of a file that are most like some that are not in it: for the message of a failed patch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+")
_CANDIDATES = 40  # lines that are compared character by character
_SHOWN = 12
_WIDTH = 160


def nearest(lines: Sequence[str], sought: Sequence[str]) -> str:
    """Return a paragraph that shows the place of `lines` most like `sought`; its cost is bounded.

    Places are voted for by lines that agree but for space around them; where none does, the longest line sought
    is compared with those that share most words with it.
    """
    start = _voted(lines, sought)
    if start is None:
        start = _alike(lines, sought)
    if start is None:
        return "The file is empty." if not lines else f"Nothing in its {len(lines)} lines is like them."
    stop = min(len(lines), start + min(max(len(sought), 1), _SHOWN))
    shown = "\n".join(f"{number + 1:6}: {lines[number][:_WIDTH]}" for number in range(start, stop))
    return f"The nearest lines of the file are:\n{shown}"


def _voted(lines: Sequence[str], sought: Sequence[str]) -> int | None:
    offsets: dict[str, list[int]] = defaultdict(list)
    for offset, line in enumerate(sought):
        if line.strip():
            offsets[line.strip()].append(offset)
    votes: Counter[int] = Counter()
    for at, line in enumerate(lines):
        for offset in offsets.get(line.strip(), ())[:10]:
            votes[at - offset] += 1
    if not votes:
        return None
    return min(max(max(votes, key=lambda at: (votes[at], -at)), 0), len(lines) - 1)


def _alike(lines: Sequence[str], sought: Sequence[str]) -> int | None:
    offset = max(range(len(sought)), key=lambda i: len(sought[i].strip()), default=None)
    if offset is None:
        return None
    line = sought[offset].strip()[:_WIDTH]
    words = set(_WORD.findall(line))
    shared = [(len(words.intersection(_WORD.findall(other[:_WIDTH]))), -at) for at, other in enumerate(lines)]
    best: tuple[float, int] | None = None
    matcher = SequenceMatcher(b=line, autojunk=False)
    for count, at in sorted(shared, reverse=True)[:_CANDIDATES]:
        if count == 0:
            break
        matcher.set_seq1(lines[-at].strip()[:_WIDTH])
        best = max(best or (0.0, 0), (matcher.ratio(), at))
    return None if best is None else max(0, -best[1] - offset)
