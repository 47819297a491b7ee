"""The threads under `$LATHE_HOME`: finding, listing and forking them. The journals are the index."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lathe.protocol.errors import LatheError, UsageError
from lathe.protocol.events import FileChange, ItemCompleted
from lathe.protocol.ids import new_id
from lathe.protocol.items import Item, Message, text_of
from lathe.store.journal import EventRecord, ItemsRecord, Journal, ThreadRecord, now_ms, records

CONTEXT_MARK = "<context"
"""How a message that Lathe wrote in the user's place begins; such messages are no title."""


class ThreadSummary(msgspec.Struct, frozen=True):
    """One row of `lathe threads`. Times are milliseconds since the epoch; `title` is the first request."""

    id: str
    cwd: str
    created: int
    updated: int
    title: str
    bytes: int


def threads_dir(home: Path) -> Path:
    """Return the folder of journals below Lathe's home."""
    return home / "threads"


def journal_path(home: Path, thread_id: str) -> Path:
    """Return where the journal of `thread_id` lies or would lie."""
    return threads_dir(home) / f"{thread_id}.jsonl"


def spill_dir(home: Path, thread_id: str) -> Path:
    """Return the folder for outputs of `thread_id` that are too long for the model."""
    return threads_dir(home) / thread_id


def list_threads(home: Path, *, cwd: str | None = None) -> list[ThreadSummary]:
    """Return the threads, newest first; with `cwd`, only those that began there."""
    found = [summary for path in _journals(home) if (summary := _summary(path)) is not None]
    found.sort(key=lambda summary: summary.updated, reverse=True)
    return [summary for summary in found if cwd is None or summary.cwd == cwd]


def find_thread(home: Path, thread_id: str | None, *, cwd: str | None = None) -> Path:
    """Return the journal of `thread_id` (or of its only match as a prefix), or of the newest thread when None.

    The newest of `cwd` is preferred to the newest of all. Raises `UsageError` where nothing fits.
    """
    if thread_id is None:
        newest = list_threads(home, cwd=cwd) or list_threads(home)
        if not newest:
            raise UsageError("There are no threads yet.", hint="`lathe exec` starts one.")
        return journal_path(home, newest[0].id)
    exact = journal_path(home, thread_id)
    if "/" not in thread_id and exact.is_file():
        return exact
    matches = [path for path in _journals(home) if path.stem.startswith(thread_id)]
    if len(matches) == 1:
        return matches[0]
    problem = "fits more than one thread" if matches else "fits no thread"
    raise UsageError(f"{thread_id!r} {problem}.", hint="`lathe threads` lists them.")


def fork_thread(home: Path, source: Path) -> str:
    """Copy the journal `source` into a thread of its own and return the new thread's id."""
    all_records = list(records(source))
    if not all_records or not isinstance(all_records[0], ThreadRecord):
        raise UsageError(f"{source} is not a thread's journal.")
    header = all_records[0]
    thread_id = new_id()
    journal = Journal.create(
        journal_path(home, thread_id),
        ThreadRecord(t=now_ms(), id=thread_id, cwd=header.cwd, lathe=header.lathe, forked_from=header.id),
    )
    try:
        journal.append(*all_records[1:])
    finally:
        journal.close()
    baseline = spill_dir(home, source.stem) / "baseline"
    if baseline.is_dir():
        # Nothing in it is ever changed in place, so links are as good as copies.
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(baseline, spill_dir(home, thread_id) / "baseline", copy_function=os.link)
    return thread_id


def patches(path: Path) -> list[FileChange]:
    """Return what patches changed in the thread whose journal lies at `path`, in order."""
    return [
        record.event.item
        for record in records(path, holding=b'"file_change"')
        if isinstance(record, EventRecord)
        and isinstance(record.event, ItemCompleted)
        and isinstance(record.event.item, FileChange)
        and record.event.item.status == "completed"
    ]


def _journals(home: Path) -> Iterator[Path]:
    try:
        with os.scandir(threads_dir(home)) as entries:
            paths = [Path(entry.path) for entry in entries if entry.name.endswith(".jsonl")]
    except FileNotFoundError:
        return
    yield from paths


def _summary(path: Path) -> ThreadSummary | None:
    header: ThreadRecord | None = None
    title = ""
    try:
        for record in records(path, newer=True):
            if isinstance(record, ThreadRecord):
                header = record
            elif isinstance(record, ItemsRecord):
                title = next((text for item in record.items if (text := _request(item))), "")
                if title:
                    break
        status = path.stat()
    except (LatheError, OSError):  # one that can't be read must not hide the others
        return None
    if header is None:
        return None
    return ThreadSummary(
        id=header.id,
        cwd=header.cwd,
        created=header.t,
        updated=int(status.st_mtime * 1000),
        title=title,
        bytes=status.st_size,
    )


def is_request(item: object) -> bool:
    """Tell whether an item is what the person said."""
    return isinstance(item, Message) and item.role == "user" and not text_of(item).startswith(CONTEXT_MARK)


def _request(item: Item) -> str:
    return text_of(item) if is_request(item) else ""
