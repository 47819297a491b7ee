"""Control groups: the kernel's own limits on memory, processes and CPU, for all commands of a session together.

A cgroup is made below a folder that is ours to write: of version 2 the nearest one above our own that passes the
controllers on (systemd gives each user such a subtree), of version 1 our own of each controller. Its name says whose it
is, so that those of dead processes are found and removed.

Formats: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of Linux, proc(5) for mountinfo.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lathe.sandbox.limits import MIB, Limits

_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_END_SECONDS = 10.0
_PERIOD_US = 100_000
_COUNTERS = {
    1: ("memory.oom_control", "memory.max_usage_in_bytes", "pids.events"),
    2: ("memory.events", "pids.events"),
}
_KILLED = ("memory.events oom_kill", "memory.oom_control oom_kill")
_REFUSED = ("pids.events max",)
_counter = itertools.count(1)
_NO_CONTROLLER = ""
"""Stands for a controller where a cgroup of version 2 only holds processes together."""


class Counts(NamedTuple):
    """What the kernel counted in a cgroup: processes killed for memory, whether for its limit, forks refused."""

    killed: int = 0
    full: bool = False
    refused: int = 0


class Cgroup:
    """A cgroup of one session, with limits; of version 1 it is one folder for each controller."""

    def __init__(self, version: int, folders: dict[str, Path]) -> None:
        self.version = version
        self._folders = folders
        self._counters: dict[str, int] = {}
        self._memory = 0

    @property
    def controllers(self) -> frozenset[str]:
        """The controllers in force: "memory", "pids", "cpu"."""
        return frozenset(self._folders) - {_NO_CONTROLLER}

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where it lies, a folder for each hierarchy."""
        return tuple(sorted(set(self._folders.values())))

    def limit(self, limits: Limits) -> None:
        """Set the limits; raise OSError."""
        two = self.version == 2
        if "memory" in self._folders:
            self._memory = (limits.memory_mb or 0) * MIB
            most = str(self._memory)
            self._write("memory", "memory.max" if two else "memory.limit_in_bytes", most)
            # a session that swaps without end is no gain over one that ends; not every kernel counts swap
            with contextlib.suppress(OSError):
                swap = ("memory.swap.max", "0") if two else ("memory.memsw.limit_in_bytes", most)
                self._write("memory", *swap)
        if "pids" in self._folders:
            self._write("pids", "pids.max", str(limits.processes or 0))
        if "cpu" in self._folders:
            quota = str(max(int(limits.cpus * _PERIOD_US), 1000))
            if two:
                self._write("cpu", "cpu.max", f"{quota} {_PERIOD_US}")
            else:
                self._write("cpu", "cpu.cfs_period_us", str(_PERIOD_US))
                self._write("cpu", "cpu.cfs_quota_us", quota)
        for name in _COUNTERS[self.version]:
            folder = self._folders.get(name.partition(".")[0])
            if folder is not None and (folder / name).exists():
                # kept open: read after every command
                self._counters[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, pid: int) -> None:
        """Move a process in, and with it all that it will start; blocks for some 10 ms; raise OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def counts(self) -> Counts:
        """Return what was counted since the cgroup was made."""
        found: dict[str, int] = {}
        for name, fd in self._counters.items():
            for line in os.pread(fd, 4096, 0).decode().splitlines():
                key, _, value = line.rpartition(" ")
                found[f"{name} {key}".rstrip()] = int(value)
        killed, refused = (sum(found.get(name, 0) for name in names) for names in (_KILLED, _REFUSED))
        # failcnt of version 1 is no longer counted by newer kernels, the highest use is
        full = found.get("memory.events oom", 0) > 0 or found.get("memory.max_usage_in_bytes", 0) >= self._memory
        return Counts(killed, full, refused)

    def remove(self) -> None:
        """End what is left in the cgroup, which the exec server did not live to end, and remove it."""
        for fd in self._counters.values():
            os.close(fd)
        self._counters.clear()
        for folder in self.folders:
            _end(folder)

    def _write(self, controller: str, name: str, value: str) -> None:
        (self._folders[controller] / name).write_text(value)


def make(limits: Limits) -> Cgroup | None:
    """Return a new cgroup with the limits, None where none may be made here or none is wanted of it."""
    wanted = [
        name
        for name, value in (("memory", limits.memory_mb), ("pids", limits.processes), ("cpu", limits.cpus))
        if value
    ]
    for version, parents in _places(wanted):
        group = _made(version, parents)
        if group is None:
            continue
        try:
            group.limit(limits)
        except OSError:
            group.remove()
            continue
        return group
    return None


def track(pid: int) -> Cgroup | None:
    """Return a new cgroup of version 2 that limits nothing and holds a process and all that it will start.

    By it they are found and killed in one stroke, whatever they do to get away (cgroup.kill). None where no such
    cgroup may be made. Blocks for some 10 ms.
    """
    for version, _, top, own in _hierarchies():
        for folder in _upwards(own, top) if version == 2 else ():
            if not (os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)):
                continue
            group = _made(2, {_NO_CONTROLLER: folder})
            if group is None:
                continue
            try:
                group.enter(pid)
            except OSError:
                group.remove()
                continue
            return group
    return None


def _made(version: int, parents: dict[str, Path]) -> Cgroup | None:
    """Make a cgroup in a folder of each controller, and remove those of dead processes there; None where it fails."""
    name = f"{_prefix()}{os.getpid()}-{_started(os.getpid())}-{next(_counter)}"
    group = Cgroup(version, {controller: parent / name for controller, parent in parents.items()})
    try:
        for parent in set(parents.values()):
            _remove_stale(parent)
            (parent / name).mkdir()
    except OSError:
        group.remove()
        return None
    return group


def memory_limit() -> int | None:
    """Return the bytes of memory that the cgroup we are in may use, None where nothing limits it."""
    limits = []
    for version, names, top, own in _hierarchies():
        if version == 1 and "memory" not in names:
            continue
        for folder in _upwards(own, top):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text()))
    return min(limits, default=None)


def oom_kills(pid: int) -> int:
    """Return how many processes were killed for memory in the cgroup of a process; 0 where that is not known."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return 0
    paths = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    for version, names, top, _ in _hierarchies():
        path = paths.get(next((each for each in paths if "memory" in each.split(",")), ""))
        if path is None or (version == 1 and "memory" not in names):
            continue
        for name in _COUNTERS[version][:1]:
            for line in _lines(top / path.lstrip("/") / name):
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _places(wanted: list[str]) -> Iterator[tuple[int, dict[str, Path]]]:
    """Yield where a cgroup could be made, as a version and the parent folder of each controller, the best first."""
    known = list(_hierarchies())
    for version, _, top, own in known:
        if version == 2 and wanted:
            for folder in _upwards(own, top):
                passed = _words(folder / "cgroup.subtree_control")
                if os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
                    found = [name for name in wanted if name in passed]
                    if found:
                        yield 2, dict.fromkeys(found, folder)
                        break
    parents = {
        name: own
        for version, names, _, own in known
        if version == 1
        for name in wanted
        if name in names and os.access(own, os.W_OK)
    }
    if parents:
        yield 1, parents


def _hierarchies() -> Iterator[tuple[int, frozenset[str], Path, Path]]:
    """Yield each mounted hierarchy: its version, its controllers (of version 1), where it lies, and our own folder."""
    try:
        mounts, groups = _MOUNTS.read_text().splitlines(), _OWN.read_text().splitlines()
    except OSError:
        return
    own: dict[str, str] = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in mounts:
        before, _, after = line.partition(" - ")
        root, top = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        names = frozenset(options.split(",")) & own.keys() if kind == "cgroup" else frozenset({""})
        if kind not in ("cgroup", "cgroup2") or not names & own.keys():
            continue
        path = own[next(iter(names & own.keys()))]
        inside = path.removeprefix(root).lstrip("/") if path.startswith(root) else ""
        yield 1 if kind == "cgroup" else 2, names, Path(top), Path(top, inside)


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    yield folder
    while folder != top and top in folder.parents:
        folder = folder.parent
        yield folder


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _prefix() -> str:
    """Return how the names of our cgroups begin: pids of another pid namespace would tell nothing here."""
    return f"lathe-{Path('/proc/self/ns/pid').stat().st_ino}-"


def _started(pid: int) -> str:
    """Return when a process was started, in clock ticks since boot; "" where there is none (proc(5), field 22)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _remove_stale(parent: Path) -> None:
    prefix = _prefix()
    for folder in parent.glob(f"{prefix}*"):
        pid, _, rest = folder.name.removeprefix(prefix).partition("-")
        if pid.isdigit() and rest.partition("-")[0] != _started(int(pid)):
            _end(folder)


def _end(folder: Path) -> None:
    """Kill all that is in a cgroup and remove it; what does not die in time is for the next start of Lathe."""
    limit = time.monotonic() + _END_SECONDS
    with contextlib.suppress(OSError):
        if (folder / "pids.max").exists():
            (folder / "pids.max").write_text("0")  # so that nothing is started behind our back
        while _words(folder / "cgroup.procs") and time.monotonic() < limit:
            if (folder / "cgroup.kill").exists():
                (folder / "cgroup.kill").write_text("1")
            for pid in _words(folder / "cgroup.procs"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.002)
        folder.rmdir()
