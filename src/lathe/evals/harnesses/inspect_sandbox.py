"""Lathe's environments as a sandbox of Inspect: `sandbox="lathe"`.

A sample gets a room of its own, without Docker: a root file system, an overlay and bubblewrap. Lathe is seen in there,
so that `lathe/agent` has nothing to install.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeVar

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    sandboxenv,
)
from pydantic import BaseModel, ConfigDict

from lathe.evals.environments.base import EnvironmentFault, EnvironmentMaker
from lathe.evals.harnesses.equipped import Equipped, new_maker
from lathe.evals.task import EnvironmentSpec, Network, NetworkMode, Resources, Task, VerifierSpec
from lathe.protocol.ids import short_id

_NOT_EXECUTABLE = 126
_LOOK = '[ -d "$0" ] && exit 2; [ -e "$0" ] || exit 3; [ -r "$0" ] || exit 4; wc -c <"$0"'
_MAY_WRITE = '[ -d "$0" ] && exit 2; mkdir -p "${0%/*}" || exit 4; [ ! -e "$0" ] || [ -w "$0" ] || exit 4'
_T = TypeVar("_T")


class LatheSandboxConfig(BaseModel):
    """What a task can say of its sandboxes: `SandboxEnvironmentSpec("lathe", LatheSandboxConfig(...))`.

    `context` is the folder of a Dockerfile, `image` one that is built already; with neither it is a plain root file
    system with this machine's programs. `environment` is one of Lathe's kinds. Memory and disk are in MiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str = "auto"
    context: str = ""
    image: str = ""
    workdir: str = "/app"
    user: str = ""
    network: NetworkMode = "none"
    hosts: tuple[str, ...] = ()
    cpus: float = 1.0
    memory_mb: int = 2048
    disk_mb: int = 10_240
    processes: int = 4096

    @classmethod
    def of(cls, given: BaseModel | str | None) -> LatheSandboxConfig:
        """Return what a task gave: this, the path of a Dockerfile or its folder, or nothing."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            path = Path(given).absolute()
            return cls(context=str(path.parent if path.is_file() else path), workdir="")
        return cls() if given is None else cls(**given.model_dump())

    def task(self, name: str) -> Task:
        """Return the task that Lathe's environments want."""
        spec = EnvironmentSpec(
            context=Path(self.context).absolute() if self.context else None,
            image=self.image,
            workdir=self.workdir,
            user=self.user,
            network=Network(self.network, self.hosts),
            resources=Resources(self.cpus, self.memory_mb, self.disk_mb, self.processes),
        )
        return Task(
            name=name,
            dataset="inspect",
            digest=f"inspect-{self.model_dump_json()}",
            instruction="",
            environment=spec,
            verifier=VerifierSpec(),
        )


@sandboxenv(name="lathe")
class LatheSandbox(SandboxEnvironment):
    """One sample's room."""

    _makers: ClassVar[dict[tuple[str, str], EnvironmentMaker]] = {}
    """By task and kind of environment; they live as long as the task."""

    def __init__(self, room: Equipped) -> None:
        super().__init__()
        self._room = room

    @classmethod
    def config_files(cls) -> list[str]:
        """Return what is looked for beside a task's file."""
        return ["Dockerfile"]

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Return the configuration that a log holds."""
        return LatheSandboxConfig(**config)

    @classmethod
    async def task_init(cls, task_name: str, config: BaseModel | str | None) -> None:
        """Have the image ready."""
        await cls._prepared(task_name, LatheSandboxConfig.of(config))

    @classmethod
    async def _prepared(cls, task_name: str, config: LatheSandboxConfig) -> tuple[EnvironmentMaker, Task]:
        key = (task_name, config.environment)
        if key not in cls._makers:
            cls._makers[key] = new_maker(config.environment)
        maker, task = cls._makers[key], config.task(task_name)
        with tempfile.NamedTemporaryFile(prefix="lathe-build-", suffix=".log") as log:
            await maker.prepare(task, Path(log.name))
        return maker, task

    @classmethod
    async def sample_init(
        cls, task_name: str, config: BaseModel | str | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Return the sample's room, started, with Lathe in it."""
        maker, task = await cls._prepared(task_name, LatheSandboxConfig.of(config))
        room = Equipped(maker.make(task, short_id(PurePosixPath(task_name).name)))
        await room.start()
        return {"default": cls(room)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: BaseModel | str | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Give the rooms back."""
        for one in environments.values():
            await one.as_type(cls)._room.place.stop()

    @classmethod
    async def task_cleanup(cls, task_name: str, config: BaseModel | str | None, cleanup: bool) -> None:
        """Give back what the task's rooms were made of."""
        for key in [key for key in cls._makers if key[0] == task_name]:
            await cls._makers.pop(key).close()

    def default_polling_interval(self) -> float:
        """Return how often Inspect looks for requests from in there, in seconds: a look costs milliseconds."""
        return 0.2

    async def exec(  # noqa: PLR0917  Inspect says what is given how
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command; of more output than Inspect takes, the end is returned."""
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        stdin = input.encode() if isinstance(input, str) else input or b""
        running = self._room.run(
            cmd, cwd=cwd or "", env=env, user=user or "", timeout_s=timeout, stdin=stdin, limit=limit
        )
        ran = await _known(running)
        if ran.killed == "time":
            raise TimeoutError(f"The command did not end within {timeout} seconds.")
        stdout, stderr = (one.decode("utf-8", "replace") for one in (ran.stdout, ran.stderr))
        if ran.code == _NOT_EXECUTABLE and "ermission denied" in stderr:
            raise PermissionError(stderr.strip())
        return ExecResult(ran.code == 0, ran.code, stdout, stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file, with the folders above it."""
        await self._look(_MAY_WRITE, file)
        with tempfile.NamedTemporaryFile(prefix="lathe-inspect-") as draft:
            draft.write(contents.encode() if isinstance(contents, str) else contents)
            draft.flush()
            room = self._room
            await _known(room.place.put(Path(draft.name), room.absolute(file), owner=room.owner))

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Return a file's text, its line ends as they are, or its bytes."""
        size = int(await self._look(_LOOK, file))
        if size > SandboxEnvironmentLimits.MAX_READ_FILE_SIZE:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        with tempfile.TemporaryDirectory(prefix="lathe-inspect-") as folder:
            here = Path(folder, "file")
            if not await _known(self._room.place.get(self._room.absolute(file), here)):
                raise FileNotFoundError(2, "No such file or directory", file)
            content = here.read_bytes()
        return content.decode("utf-8") if text else content

    async def _look(self, script: str, file: str) -> bytes:
        """Return what a script prints of a file; raise the error of the file system that its exit code stands for."""
        ran = await _known(self._room.run(["/bin/sh", "-c", script, self._room.absolute(file)]))
        match ran.code:
            case 2:
                raise IsADirectoryError(21, "Is a directory", file)
            case 3:
                raise FileNotFoundError(2, "No such file or directory", file)
            case 4:
                raise PermissionError(13, "Permission denied", file)
        return ran.stdout


async def _known(doing: Awaitable[_T]) -> _T:
    """Return what comes of it; raise Inspect's error where the environment failed."""
    try:
        return await doing
    except EnvironmentFault as error:
        raise SandboxUnavailableError(str(error)) from error
