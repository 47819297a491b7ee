"""Whose a connection is: the program and the command behind a socket of a sandbox."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_MARK = b"LATHE_COMMAND="


def owner_of(table: int, peer: tuple[str, int]) -> tuple[str, str]:
    """Return the program that holds the socket bound to `peer`, and the mark of its command; "" for what is unknown.

    `table` is open on the sandbox's own list of connections (/proc/net/tcp, see proc_pid_net(5)). A program that has
    gone, or that may not be looked at, is unknown.
    """
    inode = _inode(table, peer)
    if not inode:
        return "", ""
    link = f"socket:[{inode}]"
    for process in _processes():
        if link in _held_by(process):
            return _describe(process)
    return "", ""


def _inode(table: int, peer: tuple[str, int]) -> str:
    address = socket.inet_aton(peer[0])[::-1].hex().upper()
    local = f"{address}:{peer[1]:04X}".encode()
    data = b""
    while block := os.pread(table, 1 << 16, len(data)):
        data += block
    for line in data.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[1] == local:
            return fields[9].decode()
    return ""


def _processes() -> Iterator[Path]:
    """Yield the folders of processes, the youngest first: it is one of them most likely."""
    found = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    yield from (Path("/proc", str(number)) for number in sorted(found, reverse=True))


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
