"""Events as lines for a person."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from lathe.cli.plain import plain
from lathe.protocol.events import (
    AgentMessage,
    CallRejected,
    CommandExecution,
    ContextCompacted,
    ErrorItem,
    Event,
    FileChange,
    GuardDecided,
    InputSteered,
    ItemCompleted,
    ItemStarted,
    McpToolCall,
    ModelServed,
    OtherToolCall,
    ReasoningSummary,
    ShownItem,
    StepRetry,
    ThreadError,
    ThreadStarted,
    TodoList,
    TurnCompleted,
    TurnFailed,
)
from lathe.protocol.usage import Usage

OUTPUT_LINES = 6
DIFF_LINES = 80
_MEND = " -m lathe.mend "
_STYLES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


_DIFF_STYLES = {"+": "green", "-": "red", "@": "dim"}
_HEADERS = ("diff ", "index ", "--- ", "+++ ", "new file ", "deleted file ", "rename ", "similarity ")


class Out(Protocol):
    """What a renderer writes to."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...

    def isatty(self) -> bool: ...


class Renderer:
    """Writes what a person wants to see of each event to `out`; nothing that a model or a tool wrote can steer
    the terminal.

    A message is held back until something follows it, so that the last one is left to the caller.
    """

    def __init__(self, out: Out | None = None) -> None:
        self._out = out or sys.stderr
        self._colour = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._held = ""

    def show(self, event: Event) -> None:
        """Write one event."""
        if self._held and isinstance(event, ItemStarted | ItemCompleted | CallRejected | InputSteered):
            self._line(plain(self._held))
            self._held = ""
        match event:
            case ThreadStarted(thread_id=thread_id, model=model, resumed=resumed):
                word = "resumed" if resumed else "thread"
                self._line(f"{self._in('bold', model)} · {word} {thread_id}")
            case ItemStarted(item=CommandExecution(command=command)):
                self._line(self._in("cyan", f"$ {_one_line(_by_name(command))}"))
            case ItemCompleted(item=item):
                self._item(item)
            case CallRejected(reason="forbidden"):
                pass  # the event of the guard's decision has said it
            case CallRejected(name=name, message=message):
                self._line(self._in("yellow", f"! {name or 'call'} refused: {_one_line(message)}"))
            case StepRetry(attempt=attempt, limit=limit, delay_s=delay, reason=reason):
                again = f"Trying again in {delay:.1f} s ({attempt} of {limit})."
                self._line(self._in("yellow", f"! {reason.rstrip('. ')}. {again}"))
            case ContextCompacted(tokens_before=before, tokens_after=after, reason=reason):
                self._line(self._in("dim", f"~ conversation compacted ({reason}): {before:,} to {after:,} tokens"))
            case InputSteered(text=text):
                self._said(text)
            case GuardDecided():
                self._decided(event)
            case ModelServed(requested=requested, served=served, why=why):
                because = f": {why}" if why else ", and the endpoint says no why"
                self._line(self._in("yellow", f"! {served} served, not {requested} as asked{because}"))
            case TurnFailed(error=error, usage=usage):
                self._line(self._in("yellow" if error.code == "interrupted" else "red", f"lathe: {error.message}"))
                self._totals(usage, 0, 0.0)
            case TurnCompleted(usage=usage, steps=steps, wall_ms=wall_ms):
                self._totals(usage, steps, wall_ms)
            case ThreadError(message=message):
                self._line(self._in("red", f"! {message}"))
            case _:
                pass

    def _decided(self, event: GuardDecided) -> None:
        if event.step in ("hold", "log"):  # a hold is put as a question; what is only kept on record stops nothing
            return
        who = "the endpoint" if event.by == "endpoint" else "the guard"
        first, *more = event.message.split("\n")
        if event.answer:  # the reasons were in the question
            self._line(self._in("yellow", f"! {who}, {event.step} · you: {event.answer}"))
            return
        self._line(self._in("yellow", f"! {who}, {event.step}: {first}"))
        if event.by == "endpoint":
            more.append(f"Code: {event.code}. Clause: {event.clause}. Decision: {event.decision}.")
        for line in more:
            self._line(self._in("dim", f"  {line}"))

    def _item(self, item: ShownItem) -> None:
        match item:
            case AgentMessage():
                self._message(item)
            case ReasoningSummary(text=text):
                self._line(self._in("dim", text))
            case CommandExecution():
                self._command(item)
            case FileChange():
                self._change(item)
            case TodoList(items=entries):
                for entry in entries:
                    self._line(f"  {'✓' if entry.completed else '○'} {plain(entry.text)}")
            case McpToolCall(server=server, tool=tool, status=status):
                self._line(self._in("cyan", f"⚒ {server}.{tool} · {status}"))
            case OtherToolCall(tool=tool, status=status):
                self._line(self._in("cyan", f"⚒ {tool} · {status}"))
            case ErrorItem(message=message):
                self._line(self._in("red", f"! {message}"))

    def _message(self, item: AgentMessage) -> None:
        self._held = item.text

    def _said(self, text: str) -> None:
        self._line(self._in("bold", f"> {_one_line(text)}"))

    def _command(self, item: CommandExecution) -> None:
        lines = item.aggregated_output.rstrip("\n").split("\n") if item.aggregated_output.strip() else []
        if _MEND in item.command:
            from lathe.mend.report import MARKER

            # The report is told in words a moment later.
            lines = [line for line in lines if not line.startswith(MARKER)]
        hidden = len(lines) - OUTPUT_LINES
        if hidden > 0:
            self._line(self._in("dim", f"  … {hidden} more line{'s' if hidden > 1 else ''}"))
        for line in lines[-OUTPUT_LINES:]:
            self._line(self._in("dim", f"  {line[:200]}"))
        wall = f" · {item.wall_ms / 1000:.1f} s" if item.wall_ms is not None else ""
        if item.session_id is not None and item.exit_code is None and item.status in ("in_progress", "completed"):
            self._line(self._in("dim", f"  running as session {item.session_id}{wall}"))
        elif item.exit_code == 0:
            self._line(self._in("green", f"  exit 0{wall}"))
        else:
            word = item.status if item.exit_code is None else f"exit {item.exit_code}"
            self._line(self._in("red", f"  {word}{wall}"))

    def _change(self, item: FileChange) -> None:
        parts = _by_file(item)
        left = DIFF_LINES
        for change, part in zip(item.changes, parts, strict=True):
            sign = {"add": "+", "delete": "-", "update": "±"}[change.kind]
            moved = f" → {change.move_to}" if change.move_to else ""
            self._line(self._in("cyan", f"{sign} {change.path}{moved}"))
            for line in part[: max(left, 0)]:
                self._line("  " + self._in(_DIFF_STYLES.get(line[:1], ""), line))
            left -= len(part)
        if item.status == "failed":
            self._line(self._in("red", f"  patch failed: {_one_line(item.error)}"))
        if left < 0:
            self._line(self._in("dim", f"  … {-left} more lines: `lathe diff` shows them"))

    def _totals(self, usage: Usage | None, steps: int, wall_ms: float) -> None:
        parts = [f"{steps} steps"] if steps else []
        if wall_ms:
            parts.append(f"{wall_ms / 1000:.1f} s")
        if usage is not None and usage.input_tokens:
            cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
            parts.append(f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out")
        if usage is not None and usage.cost_usd is not None:
            parts.append(f"${usage.cost_usd:.4f}")
        if parts:
            self._line(self._in("dim", " · ".join(parts)))

    def _in(self, style: str, text: str) -> str:
        """Return `text`, made harmless, in a style."""
        return f"\x1b[{_STYLES[style]}m{plain(text)}\x1b[0m" if style and self._colour else plain(text)

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def coloured_diff(text: str) -> str:
    """Return a unified diff for a terminal: harmless, and in colours unless NO_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return plain(text)
    lines = []
    for line in plain(text).split("\n"):
        style = "bold" if line.startswith(_HEADERS) else _DIFF_STYLES.get(line[:1], "")
        lines.append(f"\x1b[{_STYLES[style]}m{line}\x1b[0m" if style else line)
    return "\n".join(lines)


def _by_file(item: FileChange) -> list[list[str]]:
    """Return the hunks of the diff as lines, for each changed file; all with the last where that can't be told."""
    text = "\n" + item.diff.removesuffix("\n")
    sections = [part.split("\n") for part in text.split("\ndiff --git ")[1:]]
    hunks = [part[_body(part) :] for part in sections]
    if len(hunks) == len(item.changes):
        return hunks
    return [*([] for _ in item.changes[1:]), [line for part in hunks for line in part]] if item.changes else []


def _body(section: list[str]) -> int:
    """Return where the hunks begin in a file's section of a diff."""
    return next((number for number, line in enumerate(section) if line.startswith("@@ ")), len(section))


def _by_name(command: str) -> str:
    """Return `command` with Lathe's own interpreter by its name instead of its path."""
    return f"python{command.removeprefix(sys.executable)}" if command.startswith(f"{sys.executable} ") else command


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 200 else flat[:199] + "…"
