"""Organisations, projects, users and keys as a replica keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, cast

from sqlalchemy import Executable, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.principals import Principal, Surface
from lathe.store.gateway import schema

INSTALLATION_ROLES = ("operator", "reviewer", "auditor")
ORGANISATION_ROLES = ("admin", "member")
_BREATH = 500
"""Rows between two moments in which other work of the loop goes on."""


class Organisation(NamedTuple):
    """A customer of the gateway; `settings` are its limits, budgets and retention."""

    id: str
    name: str
    settings: Mapping[str, Any]


class Project(NamedTuple):
    """A project that is not archived; `settings` are its limits, budgets, retention, fallback and region."""

    id: str
    organisation: str
    name: str
    settings: Mapping[str, Any]


class User(NamedTuple):
    """An active user; `roles` and `projects` (role by project) count what groups give."""

    id: str
    organisation: str
    email: str
    name: str
    roles: frozenset[str]
    projects: Mapping[str, str]
    identity: Mapping[str, Any]

    @property
    def sees_all_projects(self) -> bool:
        """Whether every project of the organisation is the user's, without a membership."""
        return bool(self.roles & {"admin", "operator"})


class Members(NamedTuple):
    """Who there is, without what has gone: `principals` by their key's digest, `settings` of keys by the key's id."""

    organisations: Mapping[str, Organisation]
    projects: Mapping[str, Project]
    users: Mapping[str, User]
    principals: Mapping[str, Principal]
    settings: Mapping[str, Mapping[str, Any]]


NOBODY = Members({}, {}, {}, {}, {})


async def load_members(connection: AsyncConnection) -> Members:
    """Return all that is alive; keys that have expired since are for the reader to leave out."""
    table = schema.organisations
    found = select(table.c.id, table.c.name, table.c.settings)
    organisations = {row[0]: Organisation(*row) async for row in rows(connection, found)}
    table = schema.projects
    found = select(table.c.id, table.c.organisation, table.c.name, table.c.settings).where(table.c.archived.is_(None))
    projects = {row[0]: Project(*row) async for row in rows(connection, found)}
    users = await _users(connection, projects)
    principals: dict[str, Principal] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    async for digest, principal, own in _keys(connection, projects, users):
        principals[digest] = principal
        if own:
            settings[principal.key] = own
    return Members(organisations, projects, users, principals, settings)


async def _users(connection: AsyncConnection, projects: Mapping[str, Project]) -> dict[str, User]:
    table = schema.users
    columns = [table.c[name] for name in ("id", "organisation", "email", "name", "roles", "identity")]
    found = select(*columns).where(table.c.active.is_(True))
    people = [tuple(row) async for row in rows(connection, found)]
    own: dict[str, dict[str, str]] = {row[0]: {} for row in people}
    roles: dict[str, set[str]] = {row[0]: set(row[4]) for row in people}
    member = schema.memberships
    async for user, project, role in rows(connection, select(member.c.user, member.c.project, member.c.role)):
        if user in own and project in projects:
            own[user][project] = role
    group, of = schema.groups, schema.group_members
    joined = select(of.c.user, group.c.grants).join_from(of, group, of.c.group == group.c.id)
    async for user, grants in rows(connection, joined):
        if user in own:
            roles[user].update(grants.get("roles", ()))
            own[user].update((p, r) for p, r in grants.get("projects", {}).items() if p in projects)
    return {
        id: User(id, organisation, email, name, frozenset(roles[id]), own[id], identity)
        for id, organisation, email, name, _, identity in people
    }


async def _keys(
    connection: AsyncConnection, projects: Mapping[str, Project], users: Mapping[str, User]
) -> AsyncIterator[tuple[str, Principal, Mapping[str, Any]]]:
    table = schema.keys
    names = ("digest", "id", "organisation", "project", "user", "scopes", "surface", "expires", "settings")
    found = select(*(table.c[name] for name in names)).where(table.c.revoked.is_(None))
    known: dict[tuple[str, ...], frozenset[str]] = {}
    async for digest, key, organisation, project, user, scopes, surface, expires, settings in rows(connection, found):
        if project is not None and ((of := projects.get(project)) is None or of.organisation != organisation):
            continue
        owner = users.get(user) if user is not None else None
        if user is not None and (owner is None or not _may_use(owner, organisation, project)):
            continue
        roles = owner.roles if owner else machine_roles(project)
        scope = known.setdefault(tuple(scopes), frozenset(scopes))
        principal = Principal(
            key, organisation, project or "", user or "", scope, roles, cast("Surface", surface or ""), expires
        )
        yield digest, principal, settings


_ADMIN: frozenset[str] = frozenset({"admin"})
_MEMBER: frozenset[str] = frozenset({"member"})


def machine_roles(project: str | None) -> frozenset[str]:
    """Return the roles of a key without a user: that of its organisation may do what an administrator of it may."""
    return _MEMBER if project else _ADMIN


def _may_use(owner: User, organisation: str, project: str | None) -> bool:
    if owner.organisation != organisation:
        return False
    return project is None or owner.sees_all_projects or project in owner.projects


async def rows(connection: AsyncConnection, query: Executable) -> AsyncIterator[Any]:
    """Yield what a query finds, with moments in which other work goes on."""
    for number, row in enumerate(await connection.execute(query)):
        if number % _BREATH == 0:
            await asyncio.sleep(0)
        yield row
