"""Actors in the gateway: what their decisions add up to, what is proposed about an account, and what holds.

The ledger (guard/ledger.py) proposes; two people decide. One proposal is open about an actor at a time: where the
ledger comes to say something else, the open one is changed, and what was said of it before no longer counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.audit_log import AuditLog
from lathe.gateway.directory import now_ms
from lathe.gateway.guarding.on_record import as_json, decisions_by, proposal_of
from lathe.guard import ledger
from lathe.guard.ladder import Restriction, Standing
from lathe.protocol.errors import StorageError
from lathe.protocol.ids import ordered_id
from lathe.store.gateway import guard_schema as schema
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import Judged
from lathe.store.gateway.schema import reviews

DAYS = 90
"""How far back decisions are added up; by then one weighs less than a thousandth of what it did."""
_MOST = 500
_EVERY_S = 3600.0
_MISSED_MS = 600_000
_PAUSE_S = 2.0
_AGAIN = 7 * 86_400_000
_SEVERITY: dict[Restriction, int] = {"clear": 0, "restricted": 1, "suspended": 2}
_log = logging.getLogger(__name__)


class Actor(NamedTuple):
    """Somebody by all marks that lead from one to another: entries that count, what holds, and for which marks."""

    marks: frozenset[str]
    entries: list[ledger.Entry]
    standing: Standing
    covered: frozenset[str]
    organisation: str


class Reconsidered(NamedTuple):
    """What became of a proposal: an action of the audit, and its facts."""

    action: str
    proposal: str
    facts: dict[str, Any]


@functools.cache
def limits() -> ledger.Limits:
    """Return how decisions add up."""
    return ledger.Limits.load()


class Accounts:
    """Looks at actors after decisions about them, and now and then at all for whom something holds.

    `working` is held while the database is asked.
    """

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self.working = asyncio.Lock()
        self._database = database
        self._audit = audit
        self._due: dict[tuple[str, ...], str] = {}
        self._news = asyncio.Event()

    def follow(self, judged: Sequence[Judged], written: asyncio.Future[None]) -> None:
        """Have the actors of decisions looked at as soon as these are on record; nobody waits for it."""
        counted = [one for one in judged if one.entry]
        if counted:
            written.add_done_callback(lambda done: self._note(counted, done))

    def _note(self, judged: Sequence[Judged], written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._due.update({one.marks: one.id for one in judged})
            self._news.set()

    async def watch(self, every_s: float = _EVERY_S) -> None:
        """Look at actors as decisions come, and every hour at all for whom something holds, until cancelled."""
        again = time.monotonic() + every_s
        try:
            self._due.update(await self._last(now_ms()))
        except StorageError as error:
            _log.warning("Decisions can't be read: %s", error)
        while True:
            self._news.clear()
            try:
                while self._due:
                    await self._look_at(*self._due.popitem())
                if time.monotonic() >= again:
                    await self.look_again(now_ms())
                    again += every_s
            except StorageError as error:
                _log.warning("Accounts can't be looked at: %s", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, again - time.monotonic())):
                    await self._news.wait()

    async def _look_at(self, marks: tuple[str, ...], decision: str) -> None:
        try:
            await self.after(marks, now_ms(), decision=decision)
        except StorageError:
            self._due.setdefault(marks, decision)
            raise

    async def after(self, marks: Iterable[str], at: int, *, decision: str = "") -> list[Reconsidered]:
        """Look at an actor anew; raise `StorageError`. To be called when a decision with an entry is on record."""
        async with self.working, self._database.begin() as connection:
            found = await reconsider(connection, marks, at, decision=decision, lock=self._database)
            for action, proposal, facts in found:
                await self._audit.append(connection, "guard", action, f"proposal:{proposal}", facts)
        return found

    async def look_again(self, at: int) -> list[Reconsidered]:
        """Look once at all of them: where a score has faded, that a measure be lifted is proposed."""
        table = schema.proposals
        async with self.working, self._database.begin() as connection:
            held = (table.c.state == "in_force") & (table.c.wanted != "clear")
            query = select(table).where(or_(held, table.c.state == "open"))
            found = [proposal_of(row) for row in await connection.execute(query.order_by(table.c.id))]
        return [change for one in found for change in await self.after(one.marks, at)]

    async def _last(self, at: int) -> dict[tuple[str, ...], str]:
        """Return actors by decisions of the last minutes, which a replica that has gone may not have looked at."""
        table, marked = schema.decisions, schema.decision_marks
        query = select(marked.c.decision, marked.c.mark).join_from(marked, table, table.c.id == marked.c.decision)
        async with self.working, self._database.begin() as connection:
            rows = await connection.execute(query.where(table.c.at > at - _MISSED_MS).limit(_MOST))
            return {(row.mark,): row.decision for row in rows}


async def reconsider(
    connection: AsyncConnection,
    marks: Iterable[str],
    at: int,
    *,
    decision: str = "",
    organisation: str = "",
    lock: Database | None = None,
) -> list[Reconsidered]:
    """Bring the proposal about an actor up to what the ledger says, and return what has changed.

    `decision` is the one that led here. With `lock`, others that change anything are kept out before it is done.
    """
    actor = await actor_of(connection, marks, at)
    account = await weigh(actor, at)
    wanted = ledger.proposal(ordered_id("pro"), account, actor.standing)
    if wanted is None and actor.marks - actor.covered:
        bans = [one for one in await _proposals(connection, "in_force") if one.state == "suspended"]
        wanted = ledger.returning(actor.marks, bans, id=ordered_id("pro"), decision=decision)
    if lock is not None and (wanted is not None or await proposals_about(connection, "open", actor.marks)):
        await lock.lock(connection, "accounts")
    return await _bring_up(connection, actor, wanted, at, organisation or actor.organisation)


async def actor_of(connection: AsyncConnection, marks: Iterable[str], at: int) -> Actor:
    """Return an actor by any of their marks: those that share a decision, or a measure in force, are one's."""
    known: set[str] = set()
    found: dict[str, Row[Any]] = {}
    new = set(marks)
    while new:
        known |= new
        query = decisions_by(new).where(schema.decisions.c.at > at - DAYS * 86_400_000)
        rows = list(await connection.execute(query.order_by(schema.decisions.c.at.desc()).limit(_MOST)))
        fresh = [row for row in rows if row.id not in found]
        found |= {row.id: row for row in fresh}
        marked = schema.decision_marks
        joined = select(marked.c.mark).where(marked.c.decision.in_([row.id for row in fresh]))
        new = set((await connection.execute(joined)).scalars()) if fresh else set()
        for one in await proposals_about(connection, "in_force", known):
            new |= set(one.marks)
        new -= known
        if len(found) >= _MOST:
            break
    held = schema.standings
    standings = list(await connection.execute(select(held).where(held.c.mark.in_(known))))
    standing = max(
        (Standing(row.state, tuple(row.reviewers), row.proposal) for row in standings),
        key=lambda one: _SEVERITY[one.in_force],
        default=Standing(),
    )
    entries = [
        msgspec.json.decode(row.entry, type=ledger.Entry)
        for row in sorted(found.values(), key=lambda row: (row.at, row.id))
        if row.entry and not row.reversed_by
    ]
    return Actor(
        frozenset(known),
        entries,
        standing,
        frozenset(row.mark for row in standings if row.state != "clear"),
        next((row.organisation for row in found.values()), ""),
    )


async def weigh(actor: Actor, at: int) -> ledger.Account:
    """Return where an actor stands by the ledger."""
    account = await asyncio.to_thread(ledger.account, limits(), actor.entries, at)
    return account._replace(marks=actor.marks)


async def _bring_up(
    connection: AsyncConnection, actor: Actor, wanted: ledger.Proposal | None, at: int, organisation: str
) -> list[Reconsidered]:
    table = schema.proposals
    changes: list[Reconsidered] = []
    opened = await proposals_about(connection, "open", actor.marks)
    for one in opened[1:] if wanted is not None else opened:
        if wanted is None and await _is_for_people(connection, actor, one):
            continue
        await connection.execute(update(table).where(table.c.id == one.id).values(state="withdrawn", decided=at))
        why = "Its decisions no longer add up to it." if wanted is None else "It is of the same actor as another one."
        changes.append(_change("proposal.withdrawn", one, organisation, withdrawn=why))
    if wanted is None or await _refused_before(connection, actor, wanted, at):
        return changes
    if not opened:
        values = {"id": wanted.id, "organisation": organisation, "body": as_json(wanted), "wanted": wanted.state}
        await connection.execute(insert(table).values(**values, state="open", at=at))
        changes.append(_change("proposal.opened", wanted, organisation))
    elif (opened[0].state, opened[0].decisions) != (wanted.state, wanted.decisions):
        changed = msgspec.structs.replace(wanted, id=opened[0].id)
        values = {"body": as_json(changed), "wanted": changed.state}
        await connection.execute(update(table).where(table.c.id == changed.id).values(**values))
        # what was said was said of something else
        await connection.execute(delete(reviews).where(reviews.c.of == changed.id))
        changes.append(_change("proposal.changed", changed, organisation))
    return changes


async def _is_for_people(connection: AsyncConnection, actor: Actor, proposed: ledger.Proposal) -> bool:
    """Say whether a lift is proposed that somebody has approved: the ledger does not take that back."""
    if proposed.state != "clear" or actor.standing.in_force == "clear":
        return False
    query = select(reviews.c.reviewer).where(reviews.c.of == proposed.id)
    return (await connection.execute(query)).first() is not None


async def _refused_before(connection: AsyncConnection, actor: Actor, wanted: ledger.Proposal, at: int) -> bool:
    """Say whether people have turned the same down, or ended it, and nothing has come since; for a lift, this week."""
    if wanted.state == "clear":
        table = schema.proposals
        query = select(table).where(
            table.c.state == "declined", table.c.wanted == "clear", table.c.decided > at - _AGAIN
        )
        return any(actor.marks & set(proposal_of(row).marks) for row in await connection.execute(query))
    for state in ("declined", "lifted"):
        for one in await proposals_about(connection, state, actor.marks):
            if one.state == wanted.state and set(wanted.decisions) <= set(one.decisions):
                return True
    return False


def _change(action: str, one: ledger.Proposal, organisation: str, **more: Any) -> Reconsidered:
    facts = {"organisation": organisation, "wanted": one.state, "why": one.why, "decisions": list(one.decisions)}
    return Reconsidered(action, one.id, facts | more)


async def _proposals(connection: AsyncConnection, state: str) -> list[ledger.Proposal]:
    table = schema.proposals
    query = select(table).where(table.c.state == state).order_by(table.c.at, table.c.id)
    return [proposal_of(row) for row in await connection.execute(query)]


async def proposals_about(connection: AsyncConnection, state: str, marks: Iterable[str]) -> list[ledger.Proposal]:
    """Return the proposals of a state about somebody who bears one of `marks`, the oldest first."""
    borne = set(marks)
    return [one for one in await _proposals(connection, state) if borne & set(one.marks)]


async def put_in_force(
    connection: AsyncConnection, proposed: ledger.Proposal, standing: Standing, at: int
) -> list[str]:
    """Have what two people agreed on hold for every mark; return the measures that it takes the place of."""
    table, held = schema.proposals, schema.standings
    before = select(held.c.proposal).where(held.c.mark.in_(proposed.marks), held.c.state != "clear").distinct()
    replaced = sorted(set((await connection.execute(before)).scalars()) - {proposed.id})
    ended = "lifted" if standing.state == "clear" else "replaced"
    await connection.execute(update(table).where(table.c.id.in_(replaced)).values(state=ended, decided=at))
    await connection.execute(update(table).where(table.c.id == proposed.id).values(state="in_force", decided=at))
    await connection.execute(delete(held).where(held.c.mark.in_(proposed.marks)))
    values = {"state": standing.state, "reviewers": list(standing.reviewers), "proposal": proposed.id, "at": at}
    await connection.execute(insert(held), [{"mark": mark, **values} for mark in proposed.marks])
    return replaced


async def whose(connection: AsyncConnection, proposed: ledger.Proposal) -> list[Row[Any]]:
    """Return whom the decisions about whoever bears the marks of a proposal are about: user, key and their place."""
    table = schema.decisions
    columns = [table.c[name] for name in ("organisation", "project", "user", "key")]
    named = decisions_by(proposed.marks).with_only_columns(*columns).distinct()
    return list(await connection.execute(named.order_by(*columns)))


async def told_of(connection: AsyncConnection, proposed: ledger.Proposal) -> list[Row[Any]]:
    """Return the decisions about whoever bears the marks of a proposal, the newest first."""
    query = decisions_by(proposed.marks).order_by(schema.decisions.c.at.desc()).limit(_MOST)
    return list(await connection.execute(query))
