"""Whose a connection is: the program and the command behind a socket of a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_MARK = b"LATHE_COMMAND="
_DIAGNOSIS_S = 1.0
_BY_FAMILY, _REQUEST = 20, 1
_HEADER = 16
_INODE_AT = _HEADER + 68  # in what linux/inet_diag.h calls inet_diag_msg


class Inside:
    """The sockets of one sandbox's network, as `netns.py` hands them out, and whose connections there are."""

    def __init__(self, fds: Sequence[int], root: int) -> None:
        self._diagnosis, self.names, *self.listeners = self._every = [socket.socket(fileno=fd) for fd in fds]
        for one in self._every:
            one.setblocking(False)
        self._diagnosis.settimeout(_DIAGNOSIS_S)
        self._root = root
        self._asking = asyncio.Lock()

    async def owner(self, protocol: int, local: tuple[str, int], remote: tuple[str, int]) -> tuple[str, str]:
        """Return the program and the command behind a connection, see `owner_of`."""
        async with self._asking:
            return await asyncio.to_thread(owner_of, self._diagnosis, protocol, local, remote, self._root)

    def close(self) -> None:
        """Close all sockets."""
        for one in self._every:
            one.close()


def owner_of(
    diagnosis: socket.socket, protocol: int, local: tuple[str, int], remote: tuple[str, int], root: int
) -> tuple[str, str]:
    """Return the program that holds a connection, and the mark of its command; "" for what is unknown.

    `diagnosis` is a netlink socket of the sandbox's own network, `protocol` that of IP, `local` and `remote` are as the
    program sees them, `root` is the process from which all in the sandbox descend. A program that has gone is unknown.
    """
    inode = _inode(diagnosis, protocol, local, remote)
    if not inode:
        return "", ""
    link = f"socket:[{inode}]"
    for process in _below(root):
        if link in _held_by(process):
            return _describe(process)
    return "", ""


def _inode(diagnosis: socket.socket, protocol: int, local: tuple[str, int], remote: tuple[str, int]) -> int:
    """Return the number of a connection's socket, 0 where the kernel knows none (sock_diag(7))."""
    if protocol == socket.IPPROTO_UDP:
        local, remote = remote, local  # the kernel looks for whoever would receive such a datagram
    ends = struct.pack("!HH", local[1], remote[1])
    ends += socket.inet_aton(local[0]) + bytes(12) + socket.inet_aton(remote[0]) + bytes(12)
    any_state, no_cookie = 0xFFFFFFFF, b"\xff" * 8
    body = struct.pack("=BBBxI", socket.AF_INET, protocol, 0, any_state) + ends + bytes(4) + no_cookie
    head = struct.pack("=IHHII", _HEADER + len(body), _BY_FAMILY, _REQUEST, 1, 0)
    try:
        diagnosis.send(head + body)
        answer = diagnosis.recv(8192)
    except OSError:
        return 0
    if len(answer) < _INODE_AT + 4 or struct.unpack_from("=H", answer, 4)[0] != _BY_FAMILY:
        return 0
    inode: int = struct.unpack_from("=I", answer, _INODE_AT)[0]
    return inode


def _below(root: int) -> Iterator[Path]:
    """Yield the folders of the processes below `root`, the youngest first: it is one of them most likely."""
    found: list[int] = []
    todo = [root]
    while todo:
        number = todo.pop()
        with contextlib.suppress(OSError):
            for task in os.scandir(f"/proc/{number}/task"):
                todo += map(int, Path(task.path, "children").read_bytes().split())
        found.append(number)
    yield from (Path("/proc", str(number)) for number in sorted(found[1:], reverse=True))


def _held_by(process: Path) -> Iterator[str]:
    try:
        entries = list(os.scandir(process / "fd"))
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):  # closed meanwhile
            yield str(Path(entry.path).readlink())


def _describe(process: Path) -> tuple[str, str]:
    try:
        program = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
        environ = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return "", ""
    marks = [entry[len(_MARK) :] for entry in environ if entry.startswith(_MARK)]
    return program, marks[0].decode("ascii", "replace") if marks else ""
