"""Keys and what is spent with them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from lathe.gateway.admin import keys as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.organisations import list_projects
from lathe.gateway.admin.records import show_usage
from lathe.gateway.admin.shapes import Key, KeyChange, Keys, NewKey, Projects, Rotation
from lathe.gateway.admin.shapes_access import UsageQuestion
from lathe.gateway.console.forms import shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.principals import SURFACES

_HERE = "/console/keys"
SCOPES = ("relay", "batch", "admin", "scim")


async def index(visit: Visit) -> Response:
    """List keys."""
    state = visit.request.query_params.get("state", "live")
    found = await visit.do(operations.list_keys, shaped(Keys, visit.asking(live=state == "live")))
    return visit.page("keys.html", page=found, state=state, may_make=visit.may(operations.create_key))


async def one(visit: Visit) -> Response:
    """Show a key, without its secret."""
    return await _one(visit, await visit.do(operations.show_key, visit.request.path_params["key"]))


async def _one(visit: Visit, key: Key, fault: AdminError | None = None) -> Response:
    live = key.revoked is None and (key.expires is None or key.expires > visit.now)
    return visit.page(
        "key.html",
        400 if fault else 200,
        key=key,
        live=live,
        may_change=live and visit.may(operations.change_key),
        may_rotate=live and visit.may(operations.rotate_key),
        fault=fault,
    )


async def form(visit: Visit) -> Response:
    """Show the form for a new key."""
    return await _form(visit)


async def _form(visit: Visit, fault: AdminError | None = None) -> Response:
    assert visit.principal is not None
    projects = await visit.do(list_projects, Projects(limit=200))
    return visit.page(
        "key_new.html",
        400 if fault else 200,
        projects=projects.data,
        scopes=SCOPES,
        surfaces=SURFACES,
        manages=bool(visit.principal.roles & {"admin", "operator"}),
        fault=fault,
    )


async def create(visit: Visit) -> Response:
    """Make a key and show its secret, this once."""
    values: dict[str, Any] = {
        "name": visit.field("name", 200),
        "owner": visit.field("owner", 64) or "me",
        "project": visit.field("project", 64),
        "scopes": visit.chosen("scopes"),
        "surface": visit.field("surface", 20),
        "expires": visit.time("expires"),
    }
    try:
        values["settings"] = {"limits": limits_of(visit)}
        made = await visit.do(operations.create_key, shaped(NewKey, values))
    except AdminError as error:
        return await _form(visit, error)
    return visit.page("key_fresh.html", key=made.key, secret=made.secret, replaced=None)


async def rotate(visit: Visit) -> Response:
    """Make a key in place of another and show its secret, this once."""
    id = visit.request.path_params["key"]
    hours = visit.number("overlap") or 0
    made = await visit.do(operations.rotate_key, id, shaped(Rotation, {"overlap_s": int(hours * 3600)}))
    return visit.page("key_fresh.html", key=made.key, secret=made.secret, replaced=id)


async def change(visit: Visit) -> Response:
    """Rename a key, or set its limits."""
    id = visit.request.path_params["key"]
    values: dict[str, Any] = {"name": visit.field("name", 200), "settings": {"limits": limits_of(visit)}}
    try:
        await visit.do(operations.change_key, id, shaped(KeyChange, values))
    except AdminError as error:
        return await _one(visit, await visit.do(operations.show_key, id), error)
    return visit.back(f"{_HERE}/{id}", "saved")


async def revoke(visit: Visit) -> Response:
    """Revoke a key."""
    id = visit.request.path_params["key"]
    await visit.do(operations.revoke_key, id)
    return visit.back(f"{_HERE}/{id}", "key-revoked")


def limits_of(visit: Visit) -> dict[str, Any] | None:
    """Return the limits that a form states, None where it states none."""
    numbers = {name: visit.number(name) for name in ("requests_per_minute", "tokens_per_minute", "concurrent")}
    if (concurrent := numbers["concurrent"]) is not None:
        numbers["concurrent"] = int(concurrent)
    stated: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if (budget := visit.number("monthly_usd")) is not None:
        stated["budget"] = {"monthly_usd": budget}
        if (soft := visit.number("soft")) is not None:
            stated["budget"]["soft"] = soft / 100
    return stated or None


async def spend(visit: Visit) -> Response:
    """Show what was used in a month or on a day, beside the budgets."""
    by = visit.request.query_params.get("by", "project")
    asked = shaped(UsageQuestion, {"by": by, "period": visit.field("period", 10)})
    usage = await visit.do(show_usage, asked)
    directory = visit.entrance.services.directory
    budgets: dict[str, float] = {}
    if len(usage.period) == 7:  # budgets are by month
        for row in usage.data:
            id = row.scope.partition(":")[2]
            settings: Any = {"key": directory.key_settings(id)}.get(by) or {}
            if by == "project" and (project := directory.project(id)) is not None:
                settings = project.settings
            if by == "organisation" and (organisation := directory.organisation(id)) is not None:
                settings = organisation.settings
            budget = ((settings.get("limits") or {}).get("budget") or {}).get("monthly_usd")
            if budget:
                budgets[row.scope] = budget
    return visit.page("spend.html", usage=usage, by=by, budgets=budgets)
