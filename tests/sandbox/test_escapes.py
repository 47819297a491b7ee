"""The escape suite of `benchmarks/`: each attempt succeeds without a sandbox, and in none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).parents[2] / "benchmarks" / "sandbox_escape.py"
LANDLOCK_LETS = {
    *("files: permissions", "files: times", "files: extended attributes"),
    *("secrets: another's files in /tmp", "secrets: another's files in /dev/shm"),
    *("network: a socket in a folder", "network: a socket in /tmp", "network: a socket in /run"),
    "network: datagrams to a local socket",
}
"""What Landlock cannot see (docs/sandbox.md); the list may only become shorter."""


def outcome(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SUITE), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("user", ["the user of the tests", "an ordinary user"])
def test_nothing_gets_out(user: str) -> None:
    if user == "an ordinary user":
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        reads = ["setpriv", "--reuid", "12345", "--clear-groups", "test", "-r", str(SUITE)]
        if subprocess.run(reads, check=False).returncode != 0:
            pytest.skip(f"an ordinary user cannot read {SUITE}")
    said = outcome("--as-user") if user == "an ordinary user" else outcome()
    assert said["useless"] == []
    escapes = {tier: {name for name, how in all_of.items() if how} for tier, all_of in said["found"].items()}
    attempts = escapes.pop("none")
    assert len(attempts) >= 60
    landlock = escapes.pop("landlock", set())
    assert landlock <= LANDLOCK_LETS
    assert escapes.keys() == {
        "bubblewrap",
        "bubblewrap with the machine's proc",
        "bubblewrap with the machine's network",
    }
    assert not set.union(*escapes.values())
