"""A run while somebody sets the clock: nothing is lost, doubled, negative, out of order or over too early."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_metering import asked, gateway
from trivial import AGENT, doubling, plan_of

from lathe.card.build import build_card
from lathe.evals import atif
from lathe.evals.agents.plain import Script
from lathe.evals.audit.standing import standing_checks
from lathe.evals.environments.maker import open_maker
from lathe.evals.journal import Ended, RunFolder
from lathe.evals.metering import Meter
from lathe.evals.progress import Progress
from lathe.evals.record import Trial
from lathe.evals.report import write_report
from lathe.evals.run import Runner
from lathe.models.script import Step, Words

pytestmark = pytest.mark.timeout(180, func_only=True)

DAY_S = 86_400
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
TIMES = ("build", "start", "agent", "verify", "model", "tool", "total")


class Stopping(Progress):
    """Stops the run when a number of trials have ended."""

    def __init__(self, total: int, before: list[Trial], out: io.StringIO, *, after: int) -> None:
        super().__init__(total, before, out, live=True)
        self.task: asyncio.Task[list[Trial]] | None = None
        self.after = after

    def ends(self, trial: Trial) -> None:
        super().ends(trial)
        self.after -= 1
        if self.after == 0 and self.task is not None:
            self.task.cancel()


async def test_a_run_is_stopped_and_gone_on_with_while_the_clock_jumps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    began, true = time.monotonic(), time.time_ns
    jumps = itertools.cycle([0, 400 * DAY_S, -30 * DAY_S, 3600, -800 * DAY_S, -1])
    monkeypatch.setattr(time, "time_ns", lambda: true() + next(jumps) * 10**9)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
    tasks = {name: replace(task, agent_timeout_s=60) for name, task in doubling(tmp_path / "tasks", 3).items()}
    plan = plan_of(tasks, agent="oracle", attempts=2, retries=0)
    run, out = RunFolder.create(tmp_path / "run", plan), io.StringIO()
    script = tmp_path / "agent.sh"
    script.write_text(AGENT + "echo doubled\n")
    agent = Script(script)
    agent.name = "oracle"

    async def go(watcher: Progress) -> list[Trial]:
        return await Runner(run, tasks, agent, open_maker("rootfs", tmp_path / "cache"), watcher, jobs=2).run()

    stopping = Stopping(6, [], out, after=2)
    stopping.task = asyncio.create_task(go(stopping))
    with pytest.raises(asyncio.CancelledError):
        await stopping.task
    before = list(run.state().ended.values())
    assert 2 <= len(before) < 6
    trials = await go(progress := Progress(6, before, out, live=True))
    elapsed = time.monotonic() - began

    records = [one for one in run.records() if one is not None]
    assert any(later.t < one.t for one, later in itertools.pairwise(records)), "the journal's times do go back"
    assert Counter(one.trial.id for one in records if isinstance(one, Ended)) == {one.id: 1 for one in trials}
    assert [one.id for one in trials] == [f"double-{n}.{attempt}" for attempt in (1, 2) for n in range(3)]
    for trial in trials:
        times = {name: getattr(trial.times, name) for name in TIMES}
        assert (trial.ended, trial.verdict, trial.faults) == ("done", "scored", ()), trial
        assert all(0 <= one <= elapsed for one in times.values()) and times["agent"] > 0, times
        told = atif.read((run.trial(trial.id) / trial.trajectory).read_bytes())
        stamps = [step.timestamp for step in told.steps if step.timestamp]
        assert len(stamps) == 2 and stamps == sorted(stamps)
    took = progress.summary().rpartition("took ")[2]
    assert float(took.removesuffix(" s")) <= elapsed + 1, progress.summary()

    write_report(run.path, plan, trials)
    told = json.loads((run.path / "report.json").read_text())
    assert [one["id"] for one in told["trials"]] == [one.id for one in trials]
    assert all(check.states["again"] == "holds" for check in standing_checks(trials))
    build_card([run.path], tmp_path / "card", model="oracle", issued=time.time_ns() // 10**6)


def test_steps_stay_in_order_when_the_clock_was_set() -> None:
    def at(when: str | None) -> atif.Step:
        return atif.Step(step_id=1, source="agent", message="", timestamp=when)

    hours = ["12:00:00", "12:00:10", None, "11:00:10", "11:00:15", "23:00:00", "23:00:01"]
    steps = [at(f"2026-11-28T{one}Z" if one else one) for one in hours]
    assert atif.seconds_of(steps, 60) == [0, 10, None, 10, 15, 15, 16]
    assert atif.seconds_of([at("never"), at("9999-12-31T23:59:59-23:00"), *steps[:2]])[-2:] != [None, None]


def faked(file: Path) -> dict[str, str]:
    """Return what a process needs for its wall clock to be set by a file, and no other clock."""
    if LIBRARY is None:
        pytest.skip("needs libfaketime (Debian's faketime)")
    put(file, 0)
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def put(file: Path, offset_s: int) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(f"{offset_s:+d}s\n")
    draft.rename(file)


async def test_a_gateway_keeps_count_of_a_trial_while_its_clock_jumps(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    offsets = (0, 400 * DAY_S, -30 * DAY_S)
    steps = [Step(say=(Words("So."),))] * len(offsets)
    async with gateway(*steps, environ=faked(file)) as access, Meter(access).lease("double-1.1") as lease:
        assert lease is not None
        receipts = []
        for offset in offsets:
            put(file, offset)
            answer = await asked(lease.access, "POST", "/v1/responses", {"model": "dear", "input": "Hi"})
            receipts.append(await asked(access, "GET", answer["lathe"]["receipt"]))
        took = await lease.taken()
    assert took.cost.requests == 3 and took.cost.input_tokens == 300
    times = [one["receipt"]["at"] for one in receipts]
    assert times[1] - times[0] > 399 * DAY_S * 1000 > 0 > times[2] - times[0], "the clock was set"


def test_a_whole_process_is_killed_and_gone_on_with_under_a_clock_that_jumps(tmp_path: Path) -> None:
    count, file, run = 12, tmp_path / "offset", RunFolder(tmp_path / "run")
    environ = {**os.environ, **faked(file)}
    command = [sys.executable, str(Path(__file__).with_name("trivial.py")), str(run.path), str(count)]
    offsets = itertools.cycle([400 * DAY_S, -30 * DAY_S, 3600, -800 * DAY_S, 0])
    for kill in (True, False):
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([*command, str(tmp_path / "c")], env=environ, stdout=log, stderr=log)
        while process.poll() is None:
            put(file, next(offsets))
            if kill and len(run.state().ended) >= count // 2:
                process.kill()
            time.sleep(0.02)
        assert kill or process.returncode == 0, (tmp_path / "log").read_text()
    records = [one for one in run.records() if one is not None]
    assert any(later.t < one.t - DAY_S for one, later in itertools.pairwise(records)), "the clock was set"
    assert sorted(Counter(one.trial.id for one in records if isinstance(one, Ended)).values()) == [1] * count
    for trial in run.trials():
        number = int(trial.task.removeprefix("double-"))
        assert (trial.verdict, trial.ended, trial.faults) == ("scored", "done", ())
        assert trial.reward == (0.0 if number % 3 == 0 and number else 1.0)
        assert all(0 <= getattr(trial.times, name) < 180 for name in TIMES)
