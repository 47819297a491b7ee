"""The system call filter of the bubblewrap tiers, as a program that bubblewrap loads for us (`--seccomp FD`).

It takes away what only an attacker misses: io_uring and the kernel's key ring (not there, as far as a program can
tell), BPF, userfaultfd, files by handle, and typing into terminals by ioctl. Debuggers, browsers' own sandboxes and
nested ones work on. Without a network of their own, commands can also make none but local sockets.

Formats: seccomp(2); numbers: the kernel's tables of system calls for each architecture.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_ALLOW, _KILL, _EPERM, _EACCES, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x5000D, 0x50026
_LOAD, _EQUAL, _AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_X32 = 0x40000000
_IO_URING = (425, 426, 427)  # the same everywhere
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


class _Calls(NamedTuple):
    """An architecture (its AUDIT_ARCH) and numbers of calls."""

    architecture: int
    keys: tuple[int, int, int]  # add_key, request_key, keyctl
    refused: tuple[int, int, int]  # bpf, userfaultfd, open_by_handle_at
    ioctl: int
    socket: int
    socketcall: int | None = None


_MACHINES = {
    "x86_64": (
        _Calls(0xC000003E, (248, 249, 250), (321, 323, 304), 16, 41),
        _Calls(0x40000003, (286, 287, 288), (357, 374, 342), 54, 359, 102),
    ),
    "aarch64": (
        _Calls(0xC00000B7, (217, 218, 219), (280, 282, 265), 29, 198),
        _Calls(0x40000028, (309, 310, 311), (386, 388, 371), 54, 281, 102),
    ),
}


def program(*, network: bool) -> bytes | None:
    """Return the filter for this machine; None where its numbers are not known."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return None
    steps = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for calls in machine:
        block = _block(calls, network=network)
        steps += [(_EQUAL, 0, len(block), calls.architecture), *block]
    steps.append((_ANSWER, 0, 0, _KILL))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _block(calls: _Calls, *, network: bool) -> list[tuple[int, int, int, int]]:
    steps = [(_LOAD, 0, 0, _NUMBER)]
    if calls.architecture == 0xC000003E:
        steps += [(_AT_LEAST, 0, 1, _X32), (_ANSWER, 0, 0, _ENOSYS)]
    for number in (*_IO_URING, *calls.keys):
        steps += [(_EQUAL, 0, 1, number), (_ANSWER, 0, 0, _ENOSYS)]
    for number in calls.refused:
        steps += [(_EQUAL, 0, 1, number), (_ANSWER, 0, 0, _EPERM)]
    if not network:
        steps += [
            (_EQUAL, 0, 4, calls.socket),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 0, 1, socket.AF_UNIX),
            (_ANSWER, 0, 0, _ALLOW),
            (_ANSWER, 0, 0, _EACCES),
        ]
        if calls.socketcall is not None:
            steps += [(_EQUAL, 0, 1, calls.socketcall), (_ANSWER, 0, 0, _EACCES)]
    steps += [
        (_EQUAL, 0, 4, calls.ioctl),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),
        (_EQUAL, 1, 0, _TIOCSTI),
        (_EQUAL, 0, 1, _TIOCLINUX),
        (_ANSWER, 0, 0, _EPERM),
        (_ANSWER, 0, 0, _ALLOW),
    ]
    return steps
