"""`lathe undo`: take turns back, files and conversation."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lathe.agent.undo import Taken, TurnRow, list_turns, undo
from lathe.config.paths import lathe_home
from lathe.protocol.errors import UsageError
from lathe.store.threads import find_thread

_SHOWN = 20


def main(argv: list[str]) -> int:
    """Run `lathe undo [ID | --last]` and return its exit code: 1 where something could not be taken back."""
    parser = argparse.ArgumentParser(
        prog="lathe undo",
        description="Take back the last turn of a thread: what the agent did to the files, and what was said. "
        "What you changed yourself meanwhile stays.",
    )
    parser.add_argument("id", nargs="?", help="the thread, or its first letters; the newest of this folder if left out")
    parser.add_argument("--last", action="store_true", help="the newest thread")
    parser.add_argument("--list", action="store_true", help="only list the turns that can be taken back")
    parser.add_argument("--turns", type=int, default=1, metavar="N", help="take back the last N turns")
    parser.add_argument("--files-only", action="store_true", help="leave the conversation as it is")
    options = parser.parse_args(argv)
    if options.turns < 1:
        raise UsageError("--turns takes a number from 1 on.")
    home = lathe_home(os.environ)
    path = find_thread(home, None if options.last else options.id, cwd=str(Path.cwd()))
    if options.list:
        sys.stdout.write(_table(list_turns(home, path)))
        return 0
    taken = undo(home, path, options.turns, files_only=options.files_only)
    sys.stdout.write(told(taken, files_only=options.files_only))
    return 1 if taken.conflicts else 0


def one_line(text: str, most: int) -> str:
    """Return the beginning of a text as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _table(rows: list[TurnRow]) -> str:
    if not rows:
        return "There is no turn to take back.\n"
    lines = []
    for back, row in enumerate(reversed(rows), 1):
        files = f"{row.files} file{'s' * (row.files != 1)}" if row.files else "no files"
        lines.append(f"{back:>3}  {files:<10}  {one_line(row.request, 100)}\n")
    return "".join(lines)


def told(taken: Taken, *, files_only: bool) -> str:
    """Return what a person is told of turns that were taken back."""
    lines: list[str] = []
    for row in taken.turns:
        what = "The files of" if files_only else "Took back"
        lines.append(f"{what} the turn “{one_line(row.request, 80)}”{' are as before' if files_only else ''}.")
    for verb, paths in (("restored", taken.restored), ("removed", taken.removed), ("your edits kept in", taken.merged)):
        lines += [f"  {verb} {path}" for path in paths[:_SHOWN]]
        lines += [f"  and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
    if not (taken.restored or taken.removed or taken.merged or taken.conflicts):
        lines.append("  No file was to be changed.")
    lines += [f"  left alone: {path}: {why}" for path, why in taken.conflicts]
    return "\n".join(lines) + "\n"
