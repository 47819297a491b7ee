"""`lathe`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.cli.options import parser, read_images, settings_for, working_directory
from lathe.config.paths import lathe_home
from lathe.config.settings import Settings
from lathe.protocol.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lathe.agent.workshop import Engine
    from lathe.tui.session import Start


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
    """Open the interactive session in `cwd`, with a first prompt or the journal of a thread to go on with."""
    try:
        import prompt_toolkit  # noqa: F401 - only to know that it is there
    except ImportError:
        raise UsageError(
            "The interactive session needs prompt_toolkit.",
            hint="pip install 'lathe[tui]' brings it; `lathe exec` works without.",
        ) from None
    from lathe.tui.session import Start

    home = lathe_home(os.environ)

    def settings(folder: Path, model: str | None) -> Settings:
        chosen = argparse.Namespace(**vars(options))
        chosen.model = model or options.model
        if model is not None and model != options.model:
            chosen.provider = None
        return settings_for(chosen, folder).settings

    start = Start(home, cwd, settings, _engine, prompt, read_images(options.image), resume)
    return asyncio.run(_converse(start, home / "history"))


async def _converse(start: Start, history: Path) -> int:
    from prompt_toolkit.patch_stdout import patch_stdout

    from lathe.tui.screen import Screen
    from lathe.tui.session import Session

    screen = Screen(history)
    session = Session(start, screen)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, screen.leave)
    # What a library writes by itself goes above the prompt and not across it.
    with patch_stdout(raw=True):
        await session.run()
    return int(ExitCode.DONE)


def _engine(settings: Settings) -> Engine:
    from lathe.cli.engine import open_engine

    return open_engine(settings, os.environ)
