"""The audit as it is written: whole under concurrency, in doubt, and as its checkpoints say."""

from __future__ import annotations

import asyncio

from sqlalchemy import insert, select

from lathe.gateway.audit import Record, SignedCheckpoint, verify_log
from lathe.gateway.audit_log import AuditLog, LinkedRecords, write_checkpoint
from lathe.gateway.signing import KeyRing, Signer
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database


async def test_many_writers_of_one_chain_leave_it_whole_and_its_heads_are_signed(database: Database) -> None:
    signer = Signer.fresh()
    log, other = AuditLog(database, "a/admin"), AuditLog(database, "b/admin")

    async def write(log: AuditLog, number: int) -> None:
        async with database.begin() as connection:
            await log.append(connection, "user:x", "key.created", f"key:{number}", {"number": number})

    await asyncio.gather(*(write(log, number) for number in range(12)), *(write(other, number) for number in range(3)))
    assert await write_checkpoint(database, signer)
    assert await write_checkpoint(database, signer) is None
    linked = LinkedRecords("a/requests")
    for written in (True, False, True, True):  # the second link is one of which nobody knows whether it was written
        link, done = linked({"kind": "requests"})
        async with database.begin() as connection:
            await connection.execute(insert(schema.audit).values(link._asdict()))
        if written:
            done()
    await asyncio.gather(*(write_checkpoint(database, signer) for _ in range(3)))
    async with database.begin() as connection:
        table = schema.audit
        records = [Record(*row) for row in await connection.execute(select(table).order_by(table.c.chain, table.c.seq))]
        table = schema.checkpoints
        checkpoints = [SignedCheckpoint(*row) for row in await connection.execute(select(table).order_by(table.c.seq))]
    found = verify_log(records, checkpoints, KeyRing([signer.public_key]))
    assert not found.faults
    assert (found.records, found.chains, found.checkpoints, found.unsigned) == (19, 4, 2, 0)
