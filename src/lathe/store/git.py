"""Git, run by Lathe itself: the only door.

It runs with the person's rights, in a repository whose files and settings a command may have written, or whoever
made the repository. So nothing that its settings name is started: no hook, no file monitor, no helper of a remote.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

_SAFE = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotepath=off"),
    # A shared index would be written into the repository.
    *("-c", "core.splitIndex=false"),
)
_NO_TRANSPORT = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}


def git_environment(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment for git: this process's without what steers git, and `environ` over it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **_NO_TRANSPORT, "LC_ALL": "C", **environ}


def alternate(objects: Path) -> dict[str, str]:
    """Return what lets git read another folder of objects as well."""
    # Quoted, for a colon in the path would be the end of it (git, "Environment variables").
    quoted = str(objects).replace("\\", "\\\\").replace('"', '\\"')
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"'}


def git_command(*arguments: str) -> list[str]:
    """Return the command line of a git that starts nothing else."""
    return ["git", *_SAFE, *arguments]


async def run_git(cwd: Path, environ: dict[str, str], *arguments: str) -> tuple[int | None, bytes, bytes]:
    """Return git's exit status, output and errors; None for the status where it can't be started."""
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - a vfork of half a millisecond; waiting is left to a thread
            git_command(*arguments),
            cwd=cwd,
            env=git_environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError:
        return None, b"", b""
    waiting = asyncio.ensure_future(asyncio.to_thread(process.communicate))
    try:
        output, errors = await asyncio.shield(waiting)
    except asyncio.CancelledError:
        process.kill()
        await waiting
        raise
    return process.returncode, output, errors
