"""Stopping an agent: its network is cut, all that it started is killed, its thread rests, and it is seen to be so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from lathe.protocol.errors import LatheError, SafeguardStop

if TYPE_CHECKING:
    from lathe.sandbox.stopping import Stopped
    from lathe.tools.sessions import CommandSessions

Halt: TypeAlias = Callable[["Awaitable[LatheError]"], bool]
"""Ends the running turn of a thread, which waits for the error that it fails with; returns whether one runs."""
GO_ON: Final = "Say something to go on with the thread."
_UNSTARTED: Final = "Nothing is started any more: the agent was stopped"


def _nobody(_failure: Awaitable[LatheError]) -> bool:
    return False


class Stopper:
    """Stops what one thread runs. `halt` ends its turn; the thread sets it when a turn begins.

    `last` is what the last stop has come to, None before the first.
    """

    def __init__(self, sessions: CommandSessions) -> None:
        self.halt: Halt = _nobody
        self.last: Stopped | None = None
        self._sessions = sessions
        self._stopping: asyncio.Task[Stopped] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, halt: Halt) -> None:
        """A turn begins, because the person wants it: what was stopped may start again."""
        self.halt = halt
        self._loop = asyncio.get_running_loop()
        self._sessions.resume()

    async def stop(self, why: str, *, code: str = "agent_stopped", began: float | None = None) -> Stopped:
        """Stop the agent for the reason `why`, a sentence for the person, and return what is left of it.

        The turn ends with `SafeguardStop`: who calls this from within it is cancelled, once it is stopped or before.
        `began` is the `time.monotonic` of the alarm. A second alarm waits for the first one's stop.
        """
        if self._stopping is None or self._stopping.done():
            self._stopping = asyncio.get_running_loop().create_task(self._stop(why, code, began))
        return await asyncio.shield(self._stopping)

    async def _stop(self, why: str, code: str, began: float | None) -> Stopped:
        failure: asyncio.Future[LatheError] = asyncio.get_running_loop().create_future()
        self.halt(failure)
        try:
            self.last = await self._sessions.stop(f"{_UNSTARTED}. {why}", began=began)
        except BaseException as error:
            failure.set_result(SafeguardStop(f"{why} Stopping it failed: {error}.", hint=GO_ON, code=code))
            raise
        failure.set_result(_failure(why, self.last, code))
        return self.last

    def stop_now(self, why: str, *, code: str = "agent_stopped", began: float | None = None) -> Stopped:
        """Do the same from another thread, even where the event loop hangs; the turn ends as soon as that goes on."""
        loop = self._loop
        halting: list[asyncio.Future[LatheError]] = []

        def halt() -> None:
            halting.append(asyncio.get_running_loop().create_future())
            self.halt(halting[0])

        def fail(error: LatheError) -> None:
            halting[0].set_result(error)

        if loop is None or loop.is_closed():
            self.last = self._sessions.stop_now(f"{_UNSTARTED}. {why}", began=began)
            return self.last
        # before anything is killed: the model must not be asked what to do about it
        loop.call_soon_threadsafe(halt)
        try:
            self.last = self._sessions.stop_now(f"{_UNSTARTED}. {why}", began=began)
        except BaseException as error:
            failed = SafeguardStop(f"{why} Stopping it failed: {error}.", hint=GO_ON, code=code)
            loop.call_soon_threadsafe(fail, failed)
            raise
        loop.call_soon_threadsafe(fail, _failure(why, self.last, code))
        return self.last


def _failure(why: str, stopped: Stopped, code: str) -> SafeguardStop:
    return SafeguardStop(f"{why} {stopped.sentence()}", hint=GO_ON, code=code)
