"""Candidates in the order of their likelihood, made only as far as somebody asks for them."""

from __future__ import annotations

import ast
import heapq
import math
import re
from collections.abc import Iterator, Sequence

import msgspec

from lathe.mend.bindings import Bindings
from lathe.mend.localise import Spectrum, uses_of_names
from lathe.mend.operators.clues import NONE, Clues
from lathe.mend.operators.propose import Proposer
from lathe.mend.operators.registry import Edit
from lathe.mend.operators.vocabulary import Vocabulary
from lathe.mend.project import Part, Plan, TestRun
from lathe.mend.source import Function, SourceFile

_SUSPICION_WEIGHT = 1.5
_ELSEWHERE = 0.7  # what it takes from the likelihood that tests came to an error in another line
_USUAL_S = 0.002  # what a candidate takes of which a function is exchanged
_TIME_WEIGHT = 0.5  # as in the costs of kinds: one that takes e times as long has to be e times as likely
_LEAST_SUSPICION = 0.02
_LEAST_COST = 1.0
_PLAIN = r"(?:None|True|False|-?[\d.]+|''|\"\"|\[\]|\{\}|\(\))"
_NOTHING = re.compile(rf"(?:pass|continue|break|return|(?:return )?{_PLAIN})\Z")
_LEAVES_EARLY = re.compile(rf"(?:if [^\n]*:\s+)?(?:pass|continue|break|return(?: {_PLAIN})?)\Z")
_SWALLOWS = re.compile(r"except[^\n]*:\s+(?:pass|continue|break|return(?: None)?)\Z")
_ENDLESS_S = 1e6


class Candidate(msgspec.Struct, eq=False):
    """One or two edits, and the tests that can tell whether they help; `fixed` and `signal` as in `Verdict`."""

    changes: tuple[tuple[SourceFile, Edit], ...]
    score: float
    plan: Plan
    fixed: list[int] = []
    signal: int = 0

    @property
    def parts(self) -> list[Part]:
        """The edits by the function that holds them."""
        parts: dict[object, Part] = {}
        for source, edit in self.changes:
            unit = source.unit(edit.start, edit.end)
            part = parts.setdefault((source.path, unit), Part(source.path, unit, []))
            part.edits.append((edit.start, edit.end, edit.text))
        return list(parts.values())

    @property
    def is_blunt(self) -> bool:
        """Whether an edit only takes a statement away, puts nothing for something, leaves early or swallows an error.

        Such an edit passes weak tests more often than it is what was meant (after Tan et al., "Anti-patterns in
        search-based program repair", 2016).
        """
        return any(_is_blunt(source.text[edit.start : edit.end], edit) for source, edit in self.changes)

    @property
    def length(self) -> int:
        """How many characters are new."""
        return sum(len(edit.text) for _, edit in self.changes)

    def fits(self, other: Candidate) -> bool:
        """Return whether both can be done at once."""
        return all(
            source.path != there.path or edit.end < far.start or far.end < edit.start
            for source, edit in self.changes
            for there, far in other.changes
        )


class Candidates:
    """All single edits of the project; iterate for the likeliest first.

    What runs at import has to be imported afresh for each candidate, which takes about `import_s` seconds.
    """

    def __init__(
        self,
        sources: Sequence[SourceFile],
        runs: Sequence[TestRun],
        spectrum: Spectrum,
        import_s: float,
        clues: Clues = NONE,
    ) -> None:
        self._import_cost = _TIME_WEIGHT * math.log(max(1.0, import_s / _USUAL_S))
        self._runs = runs
        self._spectrum = spectrum
        self._vocabulary = Vocabulary(sources, clues)
        self._plans: dict[tuple[str, object], tuple[Plan, bool]] = {}
        self._bindings: dict[tuple[str, object], Bindings] = {}
        self._doubted: list[tuple[float, int, SourceFile, ast.stmt]] = []
        self._proposers = {source.path: Proposer(source, self._vocabulary) for source in sources}
        uses = uses_of_names(sources)
        strongest = max(spectrum.suspicion.values(), default=1.0)
        for source in sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.stmt):
                    suspicion = spectrum.of_statement(source, node, uses) / strongest
                    if suspicion > _LEAST_SUSPICION:
                        doubt = -math.log(suspicion) * _SUSPICION_WEIGHT
                        if spectrum.crashes and not spectrum.is_crash(source, node):
                            doubt += _ELSEWHERE
                        self._doubted.append((doubt, len(self._doubted), source, node))

    def leave_others(self, fixed: set[int], failing: set[int]) -> bool:
        """Return whether tests that fail still reach code that no `fixed` one does: there may be another fault."""
        left = failing - fixed
        plans = (self._plan(source, node)[0] for _, _, source, node in self._doubted if isinstance(node, Function))
        return any(left.intersection(plan.failing) and fixed.isdisjoint(plan.failing) for plan in plans)

    def __iter__(self) -> Iterator[Candidate]:
        streams: list[tuple[float, int, Candidate | None, Iterator[Candidate]]] = [
            (doubt + _LEAST_COST, number, None, self._of_statement(source, node, doubt))
            for doubt, number, source, node in self._doubted
        ]
        heapq.heapify(streams)
        while streams:
            _, number, candidate, more = streams[0]
            if candidate is not None:
                yield candidate
            following = next(more, None)
            if following is None:
                heapq.heappop(streams)
            else:
                heapq.heapreplace(streams, (following.score, number, following, more))

    def _of_statement(self, source: SourceFile, node: ast.stmt, doubt: float) -> Iterator[Candidate]:
        plan, at_import = self._plan(source, node)
        if not plan.failing:
            return
        more = doubt + (self._import_cost if at_import else 0.0)
        late: list[tuple[float, int, Candidate]] = []
        bindings = self._bindings_around(source, node)
        for number, edit in enumerate(self._proposers[source.path].edits(node)):
            if not source.is_utf8 and not _is_ascii(source, edit):
                continue  # no patch could say it
            while late and late[0][0] <= edit.cost + more:
                yield heapq.heappop(late)[2]
            odd = bindings.cost(edit) if bindings is not None else 0.0
            candidate = Candidate(((source, edit),), edit.cost + more + odd, plan)
            if odd:
                heapq.heappush(late, (candidate.score, number, candidate))
            else:
                yield candidate
        yield from (heapq.heappop(late)[2] for _ in range(len(late)))

    def _bindings_around(self, source: SourceFile, node: ast.stmt) -> Bindings | None:
        """Return the names of the function that a statement stands in; None for a definition itself."""
        function = source.function(node)
        if function is None or node is function:
            return None
        key = (source.path, function)
        if key not in self._bindings:
            self._bindings[key] = Bindings(source, function)
        return self._bindings[key]

    def _plan(self, source: SourceFile, node: ast.stmt) -> tuple[Plan, bool]:
        """Return the tests that reach the function around `node`, and whether it runs at import instead."""
        function = source.function(node)
        key = (source.path, function)
        if key not in self._plans:
            # of a test that never ended only its place in the suite is known, and small cases come first there
            cost = [_ENDLESS_S if run.outcome == "hung" else run.cpu for run in self._runs]
            everything = [index for index, run in enumerate(self._runs) if run.outcome in ("passed", "skipped")]
            known = self._spectrum.tests_of(source, node)
            failed, passed = known or (self._spectrum.failing, everything)
            plan = Plan(_by_group(failed, self._spectrum.groups, cost), sorted(passed, key=cost.__getitem__))
            self._plans[key] = plan, known is None
        return self._plans[key]


def _is_blunt(before: str, edit: Edit) -> bool:
    old, new = before.strip(), edit.text.strip()
    if not old:
        return _LEAVES_EARLY.match(new) is not None
    if not new:
        return edit.kind == "surplus statement"
    if _NOTHING.match(new):
        return _NOTHING.match(old) is None and not old.startswith(("not ", "-"))
    return new.startswith("try:") and _SWALLOWS.search(new) is not None


def _by_group(tests: Sequence[int], groups: Sequence[Sequence[int]], cost: Sequence[float]) -> list[int]:
    """Return the cheapest test of each group first, then the next of each."""
    wanted = set(tests)
    queues = [sorted(wanted.intersection(group), key=cost.__getitem__) for group in groups]
    queues.sort(key=lambda queue: cost[queue[0]] if queue else 0.0)
    return [queue[rank] for rank in range(max(map(len, queues), default=0)) for queue in queues if rank < len(queue)]


def _is_ascii(source: SourceFile, edit: Edit) -> bool:
    """Return whether the lines that an edit changes are ASCII before and after."""
    start = source.text.rfind("\n", 0, edit.start) + 1
    end = source.text.find("\n", edit.end)
    return (source.text[start : end if end >= 0 else None] + edit.text).isascii()
