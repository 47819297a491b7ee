"""Two runs on the same tasks, compared task by task.

What is tested is whether the runs could be exchanged: the exact sign test on tasks (with one attempt a task it is
McNemar's), and the sign-flip permutation test on the differences, where a cluster's tasks change sides together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lathe.evals.record import Trial
from lathe.evals.stats.intervals import LEVEL, SEED, UNKNOWN, Interval, bootstrap, mean_of, units_of, wilson
from lathe.evals.stats.power import Parts, parts_of_difference
from lathe.evals.stats.scores import TaskScores, by_task

Conclusion: TypeAlias = Literal["a is better", "b is better", "undecided"]
_MOST_SUMS = 100_000
_FLIPS = 50_000
_DENOMINATOR = 10**6


class PValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A two-sided p-value. `exact` is False where sign flips were drawn at random, for there were too many."""

    p: float
    exact: bool = True


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the comparison says when faults and missing tasks count in one way: see `Comparison.readings`."""

    tasks: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    interval: Interval
    a_better: int
    b_better: int
    equal: int
    mcnemar: PValue
    permutation: PValue
    conclusion: Conclusion


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two runs compared; differences are B less A.

    `plain` leaves faults and missing tasks out. `readings` counts them otherwise: `as failures`, `as passes`, and the
    two worst cases, `against a` and `against b` (each side's own as failures, the other's as passes). `settled` says
    whether all of them conclude the same. `changed` are tasks whose files differ between the runs: they aren't
    compared. `parts` tells how many trials would settle it (see `power.for_difference`).
    """

    plain: Reading
    readings: dict[str, Reading]
    settled: bool
    faults_a: tuple[str, ...]
    faults_b: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    changed: tuple[str, ...]
    parts: Parts | None


def compare(a: Iterable[Trial], b: Iterable[Trial], *, level: float = LEVEL, seed: int = SEED) -> Comparison:
    """Compare run B with run A; the same seed gives the same figures."""
    of_a = {task.task: task for task in by_task(a)}
    of_b = {task.task: task for task in by_task(b)}
    changed = {name for name in of_a.keys() & of_b.keys() if of_a[name].digest != of_b[name].digest}
    names = sorted((of_a.keys() | of_b.keys()) - changed)
    pairs = [(of_a.get(name), of_b.get(name)) for name in names]
    both = [(one, two) for one, two in pairs if one is not None and two is not None]

    def read(left_as: float | None, right_as: float | None) -> Reading:
        rows = [_row(one, two, left_as, right_as) for one, two in pairs]
        return _reading([row for row in rows if row is not None], level, seed)

    plain = read(None, None)
    touched = any(one is None or two is None or one.faults or two.faults for one, two in pairs)
    ways = {"as failures": (0.0, 0.0), "as passes": (1.0, 1.0), "against a": (0.0, 1.0), "against b": (1.0, 0.0)}
    readings = {way: read(*values) for way, values in ways.items()} if touched else {}
    return Comparison(
        plain=plain,
        readings=readings,
        settled=all(one.conclusion == plain.conclusion for one in readings.values()),
        faults_a=tuple(fault for task in of_a.values() for fault in task.faults),
        faults_b=tuple(fault for task in of_b.values() for fault in task.faults),
        only_a=tuple(name for name in names if name not in of_b),
        only_b=tuple(name for name in names if name not in of_a),
        changed=tuple(sorted(changed)),
        parts=parts_of_difference(both),
    )


class _Row(NamedTuple):
    cluster: str
    a: Fraction
    b: Fraction


def _row(a: TaskScores | None, b: TaskScores | None, a_as: float | None, b_as: float | None) -> _Row | None:
    """Return a task's two means, with faults and a missing task counted as given; None where a side has nothing."""
    left, right = _rewards(a, a_as), _rewards(b, b_as)
    named = a or b
    if not left or not right or named is None:
        return None
    return _Row(named.cluster, _mean(left), _mean(right))


def _rewards(task: TaskScores | None, instead: float | None) -> list[float]:
    if task is None:
        return [] if instead is None else [instead]
    return [*task.rewards, *([] if instead is None else [instead] * len(task.faults))]


def _mean(rewards: Sequence[float]) -> Fraction:
    """Return the mean exactly, so that equal differences are equal: rewards are shares with small denominators."""
    return sum((Fraction(one).limit_denominator(_DENOMINATOR) for one in rewards), Fraction(0)) / len(rewards)


def _reading(rows: Sequence[_Row], level: float, seed: int) -> Reading:
    clusters: dict[str, list[Fraction]] = {}
    for row in rows:
        clusters.setdefault(row.cluster, []).append(row.b - row.a)
    a_better = sum(row.a > row.b for row in rows)
    b_better = sum(row.b > row.a for row in rows)
    # One cluster says nothing about others; then its tasks are taken for themselves, as the interval does.
    units = [sum(one, Fraction(0)) for one in clusters.values()] if len(clusters) > 1 else [r.b - r.a for r in rows]
    permutation = sign_flip(units, seed=seed)
    difference = float(sum((row.b - row.a for row in rows), Fraction(0)) / len(rows)) if rows else None
    better: Conclusion = "b is better" if difference is not None and difference > 0 else "a is better"
    return Reading(
        tasks=len(rows),
        mean_a=float(sum((row.a for row in rows), Fraction(0)) / len(rows)) if rows else None,
        mean_b=float(sum((row.b for row in rows), Fraction(0)) / len(rows)) if rows else None,
        difference=difference,
        interval=_interval([[float(value) for value in clusters[name]] for name in sorted(clusters)], level, seed),
        a_better=a_better,
        b_better=b_better,
        equal=len(rows) - a_better - b_better,
        mcnemar=mcnemar(a_better, b_better),
        permutation=permutation,
        conclusion=better if permutation.p < 1.0 - level else "undecided",
    )


def _interval(clusters: Sequence[Sequence[float]], level: float, seed: int) -> Interval:
    """Return the interval of the difference.

    Where all tasks differ alike, drawing them says nothing. Then a share of tasks that Wilson's interval does not rule
    out may differ by anything from -1 to 1.
    """
    drawn = bootstrap(clusters, level, seed=seed)
    if drawn is not None:
        return drawn
    units, scope = units_of(clusters)
    if not units:
        return msgspec.structs.replace(UNKNOWN, low=-1.0, level=level)
    others = wilson(0, len(units), level).high
    all_differ_by = mean_of(units) * (1.0 - others)
    return Interval(all_differ_by - others, all_differ_by + others, level, "wilson", scope)


def mcnemar(a_better: int, b_better: int) -> PValue:
    """Return the exact test that a task which one side does better is either's alike (McNemar 1947)."""
    n, least = a_better + b_better, min(a_better, b_better)
    at_most = sum(math.comb(n, count) for count in range(least + 1))
    return PValue(float(min(Fraction(1), Fraction(2 * at_most, 2**n))))


def sign_flip(differences: Sequence[Fraction], *, seed: int = SEED, flips: int = _FLIPS) -> PValue:
    """Return the permutation test that each difference has either sign alike, on the size of their sum.

    It is exact as long as the sums that are possible can be counted, which shares of a few attempts always allow.
    """
    apart = [abs(one) for one in differences if one]
    if not apart:
        return PValue(1.0)
    scale = math.lcm(*(one.denominator for one in apart))
    sizes = [int(one * scale) for one in apart]
    seen = abs(int(sum(differences, Fraction(0)) * scale))
    counts: dict[int, int] = {0: 1}
    for size in sizes:
        following: dict[int, int] = {}
        for total, ways in counts.items():
            for reached in (total + size, total - size):
                following[reached] = following.get(reached, 0) + ways
        counts = following
        if len(counts) > _MOST_SUMS:
            return _drawn_flips(sizes, seen, flips, random.Random(seed))
    return PValue(float(Fraction(sum(ways for total, ways in counts.items() if abs(total) >= seen), 2 ** len(sizes))))


def _drawn_flips(sizes: Sequence[int], seen: int, flips: int, random_numbers: random.Random) -> PValue:
    """Return the p-value over random flips, what was seen among them (Phipson and Smyth 2010): never 0."""
    total, hits = sum(sizes), 0
    for _ in range(flips):
        signs = random_numbers.getrandbits(len(sizes))
        flipped = sum(size for at, size in enumerate(sizes) if signs >> at & 1)
        hits += abs(total - 2 * flipped) >= seen
    return PValue((hits + 1) / (flips + 1), exact=False)
