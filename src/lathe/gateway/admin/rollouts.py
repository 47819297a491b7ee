"""Rollouts: a schedule is proposed, rehearsed, reviewed by another person, and takes the place of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, insert, literal, select, update

from lathe.gateway.admin.applications import record_review, reviews_of
from lathe.gateway.admin.desk import Desk, cursor_of, cursor_read, operation
from lathe.gateway.admin.faults import conflict, forbidden, invalid, not_found
from lathe.gateway.admin.shapes import Page
from lathe.gateway.admin.shapes_access import Judgement, NewRollout, Rollout, Rollouts, Trial
from lathe.gateway.members import rows
from lathe.gateway.rehearsal import TrafficRow, rehearse
from lathe.gateway.rollout import Schedule, read_schedule
from lathe.protocol.errors import UsageError
from lathe.store.gateway.schema import requests, rollouts

_MOST = 200_000
_DAY_MS = 86_400_000


class Rehearsed(msgspec.Struct, frozen=True):
    """What a change would have done to a day's requests; `complete` is False where only the last of them were read.

    `changes` begin with the most frequent: from one outcome to another, how often, for which projects, examples.
    """

    day: str
    requests: int
    changed: int
    complete: bool
    policy_before: str
    policy_after: str
    changes: list[dict[str, Any]]


class _Stated(msgspec.Struct, frozen=True):
    """What a receipt says of a request beyond its columns."""

    engagement: str = ""
    no_fallback: bool = False


@operation("operator", "reviewer", "auditor", reads=True)
async def list_rollouts(desk: Desk, asked: Rollouts) -> Page[Rollout]:
    """List versions of schedules, the newest first."""
    conditions: list[ColumnElement[bool]] = [
        rollouts.c[name] == value for name in ("model", "state") if (value := getattr(asked, name))
    ]
    if asked.cursor:
        [version] = cursor_read(asked.cursor, 1)
        conditions.append(rollouts.c.version < _version(version))
    query = select(rollouts).where(*conditions).order_by(rollouts.c.version.desc()).limit(asked.limit + 1)
    found = list(await desk.connection.execute(query))
    after = cursor_of(str(found[asked.limit - 1].version)) if len(found) > asked.limit else None
    return Page([await _shown(desk, row) for row in found[: asked.limit]], after)


@operation("operator", "reviewer", "auditor", reads=True)
async def show_rollout(desk: Desk, version: str) -> Rollout:
    """Show a version of a schedule with its reviews."""
    return await _shown(desk, await _one(desk, version))


@operation("operator", "reviewer")
async def propose_rollout(desk: Desk, asked: NewRollout) -> Rollout:
    """Propose a schedule for a model; it takes effect when another person has approved it."""
    _read(asked.model, asked.schedule)
    values = {
        "model": asked.model,
        "schedule": asked.schedule,
        "why": asked.why,
        "author": desk.actor,
        "state": "proposed",
        "created": desk.at,
    }
    done = await desk.connection.execute(insert(rollouts).values(values).returning(rollouts.c.version))
    version = str(done.scalar_one())
    facts = {"model": asked.model, "schedule": asked.schedule, "why": asked.why}
    desk.record("rollout.proposed", f"rollout:{version}", organisation="", **facts)
    return await _shown(desk, await _one(desk, version))


@operation("operator", "reviewer")
async def review_rollout(desk: Desk, version: str, asked: Judgement) -> Rollout:
    """Approve or decline another person's proposal; what is approved is in force at once."""
    found = await _one(desk, version)
    if found.state != "proposed":
        raise conflict("decided_already", f"The version {version} is {found.state} already.", "Propose another one.")
    if not desk.principal.user or desk.actor == found.author:
        raise forbidden("Nobody reviews what is their own.", "Another reviewer must do it.", "own_thing")
    if asked.verdict == "decline" and not asked.note.strip():
        raise invalid("A decline needs its reason.", "Give it in note.", "reason_missing")
    await record_review(desk, f"rollout:{version}", asked)
    if asked.verdict == "decline":
        await _set(desk, found.version, state="declined")
    else:
        active = (rollouts.c.model == found.model) & (rollouts.c.state == "active")
        await desk.connection.execute(update(rollouts).where(active).values(state="replaced"))
        await _set(desk, found.version, state="active", active=desk.at)
        desk.changed("rollouts")
    facts = {"model": found.model, "note": asked.note}
    action = "rollout.approved" if asked.verdict == "approve" else "rollout.declined"
    desk.record(action, f"rollout:{version}", organisation="", **facts)
    return await _shown(desk, await _one(desk, version))


@operation("operator", "reviewer", "auditor", reads=True)
async def rehearse_rollout(desk: Desk, asked: Trial) -> Rehearsed:
    """Say which requests of a day would have been answered otherwise."""
    try:
        since = int(datetime.strptime(asked.day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise invalid(f"{asked.day} is no day of the calendar.") from None
    if asked.version:
        row = await _one(desk, str(asked.version))
        schedule = _read(row.model, row.schedule)
    elif asked.model and asked.schedule is not None:
        schedule = _read(asked.model, asked.schedule)
    else:
        raise invalid("There is nothing to rehearse.", "Give a version, or a model with a schedule.")
    names = ("id", "at", "organisation", "project", "requested", "surface", "user", "key", "region", "receipt")
    day = (requests.c.at >= since) & (requests.c.at < since + _DAY_MS)
    query = select(*(requests.c[name] for name in names)).where(day).order_by(requests.c.at.desc()).limit(_MOST + 1)
    traffic = [row async for row in rows(desk.connection, query)]
    old = desk.services.directory.policy
    new = old.with_rollouts([schedule])
    found = await asyncio.to_thread(rehearse, old, new, _traffic(traffic[:_MOST]), at=asked.at)
    return Rehearsed(
        asked.day,
        found.requests,
        found.changed,
        len(traffic) <= _MOST,
        found.before,
        found.after,
        [{**change._asdict(), "examples": [one._asdict() for one in change.examples]} for change in found.changes],
    )


def _traffic(found: Sequence[Row[Any]]) -> Iterator[TrafficRow]:
    decoder = msgspec.json.Decoder(_Stated)
    for row in found:
        stated = decoder.decode(row.receipt) if row.receipt else _Stated()
        columns = dict(row._mapping)
        del columns["receipt"]
        yield TrafficRow(**columns, engagement=stated.engagement, no_fallback=stated.no_fallback)


def _read(model: str, schedule: Any) -> Schedule:
    try:
        return read_schedule(model, schedule)
    except UsageError as error:
        raise invalid(error.message, error.hint, error.code) from None


def _version(word: str) -> int:
    if not word.isdecimal() or len(word) > 9:
        raise not_found("version")
    return int(word)


async def _one(desk: Desk, version: str) -> Row[Any]:
    query = select(rollouts).where(rollouts.c.version == _version(version))
    row = (await desk.connection.execute(query if desk.reads else query.with_for_update())).one_or_none()
    if row is None:
        raise not_found("version")
    return row


async def _set(desk: Desk, version: int, **values: Any) -> None:
    await desk.connection.execute(update(rollouts).where(rollouts.c.version == literal(version)).values(values))


async def _shown(desk: Desk, row: Row[Any]) -> Rollout:
    fields = {name: getattr(row, name) for name in Rollout.__struct_fields__ if name != "reviews"}
    return Rollout(**fields, reviews=await reviews_of(desk, f"rollout:{row.version}"))
