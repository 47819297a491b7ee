"""Environments without Docker: a root file system that trials share, an overlay for each, and bubblewrap.

What a trial changes lies in its overlay, what it runs in its own namespaces and control group; `stop` kills all of it
in one stroke. A run that was killed leaves only folders, which the next one removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from lathe.evals.environments.apart import FOLDER
from lathe.evals.environments.base import Change, Door, EnvironmentFault, Mount, Ran
from lathe.evals.environments.changes import changes
from lathe.evals.environments.disk import Disk
from lathe.evals.environments.output import Output
from lathe.evals.environments.plain import HOST, lay_files, make_additions, make_plain
from lathe.evals.environments.room import Keeper, Room
from lathe.evals.environments.serving import USER
from lathe.evals.task import Network, Task
from lathe.protocol.errors import LatheError
from lathe.sandbox.bubblewrap import find_program
from lathe.sandbox.cgroups import Counts
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.process import Process, SpawnError
from lathe.sandbox.tiers import StartFailed

if TYPE_CHECKING:
    from lathe.evals.environments.network import WayOut
    from lathe.sandbox.runner import Runner

KIND: Final = "rootfs"
TESTS: Final = "/tests"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWNER: Final = 0x60000000
_LOOK_S: Final = 0.5
_NOT_FOUND, _NOT_STARTED, _SIGNAL, _ENDED = 127, 126, 128, 137


class Lower(NamedTuple):
    """A root file system that is there: its trees, the upper first, and what its image says of commands.

    `more` are folders of it that are overlays of their own, `mounts` what else is mounted of this machine. With
    `aided`, a folder to keep things in, tests are given what they would fetch from hosts that cannot be reached.
    """

    trees: tuple[Path, ...]
    workdir: str = "/"
    env: Mapping[str, str] = {}
    user: str = ""
    more: tuple[str, ...] = ()
    mounts: tuple[tuple[Path, str], ...] = ()
    standins: tuple[str, ...] = ()
    aided: Path | None = None


class Images(Protocol):
    """Builds the root file system of a task that has a Dockerfile or names an image."""

    async def lower(self, task: Task, log: Path) -> Lower:
        """Return it, built where that was not done before; raise `EnvironmentFault`."""
        ...


class RootfsMaker:
    """Makes places from root file systems; `images` builds those of Dockerfiles. Needs root, Linux and bubblewrap."""

    kind = KIND

    def __init__(self, home: Path, images: Images | None = None) -> None:
        self._home = home / "rooms"
        self._images = images
        self._keeper = Keeper()
        self._folder: Path | None = None
        self._lock = -1
        self._plain: tuple[Path, tuple[tuple[Path, str], ...]] | None = None
        self._lowers: dict[str, Lower] = {}
        self._preparing = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def prepare(self, task: Task, log: Path) -> float:
        """Have the root file system of a task ready; raise `EnvironmentFault`."""
        began = time.monotonic()
        async with self._preparing:
            if task.digest in self._lowers:
                return 0.0
            spec = task.environment
            if spec.resources.gpus:
                raise EnvironmentFault("build", f"{task.name} needs a GPU, and the environment {KIND} has none.")
            if spec.compose:
                raise EnvironmentFault("build", f"{task.name} is of several containers, and {KIND} is only one.")
            await self._keeper.start()
            if spec.context is None and not spec.image:
                self._lowers[task.digest] = await asyncio.to_thread(self._plain_of, task)
            elif self._images is None:
                raise EnvironmentFault("build", f"{task.name} has a Dockerfile, and nothing here builds images.")
            else:
                self._lowers[task.digest] = await self._images.lower(task, log)
        return time.monotonic() - began

    def make(self, task: Task, trial: str) -> RootfsEnvironment:
        """Return a place for a trial of a task that is prepared."""
        lower = self._lowers.get(task.digest)
        if lower is None:
            raise EnvironmentFault("start", f"{task.name} was not prepared.")
        safe = "".join(char if char.isalnum() or char in "-_." else "_" for char in trial)[:80]
        own = self._own()
        return RootfsEnvironment(task, lower, own / "additions", self._keeper, own / f"{next(self._numbers)}.{safe}")

    async def close(self) -> None:
        """End the keeper and remove what is left of this run, and of those before it that were killed."""
        await self._keeper.close()
        await asyncio.to_thread(self._clean)

    def _own(self) -> Path:
        """Return this run's folder, and hold it for as long as this process lives."""
        if self._folder is None:
            folder = self._home / f"{os.getpid()}-{os.urandom(4).hex()}"
            folder.mkdir(parents=True)
            self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            make_additions(folder / "additions")
            self._folder = folder
        return self._folder

    def _clean(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._folder = None
        self._plain = None
        self._lowers.clear()
        for folder in self._home.glob("*-*"):
            _remove_unless_held(folder)

    def _plain_of(self, task: Task) -> Lower:
        own = self._own()
        if self._plain is None:
            folder = own / "plain"
            folder.mkdir()
            self._plain = folder, tuple(make_plain(folder))
        folder, mounted = self._plain
        spec = task.environment
        workdir = spec.workdir or "/app"
        trees = (folder,)
        files = own / f"files.{next(self._numbers)}"
        files.mkdir()
        lay_files(files, spec.files, workdir)
        return Lower((files, *trees), workdir, spec.env, spec.user, more=("/usr",), mounts=mounted)


def _remove_unless_held(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


class RootfsEnvironment:
    """A trial's room."""

    kind = KIND

    def __init__(self, task: Task, lower: Lower, above: Path, keeper: Keeper, folder: Path) -> None:
        self.standins = lower.standins
        self._task = task
        self._above = above
        self._lower = lower
        self._keeper = keeper
        self._folder = folder
        self._unseen: set[str] = set()
        self._room: Room | None = None
        self._runner: Runner | None = None
        self._earlier: Runner | None = None
        self._way: WayOut | None = None
        self._disk = Disk([*self._uppers, folder / FOLDER], task.environment.resources.disk_mb)

    @property
    def _uppers(self) -> list[Path]:
        return [self._folder / f"upper{number}" for number in range(1 + len(self._lower.more))]

    async def start(self, mounts: Sequence[Mount] = (), doors: Sequence[Door] = ()) -> None:
        """Make the room, its control group and its network."""
        from lathe.evals.environments.network import WayOut

        if self._room is not None:
            raise EnvironmentFault("start", "The environment was started already.")
        wanted = self._wanted(mounts)
        try:
            self._room = room = await self._keeper.room(wanted)
            room.env = self._environment()
            room.folders = [(self._workdir, 0o755)]
            self._runner = await self._started(room)
            self._disk.begin()
            self._way = WayOut(room, 1, os.environ)
            await self._way.open(self._task.network("agent"), doors)
        except (LatheError, StartFailed, OSError) as error:
            await self.stop()
            raise EnvironmentFault("start", f"The environment did not start: {str(error).rstrip('.')}.") from None
        except BaseException:
            await self.stop()
            raise

    async def _started(self, room: Room) -> Runner:
        """Return what runs commands in a room from now on, under the task's limits."""
        from lathe.sandbox.runner import Runner

        limits = self._task.environment.resources
        runner = Runner(
            SandboxPolicy(),
            cwd=Path("/"),
            env={},
            limits=Limits(limits.memory_mb or None, limits.processes or None, cpus=limits.cpus),
            start=room.serve,
        )
        await runner.start()
        return runner

    async def hand_over(self, *, end: bool) -> None:
        """Give the verifier folders and an exec server of its own, and end what else runs or let it be."""
        room, runner = self._known(), self._runner
        try:
            await room.hand_over(end=end)
            if end and runner is not None:
                await runner.aclose()
            else:
                self._earlier = runner
            self._runner = await self._started(room)
        except (LatheError, StartFailed, OSError) as error:
            raise EnvironmentFault("start", f"The verifier could not be started: {str(error).rstrip('.')}.") from None

    @property
    def _workdir(self) -> str:
        return self._task.environment.workdir or self._lower.workdir or "/"

    def _environment(self) -> dict[str, str]:
        given = {"PATH": PATH, "HOME": "/root", "HOSTNAME": HOST, **self._lower.env, **self._task.environment.env}
        return {key: value for key, value in given.items() if "\0" not in key + value}

    def _wanted(self, mounts: Sequence[Mount]) -> dict[str, object]:
        program = find_program()
        if program is None:
            raise EnvironmentFault("start", "bubblewrap is not installed (apt-get install bubblewrap).")
        layers = []
        for number, (there, lowers) in enumerate(self._layers):
            layers.append([there, str(self._uppers[number]), str(self._folder / f"work{number}"), *map(str, lowers)])
        whole = [(str(here), there) for here, there in (*self._lower.mounts, *mounts)]
        self._unseen = {"/dev", "/proc", "/sys", self._workdir}
        for _, there in whole:
            self._unseen |= {there, *map(str, Path(there).parents)}
        return {"name": HOST, "program": program, "folder": str(self._folder), "layers": layers, "mounts": whole}

    @property
    def _layers(self) -> list[tuple[str, tuple[Path, ...]]]:
        """Where overlays are mounted, and the trees below each."""
        return [("/", (self._above, *self._lower.trees)), *((there, (Path(there),)) for there in self._lower.more)]

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
        runner, way = self._runner, self._way
        if runner is None or way is None:
            raise EnvironmentFault("run", "The environment does not run.")
        if network is not None:
            await way.change(network)
        whom = user or self._task.environment.user or self._lower.user
        changes_ = {**(env or {}), **({USER: whom} if whom else {})}
        output = Output(on_output)
        _met(runner)
        began = time.monotonic()
        try:
            process = await runner.spawn(
                list(command), cwd=cwd or self._workdir, on_output=output.add, stdin=bool(stdin), env=changes_
            )
        except SpawnError as error:
            # where the exec server was killed, it was by the command itself, or by what an earlier one left behind
            ended = "the sandbox ended" in str(error)
            code = _ENDED if ended else _NOT_FOUND if "There is no program" in str(error) else _NOT_STARTED
            return Ran(code, f"{error}\n".encode(), time.monotonic() - began)
        except (LatheError, StartFailed, RuntimeError) as error:
            raise EnvironmentFault("run", f"The environment has ended: {error}.") from None
        if stdin:
            process.write(stdin)
            process.close_stdin()
        killed = await self._watch(process, timeout_s)
        met = _met(runner)
        code = process.returncode if process.returncode is not None else -9
        if code and not killed:
            killed = "memory" if met.killed else "processes" if met.refused else ""
        return Ran(_SIGNAL - code if code < 0 else code, output.end(), time.monotonic() - began, killed)

    async def _watch(self, process: Process, timeout_s: float) -> str:
        """Return when a command has ended, and which limit ended it, "" for none."""
        limit = time.monotonic() + timeout_s
        waiting = asyncio.ensure_future(process.wait())
        try:
            while True:
                left = limit - time.monotonic()
                done, _ = await asyncio.wait({waiting}, timeout=min(_LOOK_S, max(left, 0)))
                if done:
                    return ""
                if time.monotonic() >= limit:
                    await process.kill()
                    return "time"
                if await self._disk.is_full():
                    await self._end_all()
                    return "disk"
        except asyncio.CancelledError:
            await process.kill()
            raise
        finally:
            waiting.cancel()

    async def _end_all(self) -> None:
        for runner in (self._earlier, self._runner):
            if runner is not None:
                await runner.end_all()

    async def put(self, here: Path, there: str, *, owner: str = "") -> None:
        """Copy a file or folder into it, as root's or another user's; with `/tests` comes what they fetch."""
        if not os.path.lexists(here):
            raise EnvironmentFault("files", f"There is no {here}.")
        there = self._absolute(there)
        await self._known().put(here, there, owner)
        if there == TESTS and self._lower.aided is not None:
            await self._aid(here, self._lower.aided)

    async def _aid(self, tests: Path, home: Path) -> None:
        """Put in what the tests of an image would fetch from the web."""
        from lathe.evals.environments.verifying import BIN, aid_for

        room = self._known()
        aid = await aid_for(tests, home, home / "aids.log")
        if aid.folder is not None:
            await room.put(aid.folder, BIN, "")
        for here, there in aid.mounts:
            await room.mount(here, there)
        for link, target in aid.links:
            await self.run(["ln", "-sfn", target, link], user="root")
        self.standins = tuple(dict.fromkeys((*self.standins, *aid.sentences)))

    async def get(self, there: str, here: Path) -> bool:
        """Copy a file or folder out of it."""
        return await self._known().get(self._absolute(there), here)

    def _known(self) -> Room:
        if self._room is None:
            raise EnvironmentFault("files", "The environment does not run.")
        return self._room

    def _absolute(self, path: str) -> str:
        return os.path.normpath(f"{self._workdir}/{path}" if not path.startswith("/") else path)

    async def changes(self) -> list[Change]:
        """Return what differs from the image, also after the end of all processes, but not after `stop`."""
        return await asyncio.to_thread(self._changes)

    def original(self, path: str) -> Path | None:
        """Return the image's file at `path`; what a link leads out of the image to is none of it."""
        if any(path.startswith(f"{there}/") for there in self._lower.more):
            return Path(path) if Path(path).is_file() else None
        for tree in self._lower.trees:
            here = Path(os.path.realpath(tree / path.lstrip("/")))
            if here.is_file() and here.is_relative_to(tree.resolve()):
                return here
        return None

    def _changes(self) -> list[Change]:
        found: list[Change] = []
        for upper, (there, lowers) in zip(self._uppers, self._layers, strict=True):
            if upper.is_dir():
                found += changes(upper, lowers, there, self._unseen, _OWNER)
        return sorted(set(found))

    async def stop(self) -> None:
        """End every process and remove what is left."""
        room, runners, way = self._room, (self._runner, self._earlier), self._way
        self._room = self._runner = self._earlier = self._way = None
        if way is not None:
            await way.close()
        if room is not None:
            await room.end()
        for runner in runners:
            if runner is not None:
                with contextlib.suppress(LatheError, StartFailed):
                    await runner.aclose()
        if self._folder.is_dir():
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _met(runner: Runner) -> Counts:
    return runner.controls.met() if runner.controls is not None else Counts()
