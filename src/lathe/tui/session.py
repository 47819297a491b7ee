"""An interactive session: what the person types becomes turns, steering, answers and commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lathe import __version__
from lathe.config.settings import Settings
from lathe.protocol.errors import LatheError
from lathe.protocol.events import Event, InputSteered
from lathe.protocol.items import InputImage, user_message
from lathe.tui import slash
from lathe.tui.commands import run_command
from lathe.tui.screen import Screen
from lathe.tui.view import Fragments, View

if TYPE_CHECKING:
    from lathe.agent.approvals import ApprovalAnswer, ApprovalQuestion
    from lathe.agent.thread import Surface, Thread
    from lathe.agent.undo import Taken
    from lathe.agent.workshop import Engine, Workshop


CLOSING_S = 15.0


class Start(NamedTuple):
    """How a session begins: `settings` reads the settings for a folder, with a model in place of the configured one."""

    home: Path
    cwd: Path
    settings: Callable[[Path, str | None], Settings]
    engine: Callable[[Settings], Engine]
    prompt: str = ""
    images: tuple[InputImage, ...] = ()
    resume: Path | None = None


class Session:
    """One person at one terminal, with one thread at a time; everything heavy is made at the first prompt."""

    def __init__(self, start: Start, screen: Screen) -> None:
        self.start = start
        self.screen = screen
        self.view = View(screen.scrollback)
        self.home = start.home
        self.cwd = start.cwd
        self.settings = start.settings(start.cwd, None)
        self.engine: Engine | None = start.engine(self.settings)
        self.model = self.engine.name
        self.provider = self.engine.provider
        self.thread: Thread | None = None
        self.workshop: Workshop | None = None
        self._surface: Surface | None = None
        self._granted: set[tuple[str, ...]] = set()
        self._images = start.images
        self._turn: asyncio.Task[None] | None = None
        self._running = False
        self._began = 0.0
        self._queued: deque[str] = deque()
        self._chores: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Be there until the person leaves."""
        # Before there is a prompt, so that nothing has to be drawn around it.
        self._greet()
        await self.screen.scrollback.drain()
        try:
            await self.screen.run(self, self._begin)
        finally:
            # Whatever does not end in time ends with the process: what was started dies with it, the journal has it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await self._close()

    # What the screen calls.

    def submit(self, text: str) -> None:
        """Take an input: a command, words for the turn that runs, or the prompt of the next one."""
        command = slash.parse(text)
        if command is not None:
            self.view.command(text.strip())
            self._chore(command)
        elif self.busy:
            self._queued.append(text)
            if self._running and self.thread is not None:
                self.thread.steer(text)
        else:
            self.begin_turn(text)

    def interrupt(self) -> bool:
        """End the running turn; return whether one ran."""
        if not self.busy or self._turn is None:
            return False
        if not (self._running and self.thread is not None and self.thread.interrupt()):
            self._turn.cancel()
        return True

    def live(self, width: int) -> Fragments:
        """Return the unfinished lines of the turn."""
        return self.view.live(width)

    def waiting(self, width: int) -> Fragments:
        """Return what was said and waits to be read by the model."""
        return [("class:dim", f"› {' '.join(text.split())}"[: width - 12] + "  (waiting)") for text in self._queued]

    def status(self) -> str:
        """Return how long the turn runs and what it has used."""
        if not self.busy:
            return ""
        parts = ["working" if self._running else "starting", f"{time.monotonic() - self._began:.0f} s"]
        if self.thread is not None and (used := self.thread.usage_so_far).input_tokens:
            parts.append(f"{used.input_tokens + used.output_tokens:,} tokens")
        return " · ".join([*parts, "Esc or Ctrl-C interrupts"])

    def suggestions(self, text: str) -> list[tuple[str, str]]:
        """Return the slash commands that `text` may become."""
        return slash.suggestions(text)

    # What commands call.

    @property
    def busy(self) -> bool:
        """Whether a turn runs or is about to."""
        return self._turn is not None and not self._turn.done()

    async def set_model(self, name: str) -> None:
        """Ask `name` from the next turn on; raise `LatheError` and change nothing where that can't be."""
        settings = self.start.settings(self.cwd, name)
        engine = self.start.engine(settings)
        if not self.busy:
            await self._close_workshop()
        await self._use(settings, engine)

    async def new_thread(self) -> None:
        """Let go of the thread; the next prompt begins another."""
        await self._close_workshop()
        self._granted.clear()
        if self.thread is not None:
            self.thread.close()
            self.thread = None

    async def resume_thread(self, path: Path) -> None:
        """Go on with the thread whose journal lies at `path`, in the folder where it worked."""
        from lathe.agent.thread import Thread

        thread = Thread.resume(path)
        try:
            settings = self.start.settings(thread.cwd, self.model if thread.cwd == self.cwd else None)
            engine = self.start.engine(settings)
        except BaseException:
            thread.close()
            raise
        await self.new_thread()
        self.cwd = thread.cwd
        self.thread = thread
        await self._use(settings, engine)

    async def take_back(self, count: int, *, files_only: bool) -> Taken:
        """Take back the last `count` turns of the thread, which goes on from there; raise `LatheError`."""
        from lathe.agent.thread import Thread
        from lathe.agent.undo import undo
        from lathe.store.threads import journal_path

        assert self.thread is not None
        path = journal_path(self.home, self.thread.id)
        await self._close_workshop()
        self.thread.close()
        self.thread = None
        try:
            return await asyncio.to_thread(undo, self.home, path, count, files_only=files_only)
        finally:
            self.thread = Thread.resume(path)

    def begin_turn(self, text: str) -> None:
        """Start a turn with `text`."""
        self.view.said(text)
        self._began = time.monotonic()
        self._turn = asyncio.create_task(self._run_turn(text))

    # The turn.

    async def _run_turn(self, text: str) -> None:
        with self.screen.busy():
            try:
                thread, surface = await self._ready()
                message = user_message(text, self._images)
                self._images = ()
                self._running = True
                for words in self._queued:
                    thread.steer(words)
                async with contextlib.aclosing(thread.run(message, surface)) as events:
                    async for event in events:
                        self._show(event)
                failure = thread.failure
            except LatheError as error:
                failure = error
                self.view.problem(str(error))
            except asyncio.CancelledError:
                failure = LatheError("interrupted")
                self.view.note("lathe: interrupted before the turn began", "yellow")
            finally:
                self._running = False
        self._turn = None
        self._after(failure)

    def _show(self, event: Event) -> None:
        if isinstance(event, InputSteered) and event.text in self._queued:
            self._queued.remove(event.text)
        self._warn()
        self.view.show(event)
        self.screen.app.invalidate()

    def _warn(self) -> None:
        for warning in self.workshop.new_warnings() if self.workshop is not None else ():
            self.view.note(f"lathe: {warning}", "yellow")

    def _after(self, failure: LatheError | None) -> None:
        """Words that came too late for the turn: after a good end they are the next prompt, else to be edited."""
        if self.thread is not None:
            self.thread.take_back()
        if not self._queued:
            return
        words = "\n".join(self._queued)
        self._queued.clear()
        if failure is None:
            self.begin_turn(words)
        else:
            self.screen.restore(words)

    async def _ready(self) -> tuple[Thread, Surface]:
        """Return the thread and its surface, made now if they are not there yet."""
        from lathe.agent.thread import Thread
        from lathe.agent.workshop import Workshop
        from lathe.store.threads import spill_dir

        if self.engine is not None:
            await self._close_workshop()
        if self.thread is None:
            self.thread = Thread.start(self.home, self.cwd)
        if self.workshop is None or self._surface is None:
            engine = self.engine or self.start.engine(self.settings)
            self.workshop = Workshop(
                self.settings,
                engine,
                home=self.home,
                cwd=self.cwd,
                spill=spill_dir(self.home, self.thread.id),
                environ=os.environ,
                ask_approval=self._ask_approval,
                ask_user=self._ask_user,
                deltas=True,
            )
            self.engine = None
            self.workshop.granted.update(self._granted)
            self._surface = await self.workshop.open(self.thread.items)
            self._warn()
        return self.thread, self._surface

    async def _ask_approval(self, question: ApprovalQuestion) -> ApprovalAnswer:
        from lathe.tui.questions import ask_approval

        return await ask_approval(question, self.view, self.screen)

    async def _ask_user(self, question: str, options: tuple[str, ...]) -> str | None:
        from lathe.tui.questions import ask_user

        return await ask_user(question, options, self.view, self.screen)

    # Beginning and end.

    def _greet(self) -> None:
        folder = str(self.cwd)
        person = os.environ.get("HOME", "")
        if person and (folder == person or folder.startswith(person + "/")):
            folder = "~" + folder[len(person) :]
        self.view.note(f"Lathe {__version__} · {self.model} · {folder}", "bold")
        self.view.note(f"sandbox {self.settings.sandbox} · approvals {self.settings.approve} · /help lists commands")

    def _begin(self) -> None:
        if self.start.resume is not None:
            self._chore(slash.Command("/resume", str(self.start.resume), known=True))
        elif self.start.prompt:
            self.begin_turn(self.start.prompt)

    def _chore(self, command: slash.Command) -> None:
        task = asyncio.create_task(self._run_chore(command))
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _run_chore(self, command: slash.Command) -> None:
        try:
            await run_command(self, command)
        except LatheError as error:
            self.view.problem(str(error))

    async def _use(self, settings: Settings, engine: Engine) -> None:
        unused, self.engine = self.engine, engine
        self.settings = settings
        self.model, self.provider = engine.name, engine.provider
        if unused is not None:
            await unused.client.aclose()

    async def _close_workshop(self) -> None:
        workshop, self.workshop, self._surface = self.workshop, None, None
        if workshop is not None:
            self._granted = set(workshop.granted)
            await workshop.aclose()

    async def _close(self) -> None:
        self.interrupt()
        waiting = [task for task in (self._turn, *self._chores) if task is not None]
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._close_workshop()
        if self.engine is not None:
            await self.engine.client.aclose()
        if self.thread is not None:
            self.thread.close()
            self.view.note(f"To go on with this thread: lathe resume {self.thread.id}")
        await self.screen.scrollback.drain()
