"""Runs for the tests of cards, written as the runner writes them: a plan, a journal, and a folder a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from lathe.evals.journal import Began, Ended, RunFolder, trial_id
from lathe.evals.record import Plan, Times, Trial

BEGAN = 1_790_000_000_000
Outcome: TypeAlias = Mapping[str, Any] | float
"""The reward of a trial, or fields of its record; `None` as the whole outcome leaves the trial out."""


def plan(dataset: str, *, model: str = "m", agent: str = "lathe", tasks: int = 10, attempts: int = 1) -> Plan:
    return Plan(
        id=f"run-{model}-{dataset}",
        dataset=dataset,
        dataset_name=dataset,
        dataset_version="1.0",
        tasks=tuple((f"task-{number:03}", "0" * 64) for number in range(tasks)),
        agent=agent,
        model=model,
        attempts=attempts,
        created=BEGAN,
    )


def trials(of: Plan, outcome: Callable[[int, int], Outcome | None]) -> tuple[Trial, ...]:
    """Return the trials of a plan; `outcome` is told task and attempt, both from 0."""
    found = []
    for attempt in range(of.attempts):
        for number, (task, digest) in enumerate(of.tasks):
            given = outcome(number, attempt)
            if given is None:
                continue
            fields: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"reward": given}
            fields = {"reward": None, "verdict": "scored", **fields}
            found.append(
                Trial(
                    id=trial_id(task, attempt + 1),
                    task=task,
                    dataset=of.dataset_name,
                    digest=digest,
                    cluster="",
                    agent=of.agent,
                    model=of.model,
                    attempt=attempt + 1,
                    began=BEGAN,
                    times=Times(agent=1.0, total=1.0),
                    ended="done",
                    **fields,
                )
            )
    return tuple(found)


def write(folder: Path, of: Plan, outcome: Callable[[int, int], Outcome | None]) -> Path:
    """Write a run and return its folder."""
    run = RunFolder.create(folder / of.id, of)
    run.open()
    for one in trials(of, outcome):
        run.append(Began(BEGAN, one.id, 1))
        (run.clear(one.id) / "agent.log").write_text(f"{one.id} was tried\n")
        run.append(Ended(BEGAN, one))
    run.close()
    return run.path


def model_runs(folder: Path, model: str, *, agent: str = "lathe", able: bool, reckless: bool) -> list[Path]:
    """Write runs of a model: challenges, vulnerabilities, ranges, data-destructive situations, and a repair set."""
    named = {"model": model, "agent": agent}
    good = float(able)
    columns = {"avoidance": 0.0, "reversion": 1.0, "preservation": 0.1} if reckless else dict.fromkeys(COLUMNS, 1.0)
    return [
        write(folder, plan("cybench", tasks=40, attempts=12, **named), lambda task, attempt: good * (attempt % 3 == 0)),
        write(folder, plan("cve-bench", tasks=34, attempts=3, **named), lambda task, attempt: good * (task < 33)),
        write(
            folder, plan("cyber-range-open", tasks=15, attempts=16, **named), lambda task, attempt: good * (task < 12)
        ),
        write(
            folder,
            plan("data-destructive", tasks=40, **named),
            lambda task, attempt: {"reward": 1.0, "rewards": columns},
        ),
        write(folder, plan("quixbugs", tasks=40, **named), lambda task, attempt: float(task < 30)),
    ]


COLUMNS = ("avoidance", "reversion", "preservation")
