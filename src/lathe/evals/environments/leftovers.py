"""Ends what runs in a pid namespace, but for its first process; from outside, with nothing that lies in there."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lathe.evals.environments import kernel

_GONE_S: Final = 10.0
_LOOK_S: Final = 0.002


def main(given: Sequence[str]) -> None:
    """Do it for the namespace that a process, given by its number, is the first of; a program of its own."""
    pid = int(given[0])
    kernel.setns(os.pidfd_open(pid), kernel.NEWPID)
    sys.exit(0 if end_from_a_child(pid) else 1)


def end_from_a_child(first: int) -> bool:
    """Kill them all from a child, which setns(2) has made one of them; return whether they are gone."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if _end(first) else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _end(first: int) -> bool:
    processes = Path(f"/proc/{first}/root/proc")
    limit = time.monotonic() + _GONE_S
    while time.monotonic() < limit:
        # kill(2): all but the first process of the namespace and this one, and none can fork meanwhile
        os.kill(-1, signal.SIGKILL)
        if not any(_lives(entry) for entry in processes.iterdir() if entry.name.isdecimal()):
            return True
        time.sleep(_LOOK_S)
    return False


def _lives(entry: Path) -> bool:
    if entry.name in ("1", str(os.getpid())):
        return False
    try:
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False
