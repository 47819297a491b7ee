"""The server's side of its children and of its orders: messages on descriptors."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from typing import Any

from lathe.mend.worker.runs import temporary_of

_LATE_S = 2.0


class Child:
    """A forked child as its parent sees it: what it reports, and until when the test that runs may take."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor
        self.test = -1
        self.ended_by = 0
        self.finished = False
        self.killed = False
        self.deadline = time.monotonic() + 60
        self._rest = b""
        self._open = True

    def wait(self) -> list[dict[str, Any]] | None:
        """Return the next messages; None when there will be no more."""
        if not self._open:
            return None
        ready, _, _ = select.select([self.descriptor], [], [], max(0.0, self.deadline - time.monotonic()))
        if not ready:
            self.killed = True
            self.close()
            return None
        return self.read()

    def read(self) -> list[dict[str, Any]] | None:
        """Read once from a pipe that is ready."""
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            self.close()
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            if "start" in message:
                self.test = message["start"]
                self.deadline = time.monotonic() + message["wall"] + _LATE_S
            elif "end" in message:
                self.finished = True
                self.close()
        return messages

    def close(self) -> None:
        """End the child and everything it started."""
        if self._open:
            self._open = False
            os.close(self.descriptor)
            for end in (os.killpg, os.kill):
                try:
                    end(self.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            _, status = os.waitpid(self.pid, 0)
            self.ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            shutil.rmtree(temporary_of(self.pid), ignore_errors=True)


class Messages:
    """JSON messages from a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    @property
    def is_ready(self) -> bool:
        """Whether the next message has come already."""
        return b"\n" in self._rest

    def next(self) -> Any:
        """Return the next message; None at the end."""
        while not self.is_ready:
            data = os.read(self.descriptor, 1 << 16)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)
