"""Intervals of a share or a mean, and of how much a run's trials hang together.

Tasks of one cluster (a repository, a family) succeed and fail together, and so do attempts at one task. Therefore
clusters are what is drawn, each with all its tasks and attempts. The bootstrap is BCa (Efron 1987) with its level
widened as Hesterberg proposes for small samples (arXiv:1411.5279, section 5.3): percentiles alone were seen to cover as
little as 84 % of the time, these at least 92 % (`benchmarks/eval_statistics.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from lathe.evals.stats.distributions import beta_quantile, normal_cdf, normal_quantile, t_quantile

Method: TypeAlias = Literal["bootstrap", "wilson", "exact", "none"]
Scope: TypeAlias = Literal["clusters", "cluster", "task", "nothing"]
LEVEL = 0.95
DRAWS = 4000
SEED = 20_260_101

Clusters: TypeAlias = Sequence[Sequence[float]]
"""Values of tasks, by cluster. No cluster is empty."""


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a true figure may be, at a level of confidence.

    `scope` is what it speaks of: more tasks of more such `clusters`; with one cluster only, more tasks of that
    `cluster`; with one task only, more attempts at that `task`; without any trial `nothing`, and the interval is all
    that is possible. `method` is how it was found: the bootstrap says nothing where all are alike, and Wilson's
    interval stands in for it then; `none` where not even that is to be had: values all alike and not from 0 to 1.
    """

    low: float
    high: float
    level: float = LEVEL
    method: Method = "bootstrap"
    scope: Scope = "clusters"


UNKNOWN = Interval(0.0, 1.0, method="none", scope="nothing")


def wilson(successes: float, n: float, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval for a share; `n` may be an effective number of trials, so not a whole one."""
    if n <= 0:
        return msgspec.structs.replace(UNKNOWN, level=level)
    z = normal_quantile((1.0 + level) / 2.0)
    p = successes / n
    centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(max(0.0, p * (1.0 - p) / n + z * z / (4.0 * n * n)))
    low = 0.0 if successes <= 0 else max(0.0, centre - half)
    high = 1.0 if successes >= n else min(1.0, centre + half)
    return Interval(low, high, level, "wilson")


def clopper_pearson(successes: float, n: float, level: float = LEVEL) -> Interval:
    """Return the exact interval for a share: it never covers less than `level`. `n` as in `wilson`."""
    if n <= 0:
        return msgspec.structs.replace(UNKNOWN, level=level)
    tail = (1.0 - level) / 2.0
    low = beta_quantile(tail, successes, n - successes + 1.0) if successes > 0 else 0.0
    high = beta_quantile(1.0 - tail, successes + 1.0, n - successes) if successes < n else 1.0
    return Interval(low, high, level, "exact")


def units_of(clusters: Clusters) -> tuple[list[list[float]], Scope]:
    """Return what is drawn, and what an interval then speaks of: clusters, or the tasks of the only one."""
    if len(clusters) == 1:
        tasks = [[value] for value in clusters[0]]
        return tasks, "cluster" if len(tasks) > 1 else "task"
    return [list(cluster) for cluster in clusters], "clusters" if clusters else "nothing"


def mean_of(clusters: Clusters) -> float:
    """Return the mean over all tasks, each counting the same."""
    return math.fsum(value for cluster in clusters for value in cluster) / sum(map(len, clusters))


def variance_of_mean(units: Clusters) -> float:
    """Return the variance of the mean over tasks, measured between units (at least two)."""
    mean, tasks = mean_of(units), sum(map(len, units))
    apart = math.fsum((math.fsum(unit) - mean * len(unit)) ** 2 for unit in units)
    return apart / tasks**2 * len(units) / (len(units) - 1)


def bootstrap(clusters: Clusters, level: float = LEVEL, *, draws: int = DRAWS, seed: int = SEED) -> Interval | None:
    """Return the interval of the mean over tasks by drawing clusters, the same for the same seed.

    None where there is nothing to draw from: fewer than two units, or all alike.
    """
    units, scope = units_of(clusters)
    if len(units) < 2 or variance_of_mean(units) <= 1e-24:
        return None
    mean = mean_of(units)
    replicates = sorted(redrawn(units, draws, random.Random(seed)))
    total, tasks = math.fsum(map(math.fsum, units)), sum(map(len, units))
    left_out = [(total - math.fsum(unit)) / (tasks - len(unit)) for unit in units]
    z = normal_quantile((1.0 + level) / 2.0)
    widened = math.sqrt(len(units) / (len(units) - 1)) * t_quantile((1.0 + level) / 2.0, len(units) - 1)
    low, high = bca(replicates, mean, left_out, max(z, widened))
    return Interval(low, high, level, "bootstrap", scope)


def redrawn(units: Clusters, draws: int, random_numbers: random.Random) -> list[float]:
    """Return the mean over tasks of so many runs that are drawn from this one, unit by unit."""
    count = len(units)
    if all(len(unit) == len(units[0]) for unit in units):
        means = [math.fsum(unit) / len(unit) for unit in units]
        return [sum(random_numbers.choices(means, k=count)) / count for _ in range(draws)]
    pairs = [(math.fsum(unit), len(unit)) for unit in units]
    replicates: list[float] = []
    for _ in range(draws):
        drawn = random_numbers.choices(pairs, k=count)
        replicates.append(sum(value for value, _ in drawn) / sum(size for _, size in drawn))
    return replicates


def bca(replicates: Sequence[float], estimate: float, left_out: Sequence[float], z: float) -> tuple[float, float]:
    """Return the bias-corrected and accelerated limits at `z` standard deviations to either side.

    `replicates` are sorted; `left_out` are the estimates without each unit in turn.
    """
    near = 1e-12 * max(1.0, abs(estimate))
    below = sum(value < estimate - near for value in replicates)
    at_most = sum(value <= estimate + near for value in replicates)
    share = (below + at_most) / (2.0 * len(replicates))
    edge = 0.5 / len(replicates)
    bias = normal_quantile(min(max(share, edge), 1.0 - edge))
    centre = math.fsum(left_out) / len(left_out)
    apart = [centre - value for value in left_out]
    squares = math.fsum(value * value for value in apart)
    skew = math.fsum(value**3 for value in apart) / (6.0 * squares**1.5) if squares > 0 else 0.0

    def limit(side: float) -> float:
        slope = 1.0 - skew * (bias + side)
        # Past the pole the correction means nothing; the whole range on that side is what is left.
        reached = normal_cdf(bias + (bias + side) / slope) if slope > 0 else float(side > 0)
        return _quantile(replicates, reached)

    return limit(-z), limit(z)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation between neighbours."""
    at = share * (len(ordered) - 1)
    under = min(int(at), len(ordered) - 2)
    return ordered[under] + (at - under) * (ordered[under + 1] - ordered[under])


def effective_trials(clusters: Clusters, trials: int, level: float = LEVEL) -> float:
    """Return how many independent trials say as much about the mean of values from 0 to 1 as these do.

    Korn and Graubard's number (Survey Methodology 24, 1998): the trials over the design effect, less what the small
    number of clusters makes uncertain. Where all are alike there is no effect to measure, and each unit counts as one.
    """
    units, scope = units_of(clusters)
    if scope in ("task", "nothing"):
        return float(trials)
    mean, variance = mean_of(units), variance_of_mean(units)
    if variance <= 1e-24 or not 0.0 < mean < 1.0:
        return float(len(units))
    quantile = (1.0 + level) / 2.0
    few = (normal_quantile(quantile) / t_quantile(quantile, len(units) - 1)) ** 2
    return min(float(trials), mean * (1.0 - mean) / variance) * few


def wilson_interval(clusters: Clusters, trials: int, level: float = LEVEL) -> Interval:
    """Return Wilson's interval at the effective number of trials, of values from 0 to 1."""
    return _at_effective(wilson, clusters, trials, level)


def exact_interval(clusters: Clusters, trials: int, level: float = LEVEL) -> Interval:
    """Return the exact interval at the effective number of trials: past its ends lies what can be ruled out."""
    return _at_effective(clopper_pearson, clusters, trials, level)


def _at_effective(
    kind: Callable[[float, float, float], Interval], clusters: Clusters, trials: int, level: float
) -> Interval:
    if not clusters:
        return msgspec.structs.replace(UNKNOWN, level=level)
    mean = mean_of(clusters)
    if not 0.0 <= mean <= 1.0:
        return Interval(mean, mean, level, "none", "nothing")
    n = effective_trials(clusters, trials, level)
    return msgspec.structs.replace(kind(mean * n, n, level), scope=units_of(clusters)[1])


def mean_interval(
    clusters: Clusters, trials: int, level: float = LEVEL, *, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """Return the interval of a mean: by the bootstrap, or Wilson's where that has nothing to draw from."""
    found = bootstrap(clusters, level, draws=draws, seed=seed)
    return found if found is not None else wilson_interval(clusters, trials, level)
