"""A thread goes on after an endpoint has refused a part of it by its policy, whatever the person does next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import bench
from running import patch, run, says

from lathe.agent.thread import Thread
from lathe.gateway.dialects import DIALECTS
from lathe.guard.quarantine import identity
from lathe.models.script import WIRES, Call, Step, Words
from lathe.models.scripted import RecordedRequest
from lathe.protocol.errors import ContentRefused, ExitCode
from lathe.protocol.events import CallRejected, FileChange, GuardDecided, ItemCompleted, StepRetry, TurnCompleted
from lathe.protocol.items import FunctionCallOutput, text_of
from lathe.store.journal import replay
from lathe.store.threads import fork_thread, journal_path

MARK = "MARK-7f3a"
"""What the endpoint's policy refuses, wherever it stands in a request."""
APPEAL = "Appeal: lathe access appeal dec_1"


def by_provider(wire: str) -> Step:
    return Step(error="content_policy")


def in_stream(wire: str) -> Step:
    return Step(say=(Words("It begins well"),), error="content_policy", in_stream=True)


def by_gateway(wire: str, **more: Any) -> Step:
    notice = {"why": ["reasoner: It goes on to others."], "allowed_by": ["the tier specialist"], "next_steps": [APPEAL]}
    told = {"clause": "exploit.chain", "decision": "dec_1", **more}
    told["guard"] = {"step": more.get("step", "refuse"), "decision": "dec_1", "notice": notice}
    status = 406 if wire == "messages" else 403
    body = DIALECTS[wire].error(status, "cyber_exploit_chain", "Outside of what is allowed.", extra=told)  # type: ignore[index]
    return Step(status=status, body=body.decode())


def endpoint(wire: str, refuse: Callable[[str], Step], *steps: Step) -> Callable[[RecordedRequest], Step]:
    """Refuse what has the mark, and else give `steps` in turn, then short answers."""
    left = list(steps)

    def answer(request: RecordedRequest) -> Step:
        if MARK in request.body.decode():
            return refuse(wire)
        return left.pop(0) if left else says(f"Answer {request.number}.")

    return answer


def decided(events: list[Any]) -> list[GuardDecided]:
    return [event for event in events if isinstance(event, GuardDecided)]


def marked(requests: list[RecordedRequest]) -> list[int]:
    return [request.number for request in requests if MARK in request.body.decode()]


@pytest.mark.parametrize("refuse", [by_provider, in_stream, by_gateway])
@pytest.mark.parametrize("wire", WIRES)
async def test_words_that_are_refused_are_never_sent_again(
    wire: str, refuse: Callable[[str], Step], tmp_path: Path, own_home: Path
) -> None:
    long = MARK + " and much more" * 4000  # longer than a compaction keeps whole
    async with bench(tmp_path, own_home, endpoint(wire, refuse, says("First.")), wire=wire) as it:
        await it.run("Before.")
        events = await it.run(long)
        assert isinstance(it.thread.failure, ContentRefused) and it.thread.failure.exit_code == ExitCode.SAFEGUARD
        told = decided(events)[0]
        assert told.set_aside == ("your message",) and told.code and told.clause and told.decision
        assert (APPEAL in told.message) == (refuse is by_gateway)
        assert isinstance((await it.run("Hello."))[-1], TurnCompleted)
        assert all(one in it.said(2) for one in ("Before.", "First.", "withheld", "Hello."))
        # compaction: neither the request for the hand-over nor what comes of it has it back
        it.thread.request_compaction()
        assert isinstance((await it.run("Go on."))[-1], TurnCompleted)
        assert marked(it.server.requests) == [1]
        thread_id = it.thread.id
    copy = fork_thread(own_home, journal_path(own_home, thread_id))
    for one in (thread_id, copy):
        assert [record.code for record in replay(journal_path(own_home, one)).blocked]
        resumed = Thread.resume(journal_path(own_home, one))
        async with bench(tmp_path, own_home, endpoint(wire, refuse), wire=wire, thread=resumed) as it:
            assert isinstance((await it.run("Hello again."))[-1], TurnCompleted)
            assert not marked(it.server.requests)


@pytest.mark.parametrize("wire", WIRES)
async def test_an_output_that_is_refused_is_set_aside_and_the_work_goes_on(
    wire: str, tmp_path: Path, own_home: Path
) -> None:
    (tmp_path / "crash.log").write_text(f"a trace with {MARK}\n")
    change = patch("*** Begin Patch\n*** Add File: new.py\n+marker = 42\n*** End Patch")
    steps = [change, run("cat crash.log"), says("I could not see the log."), run("cat crash.log"), says("Nor now.")]
    async with bench(tmp_path, own_home, endpoint(wire, by_gateway, *steps), wire=wire) as it:
        events = await it.run("Mend it.")
        assert it.thread.failure is None and it.thread.last_message == "I could not see the log."
        assert [one.set_aside for one in decided(events)] == [("what a tool gave",)]
        assert (tmp_path / "new.py").read_text() == "marker = 42\n", "edits are kept"
        assert any(isinstance(one, ItemCompleted) and isinstance(one.item, FileChange) for one in events)
        # the call is there, its output is not
        assert "cat crash.log" in it.said(3) and "dec_1" in it.said(3)
        # what is read again is judged again, and refused again, and the thread lives
        await it.run("Look again.")
        assert it.thread.last_message == "Nor now."
        assert marked(it.server.requests) == [2, 5]
        thread_id = it.thread.id
    async with bench(
        tmp_path,
        own_home,
        endpoint(wire, by_gateway),
        wire=wire,
        thread=Thread.resume(journal_path(own_home, thread_id)),
    ) as it:
        await it.run("Hello.")
        assert it.thread.failure is None and not marked(it.server.requests)


async def test_what_an_endpoint_names_is_all_that_is_set_aside(tmp_path: Path, own_home: Path) -> None:
    def refuse(wire: str) -> Step:
        outputs = [item for item in it.thread.items if isinstance(item, FunctionCallOutput)]
        return by_gateway(wire, items=[identity(item) for item in outputs if MARK in text_of(item)])

    for name, words in (("a", "fine"), ("b", MARK)):
        (tmp_path / name).write_text(words)
    two = Step(say=tuple(Call("exec_command", json.dumps({"cmd": f"cat {name}"})) for name in "ab"))
    async with bench(tmp_path, own_home, endpoint("responses", lambda wire: refuse(wire), two, says("ok"))) as it:
        await it.run("go")
        assert it.thread.last_message == "ok" and "fine" in it.said(-1) and "dec_1" in it.said(-1)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_retry_after_a_torn_stream_poisons_nothing(wire: str, tmp_path: Path, own_home: Path) -> None:
    torn = Step(say=(Words("Once upon a time there was a long story."),), cut_after_events=3)
    tries = [torn, by_provider(wire)]

    def answer(request: RecordedRequest) -> Step:
        return tries.pop(0) if tries else says("Hello.")

    async with bench(tmp_path, own_home, answer, wire=wire) as it:
        events = await it.run("Tell me a story.")
        assert any(isinstance(event, StepRetry) for event in events)
        assert isinstance(it.thread.failure, ContentRefused)
        await it.run("Hello?")
        assert it.thread.last_message == "Hello." and "Tell me a story." not in it.said(2)


@pytest.mark.parametrize("wire", WIRES)
async def test_what_is_sent_again_and_served_is_in_the_thread_again(wire: str, tmp_path: Path, own_home: Path) -> None:
    granted = False

    def answer(request: RecordedRequest) -> Step:
        return says("Served.") if granted or MARK not in request.body.decode() else by_gateway(wire)

    async with bench(tmp_path, own_home, answer, wire=wire) as it:
        await it.run(f"Do {MARK}.")
        await it.run(f"Do {MARK}.")
        assert it.said(1).count(MARK) == 1, "only what is new is sent again"
        granted = True
        await it.run("Hello.")
        assert MARK not in it.said(2), "a grant sends nothing of its own accord"
        await it.run(f"Do {MARK}.")
        await it.run("And now?")
        assert it.thread.failure is None and it.said(-1).count(MARK) == 3
        assert not replay(journal_path(own_home, it.thread.id)).blocked


async def test_a_cause_that_is_not_the_message_is_found_and_the_message_is_served(
    tmp_path: Path, own_home: Path
) -> None:
    (tmp_path / "AGENTS.md").write_text(f"The project is called {MARK}.\n")
    async with bench(tmp_path, own_home, endpoint("responses", by_provider)) as it:
        await it.run("Good morning.")
        assert isinstance(it.thread.failure, ContentRefused)
        events = await it.run("Hello.")
        assert it.thread.failure is None and isinstance(events[-1], TurnCompleted)
        assert any("instructions" in name for one in decided(events) for name in one.set_aside)
        await it.run("Good morning.")
        assert it.thread.failure is None
        assert marked(it.server.requests) == [0, 1] and "Good morning." in it.said(3)


async def test_what_does_not_help_is_not_set_aside(tmp_path: Path, own_home: Path) -> None:
    """An endpoint that refuses everything for a while costs the thread nothing but what was said meanwhile."""
    closed = True

    def answer(request: RecordedRequest) -> Step:
        return by_provider("responses") if closed else says("Served.")

    (tmp_path / "AGENTS.md").write_text("Use tabs.\n")
    async with bench(tmp_path, own_home, answer) as it:
        for words in ("One.", "Two.", "Three."):
            await it.run(words)
            assert isinstance(it.thread.failure, ContentRefused)
        closed = False
        await it.run("Four.")
        assert it.thread.last_message == "Served."
        assert "Use tabs." in it.said(-1) and "Three." not in it.said(-1)


@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_that_a_filter_broke_off_is_not_sent_again_and_its_calls_are_not_run(
    wire: str, tmp_path: Path, own_home: Path
) -> None:
    calls = (Words(f"Here is {MARK}"), Call("exec_command", json.dumps({"cmd": "touch ran"}), "call_9"))
    steps = [Step(say=calls, stop="refusal"), says("Hello.")]
    async with bench(tmp_path, own_home, steps, wire=wire) as it:
        events = await it.run("Tell me.")
        assert isinstance(it.thread.failure, ContentRefused)
        assert [one.reason for one in events if isinstance(one, CallRejected)] == ["forbidden"]
        assert not (tmp_path / "ran").exists()
        await it.run("Hello?")
        assert it.thread.last_message == "Hello." and MARK not in it.said(1)
        # the Messages API goes on refusing while the question stands there, the others do not
        assert ("Tell me." in it.said(1)) == (wire != "messages")


async def test_a_restricted_account_sets_nothing_aside(tmp_path: Path, own_home: Path) -> None:
    said = by_gateway("responses", clause="actor.suspended", step="restrict", decision="dec_9")
    async with bench(tmp_path, own_home, [said, says("Welcome back.")]) as it:
        events = await it.run("Hello.")
        assert decided(events)[0].step == "restrict" and not decided(events)[0].set_aside
        await it.run("Again.")
        assert "Hello." in it.said(1)


async def test_a_refusal_of_access_is_no_refusal_of_content(tmp_path: Path, own_home: Path) -> None:
    extra = {"clause": "model:scripted-1", "decision": "model:scripted-1"}
    body = DIALECTS["responses"].error(403, "model_needs_access", "It needs verified.", extra=extra)
    async with bench(tmp_path, own_home, [Step(status=403, body=body.decode())]) as it:
        events = await it.run("Hello.")
        assert not decided(events) and not isinstance(it.thread.failure, ContentRefused)
