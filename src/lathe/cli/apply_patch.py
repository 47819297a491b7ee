"""`lathe apply-patch`: a patch from the argument or from stdin, applied in the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lathe.config.paths import lathe_home
from lathe.protocol.errors import ExitCode
from lathe.tools.patch import PatchError
from lathe.tools.patch_apply import apply_patch
from lathe.tools.patch_recovery import recover


def main(argv: list[str]) -> int:
    """Apply the patch and print what changed; return 0, 1 (one message on stderr, no file changed) or 2 (usage)."""
    try:
        text = _patch_text(argv)
    except OSError as error:
        print(f"lathe apply-patch: cannot read the patch: {error.strerror}", file=sys.stderr)
        return ExitCode.TURN_FAILED
    if text is None:
        print("lathe apply-patch: give a patch as the argument or on stdin.", file=sys.stderr)
        return ExitCode.USAGE
    try:
        # it is the person's own command: any folder, but never the inside of a repository's .git
        notes = lathe_home(os.environ) / "patches"
        recover(notes)
        result = apply_patch(text, Path.cwd(), protected=(".git",), notes=notes)
    except PatchError as error:
        print(f"lathe apply-patch: {error}", file=sys.stderr)
        return ExitCode.TURN_FAILED
    print(result.summary)
    return ExitCode.DONE


def _patch_text(argv: list[str]) -> str | None:
    """Return the patch, None where there is none to read."""
    if len(argv) > 1 or (argv and argv[0].startswith("-") and argv[0] != "-"):
        argv = _parsed(argv)
    if argv and argv[0] != "-":
        return argv[0]
    if sys.stdin is None or sys.stdin.isatty():
        return None
    # bytes that are no UTF-8 go through unchanged
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape") or None


def _parsed(argv: list[str]) -> list[str]:
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="lathe apply-patch",
        description="Apply a patch ('*** Begin Patch' ... '*** End Patch') to files: all of it or nothing.",
    )
    parser.add_argument("patch", nargs="?", help="the patch; without it, or with '-', it is read from stdin")
    patch = parser.parse_args(argv).patch
    return [] if patch is None else [patch]
