"""Records are written whatever stands beside them in the queue."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from lathe.gateway.records import Records
from lathe.protocol.errors import StorageError
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import Content, Opened, Settled, open_ledger


def opened(id: str, reserved: int = 1) -> Opened:
    return Opened(id, 1, "gw", "org", "proj", "user", "key", "", "api", "", "chat", "model", "", "default", reserved)


def batched(id: str) -> Opened:
    return opened(id)._replace(surface="batch")


def settled(id: str, cost: int = 5) -> Settled:
    return Settled(id, "key", "proj", "org", "done", 200, "", "model", cost, 1, 0, 1, 2, "{}", "s", "k")


async def test_a_record_that_fits_no_column_is_lost_alone(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    records = Records(open_ledger(database.url))
    good = [records.write(opened(f"r{number}"), settled(f"r{number}"), soon=False) for number in range(20)]
    bad = records.write(opened("bad", reserved=10**30), settled("bad"))
    kept = Content("c", "proj", "request", "x", "", 10**30, None)
    without = records.write(opened("without"), settled("without"), kept)
    for each in (*good, without):
        await each
    with pytest.raises(StorageError):
        await bad
    await records.write(opened("later"), settled("later"))
    assert records.healthy
    await records.aclose()
    async with database.begin() as connection:
        ids = set((await connection.execute(select(schema.requests.c.id))).scalars())
        spent = (
            await connection.execute(select(schema.spend.c.cost).where(schema.spend.c.scope == "organisation:org"))
        ).scalar_one()
    assert ids == {*(f"r{number}" for number in range(20)), "without", "later"}
    assert spent == 5 * len(ids)
    assert "lost" in caplog.text


async def test_what_was_given_up_as_lost_is_settled_once_by_a_replica_that_lives_after_all(database: Database) -> None:
    records = Records(open_ledger(database.url))
    await records.write(opened("mine"), batched("line"))
    async with database.begin() as connection:
        await connection.execute(update(schema.requests).values(state="lost"))
    await records.write(settled("mine"), settled("line"))
    await records.write(settled("mine", cost=9))
    await records.aclose()
    async with database.begin() as connection:
        rows = await connection.execute(select(schema.requests.c.id, schema.requests.c.state, schema.requests.c.cost))
        scope = schema.spend.c.scope == "organisation:org"
        spent = (await connection.execute(select(schema.spend.c.cost).where(scope))).scalar_one()
    assert {tuple(row) for row in rows} == {("mine", "done", 5), ("line", "lost", 0)}
    assert spent == 5
