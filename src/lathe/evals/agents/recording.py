"""What an agent's commands printed and when, as a terminal recording; and a plain log of it.

The recording is asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a header, then `[seconds, "o", text]`.
"""

from __future__ import annotations

import codecs
import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lathe.evals.environments.base import Ran

if TYPE_CHECKING:
    from lathe.evals.atif import Trajectory

LIMIT = 4 * 2**20
"""Bytes of output that are recorded of one trial; the rest is in the log of the agent, where it has one."""


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
        self._steps: list[dict[str, Any]] = []
        self._output: list[str] = []
        self._file = (folder / "terminal.jsonl").open("w", encoding="utf-8")
        header = {"version": 2, "width": 120, "height": 40, "timestamp": int(time.time())}
        self._file.write(json.dumps(header) + "\n")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._steps:
            self._write()

    def command(self, line: str) -> None:
        """Record that a command begins."""
        self._put(f"\x1b[1m$ {line}\x1b[0m\r\n")
        self._output = []
        self._steps.append({"command": line, "at": time.time()})

    def output(self, data: bytes) -> None:
        """Record what it prints."""
        if self._left <= 0:
            return
        data = data[: self._left]
        self._left -= len(data)
        text = self._decoder.decode(data)
        self._output.append(text)
        self._put(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        if self._left <= 0:
            self._put(f"\r\n[what follows the first {LIMIT // 2**20} MiB is not recorded]\r\n")

    def ended(self, ran: Ran) -> None:
        """Record that it ended."""
        if ran.code or ran.killed:
            self._put(f"\x1b[31m[exit code {ran.code}{', limit: ' + ran.killed if ran.killed else ''}]\x1b[0m\r\n")
        if self._steps:
            self._steps[-1] |= {"output": "".join(self._output), "code": ran.code}

    def _put(self, text: str) -> None:
        if text:
            event = [round(time.monotonic() - self._began, 3), "o", text]
            self._file.write(json.dumps(event, ensure_ascii=False) + "\n")

    def _write(self) -> None:
        """Write the commands as a trajectory in ATIF, one step a command."""
        steps: list[dict[str, Any]] = [
            {"step_id": 1, "source": "user", "message": self._instruction, "timestamp": _iso(self._steps[0]["at"])}
        ]
        for number, step in enumerate(self._steps, 2):
            call = {
                "tool_call_id": f"call_{number}",
                "function_name": "bash",
                "arguments": {"command": step["command"]},
            }
            content = f"{step.get('output', '')}\n[exit code {step.get('code', 'unknown')}]"
            steps.append(
                {
                    "step_id": number,
                    "source": "agent",
                    "message": "",
                    "timestamp": _iso(step["at"]),
                    "tool_calls": [call],
                    "observation": {"results": [{"source_call_id": call["tool_call_id"], "content": content}]},
                }
            )
        trajectory = {
            "schema_version": "ATIF-v1.4",
            "session_id": self._folder.name,
            "agent": {"name": self._agent, "version": "1"},
            "steps": steps,
        }
        (self._folder / self.trajectory).write_text(json.dumps(trajectory, ensure_ascii=False, indent=1), "utf-8")


def replay_of(trajectory: Trajectory) -> str:
    """Return a recording of the commands of a trajectory, each at the time of its step."""
    lines = [json.dumps({"version": 2, "width": 120, "height": 40})]
    began, last, left = None, 0.0, LIMIT
    for step in trajectory.steps:
        at = _seconds(step.timestamp)
        began = at if began is None else began
        last = max(last + 0.1, at - began if at is not None and began is not None else 0.0)
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


def _seconds(timestamp: str | None) -> float | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(timestamp).timestamp() if timestamp else None
    except ValueError:
        return None


def _iso(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat()
