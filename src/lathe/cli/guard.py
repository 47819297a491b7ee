"""`lathe guard`: the guard from the command line, a module for each group of commands."""

from __future__ import annotations

import sys
from importlib import import_module

GROUPS = {
    "drill": "whether an alarm stops what does not want to be stopped, and how fast",
    "intel": "what others reported: indicators, malicious packages, Sigma rules: add, sync, list, explain",
    "policy": "the taxonomy and the policy: show, test, diff, replay",
}


def main(argv: list[str]) -> int:
    """Run `lathe guard …` and return its exit code."""
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("--help", "-h"):
        sys.stdout.write(_help())
        sys.exit(0)
    if name not in GROUPS:
        sys.stderr.write(_help())
        return 2
    code: int = import_module(f"lathe.cli.guard_{name}").main(rest)
    return code


def _help() -> str:
    lines = [f"  {name:<10} {text}" for name, text in GROUPS.items()]
    return "\n".join(["usage: lathe guard GROUP ...", "", *lines, "", "Each group has its own --help.", ""])
