"""Sigma rules for processes and files: the part of the format that such rules use, compiled to quick checks.

Facts: the Sigma specification 2.1.0 (rules, modifiers, conditions). pySigma reads all of Sigma, but is LGPL-2.1 and
brings requests, jq and pyparsing; it writes queries for log stores, and would still need an engine beside it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lathe.guard.acts.sigma_values import Check, Clues, Fields, Probe, both, either, field_test
from lathe.protocol.errors import ConfigError

LEVELS = {"informational": 0.2, "low": 0.4, "medium": 0.6, "high": 0.85, "critical": 0.95}
"""How likely an act is what the rule says, by the rule's own level."""
CATEGORIES = ("process_creation", "file_event")
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()|]+|\|)")
_DEEPEST = 50


class Rule(NamedTuple):
    """A compiled rule. `clues`: all of them are in each text that it can match; () where none can be said."""

    id: str
    title: str
    level: str
    category: str
    tags: tuple[str, ...]
    clause: str
    check: Check
    clues: Clues
    source: str = ""

    @property
    def programs(self) -> frozenset[str] | None:
        """The programs of which one must run for it to match, in lower case; None where it is not about programs."""
        first = self.clues[0] if self.clues else None
        return first.programs if first is not None and not (first.pieces or first.patterns) else None

    @property
    def score(self) -> float:
        """How likely the act is what the rule says, from 0 to 1."""
        return LEVELS[self.level]


def read_rule(path: Path) -> Rule:
    """Return the rule in a YAML file; raise `ConfigError` with one sentence where it is none that can be used."""
    return compile_rule(read_plain(path), str(path))


def read_plain(path: Path) -> dict[str, Any]:
    """Return a rule's file as plain data; raise `ConfigError`."""
    from lathe.guard.reviewed import read_reviewed

    return read_reviewed(path, dict[str, Any])


def compile_rule(plain: Mapping[str, Any], source: str) -> Rule:
    """Return the rule that plain data say; raise `ConfigError` with one sentence where they can't be used."""
    try:
        return _compiled(plain, source)
    except _Wrong as error:
        raise ConfigError(f"{source} is no rule that can be used: {error}.", code="guard_rule") from None


class _Wrong(ValueError):
    pass


def _compiled(plain: Mapping[str, Any], source: str) -> Rule:
    title, detection, log = plain.get("title"), plain.get("detection"), plain.get("logsource")
    if not isinstance(title, str) or not isinstance(detection, dict) or not isinstance(log, dict):
        raise _Wrong("title, logsource and detection are needed")
    category, product = log.get("category"), log.get("product", "linux")
    if category not in CATEGORIES or product != "linux":
        raise _Wrong(f"its log source is not one of {' and '.join(CATEGORIES)} on linux")
    level = plain.get("level", "medium")
    if level not in LEVELS:
        raise _Wrong(f"there is no level {str(level)[:40]!r}")
    named = {str(name): value for name, value in detection.items()}
    conditions = named.pop("condition", None)
    lines = conditions if isinstance(conditions, list) else [conditions]
    if not lines or not all(isinstance(line, str) for line in lines):
        raise _Wrong("there is no condition")
    try:
        tests = {name: _selection(value) for name, value in named.items() if name != "timeframe"}
    except ValueError as error:
        raise _Wrong(str(error)) from None
    test = either([_Condition(line, tests).read() for line in lines])
    tags = plain.get("tags") or []
    return Rule(
        id=str(plain.get("id") or title),
        title=title,
        level=level,
        category=category,
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        clause=str(plain.get("clause") or ""),
        check=test.check,
        clues=test.clues,
        source=source,
    )


def _selection(value: Any, depth: int = 0) -> Probe:
    """Return the test of a selection: a map of fields (all of them), or a list of maps or of words (any of them)."""
    if depth > _DEEPEST:
        raise _Wrong("a selection nests too deep")
    if isinstance(value, dict):
        if not value:
            raise _Wrong("a selection is empty")
        return both([field_test(str(field), wanted) for field, wanted in value.items()])
    if isinstance(value, list):
        if not value:
            raise _Wrong("a selection is empty")
        return either([_selection(one, depth + 1) for one in value])
    if isinstance(value, str | int | float):
        return field_test("CommandLine|contains", value)
    raise _Wrong("a selection is neither a map nor a list")


class _Condition:
    """Reads a condition: `or` binds less than `and`, and that less than `not`."""

    def __init__(self, line: str, tests: Mapping[str, Probe]) -> None:
        self.line, self.tests, self.at, self.depth = line, tests, 0, 0
        self.tokens = [found[1] for found in _TOKEN.finditer(line)]

    def read(self) -> Probe:
        test = self._any()
        if self.at < len(self.tokens):
            raise _Wrong(f"its condition {self.line[:80]!r} can't be read from {self.tokens[self.at][:40]!r} on")
        return test

    def _next(self, *words: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at].lower() in words
        self.at += found
        return found

    def _any(self) -> Probe:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Wrong("its condition nests too deep")
        tests = [self._all()]
        while self._next("or"):
            tests.append(self._all())
        self.depth -= 1
        return either(tests)

    def _all(self) -> Probe:
        tests = [self._one()]
        while self._next("and"):
            tests.append(self._one())
        return both(tests)

    def _one(self) -> Probe:
        turned = False
        while self._next("not"):
            turned = not turned
        test = self._primary()
        return _not(test) if turned else test

    def _primary(self) -> Probe:
        if self._next("("):
            test = self._any()
            if not self._next(")"):
                raise _Wrong(f"a bracket of its condition {self.line[:80]!r} stays open")
            return test
        if self.at >= len(self.tokens):
            raise _Wrong(f"its condition {self.line[:80]!r} ends too early")
        word = self.tokens[self.at]
        self.at += 1
        if word.lower() in ("1", "any", "all") and self._next("of"):
            return self._of(word.lower())
        if word not in self.tests:
            raise _Wrong(f"its condition names {word[:40]!r}, which is no selection")
        return self.tests[word]

    def _of(self, how: str) -> Probe:
        pattern = self.tokens[self.at] if self.at < len(self.tokens) else ""
        self.at += 1
        names = [
            name
            for name in self.tests
            if (pattern == "them" and not name.startswith("_")) or fnmatch.fnmatchcase(name, pattern)
        ]
        if not names:
            raise _Wrong(f"no selection is called {pattern[:40]!r}")
        tests = [self.tests[name] for name in names]
        return both(tests) if how == "all" else either(tests)


def _not(test: Probe) -> Probe:
    def check(fields: Fields) -> bool:
        return not test.check(fields)

    return Probe(check, ())
