"""The two ends of a batch, when another replica has taken it over."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from lathe.gateway.batches.batch import Batch, Body, NewLine
from lathe.gateway.batches.ends import Ends
from lathe.gateway.batches.store import BatchStore, Lost
from lathe.gateway.settings import GatewaySettings
from lathe.store.gateway.database import Database
from lathe.store.gateway.schema import batch_lines, batches, files


async def test_whoever_stood_still_for_too_long_writes_nothing_more(database: Database) -> None:
    store, ends = BatchStore(database), Ends(database, GatewaySettings())
    times = {"in_progress_at": 1, "finalizing_at": 2}
    body = Body("/v1/responses", "file_x", total=1, times=times)
    mine = Batch("batch_x", "org", "proj", "key", "openai", "finalizing", body, "gw_mine", "", 1, 1 << 50, 1 << 50)
    done = NewLine(1, "one", "m", "{}", "done", 200, '{"said": "yes"}')
    async with database.begin() as connection:
        await store.add(connection, mine)
    await store.add_lines(mine, [done])
    async with database.begin() as connection:
        await connection.execute(update(batches).values(replica="gw_other"))

    for work in (ends.finish(mine), ends.begin(mine), store.add_lines(mine, [done._replace(number=2)])):
        with pytest.raises(Lost):
            await work
    async with database.begin() as connection:
        left = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (files, batch_lines)
        ]
    assert left == [0, 1]
    await ends.finish(mine._replace(replica="gw_other"))
    (ended,) = await store.page("proj", "openai", limit=5)
    assert (ended.state, ended.replica, ended.body.counts) == ("completed", "", {"done": 1})
