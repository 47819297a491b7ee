"""Other people's agents at pinned versions, installed once below the person's cache folder, outside the repository.

`$XDG_CACHE_HOME/lathe-tests`, or `~/.cache/lathe-tests`, holds one folder for each. Where one can't be installed, the
tests that need it are skipped and say why.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CODEX = "@openai/codex@0.171.0"
CLAUDE = "@anthropic-ai/claude-code@2.1.332"
MINI = "mini-swe-agent==2.4.6"
# All that it imports; what it names besides (`datasets`) is for benchmarks, and takes 300 MB.
MINI_NEEDS = ("litellm==1.110.2", "jinja2", "platformdirs", "prompt_toolkit", "python-dotenv", "rich", "tenacity")
MINI_NEEDS += ("textual", "typer")


def cache() -> Path:
    """Return the folder; that of the person, whatever home the test at hand has."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "lathe-tests"


def codex() -> Path:
    """Return Codex CLI; skip the test where it can't be had."""
    return _installed(CODEX, "node_modules/.bin/codex", _npm)


def claude() -> Path:
    """Return Claude Code; skip the test where it can't be had."""
    return _installed(CLAUDE, "node_modules/.bin/claude", _npm)


def mini() -> Path:
    """Return mini-swe-agent; skip the test where it can't be had."""
    return _installed(MINI, "bin/mini", _pip)


def _installed(what: str, program: str, install: Callable[[Path, str], str]) -> Path:
    name = what.strip("@").replace("/", "-").replace("==", "-").replace("@", "-")
    folder = cache() / name
    done = folder / ".done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (cache() / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # workers of one run may want it at once
            if not done.exists():
                trouble = install(folder, what)
                if trouble:
                    pytest.skip(f"{what} can't be installed here: {trouble}")
                done.touch()
    return folder / program


def _npm(folder: Path, what: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm"
    return _ran([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), what])


def _pip(folder: Path, what: str) -> str:
    trouble = _ran([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile"]
    return trouble or _ran([*pip, "--no-deps", what]) or _ran([*pip, *MINI_NEEDS])


def _ran(command: list[str]) -> str:
    env = {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    return "" if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())[-300:]
