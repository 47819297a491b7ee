"""Two runs side by side: what differs, by how much, whether that could be chance, and what makes it unfair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lathe.evals.record import Plan, Trial
from lathe.evals.report.document import substitutions
from lathe.evals.report.markdown import plain
from lathe.evals.report.wording import share
from lathe.evals.stats import pairs
from lathe.evals.stats.pairs import Reading
from lathe.evals.stats.power import Needed, for_difference
from lathe.protocol.errors import UsageError

FORMAT = 1
_LEAST = 0.005
"""A difference below this is not asked how many trials would settle it: nobody decides by half a point."""
_CONDITIONS = ("dataset_name", "dataset_version", "attempts", "environment", "timeout_factor", "retries", "lathe")


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two runs."""

    id: str
    agent: str
    agent_options: dict[str, str]
    model: str
    trials: int
    faults: int
    substituted: int


class TaskPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task in both runs: rewards by attempt (None for a fault), their means (None without any), B less A."""

    task: str
    a: tuple[float | None, ...]
    b: tuple[float | None, ...]
    mean_a: float | None
    mean_b: float | None
    difference: float | None


class RunComparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Run B against run A. `figures` are as `stats.pairs` explains them, `needed` what would find this difference.

    `notes` are sentences that belong beside every figure: faults, substitutions, tasks that only one run has, and
    conditions in which the runs differ.
    """

    format: int = FORMAT
    a: Side
    b: Side
    figures: pairs.Comparison
    needed: Needed | None
    notes: tuple[str, ...]
    tasks: tuple[TaskPair, ...]


def compare_runs(a: tuple[Plan, Sequence[Trial]], b: tuple[Plan, Sequence[Trial]]) -> RunComparison:
    """Compare run B with run A; raise `UsageError` where they have no task in common."""
    rows = tuple(_rows(a[1], b[1]))
    if not any(row.a and row.b for row in rows):
        raise UsageError(f"The runs {a[0].id} and {b[0].id} have no task in common.")
    figures = pairs.compare(a[1], b[1])
    difference, needed = figures.plain.difference, None
    if figures.parts is not None and difference is not None and abs(difference) >= _LEAST:
        needed = for_difference(figures.parts, difference, max(1, min(a[0].attempts, b[0].attempts)))
    return RunComparison(
        a=_side(*a), b=_side(*b), figures=figures, needed=needed, notes=tuple(_notes(a, b, figures)), tasks=rows
    )


def as_json(comparison: RunComparison) -> bytes:
    """Return the comparison as JSON."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n"


def as_text(comparison: RunComparison) -> str:
    """Return the comparison for a terminal."""
    one = comparison
    lines = [f"A  {_named(one.a)}", f"B  {_named(one.b)}", ""]
    lines += [f"{name:<34} {value}" for name, value in _figures(one)]
    lines += ["", *(f"- {note}" for note in one.notes)] if one.notes else []
    width = max([4, *(len(row.task) for row in one.tasks)])
    lines += ["", f"{'task':<{width}}  {'A':>8}  {'B':>8}  {'B less A':>8}  rewards of A | of B"]
    for row in one.tasks:
        rewards = f"{_rewards(row.a)} | {_rewards(row.b)}"
        means = f"{share(row.mean_a):>8}  {share(row.mean_b):>8}  {_signed(row.difference):>8}"
        lines.append(f"{row.task:<{width}}  {means}  {rewards}")
    return "\n".join(_printable(line).rstrip() for line in lines) + "\n"


def as_markdown(comparison: RunComparison) -> str:
    """Return the comparison as Markdown."""
    one = comparison
    lines = [f"# {plain(one.b.id)} against {plain(one.a.id)}", ""]
    lines += [f"- A: {plain(_named(one.a))}", f"- B: {plain(_named(one.b))}"]
    lines += [f"- {plain(note)}" for note in one.notes]
    lines += ["", "| figure | value |", "|---|---|", *(f"| {name} | {plain(value)} |" for name, value in _figures(one))]
    lines += ["", "| task | A | B | B less A | rewards of A | rewards of B |", "|---|---:|---:|---:|---|---|"]
    lines += [
        f"| {plain(row.task)} | {share(row.mean_a)} | {share(row.mean_b)} | {_signed(row.difference)}"
        f" | {_rewards(row.a)} | {_rewards(row.b)} |"
        for row in one.tasks
    ]
    return "\n".join([*lines, ""])


def _figures(one: RunComparison) -> Iterator[tuple[str, str]]:
    reading = one.figures.plain
    yield "tasks compared", str(reading.tasks)
    yield "mean reward, A", share(reading.mean_a)
    yield "mean reward, B", share(reading.mean_b)
    low, high = (_signed(value) for value in (reading.interval.low, reading.interval.high))
    yield "B less A", f"{_signed(reading.difference)} points (95 % interval {low} to {high})"
    yield "tasks better in A, in B, equal", f"{reading.a_better}, {reading.b_better}, {reading.equal}"
    yield "exact test on tasks (McNemar)", f"p = {reading.mcnemar.p:.4g}"
    way = "exact" if reading.permutation.exact else "drawn"
    yield "permutation test of the mean", f"p = {reading.permutation.p:.4g} ({way})"
    yield "conclusion", _concluded(reading)
    for way, other in one.figures.readings.items():
        said = {"against a": "against A", "against b": "against B"}.get(way, way)
        yield f"with faults counted {said}", f"{_signed(other.difference)} points, {_concluded(other)}"
    if one.needed is not None and reading.conclusion == "undecided":
        yield "to find this difference", _enough(one.needed)


def _concluded(reading: Reading) -> str:
    return {"a is better": "A is better", "b is better": "B is better"}.get(reading.conclusion, reading.conclusion)


def _enough(needed: Needed) -> str:
    ways = []
    if needed.tasks is not None:
        ways.append(f"{needed.tasks} tasks with {needed.attempts_each} attempts each")
    if needed.attempts is not None:
        ways.append(f"{needed.attempts} attempts at each of these tasks")
    return " or ".join(ways) + " on each side, with a chance of 80 %" if ways else "no number of trials would do"


def _rows(a: Sequence[Trial], b: Sequence[Trial]) -> Iterator[TaskPair]:
    for task in sorted({trial.task for trial in (*a, *b)}):
        left, right = _of(task, a), _of(task, b)
        mean_a, mean_b = _mean(left), _mean(right)
        difference = None if mean_a is None or mean_b is None else mean_b - mean_a
        yield TaskPair(task, left, right, mean_a, mean_b, difference)


def _of(task: str, trials: Sequence[Trial]) -> tuple[float | None, ...]:
    mine = sorted((trial for trial in trials if trial.task == task), key=lambda trial: trial.attempt)
    return tuple(trial.reward if trial.verdict == "scored" else None for trial in mine)


def _mean(rewards: Sequence[float | None]) -> float | None:
    counted = [reward for reward in rewards if reward is not None]
    return sum(counted) / len(counted) if counted else None


def _side(plan: Plan, trials: Sequence[Trial]) -> Side:
    faults = sum(trial.verdict == "fault" for trial in trials)
    swapped = sum(trial.substituted for trial in trials)
    return Side(plan.id, plan.agent, plan.agent_options, plan.model, len(trials), faults, swapped)


def _notes(
    a: tuple[Plan, Sequence[Trial]], b: tuple[Plan, Sequence[Trial]], figures: pairs.Comparison
) -> Iterator[str]:
    for name, faults in (("A", figures.faults_a), ("B", figures.faults_b)):
        if faults:
            yield f"Faults of the infrastructure in {name}, which count neither way: {_listed(faults)}."
    if not figures.settled:
        yield "Which run is better hangs on how faults and missing tasks count."
    for name, (_, trials) in (("A", a), ("B", b)):
        if swaps := substitutions(trials):
            touched = sum(trial.substituted for trial in trials)
            yield f"Trials of {name} that another model served than was asked for: {touched}; {_listed(list(swaps))}."
    for name, only in (("A", figures.only_a), ("B", figures.only_b)):
        if only:
            yield f"Only {name} has {_listed(only)}."
    if figures.changed:
        yield f"Not compared, for the task's files differ between the runs: {_listed(figures.changed)}."
    for name in _CONDITIONS:
        left, right = getattr(a[0], name), getattr(b[0], name)
        if left != right:
            yield f"The runs differ in {name.replace('_', ' ')}: {left or 'none'} in A, {right or 'none'} in B."
    yield from _standins(a[1], b[1])


def _standins(a: Sequence[Trial], b: Sequence[Trial]) -> Iterator[str]:
    of_a, of_b = ({one for trial in trials for one in trial.standins} for trials in (a, b))
    for name, only in (("A", of_a - of_b), ("B", of_b - of_a)):
        if only:
            yield f"Only in {name} did something stand in for what could not be had: {_listed(sorted(only))}."


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _named(side: Side) -> str:
    options = "".join(f" {name}={value}" for name, value in side.agent_options.items())
    model = f" with {side.model}" if side.model else ""
    return f"{side.id}: {side.agent}{options}{model}, {side.trials} trials"


def _rewards(rewards: Sequence[float | None]) -> str:
    return " ".join("fault" if reward is None else f"{reward:.3g}" for reward in rewards) or "-"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:+.1f}"


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in line)
