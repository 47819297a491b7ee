"""What a report says, as data: `report.json` is this, the page and the Markdown are made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from lathe.evals.record import Plan, Trial
from lathe.evals.stats.summary import Summary, summarise

FORMAT = 1


class TaskRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task: its mean reward over the trials that count (None without any), and its trials by id."""

    task: str
    category: str
    mean: float | None
    scored: int
    passed: int
    faults: int
    trials: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run, reported.

    `missing` counts planned trials that have no record. `notes` are sentences that belong beside every figure: what
    is missing, failed besides the agent, was served by another model, stood in for something, or was flagged.
    """

    format: int = FORMAT
    plan: Plan
    summary: Summary
    missing: int
    notes: tuple[str, ...]
    tasks: tuple[TaskRow, ...]
    trials: tuple[Trial, ...]


def build(plan: Plan, trials: Sequence[Trial]) -> Report:
    """Return the report of a run."""
    missing = max(0, len(plan.tasks) * plan.attempts - len(trials))
    return Report(
        plan=plan,
        summary=summarise(trials, {trial.task: trial.category for trial in trials if trial.category}),
        missing=missing,
        notes=tuple(_notes(plan, trials, missing)),
        tasks=tuple(_tasks(plan, trials)),
        trials=tuple(trials),
    )


def stages(trials: Sequence[Trial]) -> dict[str, int]:
    """Return how often the infrastructure failed at each stage, most first; failures of repeated tries count too."""
    return dict(Counter(fault.stage for trial in trials for fault in trial.faults).most_common())


def _tasks(plan: Plan, trials: Sequence[Trial]) -> Iterator[TaskRow]:
    by_task: dict[str, list[Trial]] = {name: [] for name, _ in plan.tasks}
    for trial in trials:
        by_task.setdefault(trial.task, []).append(trial)
    for name, mine in by_task.items():
        mine.sort(key=lambda trial: trial.attempt)
        rewards = [trial.reward for trial in mine if trial.verdict == "scored" and trial.reward is not None]
        yield TaskRow(
            name,
            next((trial.category for trial in mine if trial.category), ""),
            sum(rewards) / len(rewards) if rewards else None,
            len(rewards),
            sum(trial.passed for trial in mine),
            sum(trial.verdict == "fault" for trial in mine),
            tuple(trial.id for trial in mine),
        )


def _notes(plan: Plan, trials: Sequence[Trial], missing: int) -> Iterator[str]:
    if missing:
        planned = len(plan.tasks) * plan.attempts
        yield f"{missing} of {planned} planned trials have no record: the run is not finished."
    failed = [trial for trial in trials if trial.verdict == "fault"]
    if failed:
        at = Counter(trial.faults[-1].stage if trial.faults else "unknown" for trial in failed)
        named = ", ".join(f"{stage} {count}" for stage, count in at.most_common())
        yield f"In {_trials(len(failed))} the infrastructure failed ({named}): they count neither way."
    repeated = sum(bool(trial.faults) for trial in trials if trial.verdict == "scored")
    if repeated:
        yield f"{_trials(repeated)} count that were tried again after a fault of the infrastructure."
    yield from _substitutions(trials)
    standins = Counter(one for trial in trials for one in trial.standins)
    if standins:
        named = ", ".join(f"{name} ({count})" for name, count in standins.most_common())
        yield f"Something stood in for what could not be had: {named}."
    flagged = Counter(kind for trial in trials for kind in {flag.kind for flag in trial.flags})
    if flagged:
        named = ", ".join(f"{kind} {count}" for kind, count in flagged.most_common())
        yield f"The audit flagged {_trials(sum(bool(trial.flags) for trial in trials))}: {named}."
    unpriced = sum(trial.cost.usd is None and trial.cost.output_tokens > 0 for trial in trials)
    if unpriced:
        yield f"No price is known for {_trials(unpriced)}: the cost is that of the others."


def substitutions(trials: Sequence[Trial]) -> dict[str, int]:
    """Return which model served for which other and why, as words, and in how many trials; the most frequent first."""
    swaps = Counter(
        swap
        for trial in trials
        for swap in {
            f"{one.model} for {one.requested} ({one.substitution})" for one in trial.served if one.substitution
        }
    )
    return dict(swaps.most_common())


def _substitutions(trials: Sequence[Trial]) -> Iterator[str]:
    if swaps := substitutions(trials):
        touched = sum(trial.substituted for trial in trials)
        named = ", ".join(f"{swap} in {count}" for swap, count in swaps.items())
        yield f"{_trials(touched)} were served, in part at least, by another model than asked for: {named}."


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"
