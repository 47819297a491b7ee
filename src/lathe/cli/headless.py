"""One turn without a screen: events to stdout as JSON or to stderr as lines, the last message to stdout."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lathe.agent.thread import Thread
from lathe.agent.workshop import Engine, Workshop
from lathe.cli.engine import open_engine
from lathe.cli.options import read_images, read_schema, settings_for
from lathe.cli.render import Renderer
from lathe.config.settings import Settings
from lathe.protocol.codec import encode
from lathe.protocol.errors import ExitCode, LatheError, UsageError
from lathe.protocol.events import Event, ItemDelta, TurnFailed
from lathe.protocol.items import Message, user_message
from lathe.store.threads import spill_dir

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_turn(options: argparse.Namespace, prompt: str, home: Path, cwd: Path, open_thread: Callable[[], Thread]) -> int:
    """Run one turn of the thread that `open_thread` gives, as the options say; return the exit code.

    Everything that can be wrong with the options is found before the thread is opened.
    """
    settings = settings_for(options, cwd, approve="never").settings
    message = user_message(prompt, read_images(options.image))
    schema = read_schema(options.output_schema)
    out = _checked_output(options.output_last_message)
    engine = open_engine(settings, os.environ)
    thread = open_thread()
    try:
        run = _run(thread, message, engine, settings=settings, home=home, cwd=cwd, schema=schema, as_json=options.json)
        failure = asyncio.run(run)
        if failure is None:
            _finish(thread.last_message, out, as_json=options.json)
            return int(ExitCode.DONE)
        if failure.__cause__ is not None and "--debug" in sys.argv:
            raise failure
        return int(failure.exit_code)
    finally:
        thread.close()


async def _run(
    thread: Thread,
    message: Message,
    engine: Engine,
    *,
    settings: Settings,
    home: Path,
    cwd: Path,
    schema: dict[str, Any] | None,
    as_json: bool,
) -> LatheError | None:
    workshop = Workshop(
        settings,
        engine,
        home=home,
        cwd=cwd,
        spill=spill_dir(home, thread.id),
        environ=os.environ,
        output_schema=schema,
    )
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, thread.interrupt)
    show = write_json if as_json else Renderer().show
    try:
        surface = await workshop.open()
        for warning in workshop.warnings:
            sys.stderr.write(f"lathe: {warning}\n")
        async for event in thread.run(message, surface):
            show(event)
        return thread.failure
    finally:
        await workshop.aclose()


def write_json(event: Event) -> None:
    """Write one event as a line of JSON on stdout."""
    if isinstance(event, ItemDelta):
        return
    out = sys.stdout.buffer
    out.write(encode(event) + b"\n")
    out.flush()
    if isinstance(event, TurnFailed):
        sys.stderr.write(f"lathe: {event.error.message}\n")


def _checked_output(name: str | None) -> Path | None:
    if name is None:
        return None
    path = Path(name).expanduser()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"The last message can't be written to {name}.", hint="Give -o a file in an existing folder.")
    return path


def _finish(text: str, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        try:
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"The last message can't be written to {out}: {error.strerror}.") from None
    if not as_json:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
