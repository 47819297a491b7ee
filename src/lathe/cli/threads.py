"""`lathe threads`: the threads there are."""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
from pathlib import Path

from lathe.config.paths import lathe_home
from lathe.protocol.codec import encode
from lathe.store.threads import list_threads


def main(argv: list[str]) -> int:
    """Run `lathe threads [--here] [--json]` and return its exit code."""
    parser = argparse.ArgumentParser(prog="lathe threads", description="List threads, newest first.")
    parser.add_argument("--here", action="store_true", help="only those that began in this folder")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-n", type=int, default=None, metavar="N", help="the N newest")
    options = parser.parse_args(argv)
    found = list_threads(lathe_home(os.environ), cwd=str(Path.cwd()) if options.here else None)[: options.n]
    width = shutil.get_terminal_size((120, 24)).columns
    for thread in found:
        if options.json:
            sys.stdout.write(encode(thread).decode() + "\n")
            continue
        when = datetime.datetime.fromtimestamp(thread.updated / 1000).astimezone().strftime("%Y-%m-%d %H:%M")
        title = " ".join(thread.title.split())
        line = f"{thread.id}  {when}  {Path(thread.cwd).name}  {title}"
        sys.stdout.write((line if len(line) <= width else line[: width - 1] + "…") + "\n")
    if not found:
        sys.stderr.write("lathe: there are no threads yet.\n")
    return 0
