"""The ladder: from what monitors found, and how they did, to one measure. Pure, and the smallest scope first.

A measure says what follows, of what, by which clause, on which evidence, and what would allow it. It never names
another model in place of the one that was asked for: where others could be chosen, it offers them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from lathe.guard.findings import Finding, Span
from lathe.guard.policy import BLOCKS, FAILINGS, SEVERITY, Kind, MonitorState, Policy, Step
from lathe.guard.taxonomy import Authority, Bound, Clause, Concern, Lack, Level, Relation
from lathe.guard.wording import Held, outside_sentence
from lathe.protocol.trust import RANK, Retention, Surface, Tier

Scope: TypeAlias = Literal["none", "span", "call", "request", "thread", "actor"]
"""What a measure reaches; nothing beyond it is touched."""
Restriction: TypeAlias = Literal["clear", "restricted", "suspended"]
Ground: TypeAlias = Literal["nothing", "allowed", "doubt", "read", "outside", "standing", "monitor"]
"""Why a measure is what it is: nothing was found; the act is allowed; it is not sure what it is; it stands only in
what was read; it is outside of what is allowed; the actor is restricted; a monitor fails."""
_REVIEWERS = 2
_OWN: frozenset[str] = frozenset({"person", "developer"})
_UNKNOWN: dict[Kind, Step] = {"text": "log", "flagged": "log", "act": "hold"}
"""What follows when a monitor fails of which the policy says nothing."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an act is aimed at, and what that is to whoever acts; who asks can't say so, the gateway or sandbox does."""

    name: str
    relation: Relation


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for the actor. A restriction by fewer than two people does not hold."""

    state: Restriction = "clear"
    reviewers: tuple[str, ...] = ()
    decision: str = ""

    @property
    def in_force(self) -> Restriction:
        """The restriction that counts."""
        return self.state if len(set(self.reviewers) - {""}) >= _REVIEWERS else "clear"


class Situation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a decision rests on. It can be kept as a line of JSON and decided again.

    `carries` is what is judged: text, or the call `subject`, which is `risky` where it may change or send anything.
    `tier` and `scope` are of the entitlement that counts, `engagement` the id of the live one that the request is of,
    "" for none. `blocks` counts the different items before this one that were blocked in a row in its thread.
    `alternatives` are models that whoever asks may choose; `gated` says whether the one asked for takes an access that
    such an alternative does not.
    """

    findings: tuple[Finding, ...] = ()
    monitors: dict[str, MonitorState] = {}
    carries: Literal["text", "call"] = "text"
    risky: bool = False
    subject: str = ""
    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    engagement: str = ""
    surface: Surface = "api"
    retention: Retention = "full"
    standing: Standing = Standing()
    blocks: int = 0
    alternatives: tuple[str, ...] = ()
    gated: bool = True


class Evidence(msgspec.Struct, frozen=True):
    """What a measure rests on."""

    monitor: str
    clause: str
    why: str
    score: float
    confidence: float
    spans: tuple[Span, ...] = ()


class Opening(msgspec.Struct, frozen=True):
    """A way in which the act is allowed, and what of it is missing."""

    tier: Tier
    scope: tuple[str, ...]
    targets: Bound
    lacks: tuple[Lack, ...]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What follows.

    `scope` is all that it reaches, `subject` the call where it is one. `sentence` is for people, `code` stable.
    `openings` are the ways in which it would be allowed, the nearest first; with none, nothing would allow it.
    `approval_helps` says whether a higher tier, a scope or an engagement could. A hold ends after `wait_s` seconds
    with the step `then`. `choices` are what the person may do: `wait`, `drop`, `approve`, `go_on`, `use:MODEL`.
    """

    step: Step
    scope: Scope
    policy: str
    ground: Ground = "nothing"
    clause: str = ""
    level: Level = "benign"
    concern: Concern = "misuse"
    code: str = ""
    sentence: str = ""
    subject: str = ""
    evidence: tuple[Evidence, ...] = ()
    openings: tuple[Opening, ...] = ()
    approval_helps: bool = False
    approved: bool = False
    appealable: bool = False
    wait_s: int = 0
    then: Step = "allow"
    choices: tuple[str, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether something is not served."""
        return self.step in BLOCKS


class _Verdict(NamedTuple):
    """What one finding comes to."""

    step: Step
    clause: Clause
    finding: Finding
    authority: Authority
    ground: Ground = "nothing"


def decide(policy: Policy, situation: Situation) -> Measure:
    """Return the measure for a situation. Everything counts, and the strictest of what follows is done."""
    findings, monitors = _sorted_out(policy, situation)
    kind = _kind(policy, situation, findings)
    failing = _failing(policy, monitors, kind)
    if situation.standing.in_force == "suspended":
        return _suspended(policy, situation)
    verdicts = [_verdict(policy, situation, finding, kind) for finding in findings]
    worst = max(verdicts, key=lambda one: _order(policy, one), default=None)
    if worst is None or (failing is not None and SEVERITY[failing[1]] > SEVERITY[worst.step]):
        return _by_failing(policy, situation, kind, failing)
    return _measure(policy, situation, kind, worst, findings)


def allows(
    policy: Policy,
    findings: Sequence[Finding],
    monitors: Mapping[str, MonitorState],
    *,
    standing: Standing,
    surface: Surface,
    retention: Retention,
) -> bool:
    """Say whether `decide` allows a situation of these whatever else it holds: all monitors did well and doubt nothing.

    False says nothing. Most of what is judged is such, and needs no situation.
    """
    if standing.in_force == "suspended" or policy.instead("allow", surface, retention) != "allow":
        return False
    if not monitors.keys() >= policy.needed or any(state != "ok" for state in monitors.values()):
        return False
    clauses = policy.taxonomy.clauses
    return all(
        one.sound and one.clause in clauses and one.score < policy.thresholds_of(one.monitor).doubts for one in findings
    )


def _sorted_out(policy: Policy, situation: Situation) -> tuple[list[Finding], dict[str, MonitorState]]:
    """Return the findings that make sense and the monitors' states; who gave one that makes none is wrong."""
    monitors = dict(situation.monitors)
    findings: list[Finding] = []
    for finding in situation.findings:
        if finding.sound and finding.clause in policy.taxonomy.clauses:
            findings.append(finding)
        elif monitors.get(finding.monitor, "ok") == "ok":
            monitors[finding.monitor] = "wrong"
    return findings, monitors


def _kind(policy: Policy, situation: Situation, findings: list[Finding]) -> Kind:
    if situation.carries == "call" and situation.risky:
        return "act"
    flagged = any(finding.score >= policy.thresholds_of(finding.monitor).doubts for finding in findings)
    return "flagged" if flagged else "text"


def _failing(policy: Policy, monitors: dict[str, MonitorState], kind: Kind) -> tuple[str, Step, MonitorState] | None:
    """Return the monitor whose failing weighs most, what follows, and how it fails; None where all do well."""
    found: tuple[str, Step, MonitorState] | None = None
    for name in (*policy.monitors, *(other for other in monitors if other not in policy.monitors)):
        rule = policy.monitors.get(name)
        state = monitors.get(name, "dead" if rule is not None and kind in rule.needed_for else "ok")
        if state in FAILINGS:
            step = rule.states[state][kind] if rule is not None else _UNKNOWN[kind]
            if found is None or SEVERITY[step] > SEVERITY[found[1]]:
                found = (name, step, state)
    return found


def _verdict(policy: Policy, situation: Situation, finding: Finding, kind: Kind) -> _Verdict:
    clause = policy.taxonomy.clauses[finding.clause]
    rule = policy.steps[clause.concern][policy.taxonomy.level(clause.id)]
    thresholds = policy.thresholds_of(finding.monitor)
    authority = Authority(situation.tier, situation.scope, _relations(situation, finding))
    if finding.score < thresholds.doubts:
        return _Verdict("allow", clause, finding, authority)
    restricted = False
    if situation.standing.in_force == "restricted" and clause.concern == "misuse":
        restricted = clause.way(authority) is not None
        authority = Authority("default", (), tuple("third" if one == "engaged" else one for one in authority.targets))
    if clause.way(authority) is not None:
        return _Verdict(rule.allowed, clause, finding, authority, "allowed")
    known = policy.monitors.get(finding.monitor)
    if known is not None and not known.judges:
        return _Verdict(_at_most(rule.doubt.text, "log"), clause, finding, authority, "doubt")
    if clause.concern == "misuse" and finding.only_read and situation.carries == "text":
        return _Verdict(policy.only_read, clause, finding, authority, "read")
    if finding.score < thresholds.decides or finding.confidence < thresholds.confidence:
        step = rule.doubt.act if kind == "act" else rule.doubt.text
        return _Verdict(step, clause, finding, authority, "doubt")
    step = rule.outside.get(situation.tier, rule.allowed)
    if restricted and step in BLOCKS:
        return _Verdict("restrict", clause, finding, authority, "standing")
    return _Verdict(step, clause, finding, authority, "outside")


def _relations(situation: Situation, finding: Finding) -> tuple[Relation, ...]:
    """Return what the targets of a finding are to the actor; without an engagement nothing is within one."""
    known: dict[str, Relation] = {one.name: one.relation for one in situation.targets}
    names = finding.targets or tuple(known)
    found: list[Relation] = [known.get(name, "unclear") for name in names]
    return tuple("third" if one == "engaged" and not situation.engagement else one for one in found)


def _order(policy: Policy, verdict: _Verdict) -> tuple[int, int, float]:
    return SEVERITY[verdict.step], policy.taxonomy.rank(verdict.clause.id), verdict.finding.score


def _at_most(step: Step, most: Step) -> Step:
    return step if SEVERITY[step] <= SEVERITY[most] else most


def _narrowed(step: Step, situation: Situation, finding: Finding) -> tuple[Step, Scope]:
    """Return the step at the smallest scope that holds the evidence."""
    if step in ("pause", "restrict"):
        return step, "thread" if step == "pause" else "actor"
    if situation.carries == "call":
        return ("withhold" if step in BLOCKS else step), "call"
    if finding.spans and not any(span.provenance in _OWN for span in finding.spans):
        return ("withhold" if step in BLOCKS else step), "span"
    return step, "request"


def _measure(policy: Policy, situation: Situation, kind: Kind, verdict: _Verdict, findings: list[Finding]) -> Measure:
    clause, finding = verdict.clause, verdict.finding
    step, scope = _narrowed(_settled(policy, situation, verdict), situation, finding)
    if SEVERITY[step] <= SEVERITY["log"]:
        return Measure(
            step=step,
            scope="none",
            policy=policy.hash,
            ground=verdict.ground,
            clause=clause.id,
            level=policy.taxonomy.level(clause.id),
            concern=clause.concern,
            code=clause.code if step == "log" else "",
            evidence=tuple(map(_evidence, findings)) if step == "log" else (),
        )
    openings = _openings(clause, verdict.authority)
    held = Held(situation.tier, situation.scope)
    approved = situation.tier != "default" or bool(situation.scope)
    return Measure(
        step=step,
        scope=scope,
        policy=policy.hash,
        ground=verdict.ground,
        clause=clause.id,
        level=policy.taxonomy.level(clause.id),
        concern=clause.concern,
        code="actor_restricted" if step == "restrict" else clause.code,
        sentence=outside_sentence(clause, step, held, openings, verdict.ground == "doubt"),
        subject=situation.subject,
        evidence=tuple(_evidence(one) for one in sorted(findings, key=lambda one: one.clause != clause.id)),
        openings=openings,
        approval_helps=any(_can_be_applied_for(one) for one in openings),
        approved=approved,
        appealable=step in BLOCKS,
        wait_s=policy.holds[kind].longest_s if step == "hold" else 0,
        then=policy.holds[kind].then if step == "hold" else "allow",
        choices=_choices(step, situation, clause.concern),
    )


def _settled(policy: Policy, situation: Situation, verdict: _Verdict) -> Step:
    """Return the step for this thread, surface and retention; nothing takes the place of stopping an agent."""
    step, misuse = verdict.step, verdict.clause.concern == "misuse"
    if not situation.gated:
        step = policy.ungated.get(step, step)
    if misuse and step in ("withhold", "refuse", "offer") and situation.blocks + 1 >= policy.pause_after:
        step = "pause"
    if step == "pause" and not misuse:
        return step
    step = policy.instead(step, situation.surface, situation.retention)
    return "refuse" if step == "offer" and not situation.alternatives else step


def _openings(clause: Clause, authority: Authority) -> tuple[Opening, ...]:
    ways = [Opening(way.tier, way.scope, way.targets, way.lacks(authority)) for way in clause.allowed_by]
    return tuple(sorted(ways, key=_distance))


def _distance(one: Opening) -> tuple[bool, int, bool, bool, int]:
    """Say how far off a way is: one for which tier and scope are held already is nearer than another."""
    return not _can_be_applied_for(one), len(one.lacks), "tier" in one.lacks, "scope" in one.lacks, RANK[one.tier]


def _can_be_applied_for(opening: Opening) -> bool:
    """Say whether what is missing can be granted; that a target is one's own can't."""
    return "target" not in opening.lacks or opening.targets == "engaged"


def _choices(step: Step, situation: Situation, concern: Concern) -> tuple[str, ...]:
    if step == "hold":
        # the person may stand for what the agent does or was told to, not for what they are themselves held for
        return ("wait", "drop") if concern == "misuse" else ("wait", "approve", "drop")
    if step == "pause":
        return ("go_on", "drop")
    if step == "offer":
        return (*(f"use:{model}" for model in situation.alternatives), "drop")
    return ()


def _evidence(finding: Finding) -> Evidence:
    return Evidence(finding.monitor, finding.clause, finding.why, finding.score, finding.confidence, finding.spans)


def _by_failing(
    policy: Policy, situation: Situation, kind: Kind, failing: tuple[str, Step, MonitorState] | None
) -> Measure:
    """Return what follows from how the monitors did, where no finding weighs more."""
    if failing is None:
        return Measure(step="allow", scope="none", policy=policy.hash)
    name, asked, state = failing
    step = asked if asked == "pause" else policy.instead(asked, situation.surface, situation.retention)
    if SEVERITY[step] <= SEVERITY["log"]:
        return Measure(
            step=step,
            scope="none",
            policy=policy.hash,
            ground="monitor",
            clause=f"monitor.{name}",
            code=f"monitor_{state}",
        )
    what = "This call" if situation.carries == "call" else "This text"
    held = {"hold": "waits", "pause": "is not run, and the thread rests"}.get(step, "is not let through")
    scope: Scope = "thread" if step == "pause" else "call" if situation.carries == "call" else "request"
    return Measure(
        step=step,
        scope=scope,
        policy=policy.hash,
        ground="monitor",
        clause=f"monitor.{name}",
        code=f"monitor_{state}",
        sentence=f"{what} {held}, because the check by {name} {_FAILED[state]}; it is nothing that you did.",
        subject=situation.subject,
        wait_s=policy.holds[kind].longest_s if step == "hold" else 0,
        then=policy.holds[kind].then if step == "hold" else "allow",
        choices=_choices(step, situation, "misuse"),
    )


_FAILED: dict[str, str] = {
    "late": "did not end in time",
    "wrong": "gave no answer that makes sense",
    "dead": "does not run",
    "flooded": "has more to do than it can",
}


def _suspended(policy: Policy, situation: Situation) -> Measure:
    names = " and ".join(sorted(set(situation.standing.reviewers))[:5])
    return Measure(
        step="restrict",
        scope="actor",
        policy=policy.hash,
        ground="standing",
        clause="actor.suspended",
        code="actor_suspended",
        sentence=f"This account is suspended by the decision {situation.standing.decision or 'on record'} of {names}.",
        subject=situation.subject,
        appealable=True,
    )


def situation_of(plain: Any) -> Situation:
    """Return the situation that plain data describes; raise `msgspec.ValidationError`."""
    return msgspec.convert(plain, Situation)
