"""Notices: what people are told in the console, and by mail where the gateway can send some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.admin.faults import AdminError
from lathe.gateway.directory import now_ms
from lathe.gateway.guarding.on_record import Told, as_json
from lathe.gateway.identity.addresses import send
from lathe.gateway.identity.settings import SmtpTable
from lathe.protocol.errors import StorageError
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.database import Database
from lathe.store.gateway.guard_schema import notices
from lathe.store.gateway.schema import users

_EVERY_S = 15.0
_AT_ONCE = 20
_TRIED_MS = 2 * 86_400_000
"""For how long a mail that can't be handed in is tried again."""
_log = logging.getLogger(__name__)


class Notice(NamedTuple):
    """What is told; `of` is the id of what it is about, `kind` says what that is: decision, account, appeal."""

    kind: str
    of: str
    title: str
    text: str
    about: Any


async def tell(
    connection: AsyncConnection, people: Iterable[str], told: Notice, *, organisation: str, at: int
) -> list[str]:
    """Put a notice before each of `people` with this transaction; return their ids."""
    body = as_json(Told(told.title, told.text, msgspec.to_builtins(told.about)))
    found = list(dict.fromkeys(people))
    for user in found:
        values = {"id": ordered_id("ntc"), "user": user, "organisation": organisation, "kind": told.kind}
        await connection.execute(insert(notices).values(**values, of=told.of, body=body, at=at))
    return found


class Post:
    """Hands in by mail what people are told. `working` is held while the database is asked."""

    def __init__(self, database: Database, smtp: SmtpTable, origin: str) -> None:
        self.working = asyncio.Lock()
        self._database = database
        self._smtp = smtp
        self._origin = origin

    async def run(self, every_s: float = _EVERY_S) -> None:
        """Hand in mails as they come, until cancelled; without a server for them there is nothing to do."""
        while self._smtp.host:
            try:
                await self.hand_in(now_ms())
            except StorageError as error:
                _log.warning("Notices can't be read: %s", error)
            await asyncio.sleep(every_s)

    async def hand_in(self, now: int) -> int:
        """Hand in the mails that wait, each by one replica alone; return how many went out. Raises `StorageError`."""
        done = 0
        for row in await self._waiting(now):
            if not await self._mark(row.id, None, now):
                continue
            told = msgspec.json.decode(row.body, type=Told)
            try:
                await send(self._smtp, row.email, told.title, f"{told.text}\n\n{self._origin}/console/decisions\n")
                done += 1
            except AdminError as error:
                _log.warning("The notice %s is not mailed yet: %s", row.id, error)
                await self._mark(row.id, now, None)
                break
        return done

    async def _waiting(self, now: int) -> list[Row[Any]]:
        query = (
            select(notices.c.id, notices.c.body, users.c.email)
            .join_from(notices, users, users.c.id == notices.c.user)
            .where(notices.c.mailed.is_(None), notices.c.at > now - _TRIED_MS, users.c.active.is_(True))
            .order_by(notices.c.at)
            .limit(_AT_ONCE)
        )
        async with self.working, self._database.begin() as connection:
            return list(await connection.execute(query))

    async def _mark(self, id: str, before: int | None, after: int | None) -> bool:
        held = notices.c.mailed.is_(None) if before is None else notices.c.mailed == before
        async with self.working, self._database.begin() as connection:
            done = await connection.execute(update(notices).where(notices.c.id == id, held).values(mailed=after))
            return done.rowcount == 1
