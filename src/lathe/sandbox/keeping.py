"""What commands may not change, looked at after each of them and put back.

Mounts protect what is there, and with bubblewrap hold against everything but what is made anew. Landlock protects
nothing below a writable folder. So, in both: a picture is taken just before a command starts while none runs, and what
differs when it has ended goes back. What the person changes while no command runs is kept.

While commands run, the picture lies in a folder as well, if one is given: where Lathe is killed, `recover` puts back
at the next start what the last commands left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from lathe.sandbox.mounts import Mount, is_below
from lathe.sandbox.pictures import Picture, Taken, TooMuch, names_of, put_back

# commondir and config.worktree are read by git where they appear, and name other hooks and settings
_OF_GIT = ("hooks", "config", "config.worktree", "info/attributes", "commondir")
_OF_WORKTREE = ("commondir", "config.worktree")
_SHOWN = 5


class _Note(msgspec.Struct, array_like=True):
    """A picture on disk, with what putting it back needs."""

    pictures: list[Picture]
    tops: tuple[str, ...]


class Keeper:
    """Keeps what `mounts` protect, below their writable folders.

    `guarded` are names that agents read as instructions: one that appears is told of, and stays. `folder` is where
    the picture lies while commands run. Raises `TooMuch`, where `strict`, for something too large to be kept.
    """

    def __init__(
        self, mounts: Sequence[Mount], guarded: Iterable[str], folder: Path | None = None, *, strict: bool = False
    ) -> None:
        self.tops = tuple(mount.path for mount in mounts if mount.kind == "write")
        self._kept = [Taken(path, self._spared(path)) for path in _kept_paths(mounts, self.tops, guarded)]
        self._gits = {path: _identity(path) for path in _git_folders(mounts)}
        names = (*guarded, ".lathe")
        self._absent = [path for top in self.tops for name in names if not os.path.lexists(path := f"{top}/{name}")]
        self._memory = _Memory(folder) if folder is not None else None
        self._news: list[str] = []
        self._resting = True
        for taken in list(self._kept):
            try:
                taken.take()
            except TooMuch:
                if strict:
                    raise
                self._kept.remove(taken)

    def before(self, *, quiet: bool) -> None:
        """Look at everything before a command starts; `quiet` says that none runs, so what has changed is wanted."""
        if not quiet:
            self.check()
            return
        self._resting = False
        self._absent = [path for path in self._absent if not os.path.lexists(path)]
        changed = [taken for taken in list(self._kept) if self._take(taken)]
        self._gits = {path: _identity(path) or known for path, known in self._gits.items()}
        if self._memory is not None:
            if changed or not self._memory.written:
                self._write(self._memory)
            self._memory.arm()

    def accept(self, paths: Sequence[str]) -> None:
        """Take what is there now as what is to be kept, at these paths only: a command may be at work beside."""
        accepted = [(taken, path) for path in paths for taken in self._kept if is_below(path, taken.picture.path)]
        for taken, path in accepted:
            taken.take_one(path)
        self._absent = [path for path in self._absent if path not in paths]
        if accepted and self._memory is not None:
            self._write(self._memory)

    def check(self) -> None:
        """Put back what commands have changed; while none runs, what changes is the work of the person."""
        if self._resting:
            return
        done = [path for path, known in self._gits.items() if known and _bring_home(path, known)]
        for taken in self._kept:
            if taken.may_differ() and (changed := put_back(taken.picture, self.tops)):
                done += changed
                taken.doubt()  # what a command has done since must not get into the picture
        if done:
            self.tell(done, "may not be changed by commands, and was put back")
        new = [path for path in self._absent if os.path.lexists(path)]
        if new:
            self._absent = [path for path in self._absent if path not in new]
            self.tell(new, "is new here; agents take it for instructions, so a person should look at it")

    def rest(self) -> None:
        """Look once more: no command runs any longer."""
        self.check()
        self._resting = True
        if self._memory is not None:
            self._memory.disarm()

    def close(self) -> None:
        """Look a last time, and forget."""
        self.check()
        if self._memory is not None:
            self._memory.close()

    def tell(self, paths: Sequence[str], what: str) -> None:
        """Have a line said of some paths with the next news."""
        self._news.append(f"[sandbox: {self._shown(paths)} {what}]")

    def news(self) -> list[str]:
        """Return the lines on what was put back, or is to be known, since the last call."""
        news, self._news = self._news, []
        return news

    def _write(self, memory: _Memory) -> None:
        memory.write(_Note([taken.picture for taken in self._kept], self.tops))

    def _take(self, taken: Taken) -> bool:
        path = taken.picture.path
        if not _is_folder(os.path.dirname(path)):  # noqa: PTH120
            return False  # what is to come back with the folder around it
        try:
            return taken.take()
        except TooMuch:
            self._kept.remove(taken)
            self.tell([path], "holds too much by now to be put back")
            return False

    def _spared(self, path: str) -> tuple[str, ...]:
        return tuple(top for top in self.tops if top != path and is_below(top, path))

    def _shown(self, paths: Sequence[str]) -> str:
        top = next(iter(self.tops), "")
        names = [path.removeprefix(top.rstrip("/") + "/") for path in dict.fromkeys(paths)]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(names[:_SHOWN]) + more


def _kept_paths(mounts: Sequence[Mount], tops: Sequence[str], guarded: Iterable[str]) -> list[str]:
    protected = [m.path for m in mounts if m.kind == "protected" and any(is_below(m.path, top) for top in tops)]
    paths = dict.fromkeys(protected)
    for git in _git_folders(mounts):
        paths.update(dict.fromkeys(f"{git}/{name}" for name in _OF_GIT))
        for tree in names_of(f"{git}/worktrees"):
            paths.update(dict.fromkeys(f"{git}/worktrees/{tree}/{name}" for name in _OF_WORKTREE))
    # a link cannot be mounted over
    links = [path for top in tops for name in guarded if os.path.islink(path := f"{top}/{name}")]  # noqa: PTH114
    paths.update(dict.fromkeys(links))
    opened = {mount.path for mount in mounts if mount.kind == "write"}
    inner = {path for path in paths for other in protected if path != other and is_below(path, other)}
    return [path for path in paths if path not in opened and path not in inner]


def _git_folders(mounts: Sequence[Mount]) -> list[str]:
    pinned = [mount.path for mount in mounts if mount.kind == "pinned"]
    return [path for path in pinned if Path(path, "objects").is_dir() and Path(path, "refs").is_dir()]


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _bring_home(path: str, known: tuple[int, int]) -> bool:
    """Put a folder of git back where a link or a file took its place, if it still lies beside it."""
    if _is_folder(path) or not os.path.lexists(path):
        return False
    folder = os.path.dirname(path)  # noqa: PTH120
    beside = next((name for name in names_of(folder) if _identity(f"{folder}/{name}") == known), None)
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
        if beside is not None:
            os.rename(f"{folder}/{beside}", path)  # noqa: PTH104
    return True


class _Memory:
    """The picture on disk: `*.armed` while commands run, `*.idle` else; locked for as long as Lathe lives."""

    def __init__(self, folder: Path) -> None:
        base = f"kept-{os.urandom(8).hex()}"
        self._idle, self._armed = folder / f"{base}.idle", folder / f"{base}.armed"
        self._at = self._idle
        self._lock = -1
        self.written = False

    def write(self, note: _Note) -> None:
        """Write the picture, or write it anew; without a disk that takes it, Lathe does without."""
        fresh = self._idle.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(lock, "wb", closefd=False) as file:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(msgspec.msgpack.encode(note))
            fresh.replace(self._at)
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = lock
            self.written = True

    def arm(self) -> None:
        """From now on what differs is the work of commands."""
        self._move(self._armed)

    def disarm(self) -> None:
        """From now on what differs is the work of the person."""
        self._move(self._idle)

    def _move(self, to: Path) -> None:
        if self.written and self._at != to:
            with contextlib.suppress(OSError):
                self._at.replace(to)
                self._at = to

    def close(self) -> None:
        """Forget the picture."""
        self._at.unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def recover(folder: Path) -> list[str]:
    """Put back what the commands of a killed Lathe left, of all pictures in `folder`; return a sentence for each.

    When Lathe was killed is not known, so what was changed there since goes as well; it lies in `folder` then.
    """
    told: list[str] = []
    for path in sorted(folder.glob("kept-*")) if folder.is_dir() else ():
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.suffix == ".armed":
                with os.fdopen(handle, "rb", closefd=False) as file:
                    told += _recovered(msgspec.msgpack.decode(file.read(), type=_Note), folder / path.stem)
            path.unlink(missing_ok=True)
        except (OSError, msgspec.MsgspecError):
            continue  # in use, or no picture
        finally:
            os.close(handle)
    return told


def _recovered(note: _Note, aside: Path) -> list[str]:
    done: list[str] = []
    for picture in note.pictures:
        done += put_back(picture, note.tops, aside)
    if not done:
        return []
    shown = ", ".join(done[:_SHOWN]) + (f" and {len(done) - _SHOWN} more" if len(done) > _SHOWN else "")
    kept = f"; what lay there is in {aside}" if aside.is_dir() else ""
    return [f"Lathe was killed while a command ran; what has changed since was put back: {shown}{kept}."]
