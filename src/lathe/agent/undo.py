"""Taking turns back: what the agent did to the files, and what was said."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lathe.agent.pruning import forgotten_turns
from lathe.protocol.errors import UsageError
from lathe.protocol.items import text_of
from lathe.sandbox.mounts import linked_repository
from lathe.store.git_folders import GitFolders, Place, linked, note_place, read_place
from lathe.store.journal import Journal, Replay, RewindRecord, now_ms, replay
from lathe.store.scan import Entry
from lathe.store.threads import is_request, spill_dir
from lathe.store.undo import Observed, Tracker, Undone, read_log, root_folder
from lathe.store.undo_apply import apply_steps, read_plan, write_plan
from lathe.store.undo_plan import Conflict, UndoPlan, plan_undo, turns_changed
from lathe.tools.patch_recovery import recover


class TurnRow(NamedTuple):
    """A turn that can be taken back: its id, what was asked, and how many files the agent changed in it."""

    id: str
    request: str
    files: int


class Taken(NamedTuple):
    """What taking turns back came to. Paths are relative to `root`."""

    root: str
    turns: tuple[TurnRow, ...]
    restored: tuple[str, ...]
    removed: tuple[str, ...]
    merged: tuple[str, ...]
    kept: tuple[str, ...]
    conflicts: tuple[tuple[str, str], ...]


def undo_log(home: Path, thread_id: str) -> Path:
    """Return the log of what a thread's turns did to the workspace."""
    return spill_dir(home, thread_id) / "undo.log"


def tracker_for(home: Path, root: str, thread_id: str) -> Tracker:
    """Return the tracker of a thread for the workspace at `root`, or for that in which the thread began."""
    folder = spill_dir(home, thread_id)
    place = read_place(folder)
    if place is None:
        real = os.path.realpath(root)
        repository = linked_repository(Path(real, ".git"))
        git = linked(real, str(repository.shared), str(repository.own)) if repository is not None else GitFolders()
        place = Place(root, git)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        note_place(folder, place)
    return Tracker(place.root, root_folder(home, place.root), undo_log(home, thread_id), place.git)


def list_turns(home: Path, path: Path) -> list[TurnRow]:
    """Return the turns of the thread whose journal lies at `path` that were not taken back, oldest first."""
    state = replay(path)
    return _rows(state, read_log(undo_log(home, state.header.id)))


def _rows(state: Replay, log: Sequence[Observed | Undone]) -> list[TurnRow]:
    changed = turns_changed(log)
    ends = [start.length for start in state.began.values()][1:]
    rows = []
    for (turn, start), end in zip(state.began.items(), [*ends, len(state.items)], strict=False):
        items = start.items[start.length :] if end < start.length else start.items[start.length : end]
        request = next((text_of(item) for item in items if is_request(item)), "")
        files = {change.path for change in changed.get(turn, ()) if not _is_folder(change.before, change.after)}
        rows.append(TurnRow(turn, request, len(files)))
    return rows


def _is_folder(before: Entry | None, after: Entry | None) -> bool:
    return all(entry is None or entry.is_dir for entry in (before, after))


def undo(home: Path, path: Path, count: int = 1, *, files_only: bool = False) -> Taken:
    """Take back the last `count` turns of the thread whose journal lies at `path`; return what that came to.

    What the person changed meanwhile stays; where that can't be told from what the agent did, the path is left
    alone and told of. A crash in the middle is made good by the next call. Raises `UsageError` where there is
    nothing to take back or another process has the thread, and `StorageError`.
    """
    with contextlib.closing(Journal.open(path)) as journal:
        state = replay(path)
        recover(home / "patches")
        tracker = tracker_for(home, state.header.cwd, state.header.id)
        root = os.fsdecode(tracker.root)
        if not Path(root).is_dir():
            raise UsageError(f"{root}, where the thread worked, is not there any more.", hint="Make that folder first.")
        with contextlib.closing(tracker):
            return _undo(journal, state, tracker, home, count, files_only=files_only)


def _undo(journal: Journal, state: Replay, tracker: Tracker, home: Path, count: int, *, files_only: bool) -> Taken:
    plan_path = spill_dir(home, state.header.id) / "undo.plan"
    tracker.open()
    plan = read_plan(plan_path)
    log = read_log(undo_log(home, state.header.id))
    rows = _rows(state, log)
    if plan is None:
        if not rows:
            raise UsageError("There is no turn to take back.")
        chosen = rows[-count:]
        _check_kept(chosen, forgotten_turns(spill_dir(home, state.header.id)))
        plan = plan_undo(log, [row.id for row in chosen], tracker.known, tracker.read, tracker.add, git=tracker.git)
        write_plan(plan_path, plan)
    else:
        chosen = [row for row in rows if row.id in plan.turns]
    failed = apply_steps(tracker.root, plan.steps, tracker.open_content)
    failed += _objects_given_back(tracker)
    folders = [step for step in plan.steps if step.want is not None and step.want.is_dir]
    apply_steps(tracker.root, folders, tracker.open_content)  # their times, which git's objects may have changed
    tracker.observe("undo", plan.turns[0])
    tracker.note(Undone(now_ms(), plan.turns))
    tracker.save()
    if not files_only and plan.turns[0] in state.began:
        journal.append(RewindRecord(now_ms(), plan.turns[0]))
    plan_path.unlink(missing_ok=True)
    return _taken(tracker.root, chosen, plan, failed)


def _check_kept(rows: Sequence[TurnRow], forgotten: set[str]) -> None:
    lost = next((row for row in rows if row.id in forgotten), None)
    if lost is not None:
        raise UsageError(
            f"What the turn “{lost.request[:80]}” changed is not kept any more: "
            "nobody had touched the thread for long, or others needed the room.",
            hint="Git may still know it.",
        )


def _objects_given_back(tracker: Tracker) -> list[Conflict]:
    """Give git the objects back that it has lost; return what stood in the way."""
    git_dir = tracker.git_dir
    if tracker.objects is None or not git_dir.is_dir() or git_dir.is_symlink():
        return []
    try:
        tracker.objects.give_back()
    except OSError as error:
        return [Conflict(b".git/objects", (error.strerror or "it can't be written").lower())]
    return []


def _taken(root: bytes, rows: Sequence[TurnRow], plan: UndoPlan, failed: Sequence[Conflict]) -> Taken:
    bad = {conflict.path for conflict in failed}
    made = [step for step in plan.steps if step.path not in bad and not _is_folder(step.now, step.want)]
    return Taken(
        os.fsdecode(root),
        tuple(rows),
        restored=tuple(os.fsdecode(step.path) for step in made if step.want is not None and not step.merged),
        removed=tuple(os.fsdecode(step.path) for step in made if step.want is None),
        merged=tuple(os.fsdecode(step.path) for step in made if step.merged),
        kept=tuple(os.fsdecode(name) for name in plan.kept),
        conflicts=tuple((os.fsdecode(one.path), one.why) for one in (*plan.conflicts, *failed)),
    )
