"""The fork server: imports the project once, collects its tests, then runs them in children on demand.

Messages are JSON, one a line: orders on standard input, reports on what was standard output.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from lathe.mend.worker.children import Child, Messages
from lathe.mend.worker.evaluation import Evaluation
from lathe.mend.worker.runs import Protocol, Runner, enter_child, private_temporary, sender, temporary_of
from lathe.mend.worker.swap import Programs

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
        orders = Messages(self._orders)
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
