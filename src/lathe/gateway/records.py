"""What is written of every request: set aside before it, settled after it, many at a time.

A caller is given no byte of an answer before the request is on record, and not the last one before it is settled:
whoever has seen an answer end can fetch its receipt. Where the database does not answer, new requests are refused and
those that are under way are kept in memory and written when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from lathe.protocol.errors import StorageError
from lathe.store.gateway.ledger import (
    Content,
    Entries,
    Judged,
    Ledger,
    LetIn,
    LineAnswer,
    Link,
    Opened,
    Settled,
    Unwritable,
)

Entry: TypeAlias = Opened | Settled | Content | LineAnswer | Judged | LetIn
_log = logging.getLogger(__name__)
Chain: TypeAlias = Callable[[dict[str, object]], tuple[Link, Callable[[], None]]]
"""Makes the next link of the audit for a record; what it gives besides says that the link was written."""

_WINDOW_S = 0.003
_LATER_S = 0.05
_AGAIN_S = (0.05, 0.2, 0.5, 1.0)
_MOST_WAITING = 100_000
_MOST_AT_ONCE = 500


class _Waiting(NamedTuple):
    entries: list[Entry]
    done: asyncio.Future[None]


class Records:
    """Writes records in the order in which they come. `healthy` is False while the database does not answer."""

    def __init__(self, ledger: Ledger, chain: Chain | None = None) -> None:
        self.healthy = True
        self.trouble = ""
        self._ledger = ledger
        self._chain = chain
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._shared = False
        self._later: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._waiting)

    def write(self, *entries: Entry, soon: bool = True) -> asyncio.Future[None]:
        """Have entries written together; the future is done when they are committed, however long that takes.

        Without `soon` it need not be now: the next ones may be written with them. Raises `StorageError` where too
        many wait already; the future raises it where an entry is such that it never can be written.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise StorageError("Too many records wait for the gateway's database.", code="records_unavailable")
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(_Waiting(list(entries), done))
        if soon:
            self.hurry()
        elif self._later is None:
            self._later = self._loop.call_later(_LATER_S, self.hurry)
        return done

    def hurry(self) -> None:
        """Write what waits now."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._waiting and (self._flushing is None or self._flushing.done()):
            self._flushing = self._loop.create_task(self._flush())

    async def written(self) -> None:
        """Wait until everything handed over so far is written, or given up."""
        if self._waiting:
            last = self._waiting[-1].done
            self.hurry()
            await asyncio.wait((last,))

    async def aclose(self, patience_s: float = 5.0) -> None:
        """Write what waits, for at most `patience_s`, and close the ledger."""
        if self._flushing is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flushing, patience_s)
        await self._ledger.aclose()

    async def _flush(self) -> None:
        if self._shared:  # with others about the commit is shared; alone, there is nothing to wait for
            await asyncio.sleep(_WINDOW_S)
        failures = 0
        most = _MOST_AT_ONCE
        while self._waiting:
            batch = self._waiting[:most]
            try:
                await self._write(batch)
            except Unwritable as error:
                most = max(1, len(batch) // 2)  # until the one at fault is alone
                if len(batch) == 1:
                    self._give_up(batch[0], error)
                continue
            except StorageError as error:
                self.healthy, self.trouble = False, str(error)
                await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
                failures += 1
                continue
            failures = 0
            most = min(2 * most, _MOST_AT_ONCE)
            self.healthy, self.trouble = True, ""
            del self._waiting[: len(batch)]
            self._shared = len(batch) > 2
            for one in batch:
                if not one.done.done():
                    one.done.set_result(None)

    def _give_up(self, one: _Waiting, error: Unwritable) -> None:
        """Do without what can't be written: without what is kept besides, or else without the record."""
        charged = [entry for entry in one.entries if isinstance(entry, Opened | Settled)]
        if 0 < len(charged) < len(one.entries):
            _log.error("What was to be kept with a request can't be written, the request is: %s", error)
            one.entries[:] = charged
            return
        _log.error("A record can't be written and is lost: %s", error)
        del self._waiting[0]
        if not one.done.done():
            one.done.set_exception(StorageError(f"The record can't be written: {error}.", code="records_unavailable"))
            one.done.exception()  # nobody need wait for it

    async def _write(self, batch: list[_Waiting]) -> None:
        opened: dict[str, Opened] = {}
        settled: list[Settled] = []
        whole: list[tuple[Opened, Settled]] = []
        rest: dict[type, list[Any]] = {Content: [], LineAnswer: [], Judged: [], LetIn: []}
        for one in batch:
            for entry in one.entries:
                if isinstance(entry, Opened):
                    opened[entry.id] = entry
                elif isinstance(entry, Settled):
                    first = opened.pop(entry.id, None)
                    if first is None:
                        settled.append(entry)
                    else:
                        whole.append((first, entry))
                else:
                    rest[type(entry)].append(entry)
        links: list[Link] = []
        written: Callable[[], None] | None = None
        ended = [*settled, *(one for _, one in whole)]
        if ended and self._chain is not None:
            digests = {one.id: hashlib.sha256(one.receipt.encode()).hexdigest() for one in ended}
            record: dict[str, object] = {"kind": "requests", "receipts": digests}
            if rest[Judged]:
                record["decisions"] = {one.id: hashlib.sha256(one.body.encode()).hexdigest() for one in rest[Judged]}
            link, written = self._chain(record)
            links.append(link)
        await self._ledger.write(Entries(whole, list(opened.values()), settled, links, *rest.values()))
        if written is not None:
            written()
