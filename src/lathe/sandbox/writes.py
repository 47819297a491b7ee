"""What the commands of a sandbox wrote, and not the person or another program beside them.

The kernel asks before each call that may change a file (`notify.py`), and is always told to go on. It is a record, not
a boundary: a program that changes a path while the kernel reads it again can pass it by.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import threading
from collections.abc import Callable
from typing import Final

from lathe.sandbox.notify import AUDIT_ARCH, changes, renames

_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_IS_VALID: Final = 0x40082102
_NOTICE: Final = struct.Struct("QIIiIQ6Q")  # seccomp_notif: id, pid, flags, number, architecture, address, arguments
_GO_ON: Final = struct.Struct("QqiI")
_CONTINUE: Final = 1
_PAGE: Final = 4096
_LONGEST: Final = 4096
_HERE: Final = -100  # AT_FDCWD
_MOST: Final = 500_000
_END_S: Final = 5.0
_OPEN_FILE: Final = re.compile(rb"/(?:proc/(?:self|thread-self|[0-9]+)/fd|dev/fd)/([0-9]+)")


class Writes:
    """Keeps a record of the paths that commands may have changed since the last `reset`.

    `certain` is False where something could not be followed; what is not on record may be theirs then, too.
    """

    def __init__(self) -> None:
        self.certain = False
        self.first: Callable[[bytes], None] = lambda path: None
        """Is called, in a thread of its own, with each path before the first change since the last `reset`."""

        self._paths: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._parents: dict[bytes, bytes] = {}
        machine = os.uname().machine
        try:
            self._changes, self._renames = changes(machine), renames(machine)
        except OSError:
            self._changes, self._renames = {}, frozenset()
        self._architecture = AUDIT_ARCH.get(machine, 0)
        self._threads: list[tuple[threading.Thread, int]] = []

    def attach(self, listener: int, root: int) -> None:
        """Listen to a sandbox whose first process is `root`, until it ends; the descriptor is this object's now."""
        try:
            world = os.readlink(f"/proc/{root}/ns/mnt")
        except OSError:
            os.close(listener)
            return
        waiting, stop = os.pipe()
        thread = threading.Thread(
            target=self._listen, args=(listener, waiting, world), name="lathe-writes", daemon=True
        )
        thread.start()
        self._threads.append((thread, stop))
        self.certain = True

    def reset(self) -> None:
        """Forget what is on record; only while no command runs."""
        self._paths, self._trees, self._parents = set(), set(), {}
        self.certain = bool(self._threads)

    def wrote(self, path: bytes) -> bool:
        """Tell whether a command may have changed this absolute path, or what lies there."""
        if path in self._paths or path in self._trees:
            return True
        while self._trees and path not in (b"", b"/"):
            path = os.path.dirname(path)
            if path in self._trees:
                return True
        return False

    def close(self) -> None:
        """Stop listening."""
        for thread, stop in self._threads:
            os.close(stop)
            thread.join(_END_S)
        self._threads.clear()
        self.certain = False

    def _listen(self, listener: int, waiting: int, world: str) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(waiting, select.POLLIN)
        buffer = bytearray(_NOTICE.size)
        try:
            while True:
                for fd, event in poll.poll():
                    if fd == waiting or event & (select.POLLHUP | select.POLLERR):
                        return
                buffer[:] = bytes(_NOTICE.size)
                try:
                    fcntl.ioctl(listener, _RECEIVE, buffer)
                except OSError:
                    continue  # whoever asked has been killed
                number = _NOTICE.unpack(buffer)[0]
                try:
                    self._note(buffer, world)
                except Exception:  # whatever a program has in its registers, its call must go on
                    # where it has been killed meanwhile, nothing came of its call
                    self.certain = self.certain and not _waits(listener, number)
                with contextlib.suppress(OSError):
                    fcntl.ioctl(listener, _SEND, _GO_ON.pack(number, 0, 0, _CONTINUE))
        finally:
            os.close(listener)
            os.close(waiting)

    def _note(self, notice: bytearray, world: str) -> None:
        """Take a call down; raise where that cannot be done."""
        _id, caller, _flags, number, architecture, _address, *arguments = _NOTICE.unpack(notice)
        # in a root or with mounts of its own, a path means something else
        elsewhere = os.readlink(f"/proc/{caller}/root") != "/" or os.readlink(f"/proc/{caller}/ns/mnt") != world
        if elsewhere or architecture != self._architecture:
            self.certain = False
            return
        memory = os.open(f"/proc/{caller}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for folder, path in self._changes[number]:
                text = _text(memory, arguments[path]) if path >= 0 else b""
                base = _signed(arguments[folder]) if folder >= 0 else _HERE
                self._add(_absolute(caller, base, text), tree=number in self._renames)
        finally:
            os.close(memory)

    def _add(self, path: bytes, *, tree: bool) -> None:
        above, name = os.path.split(path)
        parent = self._parents.get(above)
        if parent is None:
            parent = self._parents[above] = os.path.realpath(above)
        whole = os.path.join(parent, name) if name else parent
        places = (whole, os.path.realpath(whole)) if os.path.islink(whole) else (whole,)
        for place in places:
            if not self.wrote(place):  # nor moved, with a folder above it
                self.first(place)
            self._paths.add(place)
        self._paths.add(parent)
        if tree:
            self._trees.add(whole)
            self._parents.clear()  # it may have been a link, or may have become one
        if len(self._paths) > _MOST:
            self.certain = False
            self._paths = set()


def _signed(argument: int) -> int:
    """Return an argument as the int that a descriptor is."""
    low = argument & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _waits(listener: int, number: int) -> bool:
    """Tell whether a call still waits for its answer."""
    try:
        fcntl.ioctl(listener, _IS_VALID, struct.pack("Q", number))
    except OSError:
        return False
    return True


def _text(memory: int, address: int) -> bytes:
    """Return the text, ended by NUL, at an address of a process's memory; raise OSError."""
    if not address:
        return b""
    text = b""
    while len(text) < _LONGEST:
        # what lies behind the page may not be there
        part = os.pread(memory, _PAGE - address % _PAGE, address)
        end = part.find(b"\0")
        if end >= 0:
            return text + part[:end]
        text += part
        address += len(part)
        if not part:
            break
    raise OSError("no end")


def _absolute(caller: int, base: int, text: bytes) -> bytes:
    """Return the absolute path that a call means; raise OSError."""
    found = _OPEN_FILE.fullmatch(text)
    if found is not None:
        return os.readlink(b"/proc/%d/fd/%d" % (caller, int(found[1])))
    if text.startswith(b"/"):
        return os.path.normpath(text)
    start = os.readlink(b"/proc/%d/cwd" % caller if base == _HERE else b"/proc/%d/fd/%d" % (caller, base))
    return os.path.normpath(os.path.join(start, text)) if text else start
