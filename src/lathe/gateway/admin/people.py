"""Users and groups: who is there, which roles they have, how far a person has been identified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, delete, insert, select

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import conflict, forbidden, not_found
from lathe.gateway.admin.organisations import given
from lathe.gateway.admin.shapes import (
    Grants,
    Group,
    GroupChange,
    Groups,
    Identified,
    NewGroup,
    NewUser,
    Nothing,
    Page,
    User,
    UserChange,
    Users,
)
from lathe.gateway.identity.proof import keep, stated
from lathe.gateway.members import INSTALLATION_ROLES
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import group_members, groups, memberships, projects, sessions, users


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_users(desk: Desk, asked: Users) -> Page[User]:
    """List users."""
    conditions: list[ColumnElement[bool]] = [users.c.removed.is_(None)]
    if asked.organisation:
        conditions.append(users.c.organisation == asked.organisation)
    if asked.email:
        conditions.append(users.c.email == asked.email.lower())
    found, after = await desk.page(users, asked, *conditions)
    return Page([_user(row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_user(desk: Desk, user: str) -> User:
    """Show a user."""
    return _user(await desk.one(users, user))


@operation("operator", "admin")
async def create_user(desk: Desk, asked: NewUser) -> User:
    """Make a user, who signs in with this e-mail address."""
    organisation = desk.organisation(asked.organisation)
    _may_give(desk, asked.roles)
    await _are_of(desk, asked.projects, organisation)
    made = User(
        ordered_id("user"),
        organisation,
        asked.email.lower(),
        asked.name,
        sorted(set(asked.roles)),
        True,
        {},
        desk.at,
    )
    await desk.connection.execute(insert(users).values(msgspec.structs.asdict(made)))
    for project in dict.fromkeys(asked.projects):
        await desk.connection.execute(insert(memberships).values(project=project, user=made.id, role="member"))
    facts = {"email": made.email, "roles": made.roles, "projects": list(asked.projects)}
    desk.record("user.created", f"user:{made.id}", organisation=organisation, **facts)
    desk.changed("principals")
    return made


@operation("operator", "admin")
async def change_user(desk: Desk, user: str, asked: UserChange) -> User:
    """Rename a user, change roles, deactivate or activate; who is inactive is signed out and has no keys."""
    found = await desk.one(users, user)
    may_act_for(desk, found)
    values = given(asked)
    if asked.roles is not None:
        _may_give(desk, asked.roles)
        values["roles"] = sorted(set(asked.roles))
    if "operator" in found.roles and (asked.active is False or "operator" not in values.get("roles", ["operator"])):
        await _is_not_last_operator(desk, user)
    await desk.put(users, user, values)
    if asked.active is False:
        await desk.connection.execute(delete(sessions).where(sessions.c.user == user))
    desk.record("user.changed", f"user:{user}", organisation=found.organisation, changes=values)
    desk.changed("principals")
    return _user(await desk.one(users, user))


@operation("operator", "reviewer")
async def identify_user(desk: Desk, user: str, asked: Identified) -> User:
    """Record that a person has been identified; nobody identifies themself."""
    found = await desk.one(users, user)
    if desk.principal.user == user:
        raise forbidden("Nobody can identify themself.", "Ask another reviewer.", "own_thing")
    identity = {"method": asked.method, "level": asked.level, "at": desk.at, "by": desk.actor, "note": asked.note}
    await desk.put(users, user, {"identity": identity})
    await keep(desk.connection, found.organisation, stated(f"user:{user}", identity))
    desk.record("user.identified", f"user:{user}", organisation=found.organisation, identity=identity)
    desk.changed("principals")
    return _user(await desk.one(users, user))


@operation("operator", "auditor", "admin", reads=True)
async def list_groups(desk: Desk, asked: Groups) -> Page[Group]:
    """List groups with their members."""
    conditions = [groups.c.organisation == asked.organisation] if asked.organisation else []
    found, after = await desk.page(groups, asked, *conditions)
    return Page([await _group(desk, row) for row in found], after)


@operation("operator", "auditor", "admin", reads=True)
async def show_group(desk: Desk, group: str) -> Group:
    """Show a group with its members."""
    return await _group(desk, await desk.one(groups, group))


@operation("operator", "admin")
async def create_group(desk: Desk, asked: NewGroup) -> Group:
    """Make a group."""
    organisation = desk.organisation(asked.organisation)
    await _may_grant(desk, asked.grants, organisation)
    grants = msgspec.to_builtins(asked.grants)
    made = Group(ordered_id("group"), organisation, asked.name, grants, [], desk.at)
    values = msgspec.structs.asdict(made)
    del values["members"]
    await desk.connection.execute(insert(groups).values(values))
    desk.record("group.created", f"group:{made.id}", organisation=organisation, name=made.name, grants=grants)
    desk.changed("principals")
    return made


@operation("operator", "admin")
async def change_group(desk: Desk, group: str, asked: GroupChange) -> Group:
    """Rename a group, or change what its members get."""
    found = await desk.one(groups, group)
    _may_give(desk, found.grants.get("roles", ()))
    if asked.grants is not None:
        await _may_grant(desk, asked.grants, found.organisation)
    values = given(asked)
    await desk.put(groups, group, values)
    desk.record("group.changed", f"group:{group}", organisation=found.organisation, changes=values)
    desk.changed("principals")
    return await _group(desk, await desk.one(groups, group))


@operation("operator", "admin")
async def delete_group(desk: Desk, group: str) -> Nothing:
    """Delete a group; what its members had by it is gone."""
    found = await desk.one(groups, group)
    await desk.connection.execute(delete(group_members).where(group_members.c.group == group))
    await desk.connection.execute(delete(groups).where(groups.c.id == group))
    desk.record("group.deleted", f"group:{group}", organisation=found.organisation, name=found.name)
    desk.changed("principals")
    return Nothing()


@operation("operator", "admin")
async def put_group_member(desk: Desk, group: str, user: str) -> Nothing:
    """Put a user into a group."""
    found = await desk.one(groups, group)
    person = await desk.one(users, user)
    if person.organisation != found.organisation:
        raise conflict("other_organisation", "The user and the group are of different organisations.")
    _may_give(desk, found.grants.get("roles", ()))
    here = (group_members.c.group == group) & (group_members.c.user == user)
    await desk.connection.execute(delete(group_members).where(here))
    await desk.connection.execute(insert(group_members).values(group=group, user=user))
    desk.record("group.member.put", f"group:{group}", organisation=found.organisation, user=user)
    desk.changed("principals")
    return Nothing()


@operation("operator", "admin")
async def remove_group_member(desk: Desk, group: str, user: str) -> Nothing:
    """Take a user out of a group."""
    found = await desk.one(groups, group)
    here = (group_members.c.group == group) & (group_members.c.user == user)
    if not (await desk.connection.execute(delete(group_members).where(here))).rowcount:
        raise not_found("member")
    desk.record("group.member.removed", f"group:{group}", organisation=found.organisation, user=user)
    desk.changed("principals")
    return Nothing()


def may_act_for(desk: Desk, user: Row[Any]) -> None:
    """Raise `AdminError` where a user has a role of the installation and the caller is no operator."""
    known = desk.services.directory.user(user.id)
    roles = set(user.roles) | (known.roles if known is not None else frozenset())
    if not desk.is_operator and roles & set(INSTALLATION_ROLES):
        raise forbidden("The user has a role of the installation, so only an operator may do this.")


def _may_give(desk: Desk, roles: Iterable[str]) -> None:
    above = sorted(set(roles) & set(INSTALLATION_ROLES))
    if above and not desk.is_operator:
        raise forbidden(f"Only an operator may give the role {above[0]}.")


async def _may_grant(desk: Desk, grants: Grants, organisation: str) -> None:
    _may_give(desk, grants.roles)
    await _are_of(desk, grants.projects, organisation)


async def _are_of(desk: Desk, wanted: Iterable[str], organisation: str) -> None:
    """Raise `AdminError` unless all projects are the organisation's."""
    names = set(wanted)
    query = select(projects.c.id).where(projects.c.id.in_(names), projects.c.organisation == organisation)
    missing = names - {row[0] for row in await desk.connection.execute(query)}
    if missing:
        raise not_found("project")


async def _is_not_last_operator(desk: Desk, user: str) -> None:
    await desk.services.database.lock(desk.connection, "operators")
    query = select(users.c.id, users.c.roles).where(users.c.active.is_(True), users.c.id != user)
    if not any("operator" in row.roles for row in await desk.connection.execute(query)):
        raise conflict("last_operator", "This is the last operator of the installation.", "Make another one first.")


async def _group(desk: Desk, row: Row[Any]) -> Group:
    query = select(group_members.c.user).where(group_members.c.group == row.id).order_by(group_members.c.user)
    members = [one[0] for one in await desk.connection.execute(query)]
    return Group(row.id, row.organisation, row.name, row.grants, members, row.created)


def _user(row: Row[Any]) -> User:
    return User(row.id, row.organisation, row.email, row.name, row.roles, row.active, row.identity, row.created)
