"""One turn: from the person's words to the model's rest."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lathe.agent.calls import HALTED, INTERRUPTED, CallRunner
from lathe.agent.compaction import Kept, ask_for_handover, compacted
from lathe.agent.context import budget_note, estimate_tokens
from lathe.models.base import (
    Completed,
    ItemDone,
    ModelClient,
    ModelRequest,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
    Transcript,
)
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import ContextOverflow, ModelFailed, TurnError
from lathe.protocol.events import (
    AgentMessage,
    ContextCompacted,
    ErrorItem,
    Event,
    FileChange,
    FileUpdate,
    InputSteered,
    ItemCompleted,
    ItemDelta,
    ReasoningSummary,
    StepRetry,
)
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    Reasoning,
    ToolCall,
    ToolOutput,
    text_of,
    user_message,
)
from lathe.protocol.usage import Usage
from lathe.store.journal import CompactedRecord, EventRecord, ItemsRecord, Journal, Record, StepRecord, now_ms

if TYPE_CHECKING:
    from lathe.agent.oversight import Oversight

MAX_REJECTED_IN_A_ROW = 12
MAX_CONTINUATIONS = 3
BUDGET_MARKS = (0.5, 0.75, 0.9)


class TurnLimits(msgspec.Struct, frozen=True):
    """`window` is the model's context in tokens, `compact_at` the share of it at which it is compacted."""

    window: int
    compact_at: float = 0.85
    max_steps: int | None = None


class Turn:
    """The state of one turn; the thread makes one for each and reads `usage`, `steps` afterwards."""

    def __init__(
        self,
        *,
        journal: Journal,
        client: ModelClient,
        request: ModelRequest,
        calls: CallRunner,
        inbox: deque[Message],
        limits: TurnLimits,
        show: Callable[[Event], None],
        tokens: int,
        opening: Sequence[Item],
        kept: Callable[[], Awaitable[Kept]],
        noticed: Callable[[Sequence[FileUpdate]], list[Item]],
        item_prefix: str,
        deltas: bool,
        oversight: Oversight | None = None,
    ) -> None:
        self._journal = journal
        self._client = client
        self._request = request
        self._transcript: Transcript = request.transcript
        self._calls = calls
        calls.interruption = INTERRUPTED
        self._inbox = inbox
        self._limits = limits
        self._show = show
        self._opening = opening
        self._kept = kept
        self._noticed = noticed
        self._changes: list[FileUpdate] = []
        self._oversight = oversight
        self._item_prefix = item_prefix
        self._deltas = deltas
        self._item_count = 0
        self._told_mark = max((mark for mark in BUDGET_MARKS if tokens >= mark * self._limit), default=0.0)
        self._answered: set[str] = set()
        self.tokens = tokens
        self.usage = Usage()
        self.steps = 0
        self.started = time.perf_counter()
        self.compact_requested = False

    # What calls and steps report to.

    def emit(self, event: Event, *records: Record) -> None:
        """Journal `records` and `event`, then show the event."""
        self._journal.append(*records, EventRecord(now_ms(), event))
        self._show(event)

    def show(self, event: Event) -> None:
        """Show an event that a later one supersedes."""
        self._show(event)

    def next_item_id(self) -> str:
        """Return an id for a shown item, unique in the thread."""
        self._item_count += 1
        return f"{self._item_prefix}_{self._item_count}"

    def answered(self, output: ToolOutput, event: Event) -> None:
        """Keep the output of a call."""
        self.emit(event, ItemsRecord((output,)))
        self._answered.add(output.call_id)
        self._join((output,))
        if isinstance(event, ItemCompleted) and isinstance(event.item, FileChange):
            self._changes += event.item.changes

    def is_answered(self, call_id: str) -> bool:
        """Return whether the call has its output."""
        return call_id in self._answered

    def add(self, items: Sequence[Item]) -> None:
        """Keep items that nobody is shown."""
        if items:
            self._journal.append(ItemsRecord(tuple(items)))
            self._join(items)

    def _join(self, items: Sequence[Item]) -> None:
        self._transcript.append(items)
        self.tokens += sum(map(estimate_tokens, items))

    def say_halted(self) -> None:
        """Let calls that are cut short from now on be answered with why: it is not the person who interrupts."""
        self._calls.interruption = HALTED

    # The loop.

    async def run(self) -> str:
        """Work until the model rests; return its last message. Raises `LatheError` and `CancelledError`."""
        continuations = 0
        while True:
            if self._limits.max_steps is not None and self.steps >= self._limits.max_steps:
                raise TurnError(f"The turn was stopped after {self.steps} steps.", hint="Raise max_steps to go on.")
            self._take_inbox()
            await self._make_room()
            items, stop = await self._step()
            if self._oversight is not None:
                self._tell(await self._oversight.look(self._transcript.items))
            calls: list[ToolCall] = [item for item in items if isinstance(item, FunctionCall | CustomToolCall)]
            if calls:
                await self._calls.run(calls, self)
                if self._changes:
                    self.add(self._noticed(self._changes))
                    self._changes = []
                if self._calls.rejected_in_a_row >= MAX_REJECTED_IN_A_ROW:
                    raise TurnError(
                        f"The model made {self._calls.rejected_in_a_row} calls in a row that could not run.",
                        hint="Look at the call.rejected events, or use another model.",
                    )
                continue
            if self._inbox:
                continue
            text = "\n".join(text for item in items if isinstance(item, Message) and (text := text_of(item)))
            again = self._why_again(stop, text, items)
            if not again:
                if self._oversight is not None:
                    self._tell(await self._oversight.account(text, self._transcript.items))
                return text
            continuations += 1
            if continuations > MAX_CONTINUATIONS:
                raise ModelFailed("The model gave no usable answer.", hint=f"The last problem: {again}")
            self.add([user_message(f"<context_note>{again}</context_note>")])

    def _tell(self, notice: str) -> None:
        """Tell the person something that does not end the turn."""
        if notice:
            self.emit(ItemCompleted(ErrorItem(self.next_item_id(), notice)))

    def _why_again(self, stop: str, text: str, items: Sequence[Item]) -> str:
        """Return what to tell a model whose answer can't stand, or "" where it can; raise on a refusal."""
        if stop == "refusal":
            raise ModelFailed(text or "The model refused the request.", code="refused")
        if stop == "length":
            return "Your answer was cut off at the output limit. Go on from where it stopped, more briefly."
        if not any(isinstance(item, Message) for item in items):
            return "Your answer was empty. Call a tool, or say in a message what the result is."
        if self._request.output_schema is not None:
            try:
                decode_json(text)
            except DecodeError:
                return "The answer must be one JSON value for the given schema, and nothing else."
        return ""

    def _take_inbox(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            self.emit(InputSteered(text_of(message)), ItemsRecord((message,)))
            self._join((message,))

    async def _step(self) -> tuple[list[Item], str]:
        """Ask the model once; return its items and how it stopped."""
        overflows = 0
        while True:
            try:
                return await self._ask()
            except ContextOverflow:
                overflows += 1
                if overflows > 2:
                    raise
                # A second overflow right after a compaction means that our idea of the window is too large.
                await self._compact("overflow", self._limits.window // 2**overflows)

    async def _ask(self) -> tuple[list[Item], str]:
        items: list[Item] = []
        done: Completed | None = None
        ids: dict[str, str] = {}
        stream = self._client.stream(self._request)
        try:
            async for part in stream:
                match part:
                    case ItemDone(item=item):
                        items.append(item)
                    case Completed():
                        done = part
                    case RetryScheduled(attempt=attempt, limit=limit, delay_s=delay, reason=reason):
                        items.clear()
                        ids.clear()
                        self.emit(StepRetry(attempt, limit, delay, reason))
                    case TextDelta(text=text) | ReasoningDelta(text=text) if self._deltas:
                        kind: Any = "message" if isinstance(part, TextDelta) else "reasoning"
                        self._show(ItemDelta(ids.setdefault(kind, self.next_item_id()), kind, text))
                    case _:
                        pass
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        if done is None:
            raise ModelFailed("The model's answer has no end.")
        self._commit(items, done, ids)
        return items, done.stop

    def _commit(self, items: list[Item], done: Completed, ids: dict[str, str]) -> None:
        usage = done.usage
        shown: list[Event] = []
        for item in items:
            text = text_of(item)
            if isinstance(item, Message) and text:
                shown.append(ItemCompleted(AgentMessage(ids.pop("message", "") or self.next_item_id(), text)))
            elif isinstance(item, Reasoning) and text:
                shown.append(ItemCompleted(ReasoningSummary(ids.pop("reasoning", "") or self.next_item_id(), text)))
        now = now_ms()
        self._journal.append(
            ItemsRecord(tuple(items)), StepRecord(usage, done.model), *(EventRecord(now, event) for event in shown)
        )
        self._join(items)
        if usage.input_tokens:
            self.tokens = usage.input_tokens + usage.output_tokens
        self.usage = self.usage + usage
        self.steps += 1
        for event in shown:
            self._show(event)

    # Room.

    @property
    def _limit(self) -> int:
        return int(self._limits.window * self._limits.compact_at)

    async def _make_room(self) -> None:
        if self.compact_requested:
            self.compact_requested = False
            await self._compact("requested", self._limits.window)
        elif self.tokens >= self._limit:
            await self._compact("limit", self._limits.window)
            if self.tokens >= self._limit:
                raise ContextOverflow(
                    "The conversation does not fit the model even after compaction.",
                    hint="Use a model with a larger context window, or start a new thread.",
                )
        else:
            reached = max((mark for mark in BUDGET_MARKS if self.tokens >= mark * self._limit), default=0.0)
            if reached > self._told_mark:
                self._told_mark = reached
                self.add([budget_note(self.tokens, self._limit)])

    async def _compact(self, reason: Any, window: int) -> None:
        before = self.tokens
        summary, spent = await ask_for_handover(self._client, self._request, int(window * 0.95))
        self.usage = self.usage + spent
        items = compacted(self._transcript.items, self._opening, await self._kept(), summary, window)
        after = sum(map(estimate_tokens, items))
        items.append(budget_note(after, self._limit))
        self.emit(ContextCompacted(reason, before, after), CompactedRecord(tuple(items)))
        self._transcript.replace(items)
        self.tokens = after
        self._told_mark = 0.0


async def drain(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended, whatever it raises."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
