"""Starts `netns.py`, which makes the network of a session sandbox."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lathe.sandbox.relay import readable

_HERE: Final = Path(__file__).parent
_MOST_FDS: Final = 64
_READY_S: Final = 10.0
_LINK: Final = 3
_redirects = True

RESOLVER: Final = str(_HERE / "resolv.conf")
"""What stands for /etc/resolv.conf in a sandbox whose names are answered here."""


class NoNetwork(Exception):
    """The network of a sandbox could not be made; the message is what was said last."""


async def make_network(pid: int, ports: Sequence[int]) -> list[int]:
    """Return the descriptors of the network of process `pid`'s namespace (`netns.main`); raise `NoNetwork`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    errors = os.memfd_create("lathe-netns", os.MFD_CLOEXEC)
    call = f"netns.main({_LINK}, {pid}, {list(ports)}, redirect={_redirects})"
    code = f"import sys; sys.path.append({str(_HERE)!r}); import netns; {call}"
    argv = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", code]
    actions = [(os.POSIX_SPAWN_DUP2, errors, 2), (os.POSIX_SPAWN_DUP2, theirs.fileno(), _LINK)]
    fds: list[int] = []
    try:
        helper = os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=[])  # noqa: ASYNC221
        theirs.close()
        ours.setblocking(False)
        try:
            fds = await asyncio.wait_for(_received(ours), _READY_S)
        except TimeoutError:
            os.kill(helper, 9)
        await asyncio.to_thread(os.waitpid, helper, 0)
        if not fds:
            said = os.pread(errors, 4000, 0).decode("utf-8", "replace").strip()
            raise NoNetwork(said.splitlines()[-1] if said else "no answer")
        return fds
    except OSError as error:
        raise NoNetwork(str(error)) from None
    finally:
        ours.close()
        theirs.close()
        os.close(errors)


async def _received(link: socket.socket) -> list[int]:
    await readable(link)
    try:
        return socket.recv_fds(link, 16, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)[1]
    except OSError:
        return []
