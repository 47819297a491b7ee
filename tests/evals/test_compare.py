"""Two runs compared: the figures are those of `stats`, and what makes the comparison unfair stands beside them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sample_runs import Thread, make_run

from lathe.evals import compare
from lathe.evals.agents.base import Served
from lathe.evals.record import Plan, Trial
from lathe.evals.stats import pairs
from lathe.protocol.errors import UsageError

Run = tuple[Plan, list[Trial]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "work-0").mkdir()
    (tmp_path / "none").touch()
    plan, trials = make_run(tmp_path / "a", [Thread(tmp_path / "none", b"{}", b"", 3)] * 2, 10, 3, seed=1)
    return plan, [msgspec.structs.replace(one, served=(), standins=()) for one in trials]


def test_a_run_against_itself_differs_in_nothing(run: Run) -> None:
    same = compare.compare_runs(run, run)
    assert (same.figures.plain.difference, same.figures.plain.permutation.p, same.needed) == (0.0, 1.0, None)
    assert all(row.a == row.b for row in same.tasks)


def test_faults_substitutions_and_other_conditions_are_named(run: Run) -> None:
    plan, trials = run
    better = [
        msgspec.structs.replace(one, reward=1.0, served=(Served("x", "y", 1, "cyber"),) if number == 3 else ())
        if one.verdict == "scored"
        else one
        for number, one in enumerate(trials)
        if one.task != trials[0].task
    ]
    other = msgspec.structs.replace(plan, id="b", attempts=4, environment="podman")
    found = compare.compare_runs(run, (other, better))
    assert found.figures == pairs.compare(trials, better)
    assert found.figures.plain.difference is not None and found.figures.plain.difference > 0
    faults = [one.id for one in trials if one.verdict == "fault"]
    assert faults
    expected = [
        f"Faults of the infrastructure in A, which count neither way: {', '.join(sorted(faults))}.",
        "Trials of B that another model served than was asked for: 1; y for x (cyber).",
        f"Only A has {trials[0].task}.",
        "The runs differ in attempts: 3 in A, 4 in B.",
        "The runs differ in environment: rootfs in A, podman in B.",
    ]
    assert [note for note in expected if note not in found.notes] == []
    for shown in (compare.as_text(found), compare.as_markdown(found).replace("\\", "")):
        assert all(note in shown for note in found.notes)
        assert all(row.task in shown for row in found.tasks)
        assert "p = " in shown and "fault" in shown
    assert msgspec.json.decode(compare.as_json(found), type=compare.RunComparison) == found


def test_what_a_terminal_would_obey_is_not_printed(run: Run) -> None:
    plan, trials = run
    plan = msgspec.structs.replace(plan, agent="\x1b[31mred\x07")
    assert "\x1b" not in compare.as_text(compare.compare_runs((plan, trials), (plan, trials)))


def test_runs_without_a_common_task_are_not_compared(run: Run) -> None:
    plan, trials = run
    with pytest.raises(UsageError, match="no task in common"):
        compare.compare_runs(run, (plan, [msgspec.structs.replace(one, task="other") for one in trials]))
