"""The bubblewrap tier: one session sandbox of namespaces around the exec server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lathe.sandbox.mounts import Mount

_INNER_ID = 1000
_PROC_OF_ROOT = (
    "sys",
    "sysrq-trigger",
    "irq",
    "bus",
    "fs",
    "acpi",
    "scsi",
    "driver",
    "asound",
    "mtrr",
    "dynamic_debug",
)


def find_program() -> str | None:
    """Return the path of bubblewrap; the distribution's first, for which AppArmor has its exception."""
    return "/usr/bin/bwrap" if os.access("/usr/bin/bwrap", os.X_OK) else _which("bwrap")


def _which(name: str) -> str | None:
    import shutil  # brings every compressor along

    return shutil.which(name)


def arguments(
    program: str,
    mounts: Sequence[Mount],
    *,
    network: bool,
    fresh_proc: bool,
    owner: tuple[int, int] | None = None,
    filter_fd: int = -1,
    resolver: str = "",
) -> list[str]:
    """Return the command line that comes before that of the exec server.

    Root must not keep its number inside: bubblewrap leaves root all capabilities unless told otherwise, and with
    them `mount -o remount,rw` undoes every read-only mount. In some containers no fresh /proc can be mounted; that
    of outside shows more command lines, but the user namespace keeps the rest of it closed. `owner` is the user to
    become first, where we are root and the workspace is another's; `filter_fd` holds a program for seccomp, and
    `resolver` is a file to stand for /etc/resolv.conf.
    """
    given = [program]
    user, group = owner or (os.getuid() or _INNER_ID, os.getgid() or _INNER_ID)
    if owner is not None:
        given = [_which("setpriv") or "/usr/bin/setpriv", "--reuid", str(user), "--regid", str(group)]
        given += ["--clear-groups", "--", program]
    given += ["--unshare-user", "--uid", str(user), "--gid", str(group), "--cap-drop", "ALL"]
    given += ["--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if filter_fd >= 0:
        given += ["--seccomp", str(filter_fd)]
    if not network:
        given.append("--unshare-net")
    given += ["--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev"]
    if fresh_proc:
        given += ["--proc", "/proc"]
        # Root's user keeps root's number for the kernel, and so may write the files of root that lie here.
        for name in _PROC_OF_ROOT:
            given += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    else:
        given += ["--ro-bind", "/proc", "/proc"]
    for mount in mounts:
        given += _mount(mount)
    names = os.path.realpath("/etc/resolv.conf")
    if resolver and Path(names).exists():
        given += ["--ro-bind", resolver, names]
    # remounting comes last: mount points inside a hidden folder have to be made first
    for mount in mounts:
        if mount.kind == "hidden" and Path(mount.path).is_dir():
            given += ["--remount-ro", mount.path]
    return [*given, "--chdir", "/", "--"]


def _mount(mount: Mount) -> list[str]:
    kind, path = mount
    if kind == "hidden" and not Path(path).is_dir():
        return ["--ro-bind", "/dev/null", path]
    if kind in ("private", "hidden"):
        return ["--tmpfs", path]
    return ["--bind" if kind in ("write", "pinned") else "--ro-bind", path, path]
