"""pass@k, that one of k attempts succeeds, and pass^k, that all do.

pass@k is the unbiased estimator of HumanEval (arXiv:2107.03374, section 2.1), pass^k that of tau-bench
(arXiv:2406.12045, section 4.1): with n attempts of which c passed, the share of the sets of k of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from lathe.evals.stats.intervals import LEVEL, Interval, mean_interval
from lathe.evals.stats.scores import TaskScores, by_cluster


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mean over tasks, None where no task allows one; `tasks` counts those that had enough attempts."""

    mean: float | None
    interval: Interval
    tasks: int


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Return the chance that at least one of `k` attempts passes, as `n` attempts tell; `k` is at most `n`."""
    _check(n, passed, k)
    return 1.0 - math.comb(n - passed, k) / math.comb(n, k)


def pass_all_k(n: int, passed: int, k: int) -> float:
    """Return the chance that each of `k` attempts passes, as `n` attempts tell; `k` is at most `n`."""
    _check(n, passed, k)
    return math.comb(passed, k) / math.comb(n, k)


def _check(n: int, passed: int, k: int) -> None:
    if not (0 <= passed <= n and 1 <= k <= n):
        raise ValueError(f"{passed} of {n} attempts passed says nothing about {k} attempts")


def over_tasks(
    tasks: Sequence[TaskScores], k: int, estimator: Callable[[int, int, int], float], level: float = LEVEL
) -> Estimate:
    """Return `pass_at_k` or `pass_all_k` over the tasks that have at least `k` counted attempts."""
    enough = [task for task in tasks if len(task.rewards) >= k]
    clusters = by_cluster(enough, lambda task: estimator(len(task.rewards), task.passes, k))
    values = [value for cluster in clusters for value in cluster]
    mean = math.fsum(values) / len(values) if values else None
    return Estimate(mean, mean_interval(clusters, len(values), level), len(values))


def worthwhile(tasks: Sequence[TaskScores]) -> list[int]:
    """Return the k to report: powers of two up to the most attempts at a task, and that number itself."""
    most = max((len(task.rewards) for task in tasks), default=0)
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | ({most} if most else set()))
