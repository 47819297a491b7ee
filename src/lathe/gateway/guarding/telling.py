"""Notices: what people are told in the console, and by mail where the gateway can send some."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import insert, select, update
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


async def post(database: Database, smtp: SmtpTable, origin: str, now: int) -> int:
    """Hand in the mails that wait, each by one replica alone; return how many went out. Raises `StorageError`."""
    async with database.begin() as connection:
        query = (
            select(notices.c.id, notices.c.body, users.c.email)
            .join_from(notices, users, users.c.id == notices.c.user)
            .where(notices.c.mailed.is_(None), notices.c.at > now - _TRIED_MS, users.c.active.is_(True))
            .order_by(notices.c.at)
            .limit(_AT_ONCE)
        )
        waiting = list(await connection.execute(query))
    done = 0
    for id, body, address in waiting:
        if not await _mark(database, id, None, now):
            continue
        told = msgspec.json.decode(body, type=Told)
        try:
            await send(smtp, address, told.title, f"{told.text}\n\n{origin}/console/decisions\n")
            done += 1
        except AdminError as error:
            _log.warning("The notice %s is not mailed yet: %s", id, error)
            await _mark(database, id, now, None)
            break
    return done


async def _mark(database: Database, id: str, before: int | None, after: int | None) -> bool:
    async with database.begin() as connection:
        held = notices.c.mailed.is_(None) if before is None else notices.c.mailed == before
        done = await connection.execute(update(notices).where(notices.c.id == id, held).values(mailed=after))
        return done.rowcount == 1


async def keep_posting(database: Database, smtp: SmtpTable, origin: str, every_s: float = _EVERY_S) -> None:
    """Hand in mails as they come, until cancelled; without a server for them there is nothing to do."""
    while smtp.host:
        try:
            await post(database, smtp, origin, now_ms())
        except StorageError as error:
            _log.warning("Notices can't be read: %s", error)
        await asyncio.sleep(every_s)
