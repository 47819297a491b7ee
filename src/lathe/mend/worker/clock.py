"""How long a test may run: CPU and wall, with the place where it was when its time was up."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Collection
from types import FrameType

_REPEAT_S = 0.5
_GRACE_S = 0.4
_EARLY_S = 0.05
_LEAST_S = 0.0005
LAST = signal.SIGPROF  # ends a process that does not listen
_CLOCKS = (time.monotonic, time.process_time)  # in a tuple, out of reach of libraries that stop the time for tests


class TimeUp(BaseException):
    """A test has used up its time. Not an `Exception`, so that the code under test does not swallow it."""


class Clock:
    """One clock a process. When it runs out, `TimeUp` is raised wherever the code is, and again and again.

    It looks at the CPU time whenever the wall clock says that it may be used up: the kernel's own timers of CPU time
    count whole ticks, which are longer than most tests. A loop that never comes back to Python code cannot be
    interrupted so: the kernel ends the process a little later.
    """

    def __init__(self, root: str) -> None:
        self.place: list[tuple[str, int]] | None = None
        self.function: tuple[str, int] | None = None
        self._root = root + os.sep
        self._suspects: Collection[object] = ()
        self._rest_s = self._limit = self._began = self._wall_end = 0.0
        signal.signal(signal.SIGALRM, self._time_up)
        signal.signal(LAST, signal.SIG_DFL)

    def start(self, cpu_s: float, wall_s: float, suspects: Collection[object] = ()) -> None:
        """Begin to count, from nothing. In one of the functions in `suspects` time is up early."""
        self.place = self.function = None
        self._suspects = suspects
        self._limit = min(cpu_s, _EARLY_S) if suspects else cpu_s
        self._rest_s = max(0.0, cpu_s - _EARLY_S) if suspects else 0.0
        self._began = _CLOCKS[1]()
        self._wall_end = _CLOCKS[0]() + wall_s
        signal.setitimer(signal.ITIMER_REAL, min(self._limit, wall_s), _REPEAT_S)
        signal.setitimer(signal.ITIMER_PROF, 2 * cpu_s + _GRACE_S)

    def stop(self) -> bool:
        """Stop counting, and return whether the time was up; `place` is then where, outermost frame
        first, and `function` the innermost of the project."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return self.place is not None

    def _time_up(self, number: int, frame: FrameType | None) -> None:
        if self.place is None:
            if self._is_early(frame):
                return
            self.function = self._function_of(frame)
            places = []
            while frame is not None:
                if frame.f_code.co_filename.startswith(self._root):
                    # what a compiler has added has no line: then its function stands for it
                    line = frame.f_lineno or frame.f_code.co_firstlineno
                    places.append((frame.f_code.co_filename[len(self._root) :], line))
                frame = frame.f_back
            self.place = places[::-1]
        raise TimeUp

    def _is_early(self, frame: FrameType | None) -> bool:
        """Return whether the time is not up, and count on."""
        wall_left = self._wall_end - _CLOCKS[0]()
        if wall_left <= 0:
            return False
        left = self._limit - (_CLOCKS[1]() - self._began)
        if left <= 0:
            if not self._rest_s or self._function_of(frame) in self._suspects:
                return False
            left, self._rest_s = self._rest_s, 0.0
            self._limit += left
        signal.setitimer(signal.ITIMER_REAL, max(_LEAST_S, min(left, wall_left)), _REPEAT_S)
        return True

    def _function_of(self, frame: FrameType | None) -> tuple[str, int] | None:
        while frame is not None and not frame.f_code.co_filename.startswith(self._root):
            frame = frame.f_back
        if frame is None:
            return None
        return frame.f_code.co_filename[len(self._root) :], frame.f_code.co_firstlineno


def cpu() -> float:
    """Return the CPU seconds that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
