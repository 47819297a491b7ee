"""The fork server: imports the project once, collects its tests, then runs them in children on demand.

Messages are JSON, one a line: orders on standard input, reports on what was standard output.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import sys
import time
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import Any

import pytest

from lathe.mend.worker.agreement_child import distinguish
from lathe.mend.worker.children import Child, Messages
from lathe.mend.worker.clock import LAST
from lathe.mend.worker.coverage import Detail
from lathe.mend.worker.evaluation import Evaluation, Worker
from lathe.mend.worker.runs import Emit, Protocol, Runner, enter_child, private_temporary, sender, temporary_of
from lathe.mend.worker.screening import Failure, Knowledge, Screening, failure_of
from lathe.mend.worker.shortcuts import Short, shortcuts
from lathe.mend.worker.state import State
from lathe.mend.worker.swap import Programs

Lines = dict[str, list[int]]
_LONG_S = 3600.0
_HUNG = {"outcome": "hung"}
_QUICK_S, _LEAST_FULL_S = 0.25, 0.5
QUIET = [
    "-q",
    "-s",
    "--assert=plain",
    "--tb=native",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:faulthandler",
    "-p",
    "no:randomly",
]
PLUGIN_SETTINGS = {"xdist": ["-n0"], "pytest_cov": ["--no-cov"], "pytest_timeout": ["--timeout=0"]}


def arguments(given: list[str]) -> list[str]:
    """Return what pytest is called with: no reporting, and no plugin that measures or forks by itself."""
    extra = [flag for module, flags in PLUGIN_SETTINGS.items() if find_spec(module) is not None for flag in flags]
    return [*QUIET, *extra, *given, "--maxfail=0"]


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
    status = int(pytest.main(server.arguments, plugins=[server, server.protocol]))
    if not server.served:
        server.report({"event": "not_collected", "status": status})
    return status


class Server:
    """A pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, config: dict[str, Any], orders: int, reports: int) -> None:
        self.root: str = config["scratch"]
        self.arguments = arguments(config["args"])
        self.jobs: int = config["jobs"]
        self.memory: int = config["memory_mb"] << 20
        self.protocol = Protocol()
        self.served = False
        self.report = sender(reports)
        self.items: list[pytest.Item] = []
        self.idle: list[Worker] = []
        self.shortcuts: list[Short | None] = []
        self.test_files: set[str] = set()
        self.in_order: set[int] = set()  # tests that share objects, so that the order may matter
        self.knowledge = Knowledge()
        self.plans: dict[int, tuple[list[int], list[int]]] = {}
        self.limits: dict[int, float] = {}  # CPU seconds by test
        self.hanging: set[int] = set()
        self.touched: list[str] = []  # in the copy, by tests as the project is
        self.failures: dict[int, Failure] = {}  # how tests fail in the suite's order
        self.programs: Programs
        self.state: State
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
        # of a doctest the file is the one to be repaired
        files = sorted({str(item.path) for item in self.items if not isinstance(item, pytest.DoctestItem)})
        tests = [item.nodeid for item in self.items]
        version = ".".join(map(str, sys.version_info[:3]))
        self.report({"event": "collected", "tests": tests, "files": files, "errors": self._errors, "python": version})
        self.test_files = set(files)
        self.programs = Programs(self.root)
        self.state = State(self.root, self.programs.functions())
        self.shortcuts = shortcuts(self.items, self.root)
        holders = self.state.holders()
        self.in_order = {number for number, item in enumerate(self.items) if str(item.path) in holders}
        gc.freeze()
        orders = Messages(self._orders)
        while (order := orders.next()) is not None:
            while order is not None:
                order = self._obey(order, orders)
        return True

    def _obey(self, order: dict[str, Any], orders: Messages) -> dict[str, Any] | None:
        """Carry out an order, and return the next one if it has come meanwhile."""
        match order["op"]:
            case "baseline":
                self._baseline(order)
                self.report({"event": "done"})
            case "distinguish":
                distinguish(self, order)
            case "limits":
                self.limits = {int(number): limit for number, limit in order["limits"].items()}
                self.hanging = set(order["hanging"])
                self.touched = order["touched"]
                while self.idle:
                    self.idle.pop().close()
            case "try":
                return Evaluation(self, orders, order).run()
            case "stop":
                self.report({"event": "stopped"})
        return None

    def learn_plans(self, order: dict[str, Any]) -> None:
        """Take over the plans that come with an order."""
        self.plans.update({int(number): (failing, passing) for number, (failing, passing) in order["plans"].items()})

    def fork(self, cpu_s: float, work: Callable[[Emit], None]) -> Child:
        """Run `work(emit)` in a child under limits."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(read)
                os.close(self._orders)
                for worker in self.idle:
                    worker.forget()
                enter_child(self.memory, cpu_s)
                private_temporary(self.items[0].config, temporary_of(os.getpid()))
                work(sender(write))
                sender(write)({"end": True})
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        return Child(pid, read)

    def screening(self) -> Worker:
        """Return a new child that screens candidates."""
        read, write = os.pipe()
        doing = mmap.mmap(-1, mmap.PAGESIZE)

        def work(emit: Emit) -> None:
            os.close(write)
            Screening(self, emit, doing).run(Messages(read))

        child = self.fork(_LONG_S, work)
        os.close(read)
        return Worker(child, [], write, doing, known=self.plans)

    def _baseline(self, order: dict[str, Any]) -> None:
        """Run every test once, and those that took long a second time, with more patience and less looking on.

        After `order["seconds"]` of wall it stops with what has run. Tests that were stopped in the same function are
        taken for stopped by the same loop: if one of them does not end in the full time, none does.
        """
        full: float = order["limit"]
        until = time.monotonic() + order["seconds"]
        suspects: dict[tuple[str, int], list[dict[str, Any]]] = {}
        longest = 0.0

        def heard(message: dict[str, Any]) -> None:
            nonlocal longest
            if message["outcome"] == "hung":
                suspects.setdefault(_function(message), []).append(message)
                return
            longest = max(longest, message["cpu"])
            tell(message)

        def tell(message: dict[str, Any]) -> None:
            if message["outcome"] == "failed":
                self.failures[message["test"]] = failure_of(message)
            self.report({"event": "test", **message})

        self._run_all(list(enumerate(self.items)), _QUICK_S, heard, suspects, until=until)
        if time.monotonic() > until:
            return  # which of those that were stopped would have ended is not known
        limit = min(full, max(_LEAST_FULL_S, 5 * longest))
        for group in list(suspects.values()):
            seen = {message["test"]: message for message in group}
            first, *others = [(number, self.items[number]) for number in seen]
            found = self._plainly([first], limit)
            if found[first[0]]["outcome"] != "hung":
                found.update(self._plainly(others, full))
            ended = [entry for entry in (first, *others) if found.get(entry[0], _HUNG)["outcome"] != "hung"]

            def add(message: dict[str, Any], seen: dict[int, dict[str, Any]] = seen) -> None:
                before = seen[message["test"]]
                before["lines"] = _together(before["lines"], message["lines"])

            self._run_all(ended, full, add, detail="calls")
            for number, message in seen.items():
                tell(message if number not in found else {**found[number], "lines": message["lines"]})

    def _plainly(self, todo: list[tuple[int, pytest.Item]], seconds: float) -> dict[int, dict[str, Any]]:
        """Return what tests do where nobody looks on, by number."""
        found: dict[int, dict[str, Any]] = {}
        self._run_all(todo, seconds, lambda message: found.update({message["test"]: message}), detail="none")
        return found

    def _run_all(
        self,
        todo: list[tuple[int, pytest.Item]],
        seconds: float,
        heard: Callable[[dict[str, Any]], None],
        suspects: Collection[object] = (),
        *,
        detail: Detail = "lines",
        until: float = math.inf,
    ) -> None:
        """Run tests in order; after one that ends or outlasts its child, go on behind it in a new one."""
        while todo:

            def work(emit: Emit, todo: list[tuple[int, pytest.Item]] = todo) -> None:
                runner = Runner(self.root, emit, self.protocol)
                runner.baseline(todo, seconds, suspects=suspects, detail=detail)

            child = self.fork(seconds * len(todo) + 60, work)
            reached = -1
            while (messages := child.wait()) is not None:
                for message in messages:
                    if "outcome" in message:
                        reached = message["test"]
                        heard(message)
                if time.monotonic() > until:
                    child.close()
                    return
            if not child.finished:
                before, reached = (
                    reached,
                    child.test if child.test > reached else todo[0][0] if reached < 0 else reached,
                )
                if reached != before:
                    outcome = "hung" if child.killed or child.ended_by == LAST else "died"
                    heard({"test": reached, "outcome": outcome, "cpu": seconds, "lines": {}})
            todo = [entry for entry in todo if entry[0] > reached]


def _together(one: Lines, other: Lines) -> Lines:
    """Return the lines of both."""
    return {path: sorted({*one.get(path, ()), *other.get(path, ())}) for path in {*one, *other}}


def _function(message: dict[str, Any]) -> tuple[str, int]:
    """Return where a test was stopped."""
    name, line = message.get("function") or ("", 0)
    return str(name), int(line)
