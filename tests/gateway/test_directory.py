"""What a replica knows: live soon after every change, and never believed when it may be old."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from sqlalchemy import update

from lathe.gateway.bootstrap import bootstrap
from lathe.gateway.directory import Directory
from lathe.gateway.principals import key_digest
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database


@contextlib.asynccontextmanager
async def watched(database: Database) -> AsyncIterator[Directory]:
    directory = await Directory.open(database)
    watching = asyncio.create_task(directory.watch())
    try:
        yield directory
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def says(directory: Directory, digest: str, live: bool) -> bool:
    return (directory.principal(digest) is not None) == live


async def test_the_first_start_makes_one_operator_and_no_second_one(database: Database) -> None:
    keys = await asyncio.gather(*(bootstrap(database) for _ in range(3)))
    [key] = [one for one in keys if one]
    directory = await Directory.open(database)
    found = directory.principal(key_digest(key))
    assert found and found.roles >= {"operator", "admin"} and "relay" in found.scopes
    project = directory.project(found.project)
    assert project and project.organisation == found.organisation
    assert directory.principal(key_digest(key + "x")) is None


async def test_what_is_taken_away_is_gone_on_every_replica(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)
    await first.migrate()
    key = await bootstrap(first)
    assert key
    digest = key_digest(key)
    changes = [
        (schema.keys, {"revoked": 1}, {"revoked": None}),
        (schema.keys, {"expires": 1}, {"expires": None}),
        (schema.projects, {"archived": 1}, {"archived": None}),
        (schema.users, {"active": False}, {"active": True}),
        (schema.users, {"roles": ["member"]}, {"roles": ["admin"]}),  # no member of the project that the key is for
    ]
    async with watched(first) as here, watched(second) as there:
        for table, gone, back in changes:
            for values, live in ((gone, False), (back, True)):
                async with first.begin() as connection:
                    await connection.execute(update(table).values(values))
                    await first.changed(connection, "principals")
                for directory in (here, there):
                    await until(partial(says, directory, digest, live))
    await first.aclose()
    await second.aclose()


async def test_a_database_that_goes_away_makes_the_directory_old_and_comes_back(postgresql) -> None:
    database = Database(postgresql.url(postgresql.new_database()))
    await bootstrap(database)
    async with watched(database) as directory:
        revision = directory.revision
        postgresql.stop()
        await until(lambda: directory.age_s > 0.6)
        postgresql.start()
        await until(lambda: directory.age_s < 0.5)
        async with database.begin() as connection:
            await database.changed(connection, "principals")
        await until(lambda: directory.revision > revision)
    await database.aclose()
