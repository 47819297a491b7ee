"""Starting an exec server in the strongest tier that works here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lathe.protocol.errors import ConfigError
from lathe.sandbox import bubblewrap, seccomp
from lathe.sandbox.keeping import Keeper
from lathe.sandbox.ladder import in_container, tiers_down_to
from lathe.sandbox.mounts import Mount, is_below, plan, sockets
from lathe.sandbox.namespace import RESOLVER
from lathe.sandbox.pictures import TooMuch
from lathe.sandbox.policy import SandboxPolicy, without_veils
from lathe.sandbox.relay import readable

if TYPE_CHECKING:
    from lathe.sandbox.egress import Egress

_HERE = Path(__file__).parent
# imported, not run as a script: only what is imported is compiled once and for all
_CODE = f"import sys; sys.path.append({str(_HERE)!r}); import exec_server; exec_server.main("
INSTALL_HINT = "`lathe doctor` says what is missing (mostly bubblewrap: apt-get install bubblewrap)."
TIERS = tiers_down_to("landlock")
_FILTER_FD = 4
_fresh_proc_works = True
_SYSTEM_PYTHON = "/usr/bin/python3"
_READY_SECONDS = 20.0
_SCM_CREDENTIALS = 2
_CREDENTIALS = struct.Struct("iII")  # pid, user and group: unix(7)
_FD = struct.Struct("i")
_END_SECONDS = 10.0


class Launch(NamedTuple):
    """What an exec server is to be started for."""

    policy: SandboxPolicy
    cwd: Path
    env: dict[str, str]
    hidden: tuple[str, ...]
    readable: tuple[str, ...]
    tiers: tuple[str, ...]
    egress: Egress | None = None
    memory: Path | None = None
    notify: bool = False


class Server:
    """A running exec server: its tier and letter, the socket to it, its own pid out here, and whom to wait for.

    `listener` tells who changes files (`notify.py`), -1 where nothing does; `mounts` are what it sees, `keeper` keeps
    what its commands may not change; None where nothing confines them.
    """

    def __init__(self, tier: str, letter: str, link: socket.socket, pid: int) -> None:
        self.tier = tier
        self.letter = letter
        self.link = link
        self.inner_pid = pid
        self.listener = -1
        self.mounts: list[Mount] = []
        self.keeper: Keeper | None = None
        self._pid = pid
        self._handle = os.pidfd_open(pid)

    async def end(self) -> None:
        """Ask it to end all that it runs and to leave; return when both are done."""
        if self._handle < 0:
            return
        # gone, or not even reading: closing the socket says the same, less politely
        with contextlib.suppress(OSError):
            self.link.send(b"Q")
        gone = await self._gone(_END_SECONDS)
        self.link.close()
        if not gone and not await self._gone(_END_SECONDS):
            os.kill(self._pid, signal.SIGKILL)
            await self._gone(_END_SECONDS)
        self.abandon()

    def kill(self) -> None:
        """Kill what was started, be it the server itself or the program around it; from any thread."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def abandon(self) -> None:
        """Let go of a server that has left by itself."""
        self.link.close()
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            os.waitpid(self._pid, 0)

    async def _gone(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self._handle, gone.set)
        try:
            await asyncio.wait_for(gone.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._handle)
        return True


class StartFailed(Exception):
    """An exec server did not come up; the message is what it said last."""


async def launch(wanted: Launch) -> Server:
    """Start an exec server; raise `ConfigError` where the policy asks for confinement that cannot be had here."""
    if wanted.policy.mode == "danger-full-access":
        return await run_server("none", "F", [], wanted.env)
    reasons: dict[str, str] = {}
    for tier in wanted.tiers:
        try:
            return await _STARTERS[tier](wanted)
        except StartFailed as failure:
            reasons[tier] = str(failure).partition(". See <")[0].rstrip(".")
    raise NoTierWorks(wanted.policy.mode, reasons)


class NoTierWorks(ConfigError):
    """A policy asks for confinement that cannot be had here; `reasons` says why not, by tier."""

    def __init__(self, mode: str, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        whys = {why: [tier for tier, other in reasons.items() if other == why] for why in reasons.values()}
        all_of_them = "; ".join(f"{', '.join(tiers)}: {why}" for why, tiers in whys.items())
        boundary = (
            ' Where the container may be the boundary, set sandbox_floor = "container".' if in_container() else ""
        )
        super().__init__(
            f"The sandbox mode {mode} cannot be had on this machine ({all_of_them}).",
            hint=f"{INSTALL_HINT}{boundary} To run commands without any sandbox, say so with"
            " --sandbox danger-full-access.",
        )


async def _bubblewrap(wanted: Launch) -> Server:
    global _fresh_proc_works  # a fact about the machine, learnt once
    if _fresh_proc_works:
        with contextlib.suppress(StartFailed):
            return await _with_way_out(wanted, await _namespaces(wanted, "A"))
    server = await _machine_proc(wanted)
    _fresh_proc_works = False
    return server


async def _machine_proc(wanted: Launch) -> Server:
    return await _with_way_out(wanted, await _namespaces(wanted, "B"))


async def _shared_network(wanted: Launch) -> Server:
    if wanted.policy.network:
        raise StartFailed("the network is on, so that it is shared as it is")
    _without_way_out(wanted, "a network that is the machine's")
    try:
        return await _namespaces(wanted, "C")
    except StartFailed:
        return await _namespaces(wanted, "C", fresh_proc=False)


async def _namespaces(wanted: Launch, letter: str, *, fresh_proc: bool = True) -> Server:
    """Start bubblewrap as the kind of that letter is."""
    program = bubblewrap.find_program()
    if program is None:
        raise StartFailed("bwrap is not installed")
    owner = _foreign_owner(wanted.cwd)
    env = _caches(wanted) | _with_home_of(owner, wanted.env)
    mounts, keeper = await asyncio.to_thread(_planned, wanted, wanted.policy)
    if owner is not None:
        # what that user cannot come to needs no hiding, and cannot be hidden by them
        mounts = [mount for mount in mounts if mount.kind != "hidden" or _can_come_to(mount.path, *owner)]
    resolver = RESOLVER if letter != "C" and wanted.egress is not None and not wanted.policy.network else ""
    calls = seccomp.program(network=letter != "C")
    if calls is None and letter == "C":
        raise StartFailed("there is no system call filter for this processor")
    rules = b"N\0000\0-1\0-1" if letter == "C" else b""
    interpreter = _interpreter(owner)
    while True:
        whole = [mount for mount in (*mounts, *sockets(mounts)) if os.path.lexists(mount.path)]
        prefix = bubblewrap.arguments(
            program,
            whole,
            network=wanted.policy.network or letter == "C",
            fresh_proc=fresh_proc and letter != "B",
            owner=owner,
            filter_fd=_FILTER_FD if calls else -1,
            resolver=resolver,
        )
        try:
            server = await run_server(
                "bubblewrap",
                letter,
                prefix,
                env,
                rules=rules,
                calls=calls or b"",
                interpreter=interpreter,
                notify=wanted.notify,
            )
        except StartFailed:
            # What was there and is gone cannot be mounted on: then, and only then, it is worth another try.
            if all(os.path.lexists(mount.path) for mount in whole):
                raise
        else:
            server.mounts, server.keeper = mounts, keeper
            return server


async def _container(wanted: Launch) -> Server:
    if not in_container():
        raise StartFailed("this is no container")
    _without_way_out(wanted, "a container that is shared as it is")
    owner = _foreign_owner(wanted.cwd)
    uid, gid = owner or (-1, -1)
    rules = f"E\0{int(wanted.policy.network)}\0{uid}\0{gid}".encode()
    return await run_server("container", "E", [], _with_home_of(owner, wanted.env), rules=rules)


def _without_way_out(wanted: Launch, kind: str) -> None:
    if wanted.egress is not None and wanted.policy.hosts and not wanted.policy.network:
        wanted.egress.trouble = f"Nothing can be reached from the sandbox: {kind} cannot open hosts one by one."


async def _with_way_out(wanted: Launch, server: Server) -> Server:
    """Attach the way out to a server with a network of its own; where that fails, nothing can be reached from it."""
    if wanted.egress is None or wanted.policy.network:
        return server
    from lathe.sandbox.namespace import NoNetwork, make_network

    try:
        fds = await make_network(server.inner_pid, wanted.egress.ports())
        wanted.egress.attach(fds, server.inner_pid)
    except NoNetwork as error:
        wanted.egress.trouble = f"Nothing can be reached from the sandbox: its network could not be made ({error})."
    except BaseException:
        await server.end()
        raise
    return server


async def _landlock(wanted: Launch) -> Server:
    _without_way_out(wanted, "Landlock")
    mounts, keeper = await asyncio.to_thread(_planned, wanted, without_veils(wanted.policy), strict=True)
    open_here = {m.path for m in await asyncio.to_thread(_mounts, wanted, wanted.policy)} - {m.path for m in mounts}
    if open_here:
        keeper.tell(sorted(open_here), "can be read here: Landlock hides nothing in a workspace, bubblewrap does")
    hidden = [m.path for m in mounts if m.kind == "hidden" or m.path == "/run"]
    writable = [m.path for m in mounts if m.kind == "write"]
    for path in hidden:
        if above := next((root for root in writable if is_below(path, root)), None):
            raise StartFailed(f"it cannot hide {path}, which lies below the writable {above}")
    shared = [m.path for m in mounts if m.kind == "private" and m.path != "/run"]
    writable += [path for path in shared if not any(is_below(secret, path) for secret in hidden)]
    readable = [m.path for m in mounts if m.kind == "kept"]
    owner = _foreign_owner(wanted.cwd)
    uid, gid = owner or (-1, -1)
    fields = ["L", "1" if wanted.policy.network else "0", str(uid), str(gid)]
    for paths in (writable, readable, hidden):
        fields += [str(len(paths)), *paths]
    rules = "\0".join(fields).encode("utf-8", "surrogateescape")
    env = _with_home_of(owner, wanted.env)
    server = await run_server("landlock", "D", [], env, rules=rules, notify=wanted.notify)
    server.mounts, server.keeper = mounts, keeper
    return server


def _mounts(wanted: Launch, policy: SandboxPolicy) -> list[Mount]:
    return plan(policy, wanted.cwd, wanted.hidden, wanted.readable)


def _planned(wanted: Launch, policy: SandboxPolicy, *, strict: bool = False) -> tuple[list[Mount], Keeper]:
    """Return the mounts, and what keeps those that protect; `strict` where nothing else does."""
    mounts = _mounts(wanted, policy)
    try:
        return mounts, Keeper(mounts, policy.paths.guarded, wanted.memory, strict=strict)
    except TooMuch as error:
        raise StartFailed(f"it cannot protect {error}, which holds too much") from None


def _foreign_owner(cwd: Path) -> tuple[int, int] | None:
    """Return (uid, gid) of the workspace's owner where we are root and the owner is not.

    Root without its capabilities could not write there, and with them would leave root's files behind.
    """
    if os.geteuid() != 0:
        return None
    status = cwd.stat()
    return (status.st_uid, status.st_gid) if status.st_uid else None


def _can_come_to(path: str, user: int, group: int) -> bool:
    """Tell whether a user may go into every folder above a path."""
    for folder in Path(path).parents:
        status = folder.stat()
        shift = 6 if status.st_uid == user else 3 if status.st_gid == group else 0
        if not status.st_mode >> shift & 1:
            return False
    return True


def _interpreter(owner: tuple[int, int] | None) -> str:
    """Return the Python that runs the exec server: ours, or the system's where ours lies in root's home folder."""
    own = os.path.realpath(sys.executable)
    if owner is None or _can_come_to(own, *owner) or not os.access(_SYSTEM_PYTHON, os.X_OK):
        return own
    return _SYSTEM_PYTHON


def _with_home_of(owner: tuple[int, int] | None, env: dict[str, str]) -> dict[str, str]:
    """Return the environment for commands of another user, for whom root's home is closed."""
    if owner is None:
        return env
    import pwd

    try:
        home = pwd.getpwuid(owner[0]).pw_dir
    except KeyError:
        home = "/tmp"
    return {**env, "HOME": home}


def _caches(wanted: Launch) -> dict[str, str]:
    """Return where programs that do not run without a cache find one, when the home folder is read-only."""
    home = os.path.realpath(wanted.env.get("HOME", "/"))
    if any(is_below(home, os.path.realpath(root)) for root in wanted.policy.writable_roots):
        return {}
    return {"UV_CACHE_DIR": "/tmp/.cache/uv", "GOCACHE": "/tmp/.cache/go-build", "npm_config_cache": "/tmp/.cache/npm"}


_STARTERS = {
    "bubblewrap": _bubblewrap,
    "machine-proc": _machine_proc,
    "shared-network": _shared_network,
    "landlock": _landlock,
    "container": _container,
}


def _compile_once() -> None:
    """Leave the exec server compiled where its import finds it; inside a sandbox it could not be written."""
    for name in ("exec_server", "notify"):
        source = _HERE / f"{name}.py"
        compiled = _HERE / "__pycache__" / f"{name}.{sys.implementation.cache_tag}.pyc"
        with contextlib.suppress(OSError):
            if compiled.stat().st_mtime >= source.stat().st_mtime:
                continue
        import py_compile

        with contextlib.suppress(OSError):
            py_compile.compile(str(source), quiet=2)


async def run_server(
    tier: str,
    letter: str,
    prefix: list[str],
    env: dict[str, str],
    *,
    rules: bytes = b"",
    calls: bytes = b"",
    interpreter: str = "",
    notify: bool = False,
) -> Server:
    """Start the script behind `prefix` and wait until it serves; raise `StartFailed`.

    `rules` are its first message, `calls` a system call filter for bubblewrap to load. With `notify` it tells of
    each wish to change a file, and whoever wishes waits until it is heard.
    """
    _compile_once()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # before there is anybody to say something: what was sent earlier would come without a pid
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    errors = os.memfd_create("lathe-exec-server", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    code = f"{_CODE}confine={bool(rules)}, notify={notify})"
    argv = [*prefix, interpreter or os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", code]
    actions: list[tuple[int, ...]] = [
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, null, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
    ]
    filtering = _filter_file(calls) if calls else -1
    if calls:
        actions.append((os.POSIX_SPAWN_DUP2, filtering, _FILTER_FD))
    try:
        # a vfork: it holds the loop for half a millisecond, less than a thread would cost
        pid = os.posix_spawn(  # noqa: ASYNC221
            argv[0],
            argv,
            env,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
        )
    except OSError as error:
        ours.close()
        raise StartFailed(str(error)) from error
    finally:
        theirs.close()
        os.close(null)
        if calls:
            os.close(filtering)
    ours.setblocking(False)
    server = Server(tier, letter, ours, pid)
    try:
        if rules:
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and is about to be asked why
                ours.send(rules)
        answer, server.inner_pid, server.listener = await asyncio.wait_for(first_message(ours), _READY_SECONDS)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        kind, *facts = answer.split(b"\0")
        if kind != b"R":
            await server.end()
            said = os.pread(errors, 4000, 0).decode("utf-8", "replace").strip()
            raise StartFailed(said.splitlines()[-1] if said else "it ended without a word")
        if tier == "bubblewrap" and facts != [b"1", b"1"]:
            raise StartFailed("bubblewrap ran, but confined nothing")
    except BaseException:
        await server.end()
        raise
    finally:
        os.close(errors)
    return server


def _filter_file(calls: bytes) -> int:
    """Return a file with a filter to be read from its start, above the numbers that the exec server is given."""
    import fcntl

    file = os.memfd_create("lathe-calls", os.MFD_CLOEXEC)
    os.pwrite(file, calls, 0)
    high = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(file)
    return high


async def first_message(link: socket.socket) -> tuple[bytes, int, int]:
    """Return what the exec server says first, its pid as it is out here, and what came with it, -1 for nothing."""
    await readable(link)
    try:
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FD.size)
        said, ancillary, *_ = link.recvmsg(4096, room, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return b"", 0, -1
    pid, listener = 0, -1
    for _level, kind, data in ancillary:
        if kind == _SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data)[0]
        elif kind == socket.SCM_RIGHTS:
            listener = _FD.unpack(data)[0]
    return said, pid, listener
