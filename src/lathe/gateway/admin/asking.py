"""Requests of the administration, read: who asks, and what, from a query or from a body that is well-formed JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from lathe.gateway.admin.faults import AdminError, forbidden, invalid, stale
from lathe.gateway.canonical import read_strictly
from lathe.gateway.principals import Principal, key_digest
from lathe.gateway.services import Services
from lathe.protocol.errors import UsageError

BODY_LIMIT = 256 * 1024
_BODY_S = 30.0
_DEEPEST = 40


async def caller(services: Services, request: Request, *, scope: str = "") -> Principal:
    """Return who asks, by a key with a scope or by a web session; raise `AdminError`."""
    given = _key(request)
    if not await services.directory.assure():
        raise stale()
    if not given:
        principal = await services.session_principal(request)
        if principal is None:
            raise AdminError(401, "key_missing", "There is no key.", "Give one: `Authorization: Bearer KEY`.")
        return principal
    principal = services.directory.principal(key_digest(given))
    if principal is None:
        raise AdminError(401, "key_unknown", "The key is not known here, has expired, or was revoked.")
    if scope and scope not in principal.scopes:
        raise forbidden(f"The key lacks the scope {scope}.", "Use a key that has it.", "scope_missing")
    return principal


async def from_query(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return what a query asks; raise `AdminError`."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise invalid(f"The parameter {name[:60]!r} stands twice in the query.")
        found[name] = value
    _check_text(found)
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(f"The query is wrong: {error}.") from None


async def from_body(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return what a JSON body asks; raise `AdminError`. No body counts as an empty object."""
    try:
        async with asyncio.timeout(_BODY_S):
            text = await _body(request)
    except TimeoutError:
        raise AdminError(408, "body_slow", f"The body did not arrive within {_BODY_S:.0f} s.") from None
    except ClientDisconnect:
        raise AdminError(408, "body_cut", "The caller went away.") from None
    if text and request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise AdminError(415, "content_type", "The body must be JSON.", "Send content-type: application/json.")
    try:
        found = read_strictly(text) if text else {}
        _check_text(found)
        return msgspec.convert(found, kind)
    except UsageError as error:
        raise invalid(f"The body is wrong. {error.message}") from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise invalid(f"The body is wrong: {error}.") from None


def _key(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise AdminError(413, "body_large", f"The body is larger than {BODY_LIMIT // 1024} KiB.")
        parts.append(part)
    return b"".join(parts)


def _check_text(value: Any, depth: int = 0) -> None:
    """Raise `AdminError` for what the database can't keep: NUL, half a surrogate pair, too many levels."""
    if depth > _DEEPEST:
        raise invalid(f"The body is nested more than {_DEEPEST} levels deep.")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise invalid("A text holds a character that can't be kept: NUL, or half a surrogate pair.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, depth)
            _check_text(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner, depth + 1)
