"""Other people's agents at pinned versions; see `installing.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

from installing import installed, into_environment, ran

CODEX = "@openai/codex@0.171.0"
CLAUDE = "@anthropic-ai/claude-code@2.1.332"
MINI = "mini-swe-agent==2.4.6"
# All that it imports; what it names besides (`datasets`) is for benchmarks, and takes 300 MB.
MINI_NEEDS = ("litellm==1.110.2", "jinja2", "platformdirs", "prompt_toolkit", "python-dotenv", "rich", "tenacity")
MINI_NEEDS += ("textual", "typer")


def codex() -> Path:
    """Return Codex CLI; skip the test where it can't be had."""
    return installed(CODEX, "node_modules/.bin/codex", _npm)


def claude() -> Path:
    """Return Claude Code; skip the test where it can't be had."""
    return installed(CLAUDE, "node_modules/.bin/claude", _npm)


def mini() -> Path:
    """Return mini-swe-agent; skip the test where it can't be had."""
    return installed(MINI, "bin/mini", _pip)


def _npm(folder: Path, what: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm"
    return ran([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), what])


def _pip(folder: Path, what: str) -> str:
    trouble = into_environment(folder, what, options=("--no-deps",))
    return trouble or into_environment(folder, *MINI_NEEDS)
