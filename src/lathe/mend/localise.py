"""Where the faults may be: spectrum-based localisation over the lines that each test ran.

Lines are scored by Ochiai (Abreu, Zoeteweij, van Gemund: "An evaluation of similarity coefficients for software fault
localization", 2006), once for all failing tests and once for each group of failing tests that look alike, so that one
fault does not hide another.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from lathe.mend.project import TestRun
from lathe.mend.source import Definition, Function, SourceFile

Line = tuple[str, int]
_FRAME_BONUS = 1.2
_NAME_BONUS = 1.15
_INDIRECT = 0.8


class Spectrum:
    """Which tests ran which lines of the files that may be changed, and how suspicious that makes each line."""

    def __init__(self, runs: Sequence[TestRun], editable: Iterable[str]) -> None:
        files = set(editable)
        self.failing = [index for index, run in enumerate(runs) if run.is_failure]
        self.groups = _groups(runs, self.failing)
        self.failed_at: defaultdict[Line, list[int]] = defaultdict(list)
        self.passed_at: defaultdict[Line, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            if run.outcome == "died":
                continue
            table = self.failed_at if run.is_failure else self.passed_at
            for path in run.lines.keys() & files:
                for line in run.lines[path]:
                    table[path, line].append(index)
        self.suspicion = self._suspicions()
        self.mentioned = _mentioned(runs, self.failing)
        self.crashes = self._crashes(runs)
        for index in self.failing:
            for path, number in runs[index].frames:
                if (path, number) in self.suspicion:
                    self.suspicion[path, number] = min(1.0, self.suspicion[path, number] * _FRAME_BONUS)

    def _suspicions(self) -> dict[Line, float]:
        """Return the score of every line that a failing test ran, at most 1.

        The strongest line of each group of tests has 1: a fault that fewer or less telling tests show is as much a
        fault as the others.
        """
        suspicion = {line: self._score(line, self.failing) for line in self.failed_at}
        for group in self.groups:
            scores = {line: self._score(line, group) for line in self.failed_at}
            strongest = max(scores.values(), default=0.0)
            for line, score in scores.items():
                if score:
                    suspicion[line] = max(suspicion[line], score / strongest)
        return suspicion

    def _score(self, line: Line, group: Sequence[int]) -> float:
        hit = len(set(self.failed_at[line]).intersection(group))
        return hit / math.sqrt(len(group) * (hit + len(self.passed_at.get(line, ())))) if hit else 0.0

    def _crashes(self, runs: Sequence[TestRun]) -> frozenset[Line]:
        """Return the lines of the project at which failing tests came to an error that no test raised."""
        ends = (runs[index].frames[-1] for index in self.failing if runs[index].frames)
        return frozenset((path, number) for path, number in ends if (path, number) in self.suspicion)

    def is_crash(self, source: SourceFile, node: ast.stmt) -> bool:
        """Return whether tests came to an error in `node` itself, which it does not raise by its own words."""
        if isinstance(node, ast.Raise):
            return False
        return any((source.path, line) in self.crashes for line in source.header_lines(node))

    def of_statement(self, source: SourceFile, node: ast.stmt, uses: dict[str, list[Line]]) -> float:
        """Return the suspicion of `node` itself, without the statements inside it.

        `uses` says where names are mentioned: what stands outside functions runs at import, under no test, and is as
        suspicious as the lines that use the names it binds.
        """
        own = max((self.suspicion.get((source.path, line), 0.0) for line in source.header_lines(node)), default=0.0)
        function = source.function(node)
        if function is not None and function.name in self.mentioned:
            own = min(1.0, own * _NAME_BONUS)
        if source.function(source.parents.get(node, node)) is not None or isinstance(node, Function):
            return own
        mentioned = (line for name in _bound(node) for line in uses.get(name, ()))
        return max(own, _INDIRECT * max((self.suspicion.get(line, 0.0) for line in mentioned), default=0.0))

    def tests_of(self, source: SourceFile, node: ast.stmt) -> tuple[list[int], list[int]] | None:
        """Return the failing and the passing tests that run the function around `node`; None outside functions."""
        function = source.function(node)
        if function is None:
            return None
        lines = range(source.first_line(function), (function.end_lineno or function.lineno) + 1)
        failed = {test for line in lines for test in self.failed_at.get((source.path, line), ())}
        passed = {test for line in lines for test in self.passed_at.get((source.path, line), ())}
        return sorted(failed), sorted(passed)


def uses_of_names(sources: Iterable[SourceFile]) -> dict[str, list[Line]]:
    """Return for each name the lines of the project that mention it, as a name or as an attribute."""
    uses: defaultdict[str, list[Line]] = defaultdict(list)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Name):
                uses[node.id].append((source.path, node.lineno))
            elif isinstance(node, ast.Attribute):
                uses[node.attr].append((source.path, node.end_lineno or node.lineno))
    return dict(uses)


def _mentioned(runs: Sequence[TestRun], failing: Iterable[int]) -> set[str]:
    """Return the names that the failing tests have in theirs, as `discount` in `test_discount_of_two`."""
    names: set[str] = set()
    for index in failing:
        words = runs[index].name.rpartition("::")[2].partition("[")[0].lower().split("_")
        for start in range(len(words)):
            names.update("_".join(words[start:end]) for end in range(start + 1, len(words) + 1))
    return names - {"test", ""}


def _groups(runs: Sequence[TestRun], failing: Sequence[int]) -> list[list[int]]:
    """Return the failing tests that failed alike: same kind of error at the same place, or cases of one test."""
    groups: defaultdict[tuple[str, object], list[int]] = defaultdict(list)
    for index in failing:
        run = runs[index]
        kind = run.error.partition(":")[0]
        place: object = run.frames[-1] if run.frames else None
        groups[kind, place].append(index)
    return list(groups.values())


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, Definition):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        targets = [node.target]
    return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
