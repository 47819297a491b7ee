"""What an overlay holds beyond the trees below it (Documentation/filesystems/overlayfs.rst of Linux)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from lathe.evals.environments.base import Change

_OPAQUE: Final = "trusted.overlay.opaque"
_BLOCK: Final = 1 << 20


def changes(upper: Path, lowers: Sequence[Path], there: str, unseen: Collection[str], owner: int) -> list[Change]:
    """Return what differs; blocks.

    `there` is where the overlay is mounted, `unseen` are paths in there that do not count: places for mounts. A file
    that was written and is the same again is no change, nor is a folder that only holds some. `owner` is the number
    out here that user 0 in there has.
    """
    prefix = "" if there == "/" else there
    return [change for change in _walk(upper, list(lowers), prefix, owner) if change.path not in unseen]


def _walk(upper: Path, lowers: list[Path], prefix: str, owner: int) -> Iterator[Change]:
    names = set()
    for entry in os.scandir(upper):
        names.add(entry.name)
        path = f"{prefix}/{entry.name}"
        below = _below(lowers, entry.name)
        status = entry.stat(follow_symlinks=False)
        if _is_whiteout(status):
            if below:
                yield Change(path, "removed")
        elif entry.is_dir(follow_symlinks=False):
            yield from _folder(Path(entry.path), below, path, owner)
        elif not below:
            yield Change(path, "added")
        elif not _same(Path(entry.path), status, below[0], owner):
            yield Change(path, "changed")
    if _is_opaque(upper):
        for name in _names(lowers) - names:
            yield Change(f"{prefix}/{name}", "removed")


def _folder(folder: Path, below: list[Path], path: str, owner: int) -> Iterator[Change]:
    if below and not _is_folder(below[0]):
        yield Change(path, "changed")
        below = []
    if not below and not next(folder.iterdir(), None):
        yield Change(path, "added")
    yield from _walk(folder, below, path, owner)


def _names(folders: Sequence[Path]) -> set[str]:
    names = {entry.name for folder in folders for entry in folder.iterdir()}
    return {name for name in names if _below(folders, name)}


def _below(lowers: Sequence[Path], name: str) -> list[Path]:
    """Return what is seen of a name in these trees, the upper first: one thing, or the folders that are one."""
    found: list[Path] = []
    for folder in lowers:
        path = folder / name
        try:
            status = path.lstat()
        except OSError:
            continue
        if _is_whiteout(status) or (found and not stat.S_ISDIR(status.st_mode)):
            break
        found.append(path)
        if not stat.S_ISDIR(status.st_mode) or _is_opaque(path):
            break
    return found


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y"
    return False


def _same(one: Path, status: os.stat_result, other: Path, owner: int) -> bool:
    known = other.lstat()
    alike = (status.st_mode, status.st_size) == (known.st_mode, known.st_size)
    if not alike or (status.st_uid - owner, status.st_gid - owner) != (known.st_uid, known.st_gid):
        return False
    if stat.S_ISLNK(status.st_mode):
        return one.readlink() == other.readlink()
    if not stat.S_ISREG(status.st_mode):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(_BLOCK):
            if block != second.read(_BLOCK):
                return False
    return True
