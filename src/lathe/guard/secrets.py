"""Finding secrets in text by rules, at a cost that ordinary output hardly feels.

A text is first looked through for the rules' keywords. A shipped rule is then tried only on the lines that hold one, so
that a word as common as `token` costs little; a rule of a person's own is tried on the whole text, as gitleaks does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lathe.guard.secret_rules import Rule, RuleSet

_RUN = 16
"""Letters and digits at a stretch that the keyword of a `run` rule goes with."""
_BEFORE = 128
"""Characters before a keyword that a local rule may need."""
_ALPHANUMERIC = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONG = b"a" * _RUN
_SHAPES = bytes(ord("a") if code in _ALPHANUMERIC else ord(" ") for code in range(256))


class Found(NamedTuple):
    """A secret at `text[start:end]`; `kind` is the rule that told it, in word characters, `rank` its place."""

    start: int
    end: int
    kind: str
    rank: int = 0


class _Probe(NamedTuple):
    """A keyword that is looked for, and the keywords that contain it: each with where in it, and its rules."""

    text: str
    keywords: list[tuple[str, int, list[Rule]]]


class Detector:
    """Finds secrets by `rules`."""

    def __init__(self, rules: RuleSet) -> None:
        self._allowlists = rules.allowlists
        self._ranks = {rule.id: rank for rank, rule in enumerate(rules.rules)}
        self._whole = [rule for rule in rules.rules if not rule.local]
        lines: dict[str, list[Rule]] = {}
        self._run: dict[str, list[Rule]] = {}
        for rule in rules.rules:
            if rule.local:
                place = self._run if rule.run else lines
                for keyword in rule.keywords:
                    place.setdefault(keyword, []).append(rule)
        self._probes = [
            _Probe(short, [(word, word.index(short), lines[word]) for word in lines if short in word])
            for short in lines
            if not any(other in short for other in lines if other != short)
        ]
        self._before_run = tuple(keyword for keyword in self._run if not keyword.isalnum())
        self._in_run = tuple(keyword for keyword in self._run if keyword.isalnum())
        self._separators = frozenset(keyword[-1] for keyword in self._before_run)

    def find(self, text: str) -> list[Found]:
        """Return the secrets in `text`, in no order; they may overlap."""
        # One character stays one character, so that places in one are places in the other.
        plain = text if text.isascii() else text.encode("ascii", "replace").decode("ascii")
        low = plain.lower()
        found: list[Found] = []
        for rule in self._whole:
            if not rule.keywords or any(keyword in low for keyword in rule.keywords):
                found += self._matches(rule, text, 0, len(text))
        for probe in self._probes:
            found += self._on_lines(probe, text, low)
        return found + self._at_runs(text, low)

    def _on_lines(self, probe: _Probe, text: str, low: str) -> list[Found]:
        """Return what the rules find on the lines that hold one of their keywords."""
        found: list[Found] = []
        done: dict[str, int] = {}
        at = low.find(probe.text)
        while at >= 0:
            for keyword, offset, rules in probe.keywords:
                if low.startswith(keyword, max(at - offset, 0)):
                    found += self._on_line(rules, text, at, done)
            at = low.find(probe.text, at + 1)
        return found

    def _on_line(self, rules: list[Rule], text: str, at: int, done: dict[str, int]) -> Iterator[Found]:
        """Yield what `rules` find on the line of `at`; `done` says up to where each was tried before."""
        for rule in rules:
            if at >= done.get(rule.id, 0):
                start, done[rule.id] = _around(text, at)
                yield from self._matches(rule, text, start, done[rule.id])

    def _at_runs(self, text: str, low: str) -> list[Found]:
        """Return what `run` rules find: long runs of letters and digits are few, so their many keywords cost little."""
        found: list[Found] = []
        done: dict[str, int] = {}
        shape = low.encode("ascii").translate(_SHAPES)
        start = shape.find(_LONG)
        while start >= 0:
            if low.startswith(self._in_run, start) or (
                low[start - 1 : start] in self._separators
                and low.endswith(self._before_run, max(0, start - _BEFORE), start)
            ):
                for keyword, rules in self._run.items():
                    if low.startswith(keyword, start) or low.endswith(keyword, 0, start):
                        found += self._on_line(rules, text, start, done)
            end = shape.find(b" ", start + _RUN)
            start = shape.find(_LONG, end) if end >= 0 else -1
        return found

    def _matches(self, rule: Rule, text: str, start: int, end: int) -> Iterator[Found]:
        for match in rule.pattern.finditer(text, start, end):
            place = rule.secret_of(match, self._allowlists)
            if place is not None:
                yield Found(*place, rule.kind, self._ranks[rule.id])


def _around(text: str, at: int) -> tuple[int, int]:
    """Return the line that holds `at`, with the line break before it and, if it is long, not from its beginning."""
    end = text.find("\n", at)
    return max(text.rfind("\n", 0, at), at - _BEFORE, 0), len(text) if end < 0 else end


def merged(spans: list[Found]) -> list[Found]:
    """Return the spans in order, those that overlap as one, of the kind that comes first among the rules."""
    merged: list[Found] = []
    for found in sorted(spans, key=lambda one: (one.start, -one.end)):
        if merged and found.start < merged[-1].end:
            last = merged[-1]
            kind, rank = min((last, found), key=lambda one: one.rank)[2:]
            merged[-1] = Found(last.start, max(found.end, last.end), kind, rank)
        else:
            merged.append(found)
    return merged
