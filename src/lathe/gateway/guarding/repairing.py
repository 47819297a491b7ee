"""A reversal carried out: everything that a decision took is given back, in one transaction, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import case, or_, select, update

from lathe.gateway.guarding.accounts import Reconsidered, reconsider
from lathe.gateway.guarding.on_record import Subject, decisions_by, proposal_of
from lathe.guard.appeals import Appeal, Repair, repair
from lathe.guard.ledger import Entry
from lathe.store.gateway import guard_schema as schema
from lathe.store.gateway.ledger import charged_to
from lathe.store.gateway.schema import requests, spend

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from lathe.gateway.admin.desk import Desk


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What was put right: items that came back, tokens and micro-dollars that were given back, proposals.

    `lifted` says whether a measure about an account has ended with it.
    """

    items: int = 0
    tokens: int = 0
    cost: int = 0
    no_longer_counts: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()
    lifted: bool = False

    @property
    def sentences(self) -> list[str]:
        """The same for the person."""
        found = ["The decision no longer counts against you."]
        if self.items:
            what = "item that was set aside is" if self.items == 1 else f"{self.items} items that were set aside are"
            found.append(f"The {what} back in the thread; send it again, and it is served.")
        if self.tokens or self.cost:
            found.append(f"{self.tokens} tokens and ${self.cost / 1e6:.4f} are back in your quota.")
        if self.lifted:
            found.append("The measure about your account has ended.")
        return found


async def carry_out(desk: Desk, appeal: Appeal, subject: Subject) -> Repaired:
    """Put right what a reversed decision has done, and record each step; what is reversed already is left as it is."""
    if subject.reversed_by:
        return Repaired()
    if subject.kind == "account":
        return await _lift(desk, appeal, subject)
    plan = repair(appeal, subject.of, await _resting_on(desk.connection, subject.of.decision))
    same = await _retries(desk.connection, subject)
    decisions = schema.decisions
    won = await desk.connection.execute(
        update(decisions).where(decisions.c.id.in_(same), decisions.c.reversed_by == "").values(reversed_by=appeal.id)
    )
    if won.rowcount < 1:
        return Repaired()
    about, organisation = f"decision:{plan.decision}", subject.organisation
    facts = {"appeal": appeal.id, "fault": appeal.fault, "retries": [one for one in same if one != plan.decision]}
    desk.record("decision.reversed", about, organisation=organisation, **facts)
    items = await _release(desk.connection, same, desk.at)
    if items:
        desk.record("quarantine.released", about, organisation=organisation, items=items, appeal=appeal.id)
    if plan.tokens or plan.cost:
        await _give_back(desk.connection, plan, subject)
        desk.record(
            "quota.returned", about, organisation=organisation, tokens=plan.tokens, cost=plan.cost, appeal=appeal.id
        )
    changed: list[Reconsidered] = []
    if plan.marks:
        desk.record("ledger.corrected", about, organisation=organisation, appeal=appeal.id)
        changed = await reconsider(
            desk.connection, plan.marks, desk.at, organisation=organisation, lock=desk.services.database
        )
        for one in changed:
            desk.record(one.action, f"proposal:{one.proposal}", **one.facts)
    desk.changed("guard")
    return Repaired(
        items=items,
        tokens=plan.tokens,
        cost=plan.cost,
        no_longer_counts=tuple(same) if plan.marks else (),
        proposals=tuple(dict.fromkeys((*plan.reopen, *(one.proposal for one in changed)))),
    )


async def _resting_on(connection: AsyncConnection, decision: str) -> list[tuple[str, Sequence[str]]]:
    table = schema.proposals
    query = select(table).where(
        table.c.state.in_(("open", "in_force")), table.c.body.contains(decision, autoescape=True)
    )
    found = [proposal_of(row) for row in await connection.execute(query)]
    return [(one.id, one.decisions) for one in found]


async def _retries(connection: AsyncConnection, subject: Subject) -> list[str]:
    """Return the decision and those about the same item by the same clause: whoever tried again did no other thing."""
    mine = subject.of.decision
    rows = list(await connection.execute(decisions_by(subject.of.marks))) if subject.of.marks else []
    entries = [msgspec.json.decode(row.entry, type=Entry) for row in rows if row.entry]
    item = next((one.item for one in entries if one.decision == mine), "")
    same = [one.decision for one in entries if item and one.item == item and one.clause == subject.of.clause]
    return sorted({mine, *same})


async def _release(connection: AsyncConnection, decisions: Sequence[str], at: int) -> int:
    blocked = schema.blocked
    done = await connection.execute(
        update(blocked)
        .where(blocked.c.decision.in_(decisions), blocked.c.state == "blocked")
        .values(state="released", at=at)  # replicas remember what is recent
    )
    return int(done.rowcount)


async def _give_back(connection: AsyncConnection, plan: Repair, subject: Subject) -> None:
    """Take off what was charged, from the periods that it was charged to; replicas read the sums again in a moment."""
    query = select(requests.c.ended).join_from(schema.decisions, requests, schema.decisions.c.request == requests.c.id)
    ended = (await connection.execute(query.where(schema.decisions.c.id == plan.decision))).scalar_one_or_none()
    places = charged_to(subject.key, subject.project, subject.organisation, ended or subject.at)

    def less(column: Any, by: int) -> Any:
        return case((column > by, column - by), else_=0)

    await connection.execute(
        update(spend)
        .where(or_(*((spend.c.scope == scope) & (spend.c.period == period) for scope, period in places)))
        .values(cost=less(spend.c.cost, plan.cost), tokens=less(spend.c.tokens, plan.tokens))
    )


async def _lift(desk: Desk, appeal: Appeal, subject: Subject) -> Repaired:
    """End a measure about an account: a person without a part in it has found it wrong, so two no longer agree."""
    proposal = subject.of.decision
    done = await desk.connection.execute(
        update(schema.proposals)
        .where(schema.proposals.c.id == proposal, schema.proposals.c.state == "in_force")
        .values(state="lifted", decided=desk.at)
    )
    if done.rowcount != 1:
        return Repaired()
    await desk.connection.execute(
        update(schema.standings)
        .where(schema.standings.c.proposal == proposal)
        .values(state="clear", reviewers=[appeal.reviewer], at=desk.at)
    )
    facts = {"appeal": appeal.id, "why": appeal.reason}
    desk.record("account.lifted", f"proposal:{proposal}", organisation=subject.organisation, **facts)
    desk.changed("guard")
    return Repaired(no_longer_counts=(proposal,), lifted=True)
