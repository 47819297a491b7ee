"""Running a program on inputs, in a child, under limits, and without a way out of the process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import select
import signal
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

from lathe.mend.worker.inputs import Call
from lathe.mend.worker.outcomes import Literals, canonical
from lathe.mend.worker.rendering import Subject
from lathe.mend.worker.swap import Candidate

MAX_SLOW = 3
_TEXT = 160
_LATE_S = 0.2
_SLOW = {"digest": "time", "good": False, "kind": "time", "text": ""}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = (
    "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime",
    "os.setxattr", "os.removexattr", "os.forkpty", "os.putenv", "os.unsetenv", "os.chdir", "os.fchdir", "shutil.",
    "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "sqlite3.connect",
    "ctypes.", "pty.spawn", "signal.pthread_kill", "tempfile.", "urllib.Request", "ftplib.", "smtplib.", "imaplib.",
    "poplib.", "http.client.connect", "webbrowser.open", "fcntl.", "syslog.",
)  # fmt: skip
_own: set[int] = set()  # children, which may be killed in spite of the hook


class Stopped(BaseException):
    """A call took too long, or wanted what is forbidden. Not an `Exception`, so that code does not swallow it."""


class Program(NamedTuple):
    """What is run: the project as it is (`number` below 0), or with a candidate in it."""

    number: int
    candidate: Candidate | None


class Trial(NamedTuple):
    """What every program is run on: calls of subjects, each for `limit` seconds of CPU, all until `until`.

    With `details` it is also said how to write results down.
    """

    subjects: list[Subject]
    calls: list[Call]
    limit: float
    until: float
    details: bool = False


def in_children(programs: Sequence[Program], trial: Trial, jobs: int) -> list[dict[int, Any]]:
    """Run programs on all inputs, in a child each, and return for each what came of the inputs that it got to.

    One that did not end on some is not run on the rest, and taken not to end on these either.
    """
    tables: list[dict[int, Any]] = [{} for _ in programs]
    todo = list(enumerate(programs))[::-1]
    running: dict[int, _Running] = {}
    while todo or running:
        while todo and len(running) < jobs:
            turns = -(-len(todo) // jobs)
            number, program = todo.pop()
            now = time.monotonic()
            child = _start(program, trial._replace(until=now + max(0.0, trial.until - now) / turns), number)
            running[child.descriptor] = child
        limit = max(0.0, trial.until + _LATE_S - time.monotonic())
        ready, _, _ = select.select(list(running), [], [], limit)
        for descriptor in ready or list(running):  # none is ready: the time is over
            child = running[descriptor]
            block = os.read(descriptor, 1 << 16) if ready else b""
            child.data.append(block)
            if not block:
                del running[descriptor]
                tables[child.number] = child.end()
    for table in tables:
        if sum(answer["digest"] == "time" for answer in table.values()) >= MAX_SLOW:
            for number in range(len(trial.calls)):
                table.setdefault(number, {"call": number, **_SLOW})
    return tables


class _Running(NamedTuple):
    number: int
    pid: int
    descriptor: int
    data: list[bytes]

    def end(self) -> dict[int, Any]:
        """End a child, which may be in a loop that nothing interrupts, and return its answers."""
        os.close(self.descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        _own.discard(self.pid)
        lines = b"".join(self.data).split(b"\n")[:-1]
        return {answer["call"]: answer for answer in map(json.loads, lines)}


def _start(program: Program, trial: Trial, number: int) -> _Running:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.close(read)
            if program.candidate is not None:
                program.candidate.install()
            _run(trial, write)
        os._exit(0)
    _own.add(pid)
    os.close(write)
    return _Running(number, pid, read, [])


def _run(trial: Trial, write: int) -> None:
    slow = 0
    lines: list[str] = []
    for number, call in enumerate(trial.calls):
        if slow >= MAX_SLOW or time.monotonic() > trial.until:
            break
        answer = _outcome(trial.subjects[call.function], call, trial.limit, trial.details)
        slow += answer["digest"] == "time"
        lines.append(json.dumps({"call": number, **answer}))
        if len(lines) > 40 or answer["digest"] == "time":
            _send(write, lines)
    _send(write, lines)


def _send(write: int, lines: list[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    lines.clear()
    while data:
        data = data[os.write(write, data) :]


def _outcome(subject: Subject, call: Call, limit: float, details: bool) -> dict[str, Any]:
    """Return what a call comes to: a digest of result and changed arguments, and with `details` how to write it."""
    random.seed(0)
    said = io.StringIO()
    result: Any = None
    good, text, kind = True, "", "value"
    before = canonical((call.positional, call.keywords)) if details else ""
    try:
        with time_limit(limit), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                result = subject.call(call)
                text = canonical(result)
            except Stopped:
                raise
            except BaseException as error:
                good, text = _is_meant(error), type(error).__name__
                kind = "raise"
            after = canonical((call.positional, call.keywords))
    except Stopped as error:
        why = "forbidden" if error.args else "time"
        return {"digest": why, "good": False, "kind": why, "text": ""}
    except RecursionError:
        return {"digest": "RecursionError", "good": False, "kind": "raise", "text": "RecursionError"}
    answer: dict[str, Any] = {"digest": str(hash((kind, text, after, said.getvalue()))), "good": good}
    if details:
        answer |= {"kind": kind, "text": text[:_TEXT], "said": said.getvalue()[:_TEXT]}
        answer |= subject.effects(call, result) if kind == "value" and after != before else {}
        if kind == "value":
            literals = Literals()
            answer |= {"literal": literals.write(result), "modules": sorted(literals.modules)}
    return answer


def _is_meant(error: BaseException) -> bool:
    """Return whether the code that raised an error names it, as in `raise ValueError`: it is an answer, no crash."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and type(error).__name__ in trace.tb_frame.f_code.co_names


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Stopped` in what takes more than `seconds` of CPU, or three times that and a second of wall."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)
    signal.setitimer(signal.ITIMER_REAL, 3 * seconds + 0.2, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop what would reach out of the process."""
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and path != os.devnull:
            raise Stopped(event)
    elif event.startswith(_FORBIDDEN) and not (event == "os.kill" and arguments[0] in _own):
        raise Stopped(event)
