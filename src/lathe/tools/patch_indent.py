"""Carrying the indentation that a patch shows over to the one that the file has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import reduce
from math import gcd


def indent_of(line: str) -> str:
    """Return the spaces and tabs that `line` begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


class Indenter:
    """Knows, from lines of a patch and the lines of the file that they matched, how the one becomes the other.

    `pairs` are (line of the patch, line of the file); `inserted` are the lines that the patch adds, `file_lines`
    the whole file: they only tell the width of a step where the pairs do not.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], inserted: Sequence[str], file_lines: Sequence[str]) -> None:
        self.pairs = [(indent_of(ours), indent_of(theirs)) for ours, theirs in pairs if ours.strip()]
        self.changes = any(ours != theirs for ours, theirs in self.pairs)
        self._scale = self._fit(inserted, file_lines) if self.changes else None

    def carry(self, line: str, before: int) -> str:
        """Return `line` with the indentation of the file; `before` of the pairs stand above it."""
        indent = indent_of(line)
        if not self.changes or len(indent) == len(line):
            return line
        return self._indent(indent, before) + line[len(indent) :]

    def _indent(self, indent: str, before: int) -> str:
        for ours, theirs in (*reversed(self.pairs[:before]), *self.pairs[before:]):
            if ours == indent:
                return theirs
        if self._scale is not None and (scaled := self._scale(indent)) is not None:
            return scaled
        return self._nearest(indent)

    def _nearest(self, indent: str) -> str:
        """Keep what `indent` has beyond, or lacks of, the closest indentation that is known."""
        ours, theirs = max(self.pairs, key=lambda pair: (len(_common(pair[0], indent)), -len(pair[0])))
        if indent.startswith(ours):
            return theirs + indent[len(ours) :]
        missing = ours[len(indent) :]
        return theirs.removesuffix(missing) if ours.startswith(indent) else indent

    def _fit(self, inserted: Sequence[str], file_lines: Sequence[str]) -> Callable[[str], str | None] | None:
        """Return the straight line through all pairs (as counts of one character each), if there is one."""
        mine = _style([ours for ours, _ in self.pairs] + [indent_of(line) for line in inserted if line.strip()])
        theirs = _style(indent for _, indent in self.pairs)
        if mine is None or theirs is None:
            return None
        points = sorted({(len(a), len(b)) for a, b in self.pairs})
        (x0, y0), (x1, y1) = points[0], points[-1]
        if x1 > x0:
            slope = Fraction(y1 - y0, x1 - x0)
        else:
            steps = [len(indent_of(line)) for line in inserted] if theirs == "\t" else _spaces(file_lines)
            slope = _slope(points[0], mine, theirs, steps)
        if slope <= 0 or any(y != y0 + slope * (x - x0) for x, y in points):
            return None

        def scaled(indent: str) -> str | None:
            count = y0 + slope * (len(indent) - x0)
            if count.denominator == 1:
                return theirs * max(int(count), 0) if theirs else indent
            # alignment that is no whole step: whole steps, then the spaces that are left
            steps = max(count.numerator // count.denominator, 0)
            rest = len(indent) - (x0 + (steps - y0) / slope)
            return theirs * steps + " " * int(rest)

        return scaled


def _slope(point: tuple[int, int], mine: str, theirs: str, widths: Iterable[int]) -> Fraction:
    """Return how many of the file's characters one of the patch's is worth, where all pairs are `point`."""
    x, y = point
    if (mine or theirs) == (theirs or mine):
        return Fraction(1)
    if theirs == "\t":
        return Fraction(y, x) if x and y and x % y == 0 and x // y <= 8 else Fraction(1, _step([*widths, x]))
    return Fraction(y // x) if x and y and y % x == 0 else Fraction(_step(widths))


def _spaces(lines: Iterable[str]) -> list[int]:
    return [len(indent_of(line)) for line in lines if line.startswith(" ")]


def _style(indents: Iterable[str]) -> str | None:
    """Return the one character that all `indents` are made of, "" where all are empty, None for a mixture."""
    kinds = set().union(*map(set, indents))
    return None if len(kinds) > 1 else "".join(kinds)


def _step(widths: Iterable[int]) -> int:
    """Return the width of one step of an indentation of spaces, 4 where nothing tells."""
    step = reduce(gcd, widths, 0)
    return step if 2 <= step <= 8 else 4


def _common(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]
