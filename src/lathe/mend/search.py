"""The search: localise, propose, try, keep what helps, and again, until the suite is green or the time is over."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from lathe.mend.candidates import Candidate, Candidates
from lathe.mend.expectations import clues_of
from lathe.mend.hunt import Hunt
from lathe.mend.localise import Spectrum
from lathe.mend.operators.registry import Edit
from lathe.mend.patch import render_diff, render_patch
from lathe.mend.project import Project, TestRun, command, environment
from lathe.mend.ranking import Ranking, rank
from lathe.mend.report import Alternative, Change, Question, RepairReport, Status, TestCounts
from lathe.mend.source import SourceFile
from lathe.mend.workspace import Workspace, find_python, scratch_copy
from lathe.protocol.errors import LatheError, UsageError

Progress = Callable[[str], None]
COLLECT_S = 20.0  # a small budget still lets a large project be imported
_LEAST_BASELINE_S = 5.0
_MAX_ALTERNATIVES = 8
_FRESH_RUNS = 4
_DOCTESTS = "--doctest-modules"


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
        self._tests = options.tests
        self._progress = progress
        self._started = started
        self._deadline = started + options.seconds
        self._jobs = options.jobs or min(4, os.cpu_count() or 1)
        self._originals: dict[str, SourceFile] = {}
        self._changes: list[Change] = []
        self._alternatives: list[Alternative] = []
        self._questions: list[Question] = []
        self._ranking = Ranking([], [])
        self._notes: list[str] = []
        self._unfit: set[str] = set()
        self._tried = 0
        self._searched = 0.0
        self._trials = 0.0
        self._first = 0.0
        self._import_s = 0.0
        self._version = ""

    def run(self) -> RepairReport:
        """Return what was found."""
        first: list[TestRun] | None = None
        while True:
            with self._collected() as project:
                self._version = project.python
                began = time.monotonic()
                runs = self._baseline(project)
                if first is None:
                    first = runs
                    self._note_first(runs)
                    self._keep_time_for_the_end(runs)
                failing = [run.name for run in runs if run.is_failure]
                self._progress(f"{len(failing)} of {len(runs)} tests fail")
                found = self._round(project, runs, began) if failing and self._left() > 0 else []
                self._searched += time.monotonic() - began
                self._note_unfit(project.unfit, runs)
            runs = [self._without_unfit(run) for run in runs]
            first = [self._without_unfit(run) for run in first]
            if not found:
                return self._report(first, runs)
            fixed = self._keep(found, runs)
            left = [run for run in runs if run.is_failure and run.name not in fixed]
            if not left:
                return self._report(first, [_fixed(run) for run in runs])
            if all(run.outcome == "hung" for run in left):  # they may only take long
                self._workspace.restore()
                if self._fresh_failures(runs) == set():
                    return self._report(first, [_fixed(run) for run in runs])

    def _keep_time_for_the_end(self, runs: list[TestRun]) -> None:
        """Let the search end soon enough for a fresh run of the suite within the budget."""
        fresh = self._import_s + sum(run.cpu for run in runs)
        self._deadline -= min(self._options.seconds / 4, fresh)

    def _note_unfit(self, unfit: set[int], runs: list[TestRun]) -> None:
        self._unfit |= {runs[index].name for index in unfit}
        again = [runs[index].name for index in sorted(unfit) if runs[index].is_failure]
        alone = [runs[index].name for index in sorted(unfit) if not runs[index].is_failure]
        if again:
            self._notes.append(f"left out, because they fail at one time and pass at another: {_some(again)}")
        if alone:
            self._notes.append(f"left out, because they fail when they run by themselves: {_some(alone)}")

    def _without_unfit(self, run: TestRun) -> TestRun:
        return msgspec.structs.replace(run, outcome="unfit") if run.name in self._unfit else run

    def _collected(self) -> Project:
        """Return a worker that knows the tests; where there are none but doctests, those."""
        while True:
            began = time.monotonic()
            project = Project(
                self._workspace, self._python, list(self._tests), jobs=self._jobs, memory_mb=self._options.memory_mb
            )
            try:
                project.collect(timeout=max(COLLECT_S, self._left()))
            except LatheError as error:
                project.close()
                if error.code != "no_tests" or self._tests:
                    raise
                if not _has_doctests(self._workspace.cwd):
                    raise
                self._tests = (_DOCTESTS,)
            except BaseException:
                project.close()
                raise
            else:
                self._import_s = time.monotonic() - began
                return project

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _baseline(self, project: Project) -> list[TestRun]:
        limit = min(5.0, max(1.0, self._options.seconds / 12))
        try:
            return project.baseline(
                limit,
                time.monotonic() + max(COLLECT_S, self._left()),
                max(_LEAST_BASELINE_S, self._options.seconds / 2),
            )
        finally:
            self._workspace.restore_after_tests()

    def _note_first(self, runs: list[TestRun]) -> None:
        died = [run.name for run in runs if run.outcome == "died"]
        hung = [run.name for run in runs if run.outcome == "hung"]
        unknown = [run.name for run in runs if run.outcome == "unknown"]
        if unknown and not any(run.is_failure for run in runs):
            raise UsageError(
                f"No test failed among the {len(runs) - len(unknown)} of {len(runs)} that there was time for.",
                hint="Give more with --time, or name the tests that fail with --tests.",
                code="slow_suite",
            )
        if unknown:
            self._notes.append(
                f"not run, because the suite takes longer than half of the time: {_some(unknown)}; run them before you "
                "keep the repair"
            )
        if len(died) == len(runs):
            raise UsageError(
                f"None of the {len(runs)} tests can be run here: each ends the process that it runs in.",
                hint="Run one of them alone with `python -m pytest` and see what ends it.",
                code="tests_die",
            )
        if died:
            self._notes.append(f"left out, because they end the process they run in: {_some(died)}")
        if hung:
            self._notes.append(f"did not end in time and count as failing: {_some(hung)}")

    # --- one round: a project as it stands, one edit more

    def _round(self, project: Project, runs: list[TestRun], began: float) -> list[Candidate]:
        """Return the edits that help and break nothing, the best first; the round began at `began`."""
        sources = self._sources(project, runs)
        spectrum = Spectrum(runs, [source.path for source in sources])
        candidates = Candidates(sources, runs, spectrum, self._import_s, clues_of(self._workspace.cwd, runs))
        hunt = Hunt(project, runs, spectrum.groups, deadline=self._deadline)
        try:
            found = hunt.run(candidates, self._progress)
        finally:
            self._tried += hunt.tried
            self._trials += hunt.seconds
            if hunt.first_at and not self._first:
                self._first = self._searched + hunt.first_at - began
        self._ranking = rank(project, found, runs, started=self._started, deadline=self._deadline)
        return self._ranking.found

    def _sources(self, project: Project, runs: list[TestRun]) -> list[SourceFile]:
        """Return the project's files that some test ran and that are no tests."""
        tests = set(project.files)
        sources = []
        for path in sorted({path for run in runs for path in run.lines}):
            if path in tests or _belongs_to_tests(path):
                continue
            try:
                sources.append(SourceFile.read(self._workspace.root, path))
            except (SyntaxError, UnicodeDecodeError, OSError) as error:
                note = f"{path} was left alone, it cannot be read: {error}"
                self._notes += [note] if note not in self._notes else []
        return sources

    # --- what is kept

    def _keep(self, found: list[Candidate], runs: list[TestRun]) -> set[str]:
        """Write the best repair, and those of other tests in other functions, and return the tests they fix."""
        chosen = _apart(found)
        names: set[str] = set()
        for source, text in _applied(chosen):
            self._originals.setdefault(source.path, source)
            self._workspace.keep(source.path, text.encode(source.encoding))
        for best in chosen:
            number = len(self._changes)
            fixed = tuple(runs[index].name for index in best.fixed)
            names.update(fixed)
            for source, edit in best.changes:
                before, after = _shown(source.text, _apply(source.text, [edit]))
                self._changes.append(
                    Change(
                        self._inside(source.path), edit.line, edit.kind, before, after, fixed, self._ranking.why(best)
                    )
                )
            self._questions += self._ranking.questions(best, number, lambda one: _both_shown(one)[1])
            self._offer(number, best, [other for other in self._ranking.others(best) if other not in chosen])
        return names

    def _offer(self, number: int, best: Candidate, others: list[Candidate]) -> None:
        shown = {_both_shown(best)[1]}
        for other in others:
            before, after = _both_shown(other)
            if set(other.fixed) >= set(best.fixed) and after not in shown and len(shown) <= _MAX_ALTERNATIVES:
                shown.add(after)
                source, edit = other.changes[0]
                self._alternatives.append(
                    Alternative(number, self._inside(source.path), edit.line, edit.kind, before, after)
                )

    def _inside(self, path: str) -> str:
        """Return a path from the top of the copy as a path from the project's folder."""
        return os.path.relpath(path, self._workspace.inside)

    # --- the end

    def _report(self, first: list[TestRun], last: list[TestRun]) -> RepairReport:
        texts = {}
        for path, source in self._originals.items():
            texts[self._inside(path)] = (source.text, SourceFile.read(self._workspace.root, path).text)
        odd = {self._inside(path) for path, source in self._originals.items() if not source.is_utf8}
        self._workspace.restore()
        failures = self._steady_failures(last) if self._changes else None
        self._workspace.restore()
        last = [self._without_unfit(run) for run in last]
        first = [self._without_unfit(run) for run in first]
        confirmed = failures is not None and len(failures) <= sum(run.is_failure for run in last)
        if failures is not None and not failures:
            last = [_fixed(run) for run in last]
        before, after = _counts(first), _counts(last)
        failing = tuple(run.name for run in last if run.is_failure)
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
            questions=tuple(self._questions) if confirmed else (),
            failing=failing,
            notes=tuple(self._notes),
            patch=render_patch(texts, odd) if confirmed else "",
            diff=render_diff(texts) if confirmed else "",
            confirmed=confirmed,
            python=self._version,
            search_seconds=round(self._searched, 3),
            trial_seconds=round(self._trials, 3),
            first_seconds=round(self._first, 3),
        )

    def _steady_failures(self, last: list[TestRun]) -> set[str] | None:
        """Return the tests that fail in fresh processes; those that fail in one and pass in another are left out."""
        failures = self._fresh_failures(last)
        expected = sum(run.is_failure for run in last)
        if failures is None or len(failures) <= expected:
            return failures
        seen = [failures]
        while len(seen) < _FRESH_RUNS and (failures := self._fresh_failures(last)) is not None:
            seen.append(failures)
        steady = set.intersection(*seen)
        flaky = [run.name for run in last if run.name in set.union(*seen) - steady]
        fixed = {name for change in self._changes for name in change.fixed}
        if flaky and fixed.isdisjoint(flaky):
            self._unfit.update(flaky)
            self._notes.append(f"left out, because they fail at one time and pass at another: {_some(flaky)}")
            return steady
        return seen[0]

    def _fresh_failures(self, last: list[TestRun]) -> set[str] | None:
        """Run the suite in a fresh process, and return the tests that fail; None where it does not come to an end."""
        import subprocess
        from xml.etree import ElementTree

        died = [run.name for run in last if run.outcome in ("died", "unfit", "unknown")]
        deselected = [argument for name in died for argument in ("--deselect", name)]
        junit = self._workspace.temporary / "junit.xml"
        config = {"mode": "confirm", "args": [*self._tests, *deselected], "junit": str(junit)}
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
            cases = ElementTree.parse(junit).getroot().iter("testcase")
        except (subprocess.TimeoutExpired, OSError, ElementTree.ParseError):
            return None
        known = {_as_in_junit(run.name): run.name for run in last}
        failed = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
        names = (f"{case.get('classname')}.{case.get('name')}" for case in failed)
        return {known.get(name, name) for name in names}


def _as_in_junit(name: str) -> str:
    """Return a pytest node id as junit writes it: `tests/test_a.py::TestB::test_c` is `tests.test_a.TestB.test_c`."""
    path, *inner = name.split("::")
    return ".".join([path.removesuffix(".py").replace("/", "."), *inner])


def _has_doctests(folder: Path) -> bool:
    """Return whether some Python file below `folder` has a line that begins as in an interactive session."""
    return any(re.search(rb"^\s*>>> ", path.read_bytes(), re.MULTILINE) for path in folder.rglob("*.py"))


def _belongs_to_tests(path: str) -> bool:
    """Return whether a file is part of what says how it should be: a test, or what tests are helped by."""
    *folders, name = PurePosixPath(path).parts
    if name == "conftest.py" or name.startswith("test_") or name.endswith("_test.py"):
        return True
    return any(re.search(r"(?:^|_)tests?(?:$|_|ing$|cases?$|data$|suite$)", folder.lower()) for folder in folders)


def _fixed(run: TestRun) -> TestRun:
    return msgspec.structs.replace(run, outcome="passed") if run.is_failure else run


def _apart(found: list[Candidate]) -> list[Candidate]:
    """Return the best candidate, and the best of those that repair other tests in other functions."""
    chosen: list[Candidate] = []
    for one in found:
        if all(one.plan is not other.plan and one.fits(other) for other in chosen) and all(
            set(one.fixed).isdisjoint(other.fixed) for other in chosen
        ):
            chosen.append(one)
    return chosen


def _applied(candidates: Sequence[Candidate]) -> list[tuple[SourceFile, str]]:
    """Return the files that candidates change, with their new texts."""
    edits: dict[str, tuple[SourceFile, list[Edit]]] = {}
    for source, edit in (change for candidate in candidates for change in candidate.changes):
        edits.setdefault(source.path, (source, []))[1].append(edit)
    return [(source, _apply(source.text, changes)) for source, changes in edits.values()]


def _apply(text: str, edits: Sequence[Edit]) -> str:
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _both_shown(candidate: Candidate) -> tuple[str, str]:
    parts = [_shown(source.text, text) for source, text in _applied([candidate])]
    return "\n".join(before for before, _ in parts), "\n".join(after for _, after in parts)


def _shown(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, before and after, without the indentation they share with nothing."""
    import difflib

    old, new = before.splitlines(), after.splitlines()
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
        skipped=sum(outcomes.count(outcome) for outcome in ("skipped", "died", "unfit", "unknown")),
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
