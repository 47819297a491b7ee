"""What is on record of decisions, read back: what they rested on, what was told, what became of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.guard.appeals import Appeal, Decided
from lathe.guard.findings import Material
from lathe.guard.ladder import Measure, Situation
from lathe.guard.ledger import Proposal
from lathe.guard.notices import Notice
from lathe.store.gateway import guard_schema as schema
from lathe.store.gateway.schema import memberships, requests, reviews, users

ACCOUNT = "pro_"
"""What the id of a proposal about an account begins with."""


class Body(msgspec.Struct, frozen=True):
    """What the column `body` of a decision holds."""

    situation: Situation
    measure: Measure
    notice: Notice


class Told(msgspec.Struct, frozen=True):
    """What the column `body` of a notice holds: what a person reads, and the same as data."""

    title: str
    text: str
    about: dict[str, Any]


class Subject(NamedTuple):
    """What an appeal is about: a decision, or a measure about an account that two people have decided.

    `user` and `key` are whom a decision is about; a measure about an account is about who bears one of its marks.
    """

    kind: Literal["decision", "account"]
    of: Decided
    at: int
    organisation: str
    project: str = ""
    user: str = ""
    key: str = ""
    appealable: bool = True
    proposal: Proposal | None = None
    reversed_by: str = ""


def body_of(row: Row[Any]) -> Body:
    """Return the body of a row of `decisions`."""
    return msgspec.json.decode(row.body, type=Body)


def proposal_of(row: Row[Any]) -> Proposal:
    """Return the proposal of a row of `proposals`."""
    return msgspec.json.decode(row.body, type=Proposal)


def appeal_of(row: Row[Any]) -> Appeal:
    """Return the appeal of a row of `appeals`."""
    return msgspec.json.decode(row.body, type=Appeal)


def as_json(value: Any) -> str:
    """Return a value as it is kept in a column of text."""
    return msgspec.json.encode(value).decode()


async def subject_of(connection: AsyncConnection, id: str, *, lock: bool = False) -> Subject | None:
    """Return what an appeal against `id` is about, None where there is no such decision or measure in force."""
    table = schema.proposals if id.startswith(ACCOUNT) else schema.decisions
    query = select(table).where(table.c.id == id)
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        return None
    return await _measure_of(connection, row) if table is schema.proposals else await _decision_of(connection, row)


async def _decision_of(connection: AsyncConnection, row: Row[Any]) -> Subject:
    body = body_of(row)
    tokens, cost = await _charged(connection, row)
    marks = select(schema.decision_marks.c.mark).where(schema.decision_marks.c.decision == row.id)
    standing = body.situation.standing
    of = Decided(
        decision=row.id,
        thread=row.thread,
        situation=body.situation,
        policy=row.policy,
        marks=tuple(sorted((await connection.execute(marks)).scalars())),
        tokens=tokens,
        cost=cost,
        reviewers=standing.reviewers if body.measure.step == "restrict" else (),
        clause=row.clause,
        material=msgspec.json.decode(row.material, type=Material) if row.material else None,
    )
    return Subject(
        kind="decision",
        of=of,
        at=row.at,
        organisation=row.organisation,
        project=row.project,
        user=row.user,
        key=row.key,
        appealable=body.measure.appealable,
        reversed_by=row.reversed_by,
    )


async def _measure_of(connection: AsyncConnection, row: Row[Any]) -> Subject | None:
    proposed = proposal_of(row)
    if row.state == "open":
        return None
    said = select(reviews.c.reviewer).where(reviews.c.of == row.id)
    of = Decided(
        decision=row.id,
        thread="",
        situation=Situation(),
        policy="",
        marks=proposed.marks,
        reviewers=tuple(sorted((await connection.execute(said)).scalars())),
        clause="account",
    )
    found = select(schema.appeals.c.id).where(schema.appeals.c.decision == row.id, schema.appeals.c.state == "reversed")
    reversed_by = (await connection.execute(found)).scalars().first() or ""
    return Subject(
        kind="account",
        of=of,
        at=row.decided or row.at,
        organisation=row.organisation,
        appealable=row.state == "in_force" and row.wanted != "clear",
        proposal=proposed,
        reversed_by=reversed_by,
    )


async def _charged(connection: AsyncConnection, row: Row[Any]) -> tuple[int, int]:
    """Return the tokens and micro-dollars that a reversal gives back: once, however many decisions a request had."""
    others = select(func.count()).where(
        schema.decisions.c.request == row.request, schema.decisions.c.id != row.id, schema.decisions.c.reversed_by != ""
    )
    if (await connection.execute(others)).scalar_one():
        return 0, 0
    if row.tokens or row.cost:
        return row.tokens, row.cost
    used = select(requests.c.input_tokens + requests.c.output_tokens, requests.c.cost).where(
        requests.c.id == row.request, requests.c.state != "open"
    )
    found = (await connection.execute(used)).one_or_none()
    return (int(found[0]), int(found[1])) if found else (0, 0)


async def appeals_against(connection: AsyncConnection, decision: str) -> list[Appeal]:
    """Return the appeals that there were against a decision, in the order in which they came."""
    table = schema.appeals
    query = select(table).where(table.c.decision == decision).order_by(table.c.at, table.c.id)
    return [appeal_of(row) for row in await connection.execute(query)]


async def last_appeals(connection: AsyncConnection, decisions: Collection[str]) -> dict[str, Appeal]:
    """Return the last appeal against each of some decisions that has one."""
    if not decisions:
        return {}
    table = schema.appeals
    query = select(table).where(table.c.decision.in_(decisions)).order_by(table.c.at, table.c.id)
    return {row.decision: appeal_of(row) for row in await connection.execute(query)}


def state_of(reversed_by: str, last: Appeal | None) -> Literal["stands", "appealed", "upheld", "reversed"]:
    """Return what became of a decision, by its last appeal."""
    if reversed_by:
        return "reversed"
    if last is None or last.state == "withdrawn":
        return "stands"
    return "appealed" if last.state in ("open", "taken") else "upheld" if last.state == "upheld" else "reversed"


def decisions_by(marks: Iterable[str]) -> Select[Any]:
    """Return the query for the decisions that are about somebody who bears one of `marks`, without their bodies."""
    marked = schema.decision_marks
    named = select(marked.c.decision).where(marked.c.mark.in_(list(marks)))
    columns = [one for one in schema.decisions.c if one.name not in ("body", "material")]
    return select(*columns).where(schema.decisions.c.id.in_(named))


async def people_of(connection: AsyncConnection, *, user: str, organisation: str, project: str = "") -> list[str]:
    """Return who is to be told of something: the user, or for a machine those who look after it."""
    if user:
        return [user]
    query = select(users.c.id, users.c.roles).where(users.c.organisation == organisation, users.c.active.is_(True))
    everyone = list(await connection.execute(query.order_by(users.c.id)))
    inside = select(memberships.c.user).where(memberships.c.project == project, memberships.c.role == "admin")
    lead = set((await connection.execute(inside)).scalars()) if project else set()
    return [row.id for row in everyone if row.id in lead] or [row.id for row in everyone if "admin" in row.roles]
