"""The journal of a thread: a JSONL file that is only ever appended to, and the only truth about the thread.

Each line is one record. A record is handed to the kernel whole before anybody is shown what it says, so a
process that dies at any byte loses at most the line it was writing: opening the journal again drops that torn
line (or completes it, where only the line break was missing).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from lathe.protocol.blocks import Blocked
from lathe.protocol.errors import StorageError, UsageError
from lathe.protocol.events import Event
from lathe.protocol.items import Item
from lathe.protocol.usage import Usage

FORMAT = 1


class ThreadRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag="thread", tag_field="kind"):
    """The first line: whose journal this is. `forked_from` names the thread that it was copied from."""

    t: int
    id: str
    cwd: str
    lathe: str
    format: int = FORMAT
    forked_from: str = ""


class TurnRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn", tag_field="kind"):
    """A turn begins. `context` is what the model was last told of its surroundings, key by key."""

    t: int
    id: str
    model: str
    provider: str
    context: dict[str, str]


class ItemsRecord(msgspec.Struct, frozen=True, tag="items", tag_field="kind"):
    """Items that join the transcript together."""

    items: tuple[Item, ...]


class CompactedRecord(msgspec.Struct, frozen=True, tag="compacted", tag_field="kind"):
    """The transcript starts over with these items."""

    items: tuple[Item, ...]


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag="step", tag_field="kind"):
    """A model request was answered. `model` is what the endpoint says served it."""

    usage: Usage
    model: str = ""


class EventRecord(msgspec.Struct, frozen=True, tag="event", tag_field="kind"):
    t: int
    event: Event


class TurnEndRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag="turn_end", tag_field="kind"):
    t: int
    status: str


class RewindRecord(msgspec.Struct, frozen=True, tag="rewind", tag_field="kind"):
    """The transcript goes back to what it was before the turn with this id began."""

    t: int
    turn: str


class BlockedRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag="blocked", tag_field="kind"):
    """All that is set aside from here on. `refused` counts the requests in a row that were refused."""

    blocked: tuple[Blocked, ...]
    refused: int = 0


Record: TypeAlias = (
    ThreadRecord
    | TurnRecord
    | ItemsRecord
    | CompactedRecord
    | StepRecord
    | EventRecord
    | TurnEndRecord
    | RewindRecord
    | BlockedRecord
)


class _RawEventRecord(msgspec.Struct, frozen=True, tag="event", tag_field="kind"):
    """An event left undecoded: replay needs only its place."""

    t: int
    event: msgspec.Raw


_ReplayRecord: TypeAlias = (
    ThreadRecord
    | TurnRecord
    | ItemsRecord
    | CompactedRecord
    | StepRecord
    | _RawEventRecord
    | TurnEndRecord
    | RewindRecord
    | BlockedRecord
)


class _Format(msgspec.Struct, frozen=True):
    """All that must be understood of the first line of any format, past or to come."""

    format: int = FORMAT


_HEADER_BYTES = 65536
_LOCK_S = 0.5
_encoder = msgspec.json.Encoder()
_headers = msgspec.json.Decoder(_Format)
_records = msgspec.json.Decoder(Record)
_replayed = msgspec.json.Decoder(_ReplayRecord)


def now_ms() -> int:
    """Return milliseconds since the epoch, as records carry them in `t`."""
    return time.time_ns() // 1_000_000


class Journal:
    """An open journal, held by one process at a time."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self._fd = fd
        self._size = size
        self._buffer = bytearray()

    @classmethod
    def create(cls, path: Path, header: ThreadRecord) -> Journal:
        """Start the journal at `path`; raise `StorageError` where it can't be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _storage_error(path, error) from None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = cls(path, fd, 0)
        try:
            journal.append(header)
        except StorageError:
            journal.close()
            path.unlink(missing_ok=True)
            raise
        return journal

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open an existing journal for appending, its last line repaired.

        Raises `UsageError` where there is none, another process holds it or a newer Lathe wrote it, and
        `StorageError` where it can't be written.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UsageError(f"There is no thread {path.stem}.", hint="`lathe threads` lists them.") from None
        except OSError as error:
            raise _storage_error(path, error) from None
        if not _locked(fd):
            os.close(fd)
            raise UsageError(
                f"Thread {path.stem} is open in another Lathe process.",
                hint="End that one first, or `lathe fork` the thread.",
            ) from None
        try:
            _check_format(path, os.pread(fd, _HEADER_BYTES, 0).partition(b"\n")[0])
            size = _repair_tail(fd)
        except OSError as error:
            os.close(fd)
            raise _storage_error(path, error) from None
        except UsageError:
            os.close(fd)
            raise
        return cls(path, fd, size)

    def append(self, *records: Record) -> None:
        """Write `records`, whole or not at all; raise `StorageError`."""
        buffer = self._buffer
        buffer.clear()
        for record in records:
            buffer += _encoder.encode(record)
            buffer += b"\n"
        try:
            written = os.write(self._fd, buffer)
            while written < len(buffer):
                written += os.write(self._fd, buffer[written:])
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise _storage_error(self.path, error) from None
        self._size += len(buffer)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class TurnStart(NamedTuple):
    """Where a turn began: the transcript (its first `length` items), and what held then."""

    items: list[Item]
    length: int
    context: dict[str, str]
    last_step: Usage
    items_since_step: int


class Replay(msgspec.Struct):
    """What a journal says, read to its end.

    `items` is the transcript as it stands, `generation` how often it was compacted, `usage` the sum over all
    steps, `last_input_tokens` what the last step read and wrote, `open_turn` whether the last turn has no end,
    `damaged` how many lines could not be read. `began` has the turns that were not taken back, oldest first.
    `blocked` is what is set aside, `refused` how many requests in a row were refused, and the first `served` items
    were in a request that was not.
    """

    header: ThreadRecord
    items: list[Item]
    generation: int = 0
    usage: Usage = Usage()
    last_step: Usage = Usage()
    items_since_step: int = 0
    turns: int = 0
    context: dict[str, str] = {}
    model: str = ""
    provider: str = ""
    open_turn: bool = False
    damaged: int = 0
    began: dict[str, TurnStart] = {}
    blocked: tuple[Blocked, ...] = ()
    refused: int = 0
    served: int = 0
    answered: int = 0
    """How many items there were before the newest that joined."""


def replay(path: Path) -> Replay:
    """Read the journal at `path`; raise `UsageError` where it is missing, is no journal or a newer Lathe's."""
    lines = _read(path).split(b"\n")
    _check_format(path, lines[0])
    header: ThreadRecord | None = None
    state: Replay | None = None
    damaged = 0
    decode = _replayed.decode
    for line in lines:
        if not line:
            continue
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged += 1
            continue
        if state is None:
            if not isinstance(record, ThreadRecord):
                break
            header = record
            state = Replay(header=header, items=[])
        elif type(record) is not _RawEventRecord:
            _fold(state, record)
    if state is None:
        raise UsageError(f"{path} is not a thread's journal.", hint="`lathe threads` lists the ones there are.")
    state.damaged = damaged
    return state


def records(path: Path, *, newer: bool = False, holding: bytes = b"") -> Iterator[Record]:
    """Yield every readable record of the journal at `path`, in order; only those whose JSON has `holding` in it.

    Raises `UsageError` where it is missing, or a newer Lathe wrote it; with `newer` what can be read of such a
    one counts.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                if number == 0 and not newer:
                    _check_format(path, line)
                if holding not in line:
                    continue
                try:
                    yield _records.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
    except FileNotFoundError:
        raise UsageError(f"There is no thread {path.stem}.", hint="`lathe threads` lists them.") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _rewind(state: Replay, turn: str) -> None:
    start = state.began[turn]
    turns = list(state.began)
    for later in turns[turns.index(turn) :]:
        del state.began[later]
    state.items = start.items[: start.length]
    state.context = start.context
    state.last_step, state.items_since_step = start.last_step, start.items_since_step
    state.served = min(state.served, start.length)
    state.open_turn = False


def _locked(fd: int) -> bool:
    """Lock the journal; return whether that could be done.

    A Lathe that was killed while it started a program leaves the lock with that for the moment until it is executed.
    """
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        else:
            return True


def _fold(state: Replay, record: Any) -> None:
    match record:
        case ItemsRecord(items=items):
            state.answered = len(state.items)
            state.items.extend(items)
            state.items_since_step += len(items)
        case CompactedRecord(items=items):
            state.items = list(items)
            state.generation += 1
            state.last_step = Usage()
            state.items_since_step = len(items)
            state.served = 0
        case BlockedRecord(blocked=blocked, refused=refused):
            state.blocked, state.refused = blocked, refused
        case StepRecord(usage=usage):
            state.served, state.refused = state.answered, 0
            state.usage = state.usage + usage
            state.last_step = usage
            state.items_since_step = 0
        case TurnRecord(id=turn, context=context, model=model, provider=provider):
            state.turns += 1
            state.began[turn] = TurnStart(
                state.items, len(state.items), state.context, state.last_step, state.items_since_step
            )
            state.context = context
            state.model, state.provider = model, provider
            state.open_turn = True
        case TurnEndRecord():
            state.open_turn = False
        case RewindRecord(turn=turn) if turn in state.began:
            _rewind(state, turn)
        case _:
            pass


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"There is no thread {path.stem}.", hint="`lathe threads` lists them.") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_format(path: Path, line: bytes) -> None:
    """Raise `UsageError` where the first line of a journal says that its format is newer than ours."""
    try:
        version = _headers.decode(line).format
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if version > FORMAT:
        raise UsageError(
            f"Thread {path.stem} was written by a newer Lathe: its journal has format {version}, and this one reads"
            f" up to {FORMAT}.",
            hint="Update Lathe.",
        )


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"The journal {path} can't be read: {error.strerror}.")


def _repair_tail(fd: int) -> int:
    """Drop a torn last line, or complete it where it is whole; return the size afterwards."""
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return size
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(65536, start)
        start -= step
        tail = os.pread(fd, step, start) + tail
    cut = tail.rfind(b"\n") + 1
    line_start = start + cut
    try:
        _records.decode(tail[cut:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        os.ftruncate(fd, line_start)
        return line_start
    os.write(fd, b"\n")
    return size + 1


def _storage_error(path: Path, error: OSError) -> StorageError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageError(
                f"The disk that holds {path.parent} is full.",
                hint="Free some space and `lathe resume`: the thread is intact up to its last shown event.",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StorageError(f"{path.parent} can't be written.", hint="Set LATHE_HOME to a folder that can.")
        case _:
            return StorageError(f"{path} can't be written: {error.strerror}.", hint="Set LATHE_HOME to another folder.")
