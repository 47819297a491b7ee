"""Every route of the console with the roles that may take it: one table, which a test walks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from lathe.gateway.console import account, overview, sign_in
from lathe.gateway.console.gate import Handler, Visit, gated
from lathe.gateway.console.render import STATIC
from lathe.gateway.identity.entrance import Entrance
from lathe.gateway.identity.site import Refused

PREFIX = "/console"
ANYONE = frozenset({"anyone"})
"""Everyone who has signed in."""


class Page(NamedTuple):
    """A route: `roles` are those of which one is needed, None where nobody needs to have signed in."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[str] | None


def _open(method: str, path: str, handler: Handler) -> Page:
    return Page(method, path, handler, None)


def _own(method: str, path: str, handler: Handler) -> Page:
    return Page(method, path, handler, ANYONE)


PAGES: tuple[Page, ...] = (
    _open("GET", "/sign-in", sign_in.page),
    _open("POST", "/sign-in/passkey/options", sign_in.passkey_options),
    _open("POST", "/sign-in/passkey", sign_in.passkey_sign_in),
    _open("GET", "/sign-in/oidc/{provider}", sign_in.oidc_start),
    _open("GET", "/sign-in/oidc/{provider}/back", sign_in.oidc_back),
    _open("GET", "/invitation", sign_in.invitation),
    _open("POST", "/invitation/options", sign_in.invitation_options),
    _open("POST", "/invitation/passkey", sign_in.invitation_accept),
    _own("GET", "", overview.page),
    _own("POST", "/sign-out", sign_in.sign_out),
    _own("GET", "/account", account.page),
    _own("GET", "/account/link/{provider}", sign_in.oidc_link),
    _own("POST", "/account/passkeys/options", account.passkey_options),
    _own("POST", "/account/passkeys", account.passkey_enrol),
    _own("POST", "/account/passkeys/name", account.passkey_rename),
    _own("POST", "/account/passkeys/remove", account.passkey_remove),
    _own("POST", "/account/sessions/end", account.sessions_end),
)


def routes(entrance: Entrance, pages: Iterable[Page] = PAGES) -> list[BaseRoute]:
    """Return the routes of the console."""
    made: list[BaseRoute] = [Mount(f"{PREFIX}/static", StaticFiles(directory=STATIC))]
    for page in pages:
        endpoint = gated(entrance, page.handler, page.roles)
        made.append(Route(PREFIX + page.path, endpoint, methods=[page.method]))
    made.append(Route(PREFIX + "/{rest:path}", gated(entrance, _nothing, None), methods=["GET", "POST"]))
    return made


async def _nothing(visit: Visit) -> Response:
    raise Refused("There is no such page.", code="not_found", status=404)
