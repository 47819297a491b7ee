"""A workspace as its folders and inodes show it: what is there, and what has changed since another look."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Mapping

import msgspec

REMADE = frozenset(
    {
        *(b"node_modules", b"bower_components", b"__pycache__", b".venv", b".tox", b".nox", b".mypy_cache"),
        *(b".ruff_cache", b".pytest_cache", b".hypothesis", b".next", b".nuxt", b".turbo", b".parcel-cache"),
        *(b".svelte-kit", b".gradle", b".terraform", b".eggs", b"DerivedData", b".ipynb_checkpoints"),
    }
)
"""Names of folders whose contents some tool makes again; they are left out unless git knows files in them."""

NOT_KEPT = b"?"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is at a path. Times are nanoseconds since the epoch.

    `content` says where the bytes of a regular file are kept: b"b" and their hash for Lathe's own store, b"g" and the
    hash for git's, b"?" for nowhere; the hash is git's. Of a symbolic link it is b"l" and the target, of anything
    else empty.
    """

    mode: int
    size: int
    mtime: int
    ctime: int
    inode: int
    content: bytes = b""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_kept(self) -> bool:
        """Whether it could be put back."""
        return self.is_dir or self.content not in (b"", NOT_KEPT)

    def same_as(self, other: Entry | None) -> bool:
        """Tell whether both are the same to a person: kind, permissions and bytes, wherever they are kept."""
        if other is None or self.mode != other.mode:
            return False
        if NOT_KEPT in (self.content, other.content):
            return (self.size, self.mtime) == (other.size, other.mtime)
        return self.content[1:] == other.content[1:]


class Scan(msgspec.Struct):
    """`entries` by path relative to the root; `fresh` are the paths whose inode is not as `known` had it."""

    entries: dict[bytes, Entry]
    fresh: list[bytes]


def scan(root: bytes, spared: Callable[[bytes], bool], known: Mapping[bytes, Entry], beside: bytes = b"") -> Scan:
    """Return what lies below `root`; links are not followed, other file systems not entered.

    `beside` is the path, relative to `root`, of one more folder to look at, which lies outside.

    Folders of which `spared` is true (given their relative path) are left out with all they hold. What vanishes while
    the scan goes on is left out as well. Raises `OSError` where `root` itself can't be read.
    """
    found: dict[bytes, Entry] = {}
    fresh: list[bytes] = []
    devices = {os.lstat(root).st_dev}
    stack = [b""]
    if beside:
        with contextlib.suppress(OSError):
            status = os.lstat(root + b"/" + beside)
            times = status.st_mtime_ns, status.st_ctime_ns
            found[beside] = Entry(status.st_mode, status.st_size, *times, status.st_ino)
            fresh.append(beside)
            devices.add(status.st_dev)
            stack.insert(0, beside + b"/")
    at_root = True
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(root + b"/" + folder) as entries:
                for entry in entries:
                    path = folder + entry.name
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    mode = status.st_mode
                    if stat.S_ISDIR(mode):
                        if spared(path):
                            continue
                        if status.st_dev in devices:
                            stack.append(path + b"/")
                    old = known.get(path)
                    if (
                        old is not None
                        and old.mtime == status.st_mtime_ns
                        and old.ctime == status.st_ctime_ns
                        and old.size == status.st_size
                        and old.inode == status.st_ino
                        and old.mode == mode
                    ):
                        found[path] = old
                        continue
                    link = b"l" + os.readlink(entry.path) if stat.S_ISLNK(mode) else b""  # noqa: PTH115 - bytes
                    times = status.st_mtime_ns, status.st_ctime_ns
                    found[path] = Entry(mode, status.st_size, *times, status.st_ino, link)
                    fresh.append(path)
        except OSError:
            if at_root:
                raise
        at_root = False
    return Scan(found, fresh)


def spares(tracked: frozenset[bytes], beside: bytes = b"") -> Callable[[bytes], bool]:
    """Return which folders a scan leaves out: git's objects, and what is made again where git knows nothing in it.

    `tracked` are the folders that hold files known to git; `beside` is git's own folder where that lies outside.
    """
    outside = beside + b"/"

    def is_spared(path: bytes) -> bool:
        parent, _, name = path.rpartition(b"/")
        if beside and path.startswith(b"../"):
            in_modules = path.startswith(outside) and b"/modules/" in path[len(beside) :]
            return name in (b"objects", b"lfs") and (parent == beside or in_modules)
        if name in (b"objects", b"lfs"):
            return parent.rpartition(b"/")[2] == b".git" or b"/.git/modules/" in b"/" + path
        return name in REMADE and path not in tracked

    return is_spared
