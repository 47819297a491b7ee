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
from lathe.agent.conversation import Aside, Conversation
from lathe.models.base import (
    Completed,
    ItemDone,
    ModelClient,
    ModelRequest,
    ReasoningDelta,
    RetryScheduled,
    TextDelta,
)
from lathe.models.refusals import withheld_by
from lathe.models.served import same_model
from lathe.protocol.blocks import PolicyRefusal
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import ContentRefused, ContextOverflow, ModelFailed, TurnError
from lathe.protocol.events import (
    AgentMessage,
    CallRejected,
    ContextCompacted,
    ErrorItem,
    Event,
    FileChange,
    FileUpdate,
    GuardDecided,
    InputSteered,
    ItemCompleted,
    ItemDelta,
    ModelServed,
    ReasoningSummary,
    StepRetry,
)
from lathe.protocol.ids import short_id
from lathe.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    Reasoning,
    ToolCall,
    ToolOutput,
    output_for,
    text_of,
    user_message,
)
from lathe.protocol.usage import Usage
from lathe.store.journal import (
    BlockedRecord,
    CompactedRecord,
    EventRecord,
    ItemsRecord,
    Journal,
    Record,
    StepRecord,
    now_ms,
)

if TYPE_CHECKING:
    from lathe.agent.oversight import Oversight

MAX_REJECTED_IN_A_ROW = 12
MAX_REFUSED = 5
"""How many requests of one turn an endpoint may refuse by its policy before the turn ends."""
MAX_CONTINUATIONS = 3
BUDGET_MARKS = (0.5, 0.75, 0.9)
_SURVIVES = "The thread goes on: what you say next is judged by itself."


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
        conversation: Conversation,
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
        self._conversation = conversation
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
        self._refused = 0
        self._served_by = ""
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
        self._conversation.append(items)
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
                self._tell(await self._oversight.look(self._conversation.items))
            calls: list[ToolCall] = [item for item in items if isinstance(item, FunctionCall | CustomToolCall)]
            if calls:
                await self._calls.run(calls, self, self._conversation.items)
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
                    self._tell(await self._oversight.account(text, self._conversation.items))
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
                items, done = await self._ask()
            except ContextOverflow:
                overflows += 1
                if overflows > 2:
                    raise
                # A second overflow right after a compaction means that our idea of the window is too large.
                await self._compact("overflow", self._limits.window // 2**overflows)
            except ContentRefused as error:
                self._set_aside(error)
            else:
                if done.filtered:
                    self._drop_filtered(items, done)
                return items, done.stop

    def _set_aside(self, error: ContentRefused) -> None:
        """Set aside what the endpoint refused, tell of it, and return where the turn can go on; else raise."""
        refusal = error.refusal
        self._refused += 1
        if refusal.step == "restrict" or refusal.clause.startswith("actor."):  # about who asks, not about what is sent
            self._tell_refused(refusal, Aside((), False))
            raise error
        aside = self._conversation.refuse(refusal)
        self._tell_refused(refusal, aside)
        if not aside.go_on or refusal.step == "pause" or self._refused >= MAX_REFUSED:
            error.hint = _SURVIVES
            raise error

    def _tell_refused(self, refusal: PolicyRefusal, aside: Aside) -> None:
        how = "Left out on trial" if aside.on_trial else "Set aside"
        gone = f" {how}: {', '.join(aside.names)}. The rest of the thread goes on." if aside.names else ""
        event = GuardDecided(
            by="endpoint",
            step=refusal.step,
            scope="request",
            clause=refusal.clause,
            code=refusal.code,
            decision=refusal.decision,
            message="\n".join((f"{refusal.message}{gone}", *refusal.notes)),
            set_aside=aside.names,
        )
        conversation = self._conversation
        self.emit(event, BlockedRecord(conversation.blocked, conversation.refused))

    def _drop_filtered(self, items: Sequence[Item], done: Completed) -> None:
        """Set aside an answer that the endpoint's filter broke off, and end the turn: none of its calls is run."""
        told = withheld_by(done.lathe)
        message = f"A filter of the endpoint broke off the answer of {done.model or 'the model'}."
        refusal = told or PolicyRefusal(
            code="content_filter", clause="endpoint.filter", decision=short_id("dec"), message=message
        )
        exchange = done.filtered == "exchange" and told is None  # a gateway says itself what of the rest it withholds
        calls = [item for item in items if isinstance(item, FunctionCall | CustomToolCall)]
        aside = self._conversation.refuse(refusal, answer=len(items), exchange=exchange)
        self._tell_refused(refusal, aside)
        for call in calls:
            why = f"{call.name} was not run: {refusal.message}"
            self.answered(output_for(call, why), CallRejected(call.call_id, call.name, "forbidden", why))
        raise ContentRefused(refusal.message, refusal, hint=_SURVIVES)

    async def _ask(self) -> tuple[list[Item], Completed]:
        items: list[Item] = []
        done: Completed | None = None
        ids: dict[str, str] = {}
        self._request.transcript = self._conversation.sent
        count = len(self._conversation.items)
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
        self._commit(items, done, ids, count)
        return items, done

    def _commit(self, items: list[Item], done: Completed, ids: dict[str, str], count: int) -> None:
        usage = done.usage
        shown: list[Event] = []
        for item in items:
            text = text_of(item)
            if isinstance(item, Message) and text:
                shown.append(ItemCompleted(AgentMessage(ids.pop("message", "") or self.next_item_id(), text)))
            elif isinstance(item, Reasoning) and text:
                shown.append(ItemCompleted(ReasoningSummary(ids.pop("reasoning", "") or self.next_item_id(), text)))
        now = now_ms()
        conversation = self._conversation
        blocked: list[Record] = []
        if not done.filtered and conversation.serve(count):
            blocked.append(BlockedRecord(conversation.blocked))
        self._journal.append(
            ItemsRecord(tuple(items)),
            StepRecord(usage, done.model),
            *blocked,
            *(EventRecord(now, event) for event in shown),
        )
        self._join(items)
        if usage.input_tokens:
            self.tokens = usage.input_tokens + usage.output_tokens
        self.usage = self.usage + usage
        self.steps += 1
        for event in shown:
            self._show(event)
        self._tell_model(done)

    def _tell_model(self, done: Completed) -> None:
        """Tell once a turn, and at every change, that another model served than was asked for."""
        before, self._served_by = self._served_by, done.model
        if done.model != before and not same_model(done.requested, done.model):
            self.emit(ModelServed(done.requested, done.model, done.substitution))

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
        self._request.transcript = self._conversation.sent
        summary, spent = await ask_for_handover(self._client, self._request, int(window * 0.95))
        self.usage = self.usage + spent
        items = compacted(self._conversation.sent.items, self._opening, await self._kept(), summary, window)
        after = sum(map(estimate_tokens, items))
        items.append(budget_note(after, self._limit))
        self.emit(ContextCompacted(reason, before, after), CompactedRecord(tuple(items)))
        self._conversation.replace(items, unserved=2)
        self.tokens = after
        self._told_mark = 0.0


async def drain(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has ended, whatever it raises."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
