"""`lathe resume`: go on with a thread."""

from __future__ import annotations

import os
from pathlib import Path

from lathe.agent.thread import Thread
from lathe.cli.headless import run_turn
from lathe.cli.interactive import converse, on_a_terminal
from lathe.cli.options import parse, parser, read_prompt
from lathe.config.paths import lathe_home
from lathe.protocol.errors import UsageError
from lathe.store.journal import replay
from lathe.store.threads import find_thread

GO_ON = "Go on where you stopped."


def main(argv: list[str]) -> int:
    """Run `lathe resume [ID | --last] [PROMPT]` and return its exit code."""
    about = "Go on with a thread; without words: in this terminal, or where it stopped if there is none."
    options_of = parser("resume", about)
    options_of.add_argument("--last", action="store_true", help="the newest thread, of this folder if it has one")
    options_of.add_argument("words", nargs="*", metavar="ID PROMPT", help="the thread, then what to do next")
    options = parse(options_of, argv)
    words = list(options.words)
    home = lathe_home(os.environ)
    if options.last:
        wanted = None
    elif words:
        wanted = words.pop(0)
    else:
        raise UsageError("Say which thread.", hint="`lathe resume --last`, or an id from `lathe threads`.")
    path = find_thread(home, wanted, cwd=str(Path(options.cd).resolve()))
    prompt = read_prompt(words, required=False)
    cwd = Path(replay(path).header.cwd)
    if not cwd.is_dir():
        raise UsageError(f"The thread worked in {cwd}, which is not there any more.")
    shaped = options.json or options.output_last_message or options.output_schema
    if not prompt and not shaped and on_a_terminal():
        return converse(options, cwd, resume=path)
    return run_turn(options, prompt or GO_ON, home, cwd, lambda: Thread.resume(path))
