"""Lathe's side of the keeper's rooms: it asks for a room, an exec server in it, its network, and files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tarfile
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import lathe
from lathe.evals.environments import parcels
from lathe.evals.environments.base import EnvironmentFault, Stage
from lathe.sandbox import tiers
from lathe.sandbox.relay import readable

_CODE: Final = (
    f"import sys; sys.path.append({str(Path(lathe.__file__).parent.parent)!r}); "
    "from lathe.evals.environments import keeper; keeper.main()"
)
_ANSWER_S: Final = 60.0
_LARGEST: Final = 1 << 30
"""The most bytes of a file that is taken out of a room."""
_PACKET: Final = 1 << 16
_T = TypeVar("_T")


class Keeper:
    """The program that makes rooms; one for a whole run."""

    def __init__(self) -> None:
        self._link: socket.socket | None = None
        self._pid = 0
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start it, where it does not run; raise `EnvironmentFault`."""
        async with self._starting:
            if self._link is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            errors = os.memfd_create("lathe-keeper", os.MFD_CLOEXEC)
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            argv = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", _CODE]
            actions = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((null, 0), (null, 1), (errors, 2))]
            actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), 3))
            try:
                self._pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=[])  # noqa: ASYNC221
                theirs.close()
                ours.setblocking(False)
                said = await _answer(ours, "start")
                if "ready" not in said:
                    last = os.pread(errors, 4000, 0).decode("utf-8", "replace").strip().rpartition("\n")[2]
                    why = said.get("error") or last or "it ended without a word"
                    raise EnvironmentFault("start", f"Rooms cannot be made on this machine: {why}.")
                self._link = ours
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
                os.close(errors)
                os.close(null)

    async def room(self, wanted: Mapping[str, object]) -> Room:
        """Return a new room; raise `EnvironmentFault`. `wanted` is what `keeper.py` reads."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            with theirs:
                await self._order(wanted, theirs)
            said = await _answer(ours, "start")
            if "ready" not in said:
                why = said.get("error") or "its process ended without a word"
                raise EnvironmentFault("start", f"The environment could not be made: {why}.")
        except BaseException:
            ours.close()
            raise
        return Room(ours)

    async def _order(self, wanted: Mapping[str, object], room: socket.socket) -> None:
        """Send an order, to another keeper where this one is gone."""
        await self.start()
        assert self._link is not None
        try:
            await _send(self._link, wanted, room)
        except OSError:
            await self.close()
            await self.start()
            await _send(self._link, wanted, room)

    async def close(self) -> None:
        """End it; a room goes on until whoever has it lets go."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
            await asyncio.to_thread(os.waitpid, self._pid, 0)


class Room:
    """One room. `serve` is for a `Runner` to start its exec server with."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.env: Mapping[str, str] = {}
        self.folders: Sequence[tuple[str, int]] = ()

    async def serve(self, _wanted: tiers.Launch) -> tiers.Server:
        """Start an exec server in it; raise `StartFailed`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        try:
            with theirs:
                await self._ask(theirs, do="serve", env=dict(self.env), folders=list(self.folders))
            async with asyncio.timeout(_ANSWER_S):
                said, pid, _ = await tiers.first_message(ours)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
            if not said.startswith(b"R"):
                raise tiers.StartFailed("nothing can be started in the environment any more")
            return _Server(ours, pid)
        except (OSError, TimeoutError) as error:
            ours.close()
            raise tiers.StartFailed(str(error)) from None
        except BaseException:
            ours.close()
            raise

    async def network(self, doors: Sequence[int], ports: Sequence[int]) -> tuple[list[socket.socket], list[int]]:
        """Return listeners for ports inside, and what `Egress.attach` takes where there are `ports`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._ask(theirs, do="network", doors=list(doors), out=list(ports))
            groups: list[list[int]] = []
            for wanted in (doors, ports):
                try:
                    groups.append(await _within(_files(ours)) if wanted else [])
                except (OSError, TimeoutError):
                    groups.append([])
                if wanted and not groups[-1]:
                    raise EnvironmentFault("start", "The network of the environment could not be made.")
        return [socket.socket(fileno=fd) for fd in groups[0]], groups[1]

    async def put(self, here: Path, there: str, owner: str) -> None:
        """Copy a file or folder into it; raise `EnvironmentFault`."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                await self._ask(theirs, do="put", there=there, owner=owner)
            why = await asyncio.to_thread(_put, ours, here)
        if why:
            raise EnvironmentFault("files", f"{here.name} could not be put to {there}: {why}.")

    async def mount(self, here: Path, there: str) -> None:
        """Mount a folder in it for reading, as `there` is made by root; raise `EnvironmentFault`."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._ask(theirs, do="mount", here=str(here), there=there)
            if await _within(asyncio.get_running_loop().sock_recv(ours, 1)) != b"1":
                raise EnvironmentFault("files", f"{here} could not be mounted at {there}.")

    async def hand_over(self, *, end: bool) -> None:
        """Have the verifier's own folders be seen by what comes in from now on; with `end`, all that runs is ended."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._ask(theirs, do="hand over", end=end)
            if await _within(asyncio.get_running_loop().sock_recv(ours, 1)) != b"1":
                raise EnvironmentFault("files", "The verifier's folders could not be made.")

    async def get(self, there: str, here: Path) -> bool:
        """Copy a file or folder out of it; return whether it was there. Raises `EnvironmentFault`."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                await self._ask(theirs, do="get", there=there, most=_LARGEST)
            try:
                return await asyncio.to_thread(_get, ours, here)
            except (OSError, tarfile.TarError) as error:
                raise EnvironmentFault("files", f"{there} could not be copied from the environment: {error}.") from None

    async def end(self) -> None:
        """Kill all that is in it, and return when its mounts are gone."""
        if self._link.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            await _send(self._link, {"do": "end"})
            with contextlib.suppress(TimeoutError):
                await _within(readable(self._link))
        self._link.close()

    async def _ask(self, link: socket.socket, **what: object) -> None:
        try:
            await _send(self._link, what, link)
        except OSError:
            raise EnvironmentFault("run", "The environment has ended.") from None


class _Server(tiers.Server):
    """An exec server whose end its room waits for."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        super().__init__("bubblewrap", "A", link, pid)

    async def end(self) -> None:
        self.kill()
        self.abandon()

    def abandon(self) -> None:
        self.link.close()
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
            self._handle = -1


async def _within(what: Awaitable[_T]) -> _T:
    async with asyncio.timeout(_ANSWER_S):
        return await what


async def _send(link: socket.socket, what: Mapping[str, object], file: socket.socket | None = None) -> None:
    data = json.dumps(what).encode()
    if len(data) > _PACKET:
        raise EnvironmentFault("start", "The environment has too many mounts and variables.")
    while True:
        try:
            socket.send_fds(link, [data], [file.fileno()] if file is not None else [])
        except BlockingIOError:
            await asyncio.sleep(0.001)
        else:
            return


async def _answer(link: socket.socket, stage: Stage) -> dict[str, Any]:
    try:
        await _within(readable(link))
        data = link.recv(_PACKET)
    except TimeoutError:
        raise EnvironmentFault(stage, "The environment could not be made: nothing was heard of it.") from None
    except OSError:
        data = b""
    return json.loads(data) if data else {}


async def _files(link: socket.socket) -> list[int]:
    await readable(link)
    return socket.recv_fds(link, 16, 64, socket.MSG_CMSG_CLOEXEC)[1]


def _put(link: socket.socket, here: Path) -> str:
    with contextlib.suppress(BrokenPipeError), link.makefile("wb", 1 << 16) as stream:
        parcels.pack(stream, str(here))
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_WR)
    said = b""
    while part := link.recv(4096):
        said += part
    return said.decode("utf-8", "replace")


def _get(link: socket.socket, here: Path) -> bool:
    with link.makefile("rb", 1 << 16) as stream:
        return parcels.take(stream, here)
