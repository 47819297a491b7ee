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
        self.suspicion = {line: self._score(line) for line in self.failed_at}
        for index in self.failing:
            for path, number in runs[index].frames:
                if (path, number) in self.suspicion:
                    self.suspicion[path, number] = min(1.0, self.suspicion[path, number] * _FRAME_BONUS)

    def _score(self, line: Line) -> float:
        failed, passed = set(self.failed_at[line]), len(self.passed_at.get(line, ()))
        best = 0.0
        for group in (self.failing, *self.groups):
            hit = len(failed.intersection(group))
            if hit:
                best = max(best, hit / math.sqrt(len(group) * (hit + passed)))
        return best

    def of_statement(self, source: SourceFile, node: ast.stmt, uses: dict[str, list[Line]]) -> float:
        """Return the suspicion of `node` itself, without the statements inside it.

        `uses` says where names are mentioned: what stands outside functions runs at import, under no test, and is as
        suspicious as the lines that use the names it binds.
        """
        own = max((self.suspicion.get((source.path, line), 0.0) for line in source.header_lines(node)), default=0.0)
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
