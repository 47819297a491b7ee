"""Batches and their lines in the database, and who works on which of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.batches.batch import ACTIVE, Api, Batch, Body, Ended, LineState, NewLine, State, Work, is_id
from lathe.gateway.exchange import now_ms
from lathe.gateway.replicas import DEAD_MS
from lathe.store.gateway.database import Database, server_ms
from lathe.store.gateway.schema import batch_lines, batches, replicas

_MOST_ACTIVE = 500
_LINES_AT_ONCE = 1000
_COLUMNS = [batches.c[name] for name in Batch._fields]
_OPEN: tuple[LineState, ...] = ("waiting", "running")


class Lost(Exception):
    """Another replica has taken over what this one was about."""


class BatchStore:
    """What the batches' API and their runner do to the database. Its methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Batches.

    async def add(self, connection: AsyncConnection, batch: Batch) -> None:
        """Add a batch."""
        row = batch._asdict() | {"body": msgspec.to_builtins(batch.body)}
        await connection.execute(insert(batches).values(**row))

    async def find(self, project: str, api: Api, id: str) -> Batch | None:
        """Return a batch of a project, None where there is none."""
        if not is_id(id):
            return None
        query = select(*_COLUMNS).where(batches.c.project == project, batches.c.api == api, batches.c.id == id)
        async with self._database.begin() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _batch(row) if row is not None else None

    async def page(self, project: str, api: Api, *, after: str = "", before: str = "", limit: int) -> list[Batch]:
        """Return `limit` batches, the newest first: those after the one with an id, or those right before another."""
        query = select(*_COLUMNS).where(batches.c.project == project, batches.c.api == api).limit(limit)
        if is_id(after):
            query = query.where(batches.c.id < after)
        if is_id(before):
            query = query.where(batches.c.id > before)
        async with self._database.begin() as connection:
            rows = await connection.execute(query.order_by(batches.c.id if before else batches.c.id.desc()))
            found = [_batch(row) for row in rows]
        return found[::-1] if before else found

    async def active(self) -> list[Batch]:
        """Return the batches in which there is something left to do, the oldest first."""
        query = select(*_COLUMNS).where(batches.c.state.in_(ACTIVE)).order_by(batches.c.id).limit(_MOST_ACTIVE)
        async with self._database.begin() as connection:
            return [_batch(row) for row in await connection.execute(query)]

    async def change(self, id: str, how: Callable[[Batch], Batch | None], *, end_as: LineState | None = None) -> Batch:
        """Change a batch that nobody else changes meanwhile, and return it; `how` returns None to leave it.

        With `end_as` its lines that have not begun end in that state where it is changed.
        """
        async with self._database.begin() as connection:
            return await self.change_within(connection, id, how, end_as=end_as)

    async def change_within(
        self,
        connection: AsyncConnection,
        id: str,
        how: Callable[[Batch], Batch | None],
        *,
        end_as: LineState | None = None,
    ) -> Batch:
        """Do as `change` within a transaction."""
        await self._database.lock(connection, f"batch/{id}")
        found = await connection.execute(select(*_COLUMNS).where(batches.c.id == id).with_for_update())
        before = _batch(found.one())
        after = how(before)
        if after is None:
            return before
        row = after._asdict() | {"body": msgspec.to_builtins(after.body)}
        await connection.execute(update(batches).where(batches.c.id == id).values(**row))
        if end_as is not None:
            await connection.execute(_waiting(id).values(state=end_as))
        return after

    async def take(self, batch: Batch, replica: str) -> bool:
        """Make a replica the one that reads or writes a batch, unless one that lives is; return whether it is now."""
        free = batches.c.replica.in_(["", replica]) | batches.c.replica.in_(_dead())
        query = update(batches).where(batches.c.id == batch.id, batches.c.state == batch.state, free)
        async with self._database.begin() as connection:
            return (await connection.execute(query.values(replica=replica))).rowcount > 0

    async def say(self, id: str, note: str) -> None:
        """Say why nothing of a batch runs at the moment."""
        async with self._database.begin() as connection:
            await connection.execute(update(batches).where(batches.c.id == id).values(note=note))

    async def delete(self, id: str) -> None:
        """Delete a batch that has ended."""
        async with self._database.begin() as connection:
            await connection.execute(delete(batch_lines).where(batch_lines.c.batch == id))
            await connection.execute(delete(batches).where(batches.c.id == id))

    async def expired(self) -> list[str]:
        """Return ids of batches that have ended and are kept no longer."""
        old = (batches.c.expires < now_ms(), batches.c.state.not_in(ACTIVE))
        async with self._database.begin() as connection:
            return [row[0] for row in await connection.execute(select(batches.c.id).where(*old).limit(100))]

    async def leftover(self) -> list[str]:
        """Return batches that have ended and still have lines: whoever wrote their files ended right after."""
        query = select(batch_lines.c.batch).where(batch_lines.c.batch.not_in(_active())).distinct().limit(100)
        async with self._database.begin() as connection:
            return [row[0] for row in await connection.execute(query)]

    # Lines.

    async def add_lines(self, batch: Batch, lines: Sequence[NewLine]) -> None:
        """Add lines; raise `Lost`."""
        async with self._database.begin() as connection:
            await self._hold(connection, batch)
            await connection.execute(insert(batch_lines), [{"batch": batch.id, **line._asdict()} for line in lines])

    async def _hold(self, connection: AsyncConnection, batch: Batch) -> None:
        """Raise `Lost` where a batch is not as its reader or writer has left it."""
        query = select(batches.c.replica).where(batches.c.id == batch.id).with_for_update()
        if (await connection.execute(query)).scalar_one_or_none() != batch.replica:
            raise Lost

    async def drop_lines(self, batch: str, held: Batch | None = None) -> None:
        """Delete the lines of a batch, some at a time: others write to the database, too.

        Raises `Lost` where the batch is not `held` any more.
        """
        line = batch_lines.c
        some = select(line.number).where(line.batch == batch).limit(_LINES_AT_ONCE)
        while True:
            async with self._database.begin() as connection:
                if held is not None:
                    await self._hold(connection, held)
                numbers = [row[0] for row in await connection.execute(some)]
                if not numbers:
                    return
                await connection.execute(delete(batch_lines).where(line.batch == batch, line.number.in_(numbers)))

    async def claim(self, batch: Batch, model: str, replica: str, most: int) -> list[Work]:
        """Give a replica up to `most` lines for a model to run, each to one replica only."""
        line = batch_lines.c
        waiting = (line.batch == batch.id, line.state == "waiting", line.model == model)
        query = select(line.number, line.model, line.request, line.tries).where(*waiting)
        query = query.order_by(line.number).limit(most).with_for_update(skip_locked=True)
        async with self._database.begin() as connection:
            if self._database.is_sqlite:
                if (await connection.execute(select(line.number).where(*waiting).limit(1))).first() is None:
                    return []
                await self._database.lock(connection, "lines")
            rows = (await connection.execute(query)).all()
            if rows:
                mine = update(batch_lines).where(line.batch == batch.id, line.number.in_([row.number for row in rows]))
                await connection.execute(mine.values(state="running", replica=replica, tries=line.tries + 1))
        return [Work(batch, row.number, row.model, row.request, row.tries + 1) for row in rows]

    async def release(self, lines: Iterable[tuple[str, int]], replica: str, *, untried: bool = False) -> None:
        """Give lines back that a replica has not answered; `untried` where they were not even sent."""
        line = batch_lines.c
        async with self._database.begin() as connection:
            for batch, number in lines:
                mine = (line.batch == batch, line.number == number, line.replica == replica)
                query = update(batch_lines).where(*mine, line.state == "running")
                tries = line.tries - 1 if untried else line.tries
                await connection.execute(query.values(state="waiting", replica="", tries=tries))

    async def running(self, replica: str) -> list[tuple[str, int]]:
        """Return batch and number of the lines that a replica has under way."""
        line = batch_lines.c
        mine = (line.batch.in_(_active()), line.state == "running", line.replica == replica)
        async with self._database.begin() as connection:
            return [(row[0], row[1]) for row in await connection.execute(select(line.batch, line.number).where(*mine))]

    async def take_back(self) -> int:
        """Let lines wait again that a replica ran which has died; return how many there were."""
        line = batch_lines.c
        theirs = (line.batch.in_(_active()), line.state == "running", line.replica.in_(_dead()))
        query = update(batch_lines).where(*theirs)
        async with self._database.begin() as connection:
            return (await connection.execute(query.values(state="waiting", replica=""))).rowcount

    async def end_waiting(self, batch: str, state: LineState, status: int = 0, answer: str = "") -> None:
        """End the lines that have not begun."""
        async with self._database.begin() as connection:
            await connection.execute(_waiting(batch).values(state=state, status=status, answer=answer))

    async def has_open(self, batch: str) -> bool:
        """Return whether a line still waits or runs."""
        line = batch_lines.c
        query = select(line.number).where(line.batch == batch, line.state.in_(_OPEN)).limit(1)
        async with self._database.begin() as connection:
            return (await connection.execute(query)).first() is not None

    async def counts(self, batch: str) -> dict[str, int]:
        """Return how many lines there are in each state."""
        line = batch_lines.c
        query = select(line.state, func.count()).where(line.batch == batch).group_by(line.state)
        async with self._database.begin() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def ended(self, batch: str, after: int, most: int) -> list[Ended]:
        """Return lines by their numbers, those after one of them."""
        line = batch_lines.c
        columns = [line[name] for name in Ended._fields]
        query = select(*columns).where(line.batch == batch, line.number > after).order_by(line.number).limit(most)
        async with self._database.begin() as connection:
            return [Ended(*row) for row in await connection.execute(query)]


def entered(batch: Batch, state: State, mark: str, at: int) -> Batch:
    """Return a batch that has entered a state; `mark` names the time of that."""
    batch.body.times[mark] = at
    return batch._replace(state=state, note="")


def _waiting(batch: str) -> Any:
    return update(batch_lines).where(batch_lines.c.batch == batch, batch_lines.c.state == "waiting")


def _active() -> Any:
    return select(batches.c.id).where(batches.c.state.in_(ACTIVE))


def _dead() -> Any:
    """Return the replicas that have ended or have not been heard of for so long that they count as dead."""
    return select(replicas.c.id).where(replicas.c.seen <= server_ms() - DEAD_MS)


def _batch(row: Any) -> Batch:
    found = Batch(*row)
    return found._replace(body=msgspec.convert(found.body, Body))
