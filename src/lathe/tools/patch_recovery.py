"""What a patch is about to do, written down before it does it: a patch that was killed is taken back at the next start.

Each running patch has a note in one folder, locked for as long as its process lives. A note without a living process
says which files were to change and under which names the old ones are kept meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lathe.store.folders import opened_parent


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """One file of a patch: its folder and name, the names of its new and its kept version, whether it was there.

    `removes` says that it is to go. `saved` is a copy of the old bytes, for a file that is written in place.
    """

    folder: bytes
    name: bytes
    new: bytes
    kept: bytes
    existed: bool
    removes: bool
    saved: bytes = b""


class Note:
    """The note of a patch on its way."""

    def __init__(self, folder: Path) -> None:
        self._base = folder / f"patch-{os.urandom(8).hex()}"
        self._lock = -1
        self._copies: list[Path] = []

    def write(self, intents: Sequence[Intent]) -> None:
        """Write down what is to be done, or write it anew; raise `OSError`."""
        fresh = self._base.with_suffix(".new")
        fresh.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, msgspec.msgpack.encode(list(intents)))
            fresh.replace(self._base.with_suffix(".note"))
        except OSError:
            os.close(lock)
            fresh.unlink(missing_ok=True)
            raise
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = lock

    def save(self, data: bytes) -> bytes:
        """Save the old bytes of a file, and return where; raise `OSError`."""
        copy = self._base.with_suffix(f".{len(self._copies)}")
        self._copies.append(copy)
        copy.write_bytes(data)
        return os.fsencode(copy)

    def forget(self) -> None:
        """The patch is done, or was taken back by its own process."""
        with contextlib.suppress(OSError):
            self._base.with_suffix(".note").unlink(missing_ok=True)
        for copy in self._copies:
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def recover(folder: Path) -> list[str]:
    """Take back, or bring to its end, every patch whose process was killed; return the files that this concerned."""
    try:
        found = list(folder.iterdir())
    except OSError:
        return []
    names = [name for path in found if path.suffix == ".note" for name in _recovered(path)]
    for path in found:
        if path.suffix != ".note" and not path.with_suffix(".note").exists():
            _sweep(path)
    return names


def _sweep(path: Path) -> None:
    """Remove what a patch left that was killed before its note was whole, or after it was gone."""
    with contextlib.suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(lock)


def _recovered(path: Path) -> list[str]:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with os.fdopen(os.dup(lock), "rb") as file:
            intents = msgspec.msgpack.decode(file.read(), type=list[Intent])
        if _is_complete(intents[-1]):
            names = []
        else:
            names = [os.fsdecode(one.folder + b"/" + one.name) for one in reversed(intents) if _take_back(one)]
        for intent in intents:
            _tidy(intent)
        path.unlink(missing_ok=True)
    except (OSError, msgspec.DecodeError, IndexError):  # a living process has it, or it was never whole
        return []
    finally:
        os.close(lock)
    return names


def _is_complete(last: Intent) -> bool:
    """Tell whether the last file of a patch had been changed: then all had."""
    with _opened(last) as folder:
        if folder < 0:
            return False
        if last.removes:
            return not _is_there(last.name, folder)
        return not last.saved and not _is_there(last.new, folder) and _is_there(last.name, folder)


def _take_back(one: Intent) -> bool:
    """Make a file what it was; return whether it was another."""
    with _opened(one) as folder:
        if folder < 0:
            return False
        if one.saved:
            data = Path(os.fsdecode(one.saved)).read_bytes()
            target = os.open(one.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(target, "wb", buffering=0) as file:
                file.write(data)
                file.truncate(len(data))
            return True
        if one.existed:
            if not _is_there(one.kept, folder):
                return False
            os.rename(one.kept, one.name, src_dir_fd=folder, dst_dir_fd=folder)
            return True
        if one.removes or _is_there(one.new, folder) or not _is_there(one.name, folder):
            return False
        os.unlink(one.name, dir_fd=folder)
        return True


def _tidy(one: Intent) -> None:
    with _opened(one) as folder:
        for name in (one.new, one.kept):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
    if one.saved:
        with contextlib.suppress(OSError):
            Path(os.fsdecode(one.saved)).unlink()


@contextlib.contextmanager
def _opened(one: Intent) -> Iterator[int]:
    """Give the descriptor of the folder, -1 where it is not there (any more)."""
    with contextlib.ExitStack() as stack:
        try:
            folder, _ = stack.enter_context(opened_parent(b"/", one.folder.strip(b"/") + b"/" + one.name))
        except OSError:
            folder = -1
        yield folder


def _is_there(name: bytes, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except OSError:
        return False
    return True
