"""One running process, as the tools see it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Sequence
from typing import Protocol

_BLOCK = 65536
_LAST_BLOCKS = 1 << 20  # what a pipe or a terminal can hold at most; read when a process has ended


class SpawnError(Exception):
    """A process could not be started; the message is one sentence that says why."""


class Send(Protocol):
    """Sends a message to the exec server, and closes the fds that went with it; returns whether there is one."""

    def __call__(self, fields: Sequence[str], fds: Sequence[int] = ()) -> bool: ...


class Process:
    """A process that a `Runner` started.

    `name` is the mark in its environment, `pid` its number where it runs (in the sandbox's own pid namespace),
    `returncode` its exit status, a negative signal number where a signal ended it, and None until all that it wrote
    was handed to `on_output`.
    """

    def __init__(self, name: str, on_output: Callable[[bytes], None], send: Send, known: dict[str, Process]) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.name = name
        self._on_output = on_output
        self._send = send
        # where the runner looks for whom a message is; a process that can tell nothing more leaves it
        self._known = known
        known[name] = self
        self._loop = asyncio.get_running_loop()
        self.started: asyncio.Future[OSError | None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._dead: asyncio.Future[None] | None = None
        self._output = -1
        self._input = -1
        self._tty = False
        self._unwritten = bytearray()
        self._closing = False

    # what tools call

    async def wait(self) -> int:
        """Return the exit status once the process itself has ended; its children may still run and write."""
        await asyncio.shield(self._ended)
        assert self.returncode is not None
        return self.returncode

    def write(self, data: bytes) -> None:
        """Write to the process's standard input or terminal, now or when it has room; nothing if it is closed."""
        if self._input < 0 or self._closing:
            return
        self._unwritten += data
        self._write()

    def close_stdin(self) -> None:
        """End the standard input once all is written; a terminal gets ^D instead."""
        if self._tty:
            self.write(b"\x04")
        elif not self._closing:
            self._closing = True
            self._write()

    def interrupt(self) -> None:
        """Send SIGINT to the process's group, or ^C to its terminal."""
        if self._tty and self._input >= 0:
            self.write(b"\x03")
        elif self.pid:
            self._send(["I", self.name, str(self.pid)])

    async def kill(self) -> None:
        """End the process and all that came from it: SIGTERM, half a second later SIGKILL; return when it is done."""
        if self._dead is None:
            self._dead = self._loop.create_future()
            self._known[self.name] = self
            if not self._send(["K", self.name, str(self.pid)]):
                self.lost()
        await asyncio.shield(self._dead)

    # what the runner calls

    def open_pipes(self, stdin: bool) -> list[int]:
        """Make the pipes; return the ends for the exec server."""
        self._output, theirs = os.pipe()
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        if not stdin:
            return [theirs]
        source, self._input = os.pipe()
        os.set_blocking(self._input, False)
        return [theirs, source]

    def has_started(self, pid: int, fds: Sequence[int]) -> None:
        self.pid = pid
        if fds:
            self._tty = True
            self._output = self._input = fds[0]
            os.set_blocking(fds[0], False)
            self._loop.add_reader(fds[0], self._read)
        if not self.started.done():
            self.started.set_result(None)

    def has_failed(self, error: OSError) -> None:
        self._leave()
        if not self.started.done():
            self.started.set_result(error)

    def has_exited(self, returncode: int) -> None:
        try:
            self._drain()
        finally:  # an error of whoever listens does not change that it has ended
            self.returncode = returncode
            if self._output < 0 and self._dead is None:
                self._leave()
            if not self._ended.done():
                self._ended.set_result(None)

    def is_dead(self) -> None:
        """The whole tree is gone."""
        try:
            self._drain()
        finally:
            self.lost()

    def lost(self) -> None:
        """There is nobody left to hear from: settle everything."""
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
        self.has_failed(OSError(errno.ECANCELED, "ended"))
        if not self._ended.done():
            self._ended.set_result(None)
        if self._dead is None:
            self._dead = self._loop.create_future()
        if not self._dead.done():
            self._dead.set_result(None)

    # the pipes

    def _read(self) -> bool:
        """Hand one block over; return whether there may be more."""
        try:
            data = os.read(self._output, _BLOCK)
        except BlockingIOError:
            return False
        except OSError:  # a terminal that nobody holds any more
            data = b""
        if data:
            self._on_output(data)
            return True
        self._loop.remove_reader(self._output)
        os.close(self._output)
        if self._tty:
            self._loop.remove_writer(self._output)
            self._unwritten.clear()
            self._input = -1
        self._output = -1
        if self.returncode is not None and self._dead is None:
            self._leave()
        return False

    def _drain(self) -> None:
        """Hand over what is there, but not for ever: a child that still runs may write without end."""
        for _ in range(_LAST_BLOCKS // 4096):
            if self._output < 0 or not self._read():
                return

    def _write(self) -> None:
        while self._unwritten:
            try:
                written = os.write(self._input, self._unwritten[:_BLOCK])
            except BlockingIOError:
                self._loop.add_writer(self._input, self._write)
                return
            except OSError:  # nobody reads any more
                self._unwritten.clear()
                self._closing = not self._tty
                break
            del self._unwritten[:written]
        if self._input >= 0:
            self._loop.remove_writer(self._input)
            if self._closing:
                os.close(self._input)
                self._input = -1

    def _leave(self) -> None:
        """Close what is open; a terminal is one file for both ways."""
        self._unwritten.clear()
        for fd in {self._output, self._input} - {-1}:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)
        self._output = self._input = -1
        self._known.pop(self.name, None)
