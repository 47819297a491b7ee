"""Telling apart what the tests cannot: repairs compared on inputs beyond the tests, and put in order.

Repairs that never differ are one answer. Of those that do, the one is preferred that leaves alone what was right:
inputs like those of passing tests should give what they gave (after Xiong et al., "Identifying patch correctness in
test-based program repair", 2018), and nothing that worked may crash. An answer to which several edits lead is a little
more likely. All of it is weighed against how likely the edit is, and how naturally it reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lathe.mend.candidates import Candidate
from lathe.mend.natural import Natural
from lathe.mend.project import Project, TestRun
from lathe.mend.questions import is_simpler, ready_test, shown_result

INPUTS = 240
MAX_COMPARED = 12
NATURAL_WEIGHT = 0.05  # what a bit is worth in the cost of edits
_KEPT_WEIGHT, _CRASH_WEIGHT, _SIZE_WEIGHT, _BLUNT_WEIGHT = 0.5, 1.0, 0.15, 0.7
_FEW = 8  # inputs, with which only half as much can be said
_MAX_TESTS = 60
_TESTS_SHARE = 0.3  # of the time may be spent on running tests
_HANGING_S = 0.02
_LONG_S = 0.5


class Evidence(msgspec.Struct, frozen=True):
    """What speaks for a repair.

    `cost` is that of its edits, `bits` how unnatural they read. Of `inputs` on which the program was right before, as
    far as is known, `kept` still give the same and `crashes` end badly; `alike` repairs, with it, never differ,
    which change `places` lines: one place changed in two ways says no more than once. A `blunt` one only takes away.
    """

    cost: float
    bits: float
    inputs: int = 0
    kept: int = 0
    crashes: int = 0
    alike: int = 1
    places: int = 1
    blunt: bool = False

    @property
    def total(self) -> float:
        """The whole, in units of cost; the least is the best."""
        total = self.cost + NATURAL_WEIGHT * self.bits - _SIZE_WEIGHT * math.log2(self.places)
        total += _BLUNT_WEIGHT * self.blunt
        if self.inputs:
            sure = self.inputs / (self.inputs + _FEW)
            total += sure * _KEPT_WEIGHT * (1 - self.kept / self.inputs)
            total += sure * _CRASH_WEIGHT * min(1.0, 4 * self.crashes / self.inputs)
        return total


class Difference(msgspec.Struct, frozen=True):
    """A call by which two clusters differ, and what it comes to with each.

    `test` holds for the one and not for the other; for the first, unless `test_for_other`. It is "" where the call
    cannot be written down.
    """

    call: str
    first: str
    other: str
    test: str
    test_for_other: bool = False


class Agreement(msgspec.Struct, frozen=True):
    """Repairs in clusters, the best first in each and the best cluster first; by index into what was compared.

    `differences` tell the first cluster from another, by that one's place in `clusters`; of a cluster that is not in
    it no such call is known. `why` says what put the first before the next.
    """

    clusters: tuple[tuple[int, ...], ...]
    evidence: tuple[Evidence, ...]
    differences: dict[int, Difference]
    why: str


def distinguish(
    project: Project, candidates: Sequence[Candidate], runs: Sequence[TestRun], *, seconds: float
) -> Agreement:
    """Compare repairs that pass the same tests, in at most about twice `seconds`; in the order given they may differ.

    Only the first `MAX_COMPARED` are run; all are ordered.
    """
    natural = Natural.load()
    evidence = [
        Evidence(one.score, sum(natural.score(source, edit) for source, edit in one.changes), blunt=one.is_blunt)
        for one in candidates
    ]
    ranked = sorted(range(len(candidates)), key=lambda index: (evidence[index].total, candidates[index].length))
    compared = ranked[:MAX_COMPARED]
    answer: Mapping[str, Any] | None = None
    if len(compared) > 1 and seconds > 0:
        answer = _ask(project, candidates, compared, runs, seconds)
    return _judged(candidates, evidence, answer or {"programs": [], "calls": [], "questions": []})


def _ask(
    project: Project, candidates: Sequence[Candidate], compared: Sequence[int], runs: Sequence[TestRun], seconds: float
) -> Mapping[str, Any] | None:
    failing = {test for index in compared for test in candidates[index].plan.failing}
    reached = {test for index in compared for test in candidates[index].plan.passing}
    passing = sorted(reached - failing, key=lambda test: runs[test].cpu)
    tests: list[list[float]] = []
    spent = 0.0
    for test in [*sorted(failing, key=lambda test: runs[test].cpu)[: _MAX_TESTS // 2], *passing]:
        limit = _HANGING_S if runs[test].outcome == "hung" else 0.1 + 10 * runs[test].cpu
        spent += limit if runs[test].outcome == "hung" else runs[test].cpu
        if len(tests) < _MAX_TESTS and spent < seconds * _TESTS_SHARE:
            tests.append([test, limit])
    order = {
        "op": "distinguish",
        "candidates": [{"id": index, "parts": msgspec.to_builtins(candidates[index].parts)} for index in compared],
        "tests": tests,
        "failing": sorted(failing),
        "inputs": INPUTS if seconds >= _LONG_S else INPUTS // 2,
        "seconds": seconds,
    }
    return project.ask(order, "agreement", time.monotonic() + 3 * seconds + 2)


def _judged(candidates: Sequence[Candidate], evidence: Sequence[Evidence], answer: Mapping[str, Any]) -> Agreement:
    programs: list[int] = answer["programs"]
    columns = {number: column for column, number in enumerate(programs) if number >= 0}
    groups: dict[object, list[int]] = {}
    for index in range(len(candidates)):
        column = columns.get(index)
        key: object = ("alone", index)
        if column is not None and answer["calls"]:
            key = tuple(call["same"][column] for call in answer["calls"])
        groups.setdefault(key, []).append(index)
    known = [
        _with_calls(one, columns[index], answer["calls"]) if index in columns else one
        for index, one in enumerate(evidence)
    ]
    for group in groups.values():
        places = {(source.path, edit.line) for index in group for source, edit in candidates[index].changes[:1]}
        for index in group:
            known[index] = msgspec.structs.replace(known[index], alike=len(group), places=len(places))

    def place(index: int) -> tuple[int, float, int]:
        return -len(candidates[index].fixed), known[index].total, candidates[index].length

    clusters = sorted((tuple(sorted(group, key=place)) for group in groups.values()), key=lambda group: place(group[0]))
    differences = {}
    for number, cluster in enumerate(clusters[1:], start=1):
        found = _difference(columns.get(clusters[0][0]), columns.get(cluster[0]), answer["questions"])
        if found is not None:
            differences[number] = found
    why = _why(known[clusters[0][0]], known[clusters[1][0]]) if len(clusters) > 1 else ""
    return Agreement(tuple(clusters), tuple(known), differences, why)


def _with_calls(evidence: Evidence, column: int, calls: Sequence[Mapping[str, Any]]) -> Evidence:
    right = [call for call in calls if call["usual"] and call["good"] and call["origin"] == "passing"]
    return msgspec.structs.replace(
        evidence,
        inputs=len(right),
        kept=sum(call["same"][column] == 0 for call in right),
        crashes=sum(call["bad"][column] for call in right),
    )


def _difference(first: int | None, other: int | None, calls: Sequence[Mapping[str, Any]]) -> Difference | None:
    best: Mapping[str, Any] | None = None
    if first is None or other is None:
        return None
    for call in calls:
        one, two = call["outcomes"][first], call["outcomes"][other]
        if one["digest"] != two["digest"]:
            narrowed = {**call, "outcomes": [one, two]}
            if best is None or is_simpler(narrowed, best):
                best = narrowed
    if best is None:
        return None
    one, two = best["outcomes"]
    test = ready_test(best, one, two)
    otherwise = "" if test else ready_test(best, two, one)
    results = shown_result(one, two), shown_result(two, one)
    return Difference(best["text"], *results, test or otherwise, bool(otherwise))


def _why(first: Evidence, second: Evidence) -> str:
    """Return what speaks most for the first."""
    reasons: list[tuple[float, str]] = []
    if first.inputs and second.inputs:
        share, other = first.kept / first.inputs, second.kept / second.inputs
        text = f"on {share:.0%} of {first.inputs} inputs like those of passing tests it does what the code did before"
        reasons.append((_KEPT_WEIGHT * (share - other), f"{text}, the next one on {other:.0%}"))
        crashes = second.crashes / second.inputs - first.crashes / first.inputs
        reasons.append((_CRASH_WEIGHT * crashes, f"the next one fails on {second.crashes} of them"))
    reasons.append((second.cost - first.cost, "it is the likelier mistake"))
    reasons.append((_BLUNT_WEIGHT * (second.blunt - first.blunt), "the next one only takes something away"))
    bits = second.bits - first.bits
    reasons.append((NATURAL_WEIGHT * bits, f"it reads more like other code, by {bits:.1f} bits"))
    more = math.log2(first.places) - math.log2(second.places)
    reasons.append((_SIZE_WEIGHT * more, f"edits at {first.places} places come to the same"))
    weight, text = max(reasons)
    return text if weight > 0 else "nothing tells it from the next one"
