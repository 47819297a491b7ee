"""A drill: processes that do all they can to go on, an alarm, and a look at what is left of them.

What is left is not taken from the report of the stop alone. Each process touches a file all the time and bears a word
in its command line: a file that is still touched, a command line that is still there or a connection that is still
open is a survivor, whatever the report says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final, NamedTuple

from lathe.agent.stopping import Stopper
from lathe.protocol.errors import TurnError
from lathe.sandbox.census import named, number_inside
from lathe.sandbox.destinations import THIS_MACHINE, Destinations
from lathe.sandbox.egress import Egress
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.stopping import Stopped
from lathe.sandbox.tiers import TIERS
from lathe.tools.output import OutputBuffer
from lathe.tools.sessions import CommandSessions, Session

KINDS: Final = {
    "detached": "forks twice into a session of its own, and its parent ends",
    "nameless": "does the same, with nothing in its environment",
    "deaf": "ignores every signal that can be ignored",
    "stopped": "has stopped itself",
    "headless": "has ended its first thread, and looks like a zombie",
    "storm": "32 processes that fork all the time",
    "hopping": "forks and leaves, again and again, so that it has another number all the time",
    "tunnel": "sends through a connection that a child of it holds too",
}
"""The kinds of processes in a drill, and what each of them does."""

# Ends by itself: a drill that fails must not leave the machine with what it could not stop.
_PROGRAM: Final = """
import os, signal, sys, time
kind, word, beat, host, port = sys.argv[1:6]
end = time.monotonic() + 30
def live(pause=0.005):
    while time.monotonic() < end:
        os.utime(beat)
        time.sleep(pause)
    os._exit(0)
def leave():
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
def shut_ears():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
if kind == "detached":
    leave()
    shut_ears()
elif kind == "nameless":
    leave()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:-5], "deaf", *sys.argv[2:]], {})
elif kind == "deaf":
    shut_ears()
elif kind == "stopped":
    os.utime(beat)
    os.kill(os.getpid(), signal.SIGSTOP)
elif kind == "headless":
    import ctypes, threading
    threading.Thread(target=live).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
elif kind == "storm":
    for _ in range(5):
        os.fork()
    while time.monotonic() < end:
        child = os.fork()
        if not child:
            os.utime(beat)
            os._exit(0)
        os.waitpid(child, 0)
elif kind == "hopping":
    while time.monotonic() < end:
        os.utime(beat)
        time.sleep(0.0005)
        if os.fork():
            os._exit(0)
        os.setsid()
    os._exit(0)
elif kind == "tunnel":
    import socket
    link = socket.create_connection((host, int(port)))
    shut_ears()
    os.fork()
    while time.monotonic() < end:
        link.sendall(bytes(1024))
        os.utime(beat)
        time.sleep(0.002)
live()
"""
_READY_S: Final = 15.0
_QUIET_S: Final = 0.05
_BASELINE_S: Final = 0.2
_TIERS: Final = {"A": "bubblewrap", "B": "machine-proc", "C": "shared-network", "D": "landlock", "E": "container"}
_WITHOUT_NETWORK: Final = frozenset("CDE")
_PROCESSES: Final = 512


class Drill(NamedTuple):
    """One drill: in which kind of sandbox, with which kinds of processes, and what came of the alarm.

    `seconds` pass from the alarm until it is certain that nothing is left. `survivors` are described in words.
    `by_kill` counts what a plain kill of each command's own process left before, None where that was not tried.
    """

    letter: str
    kinds: tuple[str, ...]
    seconds: float
    stopped: Stopped
    survivors: tuple[str, ...]
    by_kill: int | None = None


async def drill(letter: str = "", kinds: tuple[str, ...] = (), *, baseline: bool = False) -> Drill:
    """Run a drill in a kind of sandbox, by its letter, or in the strongest that works, and return what came of it.

    With `baseline` the commands are killed by their numbers first, and what is left is counted. Raises `ConfigError`
    where there is no such sandbox, `TurnError` where the processes don't start.
    """
    workspace = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="lathe-drill-"))
    ground = _Ground(workspace, letter, kinds or tuple(KINDS))
    try:
        await ground.start()
        by_kill = await ground.kill_by_number() if baseline else None
        stopper = Stopper(ground.sessions)
        stopped = await stopper.stop("This is a drill.")
        survivors = await ground.survivors(stopped)
        return Drill(ground.letter, ground.kinds, stopped.proven_s, stopped, survivors, by_kill)
    finally:
        await ground.aclose()
        await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)


class _Ground:
    """Where a drill takes place: a session, its processes, and the far end of the tunnel."""

    def __init__(self, workspace: Path, letter: str, kinds: tuple[str, ...]) -> None:
        self.letter = letter
        self.kinds = tuple(kind for kind in kinds if kind != "tunnel" or letter not in _WITHOUT_NETWORK)
        self._word = uuid.uuid4().hex
        self._workspace = workspace
        self._server: asyncio.Server | None = None
        self._tunnels: set[asyncio.StreamWriter] = set()
        self._received = 0
        self._commands: list[Session] = []
        free = letter == "F"
        policy = SandboxPolicy(
            mode="danger-full-access" if free else "workspace-write", writable_roots=(str(workspace),), network=free
        )
        self._host = "127.0.0.1" if free else THIS_MACHINE
        self.sessions = CommandSessions(
            policy,
            cwd=workspace,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(workspace)},
            limits=Limits(processes=_PROCESSES),
            egress=None if free else Egress(Destinations((THIS_MACHINE,))),
            tiers=(_TIERS[letter],) if letter in _TIERS else TIERS,
        )

    def _beat(self, kind: str) -> Path:
        return self._workspace / kind

    async def start(self) -> None:
        """Start all processes, and return when each of them is at work."""
        await self.sessions.start()
        self.letter = self.sessions.letter
        if self.letter in _WITHOUT_NETWORK:
            self.kinds = tuple(kind for kind in self.kinds if kind != "tunnel")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        script = self._workspace / "drill.py"
        script.write_text(_PROGRAM, encoding="utf-8")
        python = os.path.realpath(sys.executable)
        for kind in self.kinds:
            self._beat(kind).touch()
            os.utime(self._beat(kind), (0, 0))
            words = [python, "-I", "-S", str(script), kind, self._word, str(self._beat(kind)), self._host, str(port)]
            buffer = OutputBuffer(1000, self._workspace / f"{kind}.log")
            session = await self.sessions.open(" ".join(words), buffer, cwd=str(self._workspace))
            self.sessions.keep(session)
            self._commands.append(session)
        limit = time.monotonic() + _READY_S
        while waiting := [kind for kind in self.kinds if not self._beat(kind).stat().st_mtime]:
            if time.monotonic() > limit:
                raise TurnError(f"The drill could not begin: no sign of {', '.join(waiting)}.")
            await asyncio.sleep(0.005)

    async def kill_by_number(self) -> int:
        """Kill each command's own process by its number, as is often thought to be enough; return how many are left."""
        inner = {session.process.pid for session in self._commands}
        for pid in await asyncio.to_thread(named, self._word):
            with contextlib.suppress(OSError):
                if number_inside(pid) in inner:
                    os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_BASELINE_S)
        return len(await asyncio.to_thread(named, self._word))

    async def survivors(self, stopped: Stopped) -> tuple[str, ...]:
        """Return what is still there, each in words."""
        found = [f"{one.program} ({one.pid}) is reported" for one in stopped.survivors]
        if not stopped.sure:
            found.append("it is not certain that nothing is left")
        found += [f"process {pid} runs" for pid in await asyncio.to_thread(named, self._word)]
        before = {kind: self._beat(kind).stat().st_mtime_ns for kind in self.kinds}
        received = self._received
        await asyncio.sleep(_QUIET_S)
        found += [f"{kind} is at work" for kind in self.kinds if self._beat(kind).stat().st_mtime_ns != before[kind]]
        if self._tunnels or self._received != received:
            found.append("the tunnel is open")
        return tuple(found)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tunnels.add(writer)
        try:
            while data := await reader.read(65536):
                self._received += len(data)
        except OSError:
            pass  # cut, as it should be
        finally:
            self._tunnels.discard(writer)
            writer.close()

    async def aclose(self) -> None:
        """End all that is left, and the far end of the tunnel."""
        await self.sessions.aclose()
        if self._server is not None:
            self._server.close()
