"""Putting a workspace back, so that a crash at any moment loses nothing and the next start can finish it.

The plan is written down first. Each file is written beside its place and renamed into it; a step whose path is not
as the plan found it is left out and told of. Folders are opened component by component without following links, so
a folder that is swapped for a link meanwhile leads nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from lathe.protocol.errors import StorageError
from lathe.store.folders import opened_parent
from lathe.store.scan import Entry
from lathe.store.undo_plan import Conflict, Step, UndoPlan

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20

Open = Callable[[Entry], BinaryIO]
"""Opens the kept bytes of a regular file; raises `OSError`."""


def write_plan(path: Path, plan: UndoPlan) -> None:
    """Write the plan down, so that `read_plan` finds it after a crash; raise `StorageError`."""
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.msgpack.encode(plan))
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(f"{path} can't be written: {error.strerror}. Nothing was changed.") from None


def read_plan(path: Path) -> UndoPlan | None:
    """Return the plan that a crash left unfinished, None where there is none."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=UndoPlan)
    except (OSError, msgspec.DecodeError):
        return None


def apply_steps(root: bytes, steps: Sequence[Step], open_content: Open) -> list[Conflict]:
    """Make the steps below `root`; return those that could not be made, and why.

    A step that is made already counts as made. What is there goes first, the deepest first; then come folders, from
    the top, and files; at last the times of folders.
    """
    failed: list[Conflict] = []

    def attempt(step: Step, act: Callable[[int, bytes, Step], None]) -> None:
        try:
            with opened_parent(root, step.path) as (folder, name):
                act(folder, name, step)
        except OSError as error:
            failed.append(Conflict(step.path, (error.strerror or "it can't be written").lower()))

    deepest = sorted(steps, key=lambda step: step.path.count(b"/"), reverse=True)
    for step in deepest:
        if step.now is not None and (step.want is None or _kind(step.want) != _kind(step.now)):
            attempt(step, _remove)
    for step in reversed(deepest):
        if step.want is not None and step.want.is_dir:
            attempt(step, _make_folder)
    for step in steps:
        if step.want is not None and not step.want.is_dir:
            attempt(step, lambda folder, name, one: _put(folder, name, one, open_content))
    failures = {conflict.path for conflict in failed}
    for step in deepest:
        if step.want is not None and step.want.is_dir and step.path not in failures:
            attempt(step, _finish_folder)
    return failed


def _kind(entry: Entry) -> int:
    return stat.S_IFMT(entry.mode)


def _there(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _check(folder: int, name: bytes, step: Step) -> os.stat_result | None:
    """Return what is there, if it is what the plan found; raise `OSError` where it is something else."""
    status = _there(folder, name)
    expected = step.now
    if status is None or expected is None:
        if status is not None and not (step.want is not None and _is_made(status, step.want)):
            raise OSError(errno.EEXIST, "something else is there now")
        return status
    same = (status.st_size, status.st_mtime_ns, status.st_mode) == (expected.size, expected.mtime, expected.mode)
    if not same and not stat.S_ISDIR(status.st_mode) and not (step.want is not None and _is_made(status, step.want)):
        raise OSError(errno.EAGAIN, "it has changed meanwhile")
    return status


def _is_made(status: os.stat_result, want: Entry) -> bool:
    return (status.st_size, status.st_mtime_ns, status.st_mode) == (want.size, want.mtime, want.mode)


def _remove(folder: int, name: bytes, step: Step) -> None:
    status = _check(folder, name, step)
    if status is None or step.now is None or stat.S_IFMT(status.st_mode) != _kind(step.now):
        return
    if stat.S_ISDIR(status.st_mode):
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            # What else lies in it is the person's, or cannot be told from that: the folder stays.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or step.want is not None:
                raise
    else:
        os.unlink(name, dir_fd=folder)


def _make_folder(folder: int, name: bytes, step: Step) -> None:
    status = _there(folder, name)
    if status is None:
        os.mkdir(name, 0o700, dir_fd=folder)
    elif not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EEXIST, "something else is there now")
    elif status.st_mode & 0o700 != 0o700:
        os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=folder)


def _finish_folder(folder: int, name: bytes, step: Step) -> None:
    assert step.want is not None
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        os.fchmod(inner, stat.S_IMODE(step.want.mode))
        os.utime(inner, ns=(step.want.mtime, step.want.mtime))
    finally:
        os.close(inner)


def _put(folder: int, name: bytes, step: Step, open_content: Open) -> None:
    """Put the wanted file or link in its place, with its mode and time."""
    want = step.want
    assert want is not None
    status = _check(folder, name, step)
    # always the same name, so that what a crash has left is found again
    temporary = b".lathe-" + hashlib.sha256(step.path).hexdigest()[:16].encode() + b".undo"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    if status is not None and _is_made(status, want) and (step.now is None or not _is_made(status, step.now)):
        return  # made before the crash
    try:
        if stat.S_ISLNK(want.mode):
            os.symlink(want.content[1:], temporary, dir_fd=folder)
            os.utime(temporary, ns=(want.mtime, want.mtime), dir_fd=folder, follow_symlinks=False)
        elif step.now is not None and step.now.is_file and step.now.content == want.content and status is not None:
            _only_touch(folder, name, want)
            return
        else:
            _write(folder, temporary, want, status, open_content)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def _only_touch(folder: int, name: bytes, want: Entry) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(inner, stat.S_IMODE(want.mode))
        os.utime(inner, ns=(want.mtime, want.mtime))
    finally:
        os.close(inner)


def _write(folder: int, name: bytes, want: Entry, status: os.stat_result | None, open_content: Open) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open_content(want) as source, os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb", 0) as target:
        while block := source.read(_BLOCK):
            rest = memoryview(block)
            while rest:
                rest = rest[target.write(rest) :]
        owner = status or os.fstat(folder)
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):
                os.fchown(target.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(target.fileno(), stat.S_IMODE(want.mode))
        os.utime(target.fileno(), ns=(want.mtime, want.mtime))
