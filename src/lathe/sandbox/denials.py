"""Why a command failed at a file: what its output names, checked against what the sandbox allows.

A line of output that tells of an error and names a path is only a guess. It becomes a denial where trying that path in
the sandbox fails with that very error, where the mounts say that it must, and where the person could do it outside.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from lathe.sandbox.mounts import Kind, Mount, is_below

Wish: TypeAlias = Literal["read", "write"]

MOST_CANDIDATES = 16
MOST_DENIALS = 3
_LAST_LINES = 200
_LONGEST_LINE = 2_000

_ERRORS = {
    errno.EROFS: re.compile(r"Read-only file system|\bEROFS\b|\bErrno 30\b|os error 30\b", re.IGNORECASE),
    errno.EACCES: re.compile(r"Permission denied|\bEACCES\b|\bErrno 13\b|os error 13\b", re.IGNORECASE),
    errno.EBUSY: re.compile(r"Device or resource busy|\bEBUSY\b|\bErrno 16\b|os error 16\b", re.IGNORECASE),
    errno.ENOENT: re.compile(r"No such file or directory|\bENOENT\b|\bErrno 2\b|os error 2\b", re.IGNORECASE),
}
_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"|`([^`'\n]+)[`']|\u2018([^\u2019\n]+)\u2019")
_BARE = re.compile(r"[^\s'\"`\u2018\u2019()<>\[\]{},;]+")
_WRITABLE: frozenset[Kind] = frozenset({"write", "pinned", "private"})
# what takes an entry out of a folder changes the folder, not the file
_ENTRY = re.compile(r"cannot (?:re)?move|\bunlink|\brmdir|\brename", re.IGNORECASE)
_LOCKED = re.compile(r"could not lock config file (?P<path>\S+?):")


class Candidate(NamedTuple):
    """A path (absolute, links resolved) that a line of output speaks of, and the error that the line tells."""

    path: str
    error: int


class Denial(NamedTuple):
    """A path that the sandbox keeps from a command; `error` is how it says so."""

    path: str
    wish: Wish
    error: int


def candidates(output: str, cwd: str) -> list[Candidate]:
    """Return what the last lines of an output speak of, the last first; at most `MOST_CANDIDATES`."""
    found: dict[Candidate, None] = {}
    for line in reversed(output.splitlines()[-_LAST_LINES:]):
        line = line[:_LONGEST_LINE]
        errors = [number for number, pattern in _ERRORS.items() if pattern.search(line)]
        for path in _paths(line, cwd) if errors else ():
            for number in errors:
                of_folder = number in (errno.EROFS, errno.EACCES) and _ENTRY.search(line)
                found[Candidate(os.path.dirname(path) if of_folder else path, number)] = None  # noqa: PTH120
        if len(found) >= MOST_CANDIDATES:
            break
    return list(found)[:MOST_CANDIDATES]


def _paths(line: str, cwd: str) -> Iterator[str]:
    """Yield the paths that a line may name: what looks like one, is quoted like one, or is there."""
    locked = _LOCKED.search(line)
    if locked is not None:  # git makes a file of its own beside the one that it speaks of
        yield _resolved(f"{locked['path']}.lock", cwd)
        return
    quoted = [next(filter(None, groups)) for groups in _QUOTED.findall(line)]
    for word in quoted:
        if not word.isspace() and len(word) < 1_000:
            yield _resolved(word, cwd)
    for word in _BARE.findall(_QUOTED.sub(" ", line)):
        bare = word.rstrip(":.,")
        if bare and ("/" in bare or os.path.lexists(os.path.join(cwd, bare))) and "://" not in bare:  # noqa: PTH118
            yield _resolved(bare, cwd)


def _resolved(word: str, cwd: str) -> str:
    path = os.path.normpath(os.path.join(cwd, os.path.expanduser(word)))  # noqa: PTH111, PTH118
    folder, name = os.path.split(path)
    # a link is what a program names; where it leads is another path
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118


def to_try(found: Iterable[Candidate]) -> list[str]:
    """Return which paths are to be tried, each once: of a path that is not there, the folder it would be in."""
    paths: dict[str, None] = {}
    for candidate in found:
        target = _target(candidate.path)
        if target is not None:
            paths[target] = None
    return list(paths)


def _target(path: str) -> str | None:
    """Return the file, or the folder with a `/` behind it, that decides on a path; None for a device and its like."""
    if os.path.isfile(path):  # noqa: PTH113
        return os.path.realpath(path)
    if os.path.isdir(path):  # noqa: PTH112
        return os.path.realpath(path).rstrip("/") + "/"
    folder = os.path.dirname(path)  # noqa: PTH120
    if os.path.lexists(path) or not os.path.isdir(folder):  # noqa: PTH112
        return None
    return folder.rstrip("/") + "/"


def denials(found: Sequence[Candidate], tried: dict[str, tuple[int, int]], mounts: Sequence[Mount]) -> list[Denial]:
    """Return what of the candidates the sandbox is the cause of, at most `MOST_DENIALS`.

    `tried` are the errors of reading and of writing, by what `to_try` returned.
    """
    known: dict[tuple[Wish, str], Denial] = {}
    for candidate in found:
        target = _target(candidate.path)
        if target is None or target not in tried:
            continue
        path = target.rstrip("/") or "/"
        reading, writing = tried[target]
        kind = _kind(path, mounts)
        if kind == "hidden" and path == os.path.realpath(candidate.path):
            if candidate.error == reading and _may(path, os.R_OK):
                known.setdefault(("read", path), Denial(path, "read", reading))
        elif kind not in _WRITABLE and writing and _may(path, os.W_OK):
            # what is mounted by itself can neither be replaced nor removed, and says so in its own way
            mounted = candidate.error == errno.EBUSY and any(mount.path == path for mount in mounts)
            if candidate.error == writing or mounted:
                # of many in one folder one says it
                known.setdefault(("write", os.path.dirname(path)), Denial(path, "write", writing))  # noqa: PTH120
    return list(known.values())[:MOST_DENIALS]


def _kind(path: str, mounts: Sequence[Mount]) -> Kind | None:
    above = [mount for mount in mounts if is_below(path, mount.path)]
    return max(above, key=lambda mount: (len(mount.path), mounts.index(mount))).kind if above else None


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def line_for(denial: Denial, *, read_only: bool, root: str, home: str) -> str:
    """Return what the model and the person are told of a denial: what it is, and the narrowest thing that allows it.

    Paths are shown as they are written in the settings: relative to `root`, the workspace.
    """
    shown = _shown(denial.path, root, home)
    why = os.strerror(denial.error).lower()
    if denial.wish == "read":
        said, fix = f"{shown} is hidden here ({why})", f'paths.read = ["{shown}"]'
    else:
        said, fix = f"{shown} is not writable here ({why})", f'paths.write = ["{shown}"]'
    escalate = "call again with escalate"
    too_wide = denial.wish == "write" and (read_only or is_below(home, denial.path) or ".git" in denial.path.split("/"))
    if too_wide:
        return f"[sandbox: {said}; {escalate} to do it outside]"
    return f"[sandbox: {said}; the narrowest permission: {fix}, or {escalate}]"


def _shown(path: str, root: str, home: str) -> str:
    if path != root and is_below(path, root):
        return os.path.relpath(path, root)
    return "~" + path.removeprefix(home) if path != home and is_below(path, home) else path
