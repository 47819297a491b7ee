"""Small projects in git, made for one test each."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import pytest
from seeded import MakeProject, commit

EXAMPLE = Path(__file__).parents[2] / "examples" / "inventory"


@pytest.fixture(autouse=True)
def _this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Return a function that writes files (path=text, dots of the suffix as given) into a new git repository."""

    def make(files: dict[str, str | bytes], *, git: bool = True) -> Path:
        root = tmp_path / "project"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode())
        if git:
            commit(root)
        return root

    return make


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    root = tmp_path / "inventory"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    commit(root)
    return root
