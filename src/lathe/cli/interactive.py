"""`lathe`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lathe.cli.options import parser, working_directory
from lathe.protocol.errors import UsageError


def main(argv: list[str]) -> int:
    """Run `lathe [PROMPT]` and return its exit code."""
    options_of = parser("", "Work with Lathe in this terminal.", headless=False)
    options_of.add_argument("prompt", nargs="*", help="the first thing to do")
    options = options_of.parse_intermixed_args(argv)
    if not on_a_terminal():
        raise UsageError(
            "The interactive session needs a terminal on stdin and stdout.",
            hint='Without one, use `lathe exec "PROMPT"`, or `lathe exec -` to read the prompt from stdin.',
        )
    return converse(options, working_directory(options), prompt=" ".join(options.prompt))


def on_a_terminal() -> bool:
    """Return whether a person can be talked with."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def converse(options: argparse.Namespace, cwd: Path, *, prompt: str = "", resume: Path | None = None) -> int:
    """Talk with the person in `cwd` until they leave; return the exit code.

    `prompt` is the first thing to do, `resume` the journal of a thread to go on with.
    """
    from lathe.tui import conversation

    return conversation.converse(options, cwd, prompt, resume)
