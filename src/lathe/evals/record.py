"""What is written of a run and its trials. A trial's record is all that statistics, report, audit and card rest on."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lathe.evals.agents.base import Cost, Served

Verdict: TypeAlias = Literal["scored", "fault"]
"""`scored`: the verifier gave a reward, whatever the agent did. `fault`: the infrastructure failed, none counts."""
FORMAT = 1


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds, by a clock that never jumps. `model` and `tool` are parts of `agent`, 0 where that is not known."""

    build: float = 0.0
    start: float = 0.0
    agent: float = 0.0
    verify: float = 0.0
    model: float = 0.0
    tool: float = 0.0
    total: float = 0.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What failed that is not the agent's: `stage` (build, start, run, files, verify, model, clock), and a sentence."""

    stage: str
    why: str


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that the audit found: its kind, how sure it is (0 to 1), what shows it, and where (step or path)."""

    kind: str
    sure: float
    why: str
    where: str = ""


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One agent on one task once, ended.

    `id` is TASK.ATTEMPT (both kept apart in `task` and `attempt`, which counts from 1); its files lie in
    `trials/ID/` of the run. `tries` counts infrastructure faults before this one, `faults` keeps them. `reward` is
    None for a fault. `rewards` are all that the verifier gave, by name. `ended` is how the agent ended (see `Work`).
    `category` is the task's own.
    `began` is a Unix time in milliseconds and only tells when; durations are in `times`.
    """

    id: str
    task: str
    dataset: str
    digest: str
    cluster: str
    agent: str
    model: str
    attempt: int
    verdict: Verdict
    reward: float | None
    began: int
    times: Times
    ended: str = ""
    rewards: dict[str, float] = {}
    answer: str = ""
    cost: Cost = Cost()
    served: tuple[Served, ...] = ()
    steps: int = 0
    faults: tuple[Fault, ...] = ()
    standins: tuple[str, ...] = ()
    environment: str = ""
    trajectory: str = ""
    thread: str = ""
    files: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    why: str = ""
    category: str = ""

    @property
    def passed(self) -> bool:
        """Whether the whole reward was given."""
        return self.reward is not None and self.reward >= 1.0

    @property
    def substituted(self) -> bool:
        """Whether another model than the one that was asked for served any of it."""
        return any(one.substitution for one in self.served)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run is to do, written once and never changed; what differs from it is another run.

    `dataset` is what was asked for (see `datasets.py`), `tasks` pairs of name and digest. `retries` counts how often a
    trial is tried again after an infrastructure fault.
    """

    id: str
    dataset: str
    dataset_name: str
    dataset_version: str
    tasks: tuple[tuple[str, str], ...]
    agent: str
    agent_options: dict[str, str] = {}
    model: str = ""
    attempts: int = 1
    environment: str = ""
    retries: int = 2
    timeout_factor: float = 1.0
    lathe: str = ""
    created: int = 0
    format: int = FORMAT
