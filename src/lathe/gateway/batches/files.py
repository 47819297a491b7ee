"""Files in the database, in parts: any size is written and read without being held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.batches.batch import is_id
from lathe.gateway.exchange import now_ms
from lathe.store.gateway.database import Database
from lathe.store.gateway.schema import file_parts, files

_PART = 512 << 10
_ABANDONED_MS = 3_600_000
_PARTS_AT_ONCE = 16


class File(NamedTuple):
    """A file; `bytes` is its size, times are milliseconds since the epoch."""

    id: str
    project: str
    name: str
    purpose: str
    bytes: int
    created: int
    expires: int | None


_COLUMNS = [files.c[name] for name in File._fields]


class FileTooLarge(Exception):
    """More was to be written than a file may have; the message says how much that is."""


class Files:
    """Reads and writes files. Its methods raise `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, file: File, chunks: AsyncIterable[bytes], most: int) -> File:
        """Write the parts of a file that nobody sees until `show`; return it with its size.

        One of the same id that was not finished is written anew. Raises `FileTooLarge` where there are more than
        `most` bytes.
        """
        await self._remove(file.id)
        async with self._database.begin() as connection:
            await connection.execute(insert(files).values(**file._replace(bytes=0)._asdict(), ready=False))
        size, number = 0, 0
        async for part in _parts(chunks):
            size += len(part)
            if size > most:
                await self._remove(file.id)
                raise FileTooLarge(f"The file is larger than {most >> 20} MB.")
            async with self._database.begin() as connection:
                await connection.execute(insert(file_parts).values(file=file.id, number=number, data=part))
                # what is being written counts in what the project keeps
                await connection.execute(update(files).where(files.c.id == file.id).values(bytes=size))
            number += 1
        return file._replace(bytes=size)

    async def show(self, connection: AsyncConnection, id: str) -> None:
        """Let a file be seen that has been written."""
        await connection.execute(update(files).where(files.c.id == id).values(ready=True))

    async def find(self, project: str, id: str) -> File | None:
        """Return a file of a project, None where there is none."""
        if not is_id(id):
            return None
        async with self._database.begin() as connection:
            found = await connection.execute(select(*_COLUMNS).where(*_seen(project), files.c.id == id))
            row = found.one_or_none()
        return File(*row) if row is not None else None

    async def page(
        self, project: str, purposes: tuple[str, ...], *, after: str = "", limit: int, ascending: bool = False
    ) -> list[File]:
        """Return `limit` files of a project and those purposes after that with the id `after`, the newest first."""
        query = select(*_COLUMNS).where(*_seen(project), files.c.purpose.in_(purposes)).limit(limit)
        if is_id(after):
            query = query.where(files.c.id > after if ascending else files.c.id < after)
        async with self._database.begin() as connection:
            # ids sort by time
            rows = await connection.execute(query.order_by(files.c.id if ascending else files.c.id.desc()))
            return [File(*row) for row in rows]

    async def parts(self, id: str) -> AsyncIterator[bytes]:
        """Yield the content of a file."""
        number = 0
        while True:
            async with self._database.begin() as connection:
                found = await connection.execute(
                    select(file_parts.c.data).where(file_parts.c.file == id, file_parts.c.number == number)
                )
                part = found.scalar_one_or_none()
            if part is None:
                return
            yield part
            number += 1

    async def delete(self, project: str, id: str) -> bool:
        """Delete a file of a project; return whether there was one."""
        async with self._database.begin() as connection:
            done = await connection.execute(
                update(files).where(*_seen(project), files.c.id == id).values(ready=False, bytes=0)
            )
        if done.rowcount:
            await self._remove(id)
        return done.rowcount > 0

    async def delete_unseen(self, id: str) -> None:
        """Delete a file that was written for nothing."""
        await self._remove(id)

    async def used(self, project: str) -> int:
        """Return how many bytes the files of a project have."""
        query = select(func.coalesce(func.sum(files.c.bytes), 0)).where(files.c.project == project)
        async with self._database.begin() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def sweep(self) -> None:
        """Delete what has expired, and what was never finished."""
        now = now_ms()
        abandoned = files.c.ready.is_(False) & (files.c.created < now - _ABANDONED_MS)
        async with self._database.begin() as connection:
            rows = await connection.execute(select(files.c.id).where((files.c.expires < now) | abandoned).limit(100))
            gone = [row[0] for row in rows]
        for id in gone:
            await self._remove(id)

    async def _remove(self, id: str) -> None:
        """Delete a file bit by bit: others write to the database, too."""
        while True:
            async with self._database.begin() as connection:
                numbers = await connection.execute(
                    select(file_parts.c.number).where(file_parts.c.file == id).limit(_PARTS_AT_ONCE)
                )
                some = [row[0] for row in numbers]
                if not some:
                    await connection.execute(delete(files).where(files.c.id == id))
                    return
                await connection.execute(
                    delete(file_parts).where(file_parts.c.file == id, file_parts.c.number.in_(some))
                )


def _seen(project: str) -> tuple[Any, ...]:
    alive = files.c.expires.is_(None) | (files.c.expires > now_ms())
    return (files.c.project == project, files.c.ready.is_(True), alive)


async def _parts(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield what `chunks` are in parts of one size."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= _PART:
            yield bytes(held[:_PART])
            del held[:_PART]
    if held:
        yield bytes(held)
