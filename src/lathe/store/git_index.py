"""Git's index, read without git: which files git holds the bytes of, as they are in the working tree now.

Format: gitformat-index(5), versions 2 to 4.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from lathe.store.scan import Entry

_ENTRY = struct.Struct(">10I20sH")
_ASSUME_VALID, _EXTENDED = 0x8000, 0x4000
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
    if len(data) < 32 or data[:4] != b"DIRC":
        return {}
    version, count = struct.unpack(">II", data[4:12])
    if version not in (2, 3, 4):
        return {}
    try:
        return _entries(data, version, count, written)
    except (struct.error, ValueError, IndexError):
        return {}


def _entries(data: bytes, version: int, count: int, written: int) -> dict[bytes, Indexed]:
    found: dict[bytes, Indexed] = {}
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
        mtime = msec * 1_000_000_000 + mnsec
        doubtful = flags & (_ASSUME_VALID | 0x3000) or more & (_SKIP_WORKTREE | _INTENT_TO_ADD) or mtime >= written
        if mode >> 12 == 0o10 and not doubtful:
            ctime = csec * 1_000_000_000 + cnsec
            found[name] = Indexed(mtime, ctime, inode, size, bool(mode & 0o100), oid.hex())
    return found


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
