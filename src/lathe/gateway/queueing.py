"""Turns at an upstream that takes only so many requests at a time: projects take turns, batches come last."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator


class QueueTimeout(Exception):
    """No turn came in time."""


class Turns:
    """Hands out `most` turns at a time; None is no limit.

    Whoever waits is served project by project, one request each in turn, so that a project with a thousand waiting
    requests delays another's one by one at most. Those that are `idle` work are served when nobody else waits.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.running = 0
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._idle: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait, idle work left out."""
        return sum(map(len, self._queues.values()))

    @property
    def idle(self) -> int:
        """How much idle work waits."""
        return sum(map(len, self._idle.values()))

    @property
    def free(self) -> int | None:
        """How many more may come before one waits, less one for each that waits; None is no limit."""
        if self._most is None:
            return None
        return self._most - self.running - self.waiting - self.idle

    @property
    def has_room(self) -> bool:
        """Whether a request would be served at once."""
        return self._most is None or (self.running < self._most and not self._queues)

    @contextlib.asynccontextmanager
    async def turn(self, project: str, timeout_s: float, *, idle: bool = False) -> AsyncIterator[None]:
        """Hold a turn; raise `QueueTimeout` where none comes within `timeout_s`."""
        if self._most is not None:
            await self._wait(project, timeout_s, idle=idle)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._next()

    async def _wait(self, project: str, timeout_s: float, *, idle: bool) -> None:
        if self.has_room and not (idle and self._idle):
            return
        queues = self._idle if idle else self._queues
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queues.setdefault(project, deque()).append(mine)
        try:
            async with asyncio.timeout(timeout_s):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self.running -= 1  # the turn came after all; it goes on to the next
                self._next()
            else:
                self._leave(queues, project, mine)
            if isinstance(error, TimeoutError):
                raise QueueTimeout from None
            raise
        self.running -= 1  # it was counted when it was given

    def _leave(self, queues: OrderedDict[str, deque[asyncio.Future[None]]], project: str, mine: object) -> None:
        queue = queues.get(project)
        if queue is not None:
            with contextlib.suppress(ValueError):
                queue.remove(mine)  # type: ignore[arg-type]
            if not queue:
                del queues[project]

    def _next(self) -> None:
        while self._most is not None and self.running < self._most:
            queues = self._queues or self._idle
            if not queues:
                return
            project, queue = queues.popitem(last=False)
            one = queue.popleft()
            if queue:
                queues[project] = queue  # to the end of the round
            if not one.done():
                self.running += 1
                one.set_result(None)
