"""Tickets: what may be shown once and soon, such as an invitation, the state of a sign-in, a passkey's challenge."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.identity.site import Refused
from lathe.store.gateway.schema import tickets

Kind: TypeAlias = Literal["oidc", "passkey-sign-in", "passkey-enrol", "invitation", "email"]

MINUTE_MS = 60_000
LIFETIMES_MS: dict[Kind, int] = {
    "oidc": 10 * MINUTE_MS,
    "passkey-sign-in": 5 * MINUTE_MS,
    "passkey-enrol": 5 * MINUTE_MS,
    "invitation": 72 * 60 * MINUTE_MS,
    "email": 24 * 60 * MINUTE_MS,
}
_ANONYMOUS_LIMIT = 20_000


class Ticket(NamedTuple):
    """A ticket that was taken; `user` is "" where nobody in particular holds it."""

    body: dict[str, Any]
    user: str


def new_secret() -> str:
    """Return 32 random bytes as base64url."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """Return what is kept of a secret: its SHA-256, in hexadecimal. A secret has 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def issue(connection: AsyncConnection, kind: Kind, body: dict[str, Any], now: int, *, user: str = "") -> str:
    """Keep a ticket and return the secret that it is taken with; raise `Refused` where strangers hold too many."""
    await connection.execute(delete(tickets).where(tickets.c.expires <= now))
    if not user:
        held = (await connection.execute(select(func.count()).where(tickets.c.user == ""))).scalar_one()
        if held >= _ANONYMOUS_LIMIT:
            raise Refused("Too many people are signing in.", hint="Try again in a few minutes.", status=503)
    secret = new_secret()
    row = {"digest": digest_of(secret), "kind": kind, "body": body, "user": user, "expires": now + LIFETIMES_MS[kind]}
    await connection.execute(insert(tickets).values(**row))
    return secret


async def peek(connection: AsyncConnection, kind: Kind, secret: str, now: int) -> Ticket | None:
    """Return the ticket without taking it; None where there is none that is valid."""
    found = await connection.execute(
        select(tickets.c.body, tickets.c.user).where(
            tickets.c.digest == digest_of(secret), tickets.c.kind == kind, tickets.c.expires > now
        )
    )
    row = found.one_or_none()
    return Ticket(dict(row.body), row.user) if row is not None else None


async def take(connection: AsyncConnection, kind: Kind, secret: str, now: int) -> Ticket:
    """Return the ticket, which is gone then, also for who comes at the same time; raise `Refused`."""
    ticket = await peek(connection, kind, secret, now)
    gone = await connection.execute(
        delete(tickets).where(tickets.c.digest == digest_of(secret), tickets.c.kind == kind)
    )
    if ticket is None or gone.rowcount != 1:
        raise Refused("The link has been used or is too old.", hint="Ask for a new one, or start again.", code="ticket")
    return ticket


async def forget(connection: AsyncConnection, user: str, *kinds: Kind) -> None:
    """Make the tickets of `user` worthless, all kinds where none is named."""
    await connection.execute(delete(tickets).where(tickets.c.user == user, tickets.c.kind.in_(kinds or LIFETIMES_MS)))
