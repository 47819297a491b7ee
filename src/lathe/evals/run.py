"""A run: every trial of a plan, each once, as many at a time as the machine has room for, journalled one by one.

A run that was killed is gone on with from its journal: what ended there is not done again, what had begun is begun
anew. Only faults of the infrastructure are tried again, and each of them stays on record.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from msgspec.structs import replace

from lathe.evals.agents.base import Agent
from lathe.evals.environments.base import EnvironmentFault, EnvironmentMaker
from lathe.evals.journal import Began, Ended, Faulted, Note, RunFolder, wanted
from lathe.evals.judging import TrialFault
from lathe.evals.record import Fault, Flag, Plan, Trial
from lathe.evals.task import Task
from lathe.evals.trial import Job, faulted, run_trial
from lathe.protocol.errors import UsageError
from lathe.store.journal import now_ms

if TYPE_CHECKING:
    from lathe.evals.audit.known import Known

Phase: TypeAlias = Literal["waiting", "building", "trying"]


class Watcher(Protocol):
    """Whoever is told how a run goes."""

    def begins(self, trial: str, phase: Phase) -> None: ...

    def says(self, trial: str, text: str) -> None: ...

    def faults(self, trial: str, fault: Fault) -> None: ...

    def ends(self, trial: Trial) -> None: ...


class Machine(NamedTuple):
    """What trials may take together: processors, and MiB of memory."""

    cpus: float
    memory_mb: int


def this_machine() -> Machine:
    """Return what this machine has. No more trials at once than processors: verifiers with clocks fail otherwise."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return Machine(float(len(os.sched_getaffinity(0))), memory * 9 // 10)


class Room:
    """Lets trials in as far as there is room; one that needs more than there is goes alone."""

    def __init__(self, machine: Machine, jobs: int) -> None:
        self._machine = machine
        self._jobs = jobs
        self._running = 0
        self._cpus = 0.0
        self._memory = 0
        self._changed = asyncio.Condition()

    async def enter(self, task: Task) -> None:
        """Wait until there is room for the task."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(task))
            self._running += 1
            self._cpus += task.environment.resources.cpus
            self._memory += task.environment.resources.memory_mb

    async def leave(self, task: Task) -> None:
        """Give the room back."""
        async with self._changed:
            self._running -= 1
            self._cpus -= task.environment.resources.cpus
            self._memory -= task.environment.resources.memory_mb
            self._changed.notify_all()

    def _fits(self, task: Task) -> bool:
        if self._running == 0:
            return True
        needs = task.environment.resources
        return (
            self._running < self._jobs
            and self._cpus + needs.cpus <= self._machine.cpus + 1e-9
            and self._memory + needs.memory_mb <= self._machine.memory_mb
        )


class Runner:
    """Does what is left of a run."""

    def __init__(
        self,
        folder: RunFolder,
        tasks: Mapping[str, Task],
        agent: Agent,
        maker: EnvironmentMaker,
        watcher: Watcher,
        *,
        jobs: int = 0,
        machine: Machine | None = None,
    ) -> None:
        self._folder = folder
        self._plan = folder.plan()
        self._tasks = fitting(self._plan, tasks)
        self._agent = agent
        self._maker = maker
        self._watcher = watcher
        machine = machine or this_machine()
        self._jobs = jobs or max(1, int(machine.cpus))
        self._room = Room(machine, self._jobs)
        self._building: dict[str, asyncio.Task[float]] = {}
        self._builds = asyncio.Lock()
        self._known: dict[str, Known] = {}

    async def run(self) -> list[Trial]:
        """Run every trial that has not ended, and return all of the run.

        Raises `StorageError` where nothing can be written any more, and `asyncio.CancelledError`; in both cases what
        ended is on record, and the run can be gone on with.
        """
        self._folder.open()
        try:
            state = self._folder.state()
            left = [one for one in wanted(self._plan) if one[0] not in state.ended]
            if state.ended and left:
                self._folder.append(Note(now_ms(), f"resumed: {len(state.ended)} trials had ended"))
            try:
                await self._all(left, state.faults)
            except asyncio.CancelledError:
                self._folder.append(Note(now_ms(), "stopped"))
                raise
        finally:
            self._folder.close()
            await self._maker.close()
        return self._folder.trials()

    async def _all(self, left: list[tuple[str, str, int]], faults: Mapping[str, list[Fault]]) -> None:
        waiting = iter(left)
        running: set[asyncio.Task[None]] = set()
        try:
            for id, name, attempt in waiting:
                task = self._tasks[name]
                self._watcher.begins(id, "waiting")
                await self._room.enter(task)
                running.add(asyncio.create_task(self._one(id, task, attempt, list(faults.get(id, ())))))
                done = {one for one in running if one.done()}
                running -= done
                for one in done:
                    one.result()
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, id: str, task: Task, attempt: int, faults: list[Fault]) -> None:
        try:
            await self._tried(id, task, attempt, faults)
        finally:
            await self._room.leave(task)

    async def _tried(self, id: str, task: Task, attempt: int, faults: list[Fault]) -> None:
        job = Job(id, task, attempt, self._agent, self._maker)

        def say(text: str) -> None:
            self._watcher.says(id, text)

        while len(faults) <= self._plan.retries:
            number = len(faults) + 1
            try:
                build_s = await self._build(id, task)
                self._watcher.begins(id, "trying")
                self._folder.append(Began(now_ms(), id, number))
                trial = await run_trial(job, self._folder.clear(id), say, build_s=build_s)
            except TrialFault as error:
                fault = error.fault
            except EnvironmentFault as error:
                fault = Fault(error.stage, str(error))
            else:
                flags = await asyncio.to_thread(self._flags, trial, task)
                self._end(replace(trial, faults=tuple(faults), flags=flags))
                return
            faults.append(fault)
            self._watcher.faults(id, fault)
            if fault.stage == "build" or len(faults) > self._plan.retries:
                break  # an image that did not build does not build a minute later
            self._folder.append(Faulted(now_ms(), id, number, fault))
            await asyncio.sleep(min(2.0 ** len(faults), 30.0) if fault.stage == "model" else 0)
        self._end(faulted(job, faults))

    def _flags(self, trial: Trial, task: Task) -> tuple[Flag, ...]:
        """Return what the audit finds in a trial."""
        from lathe.evals.audit.evidence import load
        from lathe.evals.audit.examine import audit
        from lathe.evals.audit.known import Known

        known = self._known.setdefault(task.name, Known(task))
        return audit(load(self._folder.trial(trial.id), trial, task), known)

    def _end(self, trial: Trial) -> None:
        self._folder.append(Ended(now_ms(), trial))
        self._watcher.ends(trial)

    async def _build(self, id: str, task: Task) -> float:
        """Have the image of a task there, each built once and one at a time; return the seconds if it is built now."""
        if building := self._building.get(task.name):
            await asyncio.shield(building)
            return 0.0
        self._watcher.begins(id, "building")
        self._building[task.name] = asyncio.create_task(self._prepared(task))
        return await asyncio.shield(self._building[task.name])

    async def _prepared(self, task: Task) -> float:
        async with self._builds:
            log = self._folder.path / "builds" / f"{task.name.replace('/', '_')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            return await self._maker.prepare(task, log)


def fitting(plan: Plan, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Return the tasks of a plan with its time factor; raise `UsageError` where one is gone or is another by now."""
    found = {}
    for name, digest in plan.tasks:
        task = tasks.get(name)
        if task is None:
            raise UsageError(f"The task {name} of this run is not in {plan.dataset} any more.")
        if task.digest != digest:
            raise UsageError(
                f"The task {name} was changed since this run began.",
                hint="Begin a new run: its trials can't be put beside the old ones.",
            )
        found[name] = replace(task, agent_timeout_s=task.agent_timeout_s * plan.timeout_factor)
    return found
