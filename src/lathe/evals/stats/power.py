"""How many trials would settle a question, from the variance that a run has shown within and between tasks.

The variance of a mean over n tasks with k attempts each is between / n + within / (n k): more attempts help only
against the second part. Where tasks come in clusters, all is multiplied by the design effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, variance

import msgspec

from lathe.evals.stats.distributions import t_quantile
from lathe.evals.stats.intervals import LEVEL, units_of, variance_of_mean
from lathe.evals.stats.scores import TaskScores, by_cluster

POWER = 0.8
_MOST = 10_000_000


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where variance comes from. `within` is None where no task has two attempts; then `between` holds both parts.

    `design` is how much clusters multiply it, at least 1. `tasks` and `attempts` (a mean) say what it was measured on.
    """

    between: float
    within: float | None
    design: float
    tasks: int
    attempts: float

    def of_mean(self, tasks: int, attempts: int) -> float:
        """Return the variance of a mean over so many tasks with so many attempts each."""
        return self.design * (self.between + (self.within or 0.0) / attempts) / tasks


class Needed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What would settle it, None where nothing of the kind would.

    `tasks` at `attempts_each`, with `trials` in all; or else `attempts` at each of the tasks there are. For a
    comparison all are of each side.
    """

    tasks: int | None
    attempts_each: int
    trials: int | None
    attempts: int | None


def parts_of(tasks: Sequence[TaskScores]) -> Parts | None:
    """Return where the variance of a run's mean comes from, None for fewer than two tasks."""
    return _parts([(task, task.mean) for task in tasks if task.rewards], _within(tasks))


def parts_of_difference(pairs: Sequence[tuple[TaskScores, TaskScores]]) -> Parts | None:
    """Return the same for the difference of two runs on the same tasks."""
    both = [(a, b) for a, b in pairs if a.rewards and b.rewards]
    first, second = _within([a for a, _ in both]), _within([b for _, b in both])
    within = None if first is None or second is None else first + second
    return _parts([(a, b.mean - a.mean) for a, b in both], within)


def _within(tasks: Sequence[TaskScores]) -> float | None:
    repeated = [task.rewards for task in tasks if len(task.rewards) > 1]
    if not repeated:
        return None
    return math.fsum(variance(one) * (len(one) - 1) for one in repeated) / sum(len(one) - 1 for one in repeated)


def _parts(values: Sequence[tuple[TaskScores, float]], within: float | None) -> Parts | None:
    if len(values) < 2:
        return None
    table = {task.task: value for task, value in values}
    clusters = by_cluster([task for task, _ in values], lambda task: table[task.task])
    units, _ = units_of(clusters)
    apart = variance(table.values())
    design = variance_of_mean(units) * len(table) / apart if apart > 0 else 1.0
    inverse = fmean(1.0 / len(task.rewards) for task, _ in values)
    between = max(0.0, apart - (within or 0.0) * inverse)
    return Parts(between, within, max(1.0, design), len(table), 1.0 / inverse)


def half_width(parts: Parts, tasks: int, attempts: int, level: float = LEVEL) -> float:
    """Return the half-width that an interval would have with so many tasks (at least two) and attempts each."""
    return t_quantile((1.0 + level) / 2.0, tasks - 1) * math.sqrt(parts.of_mean(tasks, attempts))


def for_half_width(parts: Parts, wanted: float, attempts: int, level: float = LEVEL) -> Needed:
    """Return what an interval as narrow as `wanted` to either side takes."""
    return _needed(parts, wanted, attempts, ((1.0 + level) / 2.0,))


def for_difference(
    parts: Parts, difference: float, attempts: int, power: float = POWER, level: float = LEVEL
) -> Needed:
    """Return what it takes to find a true difference of this size with this chance, on each of both sides."""
    return _needed(parts, abs(difference), attempts, ((1.0 + level) / 2.0, power))


def _needed(parts: Parts, wanted: float, attempts: int, shares: tuple[float, ...]) -> Needed:
    if wanted <= 0:
        raise ValueError("the wanted width or difference must be above 0")

    def reached(tasks: int, each: int) -> bool:
        spread = math.fsum(t_quantile(share, tasks - 1) for share in shares)
        return spread**2 * parts.of_mean(tasks, each) <= wanted**2

    tasks = _least(2, lambda count: reached(count, attempts))
    more = None if parts.within is None else _least(1, lambda count: reached(parts.tasks, count))
    return Needed(tasks, attempts, None if tasks is None else tasks * attempts, more)


def _least(start: int, enough: Callable[[int], bool]) -> int | None:
    """Return the least number for which `enough` holds, as it does for all above; None where it is out of reach."""
    high = start
    while not enough(high):
        if high > _MOST:
            return None
        high *= 2
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
