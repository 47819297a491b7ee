"""What the figures of a run say, above all where there is little to say."""

from __future__ import annotations

import random

import msgspec
import pytest
from evals.making import run, trial

from lathe.evals.agents.base import Cost, Served
from lathe.evals.record import Fault
from lathe.evals.stats.pairs import compare
from lathe.evals.stats.power import Parts, for_difference, for_half_width, half_width, parts_of
from lathe.evals.stats.scores import by_task
from lathe.evals.stats.summary import Summary, summarise


@pytest.mark.parametrize(
    ("rewards", "clusters", "mean", "scope", "method"),
    [
        ({}, {}, None, "nothing", "none"),
        ({"a": [None]}, {}, None, "nothing", "none"),
        ({"a": [1.0]}, {}, 1.0, "task", "wilson"),
        ({"a": [1.0, 0.0, 1.0]}, {}, 2 / 3, "task", "wilson"),
        ({"a": [1.0], "b": [0.0], "c": [1.0]}, {"a": "x", "b": "x", "c": "x"}, 2 / 3, "cluster", "bootstrap"),
        ({name: [1.0] for name in "abcdefgh"}, {}, 1.0, "clusters", "wilson"),
        ({name: [0.0] * 5 for name in "abcdefgh"}, {}, 0.0, "clusters", "wilson"),
        ({name: [float(name in "abc"), 0.0] for name in "abcdefgh"}, {}, 3 / 16, "clusters", "bootstrap"),
        ({name: [4.0] for name in "abc"}, {}, 4.0, "nothing", "none"),
    ],
)
def test_the_mean_says_what_it_speaks_of(rewards, clusters, mean, scope, method):
    summary = summarise(run(rewards, clusters))
    assert summary.mean == pytest.approx(mean)
    assert (summary.interval.scope, summary.interval.method) == (scope, method)
    if mean is not None:
        assert summary.interval.low <= mean <= summary.interval.high


def test_where_all_are_alike_each_task_counts_once_and_no_interval_is_a_point():
    eight = summarise(run({name: [0.0] * 5 for name in "abcdefgh"}))
    assert (eight.exact.low, eight.exact.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 8)))
    assert 0.3 < eight.interval.high < eight.exact.high
    one = summarise(run({"a": [0.0] * 8}))
    assert one.exact.high == pytest.approx(eight.exact.high)
    assert one.exact.scope == "task"


def test_tasks_that_hang_together_make_the_interval_wider():
    numbers = random.Random(1)
    outcomes = [float(numbers.random() < 0.5) for _ in range(8)]
    rewards = {f"t{at}": [outcomes[at // 5]] for at in range(40)}
    alone = summarise(run(rewards)).interval
    together = summarise(run(rewards, {f"t{at}": f"c{at // 5}" for at in range(40)})).interval
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


def test_the_order_of_trials_changes_nothing_and_a_summary_is_plain_json():
    trials = run({f"t{at}": [at % 3 / 2, None, 1.0] for at in range(12)})
    mixed = random.Random(5).sample(trials, len(trials))
    assert summarise(trials) == summarise(mixed)
    assert msgspec.json.decode(msgspec.json.encode(summarise(trials)), type=Summary) == summarise(trials)


def test_faults_are_counted_apart_but_were_paid_for():
    priced, gone = Cost(input_tokens=10, usd=0.5), Fault("start", "no room")
    swapped = (Served("big", "big", 3), Served("big", "small", 1, "capacity"))
    trials = [
        trial("a", 1.0, 1, cost=priced, served=swapped),
        trial("a", None, 2, cost=priced, faults=(gone,)),
        trial("b", None, 1),
        trial("c", 0.25, 1, cost=Cost(input_tokens=1)),
    ]
    summary = summarise(trials, {"a": "web", "b": "web"})
    assert (summary.trials, summary.scored, summary.faults) == (4, 2, 2)
    assert (summary.tasks, summary.untried, summary.passed) == (2, ("b",), 1)
    assert summary.mean == pytest.approx(0.625)
    assert (summary.cost.usd, summary.cost.input_tokens, summary.unpriced) == (1.0, 21, 2)
    assert (summary.fallback.count, summary.fallback.of) == (1, 4)
    assert summary.times.total == 8.0
    assert summary.categories.keys() == {"web"}
    assert summary.categories["web"].mean == 1.0


def test_pass_at_k_leaves_out_tasks_with_too_few_attempts():
    summary = summarise(run({"a": [1.0, 0.0, 0.0], "b": [1.0, 1.0, 1.0], "c": [0.0]}))
    assert summary.pass_at.keys() == {1, 2, 3}
    assert summary.pass_at[1].mean == pytest.approx(4 / 9)
    assert (summary.pass_at[2].mean, summary.pass_at[2].tasks) == (pytest.approx(5 / 6), 2)
    assert (summary.pass_all[2].mean, summary.pass_all[3].mean) == (0.5, 0.5)


def test_a_comparison_names_what_it_could_not_compare_and_whether_that_matters():
    rewards = {f"t{at:02}": [0.0] for at in range(12)}
    better: dict[str, list[float | None]] = {f"t{at:02}": [1.0] for at in range(6)} | {
        f"t{at:02}": [0.0] for at in range(6, 12)
    }
    clear = compare(run(rewards), run(better))
    assert clear.plain.conclusion == "b is better"
    assert clear.plain.permutation.p == clear.plain.mcnemar.p == 2 / 2**6
    assert clear.settled
    assert not clear.readings
    touched = dict(better) | {"t00": [None], "t01": [None]}
    del touched["t11"]
    unclear = compare(run(rewards), run(touched))
    assert unclear.faults_b == ("t00.1", "t01.1")
    assert unclear.only_a == ("t11",)
    assert unclear.plain.tasks == 9
    assert {way: one.conclusion for way, one in unclear.readings.items()} == {
        "as failures": "undecided",
        "as passes": "b is better",
        "against a": "b is better",
        "against b": "undecided",
    }
    assert not unclear.settled


def test_a_task_that_changed_between_runs_is_not_compared():
    old = run({"a": [0.0], "b": [1.0]})
    new = [trial("a", 1.0, digest="y"), trial("b", 1.0)]
    found = compare(old, new)
    assert (found.changed, found.plain.tasks, found.plain.difference) == (("a",), 1, 0.0)
    assert found.plain.interval.low < 0 < found.plain.interval.high


def test_two_runs_without_a_common_task_are_undecided():
    found = compare(run({"a": [1.0]}), run({"b": [0.0]}))
    assert (found.plain.tasks, found.plain.difference, found.plain.conclusion) == (0, None, "undecided")
    assert (found.plain.interval.low, found.plain.interval.high) == (-1.0, 1.0)


def test_more_attempts_help_only_against_the_variance_within_tasks():
    parts = Parts(between=0.09, within=0.16, design=1.0, tasks=50, attempts=1.0)
    assert half_width(parts, 50, 4) < half_width(parts, 50, 1)
    wide = for_half_width(parts, 0.1, 1)
    assert wide.tasks == wide.trials == 99
    assert wide.attempts == 5
    assert half_width(parts, 50, 5) <= 0.1 < half_width(parts, 50, 4)
    narrow = for_half_width(parts, 0.05, 1)
    assert narrow.attempts is None
    assert for_half_width(msgspec.structs.replace(parts, within=None), 0.1, 1).attempts is None
    assert (for_difference(parts, 0.1, 1).tasks or 0) > (wide.tasks or 0)


def test_the_parts_of_the_variance_are_those_the_run_was_drawn_from():
    numbers = random.Random(11)
    chances = [numbers.choice([0.2, 0.8]) for _ in range(3000)]
    trials = run({f"t{at:04}": [float(numbers.random() < p) for _ in range(4)] for at, p in enumerate(chances)})
    parts = parts_of(by_task(trials))
    assert parts is not None
    assert parts.between == pytest.approx(0.09, abs=0.01)
    assert parts.within == pytest.approx(0.16, abs=0.01)
    assert parts.design == pytest.approx(1.0, abs=1e-9)
