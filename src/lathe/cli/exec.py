"""`lathe exec`: one task, from the prompt to the result, in a thread of its own."""

from __future__ import annotations

import os

from lathe.agent.thread import Thread
from lathe.cli.headless import run_turn
from lathe.cli.options import parse, parser, read_prompt, working_directory
from lathe.config.paths import lathe_home


def main(argv: list[str]) -> int:
    """Run `lathe exec` and return its exit code."""
    options_of = parser("exec", "Work on a task until it is done.")
    options_of.add_argument("prompt", nargs="*", help="what to do; - reads it from standard input")
    options = parse(options_of, argv)
    cwd = working_directory(options)
    prompt = read_prompt(options.prompt)
    home = lathe_home(os.environ)
    return run_turn(options, prompt, home, cwd, lambda: Thread.start(home, cwd))
