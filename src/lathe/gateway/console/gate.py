"""The console's gate: every request passes it, with its site, session, form token and role looked at."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from lathe.gateway.console.navigation import STAFF
from lathe.gateway.console.render import render
from lathe.gateway.identity.sessions import Session, check_csrf, find_session
from lathe.gateway.identity.site import Refused, Site, check_origin, site_of
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import LatheError, StorageError

if TYPE_CHECKING:
    from lathe.gateway.admin.desk import Operation
    from lathe.gateway.identity.entrance import Entrance
    from lathe.gateway.members import User
    from lathe.gateway.principals import Principal
    from lathe.gateway.services import SessionPrincipal

_P = ParamSpec("_P")
_R = TypeVar("_R")

HOME = "/console"
SIGN_IN = "/console/sign-in"
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
_FORM_LIMIT = 12 << 20
_STRANGER_LIMIT = 64 << 10
"""Bytes of a body from somebody who has not signed in, and of JSON."""
_SAFE = ("GET", "HEAD")
_log = logging.getLogger(__name__)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
PAGE_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: browsers would then say `Origin: null` of our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}
"""Headers of every page."""
FILE_HEADERS = {
    "cache-control": "public, max-age=3600",
    "content-security-policy": "default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
"""Headers of style, script and picture."""


class Visit(NamedTuple):
    """One request of a browser. `session`, `principal` and `user` are None for who has not signed in."""

    request: Request
    entrance: Entrance
    site: Site
    now: int
    session: Session | None
    principal: Principal | None
    user: User | None
    form: FormData
    json: Any

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """Return a page with everything that its frame shows."""
        from lathe.gateway.console.navigation import entries

        shown: dict[str, Any] = {
            "now": self.now,
            "path": self.request.url.path,
            "user": self.user,
            "organisation": self.entrance.services.directory.organisation(self.user.organisation)
            if self.user
            else None,
            "roles": self.principal.roles if self.principal else frozenset(),
            "session": self.session,
            "csrf": self.session.csrf if self.session else "",
            "entries": entries(self.principal) if self.principal else [],
            "notice": self.request.query_params.get("done", ""),
            "who": self.who,
            "old": self.old,
            "fault": None,
        }
        return HTMLResponse(render(template, **shown | context), status)

    def may(self, operation: Operation[..., Any]) -> bool:
        """Return whether the visitor's roles let them do an operation."""
        if self.principal is None:
            return False
        return "anyone" in operation.roles or bool(operation.roles & self.principal.roles)

    def who(self, subject: str) -> str:
        """Return a user, project, organisation or key by a name that people know, as far as the visitor may see it.

        `subject` is `user:ID` and so on, or the id of a user.
        """
        kind, _, id = subject.rpartition(":")
        directory = self.entrance.services.directory
        known = self.principal
        everywhere = known is not None and bool(known.roles & STAFF)
        own = known.organisation if known is not None else ""
        if kind in ("", "user"):
            user = directory.user(id)
            seen = user is not None and (everywhere or user.organisation == own)
            return (user.name or user.email) if user is not None and seen else id
        if kind == "project":
            project = directory.project(id)
            return project.name if project is not None and (everywhere or project.organisation == own) else id
        if kind == "organisation":
            organisation = directory.organisation(id)
            return organisation.name if organisation is not None and (everywhere or id == own) else id
        return id

    def old(self, name: str, default: Any = "") -> Any:
        """Return what a field held when the form was sent, so that nothing is typed twice."""
        return self.form.get(name, default) if self.form else default

    async def do(self, operation: Operation[_P, _R], /, *args: _P.args, **more: _P.kwargs) -> _R:
        """Do an operation as the one who has signed in; raise `AdminError`, `StorageError`."""
        assert self.principal is not None
        return await operation(self.entrance.services, self.principal, *args, **more)

    def field(self, name: str, limit: int = 4_000) -> str:
        """Return a field of the form, "" where it is not there; raise `Refused` where it is too long or a file."""
        value = self.form.get(name, self.request.query_params.get(name, ""))
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise Refused(f"The field {name} has more than {limit} characters, or is no text.", status=400)
        return value.strip()

    async def note(self, connection: AsyncConnection, action: str, **facts: Any) -> None:
        """Write a record of the audit about the one who has signed in, with the transaction of `connection`."""
        assert self.user is not None
        subject = f"user:{self.user.id}"
        body = {"organisation": self.user.organisation, **facts}
        await self.entrance.services.audit.append(connection, subject, action, subject, body)

    def number(self, name: str) -> float | None:
        """Return a field as a number, None where it is empty; raise `Refused`."""
        text = self.field(name, 40).replace("\u2009", "").replace(",", "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise Refused(f"{text!r} is no number.", status=400)
        return value

    def time(self, name: str) -> int | None:
        """Return a field with a day or a time (UTC) as milliseconds since the epoch, None where it is empty."""
        text = self.field(name, 40)
        if not text:
            return None
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        except (ValueError, OverflowError):
            raise Refused(f"{text!r} is no day.", hint="Write it as 2026-12-31.", status=400) from None

    def chosen(self, name: str) -> tuple[str, ...]:
        """Return the values of a field that may have several."""
        return tuple(one for one in self.form.getlist(name) if isinstance(one, str) and one)

    async def file(self, name: str, limit: int) -> bytes:
        """Return a file of the form, empty where there is none; raise `Refused` where it is larger than `limit`."""
        given = self.form.get(name)
        if not isinstance(given, UploadFile):
            return b""
        data = await given.read(limit + 1)
        if len(data) > limit:
            raise Refused(f"The file is larger than {limit >> 20} MB.", status=413)
        return data

    def asking(self, **more: Any) -> dict[str, Any]:
        """Return the query of a list for an operation: its cursor and `more`, without what is empty."""
        given = {"cursor": self.request.query_params.get("cursor", ""), **more}
        return {name: value for name, value in given.items() if value not in ("", None)}

    def back(self, path: str, done: str = "") -> Response:
        """Send the browser on to a page of the console; `done` names a sentence that it then shows."""
        return RedirectResponse(f"{path}?done={done}" if done else path, 303)


Handler: TypeAlias = Callable[[Visit], Awaitable[Response]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def gated(entrance: Entrance, handler: Handler, roles: Iterable[str] | None) -> Endpoint:
    """Return the endpoint of a page: `roles` are those that may, None where nobody needs to have signed in."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await _visit(entrance, handler, roles, request)
        except StorageError as error:
            response = _failed(request, 503, error)
        except LatheError as error:
            response = _failed(request, getattr(error, "status", 400), error)
        return _with_headers(response, entrance)

    return endpoint


async def _visit(entrance: Entrance, handler: Handler, roles: Iterable[str] | None, request: Request) -> Response:
    site = site_of(request, entrance.public)
    if entrance.public is None and request.method in _SAFE and site.host in ("127.0.0.1", "::1"):
        # A passkey belongs to a name; an address of numbers cannot have one.
        return RedirectResponse(str(request.url.replace(hostname="localhost")))
    check_origin(request, site, request.method)
    now = entrance.clock()
    async with entrance.database.begin() as connection:
        session = await find_session(connection, request.cookies.get(site.cookie(), ""), now)
    directory = entrance.services.directory
    if session is not None and not await directory.assure():
        raise Refused("The gateway has lost its database.", hint="Try again in a moment.", status=503)
    principal = directory.principal_of(session.user) if session else None
    user = directory.user(session.user) if session else None
    if roles is not None:
        if session is None or principal is None or user is None:
            return _to_sign_in(request)
        allowed = frozenset(roles)
        if "anyone" not in allowed and not allowed & principal.roles:
            needed = " or ".join(sorted(allowed))
            raise Refused(f"This needs the role {needed}.", hint="Ask an administrator for it.", code="role_missing")
    form, json = FormData(), None
    if request.method not in _SAFE:
        form, json = await _body(request, _FORM_LIMIT if roles is not None else _STRANGER_LIMIT)
        if roles is not None and session is not None:
            token = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
            check_csrf(session, token if isinstance(token, str) else "")
    return await handler(Visit(request, entrance, site, now, session, principal, user, form, json))


async def _body(request: Request, limit: int) -> tuple[FormData, Any]:
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise Refused("A form has to say how long it is.", status=411)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if int(length) > (_STRANGER_LIMIT if kind == "application/json" else limit):
        raise Refused("The form is too large.", status=413)
    if int(length) == 0:
        return FormData(), None
    if kind == "application/json":
        try:
            return FormData(), decode_json(await request.body())
        except (DecodeError, RecursionError):
            raise Refused("The body is no JSON.", status=400) from None
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise Refused("The body is no form.", status=415)
    return await request.form(max_files=4, max_fields=200), None


def _to_sign_in(request: Request) -> Response:
    if request.method not in _SAFE:
        raise Refused("You are not signed in any more.", hint="Sign in, and send the form again.", status=401)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{SIGN_IN}?to={quote(request.url.path + query, safe='')}", 303)


def _failed(request: Request, status: int, error: LatheError) -> Response:
    if status >= 500:
        _log.warning("console: %s %s: %s", request.method, request.url.path, error)
    if request.headers.get("content-type", "").startswith("application/json"):
        said = {"type": "invalid_request_error", "code": error.code, "message": error.message, "hint": error.hint}
        return JSONResponse({"error": said}, status)
    return HTMLResponse(render("error.html", status=status, error=error), status)


def _with_headers(response: Response, entrance: Entrance) -> Response:
    for name, value in PAGE_HEADERS.items():
        response.headers.setdefault(name, value)
    if entrance.public is not None and entrance.public.secure:
        response.headers["strict-transport-security"] = "max-age=31536000"
    return response


def session_principal(entrance: Entrance) -> SessionPrincipal:
    """Return whom the JSON API takes a web session for: None without one, or where it is used without its token."""

    async def find(request: Request) -> Principal | None:
        try:
            site = site_of(request, entrance.public)
            check_origin(request, site, request.method)
            async with entrance.database.begin() as connection:
                session = await find_session(connection, request.cookies.get(site.cookie(), ""), entrance.clock())
            if session is None:
                return None
            if request.method not in _SAFE:
                check_csrf(session, request.headers.get(CSRF_HEADER, ""))
        except Refused:
            return None
        return entrance.services.directory.principal_of(session.user)

    return find
