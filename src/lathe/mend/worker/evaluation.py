"""Trying candidates in children, several at a time.

A fork costs more than a few tests, so candidates that only exchange functions are screened many to a child: the
failing tests run, the functions are put back, and the next is in. What passes one of them is then judged in a child of
its own, in which nothing else has run.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from lathe.mend.worker.children import Child, Messages
from lathe.mend.worker.runs import Protocol, Runner, forget_project
from lathe.mend.worker.swap import Candidate, Programs

if TYPE_CHECKING:
    from lathe.mend.worker.server import Server

CHUNK = 16
Emit = Callable[[dict[str, Any]], None]


class Trial(NamedTuple):
    """A job of the order, and its program."""

    job: dict[str, Any]
    candidate: Candidate


class _Running(NamedTuple):
    child: Child
    trials: list[Trial]
    answers: dict[int, dict[str, Any]]
    is_screening: bool


class Evaluation:
    """One order to try candidates, `jobs` at a time."""

    def __init__(self, server: Server, programs: Programs, orders: Messages, order: dict[str, Any]) -> None:
        self._server = server
        self._programs = programs
        self._orders = orders
        self._todo = deque(order["jobs"])
        self._screened: deque[Trial] = deque()  # passed a test that failed, to be judged
        self._chunk: deque[Trial] = deque()  # to be screened
        self._limits: dict[str, float] = order["limits"]
        self._running: dict[int, _Running] = {}

    def run(self) -> None:
        """Report on every job."""
        while self._todo or self._chunk or self._screened or self._running:
            while len(self._running) < self._server.jobs and self._start_next():
                pass
            if self._running:
                self._poll()

    def _start_next(self) -> bool:
        """Start one more child; return False where nothing is left to start."""
        if self._screened:
            self._judge(self._screened.popleft())
            return True
        while self._todo and len(self._chunk) < CHUNK:
            trial = self._trial(self._todo.popleft())
            if trial is not None and trial.candidate.overlay:
                self._judge(trial)
                return True
            if trial is not None:
                self._chunk.append(trial)
        if self._chunk:
            self._screen([self._chunk.popleft() for _ in range(min(CHUNK, len(self._chunk)))])
            return True
        return False

    def _trial(self, job: dict[str, Any]) -> Trial | None:
        try:
            unit = tuple(job["unit"]) if job["unit"] else None
            candidate = self._programs.candidate(job["file"], [tuple(edit) for edit in job["edits"]], unit)
        except (SyntaxError, ValueError, RecursionError):
            self._result(job, "syntax")
            return None
        if candidate.identity in self._server.seen and not job["again"]:
            self._result(job, "same")
            return None
        self._server.seen.add(candidate.identity)
        return Trial(job, candidate)

    def _result(self, job: dict[str, Any], status: str, fixed: list[int] | None = None) -> None:
        self._server.report({"event": "result", "id": job["id"], "status": status, "fixed": fixed or []})

    # --- children

    def _screen(self, trials: list[Trial]) -> None:
        server, limits = self._server, self._limits

        def work(emit: Emit) -> None:
            runner = Runner(server.root, emit, server.protocol)
            for job, candidate in trials:
                emit({"at": job["id"]})
                restore = [(function, function.__code__) for function, _ in candidate.swaps]
                candidate.install()
                tests = [(number, server.items[number], limits[str(number)]) for number in job["failing"]]
                outcome = runner.screen(tests[: job["enough"]])
                for function, code in restore:
                    function.__code__ = code
                emit({"id": job["id"], "verdict": outcome})
                if outcome == "slow":
                    return  # what was cut off may have left anything behind; the rest goes to a fresh child

        self._fork(trials, work, is_screening=True)

    def _judge(self, trial: Trial) -> None:
        server, limits = self._server, self._limits
        job, candidate = trial
        failing = [(number, limits[str(number)]) for number in job["failing"]]
        passing = [(number, limits[str(number)]) for number in job["passing"]]

        def work(emit: Emit) -> None:
            emit({"at": job["id"]})
            candidate.install()

            def run(items: dict[int, pytest.Item], protocol: Protocol) -> None:
                answer = Runner(server.root, emit, protocol).candidate(
                    [(number, items[number], limit) for number, limit in failing],
                    [(number, items[number], limit) for number, limit in passing],
                    job["enough"],
                )
                emit({"id": job["id"], **answer})

            if candidate.overlay:
                _import_again(server, run)
            else:
                run(dict(enumerate(server.items)), server.protocol)

        self._fork([trial], work, is_screening=False)

    def _fork(self, trials: list[Trial], work: Callable[[Emit], None], *, is_screening: bool) -> None:
        tests = (test for job, _ in trials for test in (*job["failing"], *(() if is_screening else job["passing"])))
        child = self._server.fork(10 + sum(self._limits[str(test)] for test in tests), work)
        child.deadline = time.monotonic() + 30
        self._running[child.descriptor] = _Running(child, trials, {}, is_screening)

    def _poll(self) -> None:
        soonest = min(running.child.deadline for running in self._running.values())
        waiting = [*self._running, self._orders.descriptor]
        ready, _, _ = select.select(waiting, [], [], max(0.0, soonest - time.monotonic()))
        if self._orders.descriptor in ready:  # the engine does not speak while it waits: it is gone
            for running in self._running.values():
                running.child.close()
            for queue in (self._todo, self._chunk, self._screened, self._running):
                queue.clear()
            return
        now = time.monotonic()
        for descriptor, running in list(self._running.items()):
            messages: list[dict[str, Any]] | None = []
            if descriptor in ready:
                messages = running.child.read()
            elif now > running.child.deadline:
                running.child.close()
                messages = None
            for message in messages or ():
                if "verdict" in message:
                    running.answers[message["id"]] = message
            if running.child.finished or messages is None:
                del self._running[descriptor]
                self._ended(running)

    def _ended(self, running: _Running) -> None:
        """Report what a child found; what it did not come to goes back to the front."""
        left: list[Trial] = []
        for trial in running.trials:
            answer = running.answers.get(trial.job["id"])
            if answer is None and running.child.at == trial.job["id"]:
                self._result(trial.job, "died")
            elif answer is None:
                left.append(trial)
            elif running.is_screening and answer["verdict"] == "fixed":
                self._screened.append(trial)
            else:
                self._result(trial.job, answer["verdict"], answer.get("fixed"))
        if running.child.at < 0 and left:  # it did not even begin
            self._result(left.pop(0).job, "died")
        self._chunk.extendleft(reversed(left))


class _Again:
    """The plugin of a session inside a child that imported the project anew."""

    def __init__(self, names: list[str], run: Callable[[dict[int, pytest.Item], Protocol], None]) -> None:
        self.protocol = Protocol()
        self._names = names
        self._run = run

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        found = {item.nodeid: item for item in session.items}
        if all(name in found for name in self._names):
            self._run({number: found[name] for number, name in enumerate(self._names)}, self.protocol)
        return True


def _import_again(server: Server, run: Callable[[dict[int, pytest.Item], Protocol], None]) -> None:
    forget_project(server.root)
    again = _Again([item.nodeid for item in server.items], run)
    pytest.main(server.arguments, plugins=[again, again.protocol])
