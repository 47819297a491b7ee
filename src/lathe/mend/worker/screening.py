"""Many candidates one after the other in one child: in with the code, run tests, out again, put the state back."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lathe.mend.worker.clock import Clock, TimeUp
from lathe.mend.worker.evaluation import allowed
from lathe.mend.worker.guard import guard
from lathe.mend.worker.runs import Emit
from lathe.mend.worker.shortcuts import is_skip
from lathe.mend.worker.swap import Body, Part

if TYPE_CHECKING:
    from types import FunctionType

    from lathe.mend.worker.children import Messages
    from lathe.mend.worker.server import Server

Signature = tuple[str, str, int]
_BUILD_S = 1.0
_SOON_S = 0.02
_PATIENCE_S, _PATIENCE = 0.2, 4  # for tests that may be fixed where the first is not: seconds, its limit
_ALIKE = 3
_PROTOCOL_S = 0.05  # what fixtures may take the first time in a child
_MAX_JOBS = 4000  # what leaks may leak away
_HUNG: Signature = ("TimeUp", "", 0)
Failure = tuple[str, tuple[str, int] | None]  # the error's name, and the innermost line of the project


class Knowledge:
    """What was learnt about tests and programs; a child begins with its parent's and says what it adds."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.unfit: set[int] = set()  # do not do on the unchanged project what they did before
        self.long: set[int] = set()  # need the whole protocol
        self.alone: set[int] = set()  # fail by themselves as they do among the others
        self.signatures: dict[int, Signature] = {}  # how failing tests fail
        self.kills: Counter[int] = Counter()  # passing tests by the candidates that broke them

    def learn(self, message: dict[str, Any]) -> None:
        """Take over what a child found out."""
        if "identity" in message:
            self.seen.add(message["identity"])
        if "killer" in message:
            self.kills[message["killer"]] += 1
        if "signature" in message:
            name, text, line = message["signature"]
            self.signatures[message["checked"]] = (name, text, line)
        if "alone" in message:
            self.alone.add(message["checked"])
        if "fit" in message:
            (self.long if message["fit"] else self.unfit).add(message["checked"])


class Screening:
    """The child's work: jobs as they come, each answered by one message with its verdict."""

    def __init__(self, server: Server, emit: Emit, doing: mmap.mmap) -> None:
        """`doing` is memory shared with the parent, in which the number of the job at hand stands."""
        self._server = server
        self._known = server.knowledge
        self._job: dict[str, Any] = {}
        self._emit = emit
        self._doing = doing
        self._waiting: list[dict[str, Any]] = []
        self._due = 0.0
        self._clock = Clock(server.root)
        self._error: BaseException | None = None
        self._is_spoilt = False

    def run(self, orders: Messages) -> None:
        """Answer jobs until no more can come or this process is of no further use."""
        count = 0
        guard(self._server.root, self._server.touched)
        while count < _MAX_JOBS and (order := orders.next()) is not None:
            self._server.learn_plans(order)
            for job in order["jobs"]:
                self._job = job
                for test in self._server.plans[job["plan"]][0]:
                    self._check_failing(test)
                self._doing[:8] = job["id"].to_bytes(8, "little", signed=True)
                answer = self._try(job)
                self._known.learn(answer)
                self._say({"id": job["id"], **answer})
                count += 1
                if self._is_spoilt or threading.active_count() > 1:
                    self._say_all()
                    return  # what was cut off, or goes on, may have left anything behind
                self._server.state.restore()
            self._say_all()

    def _say(self, message: dict[str, Any]) -> None:
        """Send a message soon: each one alone would wake the parent, which costs more than a test."""
        self._waiting.append(message)
        if time.monotonic() > self._due:
            self._say_all()

    def _say_all(self) -> None:
        self._due = time.monotonic() + _SOON_S
        messages, self._waiting = self._waiting, []
        self._emit(*messages)

    def _try(self, job: dict[str, Any]) -> dict[str, Any]:
        parts = [Part(part["file"], part["unit"] and tuple(part["unit"]), part["edits"]) for part in job["parts"]]
        try:
            self._clock.start(_BUILD_S, _BUILD_S)
            candidate = self._server.programs.candidate(parts)
            self._clock.stop()
        except (SyntaxError, ValueError, RecursionError):
            self._clock.stop()
            return {"verdict": "syntax"}
        except BaseException:
            self._clock.stop()
            return {"verdict": "rejected"}
        if candidate.identity in self._known.seen and not job["again"]:
            return {"verdict": "same"}
        if candidate.overlay:
            return {"verdict": "import", "identity": candidate.identity}
        before = candidate.install()
        try:
            answer = self._judge(job, before)
        finally:
            _put_back(before)
        return {**answer, "identity": candidate.identity}

    def _judge(self, job: dict[str, Any], before: Sequence[tuple[FunctionType, Body]]) -> dict[str, Any]:
        failing, passing = self._server.plans[job["plan"]]
        failing = [test for test in failing if test not in self._known.unfit]
        if any(test in self._server.in_order and test not in self._known.alone for test in failing):
            return self._judge_in_order(failing, passing)
        fixed: list[int] = []
        late = signal = 0
        patience = max(_PATIENCE_S, _PATIENCE * self._limit(failing[0])) if failing else 0.0
        for index, test in enumerate(failing):
            patience -= self._limit(test)
            if not fixed and index and (index >= job["enough"] or patience < 0):
                break
            if not fixed and not signal and index >= _ALIKE:
                break  # these fail as they did: the edit is somewhere else
            if not fixed and index and test in self._server.hanging:
                continue  # it takes all its time to say what the others said already
            outcome = self._one(test)
            if outcome == "passed":
                fixed.append(test)
            elif outcome == "hung" and not fixed:
                return {"verdict": "slow", "signal": signal}
            elif outcome == "hung":
                late += 1
            elif outcome == "failed":
                signal = max(signal, self._progress(test))
        if not fixed:
            return {"verdict": "rejected", "signal": signal}
        killer = self._first_broken(passing, before)
        if killer is not None:
            return {"verdict": "broken", "fixed": fixed, "signal": signal, "killer": killer}
        left = len(failing) - len(fixed)
        verdict = "partial" if left > late else "late" if left else "complete"
        return {"verdict": verdict, "fixed": fixed, "signal": signal}

    def _judge_in_order(self, failing: Sequence[int], passing: Sequence[int]) -> dict[str, Any]:
        fixed: list[int] = []
        signal = 0
        wanted = set(failing)
        for test in sorted([*failing, *passing]):
            if test not in wanted:
                if self._breaks(test):
                    return {"verdict": "broken" if fixed else "rejected", "fixed": fixed, "signal": signal}
                continue
            outcome = self._one(test)
            if outcome == "passed":
                fixed.append(test)
            elif outcome == "failed":
                signal = max(signal, self._progress(test))
            elif not fixed:
                return {"verdict": "slow", "signal": signal}
        verdict = "complete" if len(fixed) == len(failing) else "partial" if fixed else "rejected"
        return {"verdict": verdict, "fixed": fixed, "signal": signal}

    def _first_broken(self, passing: Sequence[int], before: Sequence[tuple[FunctionType, Body]]) -> int | None:
        """Return a test that the candidate breaks; one that fails without the candidate, too, does not count."""
        kills = self._known.kills
        for test in sorted(passing, key=lambda test: -kills[test]) if kills else passing:
            if test in self._known.unfit or not self._breaks(test):
                continue
            if kills[test]:
                return test
            candidate = [(function, Body.of(function)) for function, _ in before]
            _put_back(before)
            self._server.state.restore()
            fit = self._check_passing(test)
            _put_back(candidate)
            if fit and self._breaks(test):
                return test
        return None

    def _breaks(self, test: int) -> bool:
        """Return whether a test that should pass does not; one that only ran out of time gets more of it."""
        outcome = self._one(test)
        return outcome == "failed" or (outcome == "hung" and self._one(test, patience=_PATIENCE_S) != "passed")

    # --- what the tests do on the unchanged project, run like this

    def _check_failing(self, test: int) -> None:
        if test in self._known.signatures or test in self._known.unfit:
            return
        if test in self._server.hanging:
            self._learn(test, signature=_HUNG)
            return
        self._emit({"checking": test})
        if test in self._server.in_order:
            if self._one(test) == "failed" and self._failure() == self._server.failures.get(test):
                self._learn(test, signature=self._signature(), alone=True)
            else:
                self._learn(test, signature=_HUNG)
            self._server.state.restore()
            return
        if self._one(test) == "failed":
            signature = self._signature()
            if test in self._known.long or self._fails_like(test, signature):
                self._learn(test, signature=signature)
                return
        self._learn(test, fit=test not in self._known.long)
        self._server.state.restore()
        self._check_failing(test)

    def _fails_like(self, test: int, signature: Signature) -> bool:
        """Return whether the test fails in the same place when it runs as pytest runs it; words may hold addresses."""
        self._server.state.restore()
        if self._one(test, whole=True) != "failed":
            return False
        name, _, line = self._signature()
        return (name, line) == (signature[0], signature[2])

    def _check_passing(self, test: int) -> bool:
        self._emit({"checking": test})
        while self._one(test) in ("failed", "hung"):
            self._server.state.restore()
            self._learn(test, fit=test not in self._known.long)
            if test in self._known.unfit:
                return False
        self._emit({"checking": -1})
        return True

    def _learn(self, test: int, **fact: Any) -> None:
        message = {"checked": test, **fact}
        self._known.learn(message)
        self._emit(message)

    # --- one test

    def _one(self, test: int, *, whole: bool = False, patience: float = 0.0) -> str:
        """Return passed, failed, skipped or hung; the error of one that failed is in `_error`.

        With `whole` it runs as pytest runs it; `patience` is the least time, in seconds of CPU, that it has.
        """
        short = None if whole or test in self._known.long else self._server.shortcuts[test]
        limit = max(self._limit(test), patience) + (_PROTOCOL_S if short is None else 0.0)
        self._error = None
        outcome = "passed"
        try:
            self._clock.start(limit, 3 * limit + 1)
            if short is not None:
                short()
            else:
                outcome = self._server.protocol.run(self._server.items[test], None)
                self._error = self._server.protocol.error()
            hung = self._clock.stop()
        except BaseException as error:  # SystemExit and the like are failures of the test
            hung = self._clock.stop() or isinstance(error, TimeUp)
            self._error = error
            outcome = "skipped" if is_skip(error) else "failed"
        if hung and short is None:
            self._is_spoilt = True
        return "hung" if hung else outcome

    def _limit(self, test: int) -> float:
        return allowed(self._server.limits[test], self._job)

    def _signature(self) -> Signature:
        """Return how the last test failed: error, its first line, and the line of the test that it came to."""
        error = self._error
        if error is None:
            return ("", "", 0)
        tests = self._server.test_files
        line, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename in tests:
                line = trace.tb_lineno
            trace = trace.tb_next
        try:
            text = str(error)[:120]
        except Exception:
            text = ""
        return (type(error).__name__, text, line)

    def _failure(self) -> Failure:
        """Return how the last test failed, in the words of `failure_of`."""
        error, root = self._error, self._server.root + os.sep
        place, trace = None, error.__traceback__ if error is not None else None
        while trace is not None:
            path = trace.tb_frame.f_code.co_filename
            if path.startswith(root):
                place = path[len(root) :], trace.tb_lineno
            trace = trace.tb_next
        return type(error).__name__, place

    def _progress(self, test: int) -> int:
        """Return 2 if a test that fails still came further than without the candidate, 1 if it fails otherwise."""
        old, new = self._known.signatures.get(test, _HUNG), self._signature()
        if old == _HUNG or new[2] > old[2]:
            return 2
        return int(new != old)


def failure_of(message: dict[str, Any]) -> Failure:
    """Return how a test failed from what is reported of it."""
    file, line = message["frames"][-1] if message["frames"] else ("", 0)
    return message["error"].partition(":")[0], (file, line) if file else None


def _put_back(bodies: Sequence[tuple[FunctionType, Body]]) -> None:
    for function, body in bodies:
        body.put_into(function)
