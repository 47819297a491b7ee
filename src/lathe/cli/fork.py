"""`lathe fork`: a copy of a thread, to go another way from the same place."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lathe.config.paths import lathe_home
from lathe.protocol.errors import UsageError
from lathe.store.threads import find_thread, fork_thread


def main(argv: list[str]) -> int:
    """Run `lathe fork [ID | --last] [PROMPT]` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="lathe fork",
        description="Copy a thread; with a prompt, go on with the copy. Options of `lathe resume` are passed on.",
    )
    parser.add_argument("id", nargs="?", help="the thread, or its first letters")
    parser.add_argument("--last", action="store_true", help="the newest thread, of this folder if it has one")
    options, rest = parser.parse_known_args(argv)
    home = lathe_home(os.environ)
    if options.last and options.id is not None:
        rest.insert(0, options.id)
        options.id = None
    if options.id is None and not options.last:
        raise UsageError("Say which thread.", hint="`lathe fork --last`, or an id from `lathe threads`.")
    source = find_thread(home, None if options.last else options.id, cwd=str(Path.cwd()))
    thread_id = fork_thread(home, source)
    if not rest:
        sys.stdout.write(f"{thread_id}\n")
        return 0
    sys.stderr.write(f"lathe: forked {source.stem} as {thread_id}\n")
    from lathe.cli.resume import main as resume

    return resume([thread_id, *rest])
