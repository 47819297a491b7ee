"""The first page: what came in during the last day, what was refused, what it cost, who is up."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import func, select
from starlette.responses import Response

from lathe.gateway.admin.appeals import list_appeals, take_appeal
from lathe.gateway.admin.applications import list_applications
from lathe.gateway.admin.decisions import list_notices
from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.records import list_replicas, list_requests, show_usage
from lathe.gateway.admin.shapes import Listing
from lathe.gateway.admin.shapes_access import Applications, Requests, UsageQuestion
from lathe.gateway.admin.shapes_guard import Appeals
from lathe.gateway.console.gate import Visit
from lathe.store.gateway.schema import requests

_HOUR_MS = 3_600_000
HOURS = 24


class Hour(NamedTuple):
    """One hour of the last day: `at` is when it began."""

    at: int
    requests: int
    refused: int


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def count_requests(desk: Desk) -> list[Hour]:
    """Return for each hour of the last day how many requests came that the caller sees, and how many were refused."""
    first = desk.at // _HOUR_MS - HOURS + 1
    hour = requests.c.at // _HOUR_MS
    query = (
        select(hour.label("hour"), requests.c.state, func.count())
        .where(requests.c.at >= first * _HOUR_MS, desk.sees(requests))
        .group_by(hour, requests.c.state)
    )
    found: dict[int, list[int]] = {}
    for at, state, number in await desk.connection.execute(query):
        counted = found.setdefault(int(at), [0, 0])
        counted[0] += number
        counted[1] += number if state == "refused" else 0
    return [Hour(at * _HOUR_MS, *found.get(at, (0, 0))) for at in range(first, first + HOURS)]


async def page(visit: Visit) -> Response:
    """Show how things stand."""
    assert visit.principal is not None
    hours = await visit.do(count_requests)
    refused = await visit.do(list_requests, Requests(state="refused", limit=8))
    waiting = await visit.do(list_applications, Applications(state="submitted", limit=100))
    usage = await visit.do(show_usage, UsageQuestion())
    told = await visit.do(list_notices, Listing(limit=100))
    judges = bool(visit.principal.roles & take_appeal.roles)
    appeals = (await visit.do(list_appeals, Appeals(state="waiting", limit=100))).data if judges else []
    replicas: list[Any] = []
    if visit.principal.roles & list_replicas.roles:
        replicas = (await visit.do(list_replicas, Listing())).data
    return visit.page(
        "overview.html",
        hours=hours,
        most=max((one.requests for one in hours), default=0),
        refused=refused.data,
        waiting=waiting.data,
        usage=usage,
        replicas=replicas,
        unread=sum(one.seen is None for one in told.data),
        judges=judges,
        appeals=appeals,
        age_s=visit.entrance.services.directory.age_s,
        version=visit.entrance.services.directory.revision,
    )
