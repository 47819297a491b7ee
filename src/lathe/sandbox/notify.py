"""Tells Lathe of each wish to change a file, before the kernel grants it: a filter of system calls with a listener.

The exec server imports this file by its bare name and puts the filter on itself, so on all that it starts. Nothing is
refused by it (but io_uring, which would pass it by, and the x32 numbers): who changed what is all that is asked.

Facts: seccomp_unotify(2), Documentation/userspace-api/seccomp_filter.rst of Linux.
"""

from __future__ import annotations

import posix
import sys

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ONE, _TWO, _LINK, _FD = ((-1, 0),), ((-1, 0), (-1, 1)), ((-1, 1),), ((0, -1),)
_AT, _TWO_AT, _LINK_AT = ((0, 1),), ((0, 1), (2, 3)), ((1, 2),)
_CALLS: tuple[tuple[str, int, int, tuple[tuple[int, int], ...]], ...] = (
    ("open", 2, -1, _ONE),
    ("openat", 257, 56, _AT),
    ("openat2", 437, 437, _AT),
    ("creat", 85, -1, _ONE),
    ("rename", 82, -1, _TWO),
    ("renameat", 264, 38, _TWO_AT),
    ("renameat2", 316, 276, _TWO_AT),
    ("unlink", 87, -1, _ONE),
    ("unlinkat", 263, 35, _AT),
    ("rmdir", 84, -1, _ONE),
    ("mkdir", 83, -1, _ONE),
    ("mkdirat", 258, 34, _AT),
    ("symlink", 88, -1, _LINK),
    ("symlinkat", 266, 36, _LINK_AT),
    ("link", 86, -1, _TWO),
    ("linkat", 265, 37, _TWO_AT),
    ("mknod", 133, -1, _ONE),
    ("mknodat", 259, 33, _AT),
    ("truncate", 76, 45, _ONE),
    ("chmod", 90, -1, _ONE),
    ("fchmod", 91, 52, _FD),
    ("fchmodat", 268, 53, _AT),
    ("fchmodat2", 452, 452, _AT),
    ("chown", 92, -1, _ONE),
    ("fchown", 93, 55, _FD),
    ("lchown", 94, -1, _ONE),
    ("fchownat", 260, 54, _AT),
    ("utime", 132, -1, _ONE),
    ("utimes", 235, -1, _ONE),
    ("futimesat", 261, -1, _AT),
    ("utimensat", 280, 88, _AT),
    ("setxattr", 188, 5, _ONE),
    ("lsetxattr", 189, 6, _ONE),
    ("fsetxattr", 190, 7, _FD),
    ("setxattrat", 463, 463, _AT),
    ("removexattr", 197, 14, _ONE),
    ("lremovexattr", 198, 15, _ONE),
    ("fremovexattr", 199, 16, _FD),
    ("removexattrat", 466, 466, _AT),
)
_FLAGS = {"open": 1, "openat": 2}


def _numbered(machine: str) -> list[tuple[str, int, tuple[tuple[int, int], ...]]]:
    """Return name, number and arguments of the calls that a machine has; raise OSError for one that is not known."""
    if machine not in AUDIT_ARCH:
        raise OSError(f"the calls of {machine} are not known")
    rows = [(name, x86 if machine == "x86_64" else arm, which) for name, x86, arm, which in _CALLS]
    return [row for row in rows if row[1] >= 0]


def changes(machine: str) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return the numbers of the calls that change something, and which arguments hold a folder and a path in it.

    A folder is a descriptor; -1 is none, and the path relative to the working directory then. Without a path the
    descriptor is that of the file. Raises OSError for a machine that is not known.
    """
    return {number: which for _name, number, which in _numbered(machine)}


def renames(machine: str) -> frozenset[int]:
    """Return the numbers of the calls after which whole trees may lie elsewhere; raise OSError."""
    return frozenset(number for name, number, _which in _numbered(machine) if name.startswith("rename"))


_LEAST_KERNEL = (5, 5)  # before that a listener could only answer, and not let a call go on
_BRK_OF_32_BITS = 45
_IO_URING_SETUP = 425
_WRITING = posix.O_WRONLY | posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _NOTIFY, _MISSING = 0x7FFF0000, 0x7FC00000, 0x00050000 | 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER, _ONLY_KILLED = 1, 8, 32
_PR_SET_NO_NEW_PRIVS = 38


def listen() -> int:
    """Put the filter on this process for good and return its listener; raise OSError."""
    import _ctypes  # the whole of ctypes would cost three times this

    machine, release = posix.uname().machine, posix.uname().release.split(".")
    if not all(part.isdigit() for part in release[:2]) or tuple(map(int, release[:2])) < _LEAST_KERNEL:
        raise OSError("the kernel takes no listener that lets calls go on")
    code = _program(machine)
    libc = _ctypes.dlopen("", 2)
    prctl, syscall = _ctypes.dlsym(libc, "prctl"), _ctypes.dlsym(libc, "syscall")
    _ctypes.call_function(prctl, (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    address = _address_of(code)
    header = (len(code) // 8).to_bytes(2, sys.byteorder) + bytes(6) + address.to_bytes(8, sys.byteorder)
    # without the last flag (Linux 5.19) a signal ends the wait, and Go sends itself one every few milliseconds
    for flags in (_NEW_LISTENER | _ONLY_KILLED, _NEW_LISTENER):
        listener: int = _ctypes.call_function(syscall, (_SECCOMP[machine], _SET_FILTER, flags, header))
        if listener >= 0:
            return listener
    raise OSError("the kernel takes no listener")


def _address_of(data: bytes) -> int:
    """Return where the bytes of an object lie; the caller keeps it alive."""
    return id(data) + bytes.__basicsize__ - 1


def _program(machine: str) -> bytes:
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 4, 0, AUDIT_ARCH[machine]),
        # a program of 32 bits has other numbers; that there is one, its first wish for memory tells
        (_LOAD, 0, 0, 0),
        (_EQUAL, 0, 1, _BRK_OF_32_BITS),
        (_ANSWER, 0, 0, _NOTIFY),
        (_ANSWER, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000),
        (_ANSWER, 0, 0, _MISSING),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_ANSWER, 0, 0, _MISSING),
    ]
    for name, number, _which in _numbered(machine):
        if name in _FLAGS:  # to read is no change
            steps += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * _FLAGS[name]),
                (_ANY_BIT, 0, 1, _WRITING),
                (_ANSWER, 0, 0, _NOTIFY),
                (_ANSWER, 0, 0, _ALLOW),
            ]
        else:
            steps += [(_EQUAL, 0, 1, number), (_ANSWER, 0, 0, _NOTIFY)]
    steps.append((_ANSWER, 0, 0, _ALLOW))
    return b"".join(
        code.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
        for code, yes, no, value in steps
    )
