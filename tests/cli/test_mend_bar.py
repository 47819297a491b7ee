"""The line that `lathe mend` draws on a terminal while it works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

MODULE = "def area(width, height):\n    return width + height\n"
TESTS = "from area import area\n\n\ndef test_area():\n    assert area(2, 3) == 6\n"


def _mend(tmp_path: Path, stderr: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / "area.py").write_text(MODULE)
    (tmp_path / "test_area.py").write_text(TESTS)
    command = [sys.executable, "-m", "lathe", "mend", "--time", "30", str(tmp_path)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, cwd=tmp_path)


def test_on_a_terminal_a_bar_shows_the_time_and_is_gone_afterwards(tmp_path: Path) -> None:
    master, slave = os.openpty()
    done = _mend(tmp_path, slave)
    os.close(slave)
    shown = b""
    while data := _read(master):
        shown += data
    os.close(master)
    assert done.returncode == 0
    assert "return width * height" in done.stdout
    text = shown.decode()
    assert re.search(r"\[#*-+\] \d+ of 30 s, ", text)
    assert text.endswith("\r\x1b[K")


def test_elsewhere_there_is_no_bar(tmp_path: Path) -> None:
    with (tmp_path / "err.txt").open("wb") as file:
        assert _mend(tmp_path, file.fileno()).returncode == 0
    assert (tmp_path / "err.txt").read_bytes() == b""


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # what Linux says at the end
        return b""
