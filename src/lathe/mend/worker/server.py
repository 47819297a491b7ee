"""The fork server: imports the project once, collects its tests, then runs them in children on demand.

Messages are JSON, one a line: orders on standard input, reports on what was standard output.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from lathe.mend.worker.runs import (
    Protocol,
    Runner,
    enter_child,
    forget_project,
    private_temporary,
    sender,
    temporary_of,
)
from lathe.mend.worker.swap import Candidate, Programs

QUIET = ["-q", "-s", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:randomly"]
PLUGIN_SETTINGS = {"xdist": ["-n0"], "pytest_cov": ["--no-cov"], "pytest_timeout": ["--timeout=0"]}


def arguments(given: list[str]) -> list[str]:
    """Return what pytest is called with: no reporting, and no plugin that measures or forks by itself."""
    extra = [flag for module, flags in PLUGIN_SETTINGS.items() if find_spec(module) is not None for flag in flags]
    return [*QUIET, *extra, *given]


def confirm(config: dict[str, Any]) -> int:
    """Run the tests as `python -m pytest` does and write JUnit XML to `config["junit"]`; return pytest's status."""
    return int(pytest.main([*arguments(config["args"]), f"--junitxml={config['junit']}"]))


def serve(config: dict[str, Any]) -> int:
    """Collect, answer orders until standard input ends, and return pytest's status."""
    orders, reports = os.dup(0), os.dup(1)
    log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    server = Server(config, orders, reports)
    status = int(pytest.main(arguments(config["args"]), plugins=[server, server.protocol]))
    if not server.served:
        server.report({"event": "not_collected", "status": status})
    return status


class Server:
    """A pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, config: dict[str, Any], orders: int, reports: int) -> None:
        self.root: str = config["scratch"]
        self.args: list[str] = config["args"]
        self.jobs: int = config["jobs"]
        self.memory: int = config["memory_mb"] << 20
        self.protocol = Protocol()
        self.served = False
        self.report = sender(reports)
        self.items: list[pytest.Item] = []
        self.seen: set[object] = set()
        self._orders = orders
        self._errors: list[dict[str, Any]] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not any(error["nodeid"] == report.nodeid for error in self._errors):
            self._errors.append({"nodeid": report.nodeid, "text": str(report.longrepr)[-2000:]})

    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any]) -> None:
        if isinstance(node, pytest.Item) or call.excinfo is None:
            return
        error: BaseException | None = call.excinfo.value
        entry: dict[str, Any] = {"nodeid": node.nodeid, "text": str(error)[-2000:]}
        while error is not None:
            entry["cause"] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
            if isinstance(error, SyntaxError):
                entry["syntax"] = [error.filename or "", error.lineno or 0, error.msg]
            error = error.__cause__ or error.__context__
        self._errors = [*(one for one in self._errors if one["nodeid"] != node.nodeid), entry]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.served = True
        self.items = list(session.items)
        files = sorted({str(item.path) for item in self.items})
        tests = [item.nodeid for item in self.items]
        version = ".".join(map(str, sys.version_info[:3]))
        self.report({"event": "collected", "tests": tests, "files": files, "errors": self._errors, "python": version})
        programs = Programs(self.root)
        gc.collect()
        gc.freeze()
        orders = _Lines(self._orders)
        while (order := orders.next()) is not None:
            if order["op"] == "baseline":
                self._baseline(order)
            else:
                Evaluation(self, programs, orders, order).run()
            self.report({"event": "done"})
        return True

    def fork(self, cpu_s: float, work: Callable[[Callable[[dict[str, Any]], None]], None]) -> Child:
        """Run `work(emit)` in a child under limits."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(read)
                os.close(self._orders)
                enter_child(self.memory, cpu_s)
                private_temporary(self.items[0].config, temporary_of(os.getpid()))
                work(sender(write))
                sender(write)({"end": True})
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        return Child(pid, read)

    def _baseline(self, order: dict[str, Any]) -> None:
        """Run every test in order; after one that ends or outlasts its child, go on behind it in a new one."""
        limit: float = order["limit"]
        todo = list(enumerate(self.items))
        while todo:

            def work(emit: Callable[[dict[str, Any]], None], todo: list[tuple[int, pytest.Item]] = todo) -> None:
                Runner(self.root, emit, self.protocol).baseline(todo, limit)

            child = self.fork(limit * len(todo) + 60, work)
            reached = -1
            while (messages := child.wait()) is not None:
                for message in messages:
                    if "outcome" in message:
                        reached = message["test"]
                        self.report({"event": "test", **message})
            if not child.finished:
                reached = child.test if child.test > reached else todo[0][0] if reached < 0 else reached
                if child.test == reached:
                    outcome = "hung" if child.killed else "died"
                    self.report({"event": "test", "test": reached, "outcome": outcome, "cpu": limit, "lines": {}})
            todo = [entry for entry in todo if entry[0] > reached]


class Child:
    """A forked child as its parent sees it: what it reports, and until when the test that runs may take."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor
        self.test = -1
        self.finished = False
        self.killed = False
        self.deadline = time.monotonic() + 60
        self._rest = b""
        self._open = True

    def wait(self) -> list[dict[str, Any]] | None:
        """Return the next messages; None when there will be no more."""
        if not self._open:
            return None
        ready, _, _ = select.select([self.descriptor], [], [], max(0.0, self.deadline - time.monotonic()))
        if not ready:
            self.killed = True
            self.close()
            return None
        return self.read()

    def read(self) -> list[dict[str, Any]] | None:
        """Read once from a pipe that is ready."""
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            self.close()
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            if "start" in message:
                self.test = message["start"]
                self.deadline = time.monotonic() + message["wall"] + 2
            elif "end" in message:
                self.finished = True
                self.close()
        return messages

    def close(self) -> None:
        """End the child and everything it started."""
        if self._open:
            self._open = False
            os.close(self.descriptor)
            for end in (os.killpg, os.kill):
                try:
                    end(self.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            os.waitpid(self.pid, 0)
            shutil.rmtree(temporary_of(self.pid), ignore_errors=True)


class Evaluation:
    """One order to try candidates, `jobs` at a time."""

    def __init__(self, server: Server, programs: Programs, orders: _Lines, order: dict[str, Any]) -> None:
        self._server = server
        self._programs = programs
        self._orders = orders
        self._todo = deque(order["jobs"])
        self._limits: dict[str, float] = order["limits"]
        self._running: dict[int, tuple[Child, dict[str, Any]]] = {}

    def run(self) -> None:
        """Report on every job; an order to stop leaves those that have not begun."""
        while self._todo or self._running:
            while self._todo and len(self._running) < self._server.jobs:
                self._begin(self._todo.popleft())
            if not self._running:
                continue
            self._poll()

    def _poll(self) -> None:
        soonest = min(child.deadline for child, _ in self._running.values())
        waiting = [*self._running, self._orders.descriptor]
        ready, _, _ = select.select(waiting, [], [], max(0.0, soonest - time.monotonic()))
        if self._orders.descriptor in ready:
            order = self._orders.next()
            self._todo.clear()
            if order is None:
                for child, _ in self._running.values():
                    child.close()
                self._running.clear()
                return
        now = time.monotonic()
        for descriptor, (child, job) in list(self._running.items()):
            messages: list[dict[str, Any]] | None = []
            if descriptor in ready:
                messages = child.read()
            elif now > child.deadline:
                child.close()
                messages = None
            verdict = next((message for message in messages or () if "verdict" in message), None)
            if verdict is not None:
                job["answer"] = verdict
            if child.finished or messages is None:
                del self._running[descriptor]
                self._end(child, job)

    def _end(self, child: Child, job: dict[str, Any]) -> None:
        answer = job.get("answer")
        if answer is None:
            self._result(job, "died", test=child.test)
        else:
            self._result(job, answer["verdict"], fixed=answer["fixed"])

    def _result(self, job: dict[str, Any], status: str, **rest: Any) -> None:
        self._server.report({"event": "result", "id": job["id"], "status": status, **rest})

    def _begin(self, job: dict[str, Any]) -> None:
        try:
            unit = tuple(job["unit"]) if job["unit"] else None
            candidate = self._programs.candidate(job["file"], [tuple(edit) for edit in job["edits"]], unit)
        except (SyntaxError, ValueError, RecursionError):
            self._result(job, "syntax")
            return
        if candidate.identity in self._server.seen and not job["again"]:
            self._result(job, "same")
            return
        self._server.seen.add(candidate.identity)
        self._start(job, candidate)

    def _start(self, job: dict[str, Any], candidate: Candidate) -> None:
        server, limits = self._server, self._limits
        failing = [(number, limits[str(number)]) for number in job["failing"]]
        passing = [(number, limits[str(number)]) for number in job["passing"]]
        total = sum(limit for _, limit in [*failing, *passing])

        def work(emit: Callable[[dict[str, Any]], None]) -> None:
            candidate.install()

            def run(items: dict[int, pytest.Item], protocol: Protocol) -> None:
                Runner(server.root, emit, protocol).candidate(
                    [(number, items[number], limit) for number, limit in failing],
                    [(number, items[number], limit) for number, limit in passing],
                    job["enough"],
                )

            if candidate.overlay:
                _import_again(server, run)
            else:
                run(dict(enumerate(server.items)), server.protocol)

        child = server.fork(total + 10, work)
        child.deadline = time.monotonic() + 30
        self._running[child.descriptor] = (child, job)


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
    pytest.main(arguments(server.args), plugins=[again, again.protocol])


class _Lines:
    """JSON messages from a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    def next(self) -> Any:
        """Return the next message; None at the end."""
        while b"\n" not in self._rest:
            data = os.read(self.descriptor, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)
