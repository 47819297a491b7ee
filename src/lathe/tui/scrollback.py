"""Writing above the live region, so that the terminal's own scrollback holds the whole conversation."""

from __future__ import annotations

import asyncio
import contextlib

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.output import Output


class Scrollback:
    """A stream whose text appears above the prompt; what is written in one go is drawn in one go."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._waiting: list[str] = []
        self._writer: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        """Take text; it appears at the next turn of the event loop."""
        self._waiting.append(text)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def flush(self) -> None:
        """Do nothing: text never waits for a flush."""

    def isatty(self) -> bool:
        """Return True: there is no interactive session without a terminal."""
        return True

    async def drain(self) -> None:
        """Return when all text that was written is on the screen."""
        while self._writer is not None:
            await asyncio.shield(self._writer)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await run_in_terminal(self._put)
        finally:
            self._writer = None

    def _put(self) -> None:
        # What came while the region was being erased goes along.
        text, self._waiting = "".join(self._waiting), []
        with contextlib.suppress(OSError):  # the terminal went away; the journal has it all
            self._output.write_raw(text)
            self._output.flush()
