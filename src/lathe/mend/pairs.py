"""Two edits at once, guided by what each does to the failing tests on its own."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from lathe.mend.candidates import Candidate
from lathe.mend.project import Plan

_MAX_FIRST = 200
_PER_SIGNAL = 0.75
_PER_FIXED = 1.0


def pairs(
    partial: Sequence[Candidate], active: Sequence[Candidate], likeliest: Sequence[Candidate], failing: set[int]
) -> Iterator[Candidate]:
    """Yield pairs, the likeliest first.

    Edits that repair different tests come first where they repair all of `failing` together. Then come the edits that
    change what a failing test does (let it get further, or fail otherwise), each with the likeliest of all edits.
    """
    done: set[frozenset[int]] = set()
    halves = sorted(partial, key=lambda one: one.score)[:_MAX_FIRST]
    sums = [
        (one.score + other.score, first, second)
        for first, one in enumerate(halves)
        for second, other in enumerate(halves[:first])
        if failing <= {*one.fixed, *other.fixed} and one.fits(other)
    ]
    for _, first, second in sorted(sums):
        done.add(frozenset((id(halves[first]), id(halves[second]))))
        yield _both(halves[first], halves[second])
    firsts = sorted(active, key=_worth)[:_MAX_FIRST]
    heap = [(_worth(one) + other.score, index, 0) for index, one in enumerate(firsts) for other in likeliest[:1]]
    heapq.heapify(heap)
    while heap:
        _, index, at = heapq.heappop(heap)
        one, other = firsts[index], likeliest[at]
        if at + 1 < len(likeliest):
            heapq.heappush(heap, (_worth(one) + likeliest[at + 1].score, index, at + 1))
        key = frozenset((id(one), id(other)))
        if len(key) == 2 and key not in done and one.fits(other):
            done.add(key)
            yield _both(one, other)


def _worth(one: Candidate) -> float:
    return one.score - _PER_SIGNAL * one.signal - _PER_FIXED * min(2, len(one.fixed))


def _both(one: Candidate, other: Candidate) -> Candidate:
    changes = tuple(sorted((*one.changes, *other.changes), key=lambda change: (change[0].path, change[1].start)))
    if one.plan is other.plan:
        return Candidate(changes, one.score + other.score, one.plan)
    failing = list(dict.fromkeys([*one.plan.failing, *other.plan.failing]))
    passing = list(dict.fromkeys([*one.plan.passing, *other.plan.passing]))
    return Candidate(changes, one.score + other.score, Plan(failing, passing))
