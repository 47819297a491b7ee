"""Changing several files so that all of them change or none does.

Everything is first written to new files beside the targets; only then are they renamed over them. What a rename
replaces is kept under a second name until the last one is done, so that going back needs no disk space.
Directories are opened component by component without following links: a directory that is swapped for a link
while the patch is applied cannot lead the writes elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from lathe.tools.patch_recovery import Intent, Note

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_EFFECTIVE = os.access in os.supports_effective_ids
_NO_TEMPORARY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_RENAME = (errno.EBUSY, errno.EXDEV)  # the file itself is a mount point


class Write(msgspec.Struct, frozen=True):
    """One file that is to change: `path` (absolute, without links) gets `data`, or goes where that is None.

    `before` is the file as it was read (None: there was none), with its bytes in `old`; `like` is the file
    whose mode, owner and extended attributes the new one gets.
    """

    path: Path
    data: bytes | None
    before: os.stat_result | None = None
    old: bytes | None = None
    like: os.stat_result | None = None


class ReadFile(msgspec.Struct, frozen=True):
    """What stands at a path: its bytes (of a link: where it points) and its stat."""

    data: bytes
    stat: os.stat_result


def read_file(path: Path) -> ReadFile | None:
    """Return the regular file or link at `path` (absolute, without links before its last part), None if absent.

    Raises `OSError`, with `EISDIR` for a directory and `EINVAL` for a device, pipe or socket.
    """
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return ReadFile(os.fsencode(path.readlink()), found)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is a device, pipe or socket")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return ReadFile(file.read(), os.fstat(descriptor))


def write_all(writes: Sequence[Write], notes: Path | None = None) -> None:
    """Make all `writes`, or none: on any failure everything is as it was, and the failure is raised as `OSError`.

    With `notes`, a folder, also where the process is killed: `patch_recovery.recover` then takes it back.

    The error's `filename` is the path at fault. Should going back fail as well, it says what could not be put back.
    """
    jobs = [_Job(write) for write in writes]
    undo: list[Callable[[], None]] = []
    with contextlib.ExitStack() as cleanup:
        note = _noted(notes, jobs, cleanup)
        try:
            for job in jobs:
                job.stage(cleanup, undo)
            if note is not None and any(job.in_place for job in jobs):
                note.write([job.intent(note.save(job.write.old or b"") if job.in_place else b"") for job in jobs])
            for job in jobs:
                job.commit(cleanup, undo, last=job is jobs[-1])
        except BaseException as error:
            for job in jobs:
                job.forget(job.new)
            lost = [problem for step in reversed(undo) if (problem := _attempt(step))]
            if lost and isinstance(error, OSError):
                message = f"{error.strerror}; and this could not be undone: {'; '.join(lost)}"
                raise OSError(error.errno, message, error.filename) from None
            raise
        for job in jobs:
            job.forget(job.kept)


def _noted(notes: Path | None, jobs: Sequence[_Job], cleanup: contextlib.ExitStack) -> Note | None:
    """Return the note of what is to be done; None where none is wanted, or none can be written."""
    if notes is None or not jobs:
        return None
    note = Note(notes)
    try:
        note.write([job.intent() for job in jobs])
    except OSError:
        return None
    cleanup.callback(note.forget)
    return note


def _attempt(step: Callable[[], None]) -> str:
    try:
        step()
    except OSError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Make an `OSError` speak of `path`, not of the temporary file or the part of it that failed."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class _Job:
    """One write on its way: staged, then committed."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.name = write.path.name
        token = os.urandom(8).hex()
        self.new = f".lathe-{token}.new"
        self.kept = f".lathe-{token}.old"
        self.folder = -1
        self.in_place = False

    def intent(self, saved: bytes = b"") -> Intent:
        """Return what this will do, as a note has it."""
        folder, name = os.path.split(os.fsencode(self.write.path))
        removes, existed = self.write.data is None, self.write.before is not None
        return Intent(folder, name, self.new.encode(), self.kept.encode(), existed, removes, saved)

    def stage(self, cleanup: contextlib.ExitStack, undo: list[Callable[[], None]]) -> None:
        """Open the folder, make it where it is missing, and write the new bytes beside the target."""
        data, before = self.write.data, self.write.before
        with _about(self.write.path):
            self.folder = _open_folder(self.write.path.parent, cleanup, undo, make=data is not None)
            if data is None:
                return
            if before is not None and not stat.S_ISLNK(before.st_mode):
                if not os.access(self.name, os.W_OK, dir_fd=self.folder, effective_ids=_EFFECTIVE):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                # one file of several names stays one file, and somebody else's file stays theirs
                self.in_place = before.st_nlink > 1 or before.st_uid != os.geteuid() != 0
            if not self.in_place:
                try:
                    self._write_new(data)
                except OSError as error:
                    if before is None or error.errno not in _NO_TEMPORARY:
                        raise
                    self.in_place = True

    def _write_new(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self.new, flags, 0o666, dir_fd=self.folder), "wb", buffering=0) as file:
            _write_whole(file.fileno(), data)
            like = self.write.like
            if like is None:
                _give_to_owner(self.new, self.folder)
                return
            made = os.fstat(file.fileno())
            if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
            if like is self.write.before:
                self._copy_extended(file.fileno())
            os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))

    def _copy_extended(self, target: int) -> None:
        if not hasattr(os, "listxattr"):
            return
        # a file that may be written but not read, or an attribute that only root may set
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self.name, flags, dir_fd=self.folder), "rb", buffering=0) as file:
                for name in os.listxattr(file.fileno()):
                    os.setxattr(target, name, os.getxattr(file.fileno(), name))

    def commit(self, cleanup: contextlib.ExitStack, undo: list[Callable[[], None]], *, last: bool) -> None:
        """Put the new file in the place of the old one, or take the old one away."""
        with _about(self.write.path):
            self._check_unchanged()
            if self.write.data is None:
                self._remove(undo, last=last)
            elif self.in_place:
                self._overwrite(self.write.data, cleanup, undo)
            else:
                self._replace(self.write.data, cleanup, undo, last=last)

    def _check_unchanged(self) -> None:
        before = self.write.before
        try:
            now = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            now = None
        if before is None or now is None:
            same = before is now
        else:
            same = (now.st_ino, now.st_mtime_ns, now.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
        if not same:
            raise OSError(errno.EAGAIN, "something else changed it at the same time")

    def _remove(self, undo: list[Callable[[], None]], *, last: bool) -> None:
        if last:
            os.unlink(self.name, dir_fd=self.folder)
        else:
            self._rename(self.name, self.kept)
            undo.append(self._restore)

    def _replace(
        self, data: bytes, cleanup: contextlib.ExitStack, undo: list[Callable[[], None]], *, last: bool
    ) -> None:
        existed = self.write.before is not None
        try:
            if existed and not last:
                self._keep()
                undo.append(self._restore)
            self._rename(self.new, self.name)
        except OSError as error:
            if not existed or error.errno not in _NO_RENAME:
                raise
            self._overwrite(data, cleanup, undo)
            self.forget(self.new)
        else:
            if not existed:
                undo.append(lambda: os.unlink(self.name, dir_fd=self.folder))

    def _keep(self) -> None:
        try:
            os.link(self.name, self.kept, src_dir_fd=self.folder, dst_dir_fd=self.folder, follow_symlinks=False)
        except OSError:  # a file system without hard links, or a file that the kernel lets only its owner link
            self._rename(self.name, self.kept)

    def _restore(self) -> None:
        self._rename(self.kept, self.name)
        self.forget(self.kept)  # a rename between two names of one file leaves both

    def _overwrite(self, data: bytes, cleanup: contextlib.ExitStack, undo: list[Callable[[], None]]) -> None:
        old = self.write.old or b""
        target = os.open(self.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder)
        cleanup.callback(os.close, target)
        undo.append(lambda: _rewrite(target, old))
        if len(data) > len(old) and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(target, 0, len(data))  # a full disk shows before anything is lost
        _rewrite(target, data)

    def _rename(self, source: str, target: str) -> None:
        os.rename(source, target, src_dir_fd=self.folder, dst_dir_fd=self.folder)

    def forget(self, name: str) -> None:
        """Remove the temporary file `name`, if there is one."""
        if self.folder >= 0:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.folder)


def _write_whole(target: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def _rewrite(target: int, data: bytes) -> None:
    os.lseek(target, 0, os.SEEK_SET)
    _write_whole(target, data)
    os.ftruncate(target, len(data))


def _open_folder(path: Path, cleanup: contextlib.ExitStack, undo: list[Callable[[], None]], *, make: bool) -> int:
    """Return a descriptor of `path`, closed by `cleanup`; missing parts are made, and taken back by `undo`."""
    at = os.open("/", _DIRECTORY)
    cleanup.callback(os.close, at)
    for part in path.parts[1:]:
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=at)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(part, dir_fd=at)
            undo.append(_removal(part, at))
            _give_to_owner(part, at)
            inner = os.open(part, _DIRECTORY, dir_fd=at)
        cleanup.callback(os.close, inner)
        at = inner
    return at


def _give_to_owner(name: str, folder: int) -> None:
    """Give what root made in another's folder to its owner, to whom also the commands' files belong."""
    if os.geteuid() == 0:
        owner = os.fstat(folder)
        if owner.st_uid != 0:
            with contextlib.suppress(PermissionError):
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)


def _removal(part: str, parent: int) -> Callable[[], None]:
    return lambda: os.rmdir(part, dir_fd=parent)
