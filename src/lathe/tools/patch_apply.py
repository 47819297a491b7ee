"""Applying a patch to the files of a folder: all of it or nothing.

Everything is decided first (which paths, whether they may be written, what each file becomes) and only then
written. The door of the patch room: what other rooms call is here and in `lathe.tools.patch`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.protocol.events import FileUpdate
from lathe.sandbox.policy import RUNS_LATER
from lathe.tools.patch import AddFile, DeleteFile, Hunk, Patch, PatchError, Section, UpdateFile, parse_patch
from lathe.tools.patch_diff import Side, unified_diff
from lathe.tools.patch_match import update
from lathe.tools.patch_text import Splice, Text
from lathe.tools.patch_write import ReadFile, Write, read_file, write_all

Allowed: TypeAlias = Callable[[Path], bool] | Collection[Path | str] | None
"""Which real paths may be written: a test, or the folders below which they lie; None: anywhere."""

Kind: TypeAlias = Literal["add", "delete", "update"]
_LETTERS = {"add": "A", "delete": "D", "update": "M"}

PROTECTED = RUNS_LATER
"""Folders (and files) of these names are never written, wherever they are allowed to lie."""


class PatchResult(msgspec.Struct, frozen=True):
    """What a patch did: `summary` for the model, `changes` and a git-style unified `diff` for the listener."""

    summary: str
    changes: tuple[FileUpdate, ...]
    diff: str


class FilePlan(msgspec.Struct, frozen=True):
    """One file of a patch, read and computed but not written: None stands for "no such file"."""

    path: Path
    name: str
    before: ReadFile | None
    after: bytes | None
    mode: int
    splices: tuple[Splice, ...] | None
    like: os.stat_result | None
    moved_from: Path | None


class Plan(msgspec.Struct, frozen=True):
    """All that a patch will do: `files` as they will end up, `lines` of the summary, `changes`, `remarks`."""

    files: tuple[FilePlan, ...]
    lines: tuple[str, ...]
    changes: tuple[FileUpdate, ...]
    remarks: tuple[str, ...]


def apply_patch(
    text: str,
    cwd: Path,
    allowed: Allowed = None,
    *,
    protected: Sequence[str] = PROTECTED,
    notes: Path | None = None,
) -> PatchResult:
    """Apply the patch `text` to the files under `cwd` (absolute) and return what was done; see `apply_plan`.

    Raises `PatchError` with one message for the model; no file is changed then.
    """
    return apply_plan(plan_patch(parse_patch(text), cwd, allowed, protected=protected), notes)


def apply_plan(plan: Plan, notes: Path | None = None) -> PatchResult:
    """Write what `plan` says, all or nothing; raise `PatchError` where that fails.

    `notes` is the folder in which it is written down what a kill would leave half done.
    """
    diff = _diff(plan.files)
    writes = [
        Write(
            path=file.path,
            data=file.after,
            before=file.before.stat if file.before else None,
            old=file.before.data if file.before else None,
            like=file.like,
        )
        for file in plan.files
        if file.after != (file.before.data if file.before else None)
    ]
    # what goes away goes last, so that a moved file is nowhere missing
    writes.sort(key=lambda write: write.data is None)
    try:
        write_all(writes, notes)
    except OSError as error:
        raise PatchError(f"Could not write {error.filename}: {error.strerror}. No file was changed.") from None
    remarks = f"\nNote: {'; '.join(plan.remarks)}." if plan.remarks else ""
    summary = "\n".join(("Success. Updated the following files:", *plan.lines)) + remarks
    return PatchResult(summary, plan.changes, diff)


def patch_paths(text: str, cwd: Path) -> tuple[Path, ...]:
    """Return every path that the patch `text` would write, links resolved; raise `PatchError` if it is malformed."""
    return section_paths(parse_patch(text).sections, cwd)


def section_paths(sections: Sequence[Section], cwd: Path) -> tuple[Path, ...]:
    """Return every path that `sections` would write, links resolved; raise `PatchError` for one that is no file's."""
    return tuple(dict.fromkeys(path for _, path in _named_paths(sections, cwd)))


def plan_patch(patch: Patch, cwd: Path, allowed: Allowed = None, *, protected: Sequence[str] = PROTECTED) -> Plan:
    """Return what `patch` would do, without doing it.

    Paths resolve in `cwd`. Raises `PatchError` where one may not be written (checked for all of them before
    anything is read), where a file is missing or not a file, or where a hunk does not fit.
    """
    base = Path(os.path.realpath(cwd))
    named = list(_named_paths(patch.sections, cwd))
    for raw, path in named:
        _check(raw, path, base, allowed, protected)
    planner = _Planner(cwd, {path for _, path in named})
    for section in patch.sections:
        match section:
            case AddFile():
                planner.add(section)
            case DeleteFile():
                planner.delete(section)
            case UpdateFile():
                planner.update(section)
    planner.check_folders()
    return planner.plan()


def shown_path(raw: str, cwd: Path) -> str:
    """Return `raw` as people read it: relative to `cwd` where it lies below."""
    path = os.path.normpath(cwd / raw)
    base = os.path.normpath(cwd)
    name = os.path.relpath(path, base) if path.startswith(base.rstrip("/") + "/") else path
    return name.encode("utf-8", "replace").decode("utf-8")


def _named_paths(sections: Sequence[Section], cwd: Path) -> Iterator[tuple[str, Path]]:
    for section in sections:
        match section:
            case DeleteFile(path=raw):
                yield raw, _entry(raw, cwd)
            case AddFile(path=raw):
                yield raw, _target(raw, cwd)
            case UpdateFile(path=raw, move_to=move_to):
                yield raw, _target(raw, cwd)
                if move_to is not None:
                    yield raw, _entry(raw, cwd)
                    yield move_to, _target(move_to, cwd)


def _entry(raw: str, cwd: Path) -> Path:
    """Return where the name `raw` itself stands, links before it resolved; the link itself where it is one."""
    folder, name = os.path.split(cwd / raw)
    if raw.endswith("/") or name in ("", ".", ".."):
        raise PatchError(f"{raw} is a folder, and a patch changes files. No file was changed.")
    return Path(os.path.realpath(folder), name)


def _target(raw: str, cwd: Path) -> Path:
    """Return the file that `raw` leads to, all links resolved."""
    return Path(os.path.realpath(_entry(raw, cwd)))


def _check(raw: str, path: Path, base: Path, allowed: Allowed, protected: Sequence[str]) -> None:
    # a checkout may lie below somebody's `.lathe`, but no work is ever done below a `.git`
    below = path.parts[len(base.parts) :] if path.is_relative_to(base) else path.parts
    parts = {part.casefold() for part in below} | ({".git"} & set(base.parts))
    for name in protected:
        if name in parts:
            raise PatchError(f"Refused: {raw} lies in {name}, which patches may not change. No file was changed.")
    if allowed is None or (allowed(path) if callable(allowed) else _is_below(path, allowed)):
        return
    leads = f" (it leads to {path})" if os.path.normpath(base / raw) != str(path) else ""
    raise PatchError(f"Refused: {raw}{leads} lies outside the folders that may be written. No file was changed.")


def _is_below(path: Path, roots: Collection[Path | str]) -> bool:
    return any(path.is_relative_to(os.path.realpath(root)) for root in roots)


class _File:
    """A file as the sections so far have left it."""

    def __init__(self, path: Path, name: str, before: ReadFile | None) -> None:
        self.path = path
        self.name = name
        self.before = before
        self.data = before.data if before else None
        self.mode = before.stat.st_mode if before else stat.S_IFREG | 0o644
        self.like = before.stat if before and stat.S_ISREG(self.mode) else None
        self.splices: tuple[Splice, ...] | None = None
        self.moved_from: Path | None = None
        self.touched = False

    def become(self, data: bytes | None, splices: tuple[Splice, ...] | None = None) -> None:
        self.data = data
        # splices speak of the lines before the whole patch: only a first change can tell them
        self.splices = None if self.touched else splices
        self.touched = True


class _Planner:
    def __init__(self, cwd: Path, checked: Container[Path]) -> None:
        self.cwd = cwd
        self.checked = checked
        self.files: dict[Path, _File] = {}
        self.lines: dict[str, str] = {}
        self.changes: dict[tuple[str, str | None], FileUpdate] = {}
        self.remarks: list[str] = []

    def file(self, raw: str, *, follow: bool = True) -> _File:
        """Return the file that `raw` names now; `follow`: through a link at its end."""
        path = _entry(raw, self.cwd)
        if follow and path not in self.files:
            path = _target(raw, self.cwd)
        if path not in self.checked:  # a link was put in the way since
            raise PatchError(f"Refused: {raw} led elsewhere a moment ago. No file was changed.")
        if path not in self.files:
            try:
                before = read_file(path)
                if follow and before and stat.S_ISLNK(before.stat.st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            except OSError as error:
                why = "it is a folder" if error.errno == errno.EISDIR else error.strerror
                raise PatchError(f"Cannot patch {raw}: {why}. No file was changed.") from None
            self.files[path] = _File(path, shown_path(raw, self.cwd), before)
        return self.files[path]

    def existing(self, raw: str, what: str, *, follow: bool = True) -> _File:
        file = self.file(raw, follow=follow)
        if file.data is None:
            raise PatchError(f"Cannot {what} {raw}: there is no such file{_alike(file.path)}. No file was changed.")
        return file

    def add(self, section: AddFile) -> None:
        file = self.file(section.path)
        existed = file.data is not None
        file.become("".join(f"{line}\n" for line in section.lines).encode("utf-8", "surrogateescape"))
        self.note(file.name, "update" if existed else "add", "existed, overwritten" if existed else "")

    def delete(self, section: DeleteFile) -> None:
        file = self.existing(section.path, "delete", follow=False)
        file.become(None)
        self.note(file.name, "delete")

    def update(self, section: UpdateFile) -> None:
        file = self.existing(section.path, "update")
        first = not file.touched
        data, splices = self.changed(file, section.hunks)
        target = file if section.move_to is None else self.file(section.move_to)
        if target is file:
            file.become(data, splices)
            self.note(file.name, "update")
            return
        remark = f"moved from {file.name}" + (", existed, overwritten" if target.data is not None else "")
        target.moved_from = file.path if first and target.before is None else None
        target.become(data, splices if target.moved_from else None)
        target.mode, target.like = file.mode, file.like
        self.file(section.path, follow=False).become(None)
        self.note(target.name, "update", remark, moved_from=file.name)

    def changed(self, file: _File, hunks: Sequence[Hunk]) -> tuple[bytes, tuple[Splice, ...] | None]:
        if not hunks:
            return file.data or b"", ()
        text = Text(file.data or b"")
        try:
            done = update(text, hunks, file.name)
        except UnicodeEncodeError:
            raise PatchError(f"{file.name} is {text.encoding} and cannot hold the added text.") from None
        self.remarks += done.remarks
        return done.data, done.splices if text.by_line_feed else None

    def note(self, name: str, kind: Kind, remark: str = "", *, moved_from: str | None = None) -> None:
        """Write down what was done to a file, for the summary and the listener."""
        if kind != "update" or remark or self.lines.get(name, "D")[0] == "D":
            self.lines[name] = f"{_LETTERS[kind]} {name}" + (f" ({remark})" if remark else "")
        if moved_from is not None:
            self.changes[moved_from, name] = FileUpdate(path=moved_from, kind="update", move_to=name)
        elif (name, None) not in self.changes or kind != "update":
            self.changes[name, None] = FileUpdate(path=name, kind=kind)

    def check_folders(self) -> None:
        """Refuse a file below a file: nothing could be written there before the other is gone."""
        for path, file in self.files.items():
            for parent in path.parents if file.data is not None else ():
                if parent in self.files or (parent.exists() and not parent.is_dir()):
                    where = shown_path(str(parent), self.cwd)
                    raise PatchError(f"Cannot write {file.name}: {where} is not a folder. No file was changed.")
                if parent.is_dir():
                    break

    def plan(self) -> Plan:
        files = [
            FilePlan(
                path=file.path,
                name=file.name,
                before=file.before,
                after=file.data,
                mode=file.mode,
                splices=file.splices,
                like=file.like,
                moved_from=file.moved_from,
            )
            for file in self.files.values()
        ]
        return Plan(tuple(files), tuple(self.lines.values()), tuple(self.changes.values()), tuple(self.remarks))


def _alike(path: Path) -> str:
    """Return words that name a file of almost this name beside `path`, "" where there is none."""
    from difflib import get_close_matches
    from itertools import islice

    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), 2000)]
    except OSError:
        return ""
    close = get_close_matches(path.name, names, 1, 0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def _diff(files: Sequence[FilePlan]) -> str:
    at = {file.path: file for file in files}
    parts: list[str] = []
    renamed: set[Path] = set()
    for file in files:
        source = at.get(file.moved_from) if file.moved_from else None
        if source is not None and source.after is None and source.before is not None and file.after is not None:
            renamed.add(source.path)
            old = Side(source.name, source.before.data, source.mode)
            parts.append(unified_diff(old, Side(file.name, file.after, file.mode), file.splices))
    for file in files:
        if file.path in renamed or (file.moved_from in renamed and file.before is None):
            continue
        old = Side(file.name, file.before.data if file.before else None, file.mode)
        if old.data is not None or file.after is not None:
            parts.append(unified_diff(old, Side(file.name, file.after, file.mode), file.splices))
    return "".join(parts)
