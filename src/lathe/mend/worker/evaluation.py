"""Trying candidates in children, several at a time.

A fork costs more than many tests, so candidates that only exchange functions are screened many to a child. What passes
is then judged in a child of its own, in which nothing else has run and every test runs as pytest runs it; so is what
has to be imported anew.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import pytest

from lathe.mend.worker.children import Child, Messages
from lathe.mend.worker.clock import LAST
from lathe.mend.worker.guard import guard
from lathe.mend.worker.runs import Emit, Protocol, Runner, forget_project, sender
from lathe.mend.worker.swap import Part

if TYPE_CHECKING:
    from lathe.mend.worker.server import Server

_CHUNK = 32
_SILENT_S = 20.0
_PATIENCE, _PATIENCE_S = 4, 2.0  # a test that passed once, in a hurry, is not to fail for a busy machine
Job = dict[str, Any]


class Worker:
    """A child and the jobs that it has still to answer; `orders` leads to one that screens and goes on to live."""

    def __init__(
        self,
        child: Child,
        jobs: list[Job],
        orders: int = -1,
        doing: mmap.mmap | None = None,
        known: Collection[int] = (),
    ) -> None:
        self.child = child
        self._doing = doing
        self._known = set(known)  # plans
        self.jobs = deque(jobs)
        self.checking = -1
        self._orders = orders

    @property
    def is_screening(self) -> bool:
        """Whether more jobs can be sent."""
        return self._orders >= 0

    def send(self, jobs: list[Job], plans: dict[int, tuple[list[int], list[int]]]) -> None:
        """Give it jobs; it must have none."""
        self.jobs = deque(jobs)
        self.child.deadline = time.monotonic() + _SILENT_S
        new = {job["plan"]: plans[job["plan"]] for job in jobs if job["plan"] not in self._known}
        self._known.update(new)
        with contextlib.suppress(BrokenPipeError):  # it died; that is seen at its other end
            sender(self._orders)({"jobs": jobs, "plans": new})

    def take(self, number: int) -> Job:
        """Remove a job from those to be answered and return it."""
        job = next(job for job in self.jobs if job["id"] == number)
        self.jobs.remove(job)
        return job

    def last(self) -> Job:
        """Return and remove the job that it was at when it ended."""
        number = int.from_bytes(self._doing[:8], "little", signed=True) if self._doing is not None else -1
        known = any(job["id"] == number for job in self.jobs)
        return self.take(number if known else self.jobs[0]["id"])

    def forget(self) -> None:
        """Let go of it in another child, so that it sees when the server is gone."""
        os.close(self._orders)

    def close(self) -> None:
        """End it."""
        self.child.close()
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1


class Evaluation:
    """Orders to try candidates, `jobs` at a time, until none is left; more may come meanwhile."""

    def __init__(self, server: Server, orders: Messages, order: dict[str, Any]) -> None:
        self._server = server
        self._orders = orders
        self._todo: deque[Job] = deque()
        self._passed: deque[Job] = deque()
        self._running: dict[int, Worker] = {}
        self._last: dict[str, Any] | None = None
        self._add(order)

    def run(self) -> dict[str, Any] | None:
        """Report on every job, and return the order that came when no more were wanted, if one did."""
        while self._todo or self._passed or self._running:
            self._start()
            self._poll()
        return self._last

    def _add(self, order: dict[str, Any]) -> None:
        self._server.learn_plans(order)
        for job in order["jobs"]:
            (self._passed if job["judge"] else self._todo).append(job)

    def _start(self) -> None:
        """Give work to more children: one more than the jobs, so that what passes is judged at once."""
        jobs = self._server.jobs
        while self._passed and len(self._running) <= jobs:
            self._judge(self._passed.popleft())
        while self._todo and sum(worker.is_screening for worker in self._running.values()) < jobs:
            share = -(-len(self._todo) // jobs)
            self._screen([self._todo.popleft() for _ in range(min(_CHUNK, share))])

    def _result(self, job: Job, answer: dict[str, Any]) -> None:
        facts = {"status": answer["verdict"], "fixed": answer.get("fixed", []), "signal": answer.get("signal", 0)}
        self._server.report({"event": "result", "id": job["id"], **facts})

    # --- children

    def _screen(self, jobs: list[Job]) -> None:
        worker = self._server.idle.pop() if self._server.idle else self._server.screening()
        worker.send(jobs, self._server.plans)
        self._running[worker.child.descriptor] = worker

    def _judge(self, job: Job) -> None:
        server = self._server
        plan = server.plans[job["plan"]]
        failing, passing = ([test for test in tests if test not in server.knowledge.unfit] for tests in plan)
        limits = {test: _patient(allowed(server.limits[test], job)) for test in (*failing, *passing)}

        def work(emit: Emit) -> None:
            parts = [Part(part["file"], part["unit"] and tuple(part["unit"]), part["edits"]) for part in job["parts"]]
            candidate = server.programs.candidate(parts)
            candidate.install()
            guard(server.root, server.touched)

            def run(items: dict[int, pytest.Item], protocol: Protocol) -> None:
                answer = Runner(server.root, emit, protocol).candidate(
                    [(number, items[number], limits[number]) for number in failing],
                    [(number, items[number], limits[number]) for number in passing],
                    job["enough"],
                    in_order=not server.in_order.isdisjoint(failing),
                )
                emit({"id": job["id"], **answer})

            if candidate.overlay:
                _import_again(server, run)
            else:
                run(dict(enumerate(server.items)), server.protocol)

        child = server.fork(10 + 2 * sum(limits.values()), work)
        child.deadline = time.monotonic() + _SILENT_S
        self._running[child.descriptor] = Worker(child, [job])

    def _poll(self) -> None:
        soonest = min(worker.child.deadline for worker in self._running.values())
        waiting = [*self._running, self._orders.descriptor]
        patience = 0.0 if self._orders.is_ready else max(0.0, soonest - time.monotonic())
        ready, _, _ = select.select(waiting, [], [], patience)
        if (self._orders.is_ready or self._orders.descriptor in ready) and not self._hear_orders():
            return
        now = time.monotonic()
        for descriptor, worker in list(self._running.items()):
            messages: list[dict[str, Any]] | None = []
            if descriptor in ready:
                messages = worker.child.read()
            elif now > worker.child.deadline:
                worker.child.close()
                messages = None
            for message in messages or ():
                self._heard(worker, message)
            if worker.child.finished or messages is None:
                del self._running[descriptor]
                self._ended(worker)
            elif worker.is_screening and not worker.jobs:
                del self._running[descriptor]
                self._server.idle.append(worker)

    def _hear_orders(self) -> bool:
        """Take more jobs; any other order means that none of them is wanted. Return whether to go on."""
        while True:
            order = self._orders.next()
            if order is None or order["op"] != "try":
                for worker in self._running.values():
                    worker.close()
                for queue in (self._todo, self._passed, self._running):
                    queue.clear()
                self._last = order
                return False
            self._add(order)
            if not self._orders.is_ready:
                return True

    def _heard(self, worker: Worker, message: dict[str, Any]) -> None:
        known = self._server.knowledge
        if worker.is_screening:
            worker.child.deadline = time.monotonic() + _SILENT_S
            known.learn(message)
            if "checking" in message:
                worker.checking = message["checking"]
            if "checked" in message:
                worker.checking = -1
                self._say_if_unfit(message["checked"])
        if "verdict" in message:
            job = worker.take(message["id"])
            if worker.is_screening and self._is_to_be_judged(job, message["verdict"]):
                self._passed.append(job)
            else:
                self._result(job, message)

    def _is_to_be_judged(self, job: Job, verdict: str) -> bool:
        """Return whether to run a candidate in a process of its own: it passes, or may do so in the suite's order."""
        failing = self._server.plans[job["plan"]][0]
        ordered = verdict in ("partial", "late") and not self._server.in_order.isdisjoint(failing)
        return ordered or verdict in ("complete", "import")

    def _say_if_unfit(self, test: int) -> None:
        if test in self._server.knowledge.unfit:
            self._server.report({"event": "unfit", "test": test})

    def _ended(self, worker: Worker) -> None:
        """Put what a child did not come to back to the front; one that ended by itself did so at one of these."""
        was_screening = worker.is_screening
        worker.close()
        if not worker.child.finished and worker.checking >= 0:
            self._server.knowledge.unfit.add(worker.checking)
            self._say_if_unfit(worker.checking)
        elif worker.jobs and (not was_screening or not worker.child.finished):
            is_slow = worker.child.ended_by in (LAST, signal.SIGKILL)
            verdict = "rejected" if worker.child.finished else "slow" if is_slow else "died"
            self._result(worker.last(), {"verdict": verdict})
        if was_screening:
            self._todo.extendleft(reversed(worker.jobs))


def allowed(limit: float, job: Job) -> float:
    """Return how many seconds of CPU a test may use for a job."""
    return max(limit * float(job["times"]), float(job["least"]))


def _patient(limit: float) -> float:
    return max(limit, min(_PATIENCE * limit, _PATIENCE_S))


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
