from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.protocol.events import (
    AgentMessage,
    CommandExecution,
    Event,
    InputSteered,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    ReasoningSummary,
    StepRetry,
    TurnCompleted,
)
from lathe.protocol.usage import Usage
from lathe.tui.view import View


class Paper(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def shown(*events: Event) -> str:
    paper = Paper()
    view = View(paper)
    for event in events:
        view.show(event)
    return paper.getvalue()


def said(text: str, item_id: str = "m") -> ItemCompleted:
    return ItemCompleted(AgentMessage(item_id, text))


def streamed(text: str, cuts: list[int], item_id: str = "m") -> list[Event]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [ItemDelta(item_id, "message", text[a:b]) for a, b in itertools.pairwise(places)]


words = st.text(st.sampled_from("ab `*#\n"), min_size=1, max_size=60).filter(lambda text: text.strip())


@given(words, st.lists(st.integers(0, 60)))
def test_a_streamed_message_stands_there_as_one_that_came_whole(text: str, cuts: list[int]) -> None:
    assert shown(*streamed(text, cuts), said(text)) == text.strip("\n") + "\n"


@given(words, words, st.lists(st.integers(0, 60)))
def test_two_messages_of_one_answer_lose_and_repeat_nothing(one: str, two: str, cuts: list[int]) -> None:
    events = [*streamed(one, cuts), *streamed(two, cuts), said(one), said(two, "n")]
    assert "".join(shown(*events).split()) == "".join((one + two).split())


@given(words, st.lists(st.integers(0, 60)))
def test_a_message_that_a_retry_breaks_off_is_followed_by_the_whole_one(text: str, cuts: list[int]) -> None:
    half = streamed(text, cuts)
    text_shown = shown(*half, StepRetry(1, 5, 0.5, "It broke."), *streamed(text, cuts, "again"), said(text, "again"))
    before, after = text_shown.split("! It broke. Trying again in 0.5 s (1 of 5).")
    assert "".join(before.split()) == "".join(after.split()) == "".join(text.split())


def test_thoughts_stand_above_the_message_and_once() -> None:
    events: list[Event] = [
        ItemDelta("r", "reasoning", "First I "),
        ItemDelta("r", "reasoning", "think."),
        ItemDelta("m", "message", "Then I say."),
        ItemCompleted(ReasoningSummary("r", "First I think.")),
        said("Then I say."),
    ]
    assert shown(*events) == "First I think.\n\nThen I say.\n"
    assert shown(*events[3:]) == "First I think.\n\nThen I say.\n"


def test_only_the_end_of_an_output_is_live_and_nothing_once_it_is_done() -> None:
    view = View(Paper())
    command = CommandExecution("c", "make", "", None, "in_progress")
    view.show(ItemStarted(command))
    for number in range(100):
        view.show(ItemDelta("c", "output", f"line {number}\n"))
    assert [text for _, text in view.live(80)] == [f"  line {number}" for number in range(95, 100)]
    view.show(ItemCompleted(CommandExecution("c", "make", "line 99\n", 0, "completed")))
    assert view.live(80) == []


def test_of_a_long_paragraph_only_the_end_is_live() -> None:
    view = View(Paper())
    view.show(ItemDelta("m", "message", "x" * 5000 + "end"))
    (_, gap), (_, text) = view.live(80)
    assert gap == ""
    assert len(text) == 320
    assert text.endswith("end")


def test_parts_of_different_kinds_have_room_between_them() -> None:
    usage = Usage(input_tokens=5, output_tokens=1)
    done = CommandExecution("c", "true", "", 0, "completed")
    text = shown(said("One."), ItemStarted(done), ItemCompleted(done), InputSteered("a\nb"), TurnCompleted(usage, 2))
    assert text == "One.\n\n$ true\n  exit 0\n\n› a\n  b\n\n2 steps · 5 tokens in, 1 out\n"


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x9b2J", "\r", "\x07", "\u202e"])
def test_nothing_that_is_shown_can_steer_the_terminal(text: str) -> None:
    command = CommandExecution("c", f"a{text}", f"b{text}", 0, "completed")
    everything = [
        ItemDelta("m", "message", f"x{text}\n"),
        said(f"x{text}\ny{text}"),
        ItemStarted(command),
        ItemCompleted(command),
        InputSteered(text),
        ItemCompleted(ReasoningSummary("r", text)),
    ]
    paper = Paper()
    view = View(paper)
    for event in everything:
        view.show(event)
    view.question(f"t{text}", f"q{text}", [f"f{text}"])
    view.show(ItemDelta("n", "message", text))
    live = "".join(part for _, part in view.live(80))
    assert not any(letter in paper.getvalue() + live for letter in "\x1b\x9b\r\x07\u202e")
