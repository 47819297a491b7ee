"""Works on the batches that there are, as one replica of several.

Lines fill what is idle: a replica claims as many as the upstreams of their models have free turns, and one more for
each, which waits there behind everybody else. A line whose turn is refused by a limit of the gateway's own waits
again, and so does one whose upstream is out of order; all else is its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import select

from lathe.gateway.batches.batch import SCOPES, Batch, LineState, Work
from lathe.gateway.batches.ends import Ends, Stopped
from lathe.gateway.batches.files import Files
from lathe.gateway.batches.store import BatchStore, Lost, entered
from lathe.gateway.compacting import Captured
from lathe.gateway.dialects import DIALECTS
from lathe.gateway.directory import STALE_S
from lathe.gateway.exchange import Line, Request, now_ms
from lathe.gateway.principals import Principal
from lathe.gateway.relay import Relay
from lathe.gateway.services import Services
from lathe.protocol.errors import StorageError
from lathe.store.gateway.ledger import LineAnswer
from lathe.store.gateway.schema import keys

_log = logging.getLogger(__name__)
_TICK_S = 1.0
_SWEEP_S = 60.0
_STOP_S = 5.0
_LIMITS = frozenset({"rate_limit", "concurrency_limit", "budget_exhausted"})
"""Codes of refusals by limits of the gateway's own."""
_NOT_YET = frozenset({"queue_timeout", "model_unavailable", "records_unavailable", "directory_stale"})
_PASSING = frozenset({408, 429, 500, 502, 503, 504, 529})
_MOST_TRIES = 6
_PAUSES_S = (1.0, 5.0, 15.0, 30.0, 60.0)
_LONGEST_REST_S = 30.0
_OWN = "mend"


class _Told(NamedTuple):
    """What an answer that is no success says of itself."""

    code: str
    message: str
    wait_s: float | None


class Runner:
    """One replica's. `poke` has it look at once; `working` is held as long as it does."""

    def __init__(self, relay: Relay, services: Services) -> None:
        self._relay = relay
        self._services = services
        self._replica = services.replica
        self._most = services.settings.batches.running
        self._store = BatchStore(services.database)
        self._files = Files(services.database)
        self._ends = Ends(services.database, services.settings)
        self._news = asyncio.Event()
        self.working = asyncio.Lock()
        self._lines: dict[asyncio.Task[None], Work] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._unasked: list[Work] = []
        self._unanswered: list[Work] = []
        self._rests: dict[str, float] = {}
        self._notes: dict[str, str] = {}
        self._window: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._swept = 0.0
        self._ticked = 0.0

    @property
    def running(self) -> int:
        """How many lines this replica has under way."""
        return len(self._lines)

    def poke(self) -> None:
        """Have a look at once at what there is to do."""
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled; what is under way then is given back."""
        trouble = False
        try:
            while True:
                self._news.clear()
                try:
                    async with self.working:
                        await self._round()
                    trouble = False
                except StorageError as error:
                    if not trouble:
                        _log.warning("Batches wait: %s", error)
                    trouble = True
                    await asyncio.sleep(_TICK_S)
                except Exception:
                    _log.exception("Batches wait.")
                    await asyncio.sleep(_LONGEST_REST_S)
                with contextlib.suppress(TimeoutError):  # wait_for could swallow the cancel, before Python 3.12
                    async with asyncio.timeout(_TICK_S):
                        await self._news.wait()
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        works = [*self._lines.values(), *self._unasked, *self._unanswered]
        self._ends.stop()
        if self._jobs:
            await asyncio.wait(self._jobs.values(), timeout=_STOP_S)
        tasks = [*self._lines, *self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_TICK_S):
                await self._relay.records.write()  # answers that are on their way to the database come first
                await self._store.release([work.place for work in works], self._replica)

    async def _round(self) -> None:
        await self._release()
        batches = await self._store.active()
        if time.monotonic() - self._ticked > _TICK_S:
            self._ticked = time.monotonic()
            await self._tidy(batches)
        await self._say(batches)
        running = Counter(work.batch.project for work in self._lines.values())
        for batch in sorted(batches, key=lambda batch: running[batch.project]):
            await self._advance(batch)

    async def _release(self) -> None:
        """Give back the lines that were refused."""
        for works, untried in ((self._unasked, True), (self._unanswered, False)):
            some = works[:]
            if some:
                await self._store.release([work.place for work in some], self._replica, untried=untried)
                del works[: len(some)]

    async def _tidy(self, batches: list[Batch]) -> None:
        if batches:
            if lost := await self._store.take_back():
                _log.warning("%d lines of batches of a replica that died wait again.", lost)
            await self._take_back_own()
        if time.monotonic() - self._swept > _SWEEP_S:
            self._swept = time.monotonic()
            for id in await self._store.leftover():
                await self._store.drop_lines(id)
            for id in await self._store.expired():
                await self._store.delete(id)
            await self._files.sweep()

    async def _take_back_own(self) -> None:
        """Give lines back that this replica has claimed without hearing of it: the database's answer was lost."""
        if self._relay.records.waiting:
            return  # one of them may have been answered
        claimed = await self._store.running(self._replica)
        known = {work.place for work in (*self._lines.values(), *self._unasked, *self._unanswered)}
        if strays := [place for place in claimed if place not in known]:
            await self._store.release(strays, self._replica, untried=True)

    async def _advance(self, batch: Batch) -> None:
        """Do what is next in a batch, as far as it is for this replica to do."""
        if batch.id in self._jobs:
            return
        begun = "in_progress_at" in batch.body.times
        if batch.state == "validating":
            await self._job(batch, self._ends.begin)
        elif batch.state == "finalizing":
            await self._job(batch, self._ends.finish)
        elif not begun:
            await self._job(batch, self._ends.drop)
        elif batch.state == "in_progress" and batch.deadline > now_ms():
            await self._run_lines(batch)
        else:
            state: LineState = "cancelled" if batch.state == "cancelling" else "expired"
            await self._store.end_waiting(batch.id, state)  # some may have been given back since
            await self._close(batch)

    async def _job(self, batch: Batch, work: Callable[[Batch], Awaitable[None]]) -> None:
        """Have this replica read or write a batch's files, if no other one does."""
        if not await self._store.take(batch, self._replica):
            return

        async def job() -> None:
            try:
                await work(batch._replace(replica=self._replica))
            except (Stopped, Lost):
                pass
            except StorageError as error:
                _log.warning("The batch %s waits: %s", batch.id, error)
                await asyncio.sleep(_TICK_S)
            except Exception:
                _log.exception("The batch %s can't be worked on.", batch.id)
                await asyncio.sleep(_PAUSES_S[-1])
            finally:
                self._jobs.pop(batch.id, None)
                self.poke()

        self._jobs[batch.id] = asyncio.create_task(job())

    async def _close(self, batch: Batch) -> None:
        """Let a batch be finished whose lines have all ended."""
        if any(work.batch.id == batch.id for work in self._lines.values()) or await self._store.has_open(batch.id):
            return

        def how(found: Batch) -> Batch | None:
            if found.state not in ("in_progress", "cancelling"):
                return None
            if found.state == "in_progress" and found.deadline <= now_ms():
                found.body.outcome = "expired"
            return entered(found, "finalizing", "finalizing_at", now_ms())

        await self._store.change(batch.id, how)
        self.poke()

    # Lines.

    async def _run_lines(self, batch: Batch) -> None:
        directory = self._services.directory
        if directory.age_s > STALE_S and not await directory.assure():
            return
        who = await self._who(batch)
        if who is None or self._relay.retention(who) == "zero":
            await self._refuse_rest(batch, who)
        elif not self._rests_now(f"project:{batch.project}"):
            claimed = 0
            for model in batch.body.models:
                room = self._room(batch, model)
                works = await self._store.claim(batch, model, self._replica, room) if room > 0 else []
                claimed += len(works)
                for work in works:
                    self._start(work, who)
            if claimed:
                self._notes[batch.id] = ""
        if not self._has_lines(batch):
            await self._close(batch)

    def _has_lines(self, batch: Batch) -> bool:
        return any(work.batch.id == batch.id for work in self._lines.values())

    async def _who(self, batch: Batch) -> Principal | None:
        """Return as whom the lines are asked: the owner of the key that made the batch, or of the one that replaced it.

        None where there is no such key any more, or it may ask no models.
        """
        directory = self._services.directory
        found = directory.principal(self._digests.get(batch.key, ""))
        if found is None:
            digest = await self._digest(batch.key)
            self._digests[batch.key] = digest
            found = directory.principal(digest)
        if found is None or found.project != batch.project or not found.scopes & SCOPES:
            return None
        return found._replace(surface="batch")

    async def _digest(self, key: str) -> str:
        async with self._services.database.begin() as connection:
            while True:
                row = (await connection.execute(select(keys.c.digest).where(keys.c.id == key))).one_or_none()
                if row is None or self._services.directory.principal(row.digest) is not None:
                    return row.digest if row is not None else ""
                newer = await connection.execute(select(keys.c.id).where(keys.c.replaces == key).limit(1))
                if (next_key := newer.scalar_one_or_none()) is None:
                    return ""
                key = next_key

    async def _refuse_rest(self, batch: Batch, who: Principal | None) -> None:
        code, message = "key_unknown", "The key that made the batch has expired or was revoked."
        if who is not None:
            code, message = "zero_retention", "The project keeps nothing any more (zero retention)."
        answer = DIALECTS[batch.wire].error(403, code, message).decode()
        await self._store.end_waiting(batch.id, "failed", 403, answer)

    def _room(self, batch: Batch, model: str) -> int:
        """Return how many more lines for a model this replica should have under way."""
        upstreams = self._relay.upstreams
        name = upstreams.names.get(model, "")
        if name in upstreams.down() or self._rests_now(f"model:{name}"):
            return 0
        project = sum(work.batch.project == batch.project for work in self._lines.values())
        room = min(self._most - len(self._lines), self._window.get(batch.project, self._most) - project)
        served = upstreams.models.get(name)
        if served is None:
            return room
        upstream = upstreams.order(served)[0].upstream
        if upstream is None:  # the embedded engine works on this very machine
            return 0 if any(upstreams.names.get(work.model) == name for work in self._lines.values()) else min(1, room)
        free = upstream.turns.free
        return room if free is None else min(room, free + 1)

    def _rests_now(self, what: str) -> bool:
        until = self._rests.get(what)
        if until is not None and until <= time.monotonic():
            del self._rests[what]
            return False
        return until is not None

    def _start(self, work: Work, who: Principal) -> None:
        task = asyncio.create_task(self._line(work, who))
        self._lines[task] = work
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._lines.pop(task, None)
        self.poke()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("A line of a batch failed within the gateway.", exc_info=error)

    async def _line(self, work: Work, who: Principal) -> None:
        """Ask for a line; its answer is written with the record of the request, or here if it is no success."""
        batch, sink = work.batch, Captured()
        headers = {name.encode("latin-1"): value.encode("latin-1") for name, value in batch.body.headers.items()}
        line = Line(batch.id, work.number)
        await self._relay.relay(Request(who, batch.wire, headers, work.request.encode(), line), sink)
        project = batch.project
        if 200 <= sink.status < 300:
            window = self._window.get(project)
            if window is not None:
                self._window[project] = min(self._most, window + 1)
            return
        told = _told(sink)
        if told.code in _LIMITS:
            self._window[project] = 1
            self._rest(f"project:{project}", told.wait_s or _LONGEST_REST_S)
            self._unasked.append(work)
            self._notes[batch.id] = told.message
        elif told.code in _NOT_YET:
            self._rest(f"model:{self._relay.upstreams.names.get(work.model, '')}", _PAUSES_S[0])
            self._unasked.append(work)
            self._notes[batch.id] = told.message
        elif sink.status in _PASSING and work.tries < _MOST_TRIES:
            pause_s = max(told.wait_s or 0.0, _PAUSES_S[min(work.tries, len(_PAUSES_S)) - 1])
            self._rest(f"model:{self._relay.upstreams.names.get(work.model, '')}", pause_s)
            self._unanswered.append(work)
            self._notes[batch.id] = told.message
        else:
            text = sink.body.decode("utf-8", "replace").replace("\0", "")
            asked = next((value.decode() for name, value in sink.lines if name == b"x-request-id"), "")
            await self._relay.records.write(LineAnswer(*line, "failed", asked, sink.status, text))

    def _rest(self, what: str, for_s: float) -> None:
        until = time.monotonic() + min(for_s, 2 * _LONGEST_REST_S)
        self._rests[what] = max(until, self._rests.get(what, 0.0))

    async def _say(self, batches: list[Batch]) -> None:
        """Let callers see what batches wait for."""
        for batch in batches:
            note = self._notes.pop(batch.id, batch.note)
            if note != batch.note:
                await self._store.say(batch.id, note)
        known = {batch.id for batch in batches}
        self._notes = {id: note for id, note in self._notes.items() if id in known}


def _told(sink: Captured) -> _Told:
    lines: Mapping[bytes, bytes] = dict(sink.lines)
    wait = lines.get(b"retry-after", b"")
    try:
        error = msgspec.json.decode(sink.body)["error"]
        code, message = str(error["lathe"]["code"]), str(error["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        code = message = ""
    return _Told(code, message, float(wait) if wait.isdigit() else None)
