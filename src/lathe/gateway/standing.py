"""Access as a replica keeps it in memory: genuine entitlements and engagements, and the schedules in force."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway import engagements, entitlements
from lathe.gateway.documents import Held, Timed
from lathe.gateway.engagements import Engagement
from lathe.gateway.entitlements import Entitlement
from lathe.gateway.members import Project, rows
from lathe.gateway.rollout import Schedule, read_schedule
from lathe.gateway.signing import KeyRing
from lathe.protocol.errors import UsageError
from lathe.store.gateway import schema

_log = logging.getLogger(__name__)
_T = TypeVar("_T", bound=Timed)


class Standing:
    """What was read last. Signatures are verified once a document; `refused` counts those that are not genuine."""

    def __init__(self) -> None:
        self.entitlements: list[Held[Entitlement]] = []
        self.engagements: list[Held[Engagement]] = []
        self.refused = 0
        self._known: dict[tuple[str, str, str], Entitlement | Engagement | None] = {}

    async def load(self, connection: AsyncConnection) -> None:
        """Read entitlements and engagements; one that is not genuine is left out and logged."""
        ring = await key_ring(connection)
        known: dict[tuple[str, str, str], Entitlement | Engagement | None] = {}
        self.entitlements = await self._read(connection, schema.entitlements, entitlements.read, ring, known)
        self.engagements = await self._read(connection, schema.engagements, engagements.read, ring, known)
        self._known = known
        self.refused = sum(one is None for one in known.values())

    async def _read(
        self,
        connection: AsyncConnection,
        table: Table,
        read: Callable[[str, str, KeyRing, str], _T],
        ring: KeyRing,
        known: dict[tuple[str, str, str], Any],
    ) -> list[Held[_T]]:
        why = table.c.revoked_why if "revoked_why" in table.c else table.c.name
        names = ("id", "organisation", "body", "signature", "signer", "revoked")
        found: list[Held[_T]] = []
        async for id, organisation, body, signature, signer, revoked, word in rows(
            connection, select(*(table.c[name] for name in names), why)
        ):
            # the body is in the key: what is changed beside its signature is verified anew
            mark = (body, signature, signer)
            document: Any = self._known.get(mark)
            if document is None:
                try:
                    document = read(body, signature, ring, signer)
                except UsageError as error:
                    document = None
                    if mark not in self._known:
                        _log.error("%s %s is left out: %s", table.name.removesuffix("s"), id, error)
            if document is not None and (document.id, document.organisation) != (id, organisation):
                _log.error("%s %s is left out: its text is that of %s.", table.name.removesuffix("s"), id, document.id)
                document = None
            known[mark] = document
            if document is not None:
                found.append(Held(document, signature, revoked, word if "revoked_why" in table.c else ""))
        return found


async def load_schedules(connection: AsyncConnection) -> list[Schedule]:
    """Return the schedule in force of each model that has one; one that can't be read closes its model."""
    table = schema.rollouts
    found: dict[str, Schedule] = {}
    query = select(table.c.model, table.c.schedule).where(table.c.state == "active").order_by(table.c.version)
    async for model, schedule in rows(connection, query):
        try:
            found[model] = read_schedule(model, schedule)
        except UsageError as error:
            _log.error("The schedule of %s can't be read, so the model is closed: %s", model, error)
            found[model] = Schedule(model, ())
    return list(found.values())


async def key_ring(connection: AsyncConnection) -> KeyRing:
    """Return the public keys of all replicas that there have been."""
    table = schema.replicas
    found = select(table.c.public_key).where(table.c.public_key != "").distinct()
    return KeyRing([row[0] for row in await connection.execute(found)])


def fallbacks_of(projects: Mapping[str, Project]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return what each project agreed to be served in place of a model."""
    return {
        id: {model: tuple(names) for model, names in agreed.items()}
        for id, project in projects.items()
        if (agreed := project.settings.get("fallback"))
    }
