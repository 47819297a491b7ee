"""Where the files of a command lie: in the workspace, in git's own store, in scratch space, or elsewhere."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import Literal, NamedTuple, TypeAlias

from lathe.guard.shell_words import GLOB, SOME, UNKNOWN
from lathe.sandbox.mounts import is_below
from lathe.store.scan import REMADE

Reach: TypeAlias = Literal["scratch", "workspace", "refs", "repository", "machine", "guard", "service", "unknown"]
"""How far an act reaches.

`scratch`: what may go at any time (temporary files, caches, what a build makes again). `workspace`: files that a
snapshot can put back. `refs`: names in a git repository, which a snapshot can put back too. `repository`: git's
history itself. `machine`: other files, disks and processes of this machine. `guard`: Lathe's own settings and
records. `service`: what lies behind a network or in a database. `unknown`: it can't be told.
"""

LASTING = frozenset({"repository", "machine", "guard", "service", "unknown"})
"""Reaches of which nothing can be taken back."""

_REMADE = frozenset({*map(os.fsdecode, REMADE), "htmlcov", ".coverage"})
_SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
_NOWHERE = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/fd", "-"})
_OWN = (".config/lathe", ".local/share/lathe", ".local/state/lathe", ".lathe")


class Ground(NamedTuple):
    """The machine as a check sees it: `home` and the writable `roots` of the workspace, all absolute."""

    roots: tuple[str, ...]
    home: str
    own: tuple[str, ...] = ()
    """More folders that are Lathe's own: LATHE_HOME."""


def reach(path: str, cwd: str, ground: Ground) -> Reach:
    """Return where `path` (a word of a command that runs in `cwd`, perhaps a pattern) lies."""
    if path in _NOWHERE:
        return "scratch"
    whole = absolute(path, cwd, ground)
    if whole is None:
        # What is built below an unknown folder is made again wherever that folder is.
        return "scratch" if _is_remade(path) else "unknown"
    fixed, open_end = _fixed_part(whole)
    real = os.path.realpath(fixed) if open_end or fixed.endswith("/") else _real_parent(fixed)
    if any(is_below(real, folder) for folder in _own_folders(ground)):
        return "guard"
    for root in ground.roots:
        top = os.path.realpath(root)
        if is_below(real, top):
            return _within_root(os.path.relpath(real, top))
        if is_below(top, real) and _may_mean(whole, top):
            return "machine"
    if _is_remade(whole) or _is_scratch(whole, real, ground):
        return "scratch"
    return "machine"


def absolute(path: str, cwd: str, ground: Ground) -> str | None:
    """Return the absolute form of a word, None where its beginning is not to be told.

    What may be empty counts as empty: `$X/*` is `/*` on the day that X is not set.
    """
    if path == "~" or path.startswith("~/"):
        path = ground.home + path[1:]
    elif path[:1] == UNKNOWN and len(path) > 1 and path[1] == "/":
        path = path[1:]
    if path[:1] in (UNKNOWN, SOME):
        return None
    if not path.startswith("/"):
        if cwd[:1] in (UNKNOWN, SOME, ""):
            return None
        path = f"{cwd}/{path}"
    tail = "/" if path.endswith("/") else ""
    return os.path.normpath(path.replace(UNKNOWN, "")).replace("//", "/") + (tail if path != "/" else "")


def covers(pattern: str, path: str) -> bool:
    """Tell whether what an absolute pattern stands for may take the file at `path` with it.

    A pattern in the last part counts at any depth, for `find` means it so.
    """
    fixed = pattern.rstrip("/")
    if is_below(path, fixed):
        return True
    folder, _, name = fixed.rpartition("/")
    return is_pattern(name) and is_below(path, folder) and fnmatch.fnmatchcase(path.rpartition("/")[2], name)


def is_pattern(path: str) -> bool:
    """Tell whether a word may stand for several files."""
    return GLOB.search(path) is not None


def _fixed_part(path: str) -> tuple[str, bool]:
    """Return the folder before the first part that is a pattern or marked, and whether there is such a part."""
    found = re.search(rf"[*?\[{SOME}]", path)
    if found is None:
        return path, False
    return path[: path.rfind("/", 0, found.start()) + 1], True


def _may_mean(whole: str, folder: str) -> bool:
    """Tell whether a path, perhaps a pattern, may stand for a folder or one above it."""
    parts, above = whole.rstrip("/").split("/"), folder.split("/")
    return len(parts) <= len(above) and all(map(fnmatch.fnmatchcase, above, parts))


def _real_parent(path: str) -> str:
    """Return the path with the links of its folders followed: to remove a link is not to remove what it names."""
    folder, name = os.path.split(path.rstrip("/") or "/")
    return f"{os.path.realpath(folder).rstrip('/')}/{name}"


def _within_root(inner: str) -> Reach:
    parts = inner.split("/")
    if ".lathe" in parts:
        return "guard"
    if ".git" in parts:
        after = parts[parts.index(".git") + 1 :]
        return "scratch" if after and after[-1].endswith(".lock") else "repository"
    return "workspace"


def _own_folders(ground: Ground) -> list[str]:
    return [*(f"{ground.home}/{name}" for name in _OWN), *ground.own, "/etc/lathe"]


def _is_remade(path: str) -> bool:
    return bool(_REMADE & set(path.rstrip("/*").split("/")))


def _is_scratch(whole: str, real: str, ground: Ground) -> bool:
    """Tell whether it lies in scratch space, and is not all of that."""
    for folder in (*_SCRATCH, f"{ground.home}/.cache"):
        if is_below(whole, folder) and is_below(real.rstrip("/") or "/", os.path.realpath(folder)):
            return whole[len(folder) + 1 :].split("/")[0] not in ("", "*", ".*", "?*", "**")
    return False
