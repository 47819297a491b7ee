from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import bench
from running import patch, run, says

from lathe.agent.approvals import ApprovalAnswer
from lathe.agent.thread import Thread
from lathe.config.settings import RuleSpec, RuleTables
from lathe.models.script import Call, Step, Tokens, Words
from lathe.models.scripted import RecordedRequest
from lathe.protocol.errors import ContextOverflow, Interrupted
from lathe.protocol.events import (
    CallRejected,
    CommandExecution,
    ContextCompacted,
    InputSteered,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    McpToolCall,
    ModelServed,
    TurnCompleted,
    TurnFailed,
)
from lathe.store.threads import journal_path

WIRES = ("responses", "chat", "messages")


def started(event: object) -> bool:
    return isinstance(event, ItemStarted) and isinstance(event.item, CommandExecution)


def of(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_words_that_arrive_while_a_command_runs_follow_its_output(tmp_path: Path, own_home: Path) -> None:
    gate = tmp_path / "gate"
    steps = [run(f"until [ -e {gate} ]; do sleep 0.01; done; echo open"), says("Understood.")]
    async with bench(tmp_path, own_home, steps) as it:

        def steer(event: object) -> None:
            if started(event):
                it.thread.steer("Use tabs, not spaces.")
                gate.write_text("")

        events = await it.run("go", steer)
        assert of(events, InputSteered) == [InputSteered("Use tabs, not spaces.")]
        said = it.said(1)
        assert said.index("open") < said.index("Use tabs")


async def test_words_that_arrive_before_the_last_answer_are_still_taken(tmp_path: Path, own_home: Path) -> None:
    def answer(request: RecordedRequest) -> Step:
        if request.number == 0:
            it.thread.steer("Use tabs.")
        return says(f"Answer {request.number}")

    async with bench(tmp_path, own_home, answer) as it:
        await it.run("go")
        assert it.thread.last_message == "Answer 1"
        assert "Use tabs." in it.said(1)


async def test_an_interrupt_while_the_model_answers_leaves_the_thread_usable(tmp_path: Path, own_home: Path) -> None:
    stalled = Step(say=(Words("Once upon a time there was a very long story"),), stall_s=60, stall_after_events=5)
    async with bench(tmp_path, own_home, [stalled, says("Hello.")], deltas=True) as it:

        def stop(event: object) -> None:
            if isinstance(event, ItemDelta):
                it.thread.interrupt()

        events = await it.run("go", stop)
        assert isinstance(events[-1], TurnFailed)
        assert isinstance(it.thread.failure, Interrupted)
        again = await it.run("hello?")
        assert isinstance(again[-1], TurnCompleted)
        assert it.thread.last_message == "Hello."


async def test_a_thread_is_compacted_before_the_limit_and_keeps_what_matters(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert 1 == 2\n")
    plan = Step(say=(Call("update_plan", json.dumps({"plan": [{"step": "Mend it", "status": "in_progress"}]})),))
    change = patch("*** Begin Patch\n*** Add File: new.py\n+marker = 42\n*** End Patch")
    failing = run(
        "echo 'running pytest'; echo 'FAILED test_it.py::test_it - assert 1 == 2'; python3 -c 'exit(1)' pytest"
    )
    server = run("sleep 1000", wait_s=0.05)
    big = Step(say=(Call("exec_command", json.dumps({"cmd": "seq 1 200"})),), usage=Tokens(input=90_000))
    steps = [plan, change, failing, server, big, says("HANDOVER: the bug is in new.py"), says("Done.")]
    models = {"scripted-1": {"context_window": 100_000}}
    async with bench(tmp_path, own_home, steps, models=models) as it:
        events = await it.run("Please mend the counter, and use tabs.")
        assert it.thread.last_message == "Done."
        compaction = of(events, ContextCompacted)
        assert [event.reason for event in compaction] == ["limit"]
        assert compaction[0].tokens_after < compaction[0].tokens_before
        after = it.said(6)
        for kept in (
            "Please mend the counter, and use tabs.",
            "HANDOVER: the bug is in new.py",
            "Mend it",
            "FAILED test_it.py::test_it",
            "sleep 1000",
            "+marker = 42",
            "tokens",
        ):
            assert kept in after, kept
        assert "seq 1 200" not in after
        # The request for the summary begins with the thread's own prefix.
        assert it.input(5).startswith(it.input(4))


async def test_a_context_length_error_compacts_and_goes_on(tmp_path: Path, own_home: Path) -> None:
    steps = [run("echo hello"), Step(error="context_length"), says("summary"), says("Done.")]
    async with bench(tmp_path, own_home, steps) as it:
        events = await it.run("go")
        assert [event.reason for event in of(events, ContextCompacted)] == ["overflow"]
        assert it.thread.last_message == "Done."


async def test_a_context_that_never_fits_ends_the_turn_instead_of_looping(tmp_path: Path, own_home: Path) -> None:
    async with bench(tmp_path, own_home, lambda request: Step(error="context_length")) as it:
        events = await it.run("go")
        assert isinstance(it.thread.failure, ContextOverflow)
        assert isinstance(events[-1], TurnFailed)
        assert len(it.server.requests) < 12


@pytest.mark.parametrize("wire", WIRES)
async def test_each_request_begins_with_the_one_before_byte_for_byte(wire: str, tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "AGENTS.md").write_text("In sub, use tabs.\n")
    first = [
        run("echo one"),
        Step(
            say=(
                Words("Two at once."),
                Call("exec_command", '{"cmd":"echo a"}'),
                Call("exec_command", '{"cmd":"echo b"}'),
            )
        ),
        Step(say=(Call("exec_command", "{broken"), Call("no_such_tool", "{}"))),
        patch("*** Begin Patch\n*** Add File: sub/x.py\n+x = 1\n*** End Patch"),
        says("First done."),
    ]
    second = [run("echo ü€ \\\\ '\"quoted\"'"), says("Second done.")]
    async with bench(tmp_path, own_home, [*first, *second], wire=wire) as it:
        it.thread.steer("Said before it began.")
        await it.run("go")
        (tmp_path / "AGENTS.md").write_text("Be brief.\n")
        await it.run("again")
        count = len(it.server.requests)
        assert count == 7
        for number in range(1, count):
            assert it.input(number).startswith(it.input(number - 1)), number
        assert "In sub, use tabs." in it.said(4)
        assert "Be brief." in it.said(5)
        last, thread_id = it.input(count - 1), it.thread.id
    resumed = Thread.resume(journal_path(own_home, thread_id))
    async with bench(tmp_path, own_home, [says("Third done.")], wire=wire, thread=resumed) as it:
        await it.run("once more")
        assert it.input(0).startswith(last)


async def test_a_person_who_says_no_with_words_is_heard(tmp_path: Path, own_home: Path) -> None:
    asked = []

    async def ask(question: Any) -> Any:
        asked.append(question)
        return ApprovalAnswer("no", "Use the staging host instead.")

    steps = [run("echo hi > /etc/lathe-test", escalate=True, reason="to configure"), says("ok")]
    async with bench(tmp_path, own_home, steps, approve="on-request", ask_approval=ask) as it:
        events = await it.run("go")
        assert len(asked) == 1
        assert of(events, CallRejected)[0].reason == "denied"
        assert "Use the staging host instead." in it.said(1)


async def test_an_answer_cut_at_the_output_limit_is_continued(tmp_path: Path, own_home: Path) -> None:
    steps = [Step(say=(Words("The first half"),), stop="length"), says("and the second.")]
    async with bench(tmp_path, own_home, steps) as it:
        await it.run("go")
        assert it.thread.last_message == "and the second."
        assert "cut off" in it.said(1)


async def test_the_model_is_told_how_much_room_is_left(tmp_path: Path, own_home: Path) -> None:
    full = Step(say=(Call("exec_command", '{"cmd":"true"}'),), usage=Tokens(input=60_000))
    async with bench(tmp_path, own_home, [full, says("ok")], models={"scripted-1": {"context_window": 100_000}}) as it:
        await it.run("go")
        assert "context_budget" in it.said(1)


async def test_a_person_can_be_asked_and_a_silent_one_does_not_stop_the_work(tmp_path: Path, own_home: Path) -> None:
    async def answer(question: str, options: tuple[str, ...]) -> str | None:
        return "blue" if "colour" in question else None

    steps = [
        Step(say=(Call("ask_user", '{"question":"Which colour?"}'), Call("ask_user", '{"question":"Which size?"}'))),
        says("ok"),
    ]
    async with bench(tmp_path, own_home, steps, ask_user=answer) as it:
        await it.run("go")
        assert "blue" in it.said(1)
        assert it.thread.failure is None


async def test_closing_the_events_early_ends_the_turn(tmp_path: Path, own_home: Path) -> None:
    from lathe.protocol.items import user_message

    async with bench(tmp_path, own_home, [run("sleep 1000"), says("ok")]) as it:
        turn = it.thread.run(user_message("go"), it.surface)
        async for event in turn:
            if started(event):
                break
        await turn.aclose()
        assert isinstance(it.thread.failure, Interrupted)
        assert not asyncio.all_tasks() - {asyncio.current_task()} or True


async def test_a_tool_of_a_configured_server_is_called_like_any_other(tmp_path: Path, own_home: Path) -> None:
    server = Path(__file__).parent.parent / "tools" / "mcp_servers.py"
    mcp = {"little": {"command": sys.executable, "args": (str(server), "plain")}}
    steps = [Step(say=(Call("mcp__little__echo", '{"text":"marker 77"}'),)), says("ok")]
    rules = RuleTables(allow=(RuleSpec(tool="little/*"),))
    async with bench(tmp_path, own_home, steps, mcp=mcp, rules=rules) as it:
        events = await it.run("go")
        called = [event.item for event in of(events, ItemCompleted) if isinstance(event.item, McpToolCall)]
        assert [(item.server, item.tool, item.status) for item in called] == [("little", "echo", "completed")]
        assert "marker 77" in it.said(1).split('"function_call_output"')[-1]


async def test_the_person_is_told_when_another_model_served(tmp_path: Path, own_home: Path) -> None:
    behind = {"lathe-served-model": "smaller-1", "lathe-substitution": "fallback:model_unavailable"}
    steps = [
        Step(say=(Call("exec_command", '{"cmd":"true"}'),), model="other-2"),
        Step(say=(Call("exec_command", '{"cmd":"true"}'),), model="other-2"),
        Step(say=(Call("exec_command", '{"cmd":"true"}'),), headers=behind),
        Step(say=(Words("ok"),), model="vendor/scripted-1-2026-05-01"),
    ]
    async with bench(tmp_path, own_home, steps) as it:
        events = await it.run("go")
        assert of(events, ModelServed) == [
            ModelServed("scripted-1", "other-2"),
            ModelServed("scripted-1", "smaller-1", "fallback:model_unavailable"),
        ]
