"""Bounding what is kept for undo: old threads are forgotten, and the bytes that only they needed are removed.

It runs at the end of a session, at most once a day, for a moment; what there was no time for is left to the next.
A store that any Lathe has open is left alone, and so is a thread that is open or in the middle of an undo. A thread
is forgotten before its bytes go, so a kill leaves bytes that nobody needs, never a turn without its bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lathe.protocol.errors import LatheError
from lathe.store.contents import Contents
from lathe.store.git_folders import read_place
from lathe.store.journal import Journal
from lathe.store.threads import journal_path, threads_dir
from lathe.store.undo import Observed, contents_of, hold, read_log, read_manifest, root_folder
from lathe.store.undo_apply import read_plan

LONGEST_S = 30 * 86400.0
MOST_BYTES = 5 << 30
"""How long a thread that nobody touches can be undone, and how much all that is kept may take."""

_EVERY_S = 86400.0
_MOMENT_S = 2.0
_UNSWEPT = "unswept"
_GONE = ".gone-"


class _Kept(NamedTuple):
    """A thread with something to undo: when it was last touched (seconds since the epoch), and its store."""

    touched: float
    thread: str
    store: Path


def prune_if_due(home: Path) -> None:
    """Prune what lies below `home` ($LATHE_HOME) if that was not done today; never raises `OSError`."""
    stamp = home / "undo" / "pruned"
    with contextlib.suppress(OSError):
        if not stamp.exists():
            stamp.touch()  # a new home has nothing to prune
        elif time.time() - stamp.stat().st_mtime > _EVERY_S and prune(home):
            stamp.touch()


def prune(
    home: Path, *, longest_s: float = LONGEST_S, most_bytes: int = MOST_BYTES, moment_s: float = _MOMENT_S
) -> bool:
    """Forget threads not touched for `longest_s`, and the oldest while more than `most_bytes` are kept.

    Returns whether all was done; it stops after about `moment_s`. Raises `OSError`.
    """
    until = time.monotonic() + moment_s
    top = home / "undo"
    for left in top.glob(f"{_GONE}*"):
        shutil.rmtree(left, ignore_errors=True)
    threads = sorted(_threads(home))
    old = time.time() - longest_s
    for kept in threads:
        if kept.touched < old:
            _forget(home, kept)
    needed = {kept.store for kept in threads}
    done = True
    for store in _stores(top):
        if store not in needed or (store / _UNSWEPT).exists():
            done = _swept(home, store, until) and done
    sizes = {store: _bytes(store) for store in _stores(top)}
    for kept in threads:
        if sum(sizes.values()) <= most_bytes:
            break
        if time.monotonic() > until:
            return False
        if kept.store in sizes and _forget(home, kept):
            done = _swept(home, kept.store, until) and done
            sizes[kept.store] = _bytes(kept.store)
    return done


def _stores(top: Path) -> list[Path]:
    return [path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")] if top.is_dir() else []


def _threads(home: Path) -> Iterator[_Kept]:
    for noted in threads_dir(home).glob("*/undo.root"):
        thread, log = noted.parent.name, noted.with_name("undo.log")
        touched = 0.0
        for path in (journal_path(home, thread), log):
            with contextlib.suppress(OSError):
                touched = max(touched, path.stat().st_mtime)
        place = read_place(noted.parent)
        if place is not None:
            yield _Kept(touched, thread, root_folder(home, place.root))


def _forget(home: Path, kept: _Kept) -> bool:
    """Forget what a thread's turns changed; return whether that could be done."""
    folder = threads_dir(home) / kept.thread
    journal: Journal | None = None
    try:
        alone = hold(kept.store, alone=True) if kept.store.is_dir() else None
    except OSError:
        return False
    try:
        if journal_path(home, kept.thread).exists():
            journal = Journal.open(journal_path(home, kept.thread))  # nobody else has it open then
        if (folder / "undo.plan").exists():
            return False
        _note_forgotten(folder)
        if alone is not None:
            (kept.store / _UNSWEPT).touch()
        (folder / "undo.log").unlink(missing_ok=True)
        (folder / "undo.root").unlink(missing_ok=True)
    except (LatheError, OSError):
        return False
    finally:
        if journal is not None:
            journal.close()
        if alone is not None:
            os.close(alone)
    return True


def _note_forgotten(folder: Path) -> None:
    turns = {record.turn for record in read_log(folder / "undo.log") if isinstance(record, Observed)}
    noted, fresh = folder / "undo.forgotten", folder / "undo.forgotten.new"
    fresh.write_text("".join(f"{turn}\n" for turn in sorted(turns | forgotten_turns(folder))))
    fresh.replace(noted)


def forgotten_turns(folder: Path) -> set[str]:
    """Return the turns of a thread (`folder` is its `spill_dir`) of which the changes are not kept any more."""
    try:
        return set((folder / "undo.forgotten").read_text().split())
    except OSError:
        return set()


def _swept(home: Path, store: Path, until: float) -> bool:
    """Remove what no thread needs of a store, or all of it where there is none; return whether that was done."""
    try:
        alone = hold(store, alone=True)
    except OSError:
        return False
    try:
        needing = [kept.thread for kept in _threads(home) if kept.store == store]
        if not needing:
            gone = store.with_name(f"{_GONE}{os.urandom(8).hex()}")
            store.rename(gone)  # whoever comes meanwhile finds an empty store, and not half of one
            shutil.rmtree(gone, ignore_errors=True)
            return True
        live = {entry.content for entry in read_manifest(store).values()}
        for thread in needing:
            folder = threads_dir(home) / thread
            for record in read_log(folder / "undo.log"):
                live.update(contents_of(record))
            plan = read_plan(folder / "undo.plan")  # of an undo that a crash has left, with files merged for it
            steps = plan.steps if plan is not None else ()
            live.update(step.want.content for step in steps if step.want is not None)
        hashes = {bytes.fromhex(content[1:].decode()) for content in live if content[:1] == b"b"}
        with contextlib.closing(Contents(store / "contents")) as contents:
            done = contents.sweep(hashes, until)
        if done:
            (store / _UNSWEPT).unlink(missing_ok=True)
        return done
    except OSError:
        return False
    finally:
        os.close(alone)


def _bytes(store: Path) -> int:
    """Return the bytes that a store takes; links to what a repository still has take none."""
    total = 0
    for folder, _, names in os.walk(store):
        for name in names:
            with contextlib.suppress(OSError):
                status = Path(folder, name).lstat()
                total += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return total
