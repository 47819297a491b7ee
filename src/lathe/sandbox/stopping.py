"""Stopping a session at once, and finding out whether it has stopped.

Nothing here needs the event loop, the exec server or anybody's good will: it can be done from any thread while they
hang. The strongest means that there is goes first, and all others follow: the kernel kills what is in a control group
of version 2, and what is in a pid namespace whose first process dies, in one stroke that no fork escapes. Where there
is neither, all are stopped until none is left that could fork, and then killed. In the end everybody is counted anew,
twice: a process that a signal was sent to is not a process that is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

from lathe.sandbox.census import Census, Member, Reach, members_of, send

LONGEST_S: Final = 5.0
"""How long it is tried to kill what does not die, such as a process in the middle of a call to a dead disk."""
_FREEZE_S: Final = 0.25
_CHASE_S: Final = 0.03
_PEEK_S: Final = 0.01
_FIRST: Final = -20
_CLEAN_LOOKS: Final = 2
_PAUSE_S: Final = 0.002
_NAMED: Final = 5


class Survivor(NamedTuple):
    """A process that is still there; `state` is the letter of proc(5)."""

    pid: int
    program: str
    state: str


class Stopped(NamedTuple):
    """What a stop has come to, after the last count.

    `found` counts the processes that ran when it began, as far as they were seen, `connections` those that were cut.
    `killed_s` are the seconds until none was left, `proven_s` until that was found to be so. `ways` are the means that
    were there, the strongest first. `sure` says whether nobody can have been overlooked.
    """

    found: int = 0
    survivors: tuple[Survivor, ...] = ()
    connections: int = 0
    killed_s: float = 0.0
    proven_s: float = 0.0
    ways: tuple[str, ...] = ()
    sure: bool = True

    @property
    def proven(self) -> bool:
        """Whether nothing is left, and that is certain."""
        return self.sure and not self.survivors

    def sentence(self) -> str:
        """Return what has become of the session's processes, for a person."""
        if self.survivors:
            named = ", ".join(f"{one.program} ({one.pid})" for one in self.survivors[:_NAMED])
            more = f" and {len(self.survivors) - _NAMED} more" if len(self.survivors) > _NAMED else ""
            return f"{_processes(len(self.survivors))} could not be ended: {named}{more}."
        cut = f", {self.connections} of its connections were cut" if self.connections else ""
        if not self.sure:
            return f"Its processes were killed{cut}, but whether all are gone is not certain."
        return f"{_processes(self.found)} ended within {self.killed_s:.2f} s{cut}; none is left."

    def with_other(self, other: Stopped) -> Stopped:
        """Return what two stops that were done side by side have come to together."""
        return Stopped(
            self.found + other.found,
            (*self.survivors, *other.survivors),
            self.connections + other.connections,
            max(self.killed_s, other.killed_s),
            max(self.proven_s, other.proven_s),
            tuple(dict.fromkeys((*self.ways, *other.ways))),
            self.sure and other.sure,
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count:,} processes"


def stop(reach: Reach, *, began: float | None = None, longest_s: float = LONGEST_S) -> Stopped:
    """Kill all processes of a session, its exec server included, and return what is left of them.

    Blocks until nothing is left, at most `longest_s` seconds. `began` is the `time.monotonic` of the alarm, now where
    it is not given.
    """
    began = time.monotonic() if began is None else began
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    with contextlib.suppress(OSError):
        # before those that it is to catch, where we may
        os.setpriority(os.PRIO_PROCESS, thread, _FIRST)
    census = Census(reach)
    try:
        ways = _held(reach)
        running = _counted(census) if reach.own_namespace else _halted(census)
        ways += _in_one_stroke(census)
        left, killed_s = _kill(census, began, longest_s)
        while not reach.own_namespace and not left and census.chase(_CHASE_S):
            left, killed_s = _kill(census, began, longest_s)
        if not reach.own_namespace and census.send_server(signal.SIGKILL):
            # until here it was needed: whoever lost a parent came to it, and not to the first process of the machine
            left, killed_s = _kill(census, began, longest_s)
        survivors = [Survivor(one.pid, one.program, one.state) for one in left]
        if reach.own_namespace and census.server_lives():
            survivors.append(Survivor(reach.server, "exec server", "D"))
        found = max(running, census.seen)
        return Stopped(found, tuple(survivors), 0, killed_s, time.monotonic() - began, tuple(ways), census.sure)
    finally:
        census.close()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, before)


def _counted(census: Census) -> int:
    """Return how many run, or how many were found in no time: there is no waiting for a number."""
    return sum(1 for _ in census.below(_PEEK_S))


def _halted(census: Census) -> int:
    """Stop whoever a first look finds, the exec server before all others, and return how many that were."""
    census.send_server(signal.SIGSTOP)
    return sum(send(one, signal.SIGSTOP) for one in census.below(_FREEZE_S))


def _held(reach: Reach) -> list[str]:
    """Hold all in the control groups where they are, and let nobody fork; return the means that were there."""
    ways = []
    for group in reach.groups:
        if _write(group / "pids.max", "0"):
            ways.append("no more forks")
        if _write(group / "cgroup.freeze", "1"):
            ways.append("freezer")
    return ways


def _in_one_stroke(census: Census) -> list[str]:
    """Kill all that the kernel holds together; return the means that were there."""
    reach = census.reach
    ways = []
    if reach.own_namespace:
        if census.send_server(signal.SIGKILL):
            ways.append("pid namespace")
    else:
        _freeze(census)
    for group in reach.groups:
        if _write(group / "cgroup.kill", "1"):
            ways.append("control group")
        for pid in members_of(group):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    return ways


def _freeze(census: Census) -> None:
    """Stop everybody until whoever is left can't fork."""
    limit = time.monotonic() + _FREEZE_S
    asked: set[Member] = set()
    while True:
        moving = [one for one in census.take() if not one.still]
        for one in moving:
            send(one, signal.SIGSTOP)
        fresh = {one._replace(state="") for one in moving} - asked
        asked |= fresh
        if not fresh or time.monotonic() > limit:
            return
        census.chase(_PAUSE_S)


def _kill(census: Census, began: float, longest_s: float) -> tuple[list[Member], float]:
    """Kill whoever is found until two looks find nobody; return who is left, and after how long the last was gone."""
    clean = 0
    killed_s = 0.0
    while clean < _CLEAN_LOOKS:
        left = census.take()
        passed = time.monotonic() - began
        if not left and not (census.reach.own_namespace and census.server_lives()):
            killed_s = killed_s if clean else passed
            clean += 1
            continue
        clean = 0
        if passed > longest_s:
            return left, passed
        for one in left:
            send(one, signal.SIGKILL)
        if census.reach.own_namespace:
            time.sleep(_PAUSE_S)
        else:
            census.chase(_PAUSE_S)
    return [], killed_s


def _write(file: Path, text: str) -> bool:
    """Write to a file of a cgroup; return whether that worked."""
    try:
        # opened as it is: one that is not there must not be made
        handle = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(handle, text.encode())
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
