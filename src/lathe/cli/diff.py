"""`lathe diff`: what changed in the workspace since a thread began."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from lathe.config.paths import lathe_home
from lathe.store.baseline import diff_since
from lathe.store.journal import replay
from lathe.store.threads import find_thread, patches, spill_dir


def main(argv: list[str]) -> int:
    """Run `lathe diff [ID | --last]` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="lathe diff",
        description="Show what changed since a thread began: in a git repository everything, else its patches.",
    )
    parser.add_argument("id", nargs="?", help="the thread, or its first letters; the newest of this folder if left out")
    parser.add_argument("--last", action="store_true", help="the newest thread")
    parser.add_argument("--stat", action="store_true", help="only names and counts")
    options = parser.parse_args(argv)
    home = lathe_home(os.environ)
    path = find_thread(home, None if options.last else options.id, cwd=str(Path.cwd()))
    text = thread_diff(home, path, stat=options.stat)
    if sys.stdout.isatty():
        from lathe.cli.render import coloured_diff

        text = coloured_diff(text)
    sys.stdout.write(text)
    return 0


def thread_diff(home: Path, path: Path, *, stat: bool = False) -> str:
    """Return the diff of the thread whose journal lies at `path`, "" where nothing changed."""
    header = replay(path).header
    folder = spill_dir(home, header.id) / "baseline"
    note = folder / "tree"
    if note.is_file():
        return asyncio.run(diff_since(Path(header.cwd), folder, note.read_text().strip(), stat=stat))
    changes = patches(path)
    if stat:
        return "".join(f"{update.kind:<7} {update.path}\n" for change in changes for update in change.changes)
    return "".join(change.diff for change in changes)
