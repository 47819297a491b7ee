"""The page of one's own account: passkeys, linked provider, sessions."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from lathe.gateway.console.gate import Visit
from lathe.gateway.identity import passkeys
from lathe.gateway.identity.proof import held
from lathe.gateway.identity.sessions import close_sessions
from lathe.gateway.identity.site import Refused
from lathe.store.gateway.schema import users

_HERE = "/console/account"


async def page(visit: Visit) -> Response:
    """Show one's own account."""
    assert visit.session is not None
    async with visit.entrance.database.begin() as connection:
        own = await passkeys.list_passkeys(connection, visit.session.user)
        subject = (
            await connection.execute(select(users.c.subject).where(users.c.id == visit.session.user))
        ).scalar_one()
        proofs = await held(connection, [f"user:{visit.session.user}"], visit.now)
    return visit.page(
        "account.html",
        passkeys=own,
        linked=subject.partition("#")[0],
        providers=list(visit.entrance.providers.values()),
        proofs=proofs,
    )


async def passkey_options(visit: Visit) -> Response:
    """Give the browser what it makes a passkey from."""
    assert visit.session is not None
    async with visit.entrance.database.begin() as connection:
        return JSONResponse(await passkeys.enrol_options(connection, visit.site, visit.session.user, visit.now))


async def passkey_enrol(visit: Visit) -> Response:
    """Keep a passkey that the browser has made."""
    assert visit.session is not None
    credential = visit.json.get("credential") if isinstance(visit.json, dict) else None
    if not isinstance(credential, dict):
        raise Refused("That is no answer of a passkey.", code="passkey_refused", status=400)
    user = visit.session.user
    async with visit.entrance.database.begin() as connection:
        name = str(visit.json.get("name", ""))
        await passkeys.enrol(connection, visit.site, credential, name, visit.now, holder=user)
        await visit.note(connection, "passkey.enrolled", by="session")
    return JSONResponse({"to": f"{_HERE}?done=passkey-added"})


async def passkey_rename(visit: Visit) -> Response:
    """Give a passkey another name."""
    assert visit.session is not None
    async with visit.entrance.database.begin() as connection:
        await passkeys.rename(connection, visit.session.user, visit.field("passkey", 1400), visit.field("name", 80))
    return visit.back(_HERE, "saved")


async def passkey_remove(visit: Visit) -> Response:
    """Remove a passkey; everybody who is signed in with the account elsewhere is signed out."""
    assert visit.session is not None
    user = visit.session.user
    async with visit.entrance.database.begin() as connection:
        other_way = bool(visit.entrance.providers)
        await passkeys.remove(connection, user, visit.field("passkey", 1400), other_way=other_way)
        await close_sessions(connection, user, but=visit.session.digest)
        await visit.note(connection, "passkey.removed")
    return visit.back(_HERE, "passkey-removed")


async def sessions_end(visit: Visit) -> Response:
    """Sign out everywhere else."""
    assert visit.session is not None
    async with visit.entrance.database.begin() as connection:
        await close_sessions(connection, visit.session.user, but=visit.session.digest)
        await visit.note(connection, "sessions.closed")
    return visit.back(_HERE, "signed-out-elsewhere")
