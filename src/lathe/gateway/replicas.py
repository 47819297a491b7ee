"""This replica among the others: it says that it lives, learns who else does, and clears up after those that died.

Who lives is told by the database's clock: by its own a replica whose clock is behind would seem dead to the others.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import func, insert, select, update

from lathe.gateway.exchange import now_ms
from lathe.gateway.limits import Limits
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import StorageError
from lathe.store.gateway.database import Database, server_ms
from lathe.store.gateway.ledger import periods
from lathe.store.gateway.schema import replicas, requests, spend

_log = logging.getLogger(__name__)
_BEAT_S = 1.0
DEAD_MS = 15_000
"""Silence after which a replica counts as dead, and its requests as lost."""


class Replica:
    """One running gateway. Its key for signatures is known to the others by the database.

    `beating` is held while the database is asked.
    """

    def __init__(self, id: str, database: Database, signer: Signer, limits: Limits) -> None:
        self.id = id
        self.alive = 1
        self.beating = asyncio.Lock()
        self._database = database
        self._signer = signer
        self._limits = limits

    async def register(self, address: str) -> None:
        """Make this replica known; raise `StorageError`."""
        now = now_ms()
        async with self._database.begin() as connection:
            await connection.execute(
                insert(replicas).values(
                    id=self.id,
                    started=now,
                    seen=server_ms(),
                    address=address,
                    signer=self._signer.key_id,
                    public_key=self._signer.public_key,
                )
            )
            await self._database.changed(connection)
            month, _ = periods(now)
            rows = await connection.execute(select(spend.c.scope, spend.c.cost).where(spend.c.period == month))
            self._limits.recorded({row.scope: row.cost for row in rows})

    async def beat(self) -> None:
        """Say that this replica lives, until cancelled; keep its share of the limits and what was spent up to date."""
        trouble = False
        while True:
            try:
                async with self.beating:
                    await self._beat()
                trouble = False
            except StorageError as error:
                if not trouble:
                    _log.warning("%s", error)
                trouble = True
            await asyncio.sleep(_BEAT_S)

    async def _beat(self) -> None:
        now = now_ms()
        async with self._database.begin() as connection:
            await connection.execute(update(replicas).where(replicas.c.id == self.id).values(seen=server_ms()))
            alive = await connection.execute(
                select(func.count()).select_from(replicas).where(replicas.c.seen > server_ms() - DEAD_MS)
            )
            self.alive = max(1, alive.scalar_one())
            self._limits.share = 1 / self.alive
            month, _ = periods(now)
            names = self._limits.budgeted()
            if names:
                rows = await connection.execute(
                    select(spend.c.scope, spend.c.cost).where(spend.c.period == month, spend.c.scope.in_(names))
                )
                self._limits.recorded(dict.fromkeys(names, 0) | {row.scope: row.cost for row in rows})
            dead = select(replicas.c.id).where(replicas.c.seen <= server_ms() - DEAD_MS)
            lost = await connection.execute(
                update(requests)
                .where(requests.c.state == "open", requests.c.replica.in_(dead))
                .values(state="lost", status=0, code="replica_lost", ended=now)
            )
            if lost.rowcount > 0:
                _log.warning("%d requests of a replica that died are marked as lost; nobody is charged.", lost.rowcount)

    async def leave(self) -> None:
        """Say that this replica has ended."""
        async with self._database.begin() as connection:
            await connection.execute(update(replicas).where(replicas.c.id == self.id).values(seen=0))


async def key_ring(database: Database) -> KeyRing:
    """Return the public keys of all replicas that there have been; raise `StorageError`."""
    async with database.begin() as connection:
        rows = await connection.execute(select(replicas.c.public_key).where(replicas.c.public_key != "").distinct())
    return KeyRing(row[0] for row in rows)
