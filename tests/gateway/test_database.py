"""The database behind the gateway: tables, revisions."""

from __future__ import annotations

from lathe.store.gateway.database import Database, revisions


async def test_a_change_moves_the_revision_when_it_is_committed(database: Database) -> None:
    assert await database.revision() == 0
    async with database.begin() as connection:
        await database.changed(connection, "access")
    await database.migrate()
    assert await database.revision() == 1
    async with database.begin() as connection:
        await database.changed(connection)
        assert await revisions(connection) == (1, 2, 1)
