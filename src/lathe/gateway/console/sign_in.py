"""Coming in and going out: by a provider, by passkey, by invitation."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

from lathe.gateway.console.gate import HOME, SIGN_IN, Visit
from lathe.gateway.identity import passkeys, tickets
from lathe.gateway.identity.levels import Level
from lathe.gateway.identity.oidc import OidcClient
from lathe.gateway.identity.people import Found, find_person, link_person
from lathe.gateway.identity.sessions import LIFETIME_MS, close_session, drop_cookie, open_session, set_cookie
from lathe.gateway.identity.site import Refused

_FLOW = "flow"
_FLOW_S = 600
_OURS = re.compile(r"/console(?:[/?][\w\-./?=&%:+,~]*)?", re.ASCII)


async def page(visit: Visit) -> Response:
    """Show the ways in."""
    to = _local(visit.request.query_params.get("to", ""))
    if visit.principal is not None:
        return visit.back(to)
    providers = list(visit.entrance.providers.values())
    return visit.page("sign_in.html", to=to, providers=providers)


async def oidc_start(visit: Visit) -> Response:
    """Send the browser to a provider."""
    to = _local(visit.request.query_params.get("to", ""))
    return await _to_provider(visit, _provider(visit), to)


async def oidc_link(visit: Visit) -> Response:
    """Send who has signed in to a provider, whose account is to be theirs."""
    assert visit.session is not None
    return await _to_provider(visit, _provider(visit), "/console/account", link=visit.session.user)


async def _to_provider(visit: Visit, client: OidcClient, to: str, *, link: str = "") -> Response:
    async with visit.entrance.database.begin() as connection:
        url, browser = await client.start(connection, visit.site, to, link=link)
    response = RedirectResponse(url, 303)
    set_cookie(response, visit.site, _FLOW, browser, _FLOW_S)
    return response


async def oidc_back(visit: Visit) -> Response:
    """Take the answer of a provider."""
    client, query = _provider(visit), dict(visit.request.query_params)
    async with visit.entrance.database.begin() as connection:
        browser = visit.request.cookies.get(visit.site.cookie(_FLOW), "")
        kept = await client.claim(connection, query, browser)
    link = str(kept["link"])
    if link and (visit.session is None or visit.session.user != link):
        raise Refused("You have signed out meanwhile.", hint="Sign in, and link the account again.")
    who = await client.finish(query, kept, visit.site)
    async with visit.entrance.database.begin() as connection:
        if link:
            found = await link_person(connection, link, who, visit.now)
            await _note(visit, connection, "user.linked", found, issuer=who.issuer)
            response = visit.back("/console/account", "linked")
        else:
            found = await find_person(connection, who, client.table, visit.now)
            response = await _come_in(visit, connection, found, str(kept["back_to"]), method="oidc", level=who.level)
    if found.changed:
        await visit.entrance.services.directory.refresh()
    drop_cookie(response, visit.site, _FLOW)
    return response


async def passkey_options(visit: Visit) -> Response:
    """Give a browser the challenge for signing in."""
    async with visit.entrance.database.begin() as connection:
        return JSONResponse(await passkeys.sign_in_options(connection, visit.site, visit.now))


async def passkey_sign_in(visit: Visit) -> Response:
    """Sign in with a passkey; answers where to go."""
    credential = _object(visit.json, "credential")
    refused: Refused | None = None
    async with visit.entrance.database.begin() as connection:
        try:
            user = await passkeys.sign_in(connection, visit.site, credential, visit.now)
        except passkeys.Cloned as error:
            refused = error
            await _note(visit, connection, "passkey.copied", Found(error.user, False))
        except Refused as error:
            refused = error
        else:
            to = _local(str(visit.json.get("to", "")))
            return await _come_in(visit, connection, Found(user, False), to, method="passkey", level="passkey")
    # The transaction has been committed: the challenge is used up.
    raise refused


async def invitation(visit: Visit) -> Response:
    """Show the page that an invitation leads to; its secret stands behind `#`, for the script only."""
    return visit.page("invitation.html")


async def invitation_options(visit: Visit) -> Response:
    """Give a browser with an invitation what it makes a passkey from."""
    secret = _secret(visit.json)
    async with visit.entrance.database.begin() as connection:
        ticket = await tickets.peek(connection, "invitation", secret, visit.now)
        if ticket is None:
            raise Refused("The invitation has been used or is too old.", hint="Ask for a new one.", code="ticket")
        options = await passkeys.enrol_options(connection, visit.site, ticket.user, visit.now, invitation=secret)
    return JSONResponse(options)


async def invitation_accept(visit: Visit) -> Response:
    """Keep the passkey of who was invited, and sign them in."""
    credential, secret = _object(visit.json, "credential"), _secret(visit.json)
    async with visit.entrance.database.begin() as connection:
        name = str(visit.json.get("name", ""))
        user = await passkeys.enrol(connection, visit.site, credential, name, visit.now, holder=secret)
        found = Found(user, False)
        await _note(visit, connection, "passkey.enrolled", found, by="invitation")
        return await _come_in(visit, connection, found, HOME, method="passkey", level="passkey")


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    assert visit.session is not None
    async with visit.entrance.database.begin() as connection:
        await close_session(connection, visit.session.digest)
    response = RedirectResponse(f"{SIGN_IN}?done=signed-out", 303)
    drop_cookie(response, visit.site, "")
    response.headers["clear-site-data"] = '"cache"'
    return response


async def _come_in(
    visit: Visit, connection: AsyncConnection, found: Found, to: str, *, method: str, level: Level
) -> Response:
    """Open a session and send the browser on: with a redirect, or where a script asked, with JSON."""
    old = visit.request.cookies.get(visit.site.cookie(), "")
    secret = await open_session(connection, found.user, method, level, visit.now, instead_of=old)
    await _note(visit, connection, "session.opened", found, method=method, level=level)
    response: Response = JSONResponse({"to": to}) if visit.json is not None else RedirectResponse(to, 303)
    set_cookie(response, visit.site, "", secret, LIFETIME_MS // 1000)
    return response


async def _note(visit: Visit, connection: AsyncConnection, action: str, found: Found, **facts: Any) -> None:
    """Write a record of the audit, and tell replicas of a user who has changed."""
    if found.changed:
        await visit.entrance.database.changed(connection, "principals")
    subject = f"user:{found.user}"
    known = visit.entrance.services.directory.user(found.user)
    body = {"organisation": known.organisation if known else "", **facts}
    await visit.entrance.services.audit.append(connection, subject, action, subject, body)


def _provider(visit: Visit) -> OidcClient:
    client = visit.entrance.providers.get(visit.request.path_params["provider"])
    if client is None:
        raise Refused("There is no such identity provider.", status=404)
    return client


def _local(to: str) -> str:
    """Return a path of the console, the overview where `to` is none: nobody is sent to another site."""
    return to if _OURS.fullmatch(to) and not to.startswith(SIGN_IN) else HOME


def _object(document: Any, name: str) -> dict[str, Any]:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise Refused("That is no answer of a passkey.", code="passkey_refused", status=400)
    return value


def _secret(document: Any) -> str:
    value = document.get("invitation") if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
