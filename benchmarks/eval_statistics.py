"""Whether the statistics of evaluations keep what they promise: coverage of 95 % intervals and power, by simulation.

Runs are drawn from populations of tasks that are known, so each interval can be held against the truth: how hard tasks
are is drawn anew each time, alike or hanging together in clusters, with rare and with usual successes. Baselines are
Wilson's interval with each attempt counted as independent, as leaderboards have it, and the plain percentile bootstrap.
Power: the trials that are said to find a difference are run, and it is counted how often the exact test finds it.

usage: eval_statistics.py [--check] [--json] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import fmean, pvariance
from typing import NamedTuple

from measuring import table

from lathe.evals.stats.intervals import (
    Interval,
    exact_interval,
    mean_interval,
    mean_of,
    redrawn,
    units_of,
    wilson,
    wilson_interval,
)
from lathe.evals.stats.pairs import mcnemar, sign_flip
from lathe.evals.stats.power import Parts, for_difference

LEAST = {"interval": 0.92, "wilson": 0.92, "exact": 0.93}
"""Coverage below which a setting misses the bar, by interval; what chance alone takes from it is allowed besides."""
BASELINES = ("naive", "percentile")
POWER_OFF = 0.05
DRAWS = 600
Numbers = random.Random


class Setting(NamedTuple):
    """A population: how many tasks in how many clusters, attempts at each, and how a cluster's chances are drawn."""

    name: str
    clusters: int
    size: int
    attempts: int
    chance: Callable[[Numbers], float]
    truth: float
    spread: float = 0.0
    """How far a task's chance is from its cluster's: 1 is independent of it."""


def beta(a: float, b: float) -> Callable[[Numbers], float]:
    return lambda numbers: numbers.betavariate(a, b)


SETTINGS = (
    Setting("10 tasks, 1 attempt", 10, 1, 1, beta(0.5, 0.5), 0.5),
    Setting("10 tasks, 5 attempts", 10, 1, 5, beta(0.3, 0.1), 0.75),
    Setting("20 tasks, 5 attempts, mostly failed", 20, 1, 5, beta(0.1, 1.9), 0.05),
    Setting("40 tasks, 1 attempt", 40, 1, 1, beta(2, 2), 0.5),
    Setting("40 tasks, 5 attempts, mostly failed", 40, 1, 5, beta(0.1, 1.9), 0.05),
    Setting("40 tasks, 5 attempts, mostly passed", 40, 1, 5, beta(1.9, 0.1), 0.95),
    Setting("89 tasks, 1 attempt", 89, 1, 1, beta(0.5, 0.5), 0.5),
    Setting("89 tasks, 5 attempts", 89, 1, 5, beta(0.5, 0.5), 0.5),
    Setting("60 tasks in 12 clusters, 1 attempt", 12, 5, 1, beta(1, 1), 0.5),
    Setting("80 tasks in 20 clusters, 3 attempts", 20, 4, 3, beta(0.6, 0.4), 0.6, 0.3),
    Setting("clusters of 1 to 9 tasks, 2 attempts", 25, 0, 2, beta(1, 1), 0.5, 0.2),
)


def drawn_run(setting: Setting, numbers: Numbers) -> list[list[float]]:
    """Return the tasks' means, by cluster."""
    run: list[list[float]] = []
    for _ in range(setting.clusters):
        shared = setting.chance(numbers)
        values: list[float] = []
        for _ in range(setting.size or numbers.randint(1, 9)):
            chance = setting.chance(numbers) if numbers.random() < setting.spread else shared
            values.append(sum(numbers.random() < chance for _ in range(setting.attempts)) / setting.attempts)
        run.append(values)
    return run


def percentile(run: Sequence[Sequence[float]], numbers: Numbers) -> tuple[float, float]:
    """Return the plain percentile interval over clusters."""
    drawn = sorted(redrawn(units_of(run)[0], DRAWS, numbers))
    return drawn[round(0.025 * DRAWS)], drawn[round(0.975 * DRAWS) - 1]


def coverage(setting: Setting, runs: int, seed: int) -> dict[str, float]:
    """Return how often each interval holds the truth, and the mean width of the bootstrap's."""
    numbers = Numbers(seed)
    hits: Counter[str] = Counter()
    width = 0.0
    for _ in range(runs):
        run = drawn_run(setting, numbers)
        trials = sum(map(len, run)) * setting.attempts
        ours = mean_interval(run, trials, draws=DRAWS, seed=numbers.getrandbits(32))
        found = {
            "interval": ends(ours),
            "wilson": ends(wilson_interval(run, trials)),
            "exact": ends(exact_interval(run, trials)),
            "naive": ends(wilson(mean_of(run) * trials, trials)),
            "percentile": percentile(run, numbers),
        }
        hits.update(name for name, (low, high) in found.items() if low - 1e-12 <= setting.truth <= high + 1e-12)
        width += ours.high - ours.low
    return {**{name: hits[name] / runs for name in (*LEAST, *BASELINES)}, "width": width / runs}


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


class Question(NamedTuple):
    """A difference to find: chances of A are drawn, B's are higher by `difference` where that is possible."""

    difference: float
    attempts: int
    same: float
    """The share of tasks where both have the same chance, so that the rest differs the more."""


QUESTIONS = (Question(0.05, 1, 0.0), Question(0.1, 1, 0.0), Question(0.1, 5, 0.5), Question(0.08, 3, 0.6))


def pair_of(question: Question, numbers: Numbers) -> tuple[float, float]:
    a = numbers.uniform(0.1, 0.6)
    moved = 0.0 if numbers.random() < question.same else question.difference / (1.0 - question.same)
    return a, a + moved


def power(question: Question, runs: int, seed: int) -> dict[str, float]:
    """Return how often the exact test finds the difference with the tasks that were said to be needed."""
    numbers = Numbers(seed)
    pairs = [pair_of(question, numbers) for _ in range(100_000)]
    apart = [b - a for a, b in pairs]
    within = fmean(a * (1 - a) + b * (1 - b) for a, b in pairs)
    needed = for_difference(Parts(pvariance(apart), within, 1.0, 100, 1.0), question.difference, question.attempts)
    tasks = needed.tasks or 0
    found = {"sign-flip": 0, "mcnemar": 0}
    for _ in range(runs):
        differences: list[Fraction] = []
        for _ in range(tasks):
            a, b = pair_of(question, numbers)
            wins = sum((numbers.random() < b) - (numbers.random() < a) for _ in range(question.attempts))
            differences.append(Fraction(wins, question.attempts))
        found["sign-flip"] += sign_flip(differences).p < 0.05
        found["mcnemar"] += mcnemar(sum(d < 0 for d in differences), sum(d > 0 for d in differences)).p < 0.05
    return {"tasks": tasks, **{name: hits / runs for name, hits in found.items()}}


def main() -> int:
    """Simulate, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    covered = {setting.name: coverage(setting, options.runs, at) for at, setting in enumerate(SETTINGS)}
    settled = {
        f"a difference of {one.difference}, {one.attempts} attempts a task": power(one, options.runs // 2, at)
        for at, one in enumerate(QUESTIONS)
    }
    missed = misses(covered, settled, options.runs)
    if options.json:
        print(json.dumps({"at": time.time(), "coverage": covered, "power": settled, "missed": missed}))
    else:
        rows = [
            [name, *(f"{found[column]:.3f}" for column in (*LEAST, *BASELINES, "width"))]
            for name, found in covered.items()
        ]
        bars = ["bar", *(f"{least}" for least in LEAST.values()), "", "", ""]
        heads = [
            "coverage of 95 % intervals",
            "bootstrap",
            "Wilson",
            "exact",
            "Wilson of trials",
            "percentiles",
            "width",
        ]
        print(table(heads, [*rows, bars]))
        print()
        rows = [
            [name, f"{found['tasks']:.0f}", f"{found['sign-flip']:.2f}", f"{found['mcnemar']:.2f}"]
            for name, found in settled.items()
        ]
        heads = ["power of 0.8 wanted", "tasks needed", "found by sign flips (bar: 0.75 to 0.85)", "by McNemar"]
        print(table(heads, rows))
        print("\n".join(missed))
    return int(options.check and bool(missed))


def misses(covered: dict[str, dict[str, float]], settled: dict[str, dict[str, float]], runs: int) -> list[str]:
    """Return which bars are missed, by more than two standard errors of the simulation."""
    chance = 2 * math.sqrt(0.95 * 0.05 / runs)
    found = [
        f"{name}: the {kind} covers {values[kind]:.3f}"
        for name, values in covered.items()
        for kind, least in LEAST.items()
        if values[kind] < least - chance
    ]
    chance = 2 * math.sqrt(0.8 * 0.2 / (runs // 2))
    return found + [
        f"{name}: found {values['sign-flip']:.3f} of the time"
        for name, values in settled.items()
        if abs(values["sign-flip"] - 0.8) > POWER_OFF + chance
    ]


if __name__ == "__main__":
    sys.exit(main())
