"""Agents by their names on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lathe.evals.access import Access
from lathe.evals.agents.base import Agent
from lathe.protocol.errors import UsageError

NAMES = ("lathe", "mend", "oracle", "noop", "codex", "claude-code", "mini-swe-agent", "script:PATH")
ASK_NO_MODEL = frozenset({"mend", "oracle", "noop"})


def needs_model(name: str) -> bool:
    """Say whether an agent asks a model."""
    return name not in ASK_NO_MODEL and not name.startswith("script:")


def open_agent(name: str, model: str, access: Access | None, cache_folder: Path, environ: Mapping[str, str]) -> Agent:
    """Return an agent; raise `UsageError` for one that nobody knows and `ConfigError` for one that is not here."""
    from lathe.evals.agents import plain

    if name == "noop":
        return plain.NoOp()
    if name == "oracle":
        return plain.Oracle()
    if name.startswith("script:"):
        path = Path(name.removeprefix("script:")).expanduser()
        if not path.is_file():
            raise UsageError(f"There is no script {path}.")
        return plain.Script(path.resolve())
    if name in ("lathe", "mend"):
        from lathe.evals.agents.lathe import LatheAgent

        return LatheAgent("mend" if name == "mend" else model, None if name == "mend" else access, cache_folder)
    from lathe.evals.agents import others

    if name not in others.PROGRAMS:
        raise UsageError(f"Nobody knows the agent {name}.", hint=f"There are {', '.join(NAMES)}.")
    kind, program, variable = others.PROGRAMS[name]
    agent = kind(model, access, cache_folder)
    agent.path = others.program(program, variable, environ)
    agent.mounts()  # what is missing is said before a run is begun
    return agent
