"""Running tests inside a forked child, under limits, and saying on a pipe what became of each."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import unittest
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from lathe.mend.worker.clock import Clock, TimeUp, cpu
from lathe.mend.worker.coverage import Detail, LineCoverage

Emit = Callable[..., None]


class Protocol:
    """A pytest plugin that runs one item with all hooks around it and none of the reporting."""

    def __init__(self) -> None:
        self.errors: list[pytest.CallInfo[Any]] = []
        self.reports: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        self.reports += runtestprotocol(item, log=False, nextitem=nextitem)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)  # a subtest, which pytest reports by itself

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> pytest.TestReport:
        """Return a report without the rendered traceback, which costs more than most tests."""
        outcome: Any = "passed"
        if call.excinfo is not None:
            skipped = isinstance(call.excinfo.value, (pytest.skip.Exception, unittest.SkipTest))
            outcome = "skipped" if skipped else "failed"
            if not skipped:
                self.errors.append(call)
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome=outcome,
            longrepr=None,
            when=call.when,  # type: ignore[arg-type]  # pytest calls this for setup, call and teardown alone
            duration=call.duration,
            start=call.start,
            stop=call.stop,
        )

    def error(self) -> BaseException | None:
        """Return what the last item raised first."""
        info = self.errors[0].excinfo if self.errors else None
        return info.value if info is not None else None

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> str:
        """Return passed, skipped or failed."""
        self.errors, self.reports = [], []
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        outcomes = {report.outcome for report in self.reports}
        return "failed" if "failed" in outcomes else "skipped" if "skipped" in outcomes else "passed"


class Runner:
    """Runs items one after the other in a forked child; `emit` sends one message to the parent."""

    def __init__(self, root: str, emit: Emit, protocol: Protocol) -> None:
        self._root = root
        self._emit = emit
        self._protocol = protocol
        self._clock = Clock(root)

    def baseline(
        self,
        items: Sequence[tuple[int, pytest.Item]],
        limit: float,
        *,
        suspects: Collection[object] = (),
        detail: Detail = "lines",
    ) -> None:
        """Run all `items` with coverage, and send what each did and where it failed."""
        coverage = LineCoverage(self._root, detail)
        for index, (number, item) in enumerate(items):
            nextitem = items[index + 1][1] if index + 1 < len(items) else None
            coverage.start()
            outcome, cpu = self._one(number, item, nextitem, limit, suspects)
            lines = coverage.stop()
            message: dict[str, Any] = {"test": number, "outcome": outcome, "cpu": cpu, "lines": lines}
            if outcome in ("failed", "hung"):
                message.update(self._failure())
            self._emit(message)
            if outcome == "hung":
                return  # fixtures may be half torn down; the rest runs in a fresh child

    def candidate(
        self,
        failing: Sequence[tuple[int, pytest.Item, float]],
        passing: Sequence[tuple[int, pytest.Item, float]],
        enough: int,
        *,
        in_order: bool = False,
    ) -> dict[str, Any]:
        """Run `failing` tests, then, if at least one passes now, `passing` ones until one does not.

        Gives up when the first `enough` failing tests fail still. With `in_order` all run in the order of the suite.
        Returns the verdict and the tests that were fixed.
        """
        fixed: list[int] = []
        failed, wanted = 0, {number for number, _, _ in failing}
        slow = False
        everything = [*failing, *passing]
        if in_order:
            everything.sort(key=lambda entry: entry[0])
        for index, (number, item, limit) in enumerate(everything):
            if (number not in wanted and not fixed and not in_order) or (failed >= enough and not fixed):
                break
            nextitem = everything[index + 1][1] if index + 1 < len(everything) else None
            outcome, _ = self._one(number, item, nextitem, limit)
            if number not in wanted:
                if outcome in ("failed", "hung"):
                    return {"verdict": "broken", "fixed": fixed}
                continue
            fixed += [number] if outcome == "passed" else []
            failed += outcome != "passed"
            slow = slow or outcome == "hung"
            if slow and enough == 1:
                break
        if not fixed:
            return {"verdict": "slow" if slow else "rejected", "fixed": fixed}
        return {"verdict": "complete" if len(fixed) == len(failing) else "partial", "fixed": fixed}

    def _one(
        self,
        number: int,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        limit: float,
        suspects: Collection[object] = (),
    ) -> tuple[str, float]:
        wall = 3 * limit + 1
        self._emit({"start": number, "wall": wall})
        before = cpu()
        try:
            self._clock.start(limit, wall, suspects)
            outcome = self._protocol.run(item, nextitem)
            hung = self._clock.stop()
        except BaseException as error:  # a plugin or a fixture gone wild is a failure of this test
            hung = self._clock.stop() or isinstance(error, TimeUp)
            outcome = "failed"
        return ("hung" if hung else outcome), cpu() - before

    def _failure(self) -> dict[str, Any]:
        if self._clock.place is not None:
            error = "it did not end in time"
            return {"error": error, "frames": self._clock.place, "function": self._clock.function}
        if not self._protocol.errors or self._protocol.errors[0].excinfo is None:
            return {"error": "", "frames": []}
        info = self._protocol.errors[0].excinfo
        frames = [
            (str(entry.path)[len(self._root) + 1 :], entry.lineno + 1)
            for entry in info.traceback
            if str(entry.path).startswith(self._root + os.sep)
        ]
        first = str(info.value).strip().partition("\n")[0][:200]
        return {"error": f"{info.typename}: {first}" if first else info.typename, "frames": frames}


def private_temporary(config: pytest.Config, folder: Path) -> None:
    """Let `tmp_path` begin in `folder`; pytest's own numbered folders cost more with every child there has been."""
    factory: Any = getattr(config, "_tmp_path_factory", None)
    if hasattr(factory, "_basetemp"):
        folder.mkdir(mode=0o700, exist_ok=True)
        factory._basetemp = folder


def temporary_of(pid: int) -> Path:
    """Return the temporary folder of the child `pid`."""
    return Path(tempfile.gettempdir()).resolve() / f"child-{pid}"


def enter_child(memory_bytes: int, cpu_s: float) -> None:
    """Give this process its own group, no terminal, and limits."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for what, value in (
        (resource.RLIMIT_AS, used + memory_bytes),
        (resource.RLIMIT_CPU, int(cpu_s) + 1),
        (resource.RLIMIT_FSIZE, 1 << 28),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (soft, hard))


def sender(descriptor: int) -> Emit:
    """Return a function that writes messages to `descriptor`, one a line."""

    def emit(*messages: dict[str, Any]) -> None:
        lines = [json.dumps(message, separators=(",", ":")) + "\n" for message in messages]
        data = "".join(lines).encode()
        while data:
            data = data[os.write(descriptor, data) :]

    return emit


def forget_project(root: str) -> None:
    """Drop every module of the project, so that it is imported again."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(root + os.sep):
            del sys.modules[name]
