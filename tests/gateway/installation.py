"""An installation for tests: two organisations with people of every role, and the services of one replica."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from lathe.gateway.principals import key_digest, key_hint, new_key
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

PEOPLE = {
    "olga": ("org_acme", ["operator"]),
    "rita": ("org_acme", ["reviewer"]),
    "rolf": ("org_acme", ["reviewer"]),
    "aude": ("org_acme", ["auditor"]),
    "anna": ("org_acme", ["admin"]),
    "mary": ("org_acme", ["member"]),
    "bert": ("org_beta", ["admin"]),
    "bill": ("org_beta", ["member"]),
}
"""The users `user_NAME`, who have the addresses NAME@acme.example and NAME@beta.example."""


class Clock:
    """The time, and a little more where a test says so."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


async def populate(database: Database) -> None:
    """Make the organisations `org_acme` and `org_beta`, a project each, and everybody of `PEOPLE`."""
    async with database.begin() as connection:
        for name in ("acme", "beta"):
            await connection.execute(
                insert(schema.organisations).values(id=f"org_{name}", name=name.title(), created=1)
            )
            await connection.execute(
                insert(schema.projects).values(
                    id=f"proj_{name}", organisation=f"org_{name}", name=f"{name} project", created=1
                )
            )
        for name, (organisation, roles) in PEOPLE.items():
            await connection.execute(
                insert(schema.users).values(
                    id=f"user_{name}",
                    organisation=organisation,
                    email=f"{name}@{organisation.removeprefix('org_')}.example",
                    name=name.title(),
                    roles=roles,
                    created=1,
                )
            )
            await connection.execute(
                insert(schema.memberships).values(
                    project=organisation.replace("org", "proj"), user=f"user_{name}", role="member"
                )
            )
        await database.changed(connection)


async def make_key(database: Database, organisation: str, user: str | None = None, **more: Any) -> str:
    """Make a key of an organisation, or of one of its users, and return it."""
    key = new_key()
    values = {
        "id": f"key_{key_digest(key)[:12]}",
        "organisation": organisation,
        "user": user,
        "digest": key_digest(key),
        "hint": key_hint(key),
        "scopes": ["relay", "admin"],
        "created": 1,
    } | more
    async with database.begin() as connection:
        await connection.execute(insert(schema.keys).values(values))
        await database.changed(connection, "principals")
    return key


async def open_services(database: Database, home: Path, clock: Clock, **settings: Any) -> Services:
    """Return the services of a replica on a database."""
    home.mkdir(parents=True, exist_ok=True)
    services = await Services.open(
        database=database,
        signer=Signer.open(home / "signing.key"),
        home=home,
        settings=GatewaySettings(**settings),
        replica="gw_test",
    )
    return services._replace(clock=clock)
