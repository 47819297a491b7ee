"""The report as Markdown: the figures, what belongs beside them, and a table of the tasks."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from lathe.evals.record import Trial
from lathe.evals.report.document import Report
from lathe.evals.report.wording import dollars, seconds, share, spread, tokens

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~])")


def plain(text: str) -> str:
    """Return a text that means itself in Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def as_markdown(report: Report) -> str:
    """Return the report as a page of Markdown."""
    plan, figures = report.plan, report.summary
    made = datetime.fromtimestamp(plan.created / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if plan.created else ""
    named = " ".join(filter(None, (plan.dataset_name, plan.dataset_version)))
    lines = [
        f"# {plain(named)}: {plain(plan.agent)}{' with ' + plain(plan.model) if plan.model else ''}",
        "",
        f"Run {plain(plan.id)}{', ' + made if made else ''}; {len(plan.tasks)} tasks, {plan.attempts} attempts each;"
        f" environment {plain(plan.environment or 'unknown')}; Lathe {plain(plan.lathe or 'unknown')}.",
        "",
        *(f"- {plain(note)}" for note in report.notes),
        *([""] if report.notes else []),
        "| figure | value | 95 % interval |",
        "|---|---:|---:|",
        f"| mean reward over {figures.tasks} tasks | {share(figures.mean)} | {spread(figures.interval)} |",
        f"| the same, by Wilson's interval | | {spread(figures.wilson)} |",
        f"| trials with the whole reward | {figures.passed} of {figures.scored} | |",
    ]
    if plan.attempts > 1:
        for name, curve in (("pass@", figures.pass_at), ("pass^", figures.pass_all)):
            lines += [
                f"| {name}{k}, {one.tasks} tasks | {share(one.mean)} | {spread(one.interval)} |"
                for k, one in curve.items()
            ]
    for name, group in figures.categories.items():
        lines.append(
            f"| mean reward, {plain(name)}, {group.tasks} tasks | {share(group.mean)} | {spread(group.interval)} |"
        )
    lines += [
        f"| tokens read, written | {tokens(figures.cost.input_tokens)}, {tokens(figures.cost.output_tokens)} | |",
        f"| cost | {dollars(figures.cost.usd)} | |",
        f"| time of all trials | {seconds(figures.times.total)} | |",
        "",
        "| task | category | mean reward | rewards by attempt | flags |",
        "|---|---|---:|---|---|",
    ]
    by_id = {trial.id: trial for trial in report.trials}
    for row in report.tasks:
        mine = [by_id[name] for name in row.trials]
        rewards = ", ".join(map(_reward, mine))
        flags = ", ".join(sorted({flag.kind for trial in mine for flag in trial.flags}))
        lines.append(f"| {plain(row.task)} | {plain(row.category)} | {share(row.mean)} | {rewards} | {plain(flags)} |")
    return "\n".join([*lines, ""])


def _reward(trial: Trial) -> str:
    return "fault" if trial.reward is None else f"{trial.reward:g}"
