"""Git's index, read without git: which files git holds the bytes of, as they are in the working tree now.

Format: gitformat-index(5), versions 2 to 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lathe.store.scan import Entry

_ENTRY = struct.Struct(">10I20sH")
_ASSUME_VALID, _EXTENDED, _STAGE = 0x8000, 0x4000, 0x3000
_SKIP_WORKTREE, _INTENT_TO_ADD = 0x4000, 0x2000


class Indexed(NamedTuple):
    """A file in the index: what its inode was like when git last knew it to be the same as the object `oid`."""

    mtime: int
    ctime: int
    inode: int
    size: int
    executable: bool
    oid: str

    def is_of(self, entry: Entry) -> bool:
        """Tell whether the file of a scan is still the one that git knows."""
        return (
            self.mtime == entry.mtime
            and self.ctime == entry.ctime
            and self.inode == entry.inode & 0xFFFFFFFF
            and self.size == entry.size & 0xFFFFFFFF
            and self.executable == bool(entry.mode & 0o100)
        )


def read_index(path: Path) -> dict[bytes, Indexed]:
    """Return the files of an index whose bytes git holds, by path; {} where it can't be read or is of another kind.

    Left out is what git was told not to look at, what stands in conflict, and what may have changed in the instant in
    which the index was written.
    """
    try:
        data = path.read_bytes()
        written = path.stat().st_mtime_ns
    except OSError:
        return {}
    return {entry.name: entry.indexed() for entry in _entries(data) or () if entry.is_held(written)}


def says_the_same(one: bytes, other: bytes) -> bool:
    """Tell whether two indexes hold the same files: `git status` writes one anew, and changes no more than times."""
    said = [None if (found := _entries(data)) is None else [entry.said() for entry in found] for data in (one, other)]
    return said[0] is not None and said[0] == said[1]


class _Raw(NamedTuple):
    name: bytes
    mtime: int
    ctime: int
    inode: int
    mode: int
    size: int
    oid: bytes
    flags: int
    more: int

    def indexed(self) -> Indexed:
        return Indexed(self.mtime, self.ctime, self.inode, self.size, bool(self.mode & 0o100), self.oid.hex())

    def is_held(self, written: int) -> bool:
        """Tell whether git holds the file as it is, if the index was written then."""
        doubtful = self.flags & (_ASSUME_VALID | _STAGE) or self.more & (_SKIP_WORKTREE | _INTENT_TO_ADD)
        return self.mode >> 12 == 0o10 and not doubtful and self.mtime < written

    def said(self) -> tuple[bytes, int, bytes, int, int]:
        """Return what it says of the file, without what it says of the inode."""
        return self.name, self.mode, self.oid, self.flags & (_ASSUME_VALID | _STAGE), self.more


def _entries(data: bytes) -> list[_Raw] | None:
    """Return the entries of an index, None where it is torn or of another kind."""
    if len(data) < 32 or data[:4] != b"DIRC":
        return None
    version, count = struct.unpack(">II", data[4:12])
    if version not in (2, 3, 4):
        return None
    try:
        return list(_read_entries(data, version, count))
    except (struct.error, ValueError, IndexError):
        return None


def _read_entries(data: bytes, version: int, count: int) -> Iterator[_Raw]:
    at, previous = 12, b""
    for _ in range(count):
        start = at
        csec, cnsec, msec, mnsec, _, inode, mode, _, _, size, oid, flags = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        more = 0
        if flags & _EXTENDED:
            (more,) = struct.unpack_from(">H", data, at)
            at += 2
        if version == 4:
            cut, at = _offset(data, at)
            end = data.index(b"\0", at)
            name = previous[: len(previous) - cut] + data[at:end]
            previous, at = name, end + 1
        else:
            end = data.index(b"\0", at)
            name = data[at:end]
            at = start + ((end - start + 8) & ~7)
        times = msec * 1_000_000_000 + mnsec, csec * 1_000_000_000 + cnsec
        yield _Raw(name, *times, inode, mode, size, oid, flags, more)


def _offset(data: bytes, at: int) -> tuple[int, int]:
    """Read a number as pack files write offsets."""
    byte = data[at]
    at += 1
    value = byte & 0x7F
    while byte & 0x80:
        byte = data[at]
        at += 1
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, at
