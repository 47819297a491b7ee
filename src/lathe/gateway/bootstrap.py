"""The first start of a gateway: someone must be there who may let others in."""

from __future__ import annotations

import secrets

from sqlalchemy import insert, select

from lathe.gateway.audit_log import AuditLog
from lathe.gateway.directory import now_ms
from lathe.gateway.principals import key_digest, key_hint, new_key
from lathe.protocol.ids import ordered_id
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

NAME = "default"
OPERATOR_EMAIL = "operator@localhost"


async def bootstrap(database: Database) -> str | None:
    """Make an organisation, a project and an operator where nobody is there, and return the operator's key.

    The key is to be shown once; only its digest is kept. Return None where there is an organisation already; raise
    `StorageError`.
    """
    key = new_key()
    at = now_ms()
    organisation, project, user = ordered_id("org"), ordered_id("proj"), ordered_id("user")
    async with database.begin() as connection:
        await database.lock(connection, "bootstrap")  # replicas may start at once
        if (await connection.execute(select(schema.organisations.c.id).limit(1))).first():
            return None
        await connection.execute(insert(schema.organisations).values(id=organisation, name=NAME, created=at))
        await connection.execute(
            insert(schema.projects).values(id=project, organisation=organisation, name=NAME, created=at)
        )
        await connection.execute(
            insert(schema.users).values(
                id=user,
                organisation=organisation,
                email=OPERATOR_EMAIL,
                name="Operator",
                roles=["operator", "admin"],
                created=at,
            )
        )
        await connection.execute(
            insert(schema.keys).values(
                id=ordered_id("key"),
                organisation=organisation,
                project=project,
                user=user,
                name="first administrator key",
                digest=key_digest(key),
                hint=key_hint(key),
                scopes=["relay", "admin", "batch", "scim"],
                created=at,
            )
        )
        facts = {"organisation": organisation, "project": project, "user": user}
        await AuditLog(database, "bootstrap").append(connection, "", "bootstrap", f"organisation:{organisation}", facts)
        await database.changed(connection)
    return key


async def installation_secret(database: Database) -> bytes:
    """Return the secret that all replicas of an installation share, made by the first of them."""
    async with database.begin() as connection:
        await database.lock(connection, "secret")
        table = schema.installation
        found = await connection.execute(select(table.c.value).where(table.c.name == "secret"))
        value = found.scalar_one_or_none()
        if value is None:
            value = secrets.token_hex(32)
            await connection.execute(insert(table).values(name="secret", value=value))
    return bytes.fromhex(value)
