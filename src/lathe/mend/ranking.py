"""The order of repairs that pass the tests, and what is said of those that were not chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lathe.mend.agreement import Agreement, distinguish
from lathe.mend.candidates import Candidate
from lathe.mend.project import Project, TestRun
from lathe.mend.report import Question

_SHARE = 0.25  # of the time that the search took so far
_LEAST_S, _MOST_S = 0.15, 2.0
_MAX_QUESTIONS = 3


class Ranking:
    """Repairs in order, `found`, with what is known of how they differ."""

    def __init__(self, found: list[Candidate], groups: list[tuple[list[Candidate], Agreement]]) -> None:
        self.found = found
        self._groups = groups

    def why(self, best: Candidate) -> str:
        """Return what put a repair before the others of the same tests; "" where there is nothing to say."""
        agreement = self._of(best)
        return agreement[1].why if agreement else ""

    def others(self, best: Candidate) -> list[Candidate]:
        """Return the repairs that do something else than `best`, the best of each kind, in order."""
        known = self._of(best)
        if known is None:
            return [one for one in self.found if one is not best]
        candidates, agreement = known
        inside = [candidates[cluster[0]] for cluster in agreement.clusters]
        return [one for one in [*inside, *(one for one in self.found if one not in candidates)] if one is not best]

    def questions(self, best: Candidate, number: int, shown: Callable[[Candidate], str]) -> tuple[Question, ...]:
        """Return what would decide between `best`, the change numbered `number`, and others; `shown` is their code."""
        known = self._of(best)
        if known is None or known[0][known[1].clusters[0][0]] is not best:
            return ()
        candidates, agreement = known
        asked = []
        for place, found in sorted(agreement.differences.items()):
            other = shown(candidates[agreement.clusters[place][0]])
            asked.append(
                Question(number, found.call, other, found.first, found.other, found.test, found.test_for_other)
            )
        return tuple(asked[:_MAX_QUESTIONS])

    def _of(self, best: Candidate) -> tuple[list[Candidate], Agreement] | None:
        return next((group for group in self._groups if best in group[0]), None)


def rank(
    project: Project, found: Sequence[Candidate], runs: Sequence[TestRun], *, started: float, deadline: float
) -> Ranking:
    """Order repairs: those of more tests first, of the same tests by cost, naturalness and agreement.

    `started` and `deadline` are of `time.monotonic`; comparing takes a quarter of the time so far, two seconds at most.
    """
    by_tests: dict[frozenset[int], list[Candidate]] = {}
    for one in found:
        by_tests.setdefault(frozenset(one.fixed), []).append(one)
    groups: list[tuple[list[Candidate], Agreement]] = []
    ordered: list[Candidate] = []
    for candidates in by_tests.values():
        now = time.monotonic()
        seconds = min(max(_LEAST_S, _SHARE * (now - started)), _MOST_S, (deadline - now) / 4)
        agreement = distinguish(project, candidates, runs, seconds=seconds)
        groups.append((candidates, agreement))
        ordered += [candidates[index] for cluster in agreement.clusters for index in cluster]
    return Ranking(ordered, groups)
