"""Trying candidates in order: one edit, those that were slow once more, then two edits at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from lathe.mend.candidates import Candidate, Candidates
from lathe.mend.pairs import pairs
from lathe.mend.project import MAX_WAITING, Job, Plan, Project, TestRun, Verdict

_FIRST_WAITING, _LEAST_WAITING, _AHEAD_S = 32, 12, 0.15  # how many candidates wait in the worker: so many seconds' work
_MARGIN = 0.5  # a repair that is this much less likely than the first is not waited for
_WIDER_MARGIN = 1.0  # ... unless it may fix tests that the first does not
_BLUNT_MARGIN = 1.2  # ... or the first only takes something away
_LEAST_MORE_S, _MORE, _MOST_MORE_S, _BLUNT_TIMES = 0.08, 0.3, 3.0, 4.0
# how long a repair of more tests is looked for: seconds, times the time so far, and at least this share of all
_PROMISING_S, _PROMISING, _PROMISING_SHARE = 0.5, 3.0, 0.2
_LATE_S, _LATE = 5.0, 0.3  # what a test may take that only ran out of time; their share of the time
_SECOND_CHANCE, _AGAIN = 10.0, 0.2  # times the first limit; the share of the time for those that come to it early
_REMEMBERED = 3000
_LOOK_S, _LOOK, _LOOK_SOON = 0.5, 30.0, 5.0  # between two looks for damage: seconds, and times what a look takes
_OVERTIME_S, _TURN_S = 2.0, 0.05  # for candidates on their way that are likelier than what was found
_WORD_S = 0.1  # between two words on how it goes
# what share of the time that is left each stage may take
_SINGLES, _SLOW, _PAIRS = 0.6, 0.4, 0.6
_MAX_JUDGED = 40
_LEAST_LIMIT_S = 0.008  # what a page that is copied after the fork, or a collection of garbage, may take


class Hunt:
    """The trials of one round, in one worker, until `deadline` (of `time.monotonic`)."""

    def __init__(
        self, project: Project, runs: Sequence[TestRun], groups: Sequence[Sequence[int]], *, deadline: float
    ) -> None:
        self.tried = 0
        self.seconds = 0.0
        self.first_at = 0.0  # when the first repair was there, of `time.monotonic`
        self._project = project
        self._limits = _limits(runs)
        self._hanging = [index for index, run in enumerate(runs) if run.outcome == "hung"]
        self._failing = {index for index, run in enumerate(runs) if run.is_failure}
        self._groups = [set(group) for group in groups]
        self._enough = max(6, len(groups))
        self._deadline = deadline
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Candidate, str]] = {}  # in the worker, by number; with what is special
        self._plans: list[Plan] = []
        self._plan_numbers: dict[int, int] = {}
        self._complete: list[Candidate] = []
        self._partial: list[Candidate] = []
        self._active: list[Candidate] = []  # change what failing tests do
        self._slow: list[Candidate] = []
        self._spent = {"late": 0.0, "slow": 0.0}  # seconds, on those that are given more time
        self._sent_at = {"late": 0.0, "slow": 0.0}
        self._late: list[Candidate] = []
        self._likeliest: list[Candidate] = []
        self._since_look: list[Candidate] = []  # failed since the copy was looked at and found as it should be
        self._tried_again: dict[int, Candidate] = {}  # by identity
        self._looked_at = self._look_s = 0.0
        self._promising: Candidate | None = None
        self._started = self._last_word = 0.0
        self._leave_others: Callable[[set[int], set[int]], bool] = lambda fixed, failing: False

    def run(self, candidates: Candidates, progress: Callable[[str], None]) -> list[Candidate]:
        """Return the edits that repair tests and break none, the best first.

        An edit that repairs every failing test that reaches it ends the search soon; so does, a little later, one that
        repairs all tests that failed alike, where the others run code of their own. What else repairs some tests is
        kept for the end: when a test passes and one like it fails still, it was more often bent than mended.
        """
        self._started = time.monotonic()
        self._leave_others = candidates.leave_others
        self._project.begin(self._limits, self._hanging)
        self._try(self._remember(candidates), self._share(_SINGLES), progress)
        if not self._found() and self._slow:
            slow, self._slow = self._slow, []
            self._try(slow, self._share(_SLOW), progress, times=_SECOND_CHANCE)
        if not self._found():
            both = pairs(self._partial, self._active, self._likeliest, self._failing)
            self._try(both, self._share(_PAIRS if self._partial else 1.0), progress)
        found = self._complete
        if self._promising or not found:
            found = [*found, *self._proven()]
        self.seconds = time.monotonic() - self._started
        return sorted(found, key=lambda one: (-len(one.fixed), one.score, one.length))

    def _found(self) -> bool:
        return bool(self._complete or self._promising)

    def _remember(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        for one in candidates:
            if len(self._likeliest) < _REMEMBERED:
                self._likeliest.append(one)
            yield one

    def _share(self, share: float) -> float:
        now = time.monotonic()
        return now + share * (self._deadline - now)

    def _try(
        self, candidates: Iterable[Candidate], until: float, progress: Callable[[str], None], *, times: float = 1.0
    ) -> None:
        """Try candidates until there are no more, it is `until`, or more would not be better than what was found."""
        more = self._still_wanted(iter(candidates))
        began, answered = time.monotonic(), 0
        while (time.monotonic() < until or self._likelier_waits(until)) and self._failing - self._project.unfit:
            speed = answered / max(0.001, time.monotonic() - began)
            most = max(_LEAST_WAITING, min(MAX_WAITING, int(speed * _AHEAD_S))) if answered else _FIRST_WAITING
            if 2 * len(self._waiting) <= most and time.monotonic() < until:
                self._send(itertools.islice(more, most - len(self._waiting)), times=times)
            self._send_patiently(until, self._slow if times == 1 else [])
            if not self._waiting:
                return
            before = bool(self._complete), bool(self._promising)
            verdicts = self._project.answers(min(max(until, time.monotonic() + _TURN_S), self._deadline))
            answered += len(verdicts)
            for verdict in verdicts:
                self._heard(verdict)
            self._look_for_damage(soon=any(verdict.status == "partial" for verdict in verdicts))
            until = self._until(until, before, progress)
        if self._waiting:
            self._project.cancel()
            self._late += [one for one, special in self._waiting.values() if special == "late"]
            self._waiting.clear()

    def _look_for_damage(self, *, soon: bool) -> None:
        """Put back files that candidates damaged, and try those again, once, that may have failed for it."""
        began = time.monotonic()
        if began < self._looked_at + self._look_s * (_LOOK_SOON if soon else _LOOK) + (0.0 if soon else _LOOK_S):
            return
        if self._project.undo_damage():
            again = [one for one in self._since_look if id(one) not in self._tried_again]
            again = again[len(self._waiting) - MAX_WAITING :]
            self._tried_again.update((id(one), one) for one in again)
            self._partial = [one for one in self._partial if one not in again]
            self._promising = None if self._promising in again else self._promising
            self._send(again, again=True)
        self._since_look.clear()
        self._looked_at = time.monotonic()
        self._look_s = self._looked_at - began

    def _likelier_waits(self, until: float) -> bool:
        """Return whether a candidate is on its way that is likelier than the repairs there are; not for long."""
        if not self._complete or time.monotonic() > min(until + _OVERTIME_S, self._deadline):
            return False
        best = min(one.score for one in self._complete)
        return any(one.score < best for one, special in self._waiting.values() if not special)

    def _until(self, until: float, before: tuple[bool, bool], progress: Callable[[str], None]) -> float:
        """Return until when to look for more, now that there may be a repair that there was not `before`."""
        now = time.monotonic()
        if self._complete and not before[0]:
            until = min(until, now + self._extension())
            first = min(self._complete, key=lambda one: one.score)
            progress(f"a repair of {len(first.fixed)} tests at {_place(first)}")
        elif self._promising and not before[1]:
            least = _PROMISING_SHARE * (self._deadline - self._started)
            until = min(until, now + max(least, _PROMISING_S + _PROMISING * (now - self._started)))
            progress(f"a repair of {len(self._promising.fixed)} tests at {_place(self._promising)}")
        elif now > self._last_word + _WORD_S:
            self._last_word = now
            progress(f"{self.tried} candidates tried, {len(self._complete)} repair")
        return until

    def _send_patiently(self, until: float, slow: list[Candidate]) -> None:
        """Give some of those that ran out of time more of it, one by one, while that is a part of the whole.

        Those that are only `late` get all the time there is, those that were slow from the start ten times the limit.
        """
        now = time.monotonic()
        passed = now - self._started
        busy = {special for _, special in self._waiting.values()}
        if self._complete or now > until:
            return
        if self._late and "late" not in busy and self._spent["late"] <= _LATE_S + _LATE * passed:
            self._send([self._late.pop(0)], special="late", enough=1, least=_LATE_S)
        if slow and "slow" not in busy and self._spent["slow"] <= _AGAIN * passed:
            self._send([slow.pop(0)], special="slow", times=_SECOND_CHANCE)

    def _still_wanted(self, candidates: Iterator[Candidate]) -> Iterator[Candidate]:
        for one in candidates:
            if self._complete:
                first = min(self._complete, key=lambda done: (-len(done.fixed), done.score))
                whole = len(first.fixed) >= len(self._failing - self._project.unfit)
                margin = _BLUNT_MARGIN if all(done.is_blunt for done in self._complete) else _MARGIN
                if one.score > first.score + (margin if whole else max(margin, _WIDER_MARGIN)):
                    return
                if not whole and one.score > first.score + margin and len(one.plan.failing) <= len(first.fixed):
                    continue
            yield one

    def _extension(self) -> float:
        now = time.monotonic()
        times = _BLUNT_TIMES if all(one.is_blunt for one in self._complete) else 1.0
        most = max(_LEAST_MORE_S, _MORE * (now - self._started))
        return min((self._deadline - now) / 4, times * _MOST_MORE_S, times * most)

    def _send(
        self,
        candidates: Iterable[Candidate],
        *,
        special: str = "",
        enough: int = 0,
        least: float = 0.0,
        times: float = 1.0,
        again: bool = False,
    ) -> None:
        """Put candidates behind those that wait; those that are "late" or "alone" are judged at once."""
        jobs = []
        plans: dict[int, Plan] = {}
        for one in candidates:
            if id(one.plan) not in self._plan_numbers:
                number = self._plan_numbers[id(one.plan)] = len(self._plans)
                self._plans.append(one.plan)  # also keeps it, and with it its identity
                plans[number] = one.plan
            plan = self._plan_numbers[id(one.plan)]
            number = next(self._numbers)
            judge = special in ("late", "alone")
            jobs.append(
                Job(number, one.parts, plan, enough or self._enough, again or judge or times > 1, judge, times, least)
            )
            self._waiting[number] = one, special
            self._sent_at[special] = time.monotonic()
        if jobs:
            self._project.send(jobs, plans)

    def _heard(self, verdict: Verdict) -> None:
        one, special = self._waiting.pop(verdict.id)
        one.fixed, one.signal = verdict.fixed, verdict.signal
        self.tried += verdict.status not in ("same", "syntax")
        if special in self._spent:
            self._spent[special] += time.monotonic() - self._sent_at[special]
        if verdict.status in ("rejected", "partial", "broken"):
            self._since_look.append(one)
        if verdict.status == "complete":
            self.first_at = self.first_at or time.monotonic()
            self._complete.append(one)
        elif verdict.status == "slow":
            if not special:
                self._slow.append(one)
        elif verdict.status == "late" and special in ("", "slow"):
            self._late.append(one)
        elif verdict.status in ("partial", "late"):
            self._partial.append(one)
            if self._promising is None and self._is_promising(set(one.fixed)):
                self._promising = one
        if len(one.changes) == 1 and (verdict.status in ("partial", "broken") or verdict.signal):
            self._active.append(one)

    def _is_promising(self, fixed: set[int]) -> bool:
        return any(group <= fixed for group in self._groups) and self._leave_others(fixed, self._failing)

    def _proven(self) -> list[Candidate]:
        """Return the edits that repair some tests and hold in a process of their own, as far as there is time."""
        best = sorted([*self._partial, *self._late], key=lambda one: (-len(one.fixed), one.score, one.length))[
            :_MAX_JUDGED
        ]
        for one in best:
            if time.monotonic() > self._deadline:
                break
            before = len(self._partial) + len(self._complete)
            self._send([one], special="alone")
            while self._waiting and time.monotonic() < self._deadline:
                for verdict in self._project.answers(self._deadline):
                    self._heard(verdict)
            if len(self._partial) + len(self._complete) > before:
                return [one]
        return []


def _place(one: Candidate) -> str:
    source, edit = one.changes[0]
    return f"{source.path}:{edit.line}"


def _limits(runs: Sequence[TestRun]) -> dict[int, float]:
    """Return how much CPU each test may use under a candidate, in seconds; it was measured under a tracer.

    Of a test that never ended it is not known what it takes when it does: as long as the others, at first.
    """
    usual = sorted(run.cpu for run in runs if run.outcome in ("passed", "failed"))
    guess = usual[len(usual) // 2] if usual else 0.0
    cpu = [guess if run.outcome == "hung" else run.cpu for run in runs]
    return {index: _LEAST_LIMIT_S + 3 * seconds for index, seconds in enumerate(cpu)}
