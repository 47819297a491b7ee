"""What taking turns back means for each path: what the agent did is turned round, what the person did stays."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from lathe.store.git import git_command, git_environment
from lathe.store.git_folders import GitFolders
from lathe.store.git_index import says_the_same
from lathe.store.scan import Entry
from lathe.store.undo import Change, Observed, Undone

_LARGEST_MERGE = 4 << 20
_INSIDE = GitFolders()
_UNCLEAR = "it changed while a command of the agent went on in the background, and may be yours"


class Step(msgspec.Struct, frozen=True, array_like=True):
    """A path, what is there now and what is to be there; `merged` where the person's change stays in it."""

    path: bytes
    now: Entry | None
    want: Entry | None
    merged: bool = False


class Conflict(msgspec.Struct, frozen=True, array_like=True):
    """A path that is left as it is, and why."""

    path: bytes
    why: str


class UndoPlan(msgspec.Struct, frozen=True):
    """The steps, the conflicts, and the paths that the person changed and that stay as they are."""

    turns: tuple[str, ...]
    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...]
    kept: tuple[bytes, ...]


Read = Callable[[Entry], bytes | None]
"""Gives the bytes of a kept file, None where they are lost."""

Add = Callable[[bytes], bytes]
"""Keeps new bytes and gives the `content` of an entry for them."""


def turns_changed(log: Sequence[Observed | Undone]) -> dict[str, list[Change]]:
    """Return the changes that the agent made in each turn that was not taken back, oldest turn first."""
    taken = {turn for record in log if isinstance(record, Undone) for turn in record.turns}
    found: dict[str, list[Change]] = {}
    for record in log:
        if isinstance(record, Observed) and record.by == "agent" and record.turn not in taken:
            found.setdefault(record.turn, []).extend(record.changes)
    return found


def plan_undo(
    log: Sequence[Observed | Undone],
    turns: Sequence[str],
    known: Mapping[bytes, Entry],
    read: Read,
    add: Add,
    *,
    git: GitFolders = _INSIDE,
) -> UndoPlan:
    """Return what it takes to take `turns` back, when the workspace is as `known` says (just looked at)."""
    history: dict[bytes, list[tuple[bool, Change]]] = {}
    unclear: set[bytes] = set()
    for record in log:
        if isinstance(record, Observed):
            undone = record.by in ("agent", "unclear") and record.turn in turns
            for change in record.changes:
                if undone and record.by == "unclear" and not _is_loss(change):
                    unclear.add(change.path)
                    if change.after is None or not change.after.is_dir:
                        # As far as this it may be the person's: only what the agent did to it later is taken back.
                        earlier = history.get(change.path, [])
                        history[change.path] = [(False, one) for _, one in earlier] + [(False, change)]
                elif undone or change.path in history:
                    history.setdefault(change.path, []).append((undone, change))
    steps: list[Step] = []
    conflicts: list[Conflict] = []
    kept: list[bytes] = []
    for path, events in sorted(history.items()):
        now = known.get(path)
        want, why, merged = _wanted(now, events, read, add, git)
        if why:
            conflicts.append(Conflict(path, why))
        elif not _same(now, want) or (now is not None and want is not None and now.mtime != want.mtime):
            steps.append(Step(path, now, want, merged))
        if (
            path not in unclear
            and not all(undone for undone, _ in events)
            and not why
            and not (now is not None and now.is_dir)
        ):
            kept.append(path)
    there = {path: known.get(path) for path in unclear} | {
        step.path: step.want for step in steps if step.path in unclear
    }
    doubts = {path for path, entry in there.items() if entry is not None and not entry.is_dir}
    doubts -= {one.path for one in conflicts}
    conflicts += [Conflict(path, _UNCLEAR) for path in sorted(doubts)]
    plan = _whole_repositories(UndoPlan(tuple(turns), tuple(steps), tuple(conflicts), tuple(kept)), git)
    return msgspec.structs.replace(plan, steps=(*plan.steps, *_parents(plan.steps, known)))


def _parents(steps: Sequence[Step], known: Mapping[bytes, Entry]) -> list[Step]:
    """Return steps for the folders that only hold what is put back: their times are to stay."""
    own = {step.path for step in steps}
    folders = {step.path.rpartition(b"/")[0] for step in steps} - own
    return [Step(path, known[path], known[path]) for path in sorted(folders) if path in known]


def _wanted(
    now: Entry | None, events: list[tuple[bool, Change]], read: Read, add: Add, git: GitFolders
) -> tuple[Entry | None, str, bool]:
    """Walk back through what happened to a path; return what is wanted there, or why it can't be told."""
    want, merged = now, False
    for undone, change in reversed(events):
        if not undone:
            continue
        if _same(want, change.after):
            want = change.before
        elif _same(want, change.before):
            continue
        else:
            is_index = git.is_index(change.path)
            joined = _merge(change.after, want, change.before, read, add, is_index=is_index)
            if joined is None:
                return None, _why(want, change), False
            want, merged = joined, True
        if want is not None and not want.is_kept:
            return None, "it was too large to be kept, or could not be read", False
    return want, "", merged


def _is_loss(change: Change) -> bool:
    """Tell whether something went: to bring it back can take nothing from the person."""
    before, after = change.before, change.after
    return before is not None and (after is None or (before.size > 0 and after.is_file and after.size == 0))


def _why(want: Entry | None, change: Change) -> str:
    if change.before is None:
        return "you changed it after the agent had made it"
    if want is None:
        return "you deleted it after the agent had changed it"
    return "you changed the same lines as the agent" if want.is_file else "you changed it after the agent had"


def _same(one: Entry | None, other: Entry | None) -> bool:
    return other is None if one is None else one.same_as(other)


def _merge(
    base: Entry | None, ours: Entry | None, theirs: Entry | None, read: Read, add: Add, *, is_index: bool
) -> Entry | None:
    """Return the file `ours` with the step from `base` to `theirs` made too; None where they touch each other."""
    if base is None or ours is None or theirs is None:
        return None
    if not (base.is_file and ours.is_file and theirs.is_file):
        return None
    mode = theirs.mode if ours.mode == base.mode else ours.mode
    if ours.content == base.content:
        return msgspec.structs.replace(theirs, mode=mode)
    if theirs.content == base.content:
        return msgspec.structs.replace(ours, mode=mode)
    texts = [read(entry) for entry in (ours, base, theirs)]
    if is_index:
        mine, old, new = (text or b"" for text in texts)
        return theirs if says_the_same(mine, old) else ours if says_the_same(new, old) else None
    known = [text for text in texts if text is not None and len(text) <= _LARGEST_MERGE]
    joined = merge_texts(*known) if len(known) == 3 else None
    if joined is None:
        return None
    return msgspec.structs.replace(ours, mode=mode, size=len(joined), mtime=time.time_ns(), content=add(joined))


def merge_texts(ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """Return `ours` with the changes from `base` to `theirs` in it, None where they touch, or for no text."""
    if any(b"\0" in text for text in (ours, base, theirs)):
        return None
    with tempfile.TemporaryDirectory(prefix="lathe-merge-") as folder:
        names = ("ours", "base", "theirs")
        for name, text in zip(names, (ours, base, theirs), strict=True):
            Path(folder, name).write_bytes(text)
        try:
            done = subprocess.run(
                git_command("merge-file", "-p", "-q", *names),
                cwd=folder,
                env=git_environment({}),
                capture_output=True,
                check=False,
            )
        except OSError:
            return None
    return done.stdout if done.returncode == 0 else None


def _whole_repositories(plan: UndoPlan, git: GitFolders) -> UndoPlan:
    """Leave git's own files alone, all of them, where one is in conflict: half a state would be none."""
    torn = {folder for conflict in plan.conflicts if (folder := git.of(conflict.path))}
    if not torn:
        return plan
    steps = tuple(step for step in plan.steps if git.of(step.path) not in torn)
    conflicts = tuple(conflict for conflict in plan.conflicts if git.of(conflict.path) not in torn)
    state = tuple(Conflict(folder, "you used git after the agent had") for folder in sorted(torn))
    return msgspec.structs.replace(plan, steps=steps, conflicts=(*conflicts, *state))
