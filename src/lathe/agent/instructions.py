"""Standing instructions: AGENTS.md of the person, of the repository, and of the folders in it.

Places and order are those of Codex CLI (developers.openai.com/codex/guides/agents-md): the person's own file,
then one file a folder from the repository's root down to the working directory; `AGENTS.override.md` stands in
for the `AGENTS.md` beside it, and an empty file counts as none. `CLAUDE.md` is read where a folder has neither.
What differs: where there is more than fits, the longest files are cut, not the nearest.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from lathe.config.paths import config_home, project_root

NAMES = ("AGENTS.override.md", "AGENTS.md", "CLAUDE.md")
LIMIT = 32 * 1024
"""Bytes of all files together; as much again for those of folders entered later."""

_READ_LIMIT = 1 << 20


class InstructionFile(msgspec.Struct, frozen=True):
    """One file: `text` as the model gets it, `folder` the folder it speaks for ("" for the person's own)."""

    path: str
    folder: str
    text: str

    def block(self) -> str:
        """Return the text under a line that says where it is from and what it is for."""
        scope = f"for {self.folder} and below" if self.folder else "the person's own, for every project"
        return f"# Instructions from {self.path} ({scope})\n\n{self.text}"


class Instructions(msgspec.Struct, frozen=True):
    """What `load_instructions` found, the general first; `notes` are sentences on files that could not be read."""

    files: tuple[InstructionFile, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it as one text for the context; "" where there is nothing."""
        return "\n\n".join([*(file.block() for file in self.files), *self.notes])

    @property
    def fingerprint(self) -> str:
        """Changes when the text does."""
        return f"{zlib.crc32(self.text.encode()):08x}"

    def changes_since(self, earlier: Instructions) -> str:
        """Return what to tell a model that knows `earlier`: new and gone files, and differences; "" if nothing."""
        before = {file.path: file for file in earlier.files}
        after = {file.path: file for file in self.files}
        told = [f"{path} is gone; its instructions no longer apply." for path in before if path not in after]
        for path, file in after.items():
            if path not in before:
                told.append(file.block())
            elif before[path].text != file.text:
                told.append(_difference(before[path], file))
        told += [note for note in self.notes if note not in earlier.notes]
        return "\n\n".join(told)


class NestedInstructions:
    """The instructions of folders that the work enters after the thread began.

    `cwd` is the working directory, `given` the paths of files that the model has been given already.
    """

    def __init__(self, cwd: Path, given: Iterable[str]) -> None:
        self._top = project_root(cwd)
        self._given = set(given)
        self._seen = {os.path.realpath(folder) for folder in _chain(self._top, cwd)}
        self._left = LIMIT

    def instructions_for(self, path: Path) -> tuple[InstructionFile, ...]:
        """Return the files, not given yet, that speak for `path`: of the folders from the top down to its own."""
        top = os.path.realpath(self._top)
        folder = os.path.realpath(path if path.is_dir() else path.parent)
        if folder in self._seen or not (folder == top or folder.startswith(top.rstrip("/") + "/")):
            return ()
        found = []
        for part in _chain(Path(top), Path(folder)):
            if str(part) in self._seen:
                continue
            self._seen.add(str(part))
            file = _first_of(part, NAMES, str(part), [])
            if file is not None and file.path not in self._given:
                self._given.add(file.path)
                file = _cut(file, self._left)
                self._left = max(0, self._left - len(file.text.encode()))
                found.append(file)
        return tuple(found)


def load_instructions(cwd: Path, home: Path, environ: Mapping[str, str]) -> Instructions:
    """Return the instructions for work in `cwd`; whatever can't be read is a note, never an error."""
    notes: list[str] = []
    own = (_first_of(folder, NAMES[:2], "", notes) for folder in personal_folders(home, environ))
    found = [next((file for file in own if file is not None), None)]
    found += [_first_of(folder, NAMES, str(folder), notes) for folder in _chain(project_root(cwd), cwd)]
    files = list({file.path: file for file in found if file is not None}.values())
    rooms = shares([len(file.text.encode()) for file in files], LIMIT)
    return Instructions(tuple(_cut(file, room) for file, room in zip(files, rooms, strict=True)), tuple(notes))


def personal_folders(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of what is the person's own, the first to be asked first: $LATHE_HOME, the configuration."""
    configured = config_home({**environ, "HOME": str(home)})
    return (Path(chosen), configured) if (chosen := environ.get("LATHE_HOME")) else (configured,)


def shares(sizes: list[int], limit: int) -> list[int]:
    """Divide `limit` among wants: small ones are met, and the large ones get equal parts of what is left."""
    rooms = [0] * len(sizes)
    left, waiting = limit, len(sizes)
    for at in sorted(range(len(sizes)), key=sizes.__getitem__):
        rooms[at] = min(sizes[at], left // waiting)
        left -= rooms[at]
        waiting -= 1
    return rooms


def read_text(path: Path, limit: int = _READ_LIMIT) -> str:
    """Return at most `limit` bytes of a regular file as text, whatever its bytes; raise `OSError`."""
    # Not blocking, so that a pipe under that name can't hold up the turn.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no regular file")
        raw = b""
        while len(raw) < limit and (block := os.read(descriptor, limit - len(raw))):
            raw += block
    finally:
        os.close(descriptor)
    text = raw.decode("utf-8-sig", "replace").replace("\0", "\ufffd")
    return text.replace("\r\n", "\n")


def _chain(top: Path, bottom: Path) -> list[Path]:
    """Return the folders from `top` down to `bottom`, both included; `bottom` alone where it isn't below `top`."""
    if bottom != top and top not in bottom.parents:
        return [bottom]
    return [place for place in reversed((bottom, *bottom.parents)) if place == top or top in place.parents]


def _first_of(folder: Path, names: Iterable[str], scope: str, notes: list[str]) -> InstructionFile | None:
    for name in names:
        path = folder / name
        try:
            text = read_text(path).strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            notes.append(f"The instructions in {path} could not be read: {error.strerror or error}.")
            continue
        if text:
            # A tag of the context's own in a file must not end the block that holds the file.
            return InstructionFile(str(path), scope, text.replace("</context", "<\\/context"))
    return None


def _cut(file: InstructionFile, room: int) -> InstructionFile:
    raw = file.text.encode()
    if len(raw) <= room:
        return file
    kept = raw[:room].decode("utf-8", "ignore")
    kept = kept[: kept.rfind("\n") + 1] or kept
    note = f"[cut here: {len(kept.encode())} of {len(raw)} bytes are shown; the whole is in {file.path}]"
    return msgspec.structs.replace(file, text=f"{kept.rstrip()}\n{note}".lstrip())


def _difference(before: InstructionFile, after: InstructionFile) -> str:
    import difflib

    lines = difflib.unified_diff(before.text.splitlines(), after.text.splitlines(), "before", "now", lineterm="", n=1)
    diff = "\n".join(lines)
    if 2 * len(diff) < len(after.text):
        return f"# {after.path} has changed\n\n{diff}"
    return f"# {after.path} has changed; it now reads:\n\n{after.text}"
