"""What a git workspace looked like when a thread began, so that `lathe diff` can say what changed since.

A tree is written with an index and an object folder of the thread's own: the repository's index, objects and
refs are only read. Untracked files count, ignored ones don't.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from lathe.protocol.errors import UsageError

_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotepath=off")


async def take_baseline(cwd: Path, folder: Path) -> str | None:
    """Write the tree of the repository that holds `cwd`; return its id, or None where there is no repository."""
    dirs = await _git(cwd, {}, "rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    if dirs is None:
        return None
    top, git_dir, common = dirs.splitlines()
    objects = folder / "objects"
    index = folder / "index"
    objects.mkdir(parents=True, exist_ok=True, mode=0o700)
    user_index = Path(git_dir) / "index"
    if not index.exists() and user_index.exists():
        shutil.copyfile(user_index, index)
    environ = _environ(index, objects, (cwd / common).resolve() / "objects")
    if await _git(Path(top), environ, "add", "-A", "--", ".") is None:
        return None
    tree = await _git(Path(top), environ, "write-tree")
    return tree.strip() if tree else None


async def diff_since(cwd: Path, folder: Path, tree: str, *, stat: bool = False) -> str:
    """Return the unified diff (or with `stat` its summary) from `tree` to the repository as it is now.

    Raises `UsageError` where the baseline can't be read any more.
    """
    now = await take_baseline(cwd, folder)
    dirs = await _git(cwd, {}, "rev-parse", "--git-common-dir")
    if now is None or dirs is None:
        raise UsageError(f"{cwd} is no git repository any more.")
    environ = _environ(folder / "index", folder / "objects", (cwd / dirs.strip()).resolve() / "objects")
    form = ("--stat",) if stat else ()
    text = await _git(cwd, environ, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "-M", *form, tree, now)
    if text is None:
        raise UsageError("What the workspace looked like before can't be read any more.")
    return text


def _environ(index: Path, objects: Path, alternate: Path) -> dict[str, str]:
    return {
        "GIT_INDEX_FILE": str(index),
        "GIT_OBJECT_DIRECTORY": str(objects),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(alternate),
    }


async def _git(cwd: Path, environ: dict[str, str], *arguments: str) -> str | None:
    """Return what git prints, or None where it fails or is not there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *_SAFE,
            *arguments,
            cwd=cwd,
            env={**kept, "GIT_OPTIONAL_LOCKS": "0", **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return output.decode(errors="replace") if process.returncode == 0 else None
