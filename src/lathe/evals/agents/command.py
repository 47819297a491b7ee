"""Command-line agents: what they are called with, and what is read of what they leave.

Each works in the environment, with the gateway at a port of its own there, and with a key that is good for nothing
else. `/agent` is theirs: settings, events, threads; it is copied to the trial's folder when they have ended.
"""

from __future__ import annotations

import asyncio
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lathe.evals.access import Access
from lathe.evals.agents.base import Setup, Work
from lathe.evals.environments.base import Environment, Mount, Ran
from lathe.evals.metering import Meter, Unmetered
from lathe.evals.task import Task
from lathe.protocol.errors import LatheError

if TYPE_CHECKING:
    from lathe.evals.atif import Trajectory

HOME = "/agent"
TAKE_BACK = """\
An agent like you has worked here before you, and I have gone on working since. Take back what it did, all of it and \
nothing else: what I did is to stay, in the same files too. This is what has changed so far, by whomever:

{diff}"""
TOLD_BYTES = 65_536


class CommandAgent(ABC):
    """One such agent with one model, reached by `access` (None for those that ask none)."""

    name: str

    def __init__(self, model: str, access: Access | None, cache_folder: Path) -> None:
        self.model = model
        self.access = access
        self._meter = Meter(access) if access is not None else None
        self.cache_folder = cache_folder

    @abstractmethod
    def mounts(self) -> Sequence[Mount]:
        """Return what has to be seen in there; raise `ConfigError` where it is not on this machine."""

    @abstractmethod
    def command(self, task: Task) -> Sequence[str]:
        """Return what it is started with. Its standard input is the instruction."""

    @abstractmethod
    def environ(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """Return the variables that it needs; `access` has the trial's own key."""

    def settings(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """Return the files that it finds in `/agent`."""
        return {}

    @abstractmethod
    def read(self, folder: Path, ran: Ran) -> Work:
        """Return what it did, from what it left in `folder`, a copy of `/agent`, and how its command ended."""

    def trajectory(self, folder: Path, task: Task) -> Trajectory | None:
        """Return what it did step by step, from what it left; None where that does not say."""
        return None

    def setup(self, task: Task) -> Setup:
        """See `Agent.setup`."""
        return Setup(self.mounts(), (self.access.door,) if self.access is not None else ())

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        """See `Agent.work`."""
        if self._meter is None:
            return await self._worked(task, place, folder, self.access)
        try:
            async with self._meter.lease(folder.name) as lease:
                if lease is None:
                    return await self._worked(task, place, folder, self.access)
                work = await self._worked(task, place, folder, lease.access)
                taken = await lease.taken()
        except Unmetered as error:
            return Work(ended="unreachable", why=str(error))
        if work.ended == "crashed" and taken.failed and not taken.cost.requests:
            return Work(ended="unreachable", why=f"No model answered: {work.why}".strip())
        return msgspec.structs.replace(work, cost=taken.cost, served=taken.served)

    async def _worked(self, task: Task, place: Environment, folder: Path, access: Access | None) -> Work:
        own = folder / "agent"
        own.mkdir(parents=True, exist_ok=True)
        for path, text in self.settings(task, access).items():
            (own / path).parent.mkdir(parents=True, exist_ok=True)
            (own / path).write_text(text, encoding="utf-8")
        await place.put(own, HOME)
        command = shlex.join(self.command(task))
        script = f"{command} >{HOME}/events.jsonl 2>{HOME}/messages.log"
        ran = await self._ran(["/bin/sh", "-c", script], task, place, access, task.instruction.encode())
        await place.get(HOME, own)
        return await asyncio.to_thread(self._recorded, own, folder, task, ran)

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """See `Agent.take_back`: it is asked in words, in a session of its own."""
        diff = folder.parent / "diff.patch"
        what = diff.read_text("utf-8", "replace")[:TOLD_BYTES] if diff.is_file() else ""
        await self.work(msgspec.structs.replace(task, instruction=TAKE_BACK.format(diff=what)), place, folder, say)

    async def _ran(
        self, command: Sequence[str], task: Task, place: Environment, access: Access | None, stdin: bytes = b""
    ) -> Ran:
        """Run one of the agent's commands as the task has it, with its variables, and return how it ended."""
        return await place.run(
            command,
            cwd=task.environment.workdir,
            env={**task.environment.env, "LANG": "C.UTF-8", **self.environ(task, access)},
            user=task.environment.user,
            timeout_s=task.agent_timeout_s,
            network=task.network("agent"),
            stdin=stdin,
        )

    def _recorded(self, own: Path, folder: Path, task: Task, ran: Ran) -> Work:
        from lathe.evals import atif
        from lathe.evals.agents.recording import replay_of

        work = self.read(own, ran)
        try:
            trajectory = self.trajectory(own, task)
            if trajectory is None:
                return work
            (folder / "trajectory.json").write_bytes(atif.write(trajectory))
        except (atif.TrajectoryError, LatheError):
            return work  # an agent that ended before its first step left none
        (folder / "terminal.jsonl").write_text(replay_of(trajectory, ran.wall_s), encoding="utf-8")
        return msgspec.structs.replace(work, trajectory="trajectory.json")


def last_line(path: Path) -> str:
    """Return the last line of what a program said, "" where it said nothing."""
    try:
        return path.read_text(errors="replace").strip().rpartition("\n")[2][:500]
    except OSError:
        return ""
