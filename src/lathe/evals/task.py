"""What a task is, whatever format it was written in: an instruction, an environment, limits, and a verifier.

The words are Harbor's (https://harborframework.com/docs/task-format): a task is a folder; its verifier writes a reward;
its solution is there for the oracle alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

NetworkMode: TypeAlias = Literal["none", "allowlist", "public"]
Phase: TypeAlias = Literal["build", "agent", "verifier"]
FlagRule: TypeAlias = Literal["contained", "last-line", "last-line-any-case"]
Leftovers: TypeAlias = Literal["live", "ended"]


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be reached. `hosts` counts for `allowlist` only: names, `*.` patterns, addresses and networks."""

    mode: NetworkMode = "public"
    hosts: tuple[str, ...] = ()


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an environment gets. Memory and disk are in MiB, 0 for no limit of the task's own."""

    cpus: float = 1.0
    memory_mb: int = 2048
    disk_mb: int = 10_240
    processes: int = 4096
    gpus: int = 0


class Healthcheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an environment is ready: `command` (for a shell) exits 0. Docker's HEALTHCHECK words; times are in seconds.

    It is tried until `retries` tries in a row have failed; those within the first `start_period_s` don't count.
    """

    command: str
    interval_s: float = 5.0
    timeout_s: float = 30.0
    start_period_s: float = 0.0
    start_interval_s: float = 5.0
    retries: int = 3


class EnvironmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a task is worked on.

    `context` is the folder of a Dockerfile (or of a compose file, where `compose` is true: `docker-compose.yaml`, whose
    service `main` is the agent's), `image` one that is built already. With neither, `files` are put into a plain root
    file system: pairs of a path here and the path there. `build_timeout_s` is in seconds; `user` runs the agent, "" the
    image's own.
    """

    context: Path | None = None
    compose: bool = False
    image: str = ""
    files: tuple[tuple[Path, str], ...] = ()
    workdir: str = ""
    env: dict[str, str] = {}
    user: str = ""
    resources: Resources = Resources()
    network: Network = Network()
    build_timeout_s: float = 600.0
    healthcheck: Healthcheck | None = None


class VerifierSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the work is judged: `tests` is put to `/tests`, and `command` run there when the agent has ended.

    It writes `/logs/verifier/reward.txt` (one number) or `reward.json` (numbers by name). `flag` is there for
    capture-the-flag: the reward is 1 where the agent's answer gives it; then nothing is run. `flag_rule` says what that
    is: it stands anywhere in the answer, or it is the answer's last line that isn't blank (in any case, or as it is).
    `interim`, where it is given, is run before all that when the agent has ended, with the same tests, and may leave
    notes in `/logs/interim`; then the agent is asked to take back what it did, and the verifier judges what is left.

    `leftovers` says what becomes of processes that the agent left: a service that the verifier is to reach has to live.
    With `carried`, the work is judged in a place of its own, made as the agent's was: of the agent's, only what lies at
    these paths is carried over, and no process.
    """

    tests: Path | None = None
    command: tuple[str, ...] = ("bash", "/tests/test.sh")
    env: dict[str, str] = {}
    user: str = ""
    network: Network | None = None
    timeout_s: float = 600.0
    flag: str = ""
    flag_rule: FlagRule = "contained"
    interim: tuple[str, ...] = ()
    leftovers: Leftovers = "live"
    carried: tuple[str, ...] = ()


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task of a dataset.

    `digest` is a hash of all that the task is made of, so that a trial says what exactly was tried. `solution` is a
    folder that is put to `/solution` for the oracle, whose `solve.sh` is run. `cluster` names what tasks share that
    makes their outcomes hang together (a source repository, a family); intervals are drawn over it. `source` is the
    folder or file it was read from.
    """

    name: str
    dataset: str
    digest: str
    instruction: str
    environment: EnvironmentSpec
    verifier: VerifierSpec
    solution: Path | None = None
    solution_env: dict[str, str] = {}
    agent_timeout_s: float = 900.0
    agent_network: Network | None = None
    category: str = ""
    difficulty: str = ""
    tags: tuple[str, ...] = ()
    cluster: str = ""
    source: Path | None = None

    def network(self, phase: Phase) -> Network:
        """Return what may be reached in a phase."""
        own = {"agent": self.agent_network, "verifier": self.verifier.network}.get(phase)
        return own if own is not None else self.environment.network


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tasks that belong together. `unread` names what looks like a task and could not be read, and why."""

    name: str
    version: str
    tasks: tuple[Task, ...]
    licence: str = ""
    unread: tuple[tuple[str, str], ...] = ()
