"""The ladder as a table: situations and what follows from them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.guard.findings import PROVENANCES, Finding, Span
from lathe.guard.ladder import Measure, Situation, Standing, Target, allows, decide
from lathe.guard.policy import BLOCKS, FAILINGS, SEVERITY, STEPS, shipped
from lathe.guard.taxonomy import Relation
from lathe.protocol.trust import RANK, TIERS

POLICY = shipped()
WELL = {"topical": "ok", "reasoner": "ok"}
RISKY: dict[str, Any] = {"carries": "call", "risky": True, "subject": "call_1", "monitors": {"acts": "ok"}}
RESEARCH: dict[str, Any] = {"tier": "verified", "scope": ("cyber.research",)}
ALONE: dict[str, Any] = {"retention": "zero", "surface": "batch"}
OFFENSIVE: dict[str, Any] = {"tier": "specialist", "scope": ("cyber.offensive",), "engagement": "eng_1"}


def found(clause: str, score: float = 0.95, monitor: str = "reasoner", by: str = "", **more: Any) -> Finding:
    spans = (Span("part_1", 3, 9, by),) if by else ()  # type: ignore[arg-type]
    return Finding(monitor, clause, score, spans, "Why it was found.", **more)


def about(*names: str) -> Finding:
    return found("exploit.chain", evidence={"targets": list(names)})


def at(*relations: Relation) -> tuple[Target, ...]:
    return tuple(Target(f"{relation}{number}.example", relation) for number, relation in enumerate(relations))


def judged(*findings: Finding, **more: Any) -> Measure:
    return decide(POLICY, Situation(findings=findings, **{"monitors": WELL, **more}))


@pytest.mark.parametrize(
    ("finding", "more", "expected"),
    [
        # a topic, and words alone
        (found("topic.cyber", 1.0, "topical"), {}, "allow none"),
        (found("malware.create", 1.0, "topical"), {}, "log none"),
        (found("work.security_upkeep"), {}, "allow none"),
        (found("learn.explain"), {}, "log none"),
        # a monitor of which the policy says nothing is heard
        (found("malware.create", 0.95, "another"), {}, "refuse request"),
        # doubt
        (found("exploit.develop", 0.4), {}, "allow none"),
        (found("exploit.develop", 0.6), {}, "log none"),
        (found("exploit.develop", 0.6, "acts"), RISKY, "hold call"),
        (found("exploit.develop", 0.95, confidence=0.3), {}, "log none"),
        (found("malware.create", 0.7), {}, "hold request"),
        # the tier, the scope and the target
        (found("exploit.develop"), {"targets": at("third")}, "refuse request"),
        (found("exploit.develop"), {"targets": at("own")}, "log none"),
        (found("exploit.develop"), {"targets": at("own", "third")}, "refuse request"),
        (found("exploit.develop"), {**RESEARCH, "targets": at("third")}, "log none"),
        (found("exploit.chain"), {**OFFENSIVE, "targets": at("engaged", "own")}, "log none"),
        (found("exploit.chain"), {**OFFENSIVE, "targets": at("engaged", "third")}, "refuse request"),
        (found("exploit.chain"), {**OFFENSIVE, "engagement": "", "targets": at("engaged")}, "refuse request"),
        (found("exploit.chain"), OFFENSIVE, "refuse request"),
        (found("malware.create"), {**OFFENSIVE, "targets": at("engaged")}, "refuse request"),
        # of many targets only those that the finding is about count, and one that nobody knows is nobody's
        (about("engaged0.example"), {**OFFENSIVE, "targets": at("engaged", "third")}, "log none"),
        (about("elsewhere.example"), {**OFFENSIVE, "targets": at("engaged")}, "refuse request"),
        # another model is a choice
        (found("exploit.develop"), {"alternatives": ("small",)}, "offer request"),
        (found("malware.create"), {"alternatives": ("small",)}, "refuse request"),
        (found("exploit.develop"), {"alternatives": ("small",), "surface": "batch"}, "refuse request"),
        (found("exploit.develop"), {"alternatives": ("small",), "gated": False}, "log none"),
        (found("malware.create"), {"gated": False}, "refuse request"),
        # the smallest scope
        (found("malware.create", by="person"), {}, "refuse request"),
        (found("malware.create", by="model"), {}, "withhold span"),
        (found("malware.create", by="file"), {}, "log none"),
        (found("malware.create", 0.95, "acts", by="model"), RISKY, "withhold call"),
        (found("malware.create", 0.95, "acts", by="file"), RISKY, "withhold call"),
        (found("malware.create", by="person"), {"blocks": 3}, "refuse request"),
        (found("malware.create", by="person"), {"blocks": 4}, "pause thread"),
        (found("malware.create", by="model"), {"blocks": 4}, "pause thread"),
        (found("malware.create", by="person"), {"blocks": 4, "retention": "zero"}, "refuse request"),
        (found("work.ordinary"), {"blocks": 40}, "allow none"),
        # the agent's own straying is no misuse
        (found("agent.overreach", 0.95, "misalignment"), {**RISKY, "targets": at("third")}, "hold call"),
        (found("agent.bypass", 0.95, "misalignment"), RISKY, "pause thread"),
        (found("agent.bypass", 0.95, "misalignment"), {**RISKY, **ALONE}, "pause thread"),
        (found("agent.overreach", 0.95, "misalignment"), {**RISKY, "surface": "batch"}, "withhold call"),
        # texts that were only read
        (found("injection.order", 0.95, "injection", by="web"), {}, "log none"),
        (found("injection.grant", 0.95, "injection", by="web"), {}, "withhold span"),
        (found("injection.grant", 0.95, "injection", by="tool"), RISKY, "withhold call"),
    ],
)  # fmt: skip
def test_what_follows_from_a_finding(finding: Finding, more: dict[str, Any], expected: str) -> None:
    measure = judged(finding, **more)
    assert f"{measure.step} {measure.scope}" == expected


FAIL_CLOSED = {
    # monitor: state: what follows for text, text of which something was found, a call that changes or sends
    "topical": {"late": "log log hold", "wrong": "log log hold", "dead": "log log hold", "flooded": "log log hold"},
    "reasoner": {
        "late": "log hold hold",
        "wrong": "log log withhold",
        "dead": "log log withhold",
        "flooded": "log hold hold",
    },
    "acts": {
        "late": "log log hold",
        "wrong": "log log withhold",
        "dead": "log log withhold",
        "flooded": "log log withhold",
    },
    "intel": {"late": "log log hold", "wrong": "log log hold", "dead": "log log hold", "flooded": "log log hold"},
    "secrets": {
        "late": "log log hold",
        "wrong": "log log withhold",
        "dead": "log log withhold",
        "flooded": "log log withhold",
    },
    "misalignment": {
        "late": "log log hold",
        "wrong": "log log pause",
        "dead": "log log pause",
        "flooded": "log log pause",
    },
    "injection": {"late": "log log hold", "wrong": "log log hold", "dead": "log log hold", "flooded": "log log hold"},
}


def failing_steps(monitor: str, state: str) -> str:
    states = {**dict.fromkeys(POLICY.monitors, "ok"), monitor: state}
    flag = Finding("topical", "topic.cyber", 0.9)
    text = Situation(monitors=states)  # type: ignore[arg-type]
    flagged = msgspec.structs.replace(text, findings=(flag,))
    act = msgspec.structs.replace(text, carries="call", risky=True, subject="call_1")
    return " ".join(decide(POLICY, one).step for one in (text, flagged, act))


@pytest.mark.parametrize("monitor", POLICY.monitors)
@pytest.mark.parametrize("state", FAILINGS)
def test_a_monitor_that_fails_is_an_input_of_the_policy(monitor: str, state: str) -> None:
    assert failing_steps(monitor, state) == FAIL_CLOSED[monitor][state]


def test_no_risky_act_passes_a_monitor_that_fails_and_its_silence_is_its_death() -> None:
    for monitor in (*POLICY.monitors, "unheard_of"):
        for state in FAILINGS:
            *_, act = failing_steps(monitor, state).split()
            assert SEVERITY[act] >= SEVERITY["hold"], (monitor, state)
    silent = judged(carries="call", risky=True, subject="call_1", monitors={})
    assert (silent.step, silent.code, silent.clause) == ("withhold", "monitor_dead", "monitor.acts")
    assert "nothing that you did" in silent.sentence and not silent.appealable


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -1.0, 7.0])
def test_a_finding_that_makes_no_sense_makes_its_monitor_a_wrong_one(score: float) -> None:
    for nonsense in (found("exploit.chain", score, "acts"), found("no.clause", 0.9, "acts")):
        measure = judged(nonsense, **RISKY)
        assert (measure.step, measure.code) == ("withhold", "monitor_wrong")
        assert judged(nonsense).step == "log"


def test_a_hold_ends_and_says_what_then() -> None:
    waiting = judged(found("exploit.develop", 0.6, "acts"), **RISKY)
    assert (waiting.wait_s, waiting.then, waiting.choices) == (60, "withhold", ("wait", "drop"))
    text = judged(found("malware.create", 0.7))
    assert (text.wait_s, text.then) == (10, "log")
    strayed = judged(found("agent.overreach", 0.95, "misalignment"), **RISKY, targets=at("third"))
    assert "approve" in strayed.choices


def test_a_restriction_by_one_person_does_not_hold() -> None:
    allowed: dict[str, Any] = {**OFFENSIVE, "targets": at("engaged")}
    finding = found("exploit.chain")
    for reviewers in ((), ("ann",), ("ann", "ann"), ("ann", "")):
        assert judged(finding, standing=Standing("restricted", reviewers), **allowed).step == "log"
        assert judged(standing=Standing("suspended", reviewers)).step == "allow"
    two = judged(finding, standing=Standing("restricted", ("ann", "bob"), "dec_1"), **allowed)
    assert (two.step, two.scope, two.code, two.appealable) == ("restrict", "actor", "actor_restricted", True)
    other_work = judged(found("work.ordinary"), standing=Standing("restricted", ("ann", "bob")))
    assert other_work.step == "allow"
    gone = judged(standing=Standing("suspended", ("ann", "bob"), "dec_1"))
    assert gone.step == "restrict" and "dec_1 of ann and bob" in gone.sentence and gone.appealable


def test_a_measure_explains_itself() -> None:
    stranger = judged(found("exploit.chain", by="person"), targets=at("third"))
    assert stranger.code == "cyber_exploit_chain" and stranger.policy == POLICY.hash
    assert "needs the tier specialist with the scope cyber.offensive" in stranger.sentence
    assert stranger.approval_helps and not stranger.approved
    assert [(one.monitor, one.spans[0].part) for one in stranger.evidence] == [("reasoner", "part_1")]
    approved = judged(found("exploit.chain"), **OFFENSIVE, targets=at("third"))
    assert approved.approved and approved.openings[0].lacks == ("target",)
    assert "You hold the tier specialist with the scope cyber.offensive; this act is outside of it" in approved.sentence
    assert "within a live engagement" in approved.sentence
    never = judged(found("malware.create"), **OFFENSIVE)
    assert never.openings == () and not never.approval_helps and "nothing allows" in never.sentence


spans = st.builds(Span, st.just("part_1"), st.just(0), st.just(1), st.sampled_from(PROVENANCES))
situations = st.builds(
    Situation,
    findings=st.lists(
        st.builds(
            Finding,
            monitor=st.sampled_from([*POLICY.monitors, "other"]),
            clause=st.sampled_from([*POLICY.taxonomy.clauses, "no.clause"]),
            score=st.floats(0, 1) | st.floats(),
            spans=st.lists(spans).map(tuple),
            why=st.just(""),
            confidence=st.floats(0, 1),
        ),
        max_size=4,
    ).map(tuple),
    monitors=st.dictionaries(st.sampled_from([*POLICY.monitors, "other"]), st.sampled_from(["ok", *FAILINGS])),
    carries=st.sampled_from(["text", "call"]),
    risky=st.booleans(),
    tier=st.sampled_from(TIERS),
    scope=st.sets(st.sampled_from([*POLICY.taxonomy.scopes])).map(tuple),
    targets=st.lists(st.sampled_from(["own", "engaged", "third", "unclear"]), max_size=3).map(lambda all: at(*all)),
    engagement=st.sampled_from(["", "eng_1"]),
    surface=st.sampled_from(["cli", "ide", "api", "batch"]),
    retention=st.sampled_from(["full", "metadata", "zero"]),
    standing=st.builds(
        Standing, st.sampled_from(["clear", "restricted", "suspended"]), st.lists(st.sampled_from("ab")).map(tuple)
    ),
    blocks=st.integers(0, 9),
    alternatives=st.sampled_from([(), ("small",)]),
)  # fmt: skip


@given(situations)
def test_every_situation_has_a_measure_of_a_fitting_scope(situation: Situation) -> None:
    measure = decide(POLICY, situation)
    assert measure.step in STEPS and measure.policy == POLICY.hash
    assert (measure.scope == "none") == (measure.step in ("allow", "log"))
    assert (measure.scope == "actor") == (measure.step == "restrict")
    assert measure.scope != "actor" or situation.standing.in_force != "clear"
    if measure.step not in ("allow", "log"):
        assert measure.clause and measure.code and measure.sentence.endswith(".")
    if measure.step in BLOCKS and not measure.code.startswith("monitor_"):
        assert measure.appealable


@given(situations, st.lists(st.floats(0, 1), max_size=4), st.booleans())
def test_what_is_allowed_at_a_glance_is_allowed(situation: Situation, scores: list[float], well: bool) -> None:
    if well:  # or next to none of them would be
        findings = [msgspec.structs.replace(one, score=score) for one, score in zip(situation.findings, scores)]  # noqa: B905
        situation = msgspec.structs.replace(
            situation, findings=tuple(findings), monitors=dict.fromkeys(POLICY.monitors, "ok")
        )
    glance = allows(
        POLICY,
        situation.findings,
        situation.monitors,
        standing=situation.standing,
        surface=situation.surface,
        retention=situation.retention,
    )
    assert not glance or decide(POLICY, situation).step == "allow"


def test_a_glance_is_enough_for_ordinary_work() -> None:
    seen = [found("topic.cyber", 0.01, "topical")]
    well = dict.fromkeys(("topical", "reasoner", "acts", "secrets"), "ok")
    plain: dict[str, Any] = {"standing": Standing(), "surface": "api", "retention": "full"}
    assert allows(POLICY, seen, well, **plain)
    assert not allows(POLICY, seen, {**well, "acts": "dead"}, **plain)
    assert not allows(POLICY, [*seen, found("malware.create")], well, **plain)
    assert not allows(POLICY, seen, well, **{**plain, "standing": Standing("suspended", ("a", "b"))})


@given(situations, st.sampled_from(TIERS))
def test_more_trust_never_makes_a_finding_weigh_more(situation: Situation, other: Any) -> None:
    low, high = sorted((situation.tier, other), key=lambda tier: RANK[tier])
    steps = [decide(POLICY, msgspec.structs.replace(situation, tier=tier)).step for tier in (low, high)]
    assert SEVERITY[steps[1]] <= SEVERITY[steps[0]]


def test_decisions_can_be_read_and_made_again() -> None:
    line = msgspec.json.encode(Situation(findings=(found("exploit.chain", by="person"),), targets=at("third")))
    assert decide(POLICY, msgspec.json.decode(line, type=Situation)).step == "refuse"
