"""A gateway as a process of this machine, from its start to its end; also others than Lathe's, for benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LOOK_S = 0.02
_END_S = 20.0


def free_port() -> int:
    """Return a port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class GatewayProcess:
    """One that runs in `folder` and is to listen at `port`; what it prints is kept there, in `out` and `log`."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], port: int) -> None:
        self.port = port
        self._out, self._log = folder / "out", folder / "log"
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=out, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process's id, and its group's."""
        return self._process.pid

    @property
    def key(self) -> str:
        """What it has printed: Lathe's first key, "" before that."""
        return self._out.read_text(errors="replace").strip()

    @property
    def said(self) -> str:
        """The last line of its log."""
        return self._log.read_text(errors="replace").strip().rpartition("\n")[2]

    def wait(self, limit_s: float, *, for_key: bool) -> bool:
        """Block until it says that it is ready, and has printed its key; return whether that came to pass."""
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit and self._process.poll() is None:
            if self._answers() and (self.key or not for_key):
                return True
            time.sleep(_LOOK_S)
        return False

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"GET /health/readiness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                return b" 200 " in probe.recv(64)
        except OSError:
            return False

    def end(self) -> None:
        """End it and all that it started; block until it has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
                return
