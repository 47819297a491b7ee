"""Organisations, their projects, and who is a member of a project."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, delete, insert, select

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import conflict, not_found
from lathe.gateway.admin.shapes import (
    Listing,
    Member,
    MemberRole,
    NewOrganisation,
    NewProject,
    Nothing,
    Organisation,
    OrganisationChange,
    Page,
    Project,
    ProjectChange,
    Projects,
)
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import memberships, organisations, projects, users


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_organisations(desk: Desk, asked: Listing) -> Page[Organisation]:
    """List organisations."""
    found, after = await desk.page(organisations, asked)
    return Page([_organisation(row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_organisation(desk: Desk, organisation: str) -> Organisation:
    """Show an organisation."""
    return _organisation(await desk.one(organisations, organisation))


@operation("operator")
async def create_organisation(desk: Desk, asked: NewOrganisation) -> Organisation:
    """Make an organisation."""
    made = Organisation(ordered_id("org"), asked.name, desk.at, msgspec.to_builtins(asked.settings))
    await desk.connection.execute(insert(organisations).values(msgspec.structs.asdict(made)))
    desk.record("organisation.created", f"organisation:{made.id}", organisation=made.id, name=made.name)
    desk.changed("principals")
    return made


@operation("operator")
async def change_organisation(desk: Desk, organisation: str, asked: OrganisationChange) -> Organisation:
    """Rename an organisation or set its limits."""
    await desk.one(organisations, organisation)
    values = given(asked)
    await desk.put(organisations, organisation, values)
    desk.record("organisation.changed", f"organisation:{organisation}", organisation=organisation, changes=values)
    desk.changed("principals")
    return _organisation(await desk.one(organisations, organisation))


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_projects(desk: Desk, asked: Projects) -> Page[Project]:
    """List projects; archived ones only where they are asked for."""
    conditions: list[ColumnElement[bool]] = [] if asked.archived else [projects.c.archived.is_(None)]
    if asked.organisation:
        conditions.append(projects.c.organisation == asked.organisation)
    found, after = await desk.page(projects, asked, *conditions)
    return Page([_project(row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_project(desk: Desk, project: str) -> Project:
    """Show a project."""
    return _project(await desk.one(projects, project))


@operation("operator", "admin")
async def create_project(desk: Desk, asked: NewProject) -> Project:
    """Make a project."""
    organisation = desk.organisation(asked.organisation)
    settings = msgspec.to_builtins(asked.settings)
    made = Project(ordered_id("proj"), organisation, asked.name, desk.at, None, settings)
    await desk.connection.execute(insert(projects).values(msgspec.structs.asdict(made)))
    desk.record("project.created", f"project:{made.id}", organisation=organisation, name=made.name, settings=settings)
    desk.changed("principals")
    return made


@operation("operator", "admin")
async def change_project(desk: Desk, project: str, asked: ProjectChange) -> Project:
    """Rename, archive or bring back a project, or set its limits, retention and fallbacks."""
    found = await desk.one(projects, project)
    values = given(asked)
    if "archived" in values:
        values["archived"] = desk.at if asked.archived else None
    await desk.put(projects, project, values)
    desk.record("project.changed", f"project:{project}", organisation=found.organisation, changes=values)
    desk.changed("principals")
    return _project(await desk.one(projects, project))


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_members(desk: Desk, project: str) -> Page[Member]:
    """List the members of a project; those by a group are not among them."""
    await desk.one(projects, project)
    query = (
        select(users.c.id, users.c.email, users.c.name, memberships.c.role)
        .join_from(memberships, users, memberships.c.user == users.c.id)
        .where(memberships.c.project == project)
        .order_by(users.c.id)
    )
    return Page([Member(*row) for row in await desk.connection.execute(query)])


@operation("operator", "admin")
async def put_member(desk: Desk, project: str, user: str, asked: MemberRole) -> Member:
    """Make a user a member of a project, or change the role there."""
    found = await desk.one(projects, project)
    person = await desk.one(users, user)
    if person.organisation != found.organisation:
        raise conflict("other_organisation", "The user and the project are of different organisations.")
    here = (memberships.c.project == project) & (memberships.c.user == user)
    await desk.connection.execute(delete(memberships).where(here))
    await desk.connection.execute(insert(memberships).values(project=project, user=user, role=asked.role))
    desk.record("member.put", f"project:{project}", organisation=found.organisation, user=user, role=asked.role)
    desk.changed("principals")
    return Member(user, person.email, person.name, asked.role)


@operation("operator", "admin")
async def remove_member(desk: Desk, project: str, user: str) -> Nothing:
    """End a membership; the user's keys for the project count no longer."""
    found = await desk.one(projects, project)
    here = (memberships.c.project == project) & (memberships.c.user == user)
    done = await desk.connection.execute(delete(memberships).where(here))
    if not done.rowcount:
        raise not_found("member")
    desk.record("member.removed", f"project:{project}", organisation=found.organisation, user=user)
    desk.changed("principals")
    return Nothing()


def given(asked: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a change that are to be changed, as they are kept."""
    found: dict[str, Any] = msgspec.to_builtins(asked)
    return {name: value for name, value in found.items() if value is not None}


def _organisation(row: Row[Any]) -> Organisation:
    return Organisation(row.id, row.name, row.created, row.settings)


def _project(row: Row[Any]) -> Project:
    return Project(row.id, row.organisation, row.name, row.created, row.archived, row.settings)
