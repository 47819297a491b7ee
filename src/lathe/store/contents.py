"""Contents of files, kept by their hash, so that a file that is gone can be put back byte for byte.

Small ones lie together in an SQLite database, for a file for each would cost five times as much; large ones are files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import sqlite3

_BLOCK = 1 << 20
_CHUNK = 32 << 20
_OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WAIT_S = 30.0
_BASE = "contents.sqlite"
_HEX = 40
_AT_ONCE = 200
_PAGES = 2000


class Contents:
    """A folder of contents. What is added is there after `flush`, whole or not at all, whenever the process dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base: sqlite3.Connection | None = None
        self._pending = 0

    def keep(self, path: str) -> str:
        """Keep the bytes of the regular file at `path`, and return their hash.

        Raises `OSError`: where the file can't be read, changes while it is read (`EAGAIN`), or can't be kept.
        """
        with os.fdopen(os.open(path, _OPENING), "rb", buffering=0) as source:
            before = os.fstat(source.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EINVAL, "is no regular file", path)
            large = before.st_size > _BLOCK
            digest = self._large(source, before.st_size) if large else self.add(_whole(source))
            after = os.fstat(source.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BlockingIOError(errno.EAGAIN, "changed while it was read", path)
        return digest

    def add(self, data: bytes) -> str:
        """Keep `data` and return its hash; raise `OSError`."""
        digest = blob_hash(len(data), data)
        with _as_os_errors(self._folder):
            self._database().execute("insert or ignore into contents values (?, ?)", (digest.digest(), data))
        self._pending += len(data)
        if self._pending > _CHUNK:
            self.flush()
        return digest.hexdigest()

    def flush(self) -> None:
        """Write what was added; raise `OSError`."""
        if self._base is not None:
            with _as_os_errors(self._folder):
                self._base.commit()
        self._pending = 0

    def open(self, digest: str) -> BinaryIO:
        """Return the kept bytes as an open file; raise `FileNotFoundError`, `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / digest).open("rb", buffering=0)
        with _as_os_errors(self._folder):
            found = self._database().execute("select data from contents where hash = ?", (bytes.fromhex(digest),))
            row = found.fetchone()
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "is not kept", digest)
        return io.BytesIO(row[0])

    def sweep(self, live: Container[bytes], until: float) -> bool:
        """Remove what is not among the hashes `live` (raw bytes); return whether all was looked at.

        It stops at `until` (seconds of `time.monotonic`) and may be killed; the next sweep goes on. Only for a folder
        that nobody else has open. Raises `OSError`.
        """
        for path in self._folder.glob("[0-9a-f]*"):
            if len(path.name) == _HEX and bytes.fromhex(path.name) not in live:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("new-*"):  # what a kill has left half written
            path.unlink(missing_ok=True)
        if not (self._folder / _BASE).exists():
            return True
        with _as_os_errors(self._folder):
            base = self._database()
            gone = [key for (key,) in base.execute("select hash from contents") if key not in live]
            for at in range(0, len(gone), _AT_ONCE):
                if time.monotonic() > until:
                    return False
                base.executemany("delete from contents where hash = ?", [(key,) for key in gone[at : at + _AT_ONCE]])
                base.commit()
            free, before = _free_pages(base), -1
            while free and free != before:
                if time.monotonic() > until:
                    return False
                base.execute(f"pragma incremental_vacuum({_PAGES})").fetchall()
                base.commit()
                free, before = _free_pages(base), free
            base.execute("pragma wal_checkpoint(truncate)").fetchall()
        return True

    def close(self) -> None:
        """Let go of the database; what was not flushed is forgotten."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _large(self, source: BinaryIO, size: int) -> str:
        temporary = self._folder / f"new-{os.urandom(8).hex()}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        hashed = blob_hash(size)
        try:
            with temporary.open("xb", buffering=0) as target:
                while block := source.read(_BLOCK):
                    hashed.update(block)
                    rest = memoryview(block)
                    while rest:
                        rest = rest[target.write(rest) :]
            digest = hashed.hexdigest()
            temporary.rename(self._folder / digest)
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def _database(self) -> sqlite3.Connection:
        if self._base is None:
            import sqlite3  # 10 ms, which only those pay who change something

            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            base = sqlite3.connect(self._folder / _BASE, timeout=_WAIT_S, check_same_thread=False)
            base.execute("pragma auto_vacuum = incremental")  # so that a sweep gives the disk its room back
            base.execute("pragma journal_mode = wal")
            base.execute("pragma synchronous = normal")
            base.execute("create table if not exists contents (hash blob primary key, data blob) without rowid")
            self._base = base
        return self._base


def _free_pages(base: sqlite3.Connection) -> int:
    return int(base.execute("pragma freelist_count").fetchone()[0])


def _whole(source: BinaryIO) -> bytes:
    data = b""
    while block := source.read(_BLOCK + 1):
        data += block
    return data


def blob_hash(size: int, data: bytes = b"") -> hashlib._Hash:
    """Return the hash that git gives to a file of `size` bytes, begun with `data`."""
    return hashlib.sha1(b"blob %d\0" % size + data, usedforsecurity=False)


@contextlib.contextmanager
def _as_os_errors(folder: Path) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(folder)) from None
