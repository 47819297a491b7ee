"""What a turn looks like: finished lines go to the scrollback, the rest is the live region above the prompt."""

from __future__ import annotations

import re
from typing import TypeAlias

from lathe.cli.plain import plain, visible
from lathe.cli.render import Out, Renderer
from lathe.protocol.events import (
    AgentMessage,
    CallRejected,
    CommandExecution,
    ContextCompacted,
    Event,
    FileChange,
    GuardDecided,
    InputSteered,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    ModelServed,
    OtherToolCall,
    ReasoningSummary,
    ShownItem,
    StepRetry,
    ThreadError,
    TurnCompleted,
    TurnFailed,
)

LIVE_OUTPUT_LINES = 5
LIVE_THOUGHT_LINES = 2
_KEPT_OUTPUT = 8_000

Fragments: TypeAlias = list[tuple[str, str]]
"""Text with prompt_toolkit styles, one line each, without line breaks."""

_HEADING = re.compile(r"^(#{1,6})\s+(.*)$")
_CODE_OR_BOLD = re.compile(r"`([^`]+)`|\*\*([^*\s][^*]*)\*\*")


class View(Renderer):
    """The renderer of an interactive session: streams messages, keeps what is live, and leaves room between parts."""

    def __init__(self, out: Out) -> None:
        super().__init__(out)
        self._part = ""
        self._streamed = ""
        self._written = 0
        self._thought = ""
        self._thinking = ""
        self._told: set[str] = set()
        self._output = ""
        self._in_code = False
        self._declined = False

    def show(self, event: Event) -> None:
        """Write what of the event is finished, and keep what is not for `live`."""
        match event:
            case ItemDelta(kind="message", delta=delta):
                self._stream(delta)
                return
            case ItemDelta(kind="reasoning", delta=delta, item_id=item_id):
                self._thought += delta
                self._thinking = item_id
                return
            case ItemDelta(kind="output", delta=delta):
                self._output = (self._output + delta)[-_KEPT_OUTPUT:]
                return
            case ItemCompleted(item=ReasoningSummary(id=item_id)) if item_id in self._told:
                self._end_thought()
                return
            case ItemCompleted(item=ReasoningSummary()):
                self._thought = ""
            case CallRejected(reason="denied") if self._declined:
                self._declined = False  # the person's own no is on the screen
                return
            case ItemCompleted(item=AgentMessage()):
                pass
            case _:
                self._end_stream()
        if isinstance(event, ItemStarted | ItemCompleted):
            self._output = ""
        if part := _part_of(event):
            self._begin(part)
            super().show(event)

    def live(self, width: int) -> Fragments:
        """Return the lines that are not finished, at most a few, none much longer than the terminal is wide."""
        lines: Fragments = []
        thought = [line for line in plain(self._thought).split("\n") if line.strip()]
        if thought and self._part != "thought":
            lines.append(("", ""))
        lines += [("class:dim", line[-width:]) for line in thought[-LIVE_THOUGHT_LINES:]]
        output = [line for line in plain(self._output).split("\n") if line.strip()]
        lines += [("class:dim", f"  {line}"[: width - 1]) for line in output[-LIVE_OUTPUT_LINES:]]
        if rest := plain(self._streamed[self._written :]).strip("\n"):
            if self._part != "message":
                lines.append(("", ""))
            # A paragraph is one line until it ends: of a long one only the end is shown, until it is whole.
            lines.append(("", rest if len(rest) <= 4 * width else "…" + rest[1 - 4 * width :]))
        return lines

    def said(self, text: str) -> None:
        """Write what the person said."""
        self._begin("person")
        self._said(text)

    def command(self, text: str) -> None:
        """Write which command the person gave."""
        self._begin("person")
        self._line(self._in("dim", f"› {text}"))

    def message(self, text: str) -> None:
        """Write what a model said earlier."""
        self._write_prose(text)
        self._in_code = False

    def note(self, text: str, style: str = "dim") -> None:
        """Write a word of Lathe's own."""
        self._begin("note")
        for line in text.split("\n"):
            self._line(self._in(style, line) if style else plain(line))

    def problem(self, text: str) -> None:
        """Write an error."""
        self._end_stream()
        self._begin("note")
        self._line(self._in("red", f"lathe: {text}"))

    def diff(self, text: str, limit: int) -> int:
        """Write a unified diff, at most `limit` lines of it; return how many were left out."""
        self._begin("note")
        lines = text.splitlines()
        for line in lines[:limit]:
            if line.startswith(("diff ", "--- ", "+++ ")):
                style = "bold"
            else:
                style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self._line(self._in(style, line) if style else plain(line))
        return max(len(lines) - limit, 0)

    def question(self, title: str, body: str, facts: list[str]) -> None:
        """Write what the person has to decide on: `body` in full, every hidden character of it visible."""
        self._end_stream()
        self._begin("question")
        self._line(self._in("yellow", f"? {title}"))
        for line in body.split("\n"):
            self._line("  " + self._in("bold", visible(line)))
        for fact in facts:
            self._line(self._in("dim", f"  {visible(fact)}"))

    def answer(self, text: str, *, good: bool) -> None:
        """Write how a question ended."""
        self._line(self._in("green" if good else "yellow", f"  {'✓' if good else '✗'} {text}"))

    def declined(self, words: str) -> None:
        """Write that the person said no to a call, which the event of its rejection need not repeat."""
        self._declined = True
        self.answer(f"no: {words}" if words else "no", good=False)

    def _begin(self, part: str) -> None:
        """Leave an empty line between parts of different kinds."""
        if self._part and (part != self._part or part in ("person", "question", "change")):
            self._line("")
        self._part = part

    def _stream(self, delta: str) -> None:
        self._end_thought()
        self._streamed += delta if self._streamed else delta.lstrip("\n")
        # Empty lines wait: what follows them may be nothing.
        self._write_until(len(self._streamed[: self._streamed.rfind("\n") + 1].rstrip("\n")))

    def _write_until(self, end: int) -> None:
        """Write the streamed text up to `end`, the end of a line."""
        if end > self._written:
            text = self._streamed[self._written : end]
            self._write_prose(text.removeprefix("\n") if self._written else text)
            self._written = end

    def _end_thought(self) -> None:
        """What was thought before something else came stays, above it."""
        if self._thought.strip():
            self._begin("thought")
            self._line(self._in("dim", self._thought.strip("\n")))
            self._told.add(self._thinking)
        self._thought = ""

    def _end_stream(self) -> None:
        """A message broke off: what there is of it stays."""
        self._end_thought()
        self._write_until(len(self._streamed.rstrip()))
        self._streamed, self._written, self._in_code = "", 0, False

    def _message(self, item: AgentMessage) -> None:
        self._end_thought()
        text = item.text.strip("\n")
        if self._streamed.startswith(text):
            # What was streamed beyond it belongs to the next message of the same answer.
            beyond = self._streamed[len(text) :].lstrip("\n")
            start = len(self._streamed) - len(beyond)
            self._write_until(len(text))
            self._streamed, self._written = beyond, max(self._written - start, 0)
        else:
            told = self._streamed[: self._written]
            self._write_prose(text[len(told) :] if text.startswith(told) else text)
            self._streamed, self._written = "", 0
        self._in_code = False

    def _write_prose(self, text: str) -> None:
        self._begin("message")
        for line in text.split("\n"):
            self._line(self._prose(plain(line)))

    def _prose(self, line: str) -> str:
        if not self._colour:
            return line
        if line.lstrip().startswith("```"):
            self._in_code = not self._in_code
            return self._in("dim", line)
        if self._in_code:
            return self._in("cyan", line)
        if heading := _HEADING.match(line):
            return self._in("bold", heading.group(2))
        return _CODE_OR_BOLD.sub(
            lambda found: self._in("cyan", found[1]) if found[1] else self._in("bold", found[2]), line
        )

    def _said(self, text: str) -> None:
        first, *more = text.split("\n")
        self._line(self._in("bold", f"› {first}"))
        for line in more:
            self._line(self._in("bold", f"  {line}"))


def _part_of(event: Event) -> str:
    """Return what kind of part the event's lines belong to, "" where it has none to show."""
    match event:
        case ItemCompleted(item=item):
            return _part_of_item(item)
        case ItemStarted(item=CommandExecution()):
            return "tool"
        case TurnCompleted() | TurnFailed():
            return "end"
        case InputSteered():
            return "person"
        case CallRejected(reason="forbidden") | GuardDecided(step="hold" | "log"):
            return ""
        case CallRejected() | StepRetry() | ContextCompacted() | ThreadError() | GuardDecided() | ModelServed():
            return "note"
        case _:
            return ""


def _part_of_item(item: ShownItem) -> str:
    match item:
        case AgentMessage():
            return "message"
        case ReasoningSummary():
            return "thought"
        case FileChange():
            return "change"
        case OtherToolCall(tool="ask_user"):
            return ""  # the question and its answer are on the screen
        case _:
            return "tool"
