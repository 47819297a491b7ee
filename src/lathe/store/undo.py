"""What happened to a workspace, turn by turn, with the bytes that it takes to put it back.

A `Tracker` looks at the workspace before and after each call that may change something. What changed between two
looks is written down as a change of the agent, or of the person where no call ran. Bytes are kept before they can be
lost: at the first look those that git does not hold, later those of whatever has changed. The store lies outside the
workspace, in a folder for each root that all threads share; the log belongs to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import msgspec

from lathe.protocol.errors import StorageError
from lathe.store.contents import Contents
from lathe.store.git_folders import GitFolders
from lathe.store.git_index import Indexed, read_index
from lathe.store.git_objects import GitObjects
from lathe.store.journal import now_ms
from lathe.store.scan import NOT_KEPT, Entry, scan, spares

LARGEST_FILE = 64 << 20
MOST_AT_ONCE = 1 << 30
"""Bytes: what a file may have to be kept, and what all that one look finds new may have together."""

_RACY_NS = 50_000_000
_BUILT = frozenset((b"build", b"_build", b"dist", b"target", b"out", b"bin", b"obj", b"coverage", b"tmp", b"logs"))
By: TypeAlias = Literal["agent", "unclear", "person", "undo"]
"""`unclear`: the person, or a command of the agent that went on in the background."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What became of a path (bytes, relative to the root); None stands for nothing there."""

    path: bytes
    before: Entry | None
    after: Entry | None


class Observed(msgspec.Struct, frozen=True, array_like=True):
    """What changed between two looks, and who was at work. `t` is milliseconds since the epoch."""

    t: int
    turn: str
    by: By
    what: str
    changes: tuple[Change, ...]


class Undone(msgspec.Struct, frozen=True, array_like=True):
    """Turns were taken back; their observations do not count any more."""

    t: int
    turns: tuple[str, ...]


_Logged: TypeAlias = tuple[Literal[0], Observed] | tuple[Literal[1], Undone]
_LENGTH = 4
_INSIDE = GitFolders()


def root_folder(home: Path, root: str) -> Path:
    """Return the folder below `home` ($LATHE_HOME) that keeps the bytes of the workspace at `root`."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()
    return home / "undo" / digest[:16]


class Tracker:
    """Looks at one workspace for one thread. Its methods block, and are for one thread of execution at a time.

    `log` is the thread's log of observations; `folder` is `root_folder` of the workspace. Where `git` lies outside,
    it is looked at too, and its paths begin with `../`.
    """

    def __init__(self, root: str, folder: Path, log: Path, git: GitFolders = _INSIDE) -> None:
        self.root = os.fsencode(os.path.realpath(root))
        self.git = git
        self.folder = folder
        self.contents = Contents(folder / "contents")
        self.known: dict[bytes, Entry] = {}
        self._log = log
        self._racy: set[bytes] = set()
        self._looking = threading.Lock()
        self._unsaved = False
        self._held: int | None = None
        self._index: dict[bytes, Indexed] = {}
        self._index_seen: tuple[int, int] = (0, 0)
        self._beside = git.shared if git.outside else b""
        self._branches: set[bytes] = set()
        self._spared: Callable[[bytes], bool] = spares(frozenset(), self._beside)
        git_dir = self.git_dir
        held = (folder / "git" / "HEAD").is_file()  # also when the repository itself is gone
        is_repository = git_dir.is_dir() and not git_dir.is_symlink()
        self.objects = GitObjects(folder / "git", git_dir) if is_repository or held else None

    @property
    def git_dir(self) -> Path:
        """The folder of git's repository, whether or not there is one."""
        return Path(os.path.normpath(os.fsdecode(self.root + b"/" + self.git.shared)))

    def absolute(self, path: bytes) -> bytes:
        """Return the absolute form of a path as changes have it."""
        return os.path.normpath(self.root + b"/" + path)

    def relative(self, path: bytes) -> bytes | None:
        """Return an absolute path as changes have it, None where this does not look at it."""
        if path.startswith(self.root + b"/"):
            return path[len(self.root) + 1 :]
        shared = os.fsencode(self.git_dir)
        return self.git.shared + path[len(shared) :] if self._beside and path.startswith(shared + b"/") else None

    def open(self) -> None:
        """Take the first look: what is there now is the person's. Raises `StorageError`."""
        if self._held is None:
            with _storing(self.folder):
                self._held = hold(self.folder)
        self.known = read_manifest(self.folder)
        self._look()
        self.save()

    def close(self) -> None:
        """Let go of the store; what was not written is forgotten."""
        self.contents.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def save(self) -> None:
        """Keep what is known, so that the next thread here needs not read it all again; raise `StorageError`."""
        if not self._unsaved:
            return
        data = _manifest_encoder.encode(self.known)
        fresh = self.folder / f"manifest-{os.urandom(8).hex()}"
        with _storing(self.folder):
            try:
                fresh.write_bytes(data)
                fresh.replace(self.folder / "manifest")
            finally:
                fresh.unlink(missing_ok=True)
        self._unsaved = False

    def observe(
        self, by: By, turn: str, what: str = "", wrote: Callable[[bytes], bool] | None = None
    ) -> tuple[Observed, ...]:
        """Look, write down and return what has changed since the last look; raise `StorageError`.

        Where it is known of single paths (relative to the root), `wrote` tells whether it was done `by` whom it says,
        and the rest is the person's. Where it is not, of a repository outside only what this worktree uses counts:
        the rest may be the work of another one.
        """
        with self._looking:
            return self._observe(by, turn, what, wrote)

    def catch(self, turn: str, path: bytes) -> Change | None:
        """Note what the person has done to a file since the last look, for a command is about to change it.

        Returns that, None where there is nothing. May be called while another thread looks. Raises `StorageError`.
        """
        with self._looking:
            change = self._caught(path)
            if change is not None:
                self.note(Observed(now_ms(), turn, "person", "", (change,)))
            return change

    def _caught(self, path: bytes) -> Change | None:
        old = self.known.get(path)
        above = path.split(b"/")[:-1]
        if any(self._spared(b"/".join(above[: depth + 1])) for depth in range(len(above))):
            return None
        try:
            status = os.lstat(self.root + b"/" + path)
        except OSError:
            if old is None or not old.is_file:
                return None
            del self.known[path]
            return Change(path, old, None)
        entry = Entry(status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if not entry.is_file or (old is not None and msgspec.structs.replace(old, content=b"") == entry):
            return None
        entries = {path: entry}
        changes = self._take([path], entries)
        with _storing(self.folder):
            self.contents.flush()
        self.known[path] = entries[path]
        self._unsaved = True
        return changes[0] if changes else None

    def _observe(self, by: By, turn: str, what: str, wrote: Callable[[bytes], bool] | None) -> tuple[Observed, ...]:
        changes = self._look()
        done: list[Change] = []
        theirs: list[Change] = []
        for change in changes:
            (done if (wrote or self._is_own)(change.path) else theirs).append(change)
        records = [Observed(now_ms(), turn, "person", "", tuple(theirs))] if theirs else []
        if done:
            records.append(Observed(now_ms(), turn, by, what, tuple(done)))
        for record in records:
            self.note(record)
        return tuple(records)

    def note(self, record: Observed | Undone) -> None:
        """Write a record to the thread's log; raise `StorageError`."""
        tagged: _Logged = (0, record) if isinstance(record, Observed) else (1, record)
        data = msgspec.msgpack.encode(tagged)
        with _storing(self._log.parent):
            self._log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._log.open("ab", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                try:
                    file.write(len(data).to_bytes(_LENGTH, "big") + data)
                except OSError:
                    file.truncate(size)
                    raise

    def read(self, entry: Entry) -> bytes | None:
        """Return the bytes of a kept file, None where they are lost."""
        try:
            with self.open_content(entry) as file:
                return file.read()
        except OSError:
            return None

    def open_content(self, entry: Entry) -> BinaryIO:
        """Return the bytes of a kept file as an open file; raise `OSError`."""
        name = entry.content[1:].decode()
        if entry.content[:1] == b"b":
            return self.contents.open(name)
        found = next(self.objects.blobs([name]), None) if entry.content[:1] == b"g" and self.objects else None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "its bytes are not there any more", name)
        return io.BytesIO(found[1])

    def add(self, data: bytes) -> bytes:
        """Keep new bytes, and return the `content` of an entry for them; raise `StorageError`."""
        with _storing(self.folder):
            digest = self.contents.add(data)
            self.contents.flush()
        return b"b" + digest.encode()

    def unkept(self) -> list[bytes]:
        """Return the files that could not be put back, but for those that a build makes again."""
        return [
            path
            for path, entry in self.known.items()
            if entry.content == NOT_KEPT and _BUILT.isdisjoint(path.split(b"/")[:-1])
        ]

    def _look(self) -> tuple[Change, ...]:
        began = time.time_ns()
        self._learn_from_git()
        try:
            found = scan(self.root, self._spared, self.known, self._beside)
        except OSError as error:
            raise StorageError(f"{os.fsdecode(self.root)} can't be read: {error.strerror}.") from None
        again = [path for path in self._racy if path in found.entries]
        fresh = [*found.fresh, *(path for path in again if found.entries[path] is self.known.get(path))]
        self._racy = {
            path for path in fresh if max(found.entries[path].mtime, found.entries[path].ctime) > began - _RACY_NS
        }
        changes = self._take(fresh, found.entries)
        with _storing(self.folder):
            self.contents.flush()
        changes += [Change(path, self.known[path], None) for path in self.known.keys() - found.entries.keys()]
        self._unsaved = self._unsaved or bool(fresh or changes)
        self.known = found.entries
        return tuple(sorted(changes, key=lambda change: change.path))

    def _take(self, fresh: Iterable[bytes], entries: dict[bytes, Entry]) -> list[Change]:
        """Keep the bytes of fresh files, note in `entries` where, and return what is another than before."""
        room = MOST_AT_ONCE
        held = self._held_by_git(entries[path] for path in fresh) if self.objects is not None else {}
        changes: list[Change] = []
        for path in fresh:
            old, entry = self.known.get(path), entries[path]
            if entry.is_file:
                indexed = self._index.get(path)
                oid = indexed.oid if indexed is not None and indexed.is_of(entry) else ""
                if oid and held.get(oid) == entry.size:
                    content = b"g" + oid.encode()
                elif entry.size > min(LARGEST_FILE, room):
                    content = NOT_KEPT
                else:
                    content = self._keep(path)
                    room -= entry.size
                entry = entries[path] = msgspec.structs.replace(entry, content=content)
            if old is None or not old.same_as(entry) or old.mtime != entry.mtime:
                changes.append(Change(path, old, entry))
        return changes

    def _keep(self, path: bytes) -> bytes:
        for _ in range(3):
            try:
                return b"b" + self.contents.keep(os.fsdecode(self.root + b"/" + path)).encode()
            except BlockingIOError:  # it is being written; the next look will see the end of that
                continue
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO):
                    raise StorageError(
                        f"The disk that holds {self.folder} is full: what is in the workspace can't be kept for undo.",
                        hint="Free some space, or set LATHE_HOME to a disk that has some.",
                    ) from None
                break
        return NOT_KEPT

    # What git knows.

    def _learn_from_git(self) -> None:
        if self.objects is None:
            return
        own = self.root + b"/" + self.git.own
        if self._beside:
            self._branches.add(_branch(own))
        index = Path(os.fsdecode(own), "index")
        try:
            status = index.stat()
        except OSError:
            return
        seen = (status.st_mtime_ns, status.st_ino)
        if seen == self._index_seen:
            return
        self._index_seen = seen
        self._index = read_index(index)
        with contextlib.suppress(OSError):  # without links of our own, git's objects are read where they are
            self.objects.hold()
        folders = {path.rpartition(b"/")[0] for path in self._index}
        self._spared = spares(frozenset(_with_parents(folders)), self._beside)

    def _held_by_git(self, entries: Iterable[Entry]) -> dict[str, int]:
        """Return the sizes of the objects that git holds for those files.

        Where a filter or a change of line ends lies between a file and its object, the sizes differ.
        """
        if self.objects is None or not self._index:
            return {}
        sizes = {(entry.inode, entry.size) for entry in entries if entry.is_file}
        oids = [one.oid for one in self._index.values() if (one.inode, one.size) in sizes]
        return self.objects.sizes(dict.fromkeys(oids)) if oids and not self._has_filters() else {}

    def _has_filters(self) -> bool:
        """Tell whether files of the repository may pass through a program on their way to git."""
        for path in (b".gitattributes", self.git.shared + b"/info/attributes"):
            try:
                text = Path(os.fsdecode(self.root + b"/" + path)).read_bytes()
            except OSError:
                continue
            if b"filter=" in text.replace(b"filter=lfs", b""):
                return True
        return False

    def _is_own(self, path: bytes) -> bool:
        """Tell whether a path is this worktree's alone."""
        shared, own = self.git.shared + b"/", self.git.own
        if not self._beside or not path.startswith(shared) or path == own or path.startswith(own + b"/"):
            return True
        return path[len(shared) :].removeprefix(b"logs/") in self._branches


def hold(folder: Path, *, alone: bool = False) -> int:
    """Open the store of a workspace so that nobody prunes it; return the descriptor, which ends that when closed.

    With `alone` it is for the one who prunes. Raises `BlockingIOError` where that can't be now, `OSError`.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # it was removed since
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if (folder / "lock").stat().st_ino == os.fstat(fd).st_ino:
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def contents_of(record: Observed | Undone) -> Iterator[bytes]:
    """Yield where the bytes are kept that a record of a log speaks of (`Entry.content`)."""
    if isinstance(record, Observed):
        for change in record.changes:
            for entry in (change.before, change.after):
                if entry is not None:
                    yield entry.content


def read_manifest(folder: Path) -> dict[bytes, Entry]:
    """Return what was known of a workspace when its store was left, by path; nothing where that is lost."""
    try:
        return _manifest.decode((folder / "manifest").read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}


def read_log(log: Path) -> list[Observed | Undone]:
    """Return the records of a thread's log, in order; what a crash left half written is left out."""
    try:
        data = log.read_bytes()
    except OSError:
        return []
    return list(_records(data))


def _records(data: bytes) -> Iterator[Observed | Undone]:
    at = 0
    while at + _LENGTH <= len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
        if end > len(data):
            return
        with contextlib.suppress(msgspec.DecodeError):
            kind, raw = _tagged.decode(data[at + _LENGTH : end])
            yield _observed.decode(raw) if kind == 0 else _undone.decode(raw)
        at = end


def _with_parents(folders: Iterable[bytes]) -> Iterator[bytes]:
    for folder in folders:
        while folder:
            yield folder
            folder = folder.rpartition(b"/")[0]


def _branch(own: bytes) -> bytes:
    """Return the ref that a worktree is on, b"" for none."""
    try:
        head = Path(os.fsdecode(own), "HEAD").read_bytes()
    except OSError:
        return b""
    return head.removeprefix(b"ref: ").rstrip(b"\n") if head.startswith(b"ref: ") else b""


@contextlib.contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"can't be written: {error.strerror}"
        raise StorageError(
            f"The disk that holds {folder} {reason}, so nothing could be undone.",
            hint="Set LATHE_HOME to a folder that has room.",
        ) from None


_manifest_encoder = msgspec.msgpack.Encoder()
_manifest = msgspec.msgpack.Decoder(dict[bytes, Entry])
_tagged = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_observed = msgspec.msgpack.Decoder(Observed)
_undone = msgspec.msgpack.Decoder(Undone)
