"""The administration over HTTP: JSON in, JSON out, one form for all errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lathe.gateway.admin.asking import caller, from_body, from_query
from lathe.gateway.admin.faults import KINDS, AdminError, not_found
from lathe.gateway.admin.openapi import document
from lathe.gateway.admin.records import export_audit, public_keys
from lathe.gateway.admin.table import ADMIN, AUDIT_EXPORT, PUBLIC_KEYS, TABLE, Entry
from lathe.gateway.services import Services
from lathe.protocol.errors import StorageError, UsageError

_Handler = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger(__name__)
_JSON = "application/json"


def routes(services: Services) -> list[BaseRoute]:
    """Return all routes of the administration, with the OpenAPI document and the public keys."""

    async def openapi(request: Request) -> Response:
        return Response(msgspec.json.encode(document(services.paths)), media_type=_JSON)

    async def keys(request: Request) -> Response:
        return Response(await public_keys(services), media_type="application/jwk-set+json")

    async def export(request: Request) -> Response:
        principal = await caller(services, request, scope="admin")
        lines = export_audit(services, principal)
        first = await anext(lines)  # whoever may not is told before anything is sent
        return StreamingResponse(_begun(first, lines), media_type="application/x-ndjson")

    async def nothing(request: Request) -> Response:
        raise not_found("path")

    paths: dict[str, dict[str, _Handler]] = {
        "/openapi.json": {"GET": openapi},
        PUBLIC_KEYS: {"GET": keys},
        AUDIT_EXPORT: {"GET": export},
    }
    for entry in TABLE:
        paths.setdefault(entry.path, {})[entry.method] = _handler(services, entry)
    # what is spelled out comes before what a parameter would take
    found: list[BaseRoute] = [Route(path, _by_method(paths[path])) for path in sorted(paths, key=_generality)]
    rest = dict.fromkeys(("GET", "POST", "PATCH", "PUT", "DELETE"), nothing)
    return [*found, Route(ADMIN, _by_method(rest)), Route(f"{ADMIN}/{{path:path}}", _by_method(rest))]


def error_response(error: AdminError) -> Response:
    """Return the answer that tells of an error."""
    told = {"type": KINDS.get(error.status, "error"), "code": error.code, "message": error.message, "hint": error.hint}
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if error.status == 503:
        headers["retry-after"] = "1"
    return Response(msgspec.json.encode({"error": told}), error.status, headers, _JSON)


def _generality(path: str) -> tuple[bool, ...]:
    return tuple(part.startswith("{") for part in path.split("/"))


def _handler(services: Services, entry: Entry) -> _Handler:
    kind = entry.asked
    read = from_query if entry.method == "GET" else from_body
    scope = "admin" if entry.needs_scope else ""

    async def handle(request: Request) -> Response:
        principal = await caller(services, request, scope=scope)
        given: dict[str, Any] = {name: _word(request, name) for name in entry.parameters}
        if kind is not None:
            given["asked"] = await read(request, kind)
        answer = await entry.operation(services, principal, **given)
        return Response(msgspec.json.encode(answer), entry.status, {"cache-control": "no-store"}, _JSON)

    return handle


def _word(request: Request, name: str) -> str:
    word = str(request.path_params[name])
    if len(word) > 64 or not word.isascii() or not word.isprintable():
        raise not_found(name)
    return word


def _by_method(handlers: Mapping[str, _Handler]) -> ASGIApp:
    """Return an application that hands over by method, and tells of all that goes wrong in one form."""
    allowed = ", ".join(_with_head(handlers))

    class Resource:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            method = "GET" if request.method == "HEAD" else request.method
            try:
                if method not in handlers:
                    raise AdminError(405, "method", f"{request.method} is not possible here.", f"Use {allowed}.")
                response = await handlers[method](request)
            except AdminError as error:
                response = error_response(error)
                if error.status == 405:
                    response.headers["allow"] = allowed
            except StorageError as error:
                response = error_response(AdminError(503, error.code, error.message, error.hint))
            except UsageError as error:
                response = error_response(AdminError(400, error.code, error.message, error.hint))
            await response(scope, receive, send)

    return Resource()


def _with_head(methods: Iterable[str]) -> list[str]:
    return sorted({*methods, "HEAD"} if "GET" in methods else {*methods})


async def _begun(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line
