"""Other people's command-line agents, unmodified: Codex CLI, Claude Code, mini-swe-agent."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lathe.evals.access import Access, name_of
from lathe.evals.agents.base import Cost, Work
from lathe.evals.agents.command import HOME, CommandAgent, last_line
from lathe.evals.agents.programs import (
    LIBRARIES,
    START_SCRIPT,
    PythonProgram,
    node_mounts,
    package_mounts,
    python_program,
)
from lathe.evals.environments.base import Mount, Ran
from lathe.evals.task import Task
from lathe.protocol.errors import ConfigError

if TYPE_CHECKING:
    from lathe.evals.atif import Trajectory

_NODE = "/opt/lathe-eval/bin/node"


def program(name: str, environ_name: str, environ: Mapping[str, str]) -> Path:
    """Return where a program lies: where the variable says, else on the path; raise `ConfigError`."""
    found = environ.get(environ_name) or shutil.which(name)
    if not found or not Path(found).exists():
        raise ConfigError(f"{name} is not on this machine.", hint=f"Install it, or say where it is by {environ_name}.")
    return Path(found)


class _NodeAgent(CommandAgent):
    """An agent that npm installs; `path` is its program."""

    path: Path

    def mounts(self) -> Sequence[Mount]:
        """See `CommandAgent.mounts`."""
        return node_mounts(self.path, self.cache_folder)

    def _started(self) -> list[str]:
        real = self.path.resolve()
        return [_NODE, str(real)] if real.suffix in (".js", ".mjs", ".cjs") else [str(real)]


class Codex(_NodeAgent):
    """`codex exec`, https://github.com/openai/codex."""

    name = "codex"

    def command(self, task: Task) -> Sequence[str]:
        """See `CommandAgent.command`."""
        options = ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        return [*self._started(), "exec", *options, "-"]

    def environ(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.environ`."""
        return {"CODEX_HOME": f"{HOME}/codex", "LATHE_EVAL_KEY": _way(access)[1], "LD_LIBRARY_PATH": LIBRARIES}

    def settings(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.settings`."""
        table = (
            f'model = "{name_of(self.model)}"\nmodel_provider = "lathe"\napproval_policy = "never"\n'
            'sandbox_mode = "danger-full-access"\n[model_providers.lathe]\nname = "Lathe"\n'
            f'base_url = "{_way(access)[0]}/v1"\nenv_key = "LATHE_EVAL_KEY"\nwire_api = "responses"\n'
        )
        return {"codex/config.toml": table}

    def read(self, folder: Path, ran: Ran) -> Work:
        """See `CommandAgent.read`."""
        answer, steps, tokens, why = "", 0, [0, 0, 0], ""
        for event in lines(folder / "events.jsonl"):
            item = event.get("item") or {}
            match event.get("type"):
                case "item.completed":
                    steps += 1
                    answer = item.get("text", answer) if item.get("type") == "agent_message" else answer
                case "turn.completed":
                    usage = event.get("usage") or {}
                    for at, name in enumerate(("input_tokens", "cached_input_tokens", "output_tokens")):
                        tokens[at] += int(usage.get(name) or 0)
                case "turn.failed":
                    why = str((event.get("error") or {}).get("message", ""))
                case _:
                    pass
        return _work(ran, answer, steps, Cost(*tokens), why)

    def trajectory(self, folder: Path, task: Task) -> Trajectory | None:
        """See `CommandAgent.trajectory`."""
        from lathe.evals.atif import from_exec_events

        told = _written(folder / "events.jsonl")
        return from_exec_events(told, model=name_of(self.model), prompt=task.instruction)


class ClaudeCode(_NodeAgent):
    """`claude -p`, https://code.claude.com/docs."""

    name = "claude-code"

    def command(self, task: Task) -> Sequence[str]:
        """See `CommandAgent.command`."""
        options = ["--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"]
        return [*self._started(), "-p", *options]

    def environ(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.environ`."""
        model, (url, key) = name_of(self.model), _way(access)
        return {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CONFIG_DIR": f"{HOME}/claude",
            "IS_SANDBOX": "1",  # or it refuses to work without asking as root
            "LD_LIBRARY_PATH": LIBRARIES,
        }

    def read(self, folder: Path, ran: Ran) -> Work:
        """See `CommandAgent.read`."""
        answer, steps, cost, why = "", 0, Cost(), ""
        for event in lines(folder / "events.jsonl"):
            if event.get("type") == "assistant":
                steps += 1
            elif event.get("type") == "result":
                usage = event.get("usage") or {}
                cached = int(usage.get("cache_read_input_tokens") or 0)
                read = int(usage.get("input_tokens") or 0) + cached + int(usage.get("cache_creation_input_tokens") or 0)
                written = int(usage.get("output_tokens") or 0)
                cost = Cost(read, cached, written, int(event.get("num_turns") or 0), event.get("total_cost_usd"))
                answer = str(event.get("result") or answer)
                why = answer if event.get("is_error") else ""
        return _work(ran, answer, steps, cost, why)

    def trajectory(self, folder: Path, task: Task) -> Trajectory | None:
        """See `CommandAgent.trajectory`."""
        from lathe.evals.atif import from_claude_events

        return from_claude_events(_written(folder / "events.jsonl"), prompt=task.instruction)


class MiniSweAgent(CommandAgent):
    """`mini`, https://mini-swe-agent.com, of version 2; `path` is its program."""

    name = "mini-swe-agent"
    path: Path

    @cached_property
    def _program(self) -> PythonProgram:
        return python_program(self.path, "minisweagent")

    def mounts(self) -> Sequence[Mount]:
        """See `CommandAgent.mounts`."""
        return package_mounts("mini-swe-agent", self._program, self.cache_folder)

    def command(self, task: Task) -> Sequence[str]:
        """See `CommandAgent.command`."""
        program = self._program
        # Its own settings by their whole path: a task may have a file with that name.
        settings = ["-c", str(program.package / "config" / "mini.yaml"), "-c", f"{HOME}/run.yaml"]
        options = [*settings, "--output", f"{HOME}/trajectory.json"]
        return [str(program.python), "-I", "-c", START_SCRIPT, str(program.script), *options]

    def environ(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.environ`."""
        url, key = _way(access)
        return {
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": key,
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_GLOBAL_CONFIG_DIR": f"{HOME}/mini",
            "MSWEA_SILENT_STARTUP": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LD_LIBRARY_PATH": LIBRARIES,
        }

    def settings(self, task: Task, access: Access | None) -> Mapping[str, str]:
        """See `CommandAgent.settings`. What is asked stands there too: an argument has a limit of 128 KiB."""
        told = {
            "run": {"task": task.instruction},
            "agent": {"mode": "yolo", "confirm_exit": False, "cost_limit": 0},
            "model": {"model_name": f"openai/{name_of(self.model)}"},
        }
        return {"run.yaml": _yaml(told)}

    def read(self, folder: Path, ran: Ran) -> Work:
        """See `CommandAgent.read`."""
        from lathe.evals.atif.mini import told_of

        try:
            told = told_of((folder / "trajectory.json").read_bytes())
        except (OSError, ValueError):
            return _work(ran, "", 0, Cost(), last_line(folder / "messages.log") or "It left no trajectory.")
        cost = Cost(told.input_tokens, told.cached_tokens, told.output_tokens, told.requests)
        why = "" if told.exit_status in ("", "Submitted") else f"It ended by {told.exit_status}."
        return _work(ran, told.answer, told.requests, cost, why)

    def trajectory(self, folder: Path, task: Task) -> Trajectory | None:
        """See `CommandAgent.trajectory`."""
        from lathe.evals.atif.mini import from_mini

        try:
            return from_mini((folder / "trajectory.json").read_bytes())
        except (OSError, ValueError):
            return None


PROGRAMS: dict[str, tuple[type[Codex | ClaudeCode | MiniSweAgent], str, str]] = {
    "codex": (Codex, "codex", "LATHE_EVAL_CODEX"),
    "claude-code": (ClaudeCode, "claude", "LATHE_EVAL_CLAUDE"),
    "mini-swe-agent": (MiniSweAgent, "mini", "LATHE_EVAL_MINI"),
}
"""Each agent, its program, and the variable that says where that is."""


def _way(access: Access | None) -> tuple[str, str]:
    """Return the gateway's address in the environment, and the key for it."""
    return (access.inside, access.key) if access is not None else ("", "")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, a line each; what is none is left out."""
    for line in _written(path):
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(value, dict):
            yield value


def _written(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _yaml(value: object) -> str:
    """Return JSON that is YAML too: that takes some characters for the ends of lines, and others not at all."""
    return re.sub(r"[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(value).decode())


def _work(ran: Ran, answer: str, steps: int, cost: Cost, why: str) -> Work:
    ended = "timeout" if ran.killed == "time" else "crashed" if ran.code else "done"
    return Work(ended=ended, answer=answer[:20_000], steps=steps, cost=cost, why=why or _said(ran))


def _said(ran: Ran) -> str:
    return f"It ended with exit code {ran.code}." if ran.code and ran.killed != "time" else ""
