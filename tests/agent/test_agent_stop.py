"""An alarm stops the agent: its processes, its network, its turn. The thread goes on when its person says so."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, bench
from running import run, says

from lathe.agent.calls import HALTED
from lathe.agent.drill import KINDS, drill
from lathe.cli.guard import main
from lathe.models.script import Call, Step
from lathe.protocol.errors import SafeguardStop
from lathe.protocol.events import CommandExecution, ItemStarted, TurnFailed
from lathe.sandbox.census import named

LONG = "setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' {word} & sleep 600"


def check(it: Bench, events: list[Any], why: str) -> None:
    failure = it.thread.failure
    assert isinstance(failure, SafeguardStop)
    assert int(failure.exit_code) == 3
    assert failure.message.startswith(f"{why} ")
    assert failure.message.endswith("none is left.")
    assert [event.error.code for event in events if isinstance(event, TurnFailed)] == ["agent_stopped"]


async def test_an_alarm_ends_the_turn_and_all_that_runs_in_it(tmp_path: Path, own_home: Path) -> None:
    word = uuid.uuid4().hex
    steps = [run(LONG.format(word=word)), says("Understood."), run("echo again"), says("Done.")]
    async with bench(tmp_path, own_home, steps) as it:
        stops: list[asyncio.Task[Any]] = []

        async def alarm() -> None:
            while not named(word):
                await asyncio.sleep(0.01)
            await asyncio.gather(it.surface.stopper.stop("It strayed."), it.surface.stopper.stop("It strayed again."))

        def watch(event: object) -> None:
            if isinstance(event, ItemStarted) and isinstance(event.item, CommandExecution):
                stops.append(asyncio.ensure_future(alarm()))

        events = await it.run("go", watch)
        check(it, events, "It strayed.")
        assert named(word) == []
        await stops[0]
        await it.run("go on")
        assert it.thread.failure is None
        assert HALTED in it.said(1)
        await it.run("run something")
        assert "again" in it.said(3)


async def test_an_alarm_from_another_thread_needs_no_event_loop(tmp_path: Path, own_home: Path) -> None:
    word = uuid.uuid4().hex
    async with bench(tmp_path, own_home, [run(LONG.format(word=word)), says("Fine.")]) as it:

        def hang(event: object) -> None:
            if not isinstance(event, ItemStarted):
                return
            asyncio.get_running_loop().call_later(0.3, block)

        def block() -> None:
            thread = threading.Thread(target=lambda: it.surface.stopper.stop_now("It strayed."))
            thread.start()
            while thread.is_alive():
                time.sleep(0.01)
            left.extend(named(word))

        left: list[int] = []
        events = await it.run("go", hang)
        check(it, events, "It strayed.")
        assert left == []


async def test_who_raises_the_alarm_from_within_the_turn_is_stopped_too(tmp_path: Path, own_home: Path) -> None:
    async def ask(question: str, options: tuple[str, ...]) -> str:
        await it.surface.stopper.stop("It strayed.")
        return "never said"

    call = Call("ask_user", '{"question": "May I?"}')
    async with bench(tmp_path, own_home, [Step(say=(call,)), says("Fine.")], ask_user=ask) as it:
        check(it, await it.run("go"), "It strayed.")
        assert it.surface.stopper.last is not None
        await it.run("go on")
        assert "never said" not in it.said(1)


@pytest.mark.parametrize("letter", ["A", "B", "C", "D", "F"])
async def test_a_drill_leaves_nothing(letter: str) -> None:
    done = await drill(letter, baseline=letter == "A")
    assert done.letter == letter
    assert set(KINDS) - set(done.kinds) <= {"tunnel"}
    assert done.survivors == ()
    assert done.stopped.proven
    assert done.stopped.found >= len(done.kinds)
    if letter == "A":
        assert done.stopped.connections == 1
        assert done.by_kill is not None
        assert done.by_kill > 0


def test_the_command_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--kind", "detached", "--kind", "deaf", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kinds"], said["survivors"], said["ok"]) == (["detached", "deaf"], [], True)
