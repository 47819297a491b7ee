"""What people complained of in public, as cases: 58 issues and one discussion of the openai/codex tracker.

A row says the facts in words of our own, its classes, and the scene as monitors would see it at their worst: the
topical monitor is sure that it is about security, and the reasoner suspects more than there is. Every class stands for
promises, and each row is held to the promises of all its classes. Where the whole gateway is needed, the row names the
tests that hold it.

A ordinary work is stopped; B an approval does not count; C another model is served in silence; D verification fails;
E a thread is dead after a block; F nothing is explained; G a measure reaches too far or sticks; H authorised work is
stopped; I checks make it slow.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from lathe.guard.findings import Finding, Provenance, Span
from lathe.guard.ladder import Measure, Situation, Standing, Target, decide
from lathe.guard.ledger import Entry, Limits, account, entry_of, marks_of, proposal, settled
from lathe.guard.notices import Notice, account_notice, as_text, notice
from lathe.guard.policy import shipped
from lathe.guard.quarantine import Blocked, Looked, blocks_in_a_row, identity, joined, set_aside, without
from lathe.guard.taxonomy import Relation
from lathe.guard.working_days import Calendar, Clock
from lathe.protocol.items import FunctionCall, FunctionCallOutput, Item, assistant_message, user_message
from lathe.protocol.trust import SURFACES

ROOT = Path(__file__).parents[2]
POLICY, LIMITS, CLOCK = shipped(), Limits.load(), Clock.of(Calendar())
NOW = round(datetime(2026, 12, 7, 10, tzinfo=UTC).timestamp() * 1000)
WELL: dict[str, Any] = {"topical": "ok", "reasoner": "ok", "acts": "ok"}
TOPIC = Finding("topical", "topic.cyber", 1.0, (Span("asked", 0, 9, "person"),))


class Row(NamedTuple):
    """A complaint. `clause` and `score` are what the reasoner suspects, "" for nothing; `target` is whose it is."""

    number: int
    classes: str
    fact: str
    clause: str = ""
    score: float = 0.9
    target: Relation = "own"
    by: Provenance = "person"
    act: bool = False


ROWS = [
    Row(12064, "AGD", "a specification is edited, with a model that needs no access"),
    Row(12142, "AD", "the log-in of one's own server is hardened", "credential.audit"),
    Row(21411, "AI", "a warning that stays, and slower turns, for no reason that is seen"),
    Row(12097, "A", "the front end of a shop", "learn.explain", target="third"),
    Row(12139, "AG", "a skill of others was run once, all that came later was flagged", "malware.create", by="file"),
    Row(12088, "AF", "crash traces and a database of a journal are looked into", "exploit.develop", by="tool"),
    Row(12155, "A", "the agent's own settings are edited", "vuln.research", 0.7, act=True),
    Row(20795, "A", "a tame request by the client of somebody else", "learn.explain", target="unclear"),
    Row(12149, "A", "a request is rerouted and no way leads back"),
    Row(12109, "ADF", "flagged at sign-in, before any work"),
    Row(34864, "A", "a sub-agent builds a helper for codes on one's own phone", "credential.audit", act=True),
    Row(12125, "A", "a feature is asked for"),
    Row(21022, "AG", "a public page is inspected to mend a listing", "reverse.understand", target="third"),
    Row(21207, "A", "one's own chat bot is tried out", "vuln.research", act=True),
    Row(19533, "AI", "code is refactored", "exploit.develop", 0.6),
    Row(12126, "ADF", "a tool of one's own that analyses traffic", "scan.wide", 0.7),
    Row(12060, "AD", "routine work is rerouted"),
    Row(34485, "AF", "a project with a framework for the web is stopped again and again", "exploit.develop", 0.7),
    Row(43514, "AB", "a repair of the integrity of snapshots ends in the middle", "exploit.develop", act=True),
    Row(43167, "AF", "a crash of a compiler is reduced, after a compaction", "exploit.develop", by="model"),
    Row(43370, "A", "tests of permissions and invoices in one's own program", "vuln.research"),
    Row(41672, "A", "a read-only inventory, and a report about it", "assess.own", act=True),
    Row(31032, "AFG", "applications for jobs are filled in", "automate.own", target="third"),
    Row(28015, "ADFG", "a repository is kept in order for weeks", "vuln.research", 0.7),
    Row(12146, "BGF", "somebody verified is taken off their model, and off one that needs no access", "vuln.research"),
    Row(32947, "BFH", "authorised work on firmware, after the approval", "exploit.develop", target="engaged"),
    Row(43189, "B", "verified a moment ago, the same thread goes on being blocked", "vuln.research", target="third"),
    Row(39441, "BF", "services disagree on what is held", "vuln.research", target="third"),
    Row(45751, "BFH", "a verified hunter of weaknesses is told to apply", "exploit.develop", target="engaged"),
    Row(37679, "BFH", "a verified person in a competition that is apart from all else", "exploit.chain"),
    Row(12070, "BAG", "the flag is back, for a model that needs no access"),
    Row(38491, "BF", "notes of a course are turned into text", "learn.explain", target="third"),
    Row(12093, "B", "an approval takes half an hour, and nobody says so", "vuln.research", target="third"),
    Row(43762, "BH", "an audit of code that was served the day before", "vuln.research", target="third"),
    Row(45545, "B", "told to get access after it was activated", "vuln.research", target="third"),
    Row(29208, "BDFA", "verification is forgotten again and again", "exploit.develop", 0.6),
    Row(19204, "BFA", "verified people are flagged, some suspended by mistake", "exploit.develop", 0.6),
    Row(11867, "C", "the stream names another model and the screen does not"),
    Row(10953, "C", "the same, proved from logs"),
    Row(11992, "CB", "verified, and still on the other model for a week", "vuln.research", target="third"),
    Row(59604, "DFB", "approved before, denied at the renewal in spite of a hardware key", "vuln.research"),
    Row(11883, "D", "the first check fails for one account"),
    Row(12172, "DA", "one page says done and another failed"),
    Row(29360, "D", "the button does not open the check"),
    Row(39570, "D", "three checks succeed and none is kept"),
    Row(11938, "DCFA", "days on another model, learnt of by hearsay; no second way to verify"),
    Row(12158, "DAF", "locked out at once, and the page says ineligible"),
    Row(32177, "EA", "an attached log or the output of a search poisons the thread", "malware.create", by="tool"),
    Row(42940, "EA", "the thread can't be turned to other work", "exploit.develop"),
    Row(47001, "EAG", "neutral lines are blocked, in new tasks of the project too"),
    Row(37702, "EH", "after one block in a competition even a greeting gets no answer", "exploit.chain"),
    Row(41967, "EAF", "nothing can be written any more, with no code and no reason", "exploit.develop", 0.7),
    Row(41634, "EA", "a long thread of administration of one's own server is dead", "credential.audit", act=True),
    Row(33973, "E", "a retry after a torn stream marks the thread, and its forks"),
    Row(35160, "EA", "a long run on the evaluation of assistants is blocked for good", "malware.create", by="file"),
    Row(41141, "F", "a block says no cause, category, next step, nor whether an approval would help"),
    Row(43185, "FA", "a warning by mail names no request, time or clause", "exploit.develop", 0.7),
    Row(30271, "FBH", "a verified analyst is warned by mail, and the appeal closed without detail", "malware.analyse"),
    Row(20745, "HF", "an old game is taken apart, and blocked many times a day", "reverse.understand", target="third"),
]

VERIFIED: dict[str, Any] = {"tier": "verified", "scope": ("cyber.defensive", "cyber.offensive", "cyber.research")}
HELD_BY = {
    "B": (
        "tests/gateway/test_admin_access.py::test_a_grant_and_its_revocation_reach_another_replica",
        "tests/gateway/test_access_command.py::test_a_probe_asks_every_replica",
        "tests/gateway/test_trust_policy.py::test_an_entitlement_lives_until_its_end_whatever_becomes_of_its_renewal",
    ),
    "C": (
        "tests/gateway/test_relay.py::test_an_answer_passes_through_and_says_what_served_it",
        "tests/gateway/test_relay.py::test_a_fallback_is_agreed_shown_and_refused_on_request",
        "tests/gateway/test_trust_policy.py::test_no_fallback_turns_it_into_an_error_and_nobody_else_gets_one",
        "tests/gateway/test_trust_receipts.py::test_a_receipt_is_verified_from_its_document_alone",
    ),
    "D": (
        "tests/gateway/test_proof.py::test_what_a_tier_needs_is_data",
        "tests/gateway/test_proof.py::test_a_reviewer_states_what_was_seen_of_somebody_else",
        "tests/gateway/test_proof.py::test_a_method_comes_as_a_plug_in",
        "tests/gateway/test_access_command.py::test_a_person_applies_is_vetted_and_loses_access_again",
        "tests/gateway/test_trust_policy.py::test_an_entitlement_lives_until_its_end_whatever_becomes_of_its_renewal",
    ),
}
"""The tests that hold what needs the whole gateway."""
IN_THE_GATEWAY = (11883, 12172, 29360, 39570, 59604, 43185, 30271, 31032)
"""Complaints that have a case of their own against the whole gateway."""


def of_class(letter: str) -> Any:
    rows = [row for row in ROWS if letter in row.classes]
    return pytest.mark.parametrize("row", rows, ids=[f"{row.number}: {row.fact}" for row in rows])


def scene(row: Row, **more: Any) -> Situation:
    """Return the situation of a row as its monitors see it, at their worst."""
    part = "call_1" if row.act else "asked"
    spans = (Span(part, 2, 8, "model" if row.act else row.by),)
    suspected = (Finding("reasoner", row.clause, row.score, spans, "A suspicion."),) if row.clause else ()
    plain: dict[str, Any] = {
        "findings": (TOPIC, *suspected),
        "monitors": WELL,
        "targets": (Target("what it is about", row.target),),
        "engagement": "eng_1" if row.target == "engaged" else "",
        "alternatives": ("another",),
    }
    call = {"carries": "call", "risky": True, "subject": "call_1"} if row.act else {}
    return Situation(**{**plain, **call, **more})


def stopped(**more: Any) -> tuple[Situation, Measure]:
    """Return a situation that is rightly stopped, and its measure."""
    finding = Finding("reasoner", "malware.create", 0.95, (Span("asked", 2, 8, "person"),), "It is ready to run.")
    situation = Situation(findings=(finding,), **{"monitors": WELL, **more})
    return situation, decide(POLICY, situation)


def told(measure: Measure) -> Notice:
    return notice(measure, POLICY, decision="dec_1", at=NOW, clock=CLOCK)


def served(measure: Measure) -> bool:
    return measure.step in ("allow", "log")


def test_every_complaint_has_its_case() -> None:
    assert len({row.number for row in ROWS}) == len(ROWS) == 59
    primary = [row.classes[0] for row in ROWS]
    assert {one: primary.count(one) for one in "ABCDEFH"} == {"A": 24, "B": 13, "C": 3, "D": 7, "E": 8, "F": 3, "H": 1}


@of_class("A")
def test_ordinary_work_is_served_whatever_its_words(row: Row) -> None:
    words_alone = msgspec.structs.replace(scene(row), findings=(TOPIC,))
    assert served(decide(POLICY, words_alone))
    for surface in SURFACES:
        measure = decide(POLICY, scene(row, surface=surface))
        assert served(measure)
        assert entry_of(measure, decision="dec_1", at=NOW, marks=("ann",)) is None or measure.ground == "doubt"


@of_class("A")
def test_ordinary_work_adds_up_to_nothing(row: Row) -> None:
    measure = decide(POLICY, scene(row))
    marks = marks_of(b"salt", user="ann")
    found = [entry_of(measure, decision=f"dec_{at}", at=NOW + at, marks=marks, item=str(at)) for at in range(500)]
    entries = [one for one in found if one is not None]
    assert (account(LIMITS, entries, NOW + 500).state, account(LIMITS, entries, NOW + 500).score) == ("clear", 0)


@of_class("B")
def test_what_a_verified_person_does_inside_is_served_from_the_grant_on(row: Row) -> None:
    assert served(decide(POLICY, scene(row, **VERIFIED)))
    # the thread has blocks of before the grant: the next decision reads the entitlement and nothing else
    assert served(decide(POLICY, scene(row, **VERIFIED, blocks=4)))


@of_class("B")
def test_who_is_approved_is_told_that_the_act_is_outside_and_not_to_apply(row: Row) -> None:
    finding = Finding("reasoner", "exploit.chain", 0.95, (Span("asked", 0, 5, "person"),), "It goes on to others.")
    others = (Target("others.example", "third"),)
    situation = msgspec.structs.replace(scene(row, **VERIFIED), findings=(finding,), targets=others)
    said = told(decide(POLICY, situation))
    text = as_text(said)
    assert said.approval == "held_but_outside"
    assert "You hold the tier verified" in text and "outside of it" in text and "Apply for access" not in text
    assert told(decide(POLICY, msgspec.structs.replace(situation, tier="default", scope=()))).approval == "helps"


@of_class("C")
def test_another_model_is_a_choice_and_never_a_swap(row: Row) -> None:
    finding = Finding("reasoner", "exploit.develop", 0.95, (Span("asked", 0, 5, "person"),))
    measure = decide(POLICY, scene(row, findings=(finding,), targets=(Target("others.example", "third"),)))
    assert measure.step == "offer" and measure.choices == ("use:another", "drop")
    assert "Use another for it, if you choose to." in told(measure).next_steps
    chosen = scene(row, findings=(finding,), targets=(Target("others.example", "third"),), gated=False)
    assert served(decide(POLICY, chosen))
    # a measure has no field in which another model could be served, and a situation none for the one asked for
    assert not {"model", "served", "substitution"} & {*Measure.__struct_fields__, *Situation.__struct_fields__}


@of_class("D")
def test_work_does_not_wait_for_a_verification_and_approval_is_asked_for_only_where_it_helps(row: Row) -> None:
    assert served(decide(POLICY, scene(row)))
    _, measure = stopped()
    assert told(measure).approval == "never_helps" and "Apply for access" not in as_text(told(measure))


@of_class("E")
def test_a_thread_goes_on_after_a_block(row: Row) -> None:
    situation, measure = stopped()
    request, hello = user_message(f"What was stopped in {row.number}."), user_message("Hello.")
    search = [FunctionCall("call_1", "exec_command", "{}"), FunctionCallOutput("call_1", f"Output of {row.number}.")]
    blocked = set_aside(measure, {"asked": request}, newest="asked", decision="dec_1")
    blocked += tuple(set_aside(by_call(), {"call_1": search[0]}, newest="asked", decision="dec_2"))
    thread: list[Item] = [user_message("Before."), request, *search, assistant_message("After.")]
    for history in (thread, [*thread, request, *search], thread[1:], list(thread)):  # next, retried, compacted, forked
        left = without([*history, hello], joined(blocked))
        assert left[-1] == hello and not said(left) & {identity(request), identity(search[1])}
        assert not any("stopped in" in str(item) or "Output of" in str(item) for item in left)
    history = [Looked(identity(request), True)] * 9
    assert blocks_in_a_row(history) == 1, "a retry is no second block"
    greeting = Situation(monitors=WELL, blocks=blocks_in_a_row([*history, Looked("other", True)]))
    assert decide(POLICY, greeting).step == "allow"
    assert served(decide(POLICY, scene(row, blocks=9))), "what is judged is new, and judged by itself"
    assert decide(POLICY, msgspec.structs.replace(situation, blocks=9)).scope == "thread"


def by_call() -> Measure:
    finding = Finding("acts", "malware.create", 0.95, (Span("call_1", 0, 2, "model"),))
    call = Situation(findings=(finding,), monitors=WELL, carries="call", risky=True, subject="call_1")
    return decide(POLICY, call)


def said(items: list[Item]) -> set[str]:
    return {identity(one) for one in items}


@of_class("F")
def test_a_notice_has_clause_evidence_next_step_and_a_clock(row: Row) -> None:
    for tier in ("default", "verified"):
        _, measure = stopped(tier=tier)
        found = told(measure)
        assert found.clause and found.code and found.category and found.spans and found.why and found.next_steps
        assert found.policy == POLICY.hash and found.reach and found.sentence.endswith(".")
        assert found.appeal is not None and found.appeal.decided_by - NOW == 2 * 86_400_000
        text = as_text(found)
        assert all(
            one in text for one in (found.clause, found.code, "dec_1", "letters 2 to 8 of asked", "lathe access")
        )
    if row.clause:
        suspicion = msgspec.structs.replace(scene(row), targets=(Target("others.example", "third"),))
        measure = decide(POLICY, suspicion)
        assert served(measure) or told(measure).next_steps


@of_class("F")
def test_a_measure_about_an_account_names_its_decisions_and_two_people(row: Row) -> None:
    _, measure = stopped()
    marks = marks_of(b"salt", user=str(row.number))
    found = [entry_of(measure, decision=f"dec_{at}", at=NOW + at, marks=marks, item=str(at)) for at in range(5)]
    entries: list[Entry] = [one for one in found if one is not None]
    proposed = proposal("pro_1", account(LIMITS, entries, NOW + 9), Standing())
    assert proposed is not None and settled(proposed, (), Standing()).in_force == "clear"
    mail = account_notice(proposed, Standing("restricted", ("bob", "eve"), "pro_1"), entries, at=NOW, clock=CLOCK)
    assert mail.rests_on and all(one.at and one.clause and one.decision for one in mail.rests_on)
    assert mail.why and mail.appeal.command == "lathe access appeal pro_1" and mail.decided_by == ("bob", "eve")


@of_class("G")
def test_a_measure_reaches_no_other_thread_project_or_model_and_does_not_stick(row: Row) -> None:
    _, measure = stopped()
    assert measure.scope == "request"
    assert served(decide(POLICY, scene(row)))
    once = entry_of(measure, decision="dec_1", at=NOW, marks=("ann",))
    assert once is not None and account(LIMITS, [once], NOW).state == "clear", "one request is no account"
    assert served(decide(POLICY, scene(row, gated=False))), "a model that takes no access"
    weeks = account(LIMITS, [once], NOW + 60 * 86_400_000)
    assert weeks.score < 0.05
    other = user_message("Something else.")
    blocked = (Blocked(identity=identity(user_message("That.")), code="c", clause="c", decision="d"),)
    assert without([other], blocked) == [other]


@of_class("H")
def test_authorised_work_is_served_within_its_authority(row: Row) -> None:
    held = VERIFIED if row.clause in ("malware.analyse", "exploit.develop", "vuln.research") else {}
    measure = decide(POLICY, scene(row, **held))
    assert served(measure) and measure.ground == "allowed"


@of_class("I")
def test_a_late_check_holds_a_risky_call_and_no_text(row: Row) -> None:
    late = dict.fromkeys(WELL, "late")
    assert served(decide(POLICY, scene(row, monitors=late, findings=())))
    call = decide(POLICY, scene(row, monitors=late, findings=(), carries="call", risky=True, subject="call_1"))
    assert (call.step, call.scope) == ("hold", "call") and call.wait_s > 0 and call.choices


@pytest.mark.parametrize(("letter", "tests"), HELD_BY.items(), ids=HELD_BY)
def test_what_needs_the_gateway_is_held_by_tests_that_there_are(letter: str, tests: tuple[str, ...]) -> None:
    assert any(letter in row.classes for row in ROWS)
    for one in tests:
        path, _, name = one.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), one


def test_complaints_about_checks_and_accounts_are_cases_against_the_gateway() -> None:
    held = (ROOT / "tests/gateway/test_complaints_held.py").read_text()
    for number in IN_THE_GATEWAY:
        assert any(row.number == number for row in ROWS) and f"test_{number}_" in held, number
