"""`lathe eval report|compare|audit|list`: what came of runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lathe.config.paths import lathe_home
from lathe.evals.journal import RunFolder
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.evals.record import Plan, Trial
    from lathe.evals.report import Report
    from lathe.evals.task import Dataset, Task


def runs_folder() -> Path:
    """Return where runs are kept that were given no folder."""
    return lathe_home(os.environ) / "evals"


def opened(named: Path) -> RunFolder:
    """Return the run of a folder or an id."""
    path = named.expanduser()
    if not path.exists() and len(named.parts) == 1:
        path = runs_folder() / named
    return RunFolder(path.absolute())


def dataset_of(spec: str, variables: Sequence[str] = ()) -> Dataset:
    """Return the dataset that is asked for; `variables` of this machine may stand in its tasks. Raise `UsageError`."""
    from lathe.evals.formats.known import open_dataset

    return open_dataset(spec, given={name: os.environ[name] for name in variables if name in os.environ})


def written(folder: RunFolder, plan: Plan, trials: list[Trial]) -> Report:
    """Write the report of a run, and return what it says."""
    from lathe.evals.report import write_report

    return write_report(folder.path, plan, trials)


def report(options: argparse.Namespace) -> int:
    """Write a run's report anew."""
    folder = opened(options.run)
    written(folder, folder.plan(), folder.trials())
    sys.stdout.write((folder.path / "report.json").read_text() if options.json else f"{folder.page}\n")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Put two runs side by side."""
    from lathe.evals.compare import as_json, as_markdown, as_text, compare_runs

    sides = [(run.plan(), run.trials()) for run in (opened(options.a), opened(options.b))]
    comparison = compare_runs(sides[0], sides[1])
    if options.json:
        sys.stdout.write(as_json(comparison).decode())
    else:
        sys.stdout.write(as_markdown(comparison) if options.markdown else as_text(comparison))
    return 0


def audit(options: argparse.Namespace) -> int:
    """Look at trials again; return 1 where anything was found, or a standing check does not hold."""
    from lathe.evals.audit.evidence import load
    from lathe.evals.audit.examine import audit as examine
    from lathe.evals.audit.known import Known
    from lathe.evals.audit.standing import standing_checks

    flagged: list[Trial] = []
    every: list[Trial] = []
    for named in options.runs:
        folder = opened(named)
        known: dict[str, Known] = {}
        tasks: dict[str, Task] = {one.name: one for one in dataset_of(folder.plan().dataset).tasks}
        for trial in folder.trials():
            every.append(trial)
            if (task := tasks.get(trial.task)) is None or trial.verdict == "fault":
                continue
            flags = examine(load(folder.trial(trial.id), trial, task), known.setdefault(task.name, Known(task)))
            if flags:
                flagged.append(msgspec.structs.replace(trial, flags=flags))
    standing = standing_checks(every) if options.standing else []
    wrong = [one for one in standing if one.wrong]
    if options.json:
        told = {"trials": len(every), "flagged": flagged, "standing": standing}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        for trial in flagged:
            for flag in trial.flags:
                sys.stdout.write(f"{trial.id}  {flag.kind} ({flag.sure:.0%})  {flag.why}  {flag.where}".rstrip() + "\n")
        for one in standing:
            states = ", ".join(f"{check} {state}" for check, state in one.states.items())
            sys.stdout.write(f"{one.task}: {states}{''.join(f' {why}' for why in one.wrong)}\n")
        sys.stdout.write(f"{len(every)} trials, {len(flagged)} flagged\n")
    return 1 if flagged or wrong else 0


def listed(options: argparse.Namespace) -> int:
    """List runs, or the tasks of a dataset."""
    if options.dataset:
        return _tasks(dataset_of(options.dataset), as_json=options.json)
    rows = []
    root = runs_folder()
    for path in root.iterdir() if root.is_dir() else ():
        run = RunFolder(path)
        try:
            rows.append((run.plan(), run.trials()))
        except UsageError as error:
            sys.stderr.write(f"lathe: {path.name} is left out: {error}\n")
    rows.sort(key=lambda one: one[0].created)
    if options.json:
        sys.stdout.write(msgspec.json.encode([_row(*one) for one in rows]).decode() + "\n")
        return 0
    for plan, trials in rows:
        row = _row(plan, trials)
        mean = "-" if row["mean"] is None else f"{row['mean']:.3f}"
        line = f"{plan.id}  {len(trials)}/{row['of']}  mean {mean}  {plan.dataset_name}  {plan.agent} {plan.model}"
        sys.stdout.write(line.rstrip() + "\n")
    return 0


def _row(plan: Plan, trials: list[Trial]) -> dict[str, object]:
    scored = [one.reward for one in trials if one.reward is not None]
    return {
        "id": plan.id,
        "dataset": plan.dataset_name,
        "agent": plan.agent,
        "model": plan.model,
        "ended": len(trials),
        "of": len(plan.tasks) * plan.attempts,
        "faults": len(trials) - len(scored),
        "mean": sum(scored) / len(scored) if scored else None,
    }


def _tasks(dataset: Dataset, *, as_json: bool) -> int:
    if as_json:
        rows = [{"name": one.name, "difficulty": one.difficulty, "category": one.category} for one in dataset.tasks]
        told = {"name": dataset.name, "version": dataset.version, "tasks": rows, "unread": dataset.unread}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return 0
    for task in dataset.tasks:
        sys.stdout.write(f"{task.name:<40} {task.difficulty:<8} {task.category}".rstrip() + "\n")
    for name, why in dataset.unread:
        sys.stdout.write(f"{name}: not read: {why}\n")
    return 0
