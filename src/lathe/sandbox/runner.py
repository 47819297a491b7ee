"""Running processes under a policy: the Lathe side of the exec server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.protocol.errors import LatheError
from lathe.sandbox.limits import Controls, Limits, control
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.process import Process, SpawnError
from lathe.sandbox.tiers import TIERS, Launch, Server, launch

if TYPE_CHECKING:
    from lathe.sandbox.census import Reach
    from lathe.sandbox.cgroups import Cgroup
    from lathe.sandbox.egress import Egress
    from lathe.sandbox.keeping import Keeper
    from lathe.sandbox.mounts import Mount
    from lathe.sandbox.stopping import Stopped
    from lathe.sandbox.writes import Writes

__all__ = ["Process", "Runner", "SpawnError"]
_PACKET = 60_000  # below every default socket buffer; longer messages travel in a memory file


class Runner:
    """Starts processes under one policy; all of them die with it, and with Lathe.

    `tier` says what confines them: "bubblewrap", "landlock", "container" or "none", `letter` which kind of it
    (`lathe.sandbox.ladder`); both are known after `start`. `env` is the
    whole environment of the commands, `hidden` are more paths that they may not see, `readable` paths below a
    hidden one that they may read. `egress` is the way out where the policy gives them a network of their own.
    `controls` are the `limits` as they are in force; there are none before `start`, nor without a sandbox. In the
    folder `memory` lies, while commands run, what `keeping.recover` needs if Lathe is killed. `writes` is told of
    every wish to change a file. `start` starts an exec server, where it is not one of the tiers.
    """

    def __init__(
        self,
        policy: SandboxPolicy,
        *,
        cwd: Path,
        env: Mapping[str, str],
        hidden: Sequence[str] = (),
        readable: Sequence[str] = (),
        tiers: Sequence[str] = TIERS,
        limits: Limits | None = None,
        egress: Egress | None = None,
        memory: Path | None = None,
        writes: Writes | None = None,
        start: Callable[[Launch], Awaitable[Server]] = launch,
    ) -> None:
        self.policy = policy
        self.tier = "none" if policy.mode == "danger-full-access" else ""
        self.letter = "F" if policy.mode == "danger-full-access" else ""
        notify = writes is not None and policy.mode == "workspace-write"
        self._wanted = Launch(
            policy, cwd, dict(env), tuple(hidden), tuple(readable), tuple(tiers), egress, memory, notify
        )
        self._writes = writes
        self._start_server = start
        self.controls: Controls | None = None
        self._limits = limits if policy.mode != "danger-full-access" else None
        self._unread: list[str] = []
        self._starting: asyncio.Task[None] | None = None
        self._server: Server | None = None
        self._processes: dict[str, Process] = {}
        self._trying: dict[str, asyncio.Future[list[int]]] = {}
        self._spawned = self._rested = 0
        self._news: list[str] = []
        self._connecting: dict[str, asyncio.Future[socket.socket]] = {}
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._token = os.urandom(4).hex()
        self._count = 0
        self._closed = False
        self._halted = ""
        self._reach: Reach | None = None
        self._tracking: Cgroup | None = None

    async def start(self) -> None:
        """Start the exec server if it does not run; raise `ConfigError` where no tier of the policy works."""
        if self._closed:
            raise RuntimeError("this runner is closed")
        if self._server is None:
            if self._starting is None:
                self._starting = asyncio.ensure_future(self._launch())
            await asyncio.shield(self._starting)
        if self._closed:
            raise RuntimeError("this runner is closed")

    async def _launch(self) -> None:
        try:
            server = await self._start_server(self._wanted)
            if server.listener >= 0 and self._writes is not None:
                self._writes.attach(server.listener, server.inner_pid)
                server.listener = -1
            if self._limits is not None:
                await self._control(server, self._limits)
            self._reach = await self._known_by(server)
        finally:
            self._starting = None
        self._server = server
        self._spawned = self._rested = 0
        self.tier, self.letter = server.tier, server.letter
        asyncio.get_running_loop().add_reader(server.link.fileno(), self._receive)

    async def _control(self, server: Server, limits: Limits) -> None:
        try:
            controls = await control(limits, server.inner_pid, in_namespaces=server.tier == "bubblewrap")
        except BaseException:
            await server.end()
            raise
        self.controls = controls
        message, scores = controls.message()
        try:
            # the very first message, so there is room for it
            socket.send_fds(server.link, [message], scores)
        finally:
            for fd in scores:
                os.close(fd)

    async def _known_by(self, server: Server) -> Reach:
        """Return by what all that a server runs will be found, should it have to be stopped."""
        from lathe.sandbox.census import reach_of

        groups = self.controls.folders if self.controls is not None else ()
        alone = server.tier == "bubblewrap"
        if not alone and not any((group / "cgroup.kill").exists() for group in groups):
            from lathe.sandbox.cgroups import track

            self._tracking = await asyncio.get_running_loop().run_in_executor(None, track, server.inner_pid)
            groups += self._tracking.folders if self._tracking is not None else ()
        mark = f"LATHE_COMMAND={self._token}-".encode()
        return reach_of(server.inner_pid, own_namespace=alone, groups=groups, mark=mark)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        on_output: Callable[[bytes], None],
        tty: tuple[int, int] | None = None,
        stdin: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start `argv` in `cwd`; `env` is laid over the runner's, `tty` is (rows, columns).

        `on_output` gets stdout and stderr, in order, in blocks of up to 64 KiB. Raises `SpawnError` where the
        folder or the program is not there, or all was stopped.
        """
        await self.start()
        if self._halted:
            raise SpawnError(self._halted)
        name = self._fresh_name()
        rows, columns = tty or (0, 0)
        fields = ["S", name, cwd, str(rows), str(columns), str(len(argv)), *argv]
        fields += [f"{key}={value}" for key, value in (env or {}).items()]
        if any("\0" in field for field in fields):
            raise SpawnError("A command, its folder and its environment cannot hold a NUL character.")
        if not argv:
            raise SpawnError("There is no command to start.")
        if self._keeper is not None:
            self._keeper.before(quiet=self.quiet)
        self._spawned += 1
        process = Process(name, on_output, self._send, self._processes)
        self._send(fields, process.open_pipes(stdin) if tty is None else [])
        try:
            error = await asyncio.shield(process.started)
        except asyncio.CancelledError:
            await process.kill()
            raise
        if error is not None:
            raise SpawnError(_reason(error, argv[0], cwd)) from None
        return process

    async def connect(self, port: int) -> socket.socket:
        """Return a connection to what listens on a port of the sandbox's own 127.0.0.1; raise OSError."""
        await self.start()
        name = self._fresh_name()
        answer: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._connecting[name] = answer
        try:
            if not self._send(["C", name, str(port)]):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the sandbox has ended")
            return await answer
        finally:
            del self._connecting[name]

    async def try_paths(self, paths: Sequence[str]) -> list[tuple[int, int]]:
        """Return the errors (errno, 0 for none) of reading and of writing each path where commands run.

        Nothing is changed. Of a folder, which ends in `/`, it is tried whether something could be made in it. The
        list is empty where nothing runs any more.
        """
        if self._server is None:
            return []
        name = self._fresh_name()
        answer = self._trying[name] = asyncio.get_running_loop().create_future()
        try:
            self._send(["T", name, *paths])
            errors = await answer
        finally:
            del self._trying[name]
        return list(zip(errors[::2], errors[1::2], strict=True))

    def _fresh_name(self) -> str:
        """Return a name for a process or a question: by it the answer finds its way back."""
        self._count += 1
        return f"{self._token}-{self._count}"

    @property
    def _keeper(self) -> Keeper | None:
        return self._server.keeper if self._server is not None else None

    @property
    def quiet(self) -> bool:
        """Whether nothing that was started here runs any longer, nor what it left behind."""
        return self._rested == self._spawned

    @property
    def mounts(self) -> list[Mount]:
        """What the commands see and may write, as it was when the sandbox started; nothing before that."""
        return self._server.mounts if self._server is not None else []

    def settle(self) -> None:
        """Put back now what commands have changed that they may not."""
        if self._keeper is not None:
            self._keeper.check()

    def accept(self, paths: Sequence[str]) -> None:
        """Take what is at these paths now as what is to be kept: it was changed by somebody who may."""
        if self._keeper is not None:
            self._keeper.accept(paths)

    def news(self) -> list[str]:
        """Return a line for all that was put back since the last call."""
        news, self._news = self._news, []
        if self._keeper is not None:
            news += self._keeper.news()
        return news

    async def end_all(self) -> None:
        """End every process that was started here and all they left behind; the runner goes on."""
        if self._server is not None:
            await Process("*", lambda block: None, self._send, self._processes).kill()
            self.settle()

    def stop_now(self, why: str, *, began: float | None = None) -> Stopped:
        """Kill all that runs here, and start nothing from now on, for the reason `why`; return what is left of it.

        From any thread, whatever the event loop does meanwhile; blocks until all are gone. `stop` is for the loop.
        `began` is the `time.monotonic` of the alarm.
        """
        from lathe.sandbox.stopping import Stopped, stop

        self._halted = why
        server, reach = self._server, self._reach
        if server is None or reach is None:
            return Stopped()
        try:
            return stop(reach, began=began)
        finally:
            server.kill()

    async def stop(self, why: str, *, began: float | None = None) -> Stopped:
        """Do `stop_now` in a thread of its own, for those that others share may all be waiting for something."""
        from concurrent.futures import ThreadPoolExecutor

        server = self._server
        own = ThreadPoolExecutor(1, "lathe-stop")
        try:
            stopped = await asyncio.get_running_loop().run_in_executor(own, lambda: self.stop_now(why, began=began))
        finally:
            own.shutdown(wait=False)
        if server is not None and self._server is server:
            self._server_died()
        return stopped

    def resume(self) -> None:
        """Start processes again, after a stop; in a sandbox made anew."""
        self._halted = ""

    def limits_met(self, returncode: int | None) -> list[str]:
        """Return a line for each limit met since the last call, and for one that ended a process with this status."""
        lines, self._unread = self._unread, []
        if self.controls is not None:
            lines += [*self.controls.news(), *self.controls.ended(returncode)]
        return lines

    async def aclose(self) -> None:
        """End every process that was started here, and return when they are dead."""
        self._closed = True
        if self._starting is not None:
            with contextlib.suppress(LatheError):
                await self._starting
        server, self._server = self._server, None
        if server is not None:
            self._outbox.clear()
            loop = asyncio.get_running_loop()
            loop.remove_reader(server.link.fileno())
            loop.remove_writer(server.link.fileno())
            await server.end()
            self._forget(server)
        self._uncontrol()
        for process in list(self._processes.values()):
            process.lost()

    def _forget(self, server: Server) -> None:
        """Let go of a server that has ended, and of all its commands."""
        if server.keeper is not None:
            server.keeper.close()
            self._news += server.keeper.news()
        for trying in self._trying.values():
            if not trying.done():
                trying.set_result([])

    def _send(self, fields: Sequence[str], fds: Sequence[int] = ()) -> bool:
        """Send one message, now or when there is room, and close its fds then; return whether there is a server."""
        message = "\0".join(fields).encode("utf-8", "surrogateescape")
        passed = list(fds)
        if self._server is None:
            for fd in passed:
                os.close(fd)
            return False
        if len(message) > _PACKET:
            memory = os.memfd_create("lathe-message", os.MFD_CLOEXEC)
            with open(memory, "wb", closefd=False) as file:
                file.write(message)
            message = b"M"
            passed.insert(0, memory)
        self._outbox.append((message, passed))
        if len(self._outbox) == 1:
            self._flush()
        return True

    def _flush(self) -> None:
        if self._server is None:
            return
        link = self._server.link
        loop = asyncio.get_running_loop()
        while self._outbox:
            message, fds = self._outbox[0]
            try:
                socket.send_fds(link, [message], fds)
            except BlockingIOError:
                loop.add_writer(link.fileno(), self._flush)
                return
            except OSError:
                pass  # the server is gone; reading from it says so
            self._outbox.popleft()
            for fd in fds:
                os.close(fd)
        loop.remove_writer(link.fileno())

    def _receive(self) -> None:
        if self._server is None:
            return
        try:
            data, fds, _flags, _address = socket.recv_fds(self._server.link, 65536, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._server_died()
            return
        kind, name, *rest = data.decode("utf-8", "replace").split("\0")
        if kind in ("E", "T"):
            self._hear(kind, name, rest)
            return
        if kind == "X":
            self.settle()
        process = self._processes.get(name)
        connecting = self._connecting.get(name)
        if connecting is not None and not connecting.done():
            if kind == "C" and fds:
                connecting.set_result(socket.socket(fileno=fds[0]))
            else:
                number = int(rest[0]) if rest else errno.EIO
                connecting.set_exception(OSError(number, os.strerror(number)))
        elif process is None:
            for fd in fds:
                os.close(fd)
        elif kind == "P":
            process.has_started(int(rest[0]), fds)
        elif kind == "F":
            process.has_failed(OSError(int(rest[0]), os.strerror(int(rest[0])), rest[1]))
        elif kind == "X":
            process.has_exited(int(rest[0]))
        elif kind == "D":
            process.is_dead()

    def _uncontrol(self) -> None:
        controls, self.controls = self.controls, None
        if controls is not None:
            self._unread += controls.news()
            controls.close()
        tracking, self._tracking, self._reach = self._tracking, None, None
        if tracking is not None:
            tracking.remove()

    def _hear(self, kind: str, name: str, rest: Sequence[str]) -> None:
        """Take a message that is of no process."""
        trying = self._trying.get(name)
        if kind == "T" and trying is not None and not trying.done():
            trying.set_result([int(number) for number in rest])
        if kind == "E":
            self._rested = int(name)
            if self.quiet and self._keeper is not None:
                self._keeper.rest()

    def _server_died(self) -> None:
        """Everything it ran died with it; the next `spawn` starts another."""
        server, self._server = self._server, None
        if server is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(server.link.fileno())
        loop.remove_writer(server.link.fileno())
        server.abandon()
        if server.tier != "bubblewrap":
            kill_marked(f"LATHE_COMMAND={self._token}-".encode())
        self._uncontrol()
        for process in list(self._processes.values()):
            process.lost()
        self._forget(server)
        for connecting in self._connecting.values():
            if not connecting.done():
                connecting.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "the sandbox has ended"))
        for _message, fds in self._outbox:
            for fd in fds:
                os.close(fd)
        self._outbox.clear()


def kill_marked(mark: bytes) -> None:
    """Kill what a dead server has left behind, outside a pid namespace; a few rounds, as some may be forking."""
    for _ in range(20):
        found = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                # of a zombie there is nothing to read
                if mark in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
                    found += 1
            except OSError:
                continue
        if not found:
            return


def _reason(error: OSError, program: str, cwd: str) -> str:
    program = program[:200]
    if error.errno == errno.ECANCELED:
        return f"`{program}` was not started, because the sandbox ended."
    why = (error.strerror or "no reason given").lower()
    if error.filename == "folder":
        return f"The folder {cwd} cannot be used: {why}."
    if error.errno == errno.ENOENT:
        return f"There is no program `{program}`."
    if error.errno == errno.E2BIG:
        return "The command and its environment are too long for this system (one argument holds at most 128 KiB)."
    return f"`{program}` cannot be started: {why}."
