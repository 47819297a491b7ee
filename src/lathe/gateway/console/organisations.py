"""Organisations and their projects: limits, budgets, retention, proofs."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from lathe.gateway.admin import organisations as operations
from lathe.gateway.admin.shapes import (
    Listing,
    NewOrganisation,
    NewProject,
    OrganisationChange,
    ProjectChange,
    Projects,
)
from lathe.gateway.console.forms import lines, shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.console.keys import limits_of
from lathe.gateway.identity.proof import methods
from lathe.gateway.identity.proofs import bring_proof, list_proofs

_HERE = "/console/organisations"
RETENTION = ("full", "metadata", "zero")


async def index(visit: Visit) -> Response:
    """List organisations; who sees only one is led there."""
    found = await visit.do(operations.list_organisations, shaped(Listing, visit.asking()))
    may_make = visit.may(operations.create_organisation)
    if len(found.data) == 1 and not may_make and not visit.request.query_params.get("cursor"):
        return visit.back(f"{_HERE}/{found.data[0].id}")
    return visit.page("organisations.html", page=found, may_make=may_make)


async def create(visit: Visit) -> Response:
    """Make an organisation."""
    made = await visit.do(operations.create_organisation, shaped(NewOrganisation, {"name": visit.field("name", 200)}))
    return visit.back(f"{_HERE}/{made.id}", "saved")


async def one(visit: Visit) -> Response:
    """Show an organisation with its projects."""
    id = visit.request.path_params["organisation"]
    found = await visit.do(operations.show_organisation, id)
    archived = bool(visit.request.query_params.get("archived"))
    projects = await visit.do(operations.list_projects, Projects(organisation=id, archived=archived, limit=200))
    proofs: list[Any] = []
    if visit.may(list_proofs):
        proofs = await visit.do(list_proofs, f"organisation:{id}")
    return visit.page(
        "organisation.html",
        shown=found,
        projects=projects.data,
        archived=archived,
        proofs=proofs,
        methods=list(methods().values()),
        retention=RETENTION,
        may_change=visit.may(operations.change_organisation),
        may_make=visit.may(operations.create_project),
        may_prove=visit.may(bring_proof),
    )


async def change(visit: Visit) -> Response:
    """Rename an organisation, or set its limits."""
    id = visit.request.path_params["organisation"]
    settings: dict[str, Any] = {"limits": limits_of(visit), "retention": visit.field("retention", 20) or None}
    asked = shaped(OrganisationChange, {"name": visit.field("name", 200), "settings": settings})
    await visit.do(operations.change_organisation, id, asked)
    return visit.back(f"{_HERE}/{id}", "saved")


async def project_create(visit: Visit) -> Response:
    """Make a project."""
    values = {"name": visit.field("name", 200), "organisation": visit.request.path_params["organisation"]}
    made = await visit.do(operations.create_project, shaped(NewProject, values))
    return visit.back(f"/console/projects/{made.id}", "saved")


async def project(visit: Visit) -> Response:
    """Show a project: its members and settings."""
    id = visit.request.path_params["project"]
    found = await visit.do(operations.show_project, id)
    members = await visit.do(operations.list_members, id)
    return visit.page(
        "project.html",
        project=found,
        members=members.data,
        retention=RETENTION,
        may_change=visit.may(operations.change_project),
    )


async def project_change(visit: Visit) -> Response:
    """Rename a project, set its limits, retention and fallbacks, archive it or bring it back."""
    id = visit.request.path_params["project"]
    values: dict[str, Any]
    if archived := visit.field("archived", 5):
        values = {"archived": archived == "true"}
    else:
        settings: dict[str, Any] = {"limits": limits_of(visit), "retention": visit.field("retention", 20) or None}
        if region := visit.field("region", 20):
            settings["region"] = region
        if fallback := _fallback(visit.field("fallback")):
            settings["fallback"] = fallback
        values = {"name": visit.field("name", 200), "settings": settings}
    await visit.do(operations.change_project, id, shaped(ProjectChange, values))
    return visit.back(f"/console/projects/{id}", "saved")


def _fallback(text: str) -> dict[str, list[str]]:
    """Return what stands on lines as `MODEL: OTHER, OTHER`."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        model, _, others = line.partition(":")
        if model.strip() and lines(others):
            found[model.strip()] = lines(others)
    return found
