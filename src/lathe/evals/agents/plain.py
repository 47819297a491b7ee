"""The agents that ask no model: one that does nothing, one that knows the solution, and any script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lathe.evals.agents.base import Setup, Work
from lathe.evals.agents.recording import Recorder
from lathe.evals.environments.base import Environment
from lathe.evals.task import Task

_SHOWN = 64 * 1024


class NoOp:
    """Does nothing. A task that it solves measures nothing."""

    name = "noop"
    model = ""

    def setup(self, task: Task) -> Setup:
        """See `Agent.setup`."""
        return Setup()

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        """See `Agent.work`."""
        return Work(ended="done")

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """See `Agent.take_back`."""


class Oracle:
    """Runs the task's own solution. A task that it does not solve is broken, or needs what this machine has not."""

    name = "oracle"
    model = ""

    def setup(self, task: Task) -> Setup:
        """See `Agent.setup`."""
        return Setup()

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        """See `Agent.work`."""
        if task.verifier.flag:
            return Work(ended="done", answer=task.verifier.flag)
        if task.solution is None:
            return Work(ended="crashed", why="The task has no solution.")
        await place.put(task.solution, "/solution")
        return await _scripted("/solution/solve.sh", task, place, folder, env=task.solution_env)

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """See `Agent.take_back`: the solution's `undo.sh`."""
        if task.solution is not None and (task.solution / "undo.sh").is_file():
            await _scripted("/solution/undo.sh", task, place, folder, env=task.solution_env)


class Script:
    """Runs a script of this machine's in the place of an agent: for agents of one's own, and for tests of tasks."""

    model = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"script:{path.name}"

    def setup(self, task: Task) -> Setup:
        """See `Agent.setup`."""
        return Setup()

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        """See `Agent.work`."""
        return await self._run("work", task, place, folder)

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """See `Agent.take_back`: the same script, told so by `AGENT_PHASE`."""
        await self._run("undo", task, place, folder)

    async def _run(self, phase: str, task: Task, place: Environment, folder: Path) -> Work:
        await place.put(self.path, "/agent/script.sh")
        env = {"LATHE_INSTRUCTION": task.instruction, "AGENT_PHASE": phase}
        shown = self.path.read_text("utf-8", "replace")[:_SHOWN]
        return await _scripted("/agent/script.sh", task, place, folder, env=env, shown=shown)


async def _scripted(
    path: str, task: Task, place: Environment, folder: Path, *, env: dict[str, str], shown: str = ""
) -> Work:
    """Run a script as the agent; `shown` is what stands in the trajectory in its place."""
    command = ["bash", path]
    with Recorder(folder, task.instruction) as recorder:
        recorder.command(shown.rstrip() or f"bash {path}")
        ran = await place.run(
            command,
            cwd=task.environment.workdir,
            env=env,
            user=task.environment.user,
            timeout_s=task.agent_timeout_s,
            network=task.network("agent"),
            on_output=recorder.output,
        )
        recorder.ended(ran)
    answer = ran.output.decode(errors="replace").strip().rpartition("\n")[2][:2000]
    if ran.killed == "time":
        return Work(ended="timeout", steps=1, tool_s=ran.wall_s, trajectory=recorder.trajectory)
    why = f"It ended with exit code {ran.code}." if ran.code else ""
    return Work(
        ended="crashed" if ran.code else "done",
        why=f"{why} The limit of {ran.killed} was reached." if ran.killed else why,
        answer=answer,
        steps=1,
        tool_s=ran.wall_s,
        trajectory=recorder.trajectory,
    )
