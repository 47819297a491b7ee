"""A patch that is killed before any of its system calls is taken back, or turns out to be done, at the next start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lathe.tools.patch_apply import apply_patch
from lathe.tools.patch_recovery import recover

CALLS = ("open", "write", "rename", "replace", "link", "unlink", "mkdir", "ftruncate", "fchmod", "fchown", "close")
PATCH = """*** Begin Patch
*** Update File: one.py
@@
-1
+one
*** Add File: new/deep/two.py
+two
*** Update File: linked.py
@@
-linked
+linked anew
*** Update File: from.py
*** Move to: to.py
@@
-from
+to
*** Delete File: gone.py
*** Update File: last.py
@@
-last
+very last
*** End Patch
"""


def make(folder: Path) -> Path:
    folder.mkdir()
    for name, text in (("one.py", "1\n"), ("from.py", "from\n"), ("gone.py", "gone\n"), ("last.py", "last\n")):
        (folder / name).write_text(text)
    (folder / "linked.py").write_text("linked\n")
    os.link(folder / "linked.py", folder / "other.py")  # such a file is written in place
    return folder


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def dying_at(number: int, call: Callable[..., Any], count: list[int]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)

    return counted


def killed_at(number: int, folder: Path, notes: Path) -> bool:
    """Apply the patch in a child that is killed before its system call of that number; return whether it was."""
    child = os.fork()
    if child == 0:
        count = [0]
        for name in CALLS:
            setattr(os, name, dying_at(number, getattr(os, name), count))
        apply_patch(PATCH, folder, notes=notes)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def test_a_kill_before_any_system_call_leaves_all_or_nothing(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    old = files(make(tmp_path / "old"))
    apply_patch(PATCH, make(tmp_path / "new"))
    new = files(tmp_path / "new")
    outcomes = {"old": 0, "new": 0}
    number = 1
    while killed_at(number, folder := make(tmp_path / f"run-{number}"), notes):
        torn = files(folder) not in (old, new)
        concerned = recover(notes)
        found = files(folder)
        assert found in (old, new), (number, found)
        assert (folder / "linked.py").read_text() == (folder / "other.py").read_text()
        assert not torn or concerned or found == new or not (set(files(folder)) - set(old)), number
        outcomes["old" if found == old else "new"] += 1
        number += 1
    assert number > 60
    assert outcomes["new"] > 0
    assert not list(notes.iterdir())


def test_a_patch_that_is_still_on_its_way_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, notes = make(tmp_path / "ws"), tmp_path / "notes"
    real, seen = os.rename, []

    def rename(*arguments: Any, **named: Any) -> None:
        seen.append(recover(notes))
        real(*arguments, **named)

    monkeypatch.setattr(os, "rename", rename)
    apply_patch(PATCH, folder, notes=notes)
    assert len(seen) > 3
    assert not any(seen)
    assert (folder / "last.py").read_text() == "very last\n"


def test_without_a_place_for_notes_a_patch_is_applied_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file")
    apply_patch(PATCH, make(tmp_path / "ws"), notes=tmp_path / "notes" / "x")
    assert (tmp_path / "ws" / "to.py").read_text() == "to\n"
    assert recover(tmp_path / "notes") == []
