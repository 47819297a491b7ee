"""Calls to the kernel that Python has no names for: namespaces, mounts with shifted owners, capabilities.

Imported by the keeper's program, which has no site packages. Facts: setns(2), mount(2), mount_setattr(2),
capabilities(7), linux/mount.h, linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Sequence
from typing import Final

NEWNS: Final = 0x00020000
NEWCGROUP: Final = 0x02000000
NEWUTS: Final = 0x04000000
NEWIPC: Final = 0x08000000
NEWUSER: Final = 0x10000000
NEWPID: Final = 0x20000000
NEWNET: Final = 0x40000000
MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 4, 32, 4096, 16384, 1 << 18
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same everywhere
_HERE: Final = -100
_EMPTY_PATH: Final = 0x1000
_TREE_CLONE: Final = 1
_CLOEXEC: Final = os.O_CLOEXEC
_MOVE_EMPTY_PATH: Final = 4
_RDONLY, _NOSUID, _NODEV, _IDMAP = 1, 2, 4, 0x00100000
_DETACH: Final = 2
_PDEATHSIG, _DUMPABLE, _SECCOMP, _BOUNDING_DROP, _SUBREAPER = 1, 4, 22, 24, 36
_FILTER: Final = 2
_CAPABILITY_VERSION: Final = 0x20080522
_LAST_CAPABILITY: Final = 40
_KEPT: Final = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""What Docker leaves root of a container: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap."""
WAKE_ALARM: Final = 35
"""A capability that is good for nothing in a user namespace; whoever lacks it cannot look into who has it."""
_libc = ctypes.CDLL(None, use_errno=True)


class Trouble(Exception):
    """Something cannot be done here; the message says what."""


def _checked(result: int, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path or None)
    return result


def unshare(kinds: int) -> None:
    _checked(_libc.unshare(kinds))


def setns(fd: int, kinds: int) -> None:
    _checked(_libc.setns(fd, kinds))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    given = [os.fsencode(each) for each in (source, target, kind)]
    _checked(_libc.mount(*given, ctypes.c_ulong(flags), os.fsencode(options)), target)


def unmount(target: str) -> None:
    """Detach what is mounted there, if anything is."""
    _libc.umount2(os.fsencode(target), _DETACH)


def tree(path: str, users: int) -> int:
    """Return a detached copy of the mount that a path lies in, from the path on; raise OSError.

    Its owners are shifted by the map of the user namespace `users`, unless that is negative.
    """
    fd: int = _checked(_libc.syscall(_OPEN_TREE, _HERE, os.fsencode(path), _TREE_CLONE | _CLOEXEC), path)
    if users >= 0:
        try:
            _set(fd, _IDMAP, users)
        except OSError:
            os.close(fd)
            raise
    return fd


def tree_of(fd: int) -> int:
    """Return a detached copy of the mount that an open file or folder lies in, from it on; raise OSError."""
    return _checked(_libc.syscall(_OPEN_TREE, fd, b"", _TREE_CLONE | _CLOEXEC | _EMPTY_PATH))


def make_readable_only(fd: int) -> None:
    """Let nobody write to a tree, nor become another user by it."""
    _set(fd, _RDONLY | _NOSUID | _NODEV, 0)


def _set(fd: int, attributes: int, users: int) -> None:
    packed = struct.pack("=QQQQ", attributes, 0, 0, users)
    _checked(_libc.syscall(_MOUNT_SETATTR, fd, b"", _EMPTY_PATH, packed, len(packed)))


def put_tree(fd: int, target: str) -> None:
    """Mount what `tree` returned."""
    _checked(_libc.syscall(_MOVE_MOUNT, fd, b"", _HERE, os.fsencode(target), _MOVE_EMPTY_PATH), target)


def become_root() -> None:
    """Be root of the user namespace that this process has entered."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def die_with_parent() -> None:
    _checked(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def adopt_orphans() -> None:
    """Become the parent of every orphan below: else the machine's init would be, which takes its time to bury them."""
    _checked(_libc.prctl(_SUBREAPER, 1, 0, 0, 0))


def hide() -> None:
    """Let nobody in the room look into this process, which has come from outside."""
    _checked(_libc.prctl(_DUMPABLE, 0, 0, 0, 0))


def keep_filtered(program: bytes) -> None:
    """Load a filter of system calls (seccomp(2)), for this process and all that comes from it."""
    if program:
        held = ctypes.create_string_buffer(program, len(program))
        packed = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
        _checked(_libc.prctl(_SECCOMP, _FILTER, packed, 0, 0))


def keep_capabilities(more: Sequence[int] = ()) -> None:
    """Give up, for good, what root of a container does not have, but for `more`."""
    kept = (*_KEPT, *more)
    for number in range(_LAST_CAPABILITY + 1):
        if number not in kept:
            _libc.prctl(_BOUNDING_DROP, number, 0, 0, 0)
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _checked(_libc.capset(header, struct.pack("IIIIII", low, low, 0, high, high, 0)))
