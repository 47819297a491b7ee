"""Limits of a session's commands on memory, processes, CPU and files, and what holds them.

The kernel's control groups where we may make one; its resource limits (getrlimit(2)) else, and for what cgroups do not
count. Which of them is in force can be asked, and that a limit was met comes from the kernel's own counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lathe.sandbox.cgroups import Cgroup, Counts

MIB = 1 << 20
SHARE_OF_MEMORY = 0.8
_OOM_SCORE = 300  # of 1000: what commands have more than Lathe, so that they go first
_SHELL_SIGNAL = 128  # what a shell adds to a signal's number to make an exit status of it


class Limits(NamedTuple):
    """What commands may use; 0 means no limit, None as much as is good for the machine or the container.

    `memory_mb` (MiB), `processes` (threads count) and `cpus` (cores, for all together) hold for the session as a whole
    where there are cgroups; `cpu_seconds`, `file_mb` and `open_files` for each process.
    """

    memory_mb: int | None = 0
    processes: int | None = 0
    cpu_seconds: int = 0
    cpus: float = 0.0
    file_mb: int = 0
    open_files: int = 0


class Controls:
    """The limits in force around one exec server; `driver` is "cgroup v2", "cgroup v1" or "rlimits".

    `missing` names the limits that are wanted and that nothing holds here, `server` is the pid of the exec server.
    """

    def __init__(
        self,
        limits: Limits,
        group: Cgroup | None,
        *,
        server: int,
        rlimits: dict[int, int],
        missing: tuple[str, ...],
    ) -> None:
        self._server = server
        self.limits = limits
        self.driver = f"cgroup v{group.version}" if group is not None else "rlimits"
        self.rlimits = rlimits
        self.missing = missing
        self._group = group
        self._seen = group.counts() if group is not None else None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the control group that holds the limits; none where none does."""
        return self._group.folders if self._group is not None else ()

    def message(self) -> tuple[bytes, list[int]]:
        """Return what the exec server is to be told, and the files that go with it; close them."""
        fields = [b"U", b"0", b"0"]
        files: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            files = [os.open(f"/proc/{self._server}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)]
            own = os.pread(files[0], 16, 0).strip()
            fields[1:] = [str(min(int(own) + _OOM_SCORE, 1000)).encode(), own]
        for pair in self.rlimits.items():
            fields += [str(number).encode() for number in pair]
        return b"\0".join(fields), files

    def met(self) -> Counts:
        """Return what the kernel counted since the last call."""
        if self._group is None or self._seen is None:
            from lathe.sandbox.cgroups import Counts

            return Counts()
        before, self._seen = self._seen, self._group.counts()
        killed, refused = self._seen.killed - before.killed, self._seen.refused - before.refused
        return self._seen._replace(killed=killed, refused=refused)

    def news(self) -> list[str]:
        """Return a line for each limit that was met since the last call."""
        killed, full, refused = self.met()
        lines = []
        if killed:
            what = f"memory {self.limits.memory_mb:,} MiB was reached" if full else "the machine is out of memory"
            were = "1 process was" if killed == 1 else f"{killed:,} processes were"
            lines.append(f"[limit: {what}; {were} killed; set limits.memory_mb]")
        if refused:
            starts = "1 more was" if refused == 1 else f"{refused:,} more were"
            lines.append(
                f"[limit: {self.limits.processes:,} processes were reached; {starts} refused; set limits.processes]"
            )
        return lines

    def ended(self, returncode: int | None) -> list[str]:
        """Return a line where an exit status says that the kernel ended a process at a limit."""
        for number, name, what in (
            (signal.SIGXCPU, "cpu_seconds", f"{self.limits.cpu_seconds:,} s of CPU"),
            (signal.SIGXFSZ, "file_mb", f"a file of {self.limits.file_mb:,} MiB"),
        ):
            if getattr(self.limits, name) and returncode in (-number, _SHELL_SIGNAL + number):
                return [f"[limit: {what} was reached; the process was ended; set limits.{name}]"]
        return []

    def close(self) -> None:
        """Remove what was made for the limits; the exec server is gone."""
        if self._group is not None:
            self._group.remove()
        self._group = None


async def control(limits: Limits, server: int, *, in_namespaces: bool) -> Controls:
    """Put the exec server of that pid under the limits, before it starts anything."""
    asked = limits.memory_mb is not None
    limits = limits._replace(
        memory_mb=limits.memory_mb if limits.memory_mb is not None else default_memory_mb(),
        processes=limits.processes if limits.processes is not None else default_processes(),
    )
    # moving a process waits for every CPU of the machine, 10 ms or so
    group = await asyncio.get_running_loop().run_in_executor(None, _grouped, limits, server)
    held = group.controllers if group is not None else frozenset()
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_mb * MIB,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    missing = ["cpus"] if limits.cpus and "cpu" not in held else []
    if limits.memory_mb and "memory" not in held:
        if asked:  # each process for itself: sanitizers reserve more than there is, so never unasked
            wanted[resource.RLIMIT_DATA] = limits.memory_mb * MIB
        else:
            missing.append("memory_mb")
    if limits.processes and "pids" not in held:
        user = _user_of(server)
        if user == 0:
            missing.append("processes")  # the kernel does not count those of root
        else:
            # outside a user namespace of its own all that this user runs is counted
            others = 0 if in_namespaces else _threads_of(user)
            wanted[resource.RLIMIT_NPROC] = limits.processes + others
    rlimits = {number: value for number, value in wanted.items() if value}
    return Controls(limits, group, server=server, rlimits=rlimits, missing=tuple(missing))


def default_memory_mb() -> int:
    """Return the MiB that commands may use where nobody says: most of what this machine or container has."""
    from lathe.sandbox.cgroups import memory_limit

    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(there, memory_limit() or there) * SHARE_OF_MEMORY) // MIB


def default_processes() -> int:
    """Return how many processes and threads commands may have where nobody says: a machine survives that many."""
    return max(1024, min(4096, 256 * (os.cpu_count() or 1)))


def _user_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return 0


def _grouped(limits: Limits, server: int) -> Cgroup | None:
    from lathe.sandbox.cgroups import make

    group = make(limits)
    if group is None:
        return None
    try:
        group.enter(server)
    except OSError:
        group.remove()
        return None
    return group


def _threads_of(user: int) -> int:
    """Return how many threads a user has, in all."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user:
                    count += sum(1 for _ in os.scandir(f"/proc/{entry.name}/task"))
    return count
