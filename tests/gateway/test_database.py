"""The database behind the gateway: tables, revisions."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from lathe.store.gateway.database import Database, _upgrade, revisions, sqlite_url


async def test_a_change_moves_the_revision_when_it_is_committed(database: Database) -> None:
    assert await database.revision() == 0
    async with database.begin() as connection:
        await database.changed(connection, "access")
    await database.migrate()
    assert await database.revision() == 1
    async with database.begin() as connection:
        await database.changed(connection)
        assert await revisions(connection) == (1, 2, 1, 1)


async def test_a_new_database_is_as_the_migrations_make_it(tmp_path: Path) -> None:
    forms = []
    for name in ("quick", "alembic"):
        database = Database(sqlite_url(tmp_path / f"{name}.sqlite"))
        if name == "alembic":
            async with database.engine.begin() as connection:
                await connection.run_sync(_upgrade)
        await database.migrate()
        async with database.begin() as connection:
            found = await connection.execute(text("select sql from sqlite_master where sql is not null order by name"))
            lines = [" ".join(row[0].split()).lower() for row in found if "alembic_version" not in row[0]]
            forms.append((lines, await revisions(connection)))
        await database.aclose()
    assert forms[0] == forms[1]
    assert len(forms[0][0]) > 20
