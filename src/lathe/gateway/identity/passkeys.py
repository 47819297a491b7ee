"""Passkeys (WebAuthn Level 3): enrolled by who is signed in or invited, and then enough to sign in with."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url, parse_client_data_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from lathe.gateway.identity import tickets
from lathe.gateway.identity.site import Refused, Site
from lathe.protocol.codec import decode_json
from lathe.store.gateway.schema import passkeys, users

MOST = 20
"""Passkeys that one user may have."""
_NAME_LIMIT = 80


class Passkey(NamedTuple):
    """A passkey as its owner sees it; times are milliseconds since the epoch, `used` None before the first time."""

    id: str
    name: str
    created: int
    used: int | None


class Cloned(Refused):
    """A passkey counted backwards: there is a copy of it."""

    def __init__(self, user: str) -> None:
        super().__init__(
            "This passkey has been used elsewhere: it may have been copied.",
            hint="Sign in another way and remove it.",
            code="passkey_copied",
        )
        self.user = user


async def list_passkeys(connection: AsyncConnection, user: str) -> list[Passkey]:
    """Return the passkeys of a user, the oldest first."""
    columns = (passkeys.c.id, passkeys.c.name, passkeys.c.created, passkeys.c.used)
    found = await connection.execute(select(*columns).where(passkeys.c.user == user).order_by(passkeys.c.created))
    return [Passkey(*row) for row in found]


async def enrol_options(
    connection: AsyncConnection, site: Site, user: str, now: int, *, invitation: str = ""
) -> dict[str, Any]:
    """Return what `navigator.credentials.create` wants, as JSON; raise `Refused`."""
    row = await _active(connection, user)
    held = (await connection.execute(select(passkeys.c.id).where(passkeys.c.user == user))).scalars().all()
    if len(held) >= MOST:
        raise Refused(f"There are {MOST} passkeys already.", hint="Remove one first.", status=409)
    body = {"invitation": tickets.digest_of(invitation) if invitation else ""}
    challenge = await tickets.issue(connection, "passkey-enrol", body, now, user=user)
    options = generate_registration_options(
        rp_id=site.host,
        rp_name="Lathe",
        user_id=user.encode(),
        user_name=row.email,
        user_display_name=row.name or row.email,
        challenge=base64url_to_bytes(challenge),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in held],
    )
    shown: dict[str, Any] = decode_json(options_to_json(options))
    return shown


async def enrol(
    connection: AsyncConnection, site: Site, credential: dict[str, Any], name: str, now: int, *, holder: str = ""
) -> str:
    """Keep the passkey that a browser has made and return its user; raise `Refused`.

    `holder` is who is signed in, or the secret of an invitation, which is used up then.
    """
    challenge = _challenge(credential)
    ticket = await tickets.take(connection, "passkey-enrol", challenge, now)
    invited = ticket.body["invitation"]
    if invited:
        if invited != tickets.digest_of(holder):
            raise Refused("The passkey was made for another invitation.", code="ticket")
        await tickets.take(connection, "invitation", holder, now)
    elif ticket.user != holder:
        raise Refused("The passkey was made for somebody else.", code="ticket")
    await _active(connection, ticket.user)
    try:
        made = verify_registration_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(challenge),
            expected_rp_id=site.host,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise Refused(f"The passkey was not accepted: {error}.", code="passkey_refused", status=400) from None
    id = bytes_to_base64url(made.credential_id)
    if (await connection.execute(select(passkeys.c.user).where(passkeys.c.id == id))).first():
        raise Refused("This passkey is known already.", code="passkey_known", status=409)
    await connection.execute(
        insert(passkeys).values(
            id=id,
            user=ticket.user,
            public_key=bytes_to_base64url(made.credential_public_key),
            sign_count=made.sign_count,
            name=name.strip()[:_NAME_LIMIT] or "Passkey",
            created=now,
        )
    )
    return ticket.user


async def sign_in_options(connection: AsyncConnection, site: Site, now: int) -> dict[str, Any]:
    """Return what `navigator.credentials.get` wants, as JSON: any passkey of this site will do."""
    challenge = await tickets.issue(connection, "passkey-sign-in", {}, now)
    options = generate_authentication_options(
        rp_id=site.host,
        challenge=base64url_to_bytes(challenge),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    shown: dict[str, Any] = decode_json(options_to_json(options))
    return shown


async def sign_in(connection: AsyncConnection, site: Site, credential: dict[str, Any], now: int) -> str:
    """Return the user whose passkey has signed the challenge; raise `Refused`, `Cloned`.

    Whatever comes of it, the challenge is used up: commit before `Refused` goes on.
    """
    challenge = _challenge(credential)
    await tickets.take(connection, "passkey-sign-in", challenge, now)
    id = credential.get("id")
    found = await connection.execute(select(passkeys).where(passkeys.c.id == (id if isinstance(id, str) else "")))
    row = found.one_or_none()
    if row is None:
        raise Refused("This passkey is not known here.", hint="Sign in another way.", code="passkey_unknown")
    handle = _response(credential).get("userHandle")
    if handle is not None and handle != bytes_to_base64url(row.user.encode()):
        raise Refused("The passkey names another user.", code="passkey_refused")
    try:
        done = verify_authentication_response(
            credential=credential,
            expected_challenge=base64url_to_bytes(challenge),
            expected_rp_id=site.host,
            expected_origin=site.origin,
            credential_public_key=base64url_to_bytes(row.public_key),
            # The count is judged below: it must also hold against who signs in at the same time.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise Refused(f"The passkey was not accepted: {error}.", code="passkey_refused") from None
    await _active(connection, row.user)
    counted = passkeys.c.sign_count < done.new_sign_count
    if done.new_sign_count == 0:  # authenticators that do not count always say 0
        counted = passkeys.c.sign_count == 0
    kept = await connection.execute(
        update(passkeys).where(passkeys.c.id == row.id, counted).values(sign_count=done.new_sign_count, used=now)
    )
    if kept.rowcount != 1:
        raise Cloned(row.user)
    return str(row.user)


async def rename(connection: AsyncConnection, user: str, id: str, name: str) -> None:
    """Give a passkey of `user` another name; raise `Refused`."""
    named = name.strip()[:_NAME_LIMIT]
    done = await connection.execute(
        update(passkeys).where(passkeys.c.id == id, passkeys.c.user == user).values(name=named or "Passkey")
    )
    if done.rowcount != 1:
        raise Refused("There is no such passkey.", status=404)


async def remove(connection: AsyncConnection, user: str, id: str, *, other_way: bool) -> None:
    """Remove a passkey of `user`, the last one only where there is an `other_way` to sign in; raise `Refused`."""
    # Two removals at the same time must not take the last two.
    await connection.execute(select(users.c.id).where(users.c.id == user).with_for_update())
    held = await connection.execute(select(func.count()).select_from(passkeys).where(passkeys.c.user == user))
    if not other_way and held.scalar_one() <= 1:
        raise Refused("This is the only way you can sign in.", hint="Enrol another passkey first.", status=409)
    done = await connection.execute(delete(passkeys).where(passkeys.c.id == id, passkeys.c.user == user))
    if done.rowcount != 1:
        raise Refused("There is no such passkey.", status=404)


async def invite(connection: AsyncConnection, user: str, now: int) -> str:
    """Return the secret of a link by which `user` can enrol one passkey; older links are worth nothing then."""
    await _active(connection, user)
    await tickets.forget(connection, user, "invitation")
    return await tickets.issue(connection, "invitation", {}, now, user=user)


def invitation_link(site: Site, secret: str) -> str:
    """Return the link; what stands behind `#` reaches no server and no log."""
    return f"{site.origin}/console/invitation#{secret}"


async def _active(connection: AsyncConnection, user: str) -> Any:
    row = (await connection.execute(select(users).where(users.c.id == user, users.c.active))).one_or_none()
    if row is None:
        raise Refused("This account has been closed.", hint="Ask an administrator.", code="inactive")
    return row


def _response(credential: dict[str, Any]) -> dict[str, Any]:
    response = credential.get("response")
    return response if isinstance(response, dict) else {}


def _challenge(credential: dict[str, Any]) -> str:
    """Return the challenge that the browser says it has answered: it is the secret of a ticket."""
    said = _response(credential).get("clientDataJSON")
    try:
        return bytes_to_base64url(parse_client_data_json(base64url_to_bytes(said or "")).challenge)
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError):
        raise Refused("That is no answer of a passkey.", code="passkey_refused", status=400) from None
