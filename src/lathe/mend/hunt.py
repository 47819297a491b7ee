"""Trying candidates in order until one helps, and then a little longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from lathe.mend.operators.registry import Edit
from lathe.mend.project import Job, Project, TestRun
from lathe.mend.source import SourceFile

BATCH = 256
_SECOND_CHANCE = 10.0  # times the first limit


class Candidate(msgspec.Struct):
    """An edit of a file, and the tests that can tell whether it helps: `failing` in turn, then `passing`."""

    source: SourceFile
    edit: Edit
    score: float
    failing: list[int]
    passing: list[int]
    fixed: list[int] = []


class Hunt:
    """The trials of one round, in one worker; the worker is of no further use when the hunt was cut short."""

    def __init__(
        self, project: Project, runs: Sequence[TestRun], *, groups: int, started: float, deadline: float
    ) -> None:
        self.plausible: list[Candidate] = []
        self.tried = 0
        self._project = project
        self._limits = {index: _limit(run) for index, run in enumerate(runs)}
        self._failing = sum(run.is_failure for run in runs)
        self._enough = max(6, groups)
        self._started = started
        self._deadline = deadline
        self._slow: list[Candidate] = []

    def run(self, candidates: Sequence[Candidate], progress: Callable[[str], None]) -> list[Candidate]:
        """Try `candidates` in order and return those that repair a test and break none, the best first.

        Those that ran out of time get more of it, if nothing else was found.
        """
        if self._try(candidates, progress) and not self.plausible:
            self._limits = {index: limit * _SECOND_CHANCE for index, limit in self._limits.items()}
            slow, self._slow = self._slow, []
            self._try(slow, progress, again=True)
        return sorted(self.plausible, key=lambda one: (-len(one.fixed), one.score, len(one.edit.text)))

    def _try(self, candidates: Sequence[Candidate], progress: Callable[[str], None], *, again: bool = False) -> bool:
        """Return whether every candidate was tried."""
        for start in range(0, len(candidates), BATCH):
            if self._is_over():
                return False
            batch = candidates[start : start + BATCH]
            self._project.start(
                [_job(index, one, self._enough, again) for index, one in enumerate(batch)], self._limits
            )
            for verdict in self._project.verdicts(self._deadline):
                self.tried += verdict.status not in ("same", "syntax")
                one = batch[verdict.id]
                if verdict.status == "slow":
                    self._slow.append(one)
                elif verdict.status == "plausible":
                    one.fixed = verdict.fixed
                    self._found(one, progress)
                if self._is_over():
                    return False
            progress(f"{self.tried} candidates tried, {len(self.plausible)} plausible")
        return not self._is_over()

    def _found(self, one: Candidate, progress: Callable[[str], None]) -> None:
        """Keep a repair; the first one sets for how long a better one, or one just as good, is looked for."""
        if not self.plausible:
            now = time.monotonic()
            complete = len(one.fixed) == self._failing
            more = 0.5 if complete else max(0.7, 0.15 * (now - self._started))
            self._deadline = now + min((self._deadline - now) / 4, more)
            progress(f"a repair of {len(one.fixed)} tests at {one.source.path}:{one.edit.line}")
        self.plausible.append(one)

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline


def _job(number: int, one: Candidate, enough: int, again: bool) -> Job:
    edit = (one.edit.start, one.edit.end, one.edit.text)
    unit = one.source.unit(one.edit.start, one.edit.end)
    return Job(number, one.source.path, [edit], unit, one.failing, one.passing, enough, again)


def _limit(run: TestRun) -> float:
    """Return how much CPU a test may use under a candidate, in seconds."""
    return 0.1 if run.outcome == "hung" else max(0.25, 10 * run.cpu + 0.1)
