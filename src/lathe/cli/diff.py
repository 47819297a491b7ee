"""`lathe diff`: what changed in the workspace since a thread began."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from lathe.config.paths import lathe_home
from lathe.store.baseline import baseline_tree, diff_since, why_no_baseline
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
    text, lack = thread_diff(home, path, stat=options.stat)
    if lack:
        sys.stderr.write(f"lathe: {lack} So this is what patches changed, and not what commands did.\n")
    if sys.stdout.isatty():
        from lathe.cli.render import coloured_diff

        sys.stdout.write(coloured_diff(text.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(text)
    return 0


def thread_diff(home: Path, path: Path, *, stat: bool = False) -> tuple[bytes, str]:
    """Return the diff of the thread whose journal lies at `path`, as bytes, for files are not all UTF-8.

    Beside it "", or the reason why it holds only what patches changed.
    """
    header = replay(path).header
    cwd, folder = Path(header.cwd), spill_dir(home, header.id) / "baseline"
    if tree := baseline_tree(folder):
        return asyncio.run(diff_since(cwd, folder, tree, stat=stat)), ""
    changes = patches(path)
    if stat:
        text = "".join(f"{update.kind:<7} {update.path}\n" for change in changes for update in change.changes)
    else:
        text = "".join(change.diff for change in changes)
    lack = ""
    if (folder / "tree").is_file():  # else nothing was to be changed
        lack = asyncio.run(why_no_baseline(cwd)) or f"{cwd} was in no git repository that could be read at first."
    return text.encode("utf-8", "surrogateescape"), lack
