from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import environment


@pytest.mark.parametrize("hang_up", [True, False])
@pytest.mark.parametrize("wait_for", [b"", b"Lathe", b"help"])
def test_no_session_outlives_its_terminal(hang_up: bool, wait_for: bytes, tmp_path: Path) -> None:
    """At whatever moment the terminal goes, and whether or not a signal says so."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lathe", "-m", "scripted-1"]
    env = environment("http://127.0.0.1:9/v1", TERM="xterm")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=tmp_path) as session:
        os.close(theirs)
        seen = b""
        while wait_for not in seen:
            seen += os.read(ours, 4096)
        if hang_up:
            session.send_signal(signal.SIGHUP)
        os.close(ours)
        session.wait(60)
