"""All that is said of a run in figures: what the report shows and the card is written from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from lathe.evals.agents.base import Cost
from lathe.evals.record import Times, Trial
from lathe.evals.stats.intervals import (
    LEVEL,
    Interval,
    exact_interval,
    mean_interval,
    mean_of,
    wilson,
    wilson_interval,
)
from lathe.evals.stats.passing import Estimate, over_tasks, pass_all_k, pass_at_k, worthwhile
from lathe.evals.stats.power import Parts, parts_of
from lathe.evals.stats.scores import TaskScores, by_cluster, by_task, counted


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many of so many, with Wilson's interval."""

    count: int
    of: int
    interval: Interval


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The trials of one category, or all of a run.

    `trials` ended, of which `scored` count and `faults` don't. `tasks` have a counted trial, `untried` only faults.
    `passed` counts trials with the whole reward. `mean` is over tasks, each counting the same, and None without any;
    `interval` is its bootstrap over clusters, `wilson` and `exact` are at the effective number of trials.
    `exact` is what a threshold is held against: what lies inside it cannot be ruled out.
    """

    trials: int
    scored: int
    faults: int
    tasks: int
    clusters: int
    untried: tuple[str, ...]
    passed: int
    mean: float | None
    interval: Interval
    wilson: Interval
    exact: Interval


class Summary(Group, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run in figures.

    `pass_at` and `pass_all` are pass@k and pass^k, by k. `parts` tells how many trials would settle a question (see
    `power`). `fallback` counts the trials that another model than the one asked for touched, `flagged` those that the
    audit found something in. `cost.usd` is the sum of what has a price, None where nothing has; `unpriced` counts the
    trials without one. `cost` and `times` are sums over all trials, faults too, for they were paid for.
    """

    pass_at: dict[int, Estimate]
    pass_all: dict[int, Estimate]
    parts: Parts | None
    fallback: Share
    flagged: Share
    cost: Cost
    unpriced: int
    times: Times
    steps: int
    categories: dict[str, Group]


def summarise(trials: Sequence[Trial], categories: Mapping[str, str] | None = None, level: float = LEVEL) -> Summary:
    """Return a run's figures. `categories` says of each task which it is of; others are of none.

    The same trials give the same figures, in whatever order they come.
    """
    named = categories or {}
    tasks = by_task(trials)
    kinds = sorted({named[task.task] for task in tasks if named.get(task.task)})
    grouped = {kind: _group([task for task in tasks if named.get(task.task) == kind], level) for kind in kinds}
    ks = worthwhile(tasks)
    return Summary(
        **msgspec.structs.asdict(_group(tasks, level)),
        pass_at={k: over_tasks(tasks, k, pass_at_k, level) for k in ks},
        pass_all={k: over_tasks(tasks, k, pass_all_k, level) for k in ks},
        parts=parts_of(tasks),
        fallback=fallback(trials, level),
        flagged=_share(sum(bool(trial.flags) for trial in trials), len(trials), level),
        cost=_cost(trials),
        unpriced=sum(trial.cost.usd is None for trial in trials),
        times=_times(trials),
        steps=sum(trial.steps for trial in trials),
        categories=grouped,
    )


def fallback(trials: Sequence[Trial], level: float = LEVEL) -> Share:
    """Return how many trials another model than the one asked for touched, in whatever part."""
    return _share(sum(trial.substituted for trial in trials), len(trials), level)


def _share(count: int, of: int, level: float) -> Share:
    return Share(count, of, wilson(count, of, level))


def _group(tasks: Sequence[TaskScores], level: float) -> Group:
    clusters = by_cluster(tasks, lambda task: task.mean)
    scored, faults = counted(tasks), sum(len(task.faults) for task in tasks)
    return Group(
        trials=scored + faults,
        scored=scored,
        faults=faults,
        tasks=sum(map(len, clusters)),
        clusters=len(clusters),
        untried=tuple(task.task for task in tasks if not task.rewards),
        passed=sum(task.passes for task in tasks),
        mean=mean_of(clusters) if clusters else None,
        interval=mean_interval(clusters, scored, level),
        wilson=wilson_interval(clusters, scored, level),
        exact=exact_interval(clusters, scored, level),
    )


def _cost(trials: Sequence[Trial]) -> Cost:
    prices = [trial.cost.usd for trial in trials if trial.cost.usd is not None]
    return Cost(
        input_tokens=sum(trial.cost.input_tokens for trial in trials),
        cached_tokens=sum(trial.cost.cached_tokens for trial in trials),
        output_tokens=sum(trial.cost.output_tokens for trial in trials),
        requests=sum(trial.cost.requests for trial in trials),
        usd=math.fsum(prices) if prices else None,
    )


def _times(trials: Sequence[Trial]) -> Times:
    names = Times.__struct_fields__
    return Times(**{name: math.fsum(getattr(trial.times, name) for trial in trials) for name in names})
