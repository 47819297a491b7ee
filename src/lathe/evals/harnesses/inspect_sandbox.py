"""Lathe's Docker-free environment as a sandbox of Inspect: `sandbox="lathe"`.

A sample gets a room of its own: a root file system, an overlay and bubblewrap, or whatever environment of Lathe's its
configuration names. Lathe itself is seen in there, so that `lathe/agent` has nothing to install.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    sandboxenv,
)
from pydantic import BaseModel, ConfigDict

from lathe.evals.environments.base import Environment, EnvironmentFault, EnvironmentMaker, Ran
from lathe.evals.task import EnvironmentSpec, Network, NetworkMode, Resources, Task, VerifierSpec

_NO_LIMIT_S = 30 * 86_400.0
_NOT_EXECUTABLE = 126
_SPLIT = 'umask 077; "$@" 2>"$0"; code=$?; printf "\\n%s\\n" "$LATHE_MARK"; cat "$0"; rm -f "$0"; exit $code'
"""Runs a command with its standard error apart, which comes after a mark: an environment gives one output only."""


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
        digest = f"inspect-{self.model_dump_json()}"
        return Task(name=name, dataset="inspect", digest=digest, instruction="", environment=spec, verifier=VerifierSpec())


@sandboxenv(name="lathe")
class LatheSandbox(SandboxEnvironment):  # type: ignore[misc, unused-ignore]
    """One sample's room."""

    _makers: dict[str, EnvironmentMaker] = {}  # noqa: RUF012  by kind; they live as long as the task

    def __init__(self, place: Environment, workdir: str, user: str) -> None:
        super().__init__()
        self._place = place
        self._workdir = workdir
        self._user = user

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Return the configuration that a log holds."""
        return LatheSandboxConfig(**config)
