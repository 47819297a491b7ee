"""The thread that a monitor looks in, and the watchdog that raises an alarm when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from lathe.guard.policy import MonitorState

_T = TypeVar("_T")

LATE_S: Final = 5.0
"""How long a look may take; one that takes longer is late."""
SILENT_S: Final = 5.0
"""How long a monitor may say nothing while a risky act runs; then it counts as dead."""
_MOST_WAITING: Final = 16
_EVERY_S: Final = 0.5


class _Work(Generic[_T]):
    """Something for the monitor's thread to do, and what came of it."""

    def __init__(self, do: Callable[[], _T]) -> None:
        self.do = do
        self.done = threading.Event()
        self.result: _T | None = None
        self.error: Exception | None = None
        self.heard: Callable[[], None] = lambda: None


class Overseer:
    """Does a monitor's work in a thread of its own, in order, and says how it did."""

    def __init__(self, late_s: float = LATE_S) -> None:
        self._late_s = late_s
        self._queue: SimpleQueue[_Work[object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def ask(self, do: Callable[[], _T]) -> tuple[_T | None, MonitorState]:
        """Return what `do` returns and "ok"; None and how the monitor failed, where it did."""
        if self._queue.qsize() >= _MOST_WAITING:
            return None, "flooded"
        loop = asyncio.get_running_loop()
        work = _Work(do)
        heard = asyncio.Event()
        work.heard = lambda: _tell(loop, heard)
        self._give(work)
        try:
            await asyncio.wait_for(heard.wait(), self._late_s)
        except TimeoutError:
            return None, "late" if self.alive else "dead"
        return (work.result, "ok") if work.error is None else (None, "wrong")

    @property
    def alive(self) -> bool:
        """Whether there is a thread to answer; one that has not begun yet will."""
        return self._thread is None or self._thread.is_alive()

    def ping(self) -> threading.Event:
        """Return what is set as soon as the thread has come to it."""
        work: _Work[None] = _Work(lambda: None)
        self._give(work)
        return work.done

    def restart(self) -> None:
        """Go on in a new thread; the old one, which does not answer, is left to its end."""
        self._queue.put(None)
        self._queue, self._thread = SimpleQueue(), None

    close = restart

    def _give(self, work: _Work[_T]) -> None:
        if self._thread is None:
            queue = self._queue
            self._thread = threading.Thread(target=_serve, args=(queue,), name="lathe-overseer", daemon=True)
            self._thread.start()
        self._queue.put(work)  # type: ignore[arg-type]


def _serve(queue: SimpleQueue[_Work[object] | None]) -> None:
    while (work := queue.get()) is not None:
        try:
            work.result = work.do()
        except Exception as error:
            work.error = error
        work.done.set()
        work.heard()


def _tell(loop: asyncio.AbstractEventLoop, heard: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(heard.set)


class Watchdog:
    """Raises an alarm, from a thread of its own, when the overseer does not answer while a risky act runs."""

    def __init__(self, overseer: Overseer, alarm: Callable[[], None], silent_s: float = SILENT_S) -> None:
        self._overseer = overseer
        self._alarm = alarm
        self._silent_s = silent_s
        self._running = 0
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """See to it that the overseer answers for as long as this lasts."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lathe-watchdog", daemon=True)
            self._thread.start()
        self._running += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._wanted.clear()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            if not self._answers(self._overseer.ping()) and self._running:
                self._overseer.restart()
                self._alarm()
            self._closed.wait(_EVERY_S)

    def _answers(self, answer: threading.Event) -> bool:
        since = time.monotonic()
        while True:
            began = time.monotonic()
            if answer.wait(_EVERY_S):
                return True
            now = time.monotonic()
            if now - began > 2 * _EVERY_S:
                since = now  # this thread was held up as well: the machine slept, or all of Lathe did
            if self._closed.is_set() or not self._overseer.alive or now - since > self._silent_s:
                return self._closed.is_set()
