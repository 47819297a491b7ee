"""The screen: a prompt that is always there, a live region above it, and the scrollback above that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import ConditionalContainer, Dimension, HSplit, Layout, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style

from lathe.tui.history import PromptHistory
from lathe.tui.keys import bindings
from lathe.tui.scrollback import Scrollback
from lathe.tui.view import Fragments

INPUT_ROWS = 10
REFRESH_S = 0.12
TWICE_S = 1.0
"""A second Ctrl-C within this many seconds leaves."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STYLE = Style.from_dict(
    {"dim": "#888888", "accent": "ansicyan bold", "ask": "ansiyellow", "mark": "ansicyan", "bottom-toolbar": ""}
)

ENDING_S = 2.0


class Face(Protocol):
    """Who is told what the person does, and what stands in the live region."""

    def submit(self, text: str) -> None:
        """The person ended an input."""
        ...

    def interrupt(self) -> bool:
        """The person wants what runs to stop; return whether anything did."""
        ...

    def live(self, width: int) -> Fragments:
        """Return the lines that go on from the scrollback."""
        ...

    def waiting(self, width: int) -> Fragments:
        """Return the lines that belong to the prompt: what was sent and not read yet."""
        ...

    def status(self) -> str:
        """Return what the turn is at, "" while none runs."""
        ...

    def suggestions(self, text: str) -> list[tuple[str, str]]:
        """Return the commands that `text` may become, each with what it does."""
        ...


class Screen:
    """The terminal of one session. `scrollback` is where finished lines go."""

    def __init__(self, history: Path) -> None:
        self._face: Face | None = None
        self._question: asyncio.Future[str] | None = None
        self._hint = ""
        self._draft = ""
        self._pressed = float("-inf")
        self._ticker: asyncio.Task[None] | None = None
        self.leaving = False
        self._left = asyncio.Event()
        self.warning = ""
        output = create_output()
        self.scrollback = Scrollback(output)
        self.buffer = Buffer(multiline=True, history=PromptHistory(history), enable_history_search=True)
        self.app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=bindings(self),
            style=_STYLE,
            output=output,
            erase_when_done=True,
        )
        # An escape byte alone is the Esc key; a terminal sends the rest of a sequence at once.
        self.app.ttimeoutlen = 0.05
        self.app.timeoutlen = 0.25

    async def run(self, face: Face, ready: Callable[[], None]) -> None:
        """Show the screen until the person leaves; `ready` is called once, when it is there."""
        self._face = face

        def begin() -> None:
            ready()
            if self.leaving:  # asked to before there was anything to end
                self.app.exit()

        watch = asyncio.create_task(self._watch_terminal())
        running = asyncio.create_task(self.app.run_async(pre_run=begin))
        left = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({running, left}, return_when=asyncio.FIRST_COMPLETED)
            # Where the terminal went in the middle of a write, the library waits for that write for ever.
            await asyncio.wait({running}, timeout=ENDING_S)
        finally:
            for task in (watch, left, running):
                task.cancel()
            ended = await asyncio.gather(running, watch, left, return_exceptions=True)
        if isinstance(ended[0], Exception) and not isinstance(ended[0], EOFError | OSError):
            raise ended[0]  # the other two say that the terminal went away

    async def _watch_terminal(self) -> None:
        """Leave when the terminal is gone: its end reads as an error that the library takes for silence."""
        import select

        poll = select.poll()
        poll.register(0, 0)
        while True:
            if any(event & (select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0)):
                self.leave()
                return
            await asyncio.sleep(1)

    def leave(self) -> None:
        """End `run`."""
        self.leaving = True
        self._left.set()
        if self.app.future is not None and not self.app.future.done():
            self.app.exit()

    async def ask(self, hint: str) -> str:
        """Return the person's next input; meanwhile `hint` stands above the prompt and a half-typed line waits."""
        self._draft, self._hint = self.buffer.text, hint
        self.buffer.reset()
        self._question = asyncio.get_running_loop().create_future()
        self.app.invalidate()
        try:
            return await self._question
        finally:
            self._question = None
            self.restore(self._draft)

    def restore(self, text: str) -> None:
        """Put `text` before what stands at the prompt, to be edited."""
        whole = "\n".join(part for part in (text, self.buffer.text) if part)
        self.buffer.document = Document(whole)
        self.app.invalidate()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the status moving in the body."""
        self._ticker = asyncio.get_running_loop().create_task(self._tick())
        try:
            yield
        finally:
            self._ticker.cancel()
            self._ticker = None
            self.app.invalidate()

    # What the keys do.

    def enter(self) -> None:
        """Take the input, unless its line ends with a backslash: then it goes on in the next one."""
        document = self.buffer.document
        if _continues(document.current_line) and document.is_cursor_at_the_end_of_line:
            self.buffer.delete_before_cursor()
            self.buffer.insert_text("\n")
            return
        text = self.buffer.text
        if self._question is not None:
            if not self._question.done():
                self.buffer.reset()
                self._question.set_result(text)
            return
        if text.strip() and self._face is not None:
            self.buffer.append_to_history()
            self.buffer.reset()
            self._face.submit(text)

    def cancel(self) -> None:
        """Ctrl-C: clear the line, else stop what runs; twice, leave."""
        now = time.monotonic()
        again = now - self._pressed < TWICE_S
        self._pressed = now
        if again:
            self.leave()
        elif self.buffer.text:
            self.buffer.reset()
            self._pressed = float("-inf")
        elif not self.stop():
            self.warning = "Ctrl-C again, Ctrl-D or /quit leaves"
            asyncio.get_running_loop().call_later(TWICE_S, self._unwarn)
        self.app.invalidate()

    def stop(self) -> bool:
        """Stop what runs; return whether anything did."""
        return self._face is not None and self._face.interrupt()

    def complete(self) -> None:
        """Tab: complete a command as far as it is clear."""
        names = [name for name, _ in self._suggestions()]
        common = _common_start(names)
        if len(common) > len(self.buffer.text) or len(names) == 1:
            self.buffer.document = Document(common + (" " if len(names) == 1 else ""))

    @property
    def is_busy(self) -> bool:
        """Whether a turn runs."""
        return self._ticker is not None

    @property
    def asks(self) -> bool:
        """Whether a question waits for its answer."""
        return self._question is not None

    # What is drawn.

    def _layout(self) -> Layout:
        above = Window(FormattedTextControl(self._above), dont_extend_height=True, wrap_lines=True)
        prompt = Window(
            BufferControl(self.buffer),
            height=Dimension(min=1, max=INPUT_ROWS),
            dont_extend_height=True,
            wrap_lines=True,
            get_line_prefix=self._prefix,
        )
        below = ConditionalContainer(
            Window(FormattedTextControl(self._below), dont_extend_height=True),
            Condition(lambda: bool(self._suggestions() or self.warning)),
        )
        return Layout(HSplit([above, prompt, below]), focused_element=prompt)

    def _above(self) -> StyleAndTextTuples:
        width = self.app.output.get_size().columns
        lines: Fragments = []
        if self._face is not None:
            lines = [*self._face.live(width), ("", ""), *self._face.waiting(width)]
            if self._question is not None:
                lines.append(("class:ask", self._hint))
            elif status := self._face.status():
                frame = _SPINNER[int(time.monotonic() / REFRESH_S) % len(_SPINNER)]
                lines.append(("class:dim", f"{frame} {status}"[: width - 1]))
        joined: StyleAndTextTuples = []
        for index, (style, text) in enumerate(lines):
            joined.append((style, text if index == len(lines) - 1 else text + "\n"))
        return joined

    def _below(self) -> StyleAndTextTuples:
        if self.warning:
            return [("class:dim", f"  {self.warning}")]
        lines = [f"  {name:<14} {does}" for name, does in self._suggestions()]
        return [("class:dim", "\n".join(lines))]

    def _prefix(self, line: int, wrapped: int) -> StyleAndTextTuples:
        if line or wrapped:
            return [("", "  ")]
        return [("class:ask", "? ")] if self._question is not None else [("class:accent", "› ")]

    def _suggestions(self) -> list[tuple[str, str]]:
        if self._face is None or self._question is not None:
            return []
        return self._face.suggestions(self.buffer.text)

    def _unwarn(self) -> None:
        self.warning = ""
        self.app.invalidate()

    async def _tick(self) -> None:
        while True:
            self.app.invalidate()
            await asyncio.sleep(REFRESH_S)


def _continues(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _common_start(names: list[str]) -> str:
    if not names:
        return ""
    first, last = min(names), max(names)
    same = next((index for index, letter in enumerate(first) if last[index : index + 1] != letter), len(first))
    return first[:same]
