"""The standard streams, made to last: a closed one is replaced, a full or odd one never ends in a traceback."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # `typing` would cost `lathe --version` more than all the rest
if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer


class _Steady(io.FileIO):
    """A stream that waits where another program has made its terminal or pipe non-blocking."""

    def write(self, data: ReadableBuffer, /) -> int:
        while (written := super().write(data)) is None:
            import select

            poll = select.poll()
            poll.register(self.fileno(), select.POLLOUT)
            poll.poll()
        return written


class _Dispensable(_Steady):
    """A stream for news on the way: what can't be written is left out, and the work goes on."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make sure of file descriptors 0, 1 and 2, and that no text is one that stdout or stderr can't take.

    A file that is opened while one of the three is closed would get its number, and what is meant for people
    would be written into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _text(_Steady(1, "w", closefd=False), sys.stdout, "replace")
    sys.stderr = _text(_Dispensable(2, "w", closefd=False), sys.stderr, "backslashreplace")


def let_go_of_stdout() -> None:
    """Send what is still to be written to stdout nowhere: its reader is gone, or its disk full."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _text(raw: io.FileIO, old: TextIO | None, errors: str) -> io.TextIOWrapper:
    encoding = old.encoding if old is not None else "utf-8"
    by_line = raw.fileno() == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=by_line)
