"""The plan of the house, held by machine: who may import whom, how large a file gets, what start-up costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "lathe"
LEVELS = {
    "protocol": 1,
    "config": 2,
    "sandbox": 2,
    "models": 2,
    "store": 2,
    "tools": 3,
    "guard": 3,
    "agent": 4,
    "mend": 4,
    "evals": 5,
    "gateway": 5,
    "card": 6,
    "cli": 7,
    "tui": 7,
}
FACES = {"cli", "tui"}
"""Two forms of one face: a command opens a session, and a session reads the options of a command."""
HEAVY = {"asyncio", "ssl", "subprocess", "tree_sitter", "mcp", "argparse", "msgspec", "typing", "re", "pathlib"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def imported_rooms(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "lathe":
                names = [f"lathe.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "lathe" and len(parts) > 1 and parts[1] in LEVELS:
                yield parts[1], node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms_import_only_downwards(path: Path) -> None:
    own = room(path)
    if own not in LEVELS:
        return
    for other, line in imported_rooms(path):
        allowed = other == own or LEVELS[other] < LEVELS[own] or {other, own} <= FACES
        assert allowed, f"{path.relative_to(SOURCE)}:{line}: {own} (level {LEVELS[own]}) imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_is_a_drawer(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "manager", "misc", "common"}
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 560, f"{path.name} has {lines} lines: it wants splitting"


def test_every_room_is_on_the_plan() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(LEVELS)


def test_the_version_is_said_without_importing_anything_heavy() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from lathe.cli.main import main\n"
        "main(['--version'])\n"
        "print(*(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    version, loaded = result.stdout.splitlines()
    assert version.startswith("lathe ")
    assert not HEAVY & set(loaded.split())
