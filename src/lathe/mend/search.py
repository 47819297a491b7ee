"""The search: localise, propose, try, keep what helps, and again, until the suite is green or the time is over."""

from __future__ import annotations

import ast
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from lathe.mend.hunt import Candidate, Hunt
from lathe.mend.localise import Spectrum, uses_of_names
from lathe.mend.operators.propose import propose
from lathe.mend.operators.registry import Edit
from lathe.mend.operators.vocabulary import Vocabulary
from lathe.mend.patch import render_diff, render_patch
from lathe.mend.project import Project, TestRun, command, environment
from lathe.mend.report import Alternative, Change, RepairReport, Status, TestCounts
from lathe.mend.source import SourceFile
from lathe.mend.workspace import Workspace, find_python, scratch_copy

Progress = Callable[[str], None]
COLLECT_S = 20.0  # a small budget still lets a large project be imported
_SUSPICION_WEIGHT = 1.5
_AT_IMPORT_COST = 0.8  # such a candidate costs a fresh import, a hundred times a swapped function
_LEAST_SUSPICION = 0.02
_MAX_ALTERNATIVES = 8


class Options(msgspec.Struct, frozen=True):
    """How to search: `tests` are arguments for pytest, `seconds` is the whole budget, `jobs` run at the same time."""

    tests: tuple[str, ...] = ()
    seconds: float = 60.0
    jobs: int = 0
    memory_mb: int = 1024


def repair(path: Path, options: Options, progress: Progress = lambda _: None) -> RepairReport:
    """Search for edits that make the failing tests of the project at `path` pass and break none.

    The project itself is not touched: the report holds the patch. Raises `UsageError` with one sentence for what
    cannot be searched (no tests, no pytest, tests that cannot be imported, ...), `TurnError` where the project's
    process ends by itself.
    """
    started = time.monotonic()
    python = find_python(path)
    with scratch_copy(path) as workspace:
        return Search(workspace, python, options, progress, started).run()


class Search:
    """One search in one scratch copy, which it changes as it keeps edits."""

    def __init__(self, workspace: Workspace, python: str, options: Options, progress: Progress, started: float) -> None:
        self._workspace = workspace
        self._python = python
        self._options = options
        self._progress = progress
        self._started = started
        self._deadline = started + options.seconds
        self._jobs = options.jobs or min(4, os.cpu_count() or 1)
        self._originals: dict[str, SourceFile] = {}
        self._changes: list[Change] = []
        self._alternatives: list[Alternative] = []
        self._notes: list[str] = []
        self._tried = 0
        self._version = ""

    def run(self) -> RepairReport:
        """Return what was found."""
        first: list[TestRun] | None = None
        while True:
            with self._project() as project:
                runs = self._baseline(project)
                first = first if first is not None else runs
                if first is runs:
                    self._note_first(runs)
                failing = [run.name for run in runs if run.is_failure]
                self._progress(f"{len(failing)} of {len(runs)} tests fail")
                found = self._round(project, runs) if failing and self._left() > 0 else []
            if not found:
                return self._report(first, runs)
            self._keep(found, runs)

    def _project(self) -> Project:
        return Project(
            self._workspace, self._python, list(self._options.tests), jobs=self._jobs, memory_mb=self._options.memory_mb
        )

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _baseline(self, project: Project) -> list[TestRun]:
        project.collect(timeout=max(COLLECT_S, self._left()))
        self._version = project.python
        limit = min(5.0, max(1.0, self._options.seconds / 12))
        return project.baseline(limit, time.monotonic() + max(COLLECT_S, self._left()))

    def _note_first(self, runs: list[TestRun]) -> None:
        died = [run.name for run in runs if run.outcome == "died"]
        hung = [run.name for run in runs if run.outcome == "hung"]
        if died:
            self._notes.append(f"left out, because they end the process they run in: {_some(died)}")
        if hung:
            self._notes.append(f"did not end in time and count as failing: {_some(hung)}")

    # --- one round: a project as it stands, one edit more

    def _round(self, project: Project, runs: list[TestRun]) -> list[Candidate]:
        """Return the edits that help and break nothing, the best first."""
        sources = self._sources(project, runs)
        candidates = self._candidates(sources, runs)
        self._progress(f"{len(candidates)} candidate edits")
        groups = len(Spectrum(runs, ()).groups)
        hunt = Hunt(project, runs, groups=groups, started=self._started, deadline=self._deadline)
        try:
            return hunt.run(candidates, self._progress)
        finally:
            self._tried += hunt.tried

    def _sources(self, project: Project, runs: list[TestRun]) -> list[SourceFile]:
        """Return the project's files that some test ran and that are no tests."""
        tests = set(project.files)
        sources = []
        for path in sorted({path for run in runs for path in run.lines}):
            name = PurePosixPath(path).name
            if path in tests or name == "conftest.py" or name.startswith("test_") or name.endswith("_test.py"):
                continue
            try:
                sources.append(SourceFile.read(self._workspace.root, path))
            except (SyntaxError, UnicodeDecodeError, OSError) as error:
                note = f"{path} was left alone, it cannot be read: {error}"
                self._notes += [note] if note not in self._notes else []
        return sources

    def _candidates(self, sources: list[SourceFile], runs: list[TestRun]) -> list[Candidate]:
        spectrum = Spectrum(runs, [source.path for source in sources])
        vocabulary, uses = Vocabulary(sources), uses_of_names(sources)
        strongest = max(spectrum.suspicion.values(), default=1.0)
        cost = {index: run.cpu for index, run in enumerate(runs)}
        everything = [index for index, run in enumerate(runs) if run.outcome in ("passed", "skipped")]
        candidates: list[Candidate] = []
        for source in sources:
            doubt: dict[ast.stmt, float] = {}
            for node in ast.walk(source.tree):
                if isinstance(node, ast.stmt):
                    suspicion = spectrum.of_statement(source, node, uses) / strongest
                    if suspicion > _LEAST_SUSPICION:
                        doubt[node] = -math.log(suspicion) * _SUSPICION_WEIGHT
            statements = _by_line(source)
            tests: dict[ast.stmt, tuple[list[int], list[int]]] = {}
            at_import: set[ast.stmt] = set()
            for edit in propose(source, vocabulary, doubt.__contains__):
                if not source.is_utf8 and not _is_ascii(source, edit):
                    continue  # no patch could say it
                node = statements[edit.line]
                if node not in tests:
                    known = spectrum.tests_of(source, node)
                    at_import.update([node] if known is None else ())
                    failed, passed = known or (spectrum.failing, everything)
                    tests[node] = _by_group(failed, spectrum.groups, cost), sorted(passed, key=cost.__getitem__)
                score = edit.cost + doubt.get(node, 0.0) + (_AT_IMPORT_COST if node in at_import else 0.0)
                if tests[node][0]:
                    candidates.append(Candidate(source, edit, score, *tests[node]))
        return sorted(candidates, key=lambda one: one.score)

    # --- what is kept

    def _keep(self, found: list[Candidate], runs: list[TestRun]) -> None:
        best = found[0]
        source, edit = best.source, best.edit
        self._originals.setdefault(source.path, source)
        source.write(self._workspace.root, _apply(source.text, edit))
        before, after = _shown(source, edit)
        fixed = tuple(runs[index].name for index in best.fixed)
        number = len(self._changes)
        self._changes.append(Change(self._inside(source.path), edit.line, edit.kind, before, after, fixed))
        shown = {after}
        for other in found[1:]:
            text = _shown(other.source, other.edit)
            if set(other.fixed) >= set(best.fixed) and text[1] not in shown and len(shown) <= _MAX_ALTERNATIVES:
                shown.add(text[1])
                path = self._inside(other.source.path)
                self._alternatives.append(Alternative(number, path, other.edit.line, other.edit.kind, *text))

    def _inside(self, path: str) -> str:
        """Return a path from the top of the copy as a path from the project's folder."""
        return os.path.relpath(path, self._workspace.inside)

    # --- the end

    def _report(self, first: list[TestRun], last: list[TestRun]) -> RepairReport:
        texts = {}
        for path, source in self._originals.items():
            texts[self._inside(path)] = (source.text, SourceFile.read(self._workspace.root, path).text)
        odd = {self._inside(path) for path, source in self._originals.items() if not source.is_utf8}
        before, after = _counts(first), _counts(last)
        failing = tuple(run.name for run in last if run.is_failure)
        confirmed = bool(self._changes) and self._confirm(last)
        status: Status = "not_repaired" if before.failed else "already_green"
        if confirmed:
            status = "improved" if after.failed else "repaired"
        elif self._changes:
            self._notes.append("a fresh run of pytest did not agree with the search, so the edits are not offered")
        return RepairReport(
            status=status,
            before=before,
            after=after if confirmed else before,
            tried=self._tried,
            seconds=round(time.monotonic() - self._started, 2),
            changes=tuple(self._changes) if confirmed else (),
            alternatives=tuple(self._alternatives) if confirmed else (),
            failing=failing,
            notes=tuple(self._notes),
            patch=render_patch(texts, odd) if confirmed else "",
            diff=render_diff(texts) if confirmed else "",
            confirmed=confirmed,
            python=self._version,
        )

    def _confirm(self, last: list[TestRun]) -> bool:
        """Run the suite in a fresh process, and return whether as many tests pass and fail as here."""
        import subprocess
        from xml.etree import ElementTree

        died = [run.name for run in last if run.outcome == "died"]
        deselected = [argument for name in died for argument in ("--deselect", name)]
        junit = self._workspace.temporary / "junit.xml"
        config = {"mode": "confirm", "args": [*self._options.tests, *deselected], "junit": str(junit)}
        limit = 30 + 10 * sum(run.cpu for run in last)
        try:
            subprocess.run(
                command(self._workspace, self._python, config),
                cwd=self._workspace.cwd,
                env=environment(self._workspace),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit,
                check=False,
            )
            suites = ElementTree.parse(junit).getroot().iter("testsuite")
        except (subprocess.TimeoutExpired, OSError, ElementTree.ParseError):
            return False
        failed = sum(int(suite.get(name, "0")) for suite in suites for name in ("failures", "errors"))
        return failed == sum(run.is_failure for run in last)


def _by_line(source: SourceFile) -> dict[int, ast.stmt]:
    """Return for each line the innermost statement on it."""
    found: dict[int, ast.stmt] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            for line in range(source.first_line(node), (node.end_lineno or node.lineno) + 1):
                found[line] = node
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(source.tree)
    return found


def _by_group(tests: list[int], groups: list[list[int]], cost: dict[int, float]) -> list[int]:
    """Return the cheapest test of each group first, then the next of each."""
    wanted = set(tests)
    queues = [sorted(wanted.intersection(group), key=cost.__getitem__) for group in groups]
    queues.sort(key=lambda queue: cost[queue[0]] if queue else 0.0)
    return [queue[rank] for rank in range(max(map(len, queues), default=0)) for queue in queues if rank < len(queue)]


def _apply(text: str, edit: Edit) -> str:
    return text[: edit.start] + edit.text + text[edit.end :]


def _is_ascii(source: SourceFile, edit: Edit) -> bool:
    """Return whether the lines that an edit changes are ASCII before and after."""
    start = source.text.rfind("\n", 0, edit.start) + 1
    end = source.text.find("\n", edit.end)
    return (source.text[start : end if end >= 0 else None] + edit.text).isascii()


def _shown(source: SourceFile, edit: Edit) -> tuple[str, str]:
    """Return the lines that an edit changes, before and after, without the indentation they share with nothing."""
    import difflib

    old, new = source.text.splitlines(), _apply(source.text, edit).splitlines()
    removed, added = [], []
    for tag, low, high, new_low, new_high in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            removed += old[low:high]
            added += new[new_low:new_high]
    return "\n".join(_dedented(removed)), "\n".join(_dedented(added))


def _dedented(lines: list[str]) -> Iterator[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return (line[margin:].rstrip() for line in lines)


def _counts(runs: list[TestRun]) -> TestCounts:
    outcomes = [run.outcome for run in runs]
    return TestCounts(
        passed=outcomes.count("passed"),
        failed=sum(run.is_failure for run in runs),
        skipped=outcomes.count("skipped") + outcomes.count("died"),
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
