"""The audit as it is written: a chain for what is administered, one for what is relayed, and checkpoints over all.

A replica writes chains of its own, named after it, so that replicas never wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.audit import Chain, Head, SignedCheckpoint, checkpoint
from lathe.gateway.directory import now_ms
from lathe.gateway.signing import Signer
from lathe.protocol.errors import StorageError
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import Link

CHECKPOINT_S = 60.0
_log = logging.getLogger(__name__)
# each chain's last record by the index alone, however long the chains are
_HEADS = text(
    """
    with recursive names(chain) as (
        select min(chain) from audit
        union all
        select (select min(chain) from audit where chain > names.chain) from names where names.chain is not null
    )
    select audit.chain, audit.seq, audit.hash from names join audit on audit.chain = names.chain
    where audit.seq = (select max(seq) from audit where chain = names.chain)
    """
)


class AuditLog:
    """The chain of what one replica's administration does."""

    def __init__(self, database: Database, chain: str) -> None:
        self._database = database
        self._chain = chain

    async def append(
        self, connection: AsyncConnection, actor: str, action: str, subject: str, body: Mapping[str, Any]
    ) -> None:
        """Add a record within the transaction of `connection`; raise `UsageError` where it has no canonical form.

        Other transactions wait with theirs until this one has ended: call it last.
        """
        await self._database.lock(connection, f"audit {self._chain}")
        table = schema.audit
        found = select(table.c.seq, table.c.hash).where(table.c.chain == self._chain)
        last = (await connection.execute(found.order_by(table.c.seq.desc()).limit(1))).one_or_none()
        chain = Chain(self._chain, last.seq, last.hash) if last else Chain(self._chain)
        event = {"at": now_ms(), "actor": actor, "action": action, "subject": subject, **body}
        await connection.execute(insert(table).values(chain.add(event)._asdict()))


class LinkedRecords:
    """The chain of what one replica relays, for a writer that does one thing after the other.

    Where it is not known whether a link was written, a new chain is begun: whether or not the last one is there, both
    chains are whole.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = 0
        self._chain = Chain(name)
        self._in_doubt = False

    def __call__(self, event: Mapping[str, object]) -> tuple[Link, Callable[[], None]]:
        """Return the next link, and what to call when it has been written."""
        if self._in_doubt:
            self._begun += 1
            self._chain = Chain(f"{self._name}.{self._begun}")
        self._in_doubt = True
        return Link(*self._chain.add({"at": now_ms(), **event})), self._written

    def _written(self) -> None:
        self._in_doubt = False


async def write_checkpoint(database: Database, signer: Signer) -> SignedCheckpoint | None:
    """Sign the heads of all chains; None where nothing was added since the last time. Raises `StorageError`."""
    async with database.begin() as connection:
        await database.lock(connection, "checkpoint")
        table = schema.checkpoints
        row = (await connection.execute(select(table).order_by(table.c.seq.desc()).limit(1))).one_or_none()
        previous = SignedCheckpoint(*row) if row else None
        heads = {chain: Head(seq, hash) for chain, seq, hash in await connection.execute(_HEADS)}
        made = checkpoint(heads, previous, signer, at=now_ms())
        if not heads or (previous is not None and _heads(previous) == _heads(made)):
            return None
        await connection.execute(insert(table).values(made._asdict()))
        return made


async def write_checkpoints(database: Database, signer: Signer, every_s: float = CHECKPOINT_S) -> None:
    """Write checkpoints until cancelled, and a last one then."""
    try:
        while True:
            await asyncio.sleep(every_s)
            await _try_checkpoint(database, signer)
    finally:
        await _try_checkpoint(database, signer)


async def _try_checkpoint(database: Database, signer: Signer) -> None:
    try:
        await write_checkpoint(database, signer)
    except StorageError as error:
        _log.warning("No checkpoint of the audit could be written: %s", error)


def _heads(one: SignedCheckpoint) -> object:
    return msgspec.json.decode(one.body)["heads"]
