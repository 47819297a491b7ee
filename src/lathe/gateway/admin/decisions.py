"""Decisions of the guard as those see them whom they are about, and what people are told besides."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, select, update

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import not_found
from lathe.gateway.admin.shapes import Listing, Nothing, Page
from lathe.gateway.admin.shapes_guard import Decision, DecisionRow, Decisions, NoticeRow
from lathe.gateway.guarding.accounts import told_of, whose
from lathe.gateway.guarding.on_record import (
    ACCOUNT,
    Subject,
    Told,
    appeals_against,
    body_of,
    last_appeals,
    proposal_of,
    state_of,
)
from lathe.gateway.services import Services
from lathe.guard.ladder import Standing
from lathe.guard.ledger import Entry, Proposal, mark
from lathe.guard.notices import account_notice, account_text, appealing, as_text
from lathe.store.gateway.guard_schema import decisions, notices, proposals, standings

_ROW = tuple(name for name in DecisionRow.__struct_fields__ if name != "state")
CLOSED = ("appealed", "reversed")
"""States in which no appeal can be made."""
_UPHELD_MOST = 2


@operation(ANYONE, "operator", "reviewer", "auditor", reads=True)
async def list_decisions(desk: Desk, asked: Decisions) -> Page[DecisionRow]:
    """List decisions that the caller sees, the newest first."""
    equal = {"step": asked.step, "clause": asked.clause, "project": asked.project}
    conditions: list[ColumnElement[bool]] = [decisions.c[name] == value for name, value in equal.items() if value]
    if asked.mine:
        conditions.append(desk.judged())
    found, after = await desk.page(decisions, asked, *conditions, by=decisions.c.at)
    return Page(await rows_of(desk, found), after)


@operation(ANYONE, "operator", "reviewer", "auditor", reads=True)
async def show_decision(desk: Desk, decision: str) -> Decision:
    """Show what was told of a decision or of a measure about an account, and what became of it."""
    return await told(desk, decision)


@operation(ANYONE, reads=True)
async def list_notices(desk: Desk, asked: Listing) -> Page[NoticeRow]:
    """List what the caller has been told, the newest first."""
    query = select(notices).where(notices.c.user == desk.principal.user, notices.c.user != "")
    if asked.cursor:
        query = query.where(notices.c.id < asked.cursor)
    found = list(await desk.connection.execute(query.order_by(notices.c.id.desc()).limit(asked.limit + 1)))
    after = found[asked.limit - 1].id if len(found) > asked.limit else None
    return Page([_notice(row) for row in found[: asked.limit]], after)


@operation(ANYONE)
async def read_notice(desk: Desk, notice: str) -> Nothing:
    """Mark a notice as read."""
    mine = (notices.c.id == notice) & (notices.c.user == desk.principal.user) & (notices.c.user != "")
    row = (await desk.connection.execute(select(notices.c.seen).where(mine))).one_or_none()
    if row is None:
        raise not_found("notice")
    if row.seen is None:
        await desk.connection.execute(update(notices).where(mine).values(seen=desk.at))
    return Nothing()


async def told(desk: Desk, id: str) -> Decision:
    """Return what there is to read of a decision; raise `AdminError` where the caller sees none."""
    if id.startswith(ACCOUNT):
        return await _measure(desk, id)
    row = await desk.one(decisions, id)
    body = body_of(row)
    last = (await last_appeals(desk.connection, [id])).get(id)
    found = appealing(id, desk.at, desk.services.working_days)
    state = state_of(row.reversed_by, last)
    may = body.measure.appealable and is_about(desk, row) and await _may_appeal(desk, id, state)
    steps = tuple(one for one in body.notice.next_steps if may or found.command not in one)
    notice = msgspec.structs.replace(body.notice, appeal=found if may else None, next_steps=steps)
    return Decision(
        id=id,
        kind="decision",
        at=row.at,
        organisation=row.organisation,
        state=state,
        appealable=may,
        decided_by=found.decided_by,
        appeal=last.id if last else "",
        text=as_text(notice),
        notice=msgspec.to_builtins(notice),
        request=row.request,
        project=row.project,
        user=row.user,
        key=row.key,
    )


async def _measure(desk: Desk, id: str) -> Decision:
    """Return the notice of a measure about the caller's account, or for reviewers about anyone's."""
    row = (await desk.connection.execute(select(proposals).where(proposals.c.id == id))).one_or_none()
    if row is None or row.state == "open":
        raise not_found("decision")
    proposed = proposal_of(row)
    own = await concerns(desk, proposed)
    if not own and not desk.everywhere:
        raise not_found("decision")
    held = (await desk.connection.execute(select(standings).where(standings.c.proposal == id).limit(1))).one_or_none()
    standing = Standing(held.state, tuple(held.reviewers), id) if held else Standing()
    entries = [_entry(one) for one in await told_of(desk.connection, proposed) if one.entry]
    clock = desk.services.working_days
    notice = account_notice(proposed, standing, entries, at=row.decided or row.at, clock=clock)
    notice = msgspec.structs.replace(notice, appeal=appealing(id, desk.at, clock))
    last = (await last_appeals(desk.connection, [id])).get(id)
    state = state_of("", last)
    in_force = row.state == "in_force" and row.wanted != "clear"
    return Decision(
        id=id,
        kind="account",
        at=notice.at,
        organisation=row.organisation,
        state=state,
        appealable=own and in_force and await _may_appeal(desk, id, state),
        decided_by=notice.appeal.decided_by,
        appeal=last.id if last else "",
        text=account_text(notice, names(desk.services, notice.decided_by)),
        notice=msgspec.to_builtins(notice),
    )


async def _may_appeal(desk: Desk, id: str, state: str) -> bool:
    against = await appeals_against(desk.connection, id) if state == "upheld" else []
    return state not in CLOSED and sum(one.state == "upheld" for one in against) < _UPHELD_MOST


def names(services: Services, people: tuple[str, ...]) -> tuple[str, ...]:
    """Return people by the names that are known of them."""
    found = [(one, services.directory.user(one)) for one in people]
    return tuple(user.name if user is not None and user.name else one for one, user in found)


def is_about(desk: Desk, row: Row[Any] | Subject) -> bool:
    """Say whether a decision is about the caller, or about a machine that they look after."""
    who = desk.principal
    if row.organisation != who.organisation:
        return False
    if row.user:
        return bool(row.user == who.user)
    return "admin" in who.roles or row.project in desk.projects or bool(who.key and row.key == who.key)


async def concerns(desk: Desk, proposed: Proposal) -> bool:
    """Say whether a measure about an account is about the caller, or about a machine that they look after."""
    who, secret = desk.principal, desk.services.secret
    mine = mark(secret, "user", who.user) if who.user else mark(secret, "key", who.key)
    return mine in proposed.marks or any(is_about(desk, row) for row in await whose(desk.connection, proposed))


async def rows_of(desk: Desk, found: list[Row[Any]]) -> list[DecisionRow]:
    """Return rows of decisions with what became of each."""
    last = await last_appeals(desk.connection, [row.id for row in found])
    return [
        DecisionRow(**{name: getattr(row, name) for name in _ROW}, state=state_of(row.reversed_by, last.get(row.id)))
        for row in found
    ]


def _entry(row: Row[Any]) -> Entry:
    return msgspec.json.decode(row.entry, type=Entry)


def _notice(row: Row[Any]) -> NoticeRow:
    told = msgspec.json.decode(row.body, type=Told)
    return NoticeRow(row.id, row.kind, row.of, told.title, told.text, told.about, row.at, row.seen, row.mailed)
