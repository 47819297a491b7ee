"""Pictures of files and folders: what they held, whether that has changed, and putting it back byte for byte.

Everything that changes something goes through descriptors of folders that were opened without following links: a
command may still run and swap a folder for a link meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

MOST_BYTES = 8 << 20
MOST_NODES = 4_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# a change so soon after another may leave the time of change as it was: the kernel's clock for that is coarse
_COARSE_NS = 50_000_000

Sign = tuple[int, int, int, int, int]


class TooMuch(Exception):
    """A folder holds more than a picture is taken of; the message is its path."""


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One file, folder or link: `data` are a file's bytes, or where a link points."""

    mode: int
    uid: int
    gid: int
    data: bytes = b""


class Picture(msgspec.Struct, array_like=True):
    """What stood at `path`, by relative path ("" is the path itself); nothing where it was not there.

    `spared` are paths below it that are not part of it.
    """

    path: str
    nodes: dict[str, Node] = {}
    spared: tuple[str, ...] = ()


class Taken:
    """A picture, and what tells at a glance that nothing has changed since."""

    def __init__(self, path: str, spared: tuple[str, ...] = ()) -> None:
        self.picture = Picture(path, {}, spared)
        self._signs: dict[str, Sign] = {}
        self._at = 0

    def take(self) -> bool:
        """Take the picture anew, unless all is as it was; return whether it differs. Raises `TooMuch`."""
        if self._at and self._is_same() and not self._is_young():
            return False
        self._at = time.time_ns()
        before = self.picture.nodes
        self.picture.nodes, self._signs = _scan(self.picture.path, self.picture.spared)
        return self.picture.nodes != before

    def take_one(self, path: str) -> None:
        """Take one path of it anew, with the folders on the way; a closer look at the rest is needed from now on."""
        below = path[len(self.picture.path) :].strip("/")
        parts = below.split("/") if below else []
        for one in ("/".join(parts[:count]) for count in range(len(parts) + 1)):
            here = f"{self.picture.path}/{one}" if one else self.picture.path
            self.picture.nodes.pop(one, None)
            with contextlib.suppress(OSError, TooMuch):
                self.picture.nodes[one] = _node(here, MOST_BYTES)[0]
        self.doubt()

    def doubt(self) -> None:
        """Trust no glance until the picture is taken anew: something is at work there."""
        self._at = 0

    def may_differ(self) -> bool:
        """Return whether a closer look is needed."""
        return not self._at or not self._is_same() or self._is_young()

    def _is_same(self) -> bool:
        path = self.picture.path
        if not self._signs:
            return not os.path.lexists(path)
        try:
            return all(_sign(os.lstat(f"{path}/{below}" if below else path)) == s for below, s in self._signs.items())
        except OSError:
            return False

    def _is_young(self) -> bool:
        return any(sign[4] > self._at - _COARSE_NS for sign in self._signs.values())


def _sign(status: os.stat_result) -> Sign:
    return (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _scan(path: str, spared: Collection[str]) -> tuple[dict[str, Node], dict[str, Sign]]:
    nodes: dict[str, Node] = {}
    signs: dict[str, Sign] = {}
    left = MOST_BYTES
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = f"{path}/{below}" if below else path
        if here in spared:
            continue
        try:
            node, sign = _node(here, left)
            if stat.S_ISDIR(node.mode):
                waiting += [f"{below}/{name}" if below else name for name in os.listdir(here)]  # noqa: PTH208
        except OSError:
            continue
        left -= len(node.data)
        if left < 0 or len(nodes) >= MOST_NODES:
            raise TooMuch(path)
        nodes[below], signs[below] = node, sign
    return nodes, signs


def _node(path: str, most: int) -> tuple[Node, Sign]:
    """Return what stands at a path; raise OSError, and `TooMuch` for a file of more than `most` bytes."""
    status = os.lstat(path)
    data = b""
    if stat.S_ISLNK(status.st_mode):
        data = os.fsencode(os.readlink(path))  # noqa: PTH115
    elif stat.S_ISREG(status.st_mode):
        if status.st_size > most:
            raise TooMuch(path)
        data = _bytes_of(path, status.st_size)
    return Node(status.st_mode, status.st_uid, status.st_gid, data), _sign(status)


def _bytes_of(path: str, size: int, folder: int | None = None) -> bytes:
    """Return the bytes of a regular file, at most one more than `size`; raise OSError."""
    descriptor = os.open(path, _REGULAR, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no file")
        data = b""
        while len(data) <= size and (block := os.read(descriptor, size + 1 - len(data))):
            data += block
        return data
    finally:
        os.close(descriptor)


def put_back(picture: Picture, tops: Collection[str], aside: Path | None = None) -> list[str]:
    """Make everything as the picture has it; return the paths at which something was done.

    Nothing is done where the folder around it is gone. What stands in the place of a folder on the way to it, below
    one of `tops`, goes. What can't be put back is among the paths too, for it differs. Files that go are copied to
    the folder `aside`, if one is given.
    """
    folder, _, name = picture.path.rpartition("/")
    settling = _Settling(picture, aside)
    with contextlib.ExitStack() as open_folders:
        parent = _opened(folder or "/", tops, open_folders, settling.done)
        if parent >= 0:
            settling.settle(parent, name, "")
    return settling.done


def _opened(path: str, tops: Collection[str], stack: contextlib.ExitStack, done: list[str]) -> int:
    """Return a descriptor of a folder, -1 where it is not there; an impostor below a top is removed."""
    at = os.open("/", _DIRECTORY)
    stack.callback(os.close, at)
    here = ""
    for part in filter(None, path.split("/")):
        here = f"{here}/{part}"
        try:
            inner = os.open(part, _DIRECTORY, dir_fd=at)
        except OSError as error:
            inside = any(here.startswith(top.rstrip("/") + "/") for top in tops)
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and inside:
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=at)
                    done.append(here)
            return -1
        stack.callback(os.close, inner)
        at = inner
    return at


class _Settling:
    """Making entries as a picture has them; `done` are the paths at which they were not."""

    def __init__(self, picture: Picture, aside: Path | None) -> None:
        self.done: list[str] = []
        self._picture = picture
        self._aside = aside

    def settle(self, folder: int, name: str, below: str) -> None:
        """Make one entry of a folder, and all below it, as the picture has it."""
        path = f"{self._picture.path}/{below}" if below else self._picture.path
        if path in self._picture.spared:
            return
        wanted = self._picture.nodes.get(below)
        try:
            found = os.lstat(name, dir_fd=folder)
        except OSError:
            found = None
        is_folder = wanted is not None and stat.S_ISDIR(wanted.mode)
        if not (is_folder and found is not None and stat.S_ISDIR(found.st_mode)):
            if (wanted is None and found is None) or _is(wanted, found, folder, name):
                return
            self.done.append(path)
            if found is not None and self._aside is not None:
                _copy(folder, name, found, self._aside)
            with contextlib.suppress(OSError):
                _replace(folder, name, wanted)
        if wanted is not None and is_folder:
            self._inside(folder, name, below, wanted)

    def _inside(self, folder: int, name: str, below: str, wanted: Node) -> None:
        try:
            here = os.open(name, _DIRECTORY, dir_fd=folder)
        except OSError:
            return
        try:
            if stat.S_IMODE(os.fstat(here).st_mode) != stat.S_IMODE(wanted.mode):
                self.done.append(f"{self._picture.path}/{below}".rstrip("/"))
                with contextlib.suppress(OSError):
                    os.fchmod(here, stat.S_IMODE(wanted.mode))
            inner = f"{below}/" if below else ""
            known = (one[len(inner) :] for one in self._picture.nodes if one and one.startswith(inner))
            for one in sorted({one for one in known if "/" not in one} | set(os.listdir(here))):  # noqa: PTH208
                self.settle(here, one, inner + one)
        finally:
            os.close(here)


def _copy(folder: int, name: str, found: os.stat_result, aside: Path) -> None:
    if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_BYTES:
        with contextlib.suppress(OSError):
            aside.mkdir(parents=True, exist_ok=True, mode=0o700)
            (aside / f"{os.urandom(4).hex()}-{name}").write_bytes(_bytes_of(name, found.st_size, folder))


def _is(wanted: Node | None, found: os.stat_result | None, folder: int, name: str) -> bool:
    if wanted is None or found is None or found.st_mode != wanted.mode:
        return False
    try:
        if stat.S_ISLNK(wanted.mode):
            return os.fsencode(os.readlink(name, dir_fd=folder)) == wanted.data
        if stat.S_ISREG(wanted.mode):
            return found.st_size == len(wanted.data) and _bytes_of(name, found.st_size, folder) == wanted.data
    except OSError:
        return False
    return True


def _replace(folder: int, name: str, wanted: Node | None) -> None:
    """Put one file, link or empty folder in the place of whatever is there; raise OSError."""
    fresh = f".lathe-{os.urandom(8).hex()}.back"
    if wanted is None or stat.S_ISDIR(wanted.mode):
        _remove(folder, name)
    if wanted is None:
        return
    if stat.S_ISDIR(wanted.mode):
        os.mkdir(name, stat.S_IMODE(wanted.mode), dir_fd=folder)
        _own(folder, name, wanted)
        return
    if stat.S_ISLNK(wanted.mode):
        os.symlink(os.fsdecode(wanted.data), fresh, dir_fd=folder)
    elif stat.S_ISREG(wanted.mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(wanted.data)
            os.fchmod(file.fileno(), stat.S_IMODE(wanted.mode))
    else:
        return
    _own(folder, fresh, wanted)
    try:
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        _remove(folder, name)
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)


def _own(folder: int, name: str, wanted: Node) -> None:
    if os.geteuid() == 0:
        os.chown(name, wanted.uid, wanted.gid, dir_fd=folder, follow_symlinks=False)


def _remove(folder: int, name: str) -> None:
    import shutil

    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(name, dir_fd=folder)


def names_of(folder: str) -> Iterator[str]:
    """Yield the names in a folder, none where it can't be read."""
    with contextlib.suppress(OSError):
        yield from os.listdir(folder)  # noqa: PTH208
