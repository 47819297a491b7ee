"""A run's folder: its plan, its journal, and what each trial left. The journal is the only truth about the run.

    plan.json         what is to be done, written once
    journal.jsonl     what happened, only ever appended to
    trials/ID/        the files of one trial
    report.*          made from the two above, at any time again

A line is handed to the kernel whole before anybody is shown what it says; a process that dies at any byte loses at most
the line that it was writing, and opening the journal again drops that one.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from lathe.evals.record import FORMAT, Fault, Plan, Trial
from lathe.protocol.errors import StorageError, UsageError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Began(msgspec.Struct, frozen=True, tag="began", tag_field="kind"):
    """A trial is tried, for the `number`-th time (from 1)."""

    t: int
    trial: str
    number: int


class Faulted(msgspec.Struct, frozen=True, tag="faulted", tag_field="kind"):
    """A try ended by a fault of the infrastructure; another one follows."""

    t: int
    trial: str
    number: int
    fault: Fault


class Ended(msgspec.Struct, frozen=True, tag="ended", tag_field="kind"):
    """A trial is over."""

    t: int
    trial: Trial


class Note(msgspec.Struct, frozen=True, tag="note", tag_field="kind"):
    """Something about the whole run: that it was stopped, resumed, or what it was run on."""

    t: int
    text: str


Record: TypeAlias = Began | Faulted | Ended | Note
_encoder = msgspec.json.Encoder()
_records: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_plans = msgspec.json.Decoder(Plan)


def trial_id(task: str, attempt: int) -> str:
    """Return the id of a trial: `TASK.ATTEMPT`, fit for the name of a folder."""
    return f"{_UNSAFE.sub('_', task).strip('.') or '_'}.{attempt}"


class State(msgspec.Struct):
    """What a journal says, read to its end.

    `ended` are the trials that are over, by id; `faults` those of trials that are not; `damaged` counts lines that
    can't be read.
    """

    ended: dict[str, Trial] = {}
    faults: dict[str, list[Fault]] = {}
    notes: list[str] = []
    damaged: int = 0


class RunFolder:
    """A run on disk. Reading needs nothing; `open` holds the journal for writing, one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._size = 0

    @property
    def journal(self) -> Path:
        """The file of what happened."""
        return self.path / "journal.jsonl"

    @property
    def page(self) -> Path:
        """The page of its report."""
        return self.path / "report.html"

    def trial(self, id: str) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / id

    @classmethod
    def create(cls, path: Path, plan: Plan) -> RunFolder:
        """Start a run; raise `UsageError` where there is one already, `StorageError` where it can't be written."""
        run = cls(path)
        if (path / "plan.json").exists() or run.journal.exists():
            raise UsageError(f"{path} holds a run already.", hint=f"lathe eval resume {path}")
        try:
            path.mkdir(parents=True, exist_ok=True)
            draft = path / "plan.json.new"
            with draft.open("wb") as file:
                file.write(msgspec.json.format(_encoder.encode(plan), indent=1))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path / "plan.json")
        except OSError as error:
            raise _unwritten(path, error) from None
        return run

    def plan(self) -> Plan:
        """Return the plan; raise `UsageError` where there is none, or a newer Lathe wrote it."""
        path = self.path / "plan.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UsageError(f"{self.path} is not a run: it has no plan.json.", hint="lathe eval list") from None
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}.") from None
        try:
            plan = _plans.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be understood: {error}.") from None
        if plan.format > FORMAT:
            raise UsageError(f"{path} was written by a newer Lathe.", hint="Update Lathe.")
        return plan

    def records(self) -> Iterator[Record | None]:
        """Yield what the journal holds, in order; None for a line that can't be read."""
        try:
            lines = self.journal.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.journal} can't be read: {error.strerror}.") from None
        last = lines.pop()  # b"" after a whole line, else what a writer that died had begun
        for line in lines:
            try:
                yield _records.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                yield None
        if last:
            yield None

    def state(self) -> State:
        """Return what happened so far."""
        state = State()
        for record in self.records():
            match record:
                case Ended(trial=trial):
                    state.ended[trial.id] = trial
                    state.faults.pop(trial.id, None)
                case Faulted(trial=id, fault=fault):
                    state.faults.setdefault(id, []).append(fault)
                case Note(text=text):
                    state.notes.append(text)
                case None:
                    state.damaged += 1
                case _:
                    pass
        return state

    def trials(self) -> list[Trial]:
        """Return the trials that are over, in the order of the plan."""
        ended = self.state().ended
        plan = self.plan()
        order = {trial_id(name, n): i for i, (name, n) in enumerate(_all(plan))}
        return sorted(ended.values(), key=lambda one: order.get(one.id, len(order)))

    def open(self) -> None:
        """Hold the journal; raise `UsageError` where another process does, `StorageError` where it can't be written."""
        try:
            fd = os.open(self.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritten(self.journal, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise UsageError(f"The run {self.path} is going on in another process.") from None
        size = os.fstat(fd).st_size
        kept = os.pread(fd, size, 0).rfind(b"\n") + 1
        if kept < size:
            os.ftruncate(fd, kept)
        self._fd, self._size = fd, kept

    def append(self, *records: Record) -> None:
        """Write records, whole or not at all; raise `StorageError`."""
        data = b"".join(_encoder.encode(record) + b"\n" for record in records)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise _unwritten(self.journal, error) from None
        self._size += len(data)

    def clear(self, id: str) -> Path:
        """Return the folder of a trial, empty: what a try before left in it is gone."""
        folder = self.trial(id)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        except OSError as error:
            raise _unwritten(folder, error) from None
        return folder

    def close(self) -> None:
        """Let go of the journal; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _all(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield task and attempt of every trial: each task once before any a second time."""
    for attempt in range(1, plan.attempts + 1):
        for name, _ in plan.tasks:
            yield name, attempt


def wanted(plan: Plan) -> list[tuple[str, str, int]]:
    """Return id, task and attempt of every trial of a plan, in the order in which they are begun."""
    return [(trial_id(name, attempt), name, attempt) for name, attempt in _all(plan)]


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} can't be written: {error.strerror}.", hint="What is in the journal is safe.")
