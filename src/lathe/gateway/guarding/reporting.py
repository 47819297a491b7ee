"""What is published of the guard at `/guard/report`: how much it stops, and how often people found it wrong.

No figure lets a person be told: what is below `SMALL` is only said to be so, rows of a table that are small are put
together, and a rate is given where at least as many stand behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Column, ColumnElement, distinct, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.routes import error_response
from lathe.gateway.admin.table import REPORT
from lathe.gateway.console.gate import PAGE_HEADERS
from lathe.gateway.console.render import render
from lathe.gateway.guarding.on_record import appeal_of
from lathe.gateway.services import Services
from lathe.guard.appeals import Report, Share, report, share
from lathe.guard.policy import BLOCKS, SEVERITY
from lathe.protocol.errors import StorageError
from lathe.store.gateway.guard_schema import appeals, decisions
from lathe.store.gateway.schema import spend

DAYS = 90
SMALL = 5
OTHERS = "others"
"""What rows are called that are put together because they are small."""
_FRESH_S = 60.0
FewerThan: TypeAlias = Literal["fewer than 5"]
Count: TypeAlias = int | FewerThan


class Rate(msgspec.Struct, frozen=True):
    """A share of something, with its 95 % interval (Wilson)."""

    rate: float
    low: float
    high: float


class OfClause(msgspec.Struct, frozen=True):
    """Appeals against decisions by one clause."""

    decided: Count
    overturned: Rate | None


class OfAppeals(msgspec.Struct, frozen=True):
    """Appeals of the time, and older ones that still wait. `median_hours` is by the wall clock.

    `opened` is None where it would tell how many of one small kind there are.
    """

    opened: Count | None
    waiting: Count
    overdue: Count
    withdrawn: Count
    decided: Count
    in_time: Count
    overturned: Rate | None
    median_hours: float | None
    by_clause: dict[str, OfClause]


class OfDecisions(msgspec.Struct, frozen=True):
    """Decisions by what followed and by clause; `blocked` counts requests of which something was not served."""

    by_step: dict[str, Count]
    by_clause: dict[str, Count]
    requests: Count
    blocked: Count
    share_blocked: Rate | None


class Published(msgspec.Struct, frozen=True):
    """The report of the days from `since` to `at`, in milliseconds since the epoch."""

    at: int
    since: int
    days: int
    appeals: OfAppeals
    decisions: OfDecisions


async def published(connection: AsyncConnection, at: int) -> Published:
    """Return the report as of a time."""
    first = datetime.fromtimestamp(at / 1000, UTC).date() - timedelta(days=DAYS - 1)
    since = round(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() * 1000)
    recent = or_(appeals.c.at >= since, appeals.c.state.in_(("open", "taken")))
    found = report([appeal_of(row) for row in await connection.execute(select(appeals).where(recent))], at)
    steps = await _by(connection, decisions.c.step, since)
    clauses = await _by(connection, decisions.c.clause, since)
    blocked = select(func.count(distinct(decisions.c.request))).where(
        decisions.c.at >= since, decisions.c.step.in_(sorted(BLOCKS))
    )
    day: ColumnElement[bool] = func.length(spend.c.period) == 10
    asked = select(func.coalesce(func.sum(spend.c.requests), 0)).where(
        spend.c.scope.startswith("project:"), day, spend.c.period >= first.isoformat()
    )
    requests, stopped = [int((await connection.execute(query)).scalar_one()) for query in (asked, blocked)]
    by_step = grouped({step: steps[step] for step in SEVERITY if step in steps})
    return Published(
        at,
        since,
        DAYS,
        _appeals(found),
        OfDecisions(
            {name: counted(number) for name, number in by_step.items()},
            {name: counted(number) for name, number in grouped(dict(sorted(clauses.items()))).items()},
            counted(requests),
            counted(stopped),
            _rate(share(requests, stopped)) if stopped == 0 or stopped >= SMALL else None,
        ),
    )


async def _by(connection: AsyncConnection, column: Column[str], since: int) -> dict[str, int]:
    query = select(column, func.count()).where(decisions.c.at >= since, column != "").group_by(column)
    return {row[0]: row[1] for row in await connection.execute(query)}


def counted(number: int) -> Count:
    """Return a number, or that it is small."""
    return number if number == 0 or number >= SMALL else "fewer than 5"


def grouped(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts with the small ones put together, with as many more as it takes that none can be worked out."""
    some = {name: number for name, number in counts.items() if number}
    hidden: list[str] = []
    for name in sorted(some, key=lambda one: some[one]):
        if some[name] >= SMALL and (not hidden or sum(some[one] for one in hidden) >= SMALL):
            break
        hidden.append(name)
    left = {name: number for name, number in some.items() if name not in hidden}
    return {**left, OTHERS: sum(some[name] for name in hidden)} if hidden else left


def _appeals(found: Report) -> OfAppeals:
    rows = {clause or OTHERS: one for clause, one in found.by_clause.items()}
    shown = grouped({clause: one.decided for clause, one in rows.items()})
    left = [one for clause, one in rows.items() if clause not in shown or clause == OTHERS]
    together = share(sum(one.decided for one in left), sum(one.overturned for one in left))
    parts = (found.waiting, found.withdrawn, found.overall.decided)
    return OfAppeals(
        opened=None if sum(0 < one < SMALL for one in parts) == 1 else counted(found.opened),
        waiting=counted(found.waiting),
        overdue=counted(found.overdue),
        withdrawn=counted(found.withdrawn),
        decided=counted(found.overall.decided),
        in_time=counted(found.in_time),
        overturned=_rate(found.overall),
        median_hours=found.median_hours if found.overall.decided >= SMALL else None,
        by_clause={
            clause: OfClause(counted(number), _rate(together if clause == OTHERS else rows[clause]))
            for clause, number in shown.items()
        },
    )


def _rate(found: Share) -> Rate | None:
    return Rate(found.rate, found.low, found.high) if found.decided >= SMALL else None


class _Kept:
    """The report of the last minute, so that who asks often does not keep the database busy."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._made = float("-inf")
        self._lock = asyncio.Lock()
        self._report: Published | None = None

    async def __call__(self) -> Published:
        async with self._lock:
            if self._report is None or time.monotonic() - self._made > _FRESH_S:
                async with self._services.database.begin() as connection:
                    self._report = await published(connection, self._services.clock())
                self._made = time.monotonic()
            return self._report


def report_route(services: Services) -> Route:
    """Return the route of the report, for everyone: a page for browsers, JSON for all others."""
    kept = _Kept(services)

    async def answer(request: Request) -> Response:
        wanted: Any = request.query_params.get("format")
        try:
            found = await kept()
        except StorageError as error:
            return error_response(AdminError(503, error.code, error.message, error.hint))
        if wanted == "html" or (wanted != "json" and "text/html" in request.headers.get("accept", "")):
            page = render("report.html", report=found, title="What the guard does", now=found.at)
            return HTMLResponse(page, headers={**PAGE_HEADERS, "cache-control": "public, max-age=60"})
        headers = {"cache-control": "public, max-age=60", "x-content-type-options": "nosniff"}
        return Response(msgspec.json.encode(found), 200, headers, "application/json")

    return Route(REPORT, answer, methods=["GET"])
