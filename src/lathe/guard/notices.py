"""Notices: what a person is told of a decision, so that they know what it was about and what they can do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from lathe.guard.findings import Span
from lathe.guard.ladder import Measure, Scope, Standing
from lathe.guard.ledger import Entry, Proposal
from lathe.guard.policy import Policy, Step
from lathe.guard.taxonomy import Concern, Level
from lathe.guard.wording import terms
from lathe.guard.working_days import Clock

Approval: TypeAlias = Literal["helps", "held_but_outside", "never_helps", "not_the_matter"]
"""Whether an approval would help: it would; one is held and does not reach so far, what more it takes is said; none
would; or it is not a matter of approval."""
APPEAL_DAYS = 2
"""Working days in which a person decides an appeal."""
_CATEGORY: dict[Level, str] = {
    "benign": "no matter of security",
    "low_risk_dual_use": "low-risk dual use",
    "high_risk_dual_use": "high-risk dual use",
    "harmful": "a harmful act",
}
_REACH: dict[Scope, str] = {
    "none": "Nothing is held back.",
    "span": "Only the passage is left out; the rest of the answer and of the thread goes on.",
    "call": "Only this call is not run; the thread goes on.",
    "request": "Only this request is affected; the next one in this thread is judged by itself.",
    "thread": "The agent rests in this thread until you say something; other threads go on.",
    "actor": "It holds for this account, by the decision of two people.",
}
_CHOICES = {
    "wait": "Wait until the check is done.",
    "drop": "Leave it out and go on.",
    "approve": "Approve it yourself.",
    "go_on": "Say how to go on.",
}


class Appealing(msgspec.Struct, frozen=True):
    """How to appeal; an appeal made at the time of the notice is decided by `decided_by` (milliseconds)."""

    command: str
    path: str
    decided_by: int
    working_days: int = APPEAL_DAYS


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice of one decision. `at` is milliseconds since the epoch.

    `allowed_by` are the ways in which it would be allowed, the nearest first; with none, nothing would. `judged_by`
    says which tier, scope and engagement were applied, where that matters.
    """

    decision: str
    at: int
    step: Step
    scope: Scope
    category: str
    concern: Concern
    clause: str
    code: str
    sentence: str
    reach: str
    policy: str
    call: str = ""
    spans: tuple[Span, ...] = ()
    why: tuple[str, ...] = ()
    judged_by: str = ""
    allowed_by: tuple[str, ...] = ()
    approval: Approval = "not_the_matter"
    next_steps: tuple[str, ...] = ()
    appeal: Appealing | None = None


class Counted(msgspec.Struct, frozen=True):
    """A decision that a measure about an account rests on."""

    decision: str
    at: int
    clause: str
    step: Step


class AccountNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice of a measure about an account, with every decision that it rests on and the people who decided."""

    proposal: str
    at: int
    state: str
    why: str
    rests_on: tuple[Counted, ...]
    decided_by: tuple[str, ...]
    appeal: Appealing


def notice(measure: Measure, policy: Policy, *, decision: str, at: int, clock: Clock, judged_by: str = "") -> Notice:
    """Return the notice of a measure; `decision` is the id under which it is on record.

    `judged_by` says by what right it was judged, which is no matter where the agent strays or a monitor fails.
    """
    approval = _approval(measure)
    allowed_by = tuple(terms(one) for one in measure.openings)
    appeal = appealing(decision, at, clock) if measure.appealable else None
    failing = measure.ground == "monitor"
    return Notice(
        decision=decision,
        at=at,
        step=measure.step,
        scope=measure.scope,
        category="a check that failed" if failing else _CATEGORY[measure.level],
        concern=measure.concern,
        clause=measure.clause,
        code=measure.code,
        sentence=measure.sentence,
        reach=_REACH[measure.scope],
        policy=policy.hash,
        call=measure.subject,
        spans=tuple(span for one in measure.evidence for span in one.spans if one.clause == measure.clause),
        why=tuple(f"{one.monitor}: {one.why}" for one in measure.evidence if one.why and one.clause == measure.clause),
        judged_by=judged_by if measure.concern == "misuse" and measure.ground not in ("monitor", "nothing") else "",
        allowed_by=allowed_by,
        approval=approval,
        next_steps=(*_next_steps(measure, approval, allowed_by), *([f"Appeal: {appeal.command}"] if appeal else [])),
        appeal=appeal,
    )


def account_notice(
    proposed: Proposal, standing: Standing, entries: Iterable[Entry], *, at: int, clock: Clock
) -> AccountNotice:
    """Return the notice of a measure about an account that two people have decided."""
    named = set(proposed.decisions)
    counted = tuple(Counted(one.decision, one.at, one.clause, one.step) for one in entries if one.decision in named)
    return AccountNotice(
        proposal=proposed.id,
        at=at,
        state=standing.in_force,
        why=proposed.why,
        rests_on=counted,
        decided_by=standing.reviewers,
        appeal=appealing(proposed.id, at, clock),
    )


def appealing(decision: str, at: int, clock: Clock) -> Appealing:
    """Return how a decision is appealed, and by when an appeal made at `at` is decided."""
    return Appealing(
        f"lathe access appeal {decision}", f"/v1/decisions/{decision}/appeal", clock.after(at, APPEAL_DAYS)
    )


def as_text(told: Notice) -> str:
    """Return a notice as people read it, in lines."""
    where = [_place(span) for span in told.spans] or ([f"the call {told.call}"] if told.call else [])
    lines = [
        told.sentence,
        told.reach,
        f"Category: {told.category}. Clause: {told.clause}. Code: {told.code}. Decision: {told.decision}.",
        *([f"Where: {'; '.join(where[:5])}."] if where else []),
        *(f"Why: {one}" for one in told.why[:5]),
        told.judged_by,
        *([f"It would be allowed by {'; or by '.join(told.allowed_by)}."] if told.allowed_by else []),
        *(f"- {one}" for one in told.next_steps),
        *([f"An appeal made now is decided by {_day(told.appeal.decided_by)}, by a person."] if told.appeal else []),
        f"Policy: {told.policy[:16]}.",
    ]
    return "\n".join(line for line in lines if line)


_HOLDS = {
    "clear": "Nothing is held against this account any more",
    "restricted": "This account is restricted: what takes an approval is not served to it",
    "suspended": "This account is suspended: nothing is served to it",
}


def account_text(told: AccountNotice, people: tuple[str, ...] = ()) -> str:
    """Return a notice about an account as people read it, in lines; `people` are the names of who decided."""
    by = " and ".join(people or told.decided_by)
    lines = [
        f"{_HOLDS[told.state]}. Decision {told.proposal} of {_day(told.at)}{f', by {by}' if by else ''}.",
        f"Why: {told.why}",
        *(f"- {one.decision} of {_day(one.at)}: {one.clause} ({one.step})" for one in told.rests_on),
    ]
    if told.state != "clear":
        lines += [
            f"Appeal: {told.appeal.command}",
            f"An appeal made now is decided by {_day(told.appeal.decided_by)}, by somebody else.",
        ]
    return "\n".join(lines)


def _approval(measure: Measure) -> Approval:
    if measure.ground in ("monitor", "nothing") or measure.concern != "misuse" or measure.step == "restrict":
        return "not_the_matter"
    if not measure.approval_helps:
        return "never_helps"
    return "held_but_outside" if measure.approved else "helps"


def _next_steps(measure: Measure, approval: Approval, allowed_by: tuple[str, ...]) -> list[str]:
    steps = [
        _CHOICES.get(one) or f"Use {one.removeprefix('use:')} for it, if you choose to." for one in measure.choices
    ]
    if measure.step == "hold":
        seconds = f"If nothing is said within {measure.wait_s} s,"
        return [*steps, f"{seconds} it goes on." if measure.then in ("allow", "log") else f"{seconds} it is left out."]
    if measure.ground == "monitor":
        return [*steps, "Try again; the fault is with the check."]
    nearest = measure.openings[0] if measure.openings else None
    if approval == "helps":
        steps.append(f"Apply for access: lathe access apply; it takes {allowed_by[0]}.")
    elif approval == "held_but_outside" and nearest is not None:
        widened = "tier" in nearest.lacks or "scope" in nearest.lacks
        steps += ["Have your access widened: lathe access apply."] if widened else []
        steps += ["Have the target added to an engagement."] if "target" in nearest.lacks else []
    elif approval == "never_helps":
        steps.append("No access would allow it, so applying for one does not help.")
    return steps


def _place(span: Span) -> str:
    return f"letters {span.start} to {span.end} of {span.part} ({span.provenance})"


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"
