"""What an agent under test is: something that works on a task in an environment, and says what that took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from lathe.evals.environments.base import Door, Environment, Mount
from lathe.evals.task import Task


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What models took. `usd` is None where no price is known."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    usd: float | None = None


class Served(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model was asked for, which one served, and how often; `substitution` is the gateway's reason, or ""."""

    requested: str
    model: str
    requests: int
    substitution: str = ""


class Work(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an agent did.

    `ended` says how: `done` by itself, `timeout`, `stopped` by a safeguard, `unreachable` where no model could be
    asked (an infrastructure fault), `crashed` where the agent's program failed. `answer` is its last words (a flag
    stands there). `model_s` and `tool_s` are seconds that it waited for models and tools, 0 where it does not say.
    `trajectory` is an ATIF file, `thread` a journal that `lathe resume` can open; both lie in the trial's folder.
    """

    ended: str
    answer: str = ""
    cost: Cost = Cost()
    served: tuple[Served, ...] = ()
    model_s: float = 0.0
    tool_s: float = 0.0
    steps: int = 0
    trajectory: str = ""
    thread: str = ""
    why: str = ""


class Setup(NamedTuple):
    """What an agent needs of its environment before that is started."""

    mounts: Sequence[Mount] = ()
    doors: Sequence[Door] = ()


class Agent(Protocol):
    """One agent, configured; used for many trials at once, so it keeps nothing of any."""

    name: str
    model: str

    def setup(self, task: Task) -> Setup:
        """Return what it needs in there."""
        ...

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        """Work on the task; never raise for anything the agent itself does wrong.

        `folder` is the trial's, for logs, the trajectory and the thread. `say` tells what it is at, in a few words.
        Raises `EnvironmentFault` where the place failed.
        """
        ...

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """Take back what it did on the task, by what the agent has for that; as `work` otherwise.

        It is asked for by tasks that have a `VerifierSpec.interim`. `folder` is for the logs of this alone.
        """
        ...
