"""Invitations: a link by which a user enrols the first passkey, or another one after a loss."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.admin.faults import conflict, forbidden
from lathe.gateway.admin.people import may_act_for
from lathe.gateway.audit_log import AuditLog
from lathe.gateway.identity import passkeys
from lathe.gateway.identity.site import Site
from lathe.protocol.errors import ConfigError
from lathe.store.gateway.database import Database
from lathe.store.gateway.schema import passkeys as kept
from lathe.store.gateway.schema import users


@operation("operator", "admin")
async def invite_user(desk: Desk, user: str, site: Site) -> str:
    """Return a link for a user, which counts once and for three days; older ones count no longer."""
    person = await desk.one(users, user)
    if not person.active:
        raise conflict("user_inactive", "The user is inactive.", "Activate the user first.")
    may_act_for(desk, person)
    if not desk.is_operator and await _has_come_in(desk, person):
        raise forbidden(
            "The user has signed in or been identified, and makes passkeys alone.",
            "After a loss, an operator of the gateway can invite them again.",
        )
    secret = await passkeys.invite(desk.connection, user, desk.at)
    desk.record("user.invited", f"user:{user}", organisation=person.organisation)
    return passkeys.invitation_link(site, secret)


async def _has_come_in(desk: Desk, person: Row[Any]) -> bool:
    held = (await desk.connection.execute(select(kept.c.id).where(kept.c.user == person.id).limit(1))).first()
    return bool(person.subject or person.identity or held)


async def invite_operator(database: Database, site: Site, now: int) -> str | None:
    """Return a link for the operator of a new installation, None where an operator can sign in already."""
    async with database.begin() as connection:
        query = select(users).where(users.c.active).order_by(users.c.created)
        operators = [row for row in await connection.execute(query) if "operator" in row.roles]
        for row in operators:
            held = (await connection.execute(select(kept.c.id).where(kept.c.user == row.id).limit(1))).first()
            if held or row.subject:
                return None
        return await _by_host(connection, database, operators[0], site, now) if operators else None


async def invite_by_host(database: Database, site: Site, email: str, now: int) -> str:
    """Return a link for a user by address, for who has the machine and its database; raise `ConfigError`."""
    async with database.begin() as connection:
        query = select(users).where(func.lower(users.c.email) == email.lower(), users.c.active)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise ConfigError(f"There is no user {email}.", hint="`lathe access users list` names them.")
        return await _by_host(connection, database, row, site, now)


async def _by_host(connection: AsyncConnection, database: Database, person: Row[Any], site: Site, now: int) -> str:
    secret = await passkeys.invite(connection, person.id, now)
    facts = {"organisation": person.organisation}
    await AuditLog(database, "host/admin").append(connection, "host", "user.invited", f"user:{person.id}", facts)
    return passkeys.invitation_link(site, secret)
