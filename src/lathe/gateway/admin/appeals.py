"""Appeals: whoever was refused has the decision looked at anew, by a person who had no part in it, in two days."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, literal, select

from lathe.gateway.admin.decisions import concerns, is_about, told
from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import AdminError, conflict, forbidden, not_found
from lathe.gateway.admin.shapes import Page
from lathe.gateway.admin.shapes_guard import Appeal, AppealDecision, AppealFile, Appeals, NewAppeal
from lathe.gateway.guarding.appealing import case_of, change, checked, keep, policy_in_force, tell_outcome
from lathe.gateway.guarding.on_record import ACCOUNT, Subject, appeal_of, appeals_against, as_json, subject_of
from lathe.gateway.guarding.repairing import Repaired, carry_out
from lathe.guard import appeals as rules
from lathe.guard.appeals import Regression, file_name
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.guard_schema import appeals, decisions

_WAITING = ("open", "taken")
_FAR = 10**15


class Case(msgspec.Struct, frozen=True):
    """A case that came of an appeal: the name of its file, and what stands in it."""

    file: str
    case: dict[str, Any]


@operation(ANYONE)
async def make_appeal(desk: Desk, decision: str, asked: NewAppeal) -> Appeal:
    """Appeal against a decision about oneself, or a measure about one's account."""
    subject = await _own(desk, decision)
    if subject.reversed_by:
        raise conflict("appeal_reversed", f"The decision {decision} is reversed already.")
    if not subject.appealable:
        raise conflict("not_appealable", "Nothing is held back by it, so there is nothing to appeal.")
    clock, before = desk.services.working_days, await appeals_against(desk.connection, subject.of.decision)
    by = desk.principal.user or desk.principal.key
    made = checked(
        lambda: rules.opened(
            ordered_id("apl"), subject.of, by=by, at=desk.at, clock=clock, text=asked.text.strip(), before=before
        )
    )
    await keep(desk.connection, made, subject)
    facts = {"decision": made.decision, "clause": made.clause, "due": made.due}
    desk.record("appeal.opened", f"appeal:{made.id}", organisation=subject.organisation, **facts)
    return _shown(desk, await desk.one(appeals, made.id))


@operation(ANYONE, "operator", "reviewer", "auditor", reads=True)
async def list_appeals(desk: Desk, asked: Appeals) -> Page[Appeal]:
    """List appeals that the caller sees; those that wait in the order in which they are due."""
    conditions: list[ColumnElement[bool]] = []
    if asked.state:
        states = _WAITING if asked.state == "waiting" else (asked.state,)
        conditions.append(appeals.c.state.in_(states))
    if asked.decision:
        conditions.append(appeals.c.decision == asked.decision)
    if asked.mine:
        conditions.append(appeals.c.by == (desk.principal.user or desk.principal.key))
    waiting = asked.state in ("waiting", *_WAITING)
    order = literal(_FAR) - appeals.c.due if waiting else appeals.c.at
    found, after = await desk.page(appeals, asked, *conditions, by=order)
    return Page([_shown(desk, row) for row in found], after)


@operation(ANYONE, "operator", "reviewer", "auditor", reads=True)
async def show_appeal(desk: Desk, appeal: str) -> AppealFile:
    """Show an appeal, the decision that it is about, and for those who decide what that rested on."""
    row = await desk.one(appeals, appeal)
    found, subject = appeal_of(row), await _subject(desk, row)
    why_not = await _why_not(desk, found, subject)
    judges = bool(desk.principal.roles & decide_appeal.roles)
    seen = judges and desk.everywhere and subject.kind == "decision"
    of = subject.of
    earlier = select(appeals).where(appeals.c.decision == row.decision, appeals.c.at < row.at).order_by(appeals.c.at)
    return AppealFile(
        appeal=_shown(desk, row),
        decision=await told(desk, found.decision),
        may_decide=judges and not why_not,
        why_not=why_not if judges else "",
        situation=msgspec.to_builtins(of.situation) if seen else None,
        material=msgspec.to_builtins(of.material) if seen and of.material else None,
        earlier=[_shown(desk, one) for one in await desk.connection.execute(earlier)],
    )


@operation(ANYONE)
async def withdraw_appeal(desk: Desk, appeal: str) -> Appeal:
    """Withdraw one's own appeal."""
    row = await desk.one(appeals, appeal)
    by = desk.principal.user or desk.principal.key
    found = checked(lambda: rules.withdrawn(appeal_of(row), by=by, at=desk.at))
    await change(desk.connection, found)
    desk.record("appeal.withdrawn", f"appeal:{appeal}", organisation=row.organisation, decision=found.decision)
    return await _by_id(desk, appeal)


@operation("operator", "reviewer")
async def take_appeal(desk: Desk, appeal: str) -> Appeal:
    """Take an appeal in hand, so that nobody else decides it."""
    row, found, _ = await _to_decide(desk, appeal)
    mine = checked(lambda: rules.taken(found, desk.principal.user))
    await change(desk.connection, mine)
    desk.record("appeal.taken", f"appeal:{appeal}", organisation=row.organisation, decision=found.decision)
    return await _by_id(desk, appeal)


@operation("operator", "reviewer")
async def decide_appeal(desk: Desk, appeal: str, asked: AppealDecision) -> Appeal:
    """Uphold or reverse a decision; a reversal puts right at once all that the decision has done."""
    row, found, subject = await _to_decide(desk, appeal)
    ended = checked(
        lambda: rules.decided(
            found,
            reviewer=desk.principal.user,
            at=desk.at,
            reverses=asked.verdict == "reverse",
            reason=asked.reason,
            fault=asked.fault,
        )
    )
    facts = {"decision": found.decision, "verdict": asked.verdict, "fault": asked.fault, "reason": ended.reason}
    desk.record(
        "appeal.decided", f"appeal:{appeal}", organisation=row.organisation, in_time=desk.at <= found.due, **facts
    )
    repaired = Repaired()
    if ended.state == "reversed":
        policy = await policy_in_force(desk.services.settings.guard)
        case, why_none = case_of(policy, ended, subject, asked)
        repaired = await carry_out(desk, ended, subject)
        kept = {"repair": as_json({**msgspec.to_builtins(repaired), "no_case": why_none})}
        if case is not None:
            kept["case"] = as_json(case)
            desk.record("case.written", f"appeal:{appeal}", organisation=row.organisation, file=file_name(case))
        await change(desk.connection, ended, **kept)
    else:
        await change(desk.connection, ended)
    await tell_outcome(desk, ended, subject, repaired)
    return await _by_id(desk, appeal)


@operation("operator", "reviewer", "auditor", reads=True)
async def show_case(desk: Desk, appeal: str) -> Case:
    """Show the case that a reversal has become, as a file of `lathe guard policy test`."""
    row = await desk.one(appeals, appeal)
    if not row.case:
        why = json.loads(row.repair).get("no_case", "") if row.repair else "It was not reversed."
        raise AdminError(404, "case_missing", f"The appeal {appeal} has become no case. {why}")
    case = msgspec.json.decode(row.case, type=Regression)
    return Case(file_name(case), msgspec.to_builtins(case))


async def _own(desk: Desk, id: str) -> Subject:
    """Return what the caller appeals against: where an account is restricted, the measure and not each refusal."""
    if not id.startswith(ACCOUNT):
        await desk.one(decisions, id, "decision")
    subject = await subject_of(desk.connection, id, lock=True)
    if subject is None or not await _is_theirs(desk, subject):
        raise not_found("decision")
    standing = subject.of.situation.standing
    if subject.of.reviewers and standing.decision:
        measure = await subject_of(desk.connection, standing.decision, lock=True)
        if measure is not None and measure.appealable and await _is_theirs(desk, measure):
            return measure
    return subject


async def _to_decide(desk: Desk, appeal: str) -> tuple[Row[Any], rules.Appeal, Subject]:
    row = await desk.one(appeals, appeal)
    found, subject = appeal_of(row), await _subject(desk, row)
    if not desk.principal.user:
        raise forbidden("An appeal is decided by a person.", "Sign in, or use a key of your own.", "appeal_reviewer")
    if await _is_theirs(desk, subject):
        raise forbidden("Nobody decides on what is their own.", "Another reviewer must do it.", "appeal_own")
    return row, found, subject


async def _subject(desk: Desk, row: Row[Any]) -> Subject:
    subject = await subject_of(desk.connection, row.decision, lock=not desk.reads)
    if subject is None:
        raise not_found("decision")
    return subject


async def _is_theirs(desk: Desk, subject: Subject) -> bool:
    return is_about(desk, subject) if subject.proposal is None else await concerns(desk, subject.proposal)


async def _why_not(desk: Desk, found: rules.Appeal, subject: Subject) -> str:
    """Return why the caller can't decide an appeal, "" where they can as far as their role goes."""
    if not desk.principal.user:
        return "An appeal is decided by a person."
    if await _is_theirs(desk, subject):
        return "Nobody decides on what is their own."
    try:
        checked(lambda: rules.taken(found, desk.principal.user))
    except AdminError as error:
        return error.message
    return ""


async def _by_id(desk: Desk, id: str) -> Appeal:
    return _shown(desk, await desk.one(appeals, id))


def _shown(desk: Desk, row: Row[Any]) -> Appeal:
    found = appeal_of(row)
    return Appeal(
        id=row.id,
        decision=row.decision,
        clause=found.clause,
        organisation=row.organisation,
        project=row.project,
        by=row.by,
        at=row.at,
        due=row.due,
        overdue=row.state in _WAITING and row.due < desk.at,
        state=row.state,
        text=found.text,
        reviewer=found.reviewer,
        decided=row.decided,
        reason=found.reason,
        fault=found.fault,
        repair=json.loads(row.repair) if row.repair else None,
        case=bool(row.case),
    )
