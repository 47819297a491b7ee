"""What candidates may do to the files that they share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, shutil, sys
from pathlib import Path
from lathe.mend.worker.guard import guard
os.chdir(sys.argv[1])
guard(sys.argv[1], ["logs/b.txt", "out"])
{deed}
"""


def _done(folder: Path, deed: str) -> str:
    """Return the name of the error that `deed` ends in under the guard, "" where there is none."""
    script = SCRIPT.format(
        deed=f"try:\n    {deed}\nexcept Exception as error:\n    print(type(error).__name__, end='')"
    )
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "logs/b.txt", "out/c.txt", "data/d.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "deed",
    [
        "open('a.txt', 'w')",
        "open('a.txt', 'a')",
        "Path('data/d.txt').write_text('')",
        "os.open('a.txt', os.O_RDWR)",
        "os.remove('a.txt')",
        "Path('a.txt').unlink()",
        "os.rename('a.txt', 'e.txt')",
        "os.replace('logs/b.txt', 'a.txt')",
        "shutil.rmtree('data')",
        "shutil.move('data/d.txt', 'e.txt')",
        "os.truncate('a.txt', 0)",
        "os.chmod('a.txt', 0)",
        "open('out/../a.txt', 'r+')",
    ],
)
def test_a_file_of_the_project_stays_as_it_is(folder: Path, deed: str) -> None:
    assert _done(folder, deed) == "PermissionError"
    assert (folder / "a.txt").read_text() == "a.txt"
    assert (folder / "data/d.txt").read_text() == "data/d.txt"


@pytest.mark.parametrize(
    "deed",
    [
        "open('a.txt').read()",
        "open('new.txt', 'w').close()",
        "open('logs/b.txt', 'w').close()",
        "open('out/c.txt', 'w').close()",
        "os.remove('out/c.txt')",
        "open('new.txt', 'w').close() or open(os.devnull, 'w').close()",
        "open(os.path.join(os.path.dirname(os.getcwd()), 'outside.txt'), 'w').close()",
    ],
)
def test_reading_new_files_and_what_tests_write_to_are_allowed(folder: Path, deed: str) -> None:
    assert _done(folder, deed) == ""
