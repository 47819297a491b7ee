"""Lathe's environments under Harbor: `harbor run --env lathe.evals.harnesses.harbor_environment:LatheEnvironment`.

Tasks run without Docker then. A task with neither Dockerfile nor image gets a plain root file system with this
machine's programs, and what lies in its `environment/`. Like the agent, this is imported under Harbor's Python only.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities
from harbor.models.task.config import NetworkMode, NetworkPolicy

from lathe.evals.environments.base import EnvironmentFault, EnvironmentMaker
from lathe.evals.harnesses.equipped import Equipped, Outcome, new_maker
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec
from lathe.protocol.ids import short_id

_LOGS = ("/logs/agent", "/logs/verifier", "/logs/artifacts")


class LatheEnvironment(BaseEnvironment):
    """A room for one trial of Harbor's."""

    def __init__(self, *given: Any, kind: str = "auto", **named: Any) -> None:
        self._kind = kind
        self._maker: EnvironmentMaker | None = None
        self._room: Equipped | None = None
        self._network: Network | None = None
        super().__init__(*given, **named)

    @staticmethod
    def type() -> str:
        """Return the name of the environment in Harbor's results."""
        return "lathe"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """What Harbor may ask of it: network policies are kept, and may change between phases."""
        return EnvironmentCapabilities(
            disable_internet=True,
            network_allowlist=True,
            network_allowlist_hostnames=True,
            network_allowlist_wildcard_hostnames=True,
            network_allowlist_ipv4_addresses=True,
            network_allowlist_ipv4_cidrs=True,
            dynamic_network_policy=True,
        )

    @classmethod
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities:
        """Both limits are held by a control group."""
        return EnvironmentResourceCapabilities(cpu_limit=True, memory_limit=True)

    def _validate_definition(self) -> None:
        if (self.environment_dir / "docker-compose.yaml").exists():
            raise ValueError("The task is of several containers, and Lathe's environment is only one.")

    def _task(self) -> Task:
        config = self.task_env_config
        context = self.environment_dir if (self.environment_dir / "Dockerfile").exists() else None
        image = "" if context else config.docker_image or ""
        workdir = config.workdir or "/app"
        resources = Resources(
            cpus=float(self._effective_cpus or 1),
            memory_mb=int(self._effective_memory_mb or 0),
            disk_mb=int(self._effective_storage_mb or 0),
        )
        spec = EnvironmentSpec(
            context=context,
            image=image,
            files=() if context or image else ((self.environment_dir, workdir),),
            workdir=config.workdir or ("" if context or image else workdir),
            network=_network(self._network_policy),
            resources=resources,
        )
        return Task(
            name=self.environment_name,
            dataset="harbor",
            digest=f"harbor-{self.environment_id}",
            instruction="",
            environment=spec,
            verifier=VerifierSpec(),
        )

    async def start(self, force_build: bool) -> None:
        """Have the image and the room ready."""
        task = self._task()
        self._maker = maker = new_maker(self._kind)
        with tempfile.NamedTemporaryFile(prefix="lathe-build-", suffix=".log") as log:
            await maker.prepare(task, Path(log.name))
        self._room = Equipped(maker.make(task, short_id("harbor")))
        await self._room.start()
        made = await self._room.run(["/bin/sh", "-c", 'mkdir -p "$@" && chmod 777 "$@"', "sh", *_LOGS], user="root")
        if made.code:
            raise EnvironmentFault("start", f"Harbor's folders could not be made: {_text(made.stderr)}")
        await self._upload_environment_dir_after_start()

    async def stop(self, delete: bool) -> None:
        """End every process and give everything back."""
        room, maker = self._room, self._maker
        self._room = self._maker = None
        if room is not None:
            await room.place.stop()
        if maker is not None:
            await maker.close()

    def _known(self) -> Equipped:
        if self._room is None:
            raise EnvironmentFault("run", "The environment does not run.")
        return self._room

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Run a line of bash."""
        whom = self._resolve_user(user)
        network, self._network = self._network, None
        ran: Outcome = await self._known().run(
            ["bash", "-c", command],
            cwd=cwd or "",
            env=self._merge_env(env),
            user="" if whom is None else str(whom),
            timeout_s=timeout_sec,
            network=network,
        )
        if ran.killed == "time":
            raise RuntimeError(f"The command did not end within {timeout_sec} seconds.")
        return ExecResult(stdout=_text(ran.stdout), stderr=_text(ran.stderr), return_code=ran.code)

    async def _apply_network_policy(self, network_policy: NetworkPolicy) -> None:
        self._network = _network(network_policy)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        """Copy a file into it."""
        await self._known().place.put(Path(source_path), target_path)

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        """Copy what is in a folder to a folder in there."""
        await self._known().place.put(Path(source_dir), target_dir)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        """Copy a file out of it."""
        Path(target_path).parent.mkdir(parents=True, exist_ok=True)
        if not await self._known().place.get(source_path, Path(target_path)):
            raise FileNotFoundError(source_path)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        """Copy what is in a folder in there to a folder here."""
        with tempfile.TemporaryDirectory(prefix="lathe-harbor-") as folder:
            copied = Path(folder, "copied")
            if not await self._known().place.get(source_dir, copied):
                raise FileNotFoundError(source_dir)
            shutil.copytree(copied, target_dir, dirs_exist_ok=True, symlinks=True)


def _network(policy: NetworkPolicy) -> Network:
    match policy.network_mode:
        case NetworkMode.NO_NETWORK:
            return Network("none")
        case NetworkMode.ALLOWLIST:
            return Network("allowlist", tuple(policy.allowed_hosts))
        case _:
            return Network("public")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
