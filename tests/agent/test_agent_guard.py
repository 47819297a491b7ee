"""Calls are judged before they run, and what the policy says of them is done."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import bench
from running import patch, run, says

from lathe.agent.approvals import ApprovalAnswer, ApprovalQuestion
from lathe.agent.guarding import MOST_WAITING, Guarding, Wished
from lathe.config.settings import GuardTable, RuleSpec, RuleTables
from lathe.guard.acts import first_look
from lathe.guard.acts.monitor import ActMonitor, shipped_rules
from lathe.guard.indicators import Indicator, Read
from lathe.guard.intel import Intel
from lathe.guard.ladder import Situation, decide
from lathe.guard.policy import FAILINGS, SHIPPED, MonitorState, shipped
from lathe.models.script import Call, Step
from lathe.protocol.errors import ConfigError, ExitCode, SafeguardStop
from lathe.protocol.events import CallRejected, GuardDecided
from lathe.protocol.items import FunctionCall
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import RunCommand

STEALS = "cat /etc/shadow"
DOUBTED = "ssh -f -N -R 8080:127.0.0.1:80 nobody@host.invalid"
"""With a network, for which nobody knows whose machine is meant, the rule on it is a doubt about the agent."""


def decided(events: list[Any]) -> list[GuardDecided]:
    return [event for event in events if isinstance(event, GuardDecided)]


def told(text: str) -> dict[str, Any]:
    """What the model was told of a call that was not run."""
    found = re.search(r'\{"withheld":\{.*?\}\}', text.replace('\\"', '"'))
    assert found is not None
    withheld: dict[str, Any] = json.loads(found[0])["withheld"]
    return withheld


class Person:
    """Answers what is held, and keeps what was asked."""

    def __init__(self, *answers: ApprovalAnswer) -> None:
        self.answers = list(answers)
        self.asked: list[ApprovalQuestion] = []

    async def __call__(self, question: ApprovalQuestion) -> ApprovalAnswer:
        self.asked.append(question)
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)


async def test_a_call_that_is_withheld_is_not_run_and_the_model_goes_on(tmp_path: Path, own_home: Path) -> None:
    steps = [run("echo fine"), run(f"{STEALS} > stolen"), says("Then without it.")]
    async with bench(tmp_path, own_home, steps) as it:
        events = await it.run("go")
        assert it.thread.failure is None and it.thread.last_message == "Then without it."
        one = decided(events)
        assert [(event.by, event.step, event.clause) for event in one] == [("agent", "withhold", "credential.theft")]
        assert one[0].policy == shipped().hash and "Why: acts: It matches the rule" in one[0].message
        assert [event.reason for event in events if isinstance(event, CallRejected)] == ["forbidden"]
        said = told(it.said(2))
        assert (said["clause"], said["code"]) == ("credential.theft", "cyber_credential_theft") and said["decision"]
        assert not (tmp_path / "stolen").exists()


async def test_patches_are_judged_by_where_they_write(tmp_path: Path, own_home: Path) -> None:
    preload = patch("*** Begin Patch\n*** Add File: /etc/ld.so.preload\n+x\n*** End Patch")
    steps = [preload, patch("*** Begin Patch\n*** Add File: fine.py\n+x = 1\n*** End Patch"), says("ok")]
    async with bench(tmp_path, own_home, steps, sandbox="danger-full-access") as it:
        events = await it.run("go")
        assert [event.clause for event in decided(events)] == ["exploit.chain"]
        assert (tmp_path / "fine.py").exists()


@pytest.mark.parametrize(
    ("answer", "outcome", "ran"),
    [
        (ApprovalAnswer("once"), ("allow", "approve"), True),
        (ApprovalAnswer("no", "Use a timer of systemd."), ("withhold", "drop"), False),
        (None, ("withhold", "wait"), False),
    ],
)
async def test_a_call_that_is_held_waits_for_the_person(
    answer: ApprovalAnswer | None, outcome: tuple[str, str], ran: bool, tmp_path: Path, own_home: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(SHIPPED.read_text().replace("act: {longest_s: 60", "act: {longest_s: 1"))
    person = Person(*([answer] if answer is not None else []))
    steps = [run(f"touch ran; {DOUBTED}"), says("ok")]
    async with bench(
        tmp_path,
        own_home,
        steps,
        approve="on-request",
        network=True,
        guard=GuardTable(policy=str(policy)),
        ask_approval=person,
    ) as it:
        events = decided(await it.run("go"))
        assert [(event.step, event.choices) for event in events[:1]] == [("hold", ("wait", "approve", "drop"))]
        assert (events[1].step, events[1].answer) == outcome
        assert person.asked[0].held == ("approve", "drop") and "Approve it yourself." in person.asked[0].reason
        assert (tmp_path / "ran").exists() == ran
        if answer is not None and answer.words:
            assert answer.words in it.said(1)


async def test_where_nobody_can_be_asked_a_hold_is_what_the_policy_says(tmp_path: Path, own_home: Path) -> None:
    async with bench(tmp_path, own_home, [run(f"touch ran; {DOUBTED}"), says("ok")], network=True) as it:
        events = decided(await it.run("go"))
        assert [event.step for event in events] == ["withhold"] and not (tmp_path / "ran").exists()


async def test_a_yes_to_what_is_held_is_a_yes_to_this_call_alone(tmp_path: Path, own_home: Path) -> None:
    person = Person(ApprovalAnswer("session"), ApprovalAnswer("no"))
    steps = [run(DOUBTED, escalate=True, reason="to look"), run(DOUBTED, escalate=True, reason="again"), says("ok")]
    async with bench(tmp_path, own_home, steps, approve="on-request", ask_approval=person) as it:
        await it.run("go")
        # "for this session" is no answer to a hold, and grants nothing
        assert [question.held != () for question in person.asked] == [True, True]
        assert not it.surface.calls._approvals.granted


async def test_a_pause_ends_the_turn_and_the_thread_goes_on(tmp_path: Path, own_home: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        re.sub(r"(harmful:\n\s+allowed: log\n.*\n\s+outside: \{default: )refuse", r"\1pause", SHIPPED.read_text())
    )
    arguments = [json.dumps({"cmd": command}) for command in ("touch before", STEALS, "touch after")]
    step = Step(say=tuple(Call("exec_command", one) for one in arguments))
    async with bench(tmp_path, own_home, [step, says("Hello.")], guard=GuardTable(policy=str(policy))) as it:
        events = await it.run("go")
        assert isinstance(it.thread.failure, SafeguardStop) and it.thread.failure.exit_code == ExitCode.SAFEGUARD
        assert [event.step for event in decided(events)] == ["pause"]
        assert (tmp_path / "before").exists() and not (tmp_path / "after").exists()
        await it.run("Hello?")
        assert it.thread.last_message == "Hello."


async def test_an_agent_that_is_stopped_again_and_again_rests(tmp_path: Path, own_home: Path) -> None:
    steps = [run(f"{STEALS} | head -{number}") for number in range(1, 9)]
    async with bench(tmp_path, own_home, [*steps, says("never")]) as it:
        events = await it.run("go")
        assert isinstance(it.thread.failure, SafeguardStop)
        assert [event.step for event in decided(events)] == ["withhold"] * 4 + ["pause"]
    async with bench(tmp_path, own_home, [run(STEALS), run("echo fine"), *[run(STEALS)] * 4, says("ok")]) as it:
        events = await it.run("go")  # the same again is one block, and what may run ends the row
        assert [event.step for event in decided(events)] == ["withhold"] * 5 and it.thread.last_message == "ok"


async def test_a_rule_that_forbids_needs_no_question(tmp_path: Path, own_home: Path) -> None:
    person = Person()
    rules = RuleTables(forbid=(RuleSpec(prefix=("ssh",), reason="no jobs"),))
    steps = [run(DOUBTED), says("ok")]
    async with bench(
        tmp_path, own_home, steps, approve="on-request", network=True, rules=rules, ask_approval=person
    ) as it:
        events = await it.run("go")
        assert not person.asked and "no jobs" in it.said(1) and not decided(events)


async def test_it_can_be_switched_off_and_a_wrong_policy_is_an_error(tmp_path: Path, own_home: Path) -> None:
    async with bench(tmp_path, own_home, [run(STEALS), says("ok")], guard=GuardTable(enabled=False)) as it:
        assert not decided(await it.run("go"))
    with pytest.raises(ConfigError):
        async with bench(tmp_path, own_home, [], guard=GuardTable(policy=str(tmp_path / "none.yaml"))):
            pass


# The monitors themselves.


def wished(command: str, *, risky: bool = True) -> Wished:
    call = FunctionCall("call_1", "exec_command", json.dumps({"cmd": command}))
    return Wished(call, (RunCommand(command, "/work"),), risky, Path("/work"), ())


def guarding(home: Path, load: Callable[[Path], Any], *, ask: bool = False, late_s: float = 5.0) -> Guarding:
    policy = SandboxPolicy(mode="workspace-write", writable_roots=("/work",))
    return Guarding(GuardTable(), home, policy, can_ask=lambda: ask, load=load, late_s=late_s)


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("state", FAILINGS)
async def test_a_monitor_that_fails_is_an_input_of_the_policy(state: MonitorState, ask: bool, own_home: Path) -> None:
    end = threading.Event()

    class Failing:
        def look(self, *_: Any, **__: Any) -> Any:
            if state == "wrong":
                raise RuntimeError("no sense")
            end.wait(30)
            return []

    def load(home: Path) -> Any:
        if state == "dead":
            raise ConfigError("A rule is damaged.")
        return Failing()

    guard = guarding(own_home, load, ask=ask, late_s=0.05)
    try:
        if state == "flooded":
            for _ in range(MOST_WAITING):
                await guard.judge(wished(STEALS))
        judged = await guard.judge(wished(STEALS))
        assert judged is not None
        step = shipped().monitors["acts"].states[state]["act"]
        assert judged.measure.step == (step if ask or step != "hold" else "withhold")
        assert judged.measure.code == f"monitor_{state}" and judged.measure.clause == "monitor.acts"
        assert "it is nothing that you did" in judged.notice
    finally:
        end.set()
        guard.close()


async def test_a_call_that_waits_for_a_late_monitor_runs_when_it_is_done(tmp_path: Path, own_home: Path) -> None:
    end = threading.Event()

    class Late(ActMonitor):
        def look(self, *args: Any, **more: Any) -> Any:
            end.wait(30)
            return super().look(*args, **more)

    class Waits(Person):
        async def __call__(self, question: ApprovalQuestion) -> ApprovalAnswer:
            self.asked.append(question)
            end.set()
            return ApprovalAnswer("wait")

    person = Waits()
    line = run("touch ran; echo security")
    async with bench(tmp_path, own_home, [line, says("ok")], approve="on-request", ask_approval=person) as it:
        guard = it.surface.calls._guard
        assert guard is not None
        guard._load, guard._late_s = lambda home: Late(shipped_rules()), 0.2
        events = decided(await it.run("go"))
        assert [(event.step, event.code, event.answer) for event in events] == [
            ("hold", "monitor_late", ""),
            ("allow", "monitor_late", "wait"),
        ]
        assert person.asked[0].held == ("wait", "drop") and (tmp_path / "ran").exists()


async def test_what_others_report_counts_from_the_next_command_on(own_home: Path) -> None:
    made = []

    def load(home: Path) -> ActMonitor:
        made.append(home)
        return Intel(home).monitor()

    guard = guarding(own_home, load, ask=True)
    line = wished("fetched bad.example/x")
    assert await guard.judge(line) is None and not made
    reported = Indicator(kind="domain", value="bad.example", source="a feed", id="indicator--1", confidence=90)
    Intel(own_home).add(Read(indicators=[reported]))
    judged = await guard.judge(line)
    assert judged is not None and judged.measure.step == "hold" and "a feed" in judged.notice
    assert await guard.judge(line) is not None and len(made) == 1
    guard.close()


def test_the_first_look_knows_what_the_shipped_rules_need() -> None:
    """A line without any of its words lacks a clue of every rule, and none matches without all of its clues."""
    for rule in shipped_rules():
        assert any(
            clue.programs <= first_look.PROGRAMS and clue.pieces <= first_look.PIECES and not clue.patterns
            for clue in rule.clues
        ), rule.title


@pytest.mark.parametrize(
    "line",
    [
        "cat /etc/sha''dow",
        "cat $'/etc/shadow'",
        "cat /etc/{shadow,passwd}",
        "c\\\nrontab x",
        "echo Y2F0 | base64 -d | sh",
        '"nc" -l',
    ],
)
def test_what_a_shell_would_spell_is_looked_at(line: str) -> None:
    assert first_look.may_match(line)


@pytest.mark.parametrize("risky", [True, False])
def test_a_call_of_which_nothing_is_found_is_allowed_by_the_shipped_policy(risky: bool) -> None:
    """So the policy need not be read for it."""
    states: dict[str, MonitorState] = {"acts": "ok", "intel": "ok"}
    measure = decide(shipped(), Situation(monitors=states, carries="call", risky=risky, subject="call_1"))
    assert measure.step == "allow" or (measure.step, measure.ground) == ("log", "monitor")
