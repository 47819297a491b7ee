"""The person behind a sign-in: found by issuer and subject, else by an address that their provider vouches for."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.identity.oidc import Identified
from lathe.gateway.identity.proof import oidc_proof, record
from lathe.gateway.identity.sessions import close_sessions
from lathe.gateway.identity.settings import OidcTable
from lathe.gateway.identity.site import Refused
from lathe.gateway.identity.tickets import forget
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import keys, organisations, passkeys, users


def subject_of(issuer: str, subject: str) -> str:
    """Return what `users.subject` holds; an issuer has no `#` in it (Discovery 1.0, section 3)."""
    return f"{issuer}#{subject}"


class Found(NamedTuple):
    """The user behind a sign-in, and whether what replicas know of them has changed."""

    user: str
    changed: bool


async def find_person(connection: AsyncConnection, who: Identified, table: OidcTable, now: int) -> Found:
    """Return the user who has signed in; raise `Refused`.

    An administrator may have made them before with their e-mail address: the first sign-in binds that user to issuer
    and subject, and from then on the address counts no more. Somebody whom nobody made joins where `domains` says so.
    """
    subject = subject_of(who.issuer, who.subject)
    found = (await connection.execute(select(users).where(users.c.subject == subject))).one_or_none()
    changed = False
    if found is None:
        found = await _bound(connection, who, table, subject)
        changed = True
    if found is None:
        domain = who.email.rpartition("@")[2]
        to = {name.lower(): to for name, to in table.domains.items()}.get(domain)
        found = await _joined(connection, who, to, subject, now)
    if not found.active:
        raise Refused("This account has been closed.", hint="Ask an administrator.", code="inactive")
    recorded = await record(connection, found, oidc_proof(who, now))
    return Found(found.id, changed or recorded)


async def link_person(connection: AsyncConnection, user: str, who: Identified, now: int) -> Found:
    """Bind a user who has signed in already to an account at a provider; raise `Refused`."""
    subject = subject_of(who.issuer, who.subject)
    if (await connection.execute(select(users.c.id).where(users.c.subject == subject, users.c.id != user))).first():
        raise Refused("This account belongs to another user here.", code="account_taken", status=409)
    await connection.execute(update(users).where(users.c.id == user, users.c.active).values(subject=subject))
    found = (await connection.execute(select(users).where(users.c.id == user, users.c.active))).one()
    await record(connection, found, oidc_proof(who, now))
    return Found(user, True)


async def _bound(connection: AsyncConnection, who: Identified, table: OidcTable, subject: str) -> Row[Any] | None:
    """Return the user whom an administrator made for this address, bound to the subject from now on."""
    domain = who.email.rpartition("@")[2]
    if not domain or (table.speaks_for and domain not in {one.lower() for one in table.speaks_for}):
        raise Refused(
            "Nobody here has this account.",
            hint="Ask an administrator to invite you, with an e-mail address that your provider has verified.",
            code="unknown_user",
        )
    found = (await connection.execute(select(users).where(func.lower(users.c.email) == who.email))).one_or_none()
    if found is None:
        return None
    if found.subject or (await connection.execute(select(passkeys.c.id).where(passkeys.c.user == found.id))).first():
        # An address can change hands; who has another way in already says themself what else is theirs.
        raise Refused(
            "Your e-mail address belongs to an account that is signed in to in another way.",
            hint="Sign in as you did before; you can link this provider under Your account.",
            code="address_taken",
        )
    bind = update(users).where(users.c.id == found.id, users.c.subject == "").values(subject=subject)
    if (await connection.execute(bind)).rowcount != 1:
        raise Refused("Somebody else has just signed in with this address.", code="address_taken")
    return found


async def _joined(
    connection: AsyncConnection, who: Identified, organisation: str | None, subject: str, now: int
) -> Row[Any]:
    row = None
    if organisation is not None:
        chosen = or_(organisations.c.id == organisation, organisations.c.name == organisation)
        row = (await connection.execute(select(organisations.c.id).where(chosen))).first()
    if row is None:
        raise Refused(
            f"Nobody has invited {who.email}.", hint="Ask an administrator to invite you.", code="unknown_user"
        )
    id = ordered_id("user")
    values = {"id": id, "organisation": row.id, "email": who.email, "name": who.name, "subject": subject}
    await connection.execute(insert(users).values(**values, roles=["member"], created=now))
    return (await connection.execute(select(users).where(users.c.id == id))).one()


async def shut_out(connection: AsyncConnection, user: str, now: int) -> None:
    """End what a user can come in with: sessions, keys and links, for good."""
    await close_sessions(connection, user)
    await forget(connection, user)
    await connection.execute(update(keys).where(keys.c.user == user, keys.c.revoked.is_(None)).values(revoked=now))
