"""What a git workspace looked like when a thread began, so that `lathe diff` can say what changed since.

A tree is written with an index and an object folder of the thread's own: the repository's index, objects and
refs are only read. Untracked files count, ignored ones don't.

Only what lies in the workspace is read, whatever `core.worktree` says, and no filter that the settings name is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from lathe.protocol.errors import StorageError, UsageError
from lathe.protocol.ids import short_id
from lathe.store.git import alternate, run_git

MOST_S = 30.0
"""Seconds that the first command of a thread may have to wait for its baseline; 50,000 new files take 6."""


class _Repository(NamedTuple):
    """`scope` is the folder whose files count: all, but of a repository around the person's home only `cwd`'s."""

    top: Path
    scope: Path
    git_dir: Path
    objects: Path
    no_filters: tuple[str, ...]


async def keep_baseline(cwd: Path, folder: Path) -> str | None:
    """Return the id of the tree that the repository around `cwd` had when this was first asked with `folder`.

    Returns None where there was no repository then, no git, one that git does not trust, or so much in it that
    `MOST_S` were not enough: what is found later was not there in the beginning, and is no baseline.
    """
    note = folder / "tree"
    if note.is_file():
        return baseline_tree(folder)
    tree = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MOST_S):
            found = await _repository(cwd)
            tree = None if isinstance(found, str) else await _tree(found, folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / short_id("tree")
    fresh.write_text(tree or "")
    fresh.replace(note)
    return tree


def baseline_tree(folder: Path) -> str | None:
    """Return what `keep_baseline` noted in `folder`, or None."""
    try:
        return (folder / "tree").read_text().strip() or None
    except OSError:
        return None


async def why_no_baseline(cwd: Path) -> str:
    """Return one sentence that says why there is no baseline of `cwd` to be had, or "" where there is."""
    found = await _repository(cwd)
    return found if isinstance(found, str) else ""


async def diff_since(cwd: Path, folder: Path, tree: str, *, stat: bool = False) -> bytes:
    """Return the unified diff (or with `stat` its summary) from `tree` to the repository as it is now.

    Raises `UsageError` where one of the two can't be read any more.
    """
    found = await _repository(cwd)
    if isinstance(found, str):
        raise UsageError(found)
    now = await _tree(found, folder)
    if now is None:
        raise UsageError(f"Git can't read {found.top} as it is now.", hint="`git status` there may say why.")
    form = ("--stat",) if stat else ()
    environ = _environ(folder / "index", folder / "objects", found.objects)
    arguments = (*found.no_filters, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "-M", *form, tree, now)
    code, text, _ = await run_git(found.top, environ, *arguments)
    if code != 0:
        raise UsageError("What the workspace looked like before can't be read any more.")
    return text


async def _repository(cwd: Path) -> _Repository | str:
    """Return the repository that holds `cwd`, or a sentence that says why there is none to be read."""
    top = next((folder for folder in (cwd, *cwd.parents) if os.path.lexists(folder / ".git")), None)
    if top is None:
        return f"{cwd} is in no git repository."
    code, output, errors = await run_git(cwd, {}, "rev-parse", "--absolute-git-dir", "--git-common-dir")
    dirs = os.fsdecode(output).splitlines()
    if code is None:
        return "Git can't be started."
    if code != 0 or len(dirs) != 2:
        if b"dubious ownership" in errors:
            return f"Git does not trust {top}, which another user owns: `git config --global safe.directory` can."
        return f"Git can't read the repository {top}."
    _, output, _ = await run_git(top, {}, "rev-parse", "--show-toplevel")
    if os.path.realpath(output.removesuffix(b"\n")) != os.fsencode(os.path.realpath(top)):
        return f"The files of the git repository {top} lie elsewhere."
    _, output, _ = await run_git(top, {}, "config", "--null", "--name-only", "--get-regexp", r"^filter\.")
    home = Path(os.path.realpath(os.environ.get("HOME") or "/"))
    if home.is_relative_to(cwd) and home.is_relative_to(top):
        return f"{cwd} holds the whole home folder, which is too much to compare."
    names = {name.rpartition(".")[0] for name in os.fsdecode(output).split("\0") if name}
    off = [f"{name}.{key}" for name in sorted(names) for key in ("clean=", "process=", "required=false")]
    objects = (cwd / dirs[1]).resolve() / "objects"
    scope = cwd if home.is_relative_to(top) else top
    return _Repository(top, scope, Path(dirs[0]), objects, tuple(part for pair in off for part in ("-c", pair)))


async def _tree(repository: _Repository, folder: Path) -> str | None:
    """Write the tree of the repository as it is now; return its id, or None where git can't."""
    index = folder / "index"
    # An index of this run alone: another run may be at it, and one that was killed has left its lock behind.
    own = folder / short_id("index")
    try:
        (folder / "objects").mkdir(parents=True, exist_ok=True, mode=0o700)
        # With its time: git looks twice at files that are as young as the index that knows them.
        if index.exists():
            shutil.copy2(index, own)
        elif (repository.git_dir / "index").exists():
            shutil.copy2(repository.git_dir / "index", own)
        environ = _environ(own, folder / "objects", repository.objects)
        code, _, _ = await run_git(repository.scope, environ, *repository.no_filters, "add", "-A", "--", ".")
        if code != 0:
            return None
        code, tree, _ = await run_git(repository.top, environ, *repository.no_filters, "write-tree")
        if code != 0:
            return None
        own.replace(index)
    except OSError as error:
        raise StorageError(f"{folder} can't be written: {error.strerror}.") from None
    finally:
        own.unlink(missing_ok=True)
        Path(f"{own}.lock").unlink(missing_ok=True)
    return tree.decode().strip()


def _environ(index: Path, objects: Path, other: Path) -> dict[str, str]:
    return {"GIT_INDEX_FILE": str(index), "GIT_OBJECT_DIRECTORY": str(objects), **alternate(other)}
