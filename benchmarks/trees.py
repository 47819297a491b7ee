"""A repository with all that is hard to put back, and how a tree is told from what it was; tests use both."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

Tree: TypeAlias = dict[str, tuple[Any, ...]]

_LARGE = 1 << 20
_WHO = ("-c", "user.name=Me", "-c", "user.email=me@example.com", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str) -> str:
    """Run git as the person and return what it says; raise `CalledProcessError`."""
    done = subprocess.run(["git", *_WHO, *arguments], cwd=folder, capture_output=True, check=True, text=True)
    return done.stdout


def tree(folder: Path) -> Tree:
    """Return all that is below a folder, git's own files too but for its objects: permissions, owner, time and bytes.

    Of a large file the bytes are a digest.
    """
    found: Tree = {}
    for top, folders, files in os.walk(folder):
        if (Path(top) / "HEAD").is_file():
            folders[:] = [name for name in folders if name != "objects"]
        for name in (*folders, *files):
            path = Path(top, name)
            status = path.lstat()
            held: Any = None
            if path.is_symlink():
                held = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                held = path.read_bytes() if status.st_size <= _LARGE else _digest(path)
            found[str(path.relative_to(folder))] = (
                oct(status.st_mode),
                (status.st_uid, status.st_gid),
                status.st_mtime_ns,
                held,
            )
    return found


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def build(top: Path) -> None:
    """Make a repository at `top` with two commits, a branch, a tag, and work that is not committed."""
    (top / "src" / "deep").mkdir(parents=True)
    (top / "empty").mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / "src" / "a.py").write_text("".join(f"line {number}\n" for number in range(20)))
    (top / "src" / "deep" / "b.py").write_text("b = 1\n")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "link").symlink_to("src/a.py")
    (top / "dangling").symlink_to("nowhere")
    (top / ".gitignore").write_text("*.log\nsecret.env\n")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    (top / "src" / "c.py").write_text("c = 1\n")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "second")
    git(top, "branch", "other", "HEAD~1")
    git(top, "tag", "v1")
    (top / "src" / "deep" / "b.py").write_text("b = 2  # not committed\n")
    (top / "untracked.txt").write_text("mine\n")
    (top / "secret.env").write_text("ignored\n")
    (top / "binary").write_bytes(bytes(range(256)) * 100)
    (top / "large").write_bytes(os.urandom(3 << 20))
    (top / "odd\nname").write_text("x")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe")).write_text("bytes")
    (top / "read-only").write_text("r\n")
    (top / "read-only").chmod(0o444)
