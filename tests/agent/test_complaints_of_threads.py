"""What people complained of that is the agent's: a thread dead after a block, and another model in silence.

Numbers are issues of the openai/codex tracker; the facts are in tests/guard/test_complaints.py. An endpoint refuses
whatever holds the mark of a complaint, and the person goes on as they wished to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from bench import Bench, bench
from running import patch, run, says

from lathe.agent.thread import Thread
from lathe.agent.undo import undo
from lathe.cli.render import Renderer
from lathe.gateway.dialects import DIALECTS
from lathe.models.script import WIRES, Call, Step, Words
from lathe.models.scripted import RecordedRequest
from lathe.protocol.errors import ContentRefused, ExitCode
from lathe.protocol.events import CallRejected, GuardDecided, ModelServed, TurnFailed
from lathe.store.threads import fork_thread, journal_path

MARK = "MARK-51c0"
Story: TypeAlias = Callable[["Person"], Awaitable[None]]


class Person:
    """A person at a thread whose endpoint refuses the mark; `say` runs a turn and returns what was said in the end."""

    def __init__(self, wire: str, folder: Path, home: Path) -> None:
        self.wire, self.folder, self.home = wire, folder, home
        self.steps: list[Step] = []
        self.torn = False
        self.events: list[Any] = []
        self.it: Bench | None = None

    def answer(self, request: RecordedRequest) -> Step:
        if self.torn:
            self.torn = False
            return Step(say=(Words("It begins, and the stream ends."),), cut_after_events=3)
        if MARK in request.body.decode():
            extra = {"clause": "exploit.develop", "decision": f"dec_{request.number}", "step": "refuse"}
            body = DIALECTS[self.wire].error(403, "cyber_exploit_develop", "Outside of what is allowed.", extra=extra)  # type: ignore[index]
            return Step(status=403, body=body.decode())
        return self.steps.pop(0) if self.steps else says("Gladly.")

    async def say(self, words: str, *steps: Step) -> str:
        assert self.it is not None
        self.steps = list(steps)
        self.events = await self.it.run(words)
        return self.it.thread.last_message

    @property
    def failure(self) -> Any:
        assert self.it is not None
        return self.it.thread.failure

    @property
    def refused(self) -> list[GuardDecided]:
        return [event for event in self.events if isinstance(event, GuardDecided)]

    def sent(self) -> str:
        """What the newest request said."""
        assert self.it is not None
        return self.it.said(-1)


def writes(name: str) -> Step:
    return patch(f"*** Begin Patch\n*** Add File: {name}\n+done = True\n*** End Patch")


def reads(name: str) -> Step:
    return run(f"cat {name}")


async def edits_stay_when_a_tool_is_blocked(person: Person) -> None:
    """34864, 43514: there are no sub-agents, so it is a tool of the thread whose output is blocked."""
    (person.folder / "codes.txt").write_text(MARK)
    assert await person.say("Build it.", writes("a.py"), reads("codes.txt"), writes("b.py"), says("Built.")) == "Built."
    assert (person.folder / "a.py").exists() and (person.folder / "b.py").exists() and person.failure is None
    assert person.refused[0].code == "cyber_exploit_develop" and "[withheld: cyber_exploit_develop" in person.sent()


async def a_call_that_is_blocked_has_a_typed_error(person: Person) -> None:
    """41672: ten blocks in one task, among them of an inventory that only reads."""
    files = [f"part{number}.txt" for number in range(10)]
    for name in files:
        (person.folder / name).write_text(f"{name} {MARK}")
    for start in (0, 4, 8):
        some = files[start : start + 4]
        steps = [*(reads(name) for name in some), writes(f"report{start}.py"), says("Reported.")]
        assert await person.say("Take stock.", *steps) == "Reported."
        assert len(person.refused) == len(some)
        assert all(one.code and one.clause and one.decision and one.set_aside for one in person.refused)
    assert len(list(person.folder.glob("report*.py"))) == 3
    # what the agent's own guard stops has its reason too
    assert await person.say("And the rest.", run("cat /etc/shadow"), says("Without it.")) == "Without it."
    told = next(event for event in person.events if isinstance(event, CallRejected))
    assert told.reason == "forbidden" and json.loads(told.message.split("} ")[0] + "}")["withheld"]["clause"]


async def a_log_can_be_taken_back(person: Person) -> None:
    """32177: an attached log or the output of a search poisons the thread, and a rewind is only a marker."""
    (person.folder / "app.log").write_text(f"one\ntwo {MARK}\n")
    await person.say("Hello.")
    assert await person.say("Search it.", run("grep two app.log"), says("I could not see it.")) == "I could not see it."
    await person.say(f"Here is the log:\n{MARK}")
    assert isinstance(person.failure, ContentRefused)
    assert await person.say("Then without.") == "Gladly."
    assert person.it is not None
    person.it.thread.close()
    path = journal_path(person.home, person.it.thread.id)
    undo(person.home, path, 3)
    person.it.thread = Thread.resume(path)
    assert await person.say("Something else.") == "Gladly."
    assert not any(one in person.sent() for one in (MARK, "withheld", "Search it.", "app.log"))


async def a_thread_turns_to_other_work(person: Person) -> None:
    """42940"""
    await person.say(f"Do {MARK}.")
    assert await person.say("Leave that. Write b.py instead.", writes("b.py"), says("Done.")) == "Done."
    assert (person.folder / "b.py").exists()


async def a_project_whose_instructions_are_blocked_is_not_dead(person: Person) -> None:
    """47001: neutral lines are blocked, in new tasks of the same project too."""
    (person.folder / "AGENTS.md").write_text(f"We call it {MARK}.")
    await person.say("Hello.")
    assert isinstance(person.failure, ContentRefused)
    assert await person.say("Good morning.") == "Gladly." and person.failure is None
    assert await person.say("Hello.") == "Gladly."


async def a_greeting_is_answered(person: Person) -> None:
    """37702"""
    await person.say(f"Solve {MARK}.")
    assert await person.say("hi") == "Gladly."


async def a_block_says_what_and_what_next(person: Person) -> None:
    """41967: nothing can be written any more, with no code, no reason and no way on."""
    await person.say(f"Do {MARK}.")
    told, end = person.refused[0], person.events[-1]
    assert told.code and told.clause == "exploit.develop" and told.decision == "dec_0" and told.message
    assert told.set_aside == ("your message",)
    assert isinstance(end, TurnFailed) and end.error.code == "safeguard" and "The thread goes on" in end.error.message
    assert person.failure.exit_code == ExitCode.SAFEGUARD
    screen = io.StringIO()
    for event in person.events:
        Renderer(screen).show(event)
    assert all(one in screen.getvalue() for one in (told.code, told.clause, told.decision, "your message"))
    assert await person.say("And now?") == "Gladly."


async def a_long_thread_lives_on(person: Person) -> None:
    """41634, 35160: a long run is blocked for good; here it is blocked again and again, and compacted between."""
    assert person.it is not None
    for number in range(6):
        name = f"part{number}.txt"
        (person.folder / name).write_text(f"{number} {MARK}")
        assert await person.say(f"Go on with {number}.", reads(name), says(f"Part {number}.")) == f"Part {number}."
        if number % 2:
            person.it.thread.request_compaction()
    await person.say(f"Now {MARK}.")
    assert await person.say("How far are we?") == "Gladly."
    assert MARK not in person.sent() and "Go on with 0." in person.sent()


async def a_retry_marks_neither_the_thread_nor_its_forks(person: Person) -> None:
    """33973"""
    await person.say("Hello.")
    person.torn = True
    await person.say(f"Tell me of {MARK}.")
    assert isinstance(person.failure, ContentRefused)
    assert await person.say("Something else.") == "Gladly."
    assert person.it is not None
    copy = fork_thread(person.home, journal_path(person.home, person.it.thread.id))
    person.it.thread.close()
    person.it.thread = Thread.resume(journal_path(person.home, copy))
    assert await person.say("And here?") == "Gladly." and "Something else." in person.sent()


STORIES: list[tuple[tuple[int, ...], Story]] = [
    ((34864, 43514), edits_stay_when_a_tool_is_blocked),
    ((41672,), a_call_that_is_blocked_has_a_typed_error),
    ((32177,), a_log_can_be_taken_back),
    ((42940,), a_thread_turns_to_other_work),
    ((47001,), a_project_whose_instructions_are_blocked_is_not_dead),
    ((37702,), a_greeting_is_answered),
    ((41967,), a_block_says_what_and_what_next),
    ((41634, 35160), a_long_thread_lives_on),
    ((33973,), a_retry_marks_neither_the_thread_nor_its_forks),
]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "story", [story for _, story in STORIES], ids=["-".join(map(str, numbers)) for numbers, _ in STORIES]
)
async def test_a_thread_survives_its_blocks(story: Story, wire: str, tmp_path: Path, own_home: Path) -> None:
    person = Person(wire, tmp_path, own_home)
    async with bench(tmp_path, own_home, person.answer, wire=wire) as it:
        person.it = it
        try:
            await story(person)
        finally:
            it.thread.close()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("number", [11867, 10953, 11992, 11938])
async def test_which_model_served_is_shown(number: int, wire: str, tmp_path: Path, own_home: Path) -> None:
    """A stream or a header names another model than the one asked for: every turn says so, for days if need be."""
    said = Step(say=(Call("exec_command", '{"cmd":"true"}'),))
    served = {"headers": {"lathe-served-model": "fallback-1", "lathe-substitution": "fallback:model_needs_access"}}
    if number in (11867, 10953):
        served = {"model": "fallback-1"}
    steps = [Step(say=said.say, **served), Step(say=(Words("ok"),), **served), Step(say=(Words("ok"),), **served)]
    async with bench(tmp_path, own_home, [*steps, says("ok")], wire=wire) as it:
        for turn in range(2):
            events = await it.run(f"Turn {turn}.")
            told = [event for event in events if isinstance(event, ModelServed)]
            assert [(event.requested, event.served) for event in told] == [("scripted-1", "fallback-1")]
            screen = io.StringIO()
            for event in events:
                Renderer(screen).show(event)
            assert "fallback-1 served, not scripted-1 as asked" in screen.getvalue()
        events = await it.run("Turn 2.")
        assert not any(isinstance(event, ModelServed) for event in events), "it is the one that was asked for"
