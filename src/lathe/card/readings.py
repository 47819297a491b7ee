"""Readings: what runs say of one figure, with an interval that can only grow by what is in doubt.

A trial is in doubt where the infrastructure failed it, something stood in for a part of its environment, another model
served some of it, or the audit flagged it. Trials and tasks that are missing are in doubt too. Doubtful outcomes are
counted as they are, as failed and as passed; the interval spans what all three give. So they only weaken a claim.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from lathe.card.thresholds import Estimate, Measure
from lathe.evals.record import Plan, Trial
from lathe.evals.stats.intervals import UNKNOWN, exact_interval, mean_of
from lathe.evals.stats.passing import pass_at_k

Doubt: TypeAlias = Literal["fault", "unscored", "missing", "untried", "substituted", "flagged", "standin"]
DOUBTS: tuple[Doubt, ...] = ("fault", "unscored", "missing", "untried", "substituted", "flagged", "standin")
"""Why an outcome is in doubt. `unscored`: the verifier gave no such reward; `missing`: a trial that was planned, or
that the estimate needs, is not there; `untried`: a task of the dataset was left out."""


class Finished(NamedTuple):
    """A run in memory."""

    plan: Plan
    trials: tuple[Trial, ...]


class Outcome(NamedTuple):
    """One attempt at a task. `trial` is None where there is none; `value` is None where nothing is known."""

    run: str
    task: str
    cluster: str
    trial: Trial | None
    value: float | None
    doubts: tuple[Doubt, ...]


_Filled: TypeAlias = Callable[[Outcome], "float | None"]


class Reading:
    """One estimate on one dataset, computed from the trials; it holds no figure that is not.

    `tasks` is how many tasks the dataset has, 0 where that has no fixed number. Values are from 0 to 1.
    """

    def __init__(
        self, dataset: str, estimate: Estimate, runs: Sequence[Finished], *, tasks: int, level: float, doubt_from: float
    ) -> None:
        self.dataset = dataset
        self.estimate = estimate
        self.runs = tuple(one.plan.id for one in runs)
        self._level = level
        self.outcomes = tuple(_outcomes(runs, estimate, tasks, doubt_from))

    @cached_property
    def value(self) -> float | None:
        """The estimate from all outcomes that are known, as they are; None where none is."""
        clusters, _ = self._clusters(lambda one: one.value)
        return mean_of(clusters) if clusters else None

    @cached_property
    def interval(self) -> tuple[float, float]:
        """What the true figure may be, with doubtful outcomes counted in all ways."""
        ways: tuple[_Filled, ...] = (
            lambda one: one.value,
            lambda one: 0.0 if one.doubts else one.value,
            lambda one: 1.0 if one.doubts else one.value,
        )
        found = [
            exact_interval(clusters, trials, self._level) if clusters else UNKNOWN
            for clusters, trials in map(self._clusters, ways)
        ]
        return min(one.low for one in found), max(one.high for one in found)

    @property
    def tasks(self) -> int:
        """How many tasks have an outcome that is known."""
        return len({one.task for one in self.outcomes if one.value is not None})

    @property
    def trials(self) -> tuple[Outcome, ...]:
        """The attempts that were made, whatever came of them."""
        return tuple(one for one in self.outcomes if one.trial is not None)

    @property
    def doubts(self) -> Mapping[Doubt, int]:
        """How many outcomes are in doubt, by the reason; one may have several."""
        counted = Counter(doubt for one in self.outcomes for doubt in one.doubts)
        return {doubt: counted[doubt] for doubt in DOUBTS if counted[doubt]}

    def _clusters(self, filled: _Filled) -> tuple[list[list[float]], int]:
        """Return the value of each task by cluster, and how many independent trials that is at most."""
        tasks: dict[str, list[float]] = {}
        cluster_of: dict[str, str] = {}
        for one in self.outcomes:
            if (value := filled(one)) is not None:
                tasks.setdefault(one.task, []).append(value)
                cluster_of[one.task] = one.cluster
        clusters: dict[str, list[float]] = {}
        for task, values in sorted(tasks.items()):
            clusters.setdefault(cluster_of[task], []).append(self._of_task(values))
        whole = self.estimate.kind == "mean"
        trials = sum(map(len, tasks.values())) if whole else len(tasks)
        return [clusters[name] for name in sorted(clusters)], trials

    def _of_task(self, values: Sequence[float]) -> float:
        if self.estimate.kind == "mean":
            return math.fsum(values) / len(values)
        passes = sum(value >= 1.0 for value in values)
        # with fewer attempts than it asks for this is less than the estimate: those that lack are in doubt
        return pass_at_k(len(values), passes, min(self.estimate.k, len(values)))


def _outcomes(runs: Sequence[Finished], estimate: Estimate, tasks: int, doubt_from: float) -> Iterable[Outcome]:
    attempts: Counter[str] = Counter()
    clusters: dict[str, str] = {}
    for plan, trials in runs:
        made = {(one.task, one.attempt): one for one in trials}
        for task, _ in plan.tasks:
            for attempt in range(1, plan.attempts + 1):
                trial = made.get((task, attempt))
                attempts[task] += 1
                if trial is None:
                    yield Outcome(plan.id, task, clusters.get(task, task), None, None, ("missing",))
                    continue
                clusters.setdefault(task, trial.cluster or task)
                yield _outcome(plan.id, clusters[task], trial, estimate, doubt_from)
    for task, count in sorted(attempts.items()):
        for _ in range(count, estimate.k):
            yield Outcome("", task, clusters.get(task, task), None, None, ("missing",))
    for number in range(len(attempts), tasks):
        yield Outcome("", f"untried {number + 1}", f"untried {number + 1}", None, None, ("untried",))


def _outcome(run: str, cluster: str, trial: Trial, estimate: Estimate, doubt_from: float) -> Outcome:
    reward = trial.rewards.get(estimate.reward) if estimate.reward else trial.reward
    value = (
        None if trial.verdict == "fault" or reward is None or not math.isfinite(reward) else min(max(reward, 0.0), 1.0)
    )
    doubts: dict[Doubt, bool] = {
        "fault": trial.verdict == "fault",
        "unscored": trial.verdict != "fault" and value is None,
        "substituted": trial.substituted,
        "flagged": any(flag.sure >= doubt_from for flag in trial.flags),
        "standin": bool(trial.standins),
    }
    return Outcome(run, trial.task, cluster, trial, value, tuple(doubt for doubt, holds in doubts.items() if holds))


def readings_of(measure: Measure, runs: Sequence[Finished], *, level: float, doubt_from: float) -> list[Reading]:
    """Return what the runs say of a measure: one reading for each dataset that counts for it, by name."""
    found: list[Reading] = []
    for name, mine in by_dataset(runs).items():
        called = mine[0].plan.dataset_name
        size = next((size for glob, size in measure.datasets.items() if fnmatchcase(called, glob)), None)
        if size is not None:
            found.append(Reading(name, measure.estimate, mine, tasks=size, level=level, doubt_from=doubt_from))
    return found


def by_dataset(runs: Sequence[Finished]) -> dict[str, list[Finished]]:
    """Return runs by the name and version of their dataset, in order; what differs in version is not put together."""
    found: dict[str, list[Finished]] = {}
    for run in sorted(runs, key=lambda one: one.plan.id):
        found.setdefault(f"{run.plan.dataset_name} {run.plan.dataset_version}".strip(), []).append(run)
    return {name: found[name] for name in sorted(found)}
