"""Measures about accounts: proposed by the ledger or a reviewer, in force only when two people agree."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, insert, update

from lathe.gateway.admin.applications import record_review, reviews_of
from lathe.gateway.admin.decisions import concerns, names, rows_of
from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.admin.faults import conflict, forbidden
from lathe.gateway.admin.shapes import Page
from lathe.gateway.admin.shapes_access import Judgement, Review
from lathe.gateway.admin.shapes_guard import Account, AccountReview, AccountRow, Accounts, Lifting
from lathe.gateway.guarding import telling
from lathe.gateway.guarding.accounts import actor_of, proposals_about, put_in_force, told_of, weigh, whose
from lathe.gateway.guarding.on_record import as_json, people_of, proposal_of
from lathe.guard import ledger
from lathe.guard.ladder import Standing
from lathe.guard.notices import account_notice, account_text
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.guard_schema import proposals


@operation("operator", "reviewer", "auditor", reads=True)
async def list_accounts(desk: Desk, asked: Accounts) -> Page[AccountRow]:
    """List proposals about accounts, the newest first."""
    conditions: list[ColumnElement[bool]] = [proposals.c.state == asked.state] if asked.state else []
    found, after = await desk.page(proposals, asked, *conditions, by=proposals.c.at)
    return Page([await _row(desk, row) for row in found], after)


@operation("operator", "reviewer", "auditor", reads=True)
async def show_account(desk: Desk, proposal: str) -> Account:
    """Show a proposal, every decision that it rests on, and how the ledger sees the account now."""
    return await _shown(desk, await desk.one(proposals, proposal))


@operation("operator", "reviewer")
async def review_account(desk: Desk, proposal: str, asked: AccountReview) -> Account:
    """Approve a proposal or object to it: two different people must approve, and one objection ends it."""
    row = await desk.one(proposals, proposal)
    if row.state != "open":
        raise conflict("decided_already", f"The proposal is {row.state} already.")
    proposed = proposal_of(row)
    if asked.version not in ("", version_of(row)):
        raise conflict("proposal_changed", "The proposal has changed since you read it.", "Read it anew.")
    await _check(desk, proposed)
    approves = asked.verdict == "approve"
    await record_review(desk, proposal, Judgement(verdict="approve" if approves else "decline", note=asked.reason))
    about, facts = f"proposal:{proposal}", {"wanted": proposed.state, "reason": asked.reason}
    if not approves:
        await _end(desk, proposal, "declined")
        desk.record("account.objected", about, organisation=row.organisation, **facts)
        return await _shown(desk, await desk.one(proposals, proposal))
    desk.record("account.approved", about, organisation=row.organisation, **facts)
    before = (await actor_of(desk.connection, proposed.marks, desk.at)).standing
    said = [_ledgers(one) for one in await reviews_of(desk, proposal)]
    standing = ledger.settled(proposed, said, before)
    if standing.decision == proposal:
        await _put_in_force(desk, row, proposed, standing)
    return await _shown(desk, await desk.one(proposals, proposal))


@operation("operator", "reviewer")
async def lift_account(desk: Desk, proposal: str, asked: Lifting) -> Account:
    """Propose that a measure in force be lifted, as the first of the two people who must agree."""
    row = await desk.one(proposals, proposal)
    measure = proposal_of(row)
    if row.state != "in_force" or row.wanted == "clear":
        raise conflict("not_in_force", f"The measure is {row.state}.", "Nothing is to be lifted.")
    await _check(desk, measure)
    await desk.services.database.lock(desk.connection, "accounts")
    waiting = await proposals_about(desk.connection, "open", measure.marks)
    if waiting:
        raise conflict("proposal_waits", f"The proposal {waiting[0].id} about this account waits.", "Review that one.")
    why = f"A reviewer proposes that it be lifted: {asked.reason}"
    made = ledger.Proposal(ordered_id("pro"), measure.marks, "clear", why, ())
    values = {"id": made.id, "organisation": row.organisation, "body": as_json(made), "wanted": "clear"}
    await desk.connection.execute(insert(proposals).values(**values, state="open", at=desk.at))
    await record_review(desk, made.id, Judgement(verdict="approve", note=asked.reason))
    facts = {"wanted": "clear", "lifts": proposal, "reason": asked.reason}
    desk.record("proposal.opened", f"proposal:{made.id}", organisation=row.organisation, **facts)
    return await _shown(desk, await desk.one(proposals, made.id))


async def _put_in_force(desk: Desk, row: Row[Any], proposed: ledger.Proposal, standing: Standing) -> None:
    replaced = await put_in_force(desk.connection, proposed, standing, desk.at)
    facts = {"state": standing.state, "reviewers": list(standing.reviewers), "why": proposed.why}
    facts |= {"decisions": list(proposed.decisions), "in_place_of": replaced}
    desk.record("account.in_force", f"proposal:{row.id}", organisation=row.organisation, **facts)
    found = await told_of(desk.connection, proposed)
    entries = [msgspec.json.decode(one.entry, type=ledger.Entry) for one in found if one.entry]
    notice = account_notice(proposed, standing, entries, at=desk.at, clock=desk.services.working_days)
    title = {"clear": "Your account is free again", "restricted": "Your account is restricted"}
    said = telling.Notice(
        "account",
        row.id,
        title.get(standing.state, "Your account is suspended"),
        account_text(notice, names(desk.services, standing.reviewers)),
        notice,
    )
    people = await _people(desk, proposed)
    told = await telling.tell(desk.connection, people, said, organisation=row.organisation, at=desk.at)
    desk.record("notice.given", f"proposal:{row.id}", organisation=row.organisation, people=told)
    desk.changed("guard")


async def _people(desk: Desk, proposed: ledger.Proposal) -> list[str]:
    """Return who is to be told: the users whom the decisions are about, and who looks after a machine."""
    people = [
        await people_of(desk.connection, user=row.user, organisation=row.organisation, project=row.project)
        for row in await whose(desk.connection, proposed)
    ]
    return list(dict.fromkeys(one for some in people for one in some))


async def _end(desk: Desk, proposal: str, state: str) -> None:
    values = {"state": state, "decided": desk.at}
    await desk.connection.execute(update(proposals).where(proposals.c.id == proposal).values(**values))


async def _check(desk: Desk, proposed: ledger.Proposal) -> None:
    """Raise `AdminError` where the caller is no person, or it is about their own account."""
    if why := await _why_not(desk, proposed):
        raise forbidden(why, "Another reviewer must do it.", "own_thing")


async def _why_not(desk: Desk, proposed: ledger.Proposal) -> str:
    if not desk.principal.user:
        return "An account is judged by people."
    return "Nobody judges their own account." if await concerns(desk, proposed) else ""


def version_of(row: Row[Any]) -> str:
    """Return by what a state of a proposal is known again."""
    return hashlib.sha256(row.body.encode()).hexdigest()[:12]


def _ledgers(one: Review) -> ledger.Review:
    return ledger.Review(one.reviewer, one.at, one.verdict == "approve", one.note)


async def _row(desk: Desk, row: Row[Any]) -> AccountRow:
    proposed = proposal_of(row)
    said = await reviews_of(desk, row.id)
    standing = desk.services.directory.guard.standing(proposed.marks)
    return AccountRow(
        row.id,
        row.state,
        row.wanted,
        standing.in_force,
        row.organisation,
        await _people(desk, proposed),
        proposed.why,
        row.at,
        row.decided,
        sum(one.verdict == "approve" for one in said),
        version_of(row),
    )


async def _shown(desk: Desk, row: Row[Any]) -> Account:
    proposed = proposal_of(row)
    actor = await actor_of(desk.connection, proposed.marks, desk.at)
    account = await weigh(actor, desk.at)
    named = set(proposed.decisions)
    found = [one for one in await told_of(desk.connection, proposed) if not named or one.id in named]
    said = await reviews_of(desk, row.id)
    why_not = await _why_not(desk, proposed)
    if any(one.reviewer == desk.principal.user for one in said):
        why_not = "You have reviewed it already."
    judges = bool(desk.principal.roles & review_account.roles)
    changes = [{**one._asdict(), "decisions": list(one.decisions)} for one in account.changes]
    return Account(
        proposal=await _row(desk, row),
        account={"state": account.state, "score": account.score, "entries": len(actor.entries), "changes": changes},
        decisions=await rows_of(desk, found),
        reviews=said,
        may_review=judges and row.state == "open" and not why_not,
        why_not=why_not,
    )
