"""SCIM 2.0 under /scim/v2 (RFC 7643, RFC 7644): a directory keeps the users and groups of its organisation here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from lathe.gateway.admin.desk import Operation
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.identity import scim_people as people
from lathe.gateway.identity.scim_paths import ScimError
from lathe.gateway.identity.scim_people import Asked
from lathe.gateway.identity.scim_schemas import ERROR, LIST, resource_types, schemas, service_provider
from lathe.gateway.principals import Principal, key_digest
from lathe.gateway.services import Services
from lathe.protocol.codec import DecodeError, decode_json, encode
from lathe.protocol.errors import StorageError

PREFIX = "/scim/v2"
SCOPE = "scim"
_BODY_LIMIT = 4 << 20
_TYPES = ("application/scim+json", "application/json")

Answer: TypeAlias = tuple[int, dict[str, Any] | None]
Handler: TypeAlias = Callable[[Services, Principal, str, Request], Awaitable[Answer]]


def routes(services: Services) -> list[BaseRoute]:
    """Return the routes of SCIM; all need a key of an organisation with the scope `scim`."""
    table: list[tuple[str, dict[str, Handler]]] = [
        *_of_kind(_USERS, "/Users"),
        *_of_kind(_GROUPS, "/Groups"),
        ("/ServiceProviderConfig", {"GET": _config}),
        ("/Schemas", {"GET": _schemas}),
        ("/Schemas/{id}", {"GET": _schema}),
        ("/ResourceTypes", {"GET": _types}),
        ("/ResourceTypes/{id}", {"GET": _type}),
        ("/{rest:path}", {}),
    ]
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [Route(PREFIX + path, _endpoint(services, handlers), methods=every) for path, handlers in table]


def _endpoint(services: Services, handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            principal = _principal(services, request)
            handler = handlers.get("GET" if request.method == "HEAD" else request.method)
            if handler is None:
                if handlers:
                    raise ScimError(405, f"{request.method} is not for this.")
                raise ScimError(404, "There is nothing here.")
            status, body = await handler(services, principal, _base(services, request), request)
        except ScimError as error:
            return _failed(error.status, error.detail, error.kind)
        except AdminError as error:
            return _failed(error.status, str(error), "uniqueness" if error.status == 409 else "")
        except StorageError as error:
            return _failed(503, str(error))
        return _answer(status, body)

    return endpoint


def _principal(services: Services, request: Request) -> Principal:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    principal = services.directory.principal(key_digest(key.strip())) if scheme.lower() == "bearer" else None
    if principal is None:
        raise ScimError(401, "This needs a key with the scope scim, as a bearer token.")
    if SCOPE not in principal.scopes:
        raise ScimError(403, "This key has no scope scim.")
    return principal


def _base(services: Services, request: Request) -> str:
    origin = services.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return origin.rstrip("/") + PREFIX


def _answer(status: int, body: dict[str, Any] | None) -> Response:
    headers = {"cache-control": "no-store"}
    if body is None:
        return Response(status_code=status, headers=headers)
    if status == 201:
        headers["location"] = body["meta"]["location"]
    return Response(encode(body), status, headers, media_type="application/scim+json")


def _failed(status: int, detail: str, kind: str = "") -> Response:
    body = {"schemas": [ERROR], "status": str(status), "detail": detail} | ({"scimType": kind} if kind else {})
    answer = _answer(status, body)
    if status == 401:
        answer.headers["www-authenticate"] = 'Bearer realm="scim"'
    return answer


async def _document(request: Request) -> Any:
    kind = request.headers.get("content-type", "application/scim+json").split(";")[0].strip().lower()
    if kind not in _TYPES:
        raise ScimError(415, "The body is to be application/scim+json.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _BODY_LIMIT:
            raise ScimError(413, f"The body is over {_BODY_LIMIT >> 20} MB.")
    try:
        return decode_json(bytes(body))
    except (DecodeError, RecursionError):
        raise ScimError(400, "The body is no JSON.", "invalidSyntax") from None


async def _query(request: Request) -> dict[str, str]:
    """Return what is asked of a list: the query, or the body of a SearchRequest (section 3.4.3), with lists joined."""
    if request.method != "POST":
        return dict(request.query_params)
    document = await _document(request)
    if not isinstance(document, dict):
        raise ScimError(400, "A search is a JSON object.", "invalidSyntax")
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in document.items()
    }


def _asked(query: Mapping[str, str]) -> Asked:
    """Return the question of a list; numbers out of range count as the nearest one that is (section 3.4.2.4)."""
    try:
        start, count = int(query.get("startIndex", "1")), int(query.get("count", "100"))
    except ValueError:
        raise ScimError(400, "startIndex and count are numbers.", "invalidValue") from None
    without = _names(query, "excludedAttributes")
    big = 1 << 31
    return Asked(query.get("filter", ""), max(1, min(start, big)), max(0, min(count, big)), "members" in without)


def _names(query: Mapping[str, str], name: str) -> set[str]:
    """Return the attributes that a part of the query names, in lower case and without their sub-attributes."""
    plain = (one.strip().rpartition(":")[2].partition(".")[0].lower() for one in query.get(name, "").split(","))
    return {one for one in plain if one}


def _shaped(query: Mapping[str, str], resource: dict[str, Any]) -> dict[str, Any]:
    """Return what of a resource `attributes` and `excludedAttributes` leave; `id` and `schemas` always stay."""
    wanted, without = _names(query, "attributes"), _names(query, "excludedAttributes")
    always = {"id", "schemas"}
    return {
        name: value
        for name, value in resource.items()
        if name in always or ((not wanted or name.lower() in wanted) and name.lower() not in without)
    }


def _shaped_list(query: Mapping[str, str], listed: dict[str, Any]) -> dict[str, Any]:
    return {**listed, "Resources": [_shaped(query, one) for one in listed["Resources"]]}


class _Kind(NamedTuple):
    """What can be done with resources of a kind."""

    listing: Operation[[str, Asked], dict[str, Any]]
    create: Operation[[str, Any], dict[str, Any]]
    read: Operation[[str, str], dict[str, Any]]
    replace: Operation[[str, str, Any], dict[str, Any]]
    patch: Operation[[str, str, Any], dict[str, Any]]
    delete: Operation[[str], None]


_USERS = _Kind(
    people.list_users,
    people.create_user,
    people.read_user,
    people.replace_user,
    people.patch_user,
    people.delete_user,
)
_GROUPS = _Kind(
    people.list_groups,
    people.create_group,
    people.read_group,
    people.replace_group,
    people.patch_group,
    people.delete_group,
)


def _of_kind(kind: _Kind, path: str) -> list[tuple[str, dict[str, Handler]]]:
    """Return the routes of a kind of resource."""

    async def listed(services: Services, principal: Principal, base: str, request: Request) -> Answer:
        query = await _query(request)
        return 200, _shaped_list(query, await kind.listing(services, principal, base, _asked(query)))

    async def created(services: Services, principal: Principal, base: str, request: Request) -> Answer:
        return 201, await kind.create(services, principal, base, await _document(request))

    async def one(services: Services, principal: Principal, base: str, request: Request) -> Answer:
        found = await kind.read(services, principal, base, request.path_params["id"])
        return 200, _shaped(request.query_params, found)

    async def written(services: Services, principal: Principal, base: str, request: Request) -> Answer:
        act = kind.replace if request.method == "PUT" else kind.patch
        return 200, await act(services, principal, base, request.path_params["id"], await _document(request))

    async def deleted(services: Services, principal: Principal, base: str, request: Request) -> Answer:
        await kind.delete(services, principal, request.path_params["id"])
        return 204, None

    return [
        (path, {"GET": listed, "POST": created}),
        (f"{path}/.search", {"POST": listed}),
        (f"{path}/{{id}}", {"GET": one, "PUT": written, "PATCH": written, "DELETE": deleted}),
    ]


async def _config(services: Services, principal: Principal, base: str, request: Request) -> Answer:
    return 200, service_provider(base)


async def _schemas(services: Services, principal: Principal, base: str, request: Request) -> Answer:
    return 200, _all(schemas(base))


async def _schema(services: Services, principal: Principal, base: str, request: Request) -> Answer:
    return 200, _named(schemas(base), request.path_params["id"])


async def _types(services: Services, principal: Principal, base: str, request: Request) -> Answer:
    return 200, _all(resource_types(base))


async def _type(services: Services, principal: Principal, base: str, request: Request) -> Answer:
    return 200, _named(resource_types(base), request.path_params["id"])


def _all(resources: list[dict[str, Any]]) -> dict[str, Any]:
    count = len(resources)
    return {"schemas": [LIST], "totalResults": count, "startIndex": 1, "itemsPerPage": count, "Resources": resources}


def _named(resources: list[dict[str, Any]], id: str) -> dict[str, Any]:
    for one in resources:
        if one["id"].lower() == id.lower():
            return one
    raise ScimError(404, f"There is no {id[:80]!r}.")
