"""A Lathe thread as a trajectory: its journal read record by record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from lathe.evals.atif.draft import Draft, StepDraft, stamp
from lathe.evals.atif.format import Agent, Content, ContentPart, FinalMetrics, ImageSource, Metrics, Trajectory
from lathe.protocol.events import (
    CallRejected,
    CommandExecution,
    ContextCompacted,
    ErrorItem,
    Event,
    FileChange,
    GuardDecided,
    ItemCompleted,
    McpToolCall,
    ModelServed,
    OtherToolCall,
    TurnFailed,
)
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    text_of,
)
from lathe.protocol.usage import Usage
from lathe.store.journal import (
    EventRecord,
    ItemsRecord,
    Record,
    RewindRecord,
    StepRecord,
    ThreadRecord,
    TurnEndRecord,
    TurnRecord,
    records,
)

_ROLES: dict[str, Any] = {"user": "user", "assistant": "agent"}


def from_thread(journal: Path) -> Trajectory:
    """Return a thread's trajectory, from its journal.

    A step is one model request with the calls that it made and what came back; what people and Lathe said stands
    between them. Turns that were taken back stay, marked `taken_back` in their `extra`. Raises `UsageError` where
    there is no such journal.
    """
    reading = _Reading()
    for record in records(journal):
        reading.take(record)
    return reading.trajectory()


class _Reading:
    def __init__(self) -> None:
        self.draft = Draft()
        self.thread: ThreadRecord | None = None
        self.model = ""
        self.usage = Usage()
        self.began: dict[str, int] = {}
        self.turn_t = 0
        self.answered = ""
        """The call whose output came last: the event that follows tells of it."""

    def take(self, record: Record) -> None:
        match record:
            case ThreadRecord():
                self.thread = record
            case TurnRecord(id=turn, model=model, t=t):
                self.began[turn] = len(self.draft.steps)
                self.model, self.turn_t = model, t
            case ItemsRecord(items=items):
                self._items(items)
            case StepRecord(usage=usage, model=model):
                self._request(usage, model)
            case EventRecord(event=event, t=t):
                self._event(event, t)
            case TurnEndRecord(status=status) if status != "completed" and self.draft.steps:
                self.draft.steps[-1].extra["turn"] = status
            case RewindRecord(turn=turn):
                for step in self.draft.steps[self.began.get(turn, len(self.draft.steps)) :]:
                    step.extra["taken_back"] = True
            case _:
                pass

    def _items(self, items: tuple[Item, ...]) -> None:
        made: StepDraft | None = None
        for item in items:
            match item:
                case FunctionCallOutput(call_id=call) | CustomToolCallOutput(call_id=call):
                    self.draft.answer(call, _content(item.output))
                    self.answered = call
                case Message(role=role) if role != "assistant":
                    at = stamp(self.turn_t) if self.turn_t else None
                    self.draft.add(_ROLES.get(role, "system"), _content(item.content), timestamp=at)
                    made = None
                case _:
                    made = made or self.draft.add("agent")
                    self._said(made, item)

    def _said(self, step: StepDraft, item: Item) -> None:
        match item:
            case Reasoning():
                if text := text_of(item):
                    step.thoughts.append(text)
            case FunctionCall(call_id=call, name=name, arguments=arguments):
                self.draft.call(step, call, name, _arguments(arguments))
            case CustomToolCall(call_id=call, name=name, input=text):
                self.draft.call(step, call, name, text)
            case OpaqueItem(raw=raw):
                step.extra.setdefault("opaque", []).append(str(raw.get("type", "")))
            case _:
                step.say(text_of(item))

    def _request(self, usage: Usage, model: str) -> None:
        self.usage = self.usage + usage
        step = self.draft.last() or self.draft.add("agent")
        step.requests = 1
        step.model = model or self.model or None
        more = {"reasoning_tokens": usage.reasoning_output_tokens, "cache_write_tokens": usage.cache_write_tokens}
        step.metrics = Metrics(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            cached_tokens=usage.cached_input_tokens,
            cost_usd=usage.cost_usd,
            extra={name: value for name, value in more.items() if value} or None,
        )

    def _event(self, event: Event, t: int) -> None:
        last = self.draft.last()
        if last is not None and last.timestamp is None:
            last.timestamp = stamp(t)
        match event:
            case ItemCompleted(item=CommandExecution() | FileChange() | McpToolCall() | OtherToolCall() as item):
                self.draft.describe(self.answered, **_known(item))
            case ItemCompleted(item=ErrorItem(message=message)):
                self.draft.add("system", message, timestamp=stamp(t))
            case CallRejected(call_id=call, reason=reason):
                self.draft.describe(call, status="rejected", reason=reason)
            case ContextCompacted(reason=reason, tokens_before=before, tokens_after=after):
                said = f"The conversation was compacted ({reason}): {before} tokens became {after}."
                self.draft.add("system", said, timestamp=stamp(t))
            case ModelServed() | GuardDecided() | TurnFailed():
                fields = {name: value for name, value in msgspec.to_builtins(event).items() if value not in ("", [])}
                said = event.error.message if isinstance(event, TurnFailed) else getattr(event, "message", "")
                if isinstance(event, ModelServed):
                    said = f"{event.served} served in place of {event.requested}."
                self.draft.add("system", said, timestamp=stamp(t), extra=fields)
            case _:
                pass

    def trajectory(self) -> Trajectory:
        thread = self.thread or ThreadRecord(0, "", "", "unknown")
        usage = self.usage
        totals = FinalMetrics(
            usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, total_cost_usd=usage.cost_usd
        )
        return self.draft.finish(
            Agent("lathe", thread.lathe, model_name=self.model or None),
            session=thread.id,
            totals=totals,
            extra={"cwd": thread.cwd, **({"forked_from": thread.forked_from} if thread.forked_from else {})},
        )


def _known(item: CommandExecution | FileChange | McpToolCall | OtherToolCall) -> dict[str, Any]:
    known: dict[str, Any] = {"status": item.status}
    match item:
        case CommandExecution(exit_code=code, wall_ms=wall):
            known |= {"exit_code": code, "wall_ms": wall}
        case FileChange(diff=diff, error=error):
            known |= {"diff": diff, "error": error}
        case _:
            pass
    return {name: value for name, value in known.items() if value not in (None, "")}


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


def _content(given: Any) -> Content:
    """Return text as text, and parts with an image as parts: an image inside a thread is named, not copied."""
    if isinstance(given, str):
        return given
    parts = [_part(part) for part in given]
    if all(part.text is not None for part in parts):
        return "\n".join(part.text or "" for part in parts)
    return tuple(parts)


def _part(part: Any) -> ContentPart:
    if not isinstance(part, InputImage):
        return ContentPart("text", getattr(part, "text", getattr(part, "refusal", "")))
    url = part.image_url
    if url.startswith("data:"):
        return ContentPart("text", f"[image: {url[5:].partition(';')[0]}, {len(url) * 3 // 4} bytes]")
    kind = url.rpartition(".")[2].lower().replace("jpg", "jpeg")
    return ContentPart("image", source=ImageSource(f"image/{kind if kind in ('jpeg', 'gif', 'webp') else 'png'}", url))
