"""What the tests of mend share: projects in git, and looking at them from outside."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

MakeProject = Callable[..., Path]


def commit(root: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "as found"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)


def fingerprint(root: Path) -> dict[str, str]:
    """Return a digest of every file, outside .git."""
    files = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def suite(root: Path) -> int:
    """Return the status of a real pytest run."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode
