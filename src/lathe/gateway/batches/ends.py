"""The two ends of a batch: its file becomes lines, and its answers become files.

Both may be broken off at any moment and begun anew by another replica.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container

from lathe.gateway.batches.batch import Batch, Ended, Fault, NewLine, State
from lathe.gateway.batches.files import File, Files
from lathe.gateway.batches.reading import LineFault, lines_of, read_line
from lathe.gateway.batches.shapes import output_line, result_line
from lathe.gateway.batches.store import BatchStore, Lost, entered
from lathe.gateway.exchange import now_ms
from lathe.gateway.settings import GatewaySettings
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.database import Database

_MOST_FAULTS = 100
_MOST_MODELS = 100
_LINES_AT_ONCE = 100
_BYTES_AT_ONCE = 1 << 20
_DAY_MS = 86_400_000
_MARKS: dict[State, str] = {
    "completed": "completed_at",
    "failed": "failed_at",
    "expired": "expired_at",
    "cancelled": "cancelled_at",
}


class _Reading:
    """What has been read of a file."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.models: dict[str, None] = {}
        self.faults: list[Fault] = []
        self.total = 0
        self.waiting: list[NewLine] = []
        self.size = 0

    def take(self, line: NewLine) -> None:
        """Take a line over; raise `LineFault`."""
        if line.custom_id in self.ids:
            message = f"The custom_id {line.custom_id[:100]!r} stands in an earlier line, too."
            raise LineFault("duplicate_custom_id", message, "custom_id")
        self.ids.add(line.custom_id)
        if line.state == "waiting":
            self.models[line.model] = None
        if len(self.models) > _MOST_MODELS:
            raise LineFault("too_many_models", f"The lines of a batch may name {_MOST_MODELS} models.", "model")
        self.total += 1
        self.waiting.append(line)
        self.size += len(line.request)


class Stopped(Exception):
    """The replica ends: another one will begin anew."""


class Ends:
    """Reads and writes the files of batches.

    Its methods take a batch that the replica has made its own, and raise `StorageError`, and `Lost` where another one
    has taken it over since: this one stood still for so long that it counted as dead.
    """

    def __init__(self, database: Database, settings: GatewaySettings) -> None:
        self._database = database
        self._settings = settings
        self._store = BatchStore(database)
        self._files = Files(database)
        self._stopped = False

    def stop(self) -> None:
        """Break off what is under way between two transactions, with `Stopped`."""
        self._stopped = True

    def _go_on(self) -> None:
        if self._stopped:
            raise Stopped

    async def begin(self, batch: Batch) -> None:
        """Read a batch's file into lines, and let them run, or say why it is no batch."""
        await self._store.drop_lines(batch.id, batch)
        read = await self._read(batch)
        if read.faults:
            await self._store.drop_lines(batch.id, batch)

        def how(found: Batch) -> Batch:
            body = _held(found, batch).body
            body.models, body.total, body.faults = list(read.models), read.total, read.faults
            if found.state == "cancelling":
                body.times["in_progress_at"] = now_ms()
                return found._replace(replica="")
            if read.faults:
                body.total, body.outcome = 0, "failed"
                return entered(found, "failed", "failed_at", now_ms())._replace(replica="")
            return entered(found, "in_progress", "in_progress_at", now_ms())._replace(replica="")

        await self._store.change(batch.id, how)

    async def _read(self, batch: Batch) -> _Reading:
        read = _Reading()
        if await self._files.find(batch.project, batch.body.input_file) is None:
            read.faults.append(Fault("invalid_input_file", "The input file is gone."))
            return read
        most = self._settings.body_mb << 20
        async for number, data in lines_of(self._files.parts(batch.body.input_file), most):
            try:
                read.take(read_line(number, data, batch.body.endpoint, batch.wire, most))
            except LineFault as fault:
                read.faults.append(fault.at(number))
            if read.total > self._settings.batches.lines:
                message = f"The file has more than {self._settings.batches.lines} lines."
                read.faults.append(Fault("too_many_requests", message))
            if len(read.faults) >= _MOST_FAULTS or read.total > self._settings.batches.lines:
                return read
            if len(read.waiting) >= _LINES_AT_ONCE or read.size >= _BYTES_AT_ONCE:
                await self._write_lines(batch, read)
        await self._write_lines(batch, read)
        if not read.total and not read.faults:
            read.faults.append(Fault("empty_file", "The file has no lines."))
        return read

    async def _write_lines(self, batch: Batch, read: _Reading) -> None:
        self._go_on()
        if read.waiting and not read.faults:
            await self._store.add_lines(batch, read.waiting)
        read.waiting, read.size = [], 0

    async def drop(self, batch: Batch) -> None:
        """Let a batch end that was cancelled before it was read."""
        await self._store.drop_lines(batch.id, batch)
        await self.finish(batch)

    async def finish(self, batch: Batch) -> None:
        """Write what has become of a batch into files, and let it end."""
        counts = await self._store.counts(batch.id)
        done, others = counts.get("done", 0), sum(counts.values()) - counts.get("done", 0)
        written: list[File] = []
        if batch.api == "anthropic":
            written.append(await self._write(batch, "message_batch_output", "results", result_line, _ANY))
        elif done:
            written.append(await self._write(batch, "batch_output", "output", output_line, {"done"}))
        if batch.api == "openai" and others:
            states = {"failed", "cancelled", "expired"}
            written.append(await self._write(batch, "batch_output", "error", output_line, states))
        ids = {file.name.rpartition("_")[2].partition(".")[0]: file.id for file in written}

        def how(found: Batch) -> Batch:
            body = _held(found, batch).body
            body.counts, body.total = counts, sum(counts.values())
            body.output_file, body.error_file = ids.get("output", ids.get("results", "")), ids.get("error", "")
            return entered(found, body.outcome, _MARKS[body.outcome], now_ms())._replace(replica="")

        try:
            async with self._database.begin() as connection:
                for file in written:
                    await self._files.show(connection, file.id)
                await self._store.change_within(connection, batch.id, how)
        except Lost:
            for file in written:
                await self._files.delete_unseen(file.id)
            raise
        await self._store.drop_lines(batch.id)

    async def _write(
        self, batch: Batch, purpose: str, kind: str, form: Callable[[Batch, Ended], bytes], states: Container[str]
    ) -> File:
        now = now_ms()
        lasts_ms = batch.body.lasts_s * 1000 if batch.body.lasts_s else self._settings.batches.days * _DAY_MS
        file = File(ordered_id("file"), batch.project, f"{batch.id}_{kind}.jsonl", purpose, 0, now, now + lasts_ms)

        async def chunks() -> AsyncIterator[bytes]:
            number = 0
            while lines := await self._store.ended(batch.id, number, _LINES_AT_ONCE):
                self._go_on()
                yield b"".join(form(batch, line) for line in lines if line.state in states)
                number = lines[-1].number

        return await self._files.write(file, chunks(), 1 << 62)


def _held(found: Batch, batch: Batch) -> Batch:
    """Return a batch as it is now; raise `Lost` where another replica reads or writes it."""
    if found.replica != batch.replica:
        raise Lost
    return found


class _Any:
    """Holds everything."""

    def __contains__(self, state: object) -> bool:
        return True


_ANY = _Any()
