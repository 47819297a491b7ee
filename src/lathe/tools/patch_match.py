"""Finding where the hunks of a patch belong in a file, and what the file becomes.

Lines are compared in passes, as Codex CLI does it: exactly, without trailing space, without surrounding space,
with typographic dashes, quotes and spaces as ASCII. A stricter pass anywhere wins over a laxer one nearby.
Context lines are never written: they stay as the file has them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import add
from typing import NamedTuple

from lathe.tools.patch import Hunk, Op, PatchError
from lathe.tools.patch_indent import Indenter
from lathe.tools.patch_text import Splice, Text

_ASCII = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    }
)
# what a reader was shown of bytes that are no UTF-8
_UNREADABLE = re.compile("[\udc80-\udcff\ufffd]+")


def _plain(line: str) -> str:
    return _UNREADABLE.sub("\ufffd", line.translate(_ASCII)).strip()


_PASSES: tuple[Callable[[str], str], ...] = (str, str.rstrip, str.strip, _plain)
_SHIFTED = 2  # from this pass on, a match may differ in indentation


class Updated(NamedTuple):
    """A file after its hunks: its bytes, what was spliced in, and remarks for the model."""

    data: bytes
    splices: tuple[Splice, ...]
    remarks: tuple[str, ...]


class _Match(NamedTuple):
    at: int
    lines: tuple[tuple[Op, str], ...]
    lax: int


def update(text: Text, hunks: Sequence[Hunk], name: str) -> Updated:
    """Return what `text`, the file called `name`, becomes; raise `PatchError` with the nearest lines."""
    finder = _Finder(text.lines)
    splices: list[Splice] = []
    remarks: list[str] = []
    taken: list[tuple[int, int]] = []
    cursor = 0
    final_newline: bool | None = None
    for number, hunk in enumerate(hunks, 1):
        match = finder.place(hunk, cursor, taken)
        if match is None:
            raise PatchError(f"{name}: {_title(hunk, number, len(hunks))} {_complaint(finder, hunk, cursor)}")
        stop = match.at + sum(op != "+" for op, _ in match.lines)
        changed, reindented = _splices(match, text.lines, name)
        splices += changed
        if stop > match.at:
            taken.append((match.at, stop))
        if match.at < len(text.lines):
            cursor = max(cursor, stop)
        if hunk.final_newline is not None and stop == len(text.lines):
            final_newline = hunk.final_newline
        if reindented:
            remarks.append(f"hunk {number} of {name} was re-indented to fit the file")
    splices.sort(key=lambda splice: splice.start)  # stable: additions at one place stay in order
    return Updated(text.spliced(splices, final_newline), tuple(splices), tuple(remarks))


class _Finder:
    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self._keys: dict[int, list[str]] = {}
        self._anchors: dict[tuple[str, int], list[int]] = {}

    def keys(self, lax: int) -> list[str]:
        """Return the file's lines as the pass `lax` compares them."""
        if lax not in self._keys:
            self._keys[lax] = list(map(_PASSES[lax], self.lines))
        return self._keys[lax]

    def place(self, hunk: Hunk, cursor: int, taken: Sequence[tuple[int, int]]) -> _Match | None:
        """Return where `hunk` belongs: after `cursor`, or else at the one free place before it that fits."""
        if not any(op != "+" for op, _ in hunk.lines):
            return self._place_addition(hunk, cursor)
        starts = self._starts(hunk, cursor)
        for start, anchor in starts:
            match = self._context(hunk, start, anchor)
            if match is not None:
                return match
        if cursor == 0 or not starts:
            return None
        # out of order: only where there can be no doubt
        top = self._starts(hunk, 0)
        match = self._context(hunk, *top[0]) if top else None
        if match is None or self._context(hunk, match.at + 1, None) is not None:
            return None
        stop = match.at + sum(op != "+" for op, _ in match.lines)
        return None if any(start < stop and match.at < end for start, end in taken) else match

    def _place_addition(self, hunk: Hunk, cursor: int) -> _Match | None:
        if hunk.at_end or not hunk.anchors:
            return _Match(len(self.lines), hunk.lines, 0)
        starts = self._starts(hunk, cursor)
        return _Match(starts[0][1] + 1, hunk.lines, 0) if starts and starts[0][1] is not None else None

    def _starts(self, hunk: Hunk, cursor: int) -> list[tuple[int, int | None]]:
        """Return from where to search, and the line of the innermost anchor: ahead first, then behind."""
        if not hunk.anchors:
            return [(cursor, None)]
        starts: list[tuple[int, int | None]] = []
        ahead = self.anchored(hunk.anchors, cursor)
        if ahead is not None:
            starts.append((ahead, ahead))
        # a second hunk under the same anchor: the anchor is behind, its lines are ahead
        behind = None
        at = self.anchored(hunk.anchors, 0)
        while at is not None and at < cursor:
            behind, at = at, self.anchored(hunk.anchors, at + 1)
        if behind is not None:
            starts.append((max(cursor, behind + 1), behind))
        return starts

    def anchored(self, anchors: Sequence[str], start: int) -> int | None:
        """Return the line of the innermost of `anchors`, each below the one before it."""
        at = start - 1
        for anchor in anchors:
            found = self._anchor(anchor, at + 1)
            if found is None:
                return None
            at = found
        return at

    def _anchor(self, anchor: str, start: int) -> int | None:
        for lax in range(len(_PASSES) + 2):
            places = self._places(anchor, lax)
            at = bisect_left(places, start)
            if at < len(places):
                return places[at]
        return None

    def _places(self, anchor: str, lax: int) -> list[int]:
        """Return the lines that are `anchor`, and in two laxer passes those that begin with it or hold it."""
        known = self._anchors.get((anchor, lax))
        if known is None:
            keys = self.keys(min(lax, len(_PASSES) - 1))
            fits = _PASSES[lax](anchor).__eq__ if lax < len(_PASSES) else _holds(anchor, lax == len(_PASSES))
            known = self._anchors[anchor, lax] = [at for at, key in enumerate(keys) if fits(key)]
        return known

    def _context(self, hunk: Hunk, start: int, anchor: int | None) -> _Match | None:
        match = self._exactly(hunk.lines, start, anchor, hunk.at_end)
        if match is None and (lines := _without_blank_edges(hunk.lines)) != hunk.lines:
            match = self._exactly(lines, start, anchor, hunk.at_end)
        return match

    def _exactly(
        self, lines: tuple[tuple[Op, str], ...], start: int, anchor: int | None, at_end: bool
    ) -> _Match | None:
        old = [text.removesuffix("\r") for op, text in lines if op != "+"]
        if not old or len(old) > len(self.lines):
            return None
        wanted = [list(map(key, old)) for key in _PASSES]
        if anchor is not None and start == anchor:
            # the context may repeat the line of the anchor; otherwise it begins below
            for lax, want in enumerate(wanted):
                if self.keys(lax)[anchor : anchor + len(want)] == want:
                    return _Match(anchor, lines, lax)
            start = anchor + 1
        if at_end:
            return self._from_the_end(lines, wanted, start)
        for lax, want in enumerate(wanted):
            at = _index(self.keys(lax), want, start)
            if at is not None:
                return _Match(at, lines, lax)
        return None

    def _from_the_end(
        self, lines: tuple[tuple[Op, str], ...], wanted: Sequence[Sequence[str]], start: int
    ) -> _Match | None:
        """Return the match at the end, blank lines aside, or else the last one."""
        length = len(wanted[0])
        latest = len(self.lines) - length
        blank = 0
        while blank < len(self.lines) and not self.lines[-1 - blank].strip():
            blank += 1
        for first in (max(start, latest - blank), start):
            for lax, want in enumerate(wanted):
                keys = self.keys(lax)
                for at in range(latest, first - 1, -1):
                    if keys[at] == want[0] and keys[at : at + length] == want:
                        return _Match(at, lines, lax)
        return None


def _holds(anchor: str, at_start: bool) -> Callable[[str], object]:
    """Return a test for lines that say `anchor` as whole words: `def run` for `def run(self):`, no `def runner()`."""
    words = _plain(anchor)
    pattern = re.compile(r"(?<!\w)" * words[:1].isalnum() + re.escape(words) + r"(?!\w)" * words[-1:].isalnum())
    return pattern.match if at_start else pattern.search


def _index(keys: list[str], want: Sequence[str], start: int) -> int | None:
    """Return where `want` first stands in `keys` at or after `start`."""
    rare = max(range(len(want)), key=lambda i: len(want[i]))
    length = len(want)
    at = start
    while True:
        try:
            at = keys.index(want[rare], at + rare) - rare
        except ValueError:
            return None
        if keys[at : at + length] == want:
            return at
        at += 1


def _without_blank_edges(lines: tuple[tuple[Op, str], ...]) -> tuple[tuple[Op, str], ...]:
    """Return `lines` without the blank context lines around: often just the space between hunks."""
    start, stop = 0, len(lines)
    while start < stop and lines[start][0] == " " and not lines[start][1].strip():
        start += 1
    while stop > start and lines[stop - 1][0] == " " and not lines[stop - 1][1].strip():
        stop -= 1
    return lines[start:stop]


def _splices(match: _Match, file_lines: Sequence[str], name: str) -> tuple[list[Splice], bool]:
    """Return the changes of a placed hunk, its inserted lines fitted to the file, and whether that moved any."""
    old = [text.removesuffix("\r") for op, text in match.lines if op != "+"]
    real = file_lines[match.at : match.at + len(old)]
    pairs = list(zip(old, real, strict=True))
    carried = any(text.endswith("\r") for op, text in match.lines if op != "+")
    added = [text.removesuffix("\r") if carried else text for op, text in match.lines if op == "+"]
    # a line that is removed and added again is meant to stay as it is, whatever the patch got wrong about it
    kept = {ours: theirs for ours, theirs in pairs if ours.strip()} if match.lax else {}
    indenter = Indenter(pairs, added, file_lines) if match.lax >= _SHIFTED else None
    unread = _Unreadable(real) if match.lax == len(_PASSES) - 1 else None
    splices: list[Splice] = []
    at = start = match.at
    new: list[str] = []
    queue = iter(added)
    above = 0
    reindented = False
    for op, text in (*match.lines, (" ", "")):
        if op == "+":
            line = next(queue)
            if line in kept:
                new.append(kept[line])
                continue
            fitted = indenter.carry(line, above) if indenter else line
            reindented = reindented or fitted != line
            new.append(unread.restored(fitted, file_lines[start:], name) if unread else fitted)
            continue
        if op == " ":
            if at > start or new:
                splices.append(Splice(start, at, tuple(new)))
            start, new = at + 1, []
        at += 1
        above += bool(text.strip())
    return splices, reindented


class _Unreadable:
    """Bytes of matched lines that are no UTF-8, which the model could only see, and repeat, as U+FFFD."""

    def __init__(self, real: Sequence[str]) -> None:
        self.any = any(map(_UNREADABLE.search, real))

    def restored(self, line: str, following: Sequence[str], name: str) -> str:
        """Return `line` with the bytes for its U+FFFD, from the first of the `following` lines that has as many."""
        marks = _UNREADABLE.findall(line) if self.any else []
        if "\ufffd" not in "".join(marks):
            return line
        for real in following[:20]:
            runs = _UNREADABLE.findall(real)
            if len(runs) == len(marks):
                return "".join(map(add, _UNREADABLE.split(line), [*runs, ""]))
        raise PatchError(
            f"{name} has bytes that are not UTF-8, and the patch would write U+FFFD in their place: '{line.strip()}'. "
            "Change the lines around them, or edit this file with a command."
        )


def _title(hunk: Hunk, number: int, count: int) -> str:
    anchors = " ".join(f"@@ {anchor.strip()}" for anchor in hunk.anchors)
    return f"hunk {number} of {count}" + (f" ({anchors})" if anchors else "")


def _complaint(finder: _Finder, hunk: Hunk, cursor: int) -> str:
    from lathe.tools.patch_nearest import nearest

    if hunk.anchors and finder.anchored(hunk.anchors, 0) is None:
        what, sought = "its '@@' anchor is not in the file, or not below the one before it", list(hunk.anchors)
    else:
        what = "these lines are not in the file" + (
            f" below line {cursor}, where the last hunk ended" if cursor else ""
        )
        sought = [text.removesuffix("\r") for op, text in hunk.lines if op != "+"]
    quoted = "\n".join(f"    {line}" for line in sought[:20])
    return f"does not fit: {what}:\n{quoted}\n{nearest(finder.lines, sought)}"
