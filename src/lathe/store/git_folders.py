"""Where git's own files of a workspace lie: in it, or, of a linked worktree, beside it (gitrepository-layout(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class GitFolders(NamedTuple):
    """Paths relative to the root of the workspace, as bytes.

    `shared` is the repository's folder; `own` is that in it which only this worktree uses.
    """

    shared: bytes = b".git"
    own: bytes = b".git"

    @property
    def outside(self) -> bool:
        """Whether they lie outside the workspace."""
        return self.shared.startswith(b"../")

    def of(self, path: bytes) -> bytes:
        """Return the folder of git's that a path lies in, b"" for none; those of submodules are found too."""
        if self.outside and path.startswith(self.shared + b"/"):
            return self.shared
        parts = path.split(b"/")
        return b"/".join(parts[: parts.index(b".git") + 1]) if b".git" in parts[:-1] else b""

    def is_index(self, path: bytes) -> bool:
        """Tell whether git keeps the index of a worktree at a path."""
        return path.endswith(b".git/index") or (self.of(path) == self.shared and path.endswith(b"/index"))


class Place(NamedTuple):
    """The workspace in which a thread began: its absolute root, and its git folders."""

    root: str
    git: GitFolders


def note_place(folder: Path, place: Place) -> None:
    """Write down in a thread's `folder` where it began; raise `OSError`."""
    fresh = folder / "undo.root.new"
    parts = (os.fsencode(place.root), *(place.git if place.git.outside else ()))
    fresh.write_bytes(b"\0".join(parts))
    fresh.replace(folder / "undo.root")  # half a path would be another folder


def read_place(folder: Path) -> Place | None:
    """Return what `note_place` wrote, None where that is not there."""
    try:
        root, *git = (folder / "undo.root").read_bytes().split(b"\0")
    except OSError:
        return None
    return Place(os.fsdecode(root), GitFolders(*git))


def linked(root: str, shared: str, own: str) -> GitFolders:
    """Return those of the linked worktree at `root`; all three are absolute, without links."""
    return GitFolders(*(os.fsencode(os.path.relpath(folder, root)) for folder in (shared, own)))
