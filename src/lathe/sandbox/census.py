"""Who runs in a session: found from outside, by several things of which a process can't shake off all.

Facts: proc(5), pid_namespaces(7), Documentation/admin-guide/cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PARENT, _THREADS, _STARTED = 1, 17, 19  # what follows the name in /proc/PID/stat, counted from the state
_DEAD = frozenset("ZX")
_STILL = frozenset("Tt")
_LONGEST_CHASE_S = 1.0
_MOST_FRESH = 8192


class Reach(NamedTuple):
    """By what the processes of one exec server are known.

    `server` is its pid as it is out here, `started` the clock tick of its start, so that nobody is taken for it who
    has got its number. `own_namespace` says whether it is the first process of a pid namespace. `groups` are the
    folders of its control groups. `mark` begins the marks of its commands.
    """

    server: int
    started: int
    own_namespace: bool
    groups: tuple[Path, ...]
    mark: bytes


class Member(NamedTuple):
    """A live process of a session; `started` in clock ticks since boot, `state` the letter of proc(5)."""

    pid: int
    started: int
    state: str
    program: str

    @property
    def still(self) -> bool:
        """Whether it is stopped, so that it can't fork."""
        return self.state in _STILL


class _Seen(NamedTuple):
    member: Member
    parent: int


class Census:
    """Counts the live processes of a session, again and again; whoever was seen once is known from then on.

    The namespace is held open meanwhile: the kernel gives a free number to the next one at once. `sure` says whether
    there is, and could be read, what a count rests on.
    """

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        # without any of these, whoever has lost its parent and emptied its environment is anybody's
        self.sure = reach.own_namespace or self.server_lives() or any(one.exists() for one in reach.groups)
        self._known: dict[int, int] = {}
        self._strangers: dict[int, int] = {}
        self._namespace = -1
        self._inode = 0
        if reach.own_namespace and self.server_lives():
            with contextlib.suppress(OSError):
                self._namespace = os.open(f"/proc/{reach.server}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
                self._inode = os.fstat(self._namespace).st_ino

    def close(self) -> None:
        """Let go of the namespace."""
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def server_lives(self) -> bool:
        """Return whether the exec server itself runs."""
        seen = _look(self.reach.server)
        return seen is not None and seen.member.started == self.reach.started

    def send_server(self, number: int) -> bool:
        """Send a signal to the exec server; return whether it went."""
        return send(Member(self.reach.server, self.reach.started, "", ""), number)

    @property
    def seen(self) -> int:
        """How many processes of the session were seen so far."""
        return len(self._known)

    def below(self, seconds: float) -> Iterator[Member]:
        """Yield whoever runs below the exec server, found from parent to child; ends after some time in any case.

        It is a first look, and a quick one: of whoever is just being made or left by its parent it may miss some.
        """
        limit = time.monotonic() + seconds
        todo = [self.reach.server]
        while todo and time.monotonic() < limit:
            pid = todo.pop()
            seen = _look(pid)
            if seen is None:
                continue
            if pid != self.reach.server:
                yield seen.member
            with contextlib.suppress(OSError):
                for task in os.scandir(f"/proc/{pid}/task"):
                    todo += map(int, Path(task.path, "children").read_bytes().split())

    def take(self) -> list[Member]:
        """Return the live processes of the session; the exec server is not among them."""
        server = self.reach.server
        seen = {one.member.pid: one for one in _everybody()}
        self.sure = self.sure and os.getpid() in seen
        below: dict[int, list[int]] = {}
        for pid, one in seen.items():
            below.setdefault(one.parent, []).append(pid)
        grouped = {pid for folder in self.reach.groups for pid in members_of(folder)}
        todo = [pid for pid, one in seen.items() if pid in grouped or self._belongs(one)]
        if server in seen and seen[server].member.started == self.reach.started:
            todo += below.get(server, [])
        found: dict[int, Member] = {}
        while todo:
            pid = todo.pop()
            if pid not in found and pid not in (server, os.getpid()):
                found[pid] = seen[pid].member
                todo += below.get(pid, [])
        self._known |= {pid: member.started for pid, member in found.items()}
        return list(found.values())

    def chase(self, seconds: float) -> list[Member]:
        """Kill each new process of the session as soon as it has a number, for some time; return whom it found.

        Whoever forks and leaves again and again is somewhere else whenever all are counted. But the kernel says which
        number it has given out last, and to look at that one takes less time than to fork.
        """
        began = time.monotonic()
        limit = began + seconds
        last = _last_number()
        waiting: list[int] = []
        found = []
        while (now := time.monotonic()) < limit:
            newest = _last_number()
            # the newest first: by the time that older ones have been looked at, it has left as well
            fresh, waiting = [*_between(last, newest), *waiting], []
            last = newest
            for pid in fresh:
                seen = _look(pid)
                if seen is None:
                    continue
                if seen.parent == self.reach.server or self._is_known(seen.parent) or self._belongs(seen):
                    send(seen.member, signal.SIGKILL)
                    self._known[pid] = seen.member.started
                    found.append(seen.member)
                    limit = min(now + seconds, began + _LONGEST_CHASE_S)
                else:
                    waiting.append(pid)  # its parent may be gone with the next look, and the exec server in its place
        return found

    def _is_known(self, pid: int) -> bool:
        """Tell whether under a number runs who was seen to run there before, and nobody who got it since."""
        started = self._known.get(pid)
        seen = _look(pid) if started is not None else None
        return seen is not None and seen.member.started == started

    def _belongs(self, one: _Seen) -> bool:
        pid, started, *_ = one.member
        if self._known.get(pid) == started:
            return True
        if self.reach.own_namespace:
            # whoever is in the namespace descends from its first process as well; setns(2) takes others in
            return self._inode != 0 and _namespace_of(pid) == self._inode
        if self._strangers.get(pid) == started:
            return False
        try:
            first = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        if first and self.reach.mark not in first:  # there is nothing while it is being executed
            self._strangers[pid] = started
        return self.reach.mark in first


def reach_of(server: int, *, own_namespace: bool, groups: tuple[Path, ...], mark: bytes) -> Reach:
    """Return by what the processes of an exec server are known, while it runs."""
    seen = _look(server)
    return Reach(server, seen.member.started if seen is not None else -1, own_namespace, groups, mark)


def members_of(folder: Path) -> list[int]:
    """Return the processes of a cgroup and of those below it, none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        found += map(int, (folder / "cgroup.procs").read_text().split())
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                found += members_of(Path(entry.path))
    return found


def named(word: str) -> list[int]:
    """Return the live processes that have a word in their command line."""
    found = []
    for seen in _everybody():
        with contextlib.suppress(OSError):
            if word.encode() in Path(f"/proc/{seen.member.pid}/cmdline").read_bytes():
                found.append(seen.member.pid)
    return found


def number_inside(pid: int) -> int:
    """Return the number that a process has where it runs itself, in the innermost pid namespace; raise OSError."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def send(member: Member, number: int) -> bool:
    """Send a signal to this very process, and to nobody who has got its number meanwhile; return whether it went."""
    try:
        handle = os.pidfd_open(member.pid)
    except OSError:
        return False
    try:
        seen = _look(member.pid)
        if seen is None or seen.member.started != member.started:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _last_number() -> int:
    """Return the number that the last process or thread got (proc(5), loadavg)."""
    return int(Path("/proc/loadavg").read_bytes().split()[4])


def _between(last: int, newest: int) -> list[int]:
    """Return the numbers given out after `last`, the newest first; they begin anew when they have come to an end."""
    if newest >= last:
        return list(range(newest, last, -1))
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    return [*range(newest, 0, -1), *range(most, last, -1)][:_MOST_FRESH]


def _everybody() -> Iterator[_Seen]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (seen := _look(int(entry.name))) is not None:
                yield seen


def _look(pid: int) -> _Seen | None:
    """Return what runs under a number, None where nothing does.

    A process whose first thread has ended looks like a zombie and may run on in its other threads.
    """
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        said = os.read(file, 4096).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(file)
    # the name stands in brackets and may hold anything, brackets and spaces too
    head, _, rest = said.rpartition(")")
    fields = rest.split()
    if len(fields) <= _STARTED or (fields[0] in _DEAD and int(fields[_THREADS]) < 2):
        return None
    member = Member(pid, int(fields[_STARTED]), fields[0], head.partition("(")[2])
    return _Seen(member, int(fields[_PARENT]))


def _namespace_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0
