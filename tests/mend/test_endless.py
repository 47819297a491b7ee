"""The first run of the tests, with one that never ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lathe.mend import endless

PROJECT = """
import time

def test_before():
    pass

def test_endless():
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass
        else:
            continue
        raise ValueError

def test_after():
    pass
"""


def test_a_test_that_never_ends_keeps_no_other_from_being_run(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    script = (
        "import sys; sys.path.append(sys.argv.pop(1)); import endless, pytest; endless.FIRST_S = 0.3; "
        "sys.exit(pytest.main(['-q', '--tb=line', '-p', 'no:cacheprovider'], plugins=[endless]))"
    )
    folder = str(Path(endless.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script, folder], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr


def test_the_command_runs_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(
        "import endless_one\n\ndef test_it():\n    assert endless_one.VALUE == 1\n"
    )
    (tmp_path / "endless_one.py").write_text("VALUE = 2\n")
    command = [sys.executable, "-m", "lathe.mend", "--run-tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "FAILED test_project.py::test_it" in done.stdout
