"""What an agent's commands printed and when, as a terminal recording; and a plain log of it.

The recording is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a header, then `[seconds, "o", text]`.
"""

from __future__ import annotations

import codecs
import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from lathe.evals.environments.base import Ran
from lathe.store.journal import now_ms

if TYPE_CHECKING:
    from lathe.evals.atif import Trajectory

LIMIT = 4 * 2**20
"""Bytes of output that are recorded of one trial; the rest is in the log of the agent, where it has one."""


class _Command(msgspec.Struct):
    """A command: when it began, in milliseconds since the epoch, what it printed, and its exit code."""

    line: str
    at: int
    output: list[str] = []
    code: str = "unknown"


class Recorder:
    """Records one trial's terminal, and a trajectory of commands for agents that give none of their own."""

    trajectory = "trajectory.json"

    def __init__(self, folder: Path, instruction: str, agent: str = "script") -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = LIMIT
        self._instruction = instruction
        self._agent = agent
        self._at = now_ms()
        self._commands: list[_Command] = []
        self._file = (folder / "terminal.jsonl").open("w", encoding="utf-8")
        header = {"version": 2, "width": 120, "height": 40, "timestamp": self._at // 1000}
        self._file.write(json.dumps(header) + "\n")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._commands:
            from lathe.evals.atif import write

            (self._folder / self.trajectory).write_bytes(write(self._trajectory()))

    def command(self, line: str) -> None:
        """Record that a command begins."""
        self._put(f"\x1b[1m$ {line}\x1b[0m\r\n")
        # by the clock that never jumps: what came later is later in the trajectory too
        self._commands.append(_Command(line, self._at + round((time.monotonic() - self._began) * 1000)))

    def output(self, data: bytes) -> None:
        """Record what it prints."""
        if self._left <= 0:
            return
        data = data[: self._left]
        self._left -= len(data)
        text = self._decoder.decode(data)
        if self._commands:
            self._commands[-1].output.append(text)
        self._put(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        if self._left <= 0:
            self._put(f"\r\n[what follows the first {LIMIT // 2**20} MiB is not recorded]\r\n")

    def ended(self, ran: Ran) -> None:
        """Record that it ended."""
        if ran.code or ran.killed:
            self._put(f"\x1b[31m[exit code {ran.code}{', limit: ' + ran.killed if ran.killed else ''}]\x1b[0m\r\n")
        if self._commands:
            self._commands[-1].code = str(ran.code)

    def _put(self, text: str) -> None:
        if text:
            event = [round(time.monotonic() - self._began, 3), "o", text]
            self._file.write(json.dumps(event, ensure_ascii=False) + "\n")

    def _trajectory(self) -> Trajectory:
        """Return the commands as a trajectory, one step a command."""
        from lathe.evals.atif import Agent, Draft, FinalMetrics, stamp

        draft = Draft()
        draft.add("user", self._instruction, timestamp=stamp(self._at))
        for number, one in enumerate(self._commands, 1):
            step = draft.add("agent", timestamp=stamp(one.at))
            draft.call(step, f"call_{number}", "bash", {"command": one.line})
            draft.answer(f"call_{number}", f"{''.join(one.output)}\n[exit code {one.code}]")
        return draft.finish(Agent(self._agent, "1"), session=self._folder.name, totals=FinalMetrics())


def replay_of(trajectory: Trajectory, within_s: float) -> str:
    """Return a recording of the commands of a trajectory that took `within_s`, each at the time of its step."""
    from lathe.evals.atif import seconds_of

    lines = [json.dumps({"version": 2, "width": 120, "height": 40, "title": "drawn from the trajectory"})]
    last, left = 0.0, LIMIT
    for step, at in zip(trajectory.steps, seconds_of(trajectory.steps, within_s), strict=True):
        last = max(last + 0.1, at or 0.0)
        results = {one.source_call_id: one.content for one in step.observation.results} if step.observation else {}
        for call in step.tool_calls or ():
            command = next((call.arguments[key] for key in ("cmd", "command") if key in call.arguments), None)
            shown = command if isinstance(command, str) else f"[{call.function_name}]"
            output = results.get(call.tool_call_id)
            text = output if isinstance(output, str) else ""
            text = text[: max(left, 0)]
            left -= len(text)
            for event in (f"\x1b[1m$ {shown}\x1b[0m\r\n", text.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n"):
                lines.append(json.dumps([round(last, 3), "o", event], ensure_ascii=False))
    return "\n".join(lines) + "\n"
