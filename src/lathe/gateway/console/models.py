"""Models and when they open: schedules to read, to propose, to rehearse and to review."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from lathe.gateway.admin import rollouts as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.live import show_access
from lathe.gateway.admin.shapes_access import Judgement, NewRollout, Rollout, Rollouts, Trial
from lathe.gateway.console.forms import lines, shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.console.timeline import draw
from lathe.gateway.principals import SURFACES, TIERS
from lathe.gateway.rollout import Schedule, read_schedule

_HERE = "/console/models"
_SPARE_ROWS = 3
_DAY_MS = 86_400_000


async def index(visit: Visit) -> Response:
    """List the models, and what is open to the visitor."""
    access = await visit.do(show_access)
    active: dict[str, Rollout] = {}
    waiting: list[Rollout] = []
    if _sees(visit):
        active = {one.model: one for one in (await visit.do(operations.list_rollouts, _all("active"))).data}
        waiting = (await visit.do(operations.list_rollouts, _all("proposed"))).data
    return visit.page(
        "models.html", access=access, surfaces=SURFACES, active=active, waiting=waiting, staff=_sees(visit)
    )


def _all(state: str) -> Rollouts:
    return shaped(Rollouts, {"state": state, "limit": 200})


async def model(visit: Visit) -> Response:
    """Show a model's schedule and its versions."""
    name = visit.field("model", 200)
    versions = await visit.do(operations.list_rollouts, shaped(Rollouts, visit.asking(model=name)))
    found = await visit.do(operations.list_rollouts, shaped(Rollouts, {"model": name, "state": "active"}))
    active = found.data[0] if found.data else None
    schedule = read_schedule(name, active.schedule) if active else None
    return visit.page(
        "model.html",
        model=name,
        active=active,
        schedule=schedule,
        drawing=draw(schedule, visit.now) if schedule else None,
        page=versions,
        may_propose=visit.may(operations.propose_rollout),
    )


async def form(visit: Visit) -> Response:
    """Show the form for another schedule, filled with the one that holds."""
    name = visit.field("model", 200)
    found = await visit.do(operations.list_rollouts, shaped(Rollouts, {"model": name, "state": "active"}))
    schedule = read_schedule(name, found.data[0].schedule) if found.data else Schedule(name, ())
    return _form(visit, name, _rows(schedule))


def _form(
    visit: Visit, name: str, rows: list[dict[str, Any]], fault: AdminError | None = None, rehearsed: Any = None
) -> Response:
    return visit.page(
        "model_propose.html",
        400 if fault else 200,
        model=name,
        rows=rows + [{} for _ in range(_SPARE_ROWS)],
        tiers=TIERS,
        surfaces=SURFACES,
        rehearsed=rehearsed,
        day=_yesterday(visit.now),
        fault=fault,
    )


async def propose(visit: Visit) -> Response:
    """Propose what the form says, or rehearse it first."""
    name = visit.field("model", 200)
    rows = _stated(visit)
    schedule = {"entries": [_entry(row) for row in rows]}
    try:
        if visit.field("act", 20) == "rehearse":
            trial = shaped(Trial, _trial(visit) | {"model": name, "schedule": schedule})
            return _form(visit, name, rows, rehearsed=await visit.do(operations.rehearse_rollout, trial))
        asked = shaped(NewRollout, {"model": name, "schedule": schedule, "why": visit.field("why")})
        made = await visit.do(operations.propose_rollout, asked)
    except AdminError as error:
        return _form(visit, name, rows, error)
    return visit.back(f"/console/rollouts/{made.version}", "proposed")


async def version(visit: Visit) -> Response:
    """Show a version, with the form to review it for who may."""
    return await _version(visit)


async def rehearse(visit: Visit) -> Response:
    """Say what a version would have done to a day's requests."""
    number = int(visit.request.path_params["version"])
    asked = shaped(Trial, _trial(visit) | {"version": number})
    return await _version(visit, await visit.do(operations.rehearse_rollout, asked))


async def _version(visit: Visit, rehearsed: Any = None) -> Response:
    assert visit.principal is not None
    found = await visit.do(operations.show_rollout, visit.request.path_params["version"])
    schedule = read_schedule(found.model, found.schedule)
    own = found.author == f"user:{visit.principal.user}"
    may = found.state == "proposed" and visit.may(operations.review_rollout)
    return visit.page(
        "rollout.html",
        rollout=found,
        schedule=schedule,
        drawing=draw(schedule, visit.now),
        rehearsed=rehearsed,
        day=_yesterday(visit.now),
        may_review=may and not own,
        is_own=may and own,
    )


async def review(visit: Visit) -> Response:
    """Approve or decline a version."""
    id = visit.request.path_params["version"]
    asked = shaped(Judgement, {"verdict": visit.field("verdict", 20), "note": visit.field("note")})
    await visit.do(operations.review_rollout, id, asked)
    return visit.back(f"/console/rollouts/{id}", "in-force" if asked.verdict == "approve" else "declined")


def _trial(visit: Visit) -> dict[str, Any]:
    asked: dict[str, Any] = {"day": visit.field("day", 10)}
    if (at := visit.time("at")) is not None:
        asked["at"] = at
    return asked


def _rows(schedule: Schedule) -> list[dict[str, Any]]:
    """Return a schedule as the rows of the form."""
    return [
        {
            "from": f"{datetime.fromtimestamp(one.starts / 1000, UTC):%Y-%m-%dT%H:%M}",
            "tier": one.tier,
            "surface": list(one.surfaces),
            "share": f"{one.share * 100:g}",
            "region": ", ".join(one.regions),
        }
        for one in schedule.entries
    ]


def _stated(visit: Visit) -> list[dict[str, Any]]:
    """Return the rows of the form that have a date."""
    count = len(visit.form.getlist("from"))
    stated = []
    for number in range(min(count, 100)):
        text = {name: str(visit.form.getlist(name)[number]) for name in ("from", "tier", "share", "region")}
        if text["from"].strip():
            stated.append({**text, "surface": list(visit.chosen(f"surface-{number}"))})
    return stated


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    try:
        share: float | str = float(row["share"] or 100) / 100
    except ValueError:
        share = row["share"]
    entry: dict[str, Any] = {"from": _dated(row["from"]), "tier": row["tier"], "share": share}
    if row["surface"]:
        entry["surface"] = row["surface"]
    if regions := lines(row["region"]):
        entry["region"] = regions
    return entry


def _dated(text: str) -> str:
    """Return a time of the form with its zone, which is UTC; a day stays as it is."""
    return f"{text}+00:00" if "T" in text and len(text) <= 19 else text


def _yesterday(now: int) -> str:
    return f"{datetime.fromtimestamp((now - _DAY_MS) / 1000, UTC):%Y-%m-%d}"


def _sees(visit: Visit) -> bool:
    return visit.may(operations.list_rollouts)
