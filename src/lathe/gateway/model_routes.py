"""What the model APIs have beside asking a model: lists, token counts, stored responses, compaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from lathe.gateway.compacting import Captured, compacted, handover, request_for_summary, text_of
from lathe.gateway.dialects import DIALECTS, BadRequest, estimate_tokens
from lathe.gateway.dialects.fields import read_fields, rewritten
from lathe.gateway.exchange import Request as Asking
from lathe.gateway.principals import Principal
from lathe.gateway.relay import RELAY, Refused, Relay
from lathe.gateway.remembering import Stored
from lathe.gateway.safeguards import shown
from lathe.gateway.serving import post_beside, read_all
from lathe.gateway.upstreams import Served
from lathe.models.http import TransportError
from lathe.models.provider import WireName
from lathe.models.retry import EndpointError
from lathe.protocol.errors import StorageError

Handler: TypeAlias = Callable[[Request, Principal], Awaitable[Response]]
_CREATED = 1_760_000_000


def model_routes(relay: Relay) -> list[BaseRoute]:
    """Return the routes; each is also there without `/v1`."""
    routes = _Routes(relay)
    table: list[tuple[str, str, WireName, Handler]] = [
        ("GET", "/models", "chat", routes.models),
        ("GET", "/models/{model:path}", "chat", routes.model),
        ("POST", "/messages/count_tokens", "messages", routes.count_tokens),
        ("POST", "/responses/compact", "responses", routes.compact),
        ("GET", "/responses/{id}", "responses", routes.response),
        ("DELETE", "/responses/{id}", "responses", routes.delete_response),
        ("GET", "/responses/{id}/input_items", "responses", routes.input_items),
    ]
    return [
        Route(prefix + path, guarded(relay, wire, handler), methods=[method])
        for method, path, wire, handler in table
        for prefix in ("/v1", "")
    ]


def guarded(
    relay: Relay, wire: WireName, handler: Handler, scopes: frozenset[str] = RELAY
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for callers with a key that has one of `scopes`; errors are in the words of `wire`."""

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        spoken: WireName = "messages" if "anthropic-version" in request.headers else wire
        try:
            return await handler(request, await relay.principal(dict(request.headers.raw), scopes))
        except Refused as refused:
            error = refused
        except BadRequest as bad:
            error = Refused(bad.status, bad.code, bad.message, param=bad.param)
        except StorageError as lost:
            error = Refused(503, "records_unavailable", str(lost), retry_after_s=2)
        lines = {"retry-after": str(max(1, round(error.retry_after_s)))} if error.retry_after_s else {}
        body = DIALECTS[spoken].error(error.status, error.code, error.message, param=error.param)
        return Response(body, error.status, lines, media_type="application/json")

    return endpoint


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class _Routes:
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    # Models.

    def _shown(self, served: Served, who: Principal, request: Request) -> dict[str, Any]:
        asked = self._relay.asked_of(who, dict(request.headers.raw), served.name)
        decision = self._relay.decide(who, asked)
        own: dict[str, Any] = {"open": decision.outcome == "serve", "tier": decision.tier}
        if decision.outcome == "refuse":
            own |= {"code": decision.code, "message": decision.message, **decision.details}
        if (safeguards := self._relay.safeguards(served.name)) is not None:
            own["safeguards"] = shown(safeguards)
        info = served.info
        if info.known:
            own |= {"context_window": info.context_window, "max_output_tokens": info.max_output_tokens}
        if info.price is not None:
            own["usd_per_million_tokens"] = {"input": info.price.input, "output": info.price.output}
        if "anthropic-version" in request.headers:
            return {
                "type": "model",
                "id": served.name,
                "display_name": served.name,
                "created_at": "2025-10-09T08:53:20Z",
                "lathe": own,
            }
        return {"id": served.name, "object": "model", "created": _CREATED, "owned_by": "lathe", "lathe": own}

    async def models(self, request: Request, who: Principal) -> Response:
        shown = [self._shown(served, who, request) for served in self._relay.upstreams.models.values()]
        if "anthropic-version" in request.headers:
            ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
            return _json({"data": shown, "has_more": False, **ends})
        return _json({"object": "list", "data": shown})

    async def model(self, request: Request, who: Principal) -> Response:
        name = self._relay.upstreams.names.get(request.path_params["model"], "")
        served = self._relay.upstreams.models.get(name)
        if served is None:
            raise Refused(404, "model_unknown", f"There is no model {request.path_params['model']!r} here.")
        return _json(self._shown(served, who, request))

    # Token counts.

    async def count_tokens(self, request: Request, who: Principal) -> Response:
        body = await self._body(request)
        fields = read_fields(body)
        served, _ = self._served(request, who, fields)
        for route in self._relay.upstreams.order(served):
            if route.upstream is None or "messages" not in route.upstream.wires:
                continue
            changed = rewritten(body, fields, {"model": msgspec.json.encode(route.model), "lathe": None})
            try:
                answer = await post_beside(route.upstream, "messages", "/count_tokens", changed, request.headers.raw)
                return Response(await read_all(answer, 1 << 20), answer.status, media_type="application/json")
            except (EndpointError, TransportError):
                continue  # not every server has it
        return _json({"input_tokens": estimate_tokens(body, fields), "lathe": {"estimated": True}})

    # Stored responses.

    async def _stored(self, request: Request, who: Principal) -> Stored:
        found = await self._relay.remembering.find(who.project, request.path_params["id"])
        if found is None:
            raise Refused(404, "not_found", f"There is no response {request.path_params['id']!r} here.")
        return found

    async def response(self, request: Request, who: Principal) -> Response:
        return Response(bytes((await self._stored(request, who)).answer), media_type="application/json")

    async def input_items(self, request: Request, who: Principal) -> Response:
        items = list(reversed((await self._stored(request, who)).input))
        return _json({"object": "list", "data": items, "has_more": False, "first_id": None, "last_id": None})

    async def delete_response(self, request: Request, who: Principal) -> Response:
        id = request.path_params["id"]
        if not await self._relay.remembering.forget(who.project, id):
            raise Refused(404, "not_found", f"There is no response {id!r} here.")
        return _json({"id": id, "object": "response", "deleted": True})

    # Compaction.

    async def compact(self, request: Request, who: Principal) -> Response:
        body = await self._body(request)
        headers = dict(request.headers.raw)
        prepared = await self._relay.remembering.prepare(
            Asking(who, "responses", headers, body), DIALECTS["responses"].head(body), self._relay.retention(who)
        )
        body = prepared[0].body
        if self._relay.guard is not None:
            body = self._relay.guard.cleaned(who.project, "responses", body)
        fields = read_fields(body)
        served, name = self._served(request, who, fields)
        for route in self._relay.upstreams.order(served):
            if route.upstream is None or "responses" not in route.upstream.wires:
                continue
            changed = rewritten(body, fields, {"model": msgspec.json.encode(route.model), "lathe": None})
            try:
                answer = await post_beside(route.upstream, "responses", "/compact", changed)
                return Response(await read_all(answer, 64 << 20), answer.status, media_type="application/json")
            except (EndpointError, TransportError):
                continue  # only OpenAI's own has it
        return await self._compact_here(Asking(who, "responses", headers, body), name)

    async def _compact_here(self, asking: Asking, name: str) -> Response:
        given: Any = msgspec.json.decode(asking.body)
        items = given.get("input") or []
        if not isinstance(items, list):
            items = [{"role": "user", "content": str(items)}]
        asked = msgspec.json.encode(request_for_summary({**given, "model": name}, items))
        sink = Captured()
        await self._relay.relay(asking._replace(body=asked), sink)
        if sink.status != 200:
            return Response(sink.body, sink.status, media_type="application/json")
        answer: Any = msgspec.json.decode(sink.body)
        sealed = self._relay.sealer.seal(asking.who.project, handover(text_of(answer)))
        response = _json(compacted(items, answer, sealed))
        response.raw_headers += [line for line in sink.lines if line[0].startswith((b"lathe-", b"x-request"))]
        return response

    # What they share.

    async def _body(self, request: Request) -> bytes:
        return await self._relay.body_of(request.scope, request.receive)

    def _served(self, request: Request, who: Principal, fields: Any) -> tuple[Served, str]:
        """Return the model that a body names, if the caller may use it now; raise `Refused` and `BadRequest`."""
        try:
            name = msgspec.json.decode(fields["model"].raw, type=str)
        except (KeyError, msgspec.DecodeError):
            raise BadRequest("model_missing", "The request names no model.", param="model") from None
        decision = self._relay.decide(who, self._relay.asked_of(who, dict(request.headers.raw), name))
        if decision.outcome == "refuse":
            raise Refused(decision.status, decision.code, decision.message, extra=dict(decision.details))
        return self._relay.upstreams.models[decision.model], name
