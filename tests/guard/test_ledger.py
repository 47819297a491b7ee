from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.guard import ledger
from lathe.guard.findings import Finding
from lathe.guard.ladder import Measure, Situation, Standing, Target, decide
from lathe.guard.ledger import (
    Entry,
    Limits,
    Review,
    account,
    actors,
    entry_of,
    mark,
    marks_of,
    proposal,
    returning,
    settled,
    simulate,
)
from lathe.guard.policy import shipped
from lathe.protocol.errors import ConfigError

POLICY, LIMITS = shipped(), Limits.load()
SALT = b"a salt of the test"
HOUR = 3_600_000
ANN = marks_of(SALT, user="ann")
TARGET = mark(SALT, "target", "shop.example")


def measure(clause: str, score: float = 0.95, **more: Any) -> Measure:
    finding = Finding("reasoner", clause, score)
    return decide(POLICY, Situation(findings=(finding,), monitors={"topical": "ok", "reasoner": "ok"}, **more))


def entry(number: int, at_h: float, step: str = "refuse", clause: str = "malware.create", **more: Any) -> Entry:
    return Entry(**{
        "decision": f"dec_{number}", "at": int(at_h * HOUR), "marks": ANN, "step": step, "clause": clause,
        "level": POLICY.taxonomy.level(clause), "ground": "outside", "item": f"item_{number}", **more,
    })  # fmt: skip


def many(count: int, every_h: float = 1, **more: Any) -> list[Entry]:
    return [entry(number, number * every_h, **more) for number in range(count)]


def test_only_decisions_about_a_persons_act_are_kept() -> None:
    third = (Target("shop.example", "third"),)
    kept = {
        "a topic": measure("topic.cyber"),
        "what is allowed": measure("exploit.develop", targets=(Target("here", "own"),)),
        "the agent's straying": measure("agent.bypass"),
        "an injected order": measure("injection.grant"),
        "a failing monitor": decide(POLICY, Situation(carries="call", risky=True)),
        "a refusal": measure("malware.create"),
        "a doubt": measure("exploit.develop", 0.6, targets=third),
    }
    kept_of = {name for name, one in kept.items() if entry_of(one, decision="dec_1", at=0, marks=ANN) is not None}
    assert kept_of == {"a refusal", "a doubt"}
    doubts = many(50, step="hold", ground="doubt")
    assert account(LIMITS, doubts, 100 * HOUR).state == "clear"


def test_one_decision_changes_nothing_and_its_retries_are_the_same_one() -> None:
    again = [entry(number, number, item="item_1") for number in range(30)]
    assert account(LIMITS, again, 31 * HOUR).state == "clear"
    assert account(LIMITS, many(2), 2 * HOUR).state == "watched"


def test_a_score_rises_fades_and_does_not_flicker() -> None:
    entries = many(9)
    risen = account(LIMITS, entries, 9 * HOUR)
    assert [one.after for one in risen.changes] == ["watched", "restricted", "suspended"]
    assert all(one.sentence.endswith(".") and one.decisions for one in risen.changes)
    assert "malware.create (refuse)" in risen.changes[0].sentence
    halved = account(LIMITS, entries, (9 + 168) * HOUR)
    assert halved.score == pytest.approx(risen.score / 2, rel=0.01)
    assert halved.state == "suspended", "half of it is still above where it is left"
    later = account(LIMITS, entries, (9 + 168 * 2) * HOUR)
    assert later.state == "restricted" and "fell" in later.changes[-1].sentence
    assert account(LIMITS, entries, (9 + 168 * 9) * HOUR).state == "clear"


def test_a_reversed_decision_counts_as_never_made() -> None:
    entries = many(4)
    assert account(LIMITS, entries, 5 * HOUR).state == "restricted"
    without = account(LIMITS, entries, 5 * HOUR, overturned=frozenset({"dec_0", "dec_1", "dec_2"}))
    assert without == account(LIMITS, entries[3:], 5 * HOUR)


def test_an_actor_is_one_over_keys_threads_and_sub_agents_and_never_two() -> None:
    of = {
        "ann by one key": marks_of(SALT, user="ann", key="k1", root_thread="t1"),
        "ann by another": marks_of(SALT, user="ann", key="k2", root_thread="t2"),
        "bob in the same thread": marks_of(SALT, user="bob", key="k3", root_thread="t1"),
        "a machine": marks_of(SALT, key="k4", root_thread="t4"),
        "its sub-agent": marks_of(SALT, key="k5", root_thread="t4"),
        "an end user": marks_of(SALT, key="k4", end_user="e1"),
        "another end user": marks_of(SALT, key="k4", end_user="e2"),
    }
    names = list(of)
    found = actors(entry(at, at, marks=of[name]) for at, name in enumerate(names))
    groups = sorted([names[int(one.decision[4:])] for one in mine] for _, mine in found)
    assert groups == [
        ["a machine", "its sub-agent"],
        ["an end user"],
        ["ann by one key", "ann by another"],
        ["another end user"],
        ["bob in the same thread"],
    ]
    assert not any("ann" in one for marks in of.values() for one in marks)
    assert marks_of(b"another salt", user="ann") != ANN


PIECES = ("assess.own", "exploit.develop", "evade.test")


def pieces(targets: tuple[str, ...] = (TARGET,), every_h: float = 1, **more: Any) -> list[Entry]:
    return [
        entry(at, at * every_h, "log", clause, ground="doubt", thread=f"t{at}", targets=targets, **more)
        for at, clause in enumerate(PIECES)
    ]


def test_an_attack_in_harmless_looking_pieces_counts_once_it_is_one() -> None:
    whole = account(LIMITS, [*pieces(), entry(9, 3)], 4 * HOUR)
    assert whole.state == "watched"
    assert "a staged attack on one target: assess.own, evade.test, exploit.develop in 3 threads" in (
        whole.changes[0].sentence
    )
    for harmless in (pieces(targets=()), pieces()[:2], pieces(every_h=60), [pieces()[0]] * 3):
        assert account(LIMITS, harmless, 200 * HOUR).score == 0
    elsewhere = [msgspec.structs.replace(one, targets=(one.decision,)) for one in pieces()]
    assert account(LIMITS, elsewhere, 4 * HOUR).score == 0


def review(name: str, approves: bool = True, at: int = 1) -> Review:
    return Review(name, at, approves, "A reason.")


@pytest.mark.parametrize(
    ("reviews", "in_force"),
    [
        ([], "clear"),
        ([review("ann")], "clear"),
        ([review("ann"), review("ann", at=2)], "clear"),
        ([review("ann"), review("the actor")], "clear"),
        ([review("ann"), review("bob"), review("eve", approves=False)], "clear"),
        ([review("ann"), review("bob")], "suspended"),
        ([review("ann", approves=False), review("bob"), review("ann", at=2)], "suspended"),
    ],
)
def test_a_measure_about_an_account_needs_two_other_people(reviews: list[Review], in_force: str) -> None:
    clear = Standing()
    proposed = proposal("pro_1", account(LIMITS, many(9), 9 * HOUR), clear)
    assert proposed is not None and proposed.decisions and proposed.why
    holds = settled(proposed, reviews, clear, actor="the actor")
    assert holds.in_force == in_force


def test_what_faded_is_put_before_two_people_too() -> None:
    now = Standing("restricted", ("ann", "bob"), "pro_1")
    faded = account(LIMITS, many(4), 3_000 * HOUR)
    lifting = proposal("pro_2", faded, now)
    assert lifting is not None and lifting.state == "clear" and "fell" in lifting.why
    assert settled(lifting, [review("ann")], now) == now
    assert settled(lifting, [review("ann"), review("eve")], now).in_force == "clear"
    assert proposal("pro_3", faded, Standing()) is None


def test_who_returns_after_a_ban_is_put_before_people() -> None:
    ban = proposal("pro_1", account(LIMITS, many(9), 9 * HOUR), Standing())
    assert ban is not None
    again = returning(ANN, [ban], id="pro_2", decision="dec_9")
    assert again is not None and "pro_1" in again.why and settled(again, [], Standing()).in_force == "clear"
    assert returning(marks_of(SALT, user="bob"), [ban], id="pro_3") is None


def test_a_change_of_limits_is_tried_on_what_was_decided() -> None:
    gentle = Limits.load()
    strict = msgspec.structs.replace(gentle, half_life_h=1_000_000.0)
    slow = many(4, every_h=400)
    bob = [msgspec.structs.replace(one, marks=marks_of(SALT, user="bob")) for one in many(2)]
    found = simulate(gentle, strict, [*slow, *bob], 2_000 * HOUR)
    assert {one.marks for one in found} >= {frozenset(ANN)}
    of_ann = next(one for one in found if one.marks == frozenset(ANN))
    assert (of_ann.before.state, of_ann.after.state) == ("clear", "restricted")
    assert simulate(gentle, gentle, slow, 2_000 * HOUR) == []


@given(
    st.lists(st.tuples(st.integers(0, 2_000), st.sampled_from(["withhold", "refuse"]), st.integers(0, 9))),
    st.integers(0, 4_000),
)
def test_more_time_alone_never_makes_it_worse(rows: list[tuple[int, str, int]], more: int) -> None:
    entries = [entry(at, hour, step, item=f"item_{item}") for at, (hour, step, item) in enumerate(rows)]
    now = account(LIMITS, entries, 2_000 * HOUR)
    later = account(LIMITS, entries, (2_000 + more) * HOUR)
    assert ledger.STATES.index(later.state) <= ledger.STATES.index(now.state)
    assert later.score <= now.score + 1e-9
    assert account(LIMITS, list(reversed(entries)), 2_000 * HOUR).score == now.score


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("leaves: 4,", "leaves: 9,", "or it flickers"),
        ("enters: 20", "enters: 7", "or it flickers"),
        ("enters: 40", "enters: 20.0", "or it flickers"),
        ("refuse: 6", "refuse: 60", "one decision must not change a state"),
        ("half_life_h: 168", "half_life_h: 0", "more than 0"),
        ("low_risk_dual_use: {}", "benign: {log: 1}", "what is benign weighs nothing"),
        ("different: 3", "different: 1", "two different pieces"),
        ("  watched:", "  noticed:", "Invalid enum value 'noticed'"),
    ],
)
def test_each_fault_of_the_limits_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = ledger.SHIPPED.read_text()
    assert old in text
    path = tmp_path / "ledger.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as told:
        Limits.load(path)
    assert sentence in told.value.message
