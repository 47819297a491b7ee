"""A run's trials by task: what every figure is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lathe.evals.record import Trial


class TaskScores(NamedTuple):
    """One task's trials: the rewards of those that count, in order of attempt, and those the infrastructure failed."""

    task: str
    cluster: str
    digest: str
    rewards: tuple[float, ...]
    passes: int
    faults: tuple[str, ...]

    @property
    def mean(self) -> float:
        """The mean reward; there must be one."""
        return math.fsum(self.rewards) / len(self.rewards)


def by_task(trials: Iterable[Trial]) -> list[TaskScores]:
    """Return the trials by task, in order of name. A task without a cluster is its own."""
    tasks: dict[str, list[Trial]] = {}
    for trial in trials:
        tasks.setdefault(trial.task, []).append(trial)
    found: list[TaskScores] = []
    for task, mine in sorted(tasks.items()):
        mine.sort(key=lambda trial: trial.attempt)
        counted = [trial for trial in mine if trial.verdict == "scored" and trial.reward is not None]
        rewards = tuple(trial.reward for trial in counted if trial.reward is not None)
        faults = tuple(trial.id for trial in mine if trial not in counted)
        passes = sum(trial.passed for trial in counted)
        found.append(TaskScores(task, mine[0].cluster or task, mine[0].digest, rewards, passes, faults))
    return found


def by_cluster(tasks: Iterable[TaskScores], value: Callable[[TaskScores], float]) -> list[list[float]]:
    """Return a value of each task that has a counted trial, by cluster in order of name."""
    clusters: dict[str, list[float]] = {}
    for task in tasks:
        if task.rewards:
            clusters.setdefault(task.cluster, []).append(value(task))
    return [clusters[name] for name in sorted(clusters)]


def counted(tasks: Sequence[TaskScores]) -> int:
    """Return how many trials count."""
    return sum(len(task.rewards) for task in tasks)
