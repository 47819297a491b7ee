"""From the command line to a session on the screen."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from prompt_toolkit.patch_stdout import patch_stdout

from lathe.cli.engine import open_engine
from lathe.cli.options import read_images, settings_for
from lathe.config.paths import lathe_home
from lathe.config.settings import Settings
from lathe.protocol.errors import ExitCode
from lathe.tui.screen import Screen
from lathe.tui.session import Session, Start


def converse(options: argparse.Namespace, cwd: Path, prompt: str, resume: Path | None) -> int:
    """Open a session in `cwd` and return the exit code when the person leaves.

    Raises `LatheError` for what is wrong with the options, before anything is drawn.
    """
    home = lathe_home(os.environ)

    def settings(folder: Path, model: str | None) -> Settings:
        chosen = argparse.Namespace(**vars(options))
        if model is not None and model != options.model:
            chosen.model, chosen.provider = model, None
        return settings_for(chosen, folder).settings

    start = Start(
        home=home,
        cwd=cwd,
        settings=settings,
        engine=lambda settings: open_engine(settings, os.environ),
        prompt=prompt,
        images=read_images(options.image),
        resume=resume,
    )
    return asyncio.run(_converse(start))


async def _converse(start: Start) -> int:
    screen = Screen(start.home / "history")
    session = Session(start, screen)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, screen.leave)
    # What a library writes by itself goes above the prompt and not across it.
    with patch_stdout(raw=True):
        await session.run()
    return int(ExitCode.DONE)
