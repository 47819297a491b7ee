"""Watching output for a pattern that a model wrote, without ever hanging on the pattern."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from lathe.tools.output import strip_escapes

_CPU_LIMIT_S: Final = 0.25
_LONGEST_LINE: Final = 4096


class PatternWatch:
    """Looks for `pattern` in output as it comes; `done` ends with True when found, False when it takes too long."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pattern = pattern
        self._line = b""

    def feed(self, block: bytes) -> None:
        """Look at `block`, together with the unfinished line before it."""
        if self.done.done():
            return
        raw = self._line + block
        self._line = raw[raw.rfind(b"\n") + 1 :][-_LONGEST_LINE:]
        text = strip_escapes(raw.decode("utf-8", "replace")).replace("\r\n", "\n")
        try:
            with _limited_cpu():
                found = self._pattern.search(text) is not None
        except _TooSlow:
            self.done.set_result(False)
            return
        if found:
            self.done.set_result(True)


class _TooSlow(Exception):
    """A search used up its CPU time."""


class _Guard:
    searching = False
    installed = False


@contextmanager
def _limited_cpu() -> Iterator[None]:
    """Raise `_TooSlow` in the body once it has used `_CPU_LIMIT_S` seconds of CPU.

    `re` backtracks without end on some patterns, holding the interpreter all the while, but it does look for
    signals. Those reach only the main thread; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _Guard.installed:
        # Stays: taken away again, a signal still on its way would end the process.
        signal.signal(signal.SIGVTALRM, _stop_search)
        _Guard.installed = True
    _Guard.searching = True
    signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_LIMIT_S)
    try:
        yield
    finally:
        _Guard.searching = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop_search(number: int, frame: FrameType | None) -> None:
    if _Guard.searching:
        raise _TooSlow
