"""A thread: a conversation that lasts, one turn after another."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lathe import __version__
from lathe.agent.calls import CallRunner
from lathe.agent.compaction import Kept
from lathe.agent.context import differences, estimate_tokens, opening
from lathe.agent.conversation import Conversation
from lathe.agent.stopping import Stopper
from lathe.agent.turn import Turn, TurnLimits
from lathe.models.base import ModelClient, ModelRequest
from lathe.protocol.errors import Interrupted, LatheError, StorageError, TurnError
from lathe.protocol.events import (
    CallRejected,
    Event,
    EventError,
    FileUpdate,
    ThreadStarted,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from lathe.protocol.ids import new_id
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    ToolCall,
    output_for,
    text_of,
    user_message,
)
from lathe.protocol.usage import Usage
from lathe.store.journal import (
    EventRecord,
    ItemsRecord,
    Journal,
    Record,
    Replay,
    ThreadRecord,
    TurnEndRecord,
    TurnRecord,
    now_ms,
    replay,
)
from lathe.store.threads import journal_path

if TYPE_CHECKING:
    from lathe.agent.oversight import Oversight

_T = TypeVar("_T")
CRASHED = "Lathe stopped while this call ran. It may have had part of its effect: look before you repeat it."


class Surface:
    """What a thread runs on, made anew for each process: the model, the tools and what bounds them.

    `surroundings` is read at the start of each turn; `mentioned` gives the items that a prompt calls for beside
    itself, `noticed` those that changed files call for. `begin_turn` is told the id of each turn, `end_turn` is
    awaited when it is over, however it ended. `stopper` stops the turn and all that it runs,
    `oversight` looks at what it did.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        request: ModelRequest,
        calls: CallRunner,
        limits: TurnLimits,
        model: str,
        provider: str,
        surroundings: Callable[[], Mapping[str, str]],
        mentioned: Callable[[str], list[Item]],
        noticed: Callable[[Iterable[FileUpdate]], list[Item]],
        kept: Callable[[], Awaitable[Kept]],
        begin_turn: Callable[[str], None],
        end_turn: Callable[[], Coroutine[Any, Any, None]],
        stopper: Stopper,
        oversight: Oversight | None = None,
        deltas: bool = False,
    ) -> None:
        self.client = client
        self.request = request
        self.calls = calls
        self.limits = limits
        self.model = model
        self.provider = provider
        self.surroundings = surroundings
        self.mentioned = mentioned
        self.noticed = noticed
        self.kept = kept
        self.begin_turn = begin_turn
        self.end_turn = end_turn
        self.stopper = stopper
        self.oversight = oversight
        self.deltas = deltas


class Thread:
    """One thread, held by this process.

    `failure` is why the last turn failed, or None; `damaged` how many lines of the journal could not be read.
    """

    def __init__(self, journal: Journal, state: Replay, *, resumed: bool) -> None:
        self.id = state.header.id
        self.cwd = Path(state.header.cwd)
        self.failure: LatheError | None = None
        self.last_message = ""
        self.usage = state.usage
        self._journal = journal
        damaged = resumed and state.damaged
        items = without_orphans(state.items) if damaged else state.items
        self._conversation = Conversation(
            items, state.blocked, served=0 if damaged else state.served, refused=state.refused
        )
        self._context = dict(state.context)
        self._turns = state.turns
        self._resumed = resumed
        self._said_started = False
        self._inbox: deque[Message] = deque()
        self._turn: Turn | None = None
        self._task: asyncio.Task[None] | None = None
        self._interrupted = False
        self._halted: Awaitable[LatheError] | None = None
        self._compact_next = False
        self._pending: list[Record] = []
        last = state.last_step
        since = state.items[len(state.items) - state.items_since_step :] if state.items_since_step else []
        self._tokens = last.input_tokens + last.output_tokens + sum(map(estimate_tokens, since))
        if not last.input_tokens:
            self._tokens = sum(map(estimate_tokens, state.items))
        if resumed:
            self._mend_ends(state)
        self.damaged = state.damaged

    @classmethod
    def start(cls, home: Path, cwd: Path) -> Thread:
        """Begin a thread whose work is in `cwd`; raise `StorageError` where its journal can't be written."""
        thread_id = new_id()
        header = ThreadRecord(t=now_ms(), id=thread_id, cwd=str(cwd), lathe=__version__)
        journal = Journal.create(journal_path(home, thread_id), header)
        return cls(journal, Replay(header=header, items=[]), resumed=False)

    @classmethod
    def resume(cls, path: Path) -> Thread:
        """Go on with the thread whose journal lies at `path`; calls that were in flight are marked interrupted.

        Raises `UsageError` where it is missing, no journal or held by another process.
        """
        journal = Journal.open(path)
        try:
            return cls(journal, replay(path), resumed=True)
        except BaseException:
            journal.close()
            raise

    def steer(self, text: str, images: tuple[InputImage, ...] = ()) -> None:
        """Add what the person says while a turn runs; it is taken at the next step boundary."""
        self._inbox.append(user_message(text, images))

    def take_back(self) -> list[str]:
        """Return the words that were steered and not taken yet; the thread forgets them."""
        words = [text_of(message) for message in self._inbox]
        self._inbox.clear()
        return words

    def interrupt(self) -> bool:
        """End the running turn, and return whether there is one.

        Whatever runs is ended first, and the thread stays usable.
        """
        if self._task is None or self._task.done():
            return False
        self._interrupted = True
        self._task.cancel()
        return True

    def halt(self, failure: Awaitable[LatheError]) -> bool:
        """End the running turn with the error that `failure` gives, and return whether there is one.

        The turn waits for the error when all that runs in it has ended; the thread rests until its person says
        something.
        """
        if self._halted is None:
            self._halted = failure
        if self._turn is not None:
            self._turn.say_halted()
        return self.interrupt()

    def request_compaction(self) -> None:
        """Compact at the next step boundary: of the running turn, else of the next one."""
        if self._turn is not None:
            self._turn.compact_requested = True
        else:
            self._compact_next = True

    @property
    def usage_so_far(self) -> Usage:
        """What the thread has used, the finished steps of a running turn included."""
        return self.usage + self._turn.usage if self._turn is not None else self.usage

    @property
    def context_tokens(self) -> int:
        """How many tokens the conversation has, as far as is known."""
        return self._turn.tokens if self._turn is not None else self._tokens

    @property
    def items(self) -> tuple[Item, ...]:
        """The transcript as it stands, what is set aside too."""
        return tuple(self._conversation.items)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    async def run(self, message: Message, surface: Surface) -> AsyncGenerator[Event, None]:
        """Run one turn on `surface` and yield its events; `failure` and `last_message` are set at its end.

        Each event is in the journal before it is yielded. Closing the generator early interrupts the turn.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.failure = None
        self.last_message = ""
        self._interrupted = False
        self._halted = None
        self._task = asyncio.create_task(self._run_turn(message, surface, events.put_nowait))
        self._task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            self._task.result()
        finally:
            if not self._task.done():
                self.interrupt()
                await asyncio.gather(self._task, return_exceptions=True)

    async def _run_turn(self, message: Message, surface: Surface, show: Callable[[Event], None]) -> None:
        turn: Turn | None = None
        try:
            turn = self._turn = self._begin(message, surface, show)
            turn.compact_requested, self._compact_next = self._compact_next, False
            self.last_message = await turn.run()
        except asyncio.CancelledError:
            self.failure = Interrupted("The turn was interrupted.")
            if not self._interrupted:
                raise
        except LatheError as error:
            self.failure = error
        except Exception as error:
            self.failure = TurnError(
                f"Lathe itself failed: {type(error).__name__}: {error}.",
                hint="The thread is intact; --debug shows where.",
                code="internal",
            )
            self.failure.__cause__ = error
        finally:
            self._turn = None
            try:
                await _to_its_end(surface.end_turn())
                if self._halted is not None:
                    self.failure = await _to_its_end(self._halted)
            finally:
                self._finish(turn, show)

    def _begin(self, message: Message, surface: Surface, show: Callable[[Event], None]) -> Turn:
        context = dict(surface.surroundings())
        first = opening(context)
        told = differences(self._context, context) if self._conversation.items else first
        turn_id = new_id()
        surface.begin_turn(turn_id)
        surface.stopper.begin(self.halt)
        self._turns += 1
        started: list[Event] = []
        if not self._said_started:
            started.append(ThreadStarted(self.id, surface.model, surface.provider, resumed=self._resumed))
            self._said_started = True
        started.append(TurnStarted(turn_id))
        now = now_ms()
        items: tuple[Item, ...] = (*told, *surface.mentioned(text_of(message)), message)
        pending, self._pending = self._pending, []
        self._journal.append(
            *pending,
            TurnRecord(now, turn_id, surface.model, surface.provider, context),
            ItemsRecord(items),
            *(EventRecord(now, event) for event in started),
        )
        self._context = context
        self._conversation.append(items)
        for event in (*started, *(record.event for record in pending if isinstance(record, EventRecord))):
            show(event)
        surface.request.thread_id = self.id
        return Turn(
            journal=self._journal,
            client=surface.client,
            request=surface.request,
            conversation=self._conversation,
            calls=surface.calls,
            inbox=self._inbox,
            limits=surface.limits,
            show=show,
            tokens=self._tokens + sum(map(estimate_tokens, items)),
            opening=first,
            kept=surface.kept,
            noticed=surface.noticed,
            item_prefix=f"item_{self._turns}",
            deltas=surface.deltas,
            oversight=surface.oversight,
        )

    def _finish(self, turn: Turn | None, show: Callable[[Event], None]) -> None:
        usage = turn.usage if turn else Usage()
        steps = turn.steps if turn else 0
        self.usage = self.usage + usage
        if turn is not None:
            self._tokens = turn.tokens
        end: Event
        if self.failure is None and turn is not None:
            end = TurnCompleted(usage, steps, round((time.perf_counter() - turn.started) * 1000, 1))
        else:
            failure = self.failure or Interrupted("The turn was interrupted.")
            end = TurnFailed(EventError(str(failure), failure.code), usage, steps)
        try:
            now = now_ms()
            status = "completed" if isinstance(end, TurnCompleted) else "failed"
            self._journal.append(EventRecord(now, end), TurnEndRecord(now, status))
        except StorageError as error:
            self.failure = self.failure or error
        show(end)

    def _mend_ends(self, state: Replay) -> None:
        """Answer the calls that a crash left open; written with the next turn.

        Where a line is damaged its call is lost, and the output of it is left out, for no model takes that.
        """
        outputs = [output_for(call, CRASHED) for call in unanswered(self._conversation.items)]
        if outputs:
            now = now_ms()
            rejected = (CallRejected(o.call_id, "", "interrupted", CRASHED) for o in outputs)
            self._conversation.append(outputs)
            self._pending = [ItemsRecord(tuple(outputs)), *(EventRecord(now, event) for event in rejected)]
        if state.open_turn:
            self._pending.append(TurnEndRecord(now_ms(), "interrupted"))


async def _to_its_end(ending: Awaitable[_T]) -> _T:
    """Wait for `ending` however often the person interrupts it: what it ends would be left behind."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()


def without_orphans(items: Sequence[Item]) -> list[Item]:
    """Return the items without outputs that follow no call of theirs."""
    called: set[str] = set()
    kept: list[Item] = []
    for item in items:
        if isinstance(item, FunctionCall | CustomToolCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput | CustomToolCallOutput) and item.call_id not in called:
            continue
        kept.append(item)
    return kept


def unanswered(items: Sequence[Item]) -> list[ToolCall]:
    """Return the calls that have no output yet, in order."""
    answered = {item.call_id for item in items if isinstance(item, FunctionCallOutput | CustomToolCallOutput)}
    return [item for item in items if isinstance(item, FunctionCall | CustomToolCall) and item.call_id not in answered]
