"""Runs of small tasks in real environments: what ends how, what is on record, and what bad input comes to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from trivial import AGENT, doubling, plan_of

from lathe.evals.agents.base import Agent
from lathe.evals.agents.plain import NoOp, Oracle, Script
from lathe.evals.environments.maker import open_maker
from lathe.evals.journal import Faulted, RunFolder
from lathe.evals.progress import Progress
from lathe.evals.record import Plan, Trial
from lathe.evals.run import Machine, Runner
from lathe.evals.task import Task
from lathe.protocol.errors import UsageError

pytestmark = pytest.mark.timeout(120, func_only=True)


async def ran(
    folder: Path, tasks: dict[str, Task], agent: Agent, plan: Plan | None = None, **options: Any
) -> tuple[RunFolder, list[Trial]]:
    """Run to the end, or go on with what is in the folder."""
    if plan is None:
        plan = plan_of(tasks)
    run = RunFolder(folder / "run")
    if not (run.path / "plan.json").exists():
        run = RunFolder.create(folder / "run", plan)
    maker = open_maker("rootfs", folder / "cache")
    runner = Runner(run, tasks, agent, maker, Progress(len(tasks), [], quiet=True), **options)
    return run, await runner.run()


def changed(task: Task, folder: Path, test: str, **verifier: Any) -> dict[str, Task]:
    """Return the task with another verifier."""
    from msgspec.structs import replace

    tests = folder / "other-tests"
    tests.mkdir()
    (tests / "test.sh").write_text(test)
    return {task.name: replace(task, verifier=replace(task.verifier, tests=tests, **verifier))}


async def test_a_trial_is_scored_and_all_of_it_kept(tmp_path: Path) -> None:
    tasks = doubling(tmp_path / "tasks", 2)
    agent = tmp_path / "agent.sh"
    agent.write_text("echo working; " + AGENT)
    run, trials = await ran(tmp_path, tasks, Script(agent))
    assert [(one.id, one.verdict, one.reward, one.ended) for one in trials] == [
        ("double-0.1", "scored", 1.0, "done"),
        ("double-1.1", "scored", 1.0, "done"),
    ]
    folder = run.trial("double-1.1")
    changes = json.loads((folder / "changes.json").read_text())
    assert {"path": "/app/answer", "how": "added", "kept": "changes/app/answer"} in changes
    assert (folder / "changes/app/answer").read_text() == "2\n"
    steps = json.loads((folder / "trajectory.json").read_text())["steps"]
    assert "working" in steps[1]["observation"]["results"][0]["content"]
    assert '"o", "working' in (folder / "terminal.jsonl").read_text()
    times = trials[0].times
    assert times.total >= times.start + times.agent + times.verify > 0


async def test_attempts_are_trials_of_their_own(tmp_path: Path) -> None:
    tasks = doubling(tmp_path / "tasks", 2)
    _, trials = await ran(tmp_path, tasks, NoOp(), plan_of(tasks, attempts=3))
    assert [one.id for one in trials] == [f"double-{task}.{n}" for n in (1, 2, 3) for task in (0, 1)]
    assert {one.reward for one in trials} == {0.0}


@pytest.mark.parametrize(
    ("test", "verifier", "why"),
    [
        ("sleep 60", {"timeout_s": 0.5}, "The verifier did not end within 0.5 s"),
        ("exit 3", {}, "exit code 3"),
        ("echo much > /logs/verifier/reward.txt", {}, "no number"),
        ("echo nan > /logs/verifier/reward.txt", {}, "no finite number"),
    ],
)
async def test_a_verifier_that_fails_is_no_failure_of_the_agent(
    test: str, verifier: dict[str, Any], why: str, tmp_path: Path
) -> None:
    task = doubling(tmp_path / "tasks", 1)["double-0"]
    tasks = changed(task, tmp_path, test, **verifier)
    run, (trial,) = await ran(tmp_path, tasks, NoOp(), plan_of(tasks, retries=1))
    assert (trial.verdict, trial.reward, len(trial.faults)) == ("fault", None, 2)
    assert why in trial.why and trial.faults[-1].stage == "verify"
    assert sum(isinstance(one, Faulted) for one in run.records()) == 1


async def test_a_fault_that_passes_is_tried_again_and_kept(tmp_path: Path) -> None:
    """The first try has no reward; what the second finds is what counts, and both are on record."""
    task = doubling(tmp_path / "tasks", 1)["double-0"]
    marker = tmp_path / "marker"

    class Twice(NoOp):
        async def work(self, task: Task, place: Any, folder: Path, say: Any) -> Any:
            if not marker.exists():
                marker.write_text("")
                await place.run(["/bin/sh", "-c", "touch /app/broken"])
            return await super().work(task, place, folder, say)

    tasks = changed(task, tmp_path, "[ -e /app/broken ] || echo 1 > /logs/verifier/reward.txt")
    _, (trial,) = await ran(tmp_path, tasks, Twice())
    assert (trial.verdict, trial.reward) == ("scored", 1.0)
    assert [one.stage for one in trial.faults] == ["verify"]


async def test_a_model_that_cannot_be_reached_is_no_failure_of_the_agent(tmp_path: Path) -> None:
    class Mute(NoOp):
        async def work(self, *given: Any) -> Any:
            from lathe.evals.agents.base import Work

            return Work(ended="unreachable", why="Nobody answers.")

    tasks = doubling(tmp_path / "tasks", 1)
    _, (trial,) = await ran(tmp_path, tasks, Mute(), plan_of(tasks, retries=0))
    assert (trial.verdict, trial.reward, trial.faults[-1].stage, trial.why) == (
        "fault",
        None,
        "model",
        "Nobody answers.",
    )


async def test_rewards_that_the_agent_wrote_do_not_count(tmp_path: Path) -> None:
    tasks = doubling(tmp_path / "tasks", 1)
    cheat = tmp_path / "cheat.sh"
    cheat.write_text(
        "mkdir -p /logs/verifier /tests; echo 1 > /logs/verifier/reward.txt; echo '{\"reward\": 1}' > "
        "/logs/verifier/reward.json; echo 'echo 1 > /logs/verifier/reward.txt' > /tests/test.sh; "
        "chmod a-w /logs/verifier/* /tests/test.sh; ln -s /dev/full /logs/verifier/x"
    )
    _, (trial,) = await ran(tmp_path, tasks, Script(cheat))
    assert trial.reward == 0.0


async def test_no_more_run_at_once_than_the_machine_has_room_for(tmp_path: Path) -> None:
    from msgspec.structs import replace

    tasks = {
        name: replace(
            task, environment=replace(task.environment, resources=replace(task.environment.resources, memory_mb=700))
        )
        for name, task in doubling(tmp_path / "tasks", 6).items()
    }
    running, most = 0, 0

    class Counted(NoOp):
        async def work(self, *given: Any) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.05)
            running -= 1
            return await super().work(*given)

    await ran(tmp_path, tasks, Counted(), jobs=5, machine=Machine(8, 1500))
    assert most == 2


async def test_a_task_that_was_changed_since_is_not_gone_on_with(tmp_path: Path) -> None:
    from msgspec.structs import replace

    tasks = doubling(tmp_path / "tasks", 2)
    await ran(tmp_path, tasks, NoOp())
    other = {name: replace(task, digest=task.digest + "x") for name, task in tasks.items()}
    with pytest.raises(UsageError, match="was changed since this run began"):
        await ran(tmp_path, other, NoOp())


async def test_a_run_that_ended_is_not_done_again(tmp_path: Path) -> None:
    tasks = doubling(tmp_path / "tasks", 2)
    run, before = await ran(tmp_path, tasks, NoOp())
    size = run.journal.stat().st_size
    _, after = await ran(tmp_path, tasks, Oracle())
    assert (after, run.journal.stat().st_size) == (before, size)


async def test_a_half_deleted_run_is_gone_on_with(tmp_path: Path) -> None:
    """Trials' files that are gone are gone; a journal cut in the middle of a line loses that line's trial only."""
    import shutil

    tasks = doubling(tmp_path / "tasks", 3)
    run, _ = await ran(tmp_path, tasks, NoOp())
    shutil.rmtree(run.path / "trials")
    whole = run.journal.read_bytes()
    run.journal.write_bytes(whole[:-20])
    assert len(run.trials()) == 2
    _, trials = await ran(tmp_path, tasks, NoOp())
    assert len(trials) == 3 and all(one.reward == 0.0 for one in trials)
    (run.path / "plan.json").unlink()
    with pytest.raises(UsageError, match="it has no plan"):
        run.plan()


async def test_two_processes_never_write_one_run(tmp_path: Path) -> None:
    tasks = doubling(tmp_path / "tasks", 1)
    run, _ = await ran(tmp_path, tasks, NoOp())
    run.open()
    try:
        with pytest.raises(UsageError, match="is going on in another process"):
            await ran(tmp_path, tasks, NoOp())
    finally:
        run.close()


async def test_an_agent_that_fills_its_disk_fails_alone(tmp_path: Path) -> None:
    from msgspec.structs import replace

    task = doubling(tmp_path / "tasks", 1)["double-0"]
    small = replace(task.environment, resources=replace(task.environment.resources, disk_mb=32))
    agent = tmp_path / "agent.sh"
    agent.write_text("cat /dev/zero > /app/zeroes; echo 0 > /app/answer")
    _, (trial,) = await ran(tmp_path, {task.name: replace(task, environment=small)}, Script(agent))
    assert (trial.verdict, trial.reward) == ("scored", 0.0)
