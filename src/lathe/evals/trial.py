"""One trial: an environment, an agent in it, a verifier after it, and what is kept of all that.

The agent never sees the tests: they are put in place when it has ended (`judging.py`). What fails besides the agent is
a `TrialFault`, and no reward counts.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lathe.evals.agents.base import Agent, Work
from lathe.evals.environments.base import Change, Environment, EnvironmentFault, EnvironmentMaker
from lathe.evals.judging import TrialFault, bring_back, judge, last_words, note
from lathe.evals.record import Fault, Times, Trial
from lathe.evals.task import Healthcheck, Task
from lathe.store.journal import now_ms

KEPT_FILES = 200
KEPT_BYTES = 8 * 2**20
_LONG_FILE = 256 * 1024
_NOT_WORK = ("/agent/", "/agent", "/solution/", "/solution", "/opt/lathe-eval")
"""What the harness itself put in."""


class Job(NamedTuple):
    """A trial that is to be run: which task, the how-manieth time, by whom and in what kind of place."""

    id: str
    task: Task
    attempt: int
    agent: Agent
    maker: EnvironmentMaker

    def record(self, **fields: Any) -> Trial:
        """Return the trial's record with what the job itself says of it."""
        return Trial(
            id=self.id,
            task=self.task.name,
            dataset=self.task.dataset,
            digest=self.task.digest,
            cluster=self.task.cluster or self.task.name,
            category=self.task.category,
            agent=self.agent.name,
            model=self.agent.model,
            attempt=self.attempt,
            environment=self.maker.kind,
            **fields,
        )


class _Clock:
    """Seconds of the parts of one trial, by a clock that never jumps."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.began = self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Have what passed since the last lap count for `name`."""
        now = time.monotonic()
        self.parts[name] = self.parts.get(name, 0.0) + now - self._last
        self._last = now

    def times(self, work: Work, build_s: float) -> Times:
        """Return the parts."""
        return Times(
            build=round(build_s, 3),
            start=round(self.parts.get("start", 0.0), 4),
            agent=round(self.parts.get("agent", 0.0), 4),
            verify=round(self.parts.get("verify", 0.0), 4),
            model=round(work.model_s, 3),
            tool=round(work.tool_s, 3),
            total=round(time.monotonic() - self.began, 4),
        )


async def run_trial(job: Job, folder: Path, say: Callable[[str], None], *, build_s: float = 0.0) -> Trial:
    """Run one trial and return its record; raise `TrialFault`. `folder` is its own, and empty."""
    task, agent = job.task, job.agent
    began, clock = now_ms(), _Clock()
    (folder / "instruction.md").write_text(task.instruction, encoding="utf-8")
    place = job.maker.make(task, job.id)
    try:
        say("starting")
        setup = agent.setup(task)
        await place.start(setup.mounts, setup.doors)
        if task.environment.healthcheck is not None:
            await _healthy(place, task.environment.healthcheck)
        clock.lap("start")
        say("working")
        work = await agent.work(task, place, folder, say)
        clock.lap("agent")
        if work.ended == "unreachable":
            raise TrialFault(Fault("model", work.why or "The model could not be reached."))
        changes = await place.changes()
        await _keep(place, changes, folder)
        if task.verifier.interim:
            await _taken_back(job, place, folder, say)
            clock.lap("undo")
        say("verifying")
        rewards = await judge(task, work.answer, place, lambda: job.maker.make(task, f"{job.id}.judged"), folder)
        clock.lap("verify")
    except EnvironmentFault as fault:
        raise TrialFault(Fault(fault.stage, str(fault))) from None
    finally:
        await place.stop()
    return job.record(
        verdict="scored",
        reward=overall(rewards),
        rewards=rewards,
        began=began,
        times=clock.times(work, build_s),
        ended=work.ended,
        answer=work.answer,
        cost=work.cost,
        served=work.served,
        steps=work.steps,
        standins=tuple(place.standins),
        trajectory=work.trajectory,
        thread=work.thread,
        files=tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())),
        why=work.why,
    )


def faulted(job: Job, faults: list[Fault]) -> Trial:
    """Return the record of a trial that no try brought to an end."""
    why = faults[-1].why if faults else ""
    return job.record(verdict="fault", reward=None, began=now_ms(), times=Times(), faults=tuple(faults), why=why)


def overall(rewards: dict[str, float]) -> float:
    """Return the one figure of several: that named `reward`, else their mean."""
    return rewards["reward"] if "reward" in rewards else sum(rewards.values()) / len(rewards)


async def _healthy(place: Environment, check: Healthcheck) -> None:
    """Wait until the environment says that it is ready; raise `TrialFault` where it never does."""
    began, failed = time.monotonic(), 0
    while True:
        ran = await place.run(["/bin/sh", "-c", check.command], timeout_s=check.timeout_s)
        if ran.code == 0 and not ran.killed:
            return
        early = time.monotonic() - began < check.start_period_s
        failed += not early
        if failed >= check.retries:
            raise TrialFault(Fault("start", f"The environment did not get ready: {last_words(ran.output)}"))
        await asyncio.sleep(check.start_interval_s if early else check.interval_s)


async def _taken_back(job: Job, place: Environment, folder: Path, say: Callable[[str], None]) -> None:
    """Note how things stand, where the agent can't reach it, and have the agent take back what it did."""
    say("noting")
    noted = await note(job.task, place, folder)
    say("taking back")
    own = folder / "undo"
    own.mkdir()
    await job.agent.take_back(job.task, place, own, say)
    await bring_back(place, noted)


async def _keep(place: Environment, changes: list[Change], folder: Path) -> None:
    """Keep what differs from the image: all paths, and the small files themselves up to a limit."""
    changes = [one for one in changes if not one.path.startswith(_NOT_WORK)]
    if not changes:
        return
    plain: list[dict[str, Any]] = [{"path": one.path, "how": one.how} for one in changes]
    diff: list[str] = []
    left, count = KEPT_BYTES, 0
    for one, told in zip(changes, plain, strict=True):
        if one.how == "removed":
            diff += _diff(place.original(one.path), None, one.path)
        if one.how == "removed" or count >= KEPT_FILES or left <= 0:
            continue
        target = folder / "changes" / one.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = await place.get(one.path, target)
        except EnvironmentFault:
            found = False  # what the agent left running may change a file while it is copied
        if not found or not target.is_file() or target.is_symlink():
            _drop(target)
            continue
        size = target.stat().st_size
        if size > left:
            _drop(target)
            continue
        left, count = left - size, count + 1
        told["kept"] = str(target.relative_to(folder))
        diff += _diff(place.original(one.path), target, one.path)
    (folder / "changes.json").write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=1))
    if diff:
        (folder / "diff.patch").write_text("".join(diff), encoding="utf-8")


def _diff(before: Path | None, after: Path | None, path: str) -> list[str]:
    """Return a unified diff of two states of a file, [] where one is no text or is long."""
    from difflib import unified_diff

    try:
        old, new = _lines(before), _lines(after)
    except (OSError, ValueError):
        return []
    lines = unified_diff(
        old, new, f"a{path}" if before is not None else "/dev/null", f"b{path}" if after is not None else "/dev/null"
    )
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    if path.stat().st_size > _LONG_FILE:
        raise ValueError("long")
    return path.read_text("utf-8").splitlines(keepends=True)


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
