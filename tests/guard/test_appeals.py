"""Notices say what a person needs, and appeals are decided in time by somebody else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lathe.guard.appeals import (
    Appeal,
    Decided,
    Regression,
    decided,
    file_name,
    opened,
    queue,
    regression,
    repair,
    report,
    taken,
    withdrawn,
)
from lathe.guard.findings import Finding, Material, Part, Span
from lathe.guard.ladder import Situation, Standing, Target, decide
from lathe.guard.ledger import Limits, account, entry_of, marks_of, proposal
from lathe.guard.notices import Notice, account_notice, as_text, notice
from lathe.guard.policy import shipped
from lathe.guard.trial import read_cases, tried
from lathe.guard.working_days import Calendar, Clock
from lathe.protocol.errors import ConfigError, UsageError

POLICY = shipped()
CLOCK = Clock.of(Calendar(holidays=(date(2026, 12, 25),)))
SPAN = Span("msg_1", 3, 9, "person")
FINDING = Finding("reasoner", "exploit.develop", 0.95, (SPAN,), "It names a product of others.")
MALWARE = Finding("reasoner", "malware.create", 0.95)
SITUATION = Situation(
    findings=(FINDING,), monitors={"topical": "ok", "reasoner": "ok"}, targets=(Target("shop.example", "third"),)
)


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


MONDAY = moment("2026-12-07T10:00")
OF = Decided(
    decision="dec_1",
    thread="t1",
    situation=SITUATION,
    policy=POLICY.hash,
    clause="exploit.develop",
    marks=("m",),
    tokens=120,
    cost=7,
    material=Material(parts=(Part("msg_1", "a neutral text", "person"),)),
)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ("2026-12-07T10:00", "2026-12-09T10:00"),  # Monday to Wednesday
        ("2026-12-11T15:30", "2026-12-15T15:30"),  # Friday to Tuesday
        ("2026-12-12T09:00", "2026-12-16T00:00"),  # Saturday: the clock begins on Monday
        ("2026-12-23T12:00", "2026-12-28T12:00"),  # a holiday on Friday
    ],
)
def test_two_working_days_leave_out_weekends_and_holidays(begins: str, ends: str) -> None:
    assert CLOCK.after(moment(begins), 2) == moment(ends)


def test_a_calendar_that_has_no_work_or_no_place_is_told() -> None:
    for calendar in (Calendar(weekend=tuple(range(7))), Calendar(zone="Nowhere/At_All"), Calendar(zone="../etc")):
        with pytest.raises(ConfigError):
            Clock.of(calendar)
    assert Clock.of(Calendar(zone="Europe/Berlin")).after(moment("2026-03-27T12:00"), 2) == moment("2026-03-31T11:00")


def told(situation: Situation, **more: Any) -> Notice:
    changed = msgspec.structs.replace(situation, **more)
    return notice(decide(POLICY, changed), POLICY, decision="dec_1", at=MONDAY, clock=CLOCK)


def test_a_notice_says_what_where_why_and_what_to_do() -> None:
    said = told(SITUATION)
    assert said.category == "high-risk dual use" and said.code == "cyber_exploit_develop"
    assert said.spans == FINDING.spans and said.why == ("reasoner: It names a product of others.",)
    assert said.approval == "helps" and "the tier verified with the scope cyber.research" in said.allowed_by
    assert said.appeal is not None and said.appeal.decided_by == moment("2026-12-09T10:00")
    text = as_text(said)
    for part in (
        "exploit.develop",
        "dec_1",
        "letters 3 to 9 of msg_1",
        "lathe access appeal dec_1",
        "2026-12-09 10:00",
        "the next one in this thread is judged by itself",
        "lathe access apply",
        POLICY.hash[:16],
    ):
        assert part in text


@pytest.mark.parametrize(
    ("more", "approval", "wanted", "unwanted"),
    [
        ({}, "helps", "Apply for access", "You hold"),
        (
            {"tier": "verified", "scope": ("cyber.offensive",), "engagement": "eng_1"},
            "held_but_outside",
            "Have the target added to an engagement",
            "Apply for access",
        ),
        ({"tier": "verified"}, "held_but_outside", "Have your access widened", "Apply for access"),
        (
            {"findings": (MALWARE,), "tier": "specialist"},
            "never_helps",
            "applying for one does not help",
            "Apply for access",
        ),
        ({"monitors": {"acts": "dead"}, "carries": "call", "risky": True, "findings": ()}, "not_the_matter",
         "Try again", "Apply"),
        ({"findings": (Finding("misalignment", "agent.bypass", 0.95),)}, "not_the_matter", "Say how to go on", "Apply"),
    ],
)  # fmt: skip
def test_a_notice_is_written_from_what_is_held(more: Any, approval: str, wanted: str, unwanted: str) -> None:
    said = told(SITUATION, **more)
    assert said.approval == approval
    assert wanted in as_text(said) and unwanted not in as_text(said)


def test_a_notice_about_an_account_names_every_decision_it_rests_on() -> None:
    marks = marks_of(b"salt", user="ann")
    measure = decide(POLICY, msgspec.structs.replace(SITUATION, findings=(MALWARE,)))
    entries = [entry_of(measure, decision=f"dec_{at}", at=at, marks=marks, item=str(at)) for at in range(4)]
    kept = [one for one in entries if one is not None]
    proposed = proposal("pro_1", account(Limits.load(), kept, 5), Standing())
    assert proposed is not None
    standing = Standing(proposed.state, ("bob", "eve"), "pro_1")
    said = account_notice(proposed, standing, kept, at=MONDAY, clock=CLOCK)
    assert {one.decision for one in said.rests_on} == {"dec_0", "dec_1", "dec_2", "dec_3"}
    assert said.decided_by == ("bob", "eve") and said.state == "restricted" and said.appeal.decided_by > MONDAY


def appeal(**more: Any) -> Appeal:
    return opened(**{"id": "app_1", "of": OF, "by": "ann", "at": MONDAY, "clock": CLOCK, **more})


def reversed_(fault: Any = "policy") -> Appeal:
    reason = "The target is their own."
    return decided(appeal(), reviewer="bob", at=MONDAY + 1, reverses=True, reason=reason, fault=fault)


def test_an_appeal_goes_through_its_states_and_is_decided_by_somebody_else() -> None:
    one = appeal()
    assert (one.state, one.due) == ("open", moment("2026-12-09T10:00"))
    mine = taken(one, "bob")
    upheld = decided(mine, reviewer="bob", at=MONDAY + 5, reverses=False, reason="The page is a copy of a bank's.")
    assert upheld.state == "upheld"
    again = appeal(id="app_2", before=[upheld])
    assert again.not_by == ("bob",)
    assert withdrawn(again, by="ann", at=MONDAY).state == "withdrawn"


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda: taken(appeal(), "ann"), "appeal_own"),
        (lambda: taken(appeal(), ""), "appeal_reviewer"),
        (lambda: taken(opened("app_1", msgspec.structs.replace(OF, reviewers=("bob",)), by="ann", at=0, clock=CLOCK),
                       "bob"), "appeal_same_person"),
        (lambda: taken(taken(appeal(), "bob"), "eve"), "appeal_taken"),
        (lambda: decided(appeal(), reviewer="bob", at=0, reverses=False, reason="no"), "appeal_reason"),
        (lambda: decided(appeal(), reviewer="bob", at=0, reverses=True, reason="It was all right."), "appeal_fault"),
        (lambda: taken(reversed_(), "eve"), "appeal_closed"),
        (lambda: withdrawn(appeal(), by="bob", at=0), "appeal_not_yours"),
        (lambda: appeal(id="app_2", before=[appeal()]), "appeal_waits"),
        (lambda: appeal(id="app_2", before=[reversed_()]), "appeal_reversed"),
        (lambda: repair(appeal(), OF), "appeal_not_reversed"),
        (lambda: regression(reversed_("facts"), OF), "appeal_facts"),
        (lambda: regression(reversed_("monitor"), msgspec.structs.replace(OF, material=None)), "appeal_material"),
    ],
)  # fmt: skip
def test_what_an_appeal_must_not_do_is_told(act: Any, code: str) -> None:
    with pytest.raises(UsageError) as stopped:
        act()
    assert stopped.value.code == code


def test_a_reversal_says_all_that_is_to_be_repaired() -> None:
    found = repair(reversed_(), OF, [("pro_1", ("dec_1", "dec_2")), ("pro_2", ("dec_3",))])
    assert (found.overturned, found.released, found.tokens, found.cost) == (("dec_1",), ("dec_1",), 120, 7)
    assert (found.thread, found.marks, found.reopen) == ("t1", ("m",), ("pro_1",))


def test_a_reversal_becomes_a_case_that_the_suite_replays(tmp_path: Path) -> None:
    own = msgspec.structs.replace(SITUATION, targets=(Target("shop.example", "own"),))
    cases = [regression(reversed_("facts"), OF, corrected=own), regression(reversed_("monitor"), OF)]
    for number, case in enumerate(cases):
        (tmp_path / f"{number}_{file_name(case)}").write_bytes(msgspec.json.encode(case))
    read = read_cases(tmp_path)
    assert read == cases
    outcome = tried(POLICY, read)
    assert not outcome.failures and len(outcome.unrun) == 1
    assert not tried(POLICY, read, lambda material: []).failures
    again = tried(POLICY, read, lambda material: [FINDING])
    assert [one.found for one in again.failures] == ["exploit.develop"]
    by_policy = Regression(name="still wrong", why="A reason.", situation=SITUATION)
    assert [one.found for one in tried(POLICY, [by_policy]).failures] == ["refuse"]


def test_the_cases_of_the_repository_hold() -> None:
    outcome = tried(POLICY, read_cases(Path(__file__).parent / "cases"))
    assert not outcome.failures and outcome.passed >= len(POLICY.cases)


def test_the_queue_is_in_the_order_of_its_clock_and_the_report_is_honest() -> None:
    hour, why = 3_600_000, "A reason for it."
    late = decided(appeal(id="app_3"), reviewer="bob", at=MONDAY + 96 * hour, reverses=False, reason=why)
    good = decided(appeal(), reviewer="bob", at=MONDAY + 2 * hour, reverses=True, reason=why, fault="policy")
    waits = [appeal(id="app_5", at=MONDAY + 9), appeal(id="app_4")]
    assert [one.id for one in queue([good, *waits])] == ["app_4", "app_5"]
    found = report([late, good, *waits], MONDAY + 500 * hour)
    assert (found.opened, found.waiting, found.overdue, found.in_time) == (4, 2, 2, 1)
    assert found.overall[:3] == (2, 1, 0.5) and found.overall.low < 0.5 < found.overall.high
    assert found.median_hours == 49.0 and list(found.by_clause) == ["exploit.develop"]
    assert report([], MONDAY).median_hours is None
