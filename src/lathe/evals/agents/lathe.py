"""Lathe itself under test: with a model behind a gateway, or with the embedded engine and none.

It asks nobody, and runs without a sandbox of its own, for the environment is one; but where a person works beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lathe.evals.access import Access, name_of
from lathe.evals.agents.base import Cost, Served, Work
from lathe.evals.agents.command import HOME, CommandAgent, last_line
from lathe.evals.agents.programs import LIBRARIES, START, python_mounts, this_python
from lathe.evals.environments.base import Environment, Mount, Ran
from lathe.evals.task import Task
from lathe.protocol.codec import decode_event
from lathe.protocol.errors import ExitCode
from lathe.protocol.events import (
    AgentMessage,
    CommandExecution,
    Event,
    ItemCompleted,
    ModelServed,
    TurnCompleted,
    TurnFailed,
)
from lathe.protocol.usage import Usage

if TYPE_CHECKING:
    from lathe.evals.atif import Trajectory

_ENDS = {int(ExitCode.DONE): "done", int(ExitCode.SAFEGUARD): "stopped", int(ExitCode.UNREACHABLE): "unreachable"}


class LatheAgent(CommandAgent):
    """`lathe exec`; the model `mend` is the embedded engine."""

    name = "lathe"

    def mounts(self) -> Sequence[Mount]:
        """See `CommandAgent.mounts`."""
        return python_mounts(self.cache_folder)

    def command(self, task: Task) -> Sequence[str]:
        """See `CommandAgent.command`."""
        model = "mend" if self.access is None else f"eval/{name_of(self.model)}"
        # Beside a person it is confined as it is by default, or it could not tell its own writes from theirs.
        sandbox = "workspace-write" if task.verifier.interim else "danger-full-access"
        options = ["--json", "-s", sandbox, "-a", "never", "-m", model]
        return [this_python(), "-c", START, "exec", *options, "-"]

    def environ(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.environ`."""
        own = {"LATHE_HOME": f"{HOME}/lathe", "XDG_CONFIG_HOME": f"{HOME}/config", "LD_LIBRARY_PATH": LIBRARIES}
        paths = [str(Path(__file__).resolve().parents[3]), task.environment.env.get("PYTHONPATH", "")]
        own["PYTHONPATH"] = ":".join(filter(None, paths))  # the task's own is for its tests, which Lathe runs
        return own if access is None else {**own, "LATHE_EVAL_KEY": access.key}

    def settings(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.settings`."""
        if access is None:
            return {}
        where = f'base_url = "{access.inside}/v1"\nwire = "responses"\nkey_env = "LATHE_EVAL_KEY"\n'
        return {"config/lathe/config.toml": f"[providers.eval]\n{where}"}

    async def take_back(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
        """See `Agent.take_back`: `lathe undo`."""
        ran = await self._ran([this_python(), "-c", START, "undo"], task, place, None)
        (folder / "undo.log").write_bytes(ran.output)

    def read(self, folder: Path, ran: Ran) -> Work:
        """See `CommandAgent.read`."""
        usage, requests, steps, tool_ms, answer, why = Usage(), 0, 0, 0.0, "", ""
        swaps: dict[tuple[str, str, str], int] = {}
        for event in events(folder / "events.jsonl"):
            match event:
                case TurnCompleted():
                    usage, requests = event.usage, event.steps
                case TurnFailed(error=error):
                    usage, requests, why = event.usage or usage, event.steps, error.message
                case ItemCompleted(item=AgentMessage(text=text)):
                    answer, steps = text, steps + 1
                case ItemCompleted(item=CommandExecution(wall_ms=wall)):
                    steps, tool_ms = steps + 1, tool_ms + (wall or 0.0)
                case ItemCompleted():
                    steps += 1
                case ModelServed(requested=asked, served=other, why=reason):
                    swap = (asked, other, reason or "no reason given")
                    swaps[swap] = swaps.get(swap, 0) + 1
                case _:
                    pass
        if not why and ran.code:
            why = last_line(folder / "messages.log")
        thread = next(iter(sorted((folder / "lathe" / "threads").glob("*.jsonl"))), None)
        if self.access is None:
            requests = 0  # the embedded engine is no model
        served = [Served(asked, other, count, reason) for (asked, other, reason), count in swaps.items()]
        if own := requests - sum(swaps.values()):
            served.insert(0, Served(name_of(self.model), name_of(self.model), own))
        return Work(
            ended="timeout" if ran.killed == "time" else _ENDS.get(ran.code, "crashed"),
            answer=answer[:20_000],
            cost=Cost(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, requests, usage.cost_usd),
            served=tuple(served) if self.access is not None else (),
            tool_s=tool_ms / 1000,
            model_s=max(0.0, ran.wall_s - tool_ms / 1000),
            steps=steps,
            thread=str(thread.relative_to(folder.parent)) if thread is not None else "",
            why=why,
        )

    def trajectory(self, folder: Path, task: Task) -> Trajectory | None:
        """See `CommandAgent.trajectory`."""
        from lathe.evals.atif import from_thread

        thread = next(iter(sorted((folder / "lathe" / "threads").glob("*.jsonl"))), None)
        return from_thread(thread) if thread is not None else None


def events(path: Path) -> Iterator[Event]:
    """Yield the events that can be read of a file of them."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield decode_event(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
