"""A pytest plugin that ends tests which would never end, so that the others are heard of.

It runs under the project's own interpreter, of whatever version, and imports nothing of Lathe's.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

FIRST_S = 60.0
"""How long the first test may take that does not end; a suite may well have a slow one."""
_NEXT_S = 5.0
_AGAIN_S = 1.0


class Endless(Exception):
    """Raised in a test that takes too long."""


class _Watch:
    def __init__(self) -> None:
        self.slowest = 0.0
        self.met = False

    @property
    def limit(self) -> float:
        """After one test that did not end, others get three times as long as the slowest one that did."""
        return min(FIRST_S, max(_NEXT_S, 3 * self.slowest)) if self.met else FIRST_S


_watch = _Watch()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    """Run a test under a limit, where nobody else uses the clock."""
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    limit, began = _watch.limit, time.monotonic()

    def ring(number: int, frame: object) -> None:
        _watch.met = True
        raise Endless(f"the test did not end within {limit:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit, _AGAIN_S)  # again, for code that catches everything
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    took = time.monotonic() - began
    if took < limit:
        _watch.slowest = max(_watch.slowest, took)
