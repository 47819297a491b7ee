"""What a trial needs of the place it runs in. Every kind of environment keeps to this, and none knows what a trial is.

An environment that fails raises `EnvironmentFault`: that is never the agent's failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

from lathe.evals.task import Network, Task

Stage: TypeAlias = Literal["build", "start", "run", "files", "stop"]
How: TypeAlias = Literal["added", "changed", "removed"]


class EnvironmentFault(Exception):
    """The place failed, not who works in it. `stage` says when, the message says it in one sentence."""

    def __init__(self, stage: Stage, message: str) -> None:
        super().__init__(message)
        self.stage: Stage = stage


class Ran(NamedTuple):
    """A command that ended. `output` is stdout and stderr as they came, its middle left out past the limit.

    `code` is 128 + the signal where one ended it. `killed` says which limit did: `time`, `memory`, `processes`,
    `disk`, or "".
    """

    code: int
    output: bytes
    wall_s: float
    killed: str = ""


class Mount(NamedTuple):
    """A folder or file of this machine that is seen in there, read-only."""

    here: Path
    there: str


class Door(NamedTuple):
    """A port inside, on 127.0.0.1, that leads to an address of this machine's, whatever the network policy says."""

    port: int
    host: str
    to_port: int


class Change(NamedTuple):
    """A path inside that differs from the image."""

    path: str
    how: How


class Environment(Protocol):
    """One trial's place: its own files, processes, network and limits. Used by one task of the event loop at a time."""

    kind: str
    standins: tuple[str, ...]
    """What stands in for something that could not be had: base images, downloads. Each trial's record names them."""

    async def start(self, mounts: Sequence[Mount] = (), doors: Sequence[Door] = ()) -> None:
        """Have it ready for commands; raise `EnvironmentFault`."""
        ...

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
        """Run a command to its end and return how that went; raise `EnvironmentFault`.

        What it leaves running lives on until `stop`, but past `timeout_s` all of its processes are killed. `cwd` ""
        is the image's own. With `network`, what may be reached from now on changes.
        """
        ...

    async def put(self, here: Path, there: str, *, owner: str = "") -> None:
        """Copy a file or folder into it; raise `EnvironmentFault`."""
        ...

    async def get(self, there: str, here: Path) -> bool:
        """Copy a file or folder out of it; return whether it was there."""
        ...

    async def hand_over(self, *, end: bool) -> None:
        """Have the verifier come next: `/tests` and `/logs/verifier` are new and empty; raise `EnvironmentFault`.

        With `end`, all that still runs is ended. Else it lives on, and where that can be had it does not see what is
        put and written to these folders from now on.
        """
        ...

    async def changes(self) -> list[Change]:
        """Return what differs from the image, in order of path."""
        ...

    def original(self, path: str) -> Path | None:
        """Return where on this machine the file lies that the image has at `path`; None where it has none, or hides it.

        It is only to be read.
        """
        ...

    async def stop(self) -> None:
        """End every process and give everything back. Safe to call twice, and after anything that failed."""
        ...


class EnvironmentMaker(Protocol):
    """A kind of environment, for a whole run: it builds each task's image once and makes places from it."""

    kind: str

    async def prepare(self, task: Task, log: Path) -> float:
        """Have the task's image ready, and return how many seconds that took (0.0 where it was); `log` gets the output.

        Raises `EnvironmentFault`.
        """
        ...

    def make(self, task: Task, trial: str) -> Environment:
        """Return a place for a trial; `trial` is a name that nothing else has."""
        ...

    async def close(self) -> None:
        """Give back everything of the run, also what a run before it left behind."""
        ...
