"""Other people's programs at pinned versions, installed once below the person's cache folder, outside the repository.

`$XDG_CACHE_HOME/lathe-tests`, or `~/.cache/lathe-tests`, holds one folder for each. Where one can't be installed, the
tests that need it are skipped and say why.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def cache() -> Path:
    """Return the folder; that of the person, whatever home the test at hand has."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "lathe-tests"


def installed(what: str, program: str, install: Callable[[Path, str], str]) -> Path:
    """Return a program, which `install(folder, what)` puts there; that returns why it could not, or ""."""
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


def into_environment(folder: Path, *packages: str, python: str = sys.executable, options: tuple[str, ...] = ()) -> str:
    """Put packages into a virtual environment, made where it is not there; return why that failed, or ""."""
    own = folder / "bin" / "python"
    trouble = "" if own.exists() else ran([python, "-m", "venv", str(folder)])
    return trouble or ran([str(own), "-m", "pip", "install", "-q", "--no-compile", *options, *packages])


def ran(command: list[str]) -> str:
    """Run a command; return the end of what it said where it failed, else ""."""
    env = {**os.environ, "HOME": str(_home())}
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    return "" if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())[-300:]


def _home() -> Path:
    return Path(pwd.getpwuid(os.getuid()).pw_dir)
