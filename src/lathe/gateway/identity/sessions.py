"""Web sessions: a random word in a cookie, of which the database keeps the SHA-256."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from lathe.gateway.identity.levels import Level
from lathe.gateway.identity.site import Refused, Site
from lathe.gateway.identity.tickets import digest_of, new_secret
from lathe.store.gateway.schema import sessions, users

HOUR_MS = 3_600_000
LIFETIME_MS = 12 * HOUR_MS
IDLE_MS = 2 * HOUR_MS
_SEEN_EVERY_MS = 60_000


class Session(NamedTuple):
    """One person signed in with one browser. `csrf` stands in every form that the person gets."""

    digest: str
    user: str
    csrf: str
    method: str
    level: Level
    created: int


async def open_session(
    connection: AsyncConnection, user: str, method: str, level: Level, now: int, *, instead_of: str = ""
) -> str:
    """Sign `user` in and return the cookie's value, which is always a new one.

    The session of the cookie `instead_of`, that the browser came with, ends: what somebody planted there is worth
    nothing, and what the person had there is not left behind.
    """
    await connection.execute(delete(sessions).where(sessions.c.expires <= now))
    if instead_of:
        await close_session(connection, digest_of(instead_of))
    secret = new_secret()
    await connection.execute(
        insert(sessions).values(
            digest=digest_of(secret),
            user=user,
            csrf=new_secret(),
            method=method,
            level=level,
            created=now,
            seen=now,
            expires=now + LIFETIME_MS,
        )
    )
    return secret


async def find_session(connection: AsyncConnection, cookie: str, now: int) -> Session | None:
    """Return the session of a cookie, None where it has ended or its user may no longer come in."""
    if not cookie:
        return None
    found = await connection.execute(
        select(sessions)
        .join(users, users.c.id == sessions.c.user)
        .where(
            sessions.c.digest == digest_of(cookie),
            sessions.c.expires > now,
            sessions.c.seen > now - IDLE_MS,
            users.c.active,
        )
    )
    row = found.one_or_none()
    if row is None:
        return None
    if row.seen < now - _SEEN_EVERY_MS:
        await connection.execute(update(sessions).where(sessions.c.digest == row.digest).values(seen=now))
    return Session(row.digest, row.user, row.csrf, row.method, row.level, row.created)


async def close_session(connection: AsyncConnection, digest: str) -> None:
    """End one session."""
    await connection.execute(delete(sessions).where(sessions.c.digest == digest))


async def close_sessions(connection: AsyncConnection, user: str, *, but: str = "") -> int:
    """End all sessions of `user`, but not the one whose digest is `but`; return how many there were."""
    done = await connection.execute(delete(sessions).where(sessions.c.user == user, sessions.c.digest != but))
    return int(done.rowcount)


def check_csrf(session: Session, token: str) -> None:
    """Raise `Refused` unless `token` is the session's own."""
    if not hmac.compare_digest(session.csrf.encode(), token.encode("utf-8", "surrogatepass")):
        raise Refused("The form was not made by this session.", hint="Open the page anew and try again.", code="csrf")


def set_cookie(response: Response, site: Site, name: str, value: str, seconds: int) -> None:
    """Put a cookie into `response` that scripts cannot read and other sites cannot send along."""
    response.set_cookie(
        site.cookie(name), value, max_age=seconds, path="/", secure=site.secure, httponly=True, samesite="lax"
    )


def drop_cookie(response: Response, site: Site, name: str) -> None:
    """Have the browser forget a cookie."""
    response.delete_cookie(site.cookie(name), path="/", secure=site.secure, httponly=True, samesite="lax")
