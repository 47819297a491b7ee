"""The project as the engine sees it: one worker process that can run its tests and try candidates."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from pathlib import Path
from typing import Any

import msgspec

from lathe.mend.confine import confined
from lathe.mend.source import Unit
from lathe.mend.workspace import Workspace
from lathe.protocol.errors import TurnError, UsageError

_BOOT = Path(__file__).parent / "worker" / "boot.py"
_STOP_S = 10.0
MAX_WAITING = 400  # their answers fit into a pipe that nobody reads
_EXIT_USAGE = 4
_EXIT_NO_TESTS = 5
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


class TestRun(msgspec.Struct):
    """What one test did: `outcome` is passed, failed, skipped, hung, died or unknown, `lines` are by path."""

    name: str
    outcome: str
    cpu: float
    lines: dict[str, list[int]]
    error: str = ""
    frames: list[tuple[str, int]] = []

    @property
    def is_failure(self) -> bool:
        return self.outcome in ("failed", "hung")


class Part(msgspec.Struct):
    """Edits of one file (start, end, text) and the function that holds them; see `SourceFile.unit`."""

    file: str
    unit: Unit | None
    edits: list[tuple[int, int, str]]


class Job(msgspec.Struct):
    """A candidate to try with the tests of a plan; gives up when `enough` failing ones fail still.

    `again` tries a program that was tried before, `judge` in a process of its own. Each test may use `times` its limit
    of CPU, or `least` seconds where that is more.
    """

    id: int
    parts: list[Part]
    plan: int
    enough: int
    again: bool = False
    judge: bool = False
    times: float = 1.0
    least: float = 0.0


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """The tests that can tell whether a candidate helps, as indices: `failing` ones in turn, then `passing` ones."""

    failing: list[int]
    passing: list[int]


class Verdict(msgspec.Struct):
    """What became of a job.

    `status` is complete (every failing test of the plan is fixed, none broken, in a process of its own), partial (some
    are fixed), late (partial, and those that are not fixed ran out of time), broken (some are fixed, others broken),
    rejected, slow, same, syntax or died. `fixed` are indices of tests, `signal` says how the first failing tests that
    fail still do so: 0 as before, 1 differently, 2 further on.
    """

    id: int
    status: str
    fixed: list[int] = []
    signal: int = 0


class Project:
    """A running worker. Use as a context manager; it and its children are gone afterwards."""

    def __init__(
        self, workspace: Workspace, python: str, tests: list[str], *, jobs: int, memory_mb: int = 1024
    ) -> None:
        import subprocess

        self._workspace = workspace
        self._log = workspace.temporary / "worker.log"
        config = {"mode": "serve", "args": tests, "jobs": jobs, "memory_mb": memory_mb, "log": str(self._log)}
        self._process = subprocess.Popen(
            command(workspace, python, config),
            cwd=workspace.cwd,
            env=environment(workspace),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._rest = b""
        self.tests: list[str] = []
        self.files: list[str] = []
        self.python = ""
        self.unfit: set[int] = set()

    def undo_damage(self) -> bool:
        """Undo what candidates did to the project's files; return whether they did anything."""
        return self._workspace.undo_damage()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and everything it started."""
        import signal

        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def collect(self, timeout: float) -> None:
        """Wait for the tests to be collected; raise `UsageError` with the reason where that does not work."""
        message = self._next(time.monotonic() + timeout)
        if message is None:
            raise UsageError(
                f"The tests could not be collected within {timeout:.0f} s.",
                hint="Something hangs while the project is imported; run `python -m pytest --collect-only`.",
                code="collection",
            )
        if message["event"] == "not_collected":
            raise self._not_collected(message["status"])
        top = str(self._workspace.root) + os.sep
        self.tests = message["tests"]
        self.files = [path.removeprefix(top) for path in message["files"]]
        self.python = message["python"]
        if message["errors"]:
            raise self._broken_import(message["errors"])
        if not self.tests:
            raise no_tests()

    def baseline(self, limit: float, deadline: float, enough: float = 3600.0) -> list[TestRun]:
        """Run every test once, with coverage, each for at most `limit` seconds of CPU; in the tests' order.

        After `enough` seconds it stops; what has not run by then is "unknown". Raises `UsageError` where nothing has
        come to an end before `deadline` (of `time.monotonic`).
        """
        self._order({"op": "baseline", "limit": limit, "seconds": enough})
        runs: dict[int, TestRun] = {}
        while True:
            message = self._next(deadline)
            if message is None:
                raise UsageError(
                    f"The time was over when {len(runs)} of {len(self.tests)} tests had run.",
                    hint="Give more with --time, or fewer tests with --tests.",
                    code="slow_suite",
                )
            if message["event"] == "done":
                break
            number = message["test"]
            frames = [(str(file), int(line)) for file, line in message.get("frames", ())]
            runs[number] = TestRun(
                self.tests[number],
                message["outcome"],
                message["cpu"],
                message["lines"],
                message.get("error", ""),
                frames,
            )
        return [runs.get(number) or TestRun(name, "unknown", 0.0, {}) for number, name in enumerate(self.tests)]

    def begin(self, limits: dict[int, float], hanging: list[int]) -> None:
        """Say how many seconds of CPU each test may use under a candidate, before any is sent.

        Of the tests in `hanging` is known that they do not end on the project as it is.
        """
        touched = sorted(self._workspace.touched)
        self._order({"op": "limits", "limits": limits, "hanging": hanging, "touched": touched})

    def send(self, jobs: list[Job], plans: dict[int, Plan]) -> None:
        """Put `jobs` behind those that wait already; `plans` are the plans that no job before had, by number.

        At most `MAX_WAITING` may wait at a time.
        """
        self._order({"op": "try", "jobs": msgspec.to_builtins(jobs), "plans": msgspec.to_builtins(plans)})

    def answers(self, deadline: float) -> list[Verdict]:
        """Return the answers that have come, and wait for the first; none where `deadline` comes before.

        Tests that are found not to do what they did are added to `unfit`.
        """
        found: list[Verdict] = []
        while (message := self._next(0.0 if found else deadline)) is not None:
            if message["event"] == "unfit":
                self.unfit.add(message["test"])
            elif message["event"] == "result":
                found.append(Verdict(message["id"], message["status"], message["fixed"], message["signal"]))
        return found

    def cancel(self) -> None:
        """Forget the jobs that wait."""
        self._order({"op": "stop"})
        deadline = time.monotonic() + _STOP_S
        while (message := self._next(deadline)) is not None:
            if message["event"] == "stopped":
                return
        raise self._gone()

    def ask(self, order: dict[str, Any], event: str, deadline: float) -> dict[str, Any] | None:
        """Send an order and return the first message of a kind, whatever comes before it; None where time is over."""
        self._order(order)
        while (message := self._next(deadline)) is not None and message["event"] != event:
            pass
        return message

    def _order(self, order: dict[str, Any]) -> None:
        """Send an order; what the worker says meanwhile is taken in, else each might wait for the other to read."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        orders, reports = self._process.stdin.fileno(), self._process.stdout.fileno()
        data = memoryview(json.dumps(order).encode() + b"\n")
        try:
            while data:
                readable, writable, _ = select.select([reports], [orders], [])
                if readable:
                    self._read(reports)
                if writable:
                    data = data[os.write(orders, data) :]
        except BrokenPipeError:
            raise self._gone() from None

    def _read(self, descriptor: int) -> None:
        data = os.read(descriptor, 1 << 18)
        if not data:
            raise self._gone()
        self._rest += data

    def _next(self, deadline: float) -> dict[str, Any] | None:
        """Return the worker's next message; None when `deadline` comes first."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            self._read(descriptor)
        line, _, self._rest = self._rest.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _gone(self) -> TurnError:
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        tail = self._tail()
        return TurnError(
            f"The process that runs the project's tests ended by itself (status {status}).",
            hint=f"It said: {tail}" if tail else "A test module may end the process while it is imported.",
            code="worker_gone",
        )

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n") if self._log.exists() else []
        return " ".join(line.strip() for line in lines if line.strip())[-400:]

    def _not_collected(self, status: int) -> UsageError:
        if status == _EXIT_NO_TESTS:
            return no_tests()
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        errors = [line.removeprefix("ERROR:").strip() for line in text.split("\n") if line.startswith(("ERROR", "E  "))]
        said = self._relative(errors[-1].removeprefix("E").strip() if errors else self._tail())
        if status == _EXIT_USAGE and "not found" in said:
            return UsageError(f"pytest does not know these tests: {said}.", hint="See --tests.", code="no_tests")
        return UsageError(
            f"pytest could not begin: {said or f'status {status}'}.",
            hint="Make `python -m pytest --collect-only` work first.",
            code="collection",
        )

    def _broken_import(self, errors: list[dict[str, Any]]) -> UsageError:
        for error in errors:
            if "syntax" in error:
                path, line, reason = error["syntax"]
                return UsageError(
                    f"{self._relative(path)} has a syntax error in line {line}: {reason}.",
                    hint="Repair that first: tests cannot run without it.",
                    code="syntax_error",
                )
        first = errors[0]
        reason = first.get("cause") or first["text"].strip().rpartition("\n")[2]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return UsageError(
            f"{first['nodeid'] or 'The suite'}{more} cannot be imported: {self._relative(reason)}.",
            hint="Install what is missing, or leave the file out with --tests: mend searches in code that runs.",
            code="import_error",
        )

    def _relative(self, text: str) -> str:
        return text.replace(f"{self._workspace.root}{os.sep}", "").replace(str(self._workspace.root), ".")


def no_tests() -> UsageError:
    """Return the error for a project without tests."""
    return UsageError(
        "There are no tests here, so nothing says what correct would be.",
        hint="mend needs a pytest suite of which at least one test fails; name its files with --tests.",
        code="no_tests",
    )


def command(workspace: Workspace, python: str, config: dict[str, Any]) -> list[str]:
    """Return the command line of a worker, confined as far as that can be had here."""
    where = {"original": str(workspace.original), "scratch": str(workspace.root)}
    return [*confined(workspace, python), python, str(_BOOT), json.dumps({**config, **where})]


def environment(workspace: Workspace) -> dict[str, str]:
    """Return the environment of a worker: the person's without secrets, with home and temporary folder in scratch."""
    kept = {name: value for name, value in os.environ.items() if not any(word in name.upper() for word in _SECRET)}
    for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTHONSTARTUP"):
        kept.pop(name, None)
    return {
        **kept,
        "HOME": str(workspace.temporary / "home"),
        "TMPDIR": str(workspace.temporary / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
