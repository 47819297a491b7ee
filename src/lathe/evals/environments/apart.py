"""The verifier's own folders of a room: laid over the agent's in a mount namespace that its processes don't see.

`/tests` is new and empty then; `/logs` is a new folder in which everything is what it was but `verifier`, which is
empty. Both are mounts from the beginning: else a process of the agent's could move or remove the folder that a mount
lies over, and the kernel would undo the mount (`detach_mounts` in Linux's fs/namespace.c).
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable
from typing import Final

from lathe.evals.environments import kernel

FOLDERS: Final = ("/logs", "/tests")
FOLDER: Final = "apart"
_LOGS: Final = ("agent", "artifacts")
_OWN: Final = "verifier"
_MOST: Final = 200
"""How much of `/logs` is seen again."""


def make(folder: str, owner: int) -> str:
    """Make the folders that are laid over later, and return that which has them; `owner` is root of the room."""
    top = f"{folder}/{FOLDER}"
    for path in (top, *(f"{top}{each}" for each in FOLDERS), f"{top}/logs/{_OWN}"):
        os.mkdir(path)  # noqa: PTH102
        os.chmod(path, 0o755)  # noqa: PTH101
        os.chown(path, owner, owner)
    return top


def lay(own: int, go_in: Callable[[], None]) -> int:
    """Return a mount namespace that is the room's with these folders over the agent's; raise OSError.

    `own` is the folder that `make` returned, `go_in` enters the room's mount namespace.
    """
    (told, tell), (held, hold) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            _lay(own, go_in)
            os.write(tell, b"1")
            os.read(held, 1)  # until this is killed, or whoever would have done that is gone
        finally:
            os._exit(1)
    os.close(tell)
    try:
        if not os.read(told, 1):
            raise OSError("the verifier's folders could not be laid over the agent's")
        return os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (told, held, hold):
            os.close(fd)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _lay(own: int, go_in: Callable[[], None]) -> None:
    made = {each: os.open(each[1:], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=own) for each in FOLDERS}
    trees = {each: kernel.tree_of(fd) for each, fd in made.items()}
    status = os.fstat(made["/tests"])
    go_in()
    kernel.unshare(kernel.NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    logs = os.open("/logs", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    for path, tree in trees.items():
        kernel.put_tree(tree, path)
    for name in dict.fromkeys((*_LOGS, *sorted(os.listdir(logs))[:_MOST])):  # noqa: PTH208
        if name != _OWN:
            with contextlib.suppress(OSError):
                _show(name, logs)
    for name in _LOGS:
        path = f"/logs/{name}"
        if not os.path.lexists(path):
            os.mkdir(path)  # noqa: PTH102
            os.chmod(path, 0o777)  # noqa: PTH101
            os.chown(path, status.st_uid, status.st_gid)


def _show(name: str, logs: int) -> None:
    """Have something of the agent's `/logs` be seen in the new one too."""
    path = f"/logs/{name}"
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=logs)
    mode = os.fstat(held).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=logs), path)  # noqa: PTH211
        return
    tree = kernel.tree_of(held)
    if stat.S_ISDIR(mode):
        os.mkdir(path)  # noqa: PTH102
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    kernel.put_tree(tree, path)
