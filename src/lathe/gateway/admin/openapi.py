"""The OpenAPI 3.1 document of the gateway, made from the table of routes and the structs of what is said."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from lathe import __version__
from lathe.gateway.admin.faults import KINDS
from lathe.gateway.admin.table import AUDIT_EXPORT, PUBLIC_KEYS, REPORT, TABLE, Entry

_COMPONENTS = "#/components/schemas/{name}"
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}


class Told(msgspec.Struct, frozen=True):
    """What went wrong: its kind, a stable code, a sentence, and what to do next."""

    type: str
    code: str
    message: str
    hint: str


class Failure(msgspec.Struct, frozen=True):
    """The body of every error."""

    error: Told


def document(more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document; `more` are path items of other parts of the gateway."""
    return {**_own(), "paths": {**_own()["paths"], **more}}


@functools.cache
def _own() -> dict[str, Any]:
    kinds: list[Any] = [Failure]
    for entry in TABLE:
        kinds += [kind for kind in (entry.asked, entry.answer) if kind is not None]
    # one kind may stand in the list once only
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_COMPONENTS)
    by_kind = dict(zip(unique, schemas, strict=True))
    paths: dict[str, Any] = {}
    for entry in TABLE:
        paths.setdefault(entry.path, {})[entry.method.lower()] = _operation(entry, by_kind, components)
    paths[AUDIT_EXPORT] = {"get": _plain("export_audit", "Export the whole audit.", "application/x-ndjson")}
    paths[PUBLIC_KEYS] = {"get": _plain("public_keys", "The public keys.", "application/jwk-set+json", secured=False)}
    paths[REPORT] = {
        "get": _plain("guard_report", "What the guard does, in numbers.", "application/json", secured=False)
    }
    paths["/openapi.json"] = {"get": _plain("openapi", "This document.", "application/json", secured=False)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lathe gateway", "version": __version__, "summary": "Administration and trusted access."},
        "security": [{"key": []}, {"header": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(entry: Entry, by_kind: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    asked = entry.asked
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _ID} for name in entry.parameters
    ]
    found: dict[str, Any] = {
        "operationId": f"{entry.operation.name}{'' if entry.needs_scope else '_own'}",
        "summary": (entry.operation.__doc__ or "").strip(),
        "x-lathe-roles": sorted(entry.operation.roles),
    }
    if asked is not None and entry.method == "GET":
        schema = components[by_kind[asked]["$ref"].rsplit("/", 1)[1]]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": one}
            for name, one in schema["properties"].items()
        ]
    elif asked is not None:
        content = {"application/json": {"schema": by_kind[asked]}}
        required = bool(components[by_kind[asked]["$ref"].rsplit("/", 1)[1]].get("required"))
        found["requestBody"] = {"required": required, "content": content}
    if parameters:
        found["parameters"] = parameters
    answer = {"application/json": {"schema": by_kind[entry.answer]}}
    statuses = [400, 401, 403, 405, 503, *([404] if entry.parameters or asked else [])]
    if entry.method != "GET":
        statuses += [404, 408, 409, 413, 415]
    found["responses"] = {
        str(entry.status): {"description": "Done.", "content": answer},
        **{str(status): _failure(status) for status in sorted(set(statuses))},
    }
    return found


def _plain(name: str, summary: str, media_type: str, *, secured: bool = True) -> dict[str, Any]:
    schema = {"type": "object"} if media_type.endswith("json") and "x-nd" not in media_type else {"type": "string"}
    statuses = (401, 403, 405, 503) if secured else (405, 503)
    return {
        "operationId": name,
        "summary": summary,
        **({} if secured else {"security": []}),
        "responses": {
            "200": {"description": "Done.", "content": {media_type: {"schema": schema}}},
            **{str(status): _failure(status) for status in statuses},
        },
    }


def _failure(status: int) -> dict[str, Any]:
    schema = {"$ref": _COMPONENTS.format(name="Failure")}
    return {"description": KINDS[status], "content": {"application/json": {"schema": schema}}}
