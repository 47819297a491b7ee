"""Environments of Podman or Docker, by their command line: a container for each trial.

Containers have no network of their engine's. Where this is root on the same machine, Lathe's way out is laid into
theirs, so that policies, phases and doors are those of every other environment; else only all or nothing can be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import lathe
from lathe.evals.environments import parcels
from lathe.evals.environments.base import Change, Door, EnvironmentFault, Mount, Ran, Stage
from lathe.evals.environments.changes import changes
from lathe.evals.environments.disk import Disk
from lathe.evals.environments.images import BuiltImages
from lathe.evals.environments.network import WayOut
from lathe.evals.environments.output import Output
from lathe.evals.environments.runtime import is_needed, write_script
from lathe.evals.environments.storage import Storage, finish
from lathe.evals.task import Network, Task
from lathe.sandbox.namespace import RESOLVER
from lathe.sandbox.relay import readable

_OWNER_LABEL: Final = "dev.lathe.owner"
_MARK: Final = "LATHE_COMMAND"
_FOLDERS: Final = ("/logs/agent", "/logs/verifier", "/logs/artifacts", "/tests")
_LOOK_S: Final = 0.5
_QUICK_S: Final = 120.0
_SIGNAL: Final = 128
_CODE: Final = (
    f"import sys; sys.path.append({str(Path(lathe.__file__).parent.parent)!r}); "
    "from lathe.evals.environments import inlet; inlet.main(sys.argv[1:])"
)
_END: Final = _CODE.replace("inlet", "leftovers")
_CLEAR: Final = (
    "rm -rf /tests /logs/verifier && mkdir -p /tests /logs/verifier /logs/artifacts && chmod 755 /tests /logs/verifier"
)
_PLAIN: Final = "python:3.13-slim-bookworm"
"""What serves tasks that have no image."""


class ContainerMaker:
    """Makes places from containers of `podman` or `docker`."""

    def __init__(self, program: str, home: Path) -> None:
        self.kind = program
        self._home = home
        self._storage = Storage(home)
        self._images = BuiltImages(self._storage)
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._owner = f"{os.getpid()}-{_started(os.getpid())}"
        self._preparing = asyncio.Lock()
        if shutil.which(program) is None:
            raise EnvironmentFault("start", f"{program} is not installed.")

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of the engine."""
        if self.kind != "podman":
            return [self.kind, *arguments]
        given = ["podman", *self._storage.command()[1:], "--cgroup-manager", "cgroupfs"]
        if is_needed():
            given += ["--runtime", str(write_script(self._home / "containers" / "runc"))]
        return [*given, *arguments]

    async def ask(self, stage: Stage, *arguments: str, timeout_s: float = _QUICK_S) -> str:
        """Return what the engine says to that; raise `EnvironmentFault`."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._storage.environment(),
        )
        try:
            said, errors = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            process.kill()
            raise EnvironmentFault(stage, f"{self.kind} {arguments[0]} took longer than {timeout_s:.0f} s.") from None
        if process.returncode:
            lines = errors.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise EnvironmentFault(stage, f"{self.kind} {arguments[0]} failed: {lines[-1][:300]}")
        return said.decode("utf-8", "replace").strip()

    async def prepare(self, task: Task, log: Path) -> float:
        """Have the image of a task ready."""
        began = time.monotonic()
        async with self._preparing:
            if task.digest in self._known:
                return 0.0
            if task.environment.resources.gpus:
                raise EnvironmentFault("build", f"{task.name} needs a GPU, and {self.kind} has none here.")
            if task.environment.compose:
                raise EnvironmentFault("build", f"{task.name} is of several containers, which cannot be run here yet.")
            self._known[task.digest] = await self._built(task, log)
        return time.monotonic() - began

    async def _built(self, task: Task, log: Path) -> tuple[str, tuple[str, ...]]:
        spec = task.environment
        if self.kind == "podman":
            named = task if spec.context or spec.image else _with_image(task, _PLAIN)
            self._storage.prepare()
            image = await self._images.image(named, log)
            return image, await self._images.standins(image)
        if spec.context is None:
            return spec.image or _PLAIN, ()
        name = f"lathe-task:{task.digest[:16]}"
        ended = await finish(["docker", "build", "-t", name, str(spec.context)], log, spec.build_timeout_s)
        if ended.code:
            raise EnvironmentFault("build", f"The image of {task.name} could not be built: {ended.last}. See {log}.")
        return name, ()

    def make(self, task: Task, trial: str) -> ContainerEnvironment:
        """Return a place for a trial."""
        if task.digest not in self._known:
            raise EnvironmentFault("start", f"{task.name} was not prepared.")
        return ContainerEnvironment(self, task, self._known[task.digest], f"{_OWNER_LABEL}={self._owner}")

    async def close(self) -> None:
        """Remove the containers of this run, and those of runs that are dead."""
        listed = await self.ask("stop", "ps", "--all", "--filter", f"label={_OWNER_LABEL}", "--format", "{{.Names}}")
        for name in listed.split():
            owner = await self.ask(
                "stop", "inspect", "--format", f'{{{{index .Config.Labels "{_OWNER_LABEL}"}}}}', name
            )
            pid, _, started = owner.partition("-")
            if owner == self._owner or _started(int(pid)) != started:
                with contextlib.suppress(EnvironmentFault):
                    await self.ask("stop", "rm", "--force", "--time", "0", name)


class ContainerEnvironment:
    """A trial's container."""

    def __init__(self, maker: ContainerMaker, task: Task, image: tuple[str, tuple[str, ...]], label: str) -> None:
        self.kind = maker.kind
        self._image, self.standins = image
        self._maker = maker
        self._task = task
        self._name = f"lathe-{os.getpid()}-{os.urandom(6).hex()}"
        self._label = label
        self._runs = False
        self._pid = 0
        self._way: WayOut | None = None
        self._disk: Disk | None = None
        self._marks = itertools.count(1)

    async def start(self, mounts: Sequence[Mount] = (), doors: Sequence[Door] = ()) -> None:
        """Start the container, then its network."""
        spec, network = self._task.environment, self._task.network("agent")
        laid = os.geteuid() == 0
        if not laid and (doors or network.mode == "allowlist"):
            raise EnvironmentFault("start", f"{self.kind} without root has no doors and no list of hosts.")
        limits = spec.resources
        given = ["run", "--detach", "--name", self._name, "--label", self._label, "--pids-limit", str(limits.processes)]
        given += ["--network", "none" if laid or network.mode == "none" else "bridge", "--cpus", str(limits.cpus)]
        given += ["--memory", f"{limits.memory_mb}m"] if limits.memory_mb else []
        given += ["--volume", f"{RESOLVER}:/etc/resolv.conf:ro"] if laid else []
        for mount in mounts:
            given += ["--volume", f"{mount.here}:{mount.there}:ro"]
        for key, value in spec.env.items():
            given += ["--env", f"{key}={value}"]
        given += ["--entrypoint", "sleep", self._image, "infinity"]
        self._runs = True
        try:
            await self._maker.ask("start", *given)
            told = json.loads(await self._maker.ask("start", "inspect", self._name))[0]
            self._pid = int(told["State"]["Pid"])
            self._told(told)
            await self._make_folders(told["Config"].get("WorkingDir") or "/")
            if laid:
                self._way = WayOut(self, self._pid, os.environ)
                await self._way.open(network, doors)
            for here, there in spec.files:
                await self.put(here, there)
        except BaseException:
            await self.stop()
            raise

    def _told(self, told: dict[str, Any]) -> None:
        """Learn where the container's changes lie, if that is on this machine."""
        data = (told.get("GraphDriver") or {}).get("Data") or {}
        self._upper = Path(data.get("UpperDir") or "/nowhere")
        self._lowers = [Path(each) for each in (data.get("LowerDir") or "").split(":") if each]
        if self._upper.is_dir():
            self._disk = Disk([self._upper], self._task.environment.resources.disk_mb)
            self._disk.begin()

    async def _make_folders(self, workdir: str) -> None:
        self._workdir = self._task.environment.workdir or workdir
        folders = [*_FOLDERS, self._workdir]
        made = ["exec", "--user", "0", "--workdir", "/", self._name, "mkdir", "-p", *folders]
        await self._maker.ask("start", *made)
        await self._maker.ask("start", "exec", "--user", "0", self._name, "chmod", "777", *_FOLDERS[:3])

    async def network(self, doors: Sequence[int], ports: Sequence[int]) -> tuple[list[socket.socket], list[int]]:
        """Return listeners for ports inside, and what `Egress.attach` takes where there are `ports`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            argv = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", _CODE, str(theirs.fileno())]
            argv += [str(self._pid), ",".join(map(str, doors)), ",".join(map(str, ports))]
            process = await asyncio.create_subprocess_exec(
                *argv, pass_fds=(theirs.fileno(),), stderr=asyncio.subprocess.PIPE, env={}
            )
            theirs.close()
            groups: list[list[int]] = []
            for wanted in (doors, ports):
                if not wanted:
                    groups.append([])
                    continue
                await readable(ours)
                groups.append(socket.recv_fds(ours, 16, 64, socket.MSG_CMSG_CLOEXEC)[1])
            _, errors = await process.communicate()
        if (doors and not groups[0]) or (ports and not groups[1]):
            why = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise EnvironmentFault("start", f"The network of the container could not be made: {why}.")
        return [socket.socket(fileno=fd) for fd in groups[0]], groups[1]

    async def run(
        self,
        command: Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        user: str = "",
        timeout_s: float = 600.0,
        network: Network | None = None,
        stdin: bytes = b"",
        on_output: Callable[[bytes], None] | None = None,
    ) -> Ran:
        """Run a command to its end."""
        if not self._runs:
            raise EnvironmentFault("run", "The environment does not run.")
        if network is not None and self._way is not None:
            await self._way.change(network)
        mark = f"{self._name}-{next(self._marks)}"
        given = ["exec", "--interactive", "--workdir", cwd or self._workdir, "--env", f"{_MARK}={mark}"]
        whom = user or self._task.environment.user
        given += ["--user", whom] if whom else []
        for key, value in (env or {}).items():
            given += ["--env", f"{key}={value}"]
        output, before, began = Output(on_output), _oom_kills(self._pid), time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self._maker.command(*given, self._name, *command),
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        reading = asyncio.ensure_future(_read(process, output, stdin))
        try:
            killed = await self._watch(process, reading, mark, timeout_s)
        except BaseException:
            _kill_marked(mark)
            process.kill()
            raise
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        code = process.returncode if process.returncode is not None else 137
        if code and not killed and _oom_kills(self._pid) > before:
            killed = "memory"
        return Ran(_SIGNAL - code if code < 0 else code, output.end(), time.monotonic() - began, killed)

    async def _watch(
        self, process: asyncio.subprocess.Process, reading: asyncio.Future[None], mark: str, timeout_s: float
    ) -> str:
        limit = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(TimeoutError):
                left = max(0.0, min(_LOOK_S, limit - time.monotonic()))
                await asyncio.wait_for(asyncio.shield(process.wait()), left)
                with contextlib.suppress(TimeoutError):
                    # what it left running may hold its output open
                    await asyncio.wait_for(asyncio.shield(reading), _LOOK_S)
                return ""
            late = time.monotonic() >= limit
            if late or (self._disk is not None and await self._disk.is_full()):
                _kill_marked(mark)
                process.kill()
                await process.wait()
                return "time" if late else "disk"

    async def put(self, here: Path, there: str, *, owner: str = "") -> None:
        """Copy a file or folder into it."""
        if not os.path.lexists(here):
            raise EnvironmentFault("files", f"There is no {here}.")
        there = str(PurePosixPath(self._workdir, there))
        above = there if here.is_dir() else os.path.dirname(there)  # noqa: PTH120
        await self._maker.ask("files", "exec", "--user", "0", "--workdir", "/", self._name, "mkdir", "-p", above)
        source = f"{here}/." if here.is_dir() else str(here)
        await self._maker.ask("files", "cp", source, f"{self._name}:{there}", timeout_s=600.0)
        owned = ["chown", "-R", "-h", owner or "0:0", there]
        await self._maker.ask("files", "exec", "--user", "0", "--workdir", "/", self._name, *owned)

    async def get(self, there: str, here: Path) -> bool:
        """Copy a file or folder out of it."""
        there = str(PurePosixPath(self._workdir, there))
        argv = self._maker.command("cp", f"{self._name}:{there}", "-")
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        archive, _ = await process.communicate()
        if process.returncode or not archive:
            return False
        return await asyncio.to_thread(parcels.take_archive, archive, os.path.basename(there), here)  # noqa: PTH119

    async def hand_over(self, *, end: bool) -> None:
        """Make `/tests` and `/logs/verifier` anew; what lives on sees them too, as all of a container sees the same."""
        if end:
            await self._end_all()
        made = await self.run(["/bin/sh", "-c", _CLEAR], cwd="/", timeout_s=60, user="root")
        if made.code:
            said = " ".join(made.output[-300:].decode(errors="replace").split())
            raise EnvironmentFault("files", f"The verifier's folders could not be made: {said}")

    async def _end_all(self) -> None:
        """Kill all but the container's first process; from outside where this is root, for its programs may lie."""
        if os.geteuid() != 0:
            await self.run(["/bin/sh", "-c", "kill -KILL -1"], cwd="/", timeout_s=60, user="root")
            return
        argv = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", _END, str(self._pid)]
        process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL, env={})
        if await process.wait():
            raise EnvironmentFault("stop", "What the agent left running could not be ended.")

    async def changes(self) -> list[Change]:
        """Return what differs from the image."""
        if not self._upper.is_dir():
            raise EnvironmentFault("files", f"What {self.kind} keeps of a container is not on this machine.")
        unseen = {*_FOLDERS, "/logs", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/run/.containerenv"}
        unseen |= {"/run", "/dev", "/proc", "/sys", "/etc/mtab", self._workdir}
        return sorted(await asyncio.to_thread(changes, self._upper, self._lowers, "/", unseen, 0))

    def original(self, path: str) -> Path | None:
        """Return None: what an image holds is the engine's."""
        return None

    async def stop(self) -> None:
        """Remove the container with all that runs in it."""
        way, self._way = self._way, None
        if way is not None:
            await way.close()
        if self._runs:
            self._runs = False
            await self._maker.ask("stop", "rm", "--force", *_AT_ONCE[self.kind], self._name)


_AT_ONCE: Final = {"podman": ("--time", "0"), "docker": ()}


async def _read(process: asyncio.subprocess.Process, output: Output, stdin: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(stdin)
            await process.stdin.drain()
        process.stdin.close()
    assert process.stdout is not None
    while block := await process.stdout.read(1 << 16):
        output.add(block)


def _with_image(task: Task, image: str) -> Task:
    import msgspec

    return msgspec.structs.replace(task, environment=msgspec.structs.replace(task.environment, image=image))


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _kill_marked(mark: str) -> None:
    from lathe.sandbox.runner import kill_marked

    kill_marked(f"{_MARK}={mark}\0".encode())


def _oom_kills(pid: int) -> int:
    """Return how many processes of a container the kernel has killed for memory, 0 where that is not known."""
    from lathe.sandbox.cgroups import oom_kills

    return oom_kills(pid)
