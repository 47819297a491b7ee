"""One turn without a screen: events to stdout as JSON or to stderr as lines, the last message to stdout."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from lathe.agent.thread import Surface, Thread
from lathe.agent.workshop import Engine, Workshop
from lathe.cli.engine import open_engine
from lathe.cli.options import read_images, read_schema, settings_for
from lathe.cli.plain import plain
from lathe.cli.render import Renderer
from lathe.config.settings import Settings
from lathe.protocol.codec import encode
from lathe.protocol.errors import ExitCode, Interrupted, LatheError, StorageError, UsageError
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
    if thread.damaged:
        lines = f"lines that can't be read and are left out: {thread.damaged}"
        sys.stderr.write(f"lathe: The thread's journal is damaged; {lines}.\n")
    try:
        run = _run(thread, message, engine, settings=settings, home=home, cwd=cwd, schema=schema, as_json=options.json)
        try:
            failure = asyncio.run(run)
        finally:
            _ignore_signals()
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
    show = _write_json if as_json else Renderer().show
    opening = asyncio.ensure_future(workshop.open(thread.items))
    _stop_on_signals(thread, opening)
    try:
        surface = await _opened(opening)
        _warn(workshop)
        # Closed before anything else: the turn ends, and says so in the journal, while all it needs is there.
        async with aclosing(thread.run(message, surface)) as events:
            async for event in events:
                _warn(workshop)
                show(event)
        return thread.failure
    finally:
        await workshop.aclose()


def _warn(workshop: Workshop) -> None:
    for warning in workshop.new_warnings():
        sys.stderr.write(f"lathe: {warning}\n")


async def _opened(opening: asyncio.Future[Surface]) -> Surface:
    try:
        return await opening
    except asyncio.CancelledError:
        raise Interrupted("Interrupted before the turn began.") from None


def _stop_on_signals(thread: Thread, opening: asyncio.Future[Surface]) -> None:
    """Let signals interrupt the turn, or `opening` where it has not begun.

    The handlers are not those of the event loop, which end with it: the second ^C of an impatient person must not
    kill what the first one is tidying up. A signal that whoever started Lathe had ignored (`nohup`) stays ignored.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not thread.interrupt():
            opening.cancel()

    def handle(number: int, frame: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)

    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def _ignore_signals() -> None:
    """Let no further ^C undo the exit code: all that is left is to leave."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _write_json(event: Event) -> None:
    """Write one event as a line of JSON on stdout; raise `LatheError` where that can't be."""
    if isinstance(event, ItemDelta):
        return
    out = sys.stdout.buffer
    try:
        out.write(encode(event) + b"\n")
        out.flush()
    except BrokenPipeError:
        raise Interrupted(
            "The reader of standard output is gone, so the turn was stopped.", hint="`lathe resume` goes on with it."
        ) from None
    except OSError as error:
        raise _unwritten(error) from None
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
        try:
            sys.stdout.write(f"{plain(text) if sys.stdout.isatty() else text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritten(error) from None


def _unwritten(error: OSError) -> StorageError:
    return StorageError(f"Standard output can't be written: {error.strerror}.", hint="The thread is intact.")
