"""Who serves the models: each upstream's address and wires, whether it is well, and in which order to ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lathe.gateway.queueing import Turns
from lathe.gateway.settings import GatewaySettings, ModelTable, RouteTable, UpstreamTable
from lathe.gateway.upstream_http import UpstreamAnswer, UpstreamHttp
from lathe.models.catalogue import ModelInfo, find_model, quirks_of
from lathe.models.client import WireClient, make_wire, own_headers, target_of
from lathe.models.endpoint import header_lines, parse_endpoint
from lathe.models.http import Fragment, Headers, TransportError
from lathe.models.provider import Provider, WireName, key_of, make_provider
from lathe.models.retry import EndpointError, Failure, RetryPolicy
from lathe.models.wire import WireSetup

MEND = "mend"
_FAILURES = 5
_TELL_S = 60.0
_log = logging.getLogger(__name__)
_SHUT_S = (5.0, 10.0, 20.0, 40.0, 60.0)
_HEALTH_S = 5.0
_NONE: frozenset[str] = frozenset()

State: TypeAlias = Literal["closed", "open", "half-open"]


class Breaker:
    """Keeps requests away from an upstream that fails: after five failures in a row, for a time that grows."""

    def __init__(self) -> None:
        self._failures = 0
        self._shut = 0
        self._until = 0.0

    @property
    def state(self) -> State:
        """`open` lets nothing through, `half-open` one request that tries."""
        if self._shut == 0:
            return "closed"
        return "open" if time.monotonic() < self._until else "half-open"

    def good(self) -> None:
        """Say that a request has been answered."""
        self._failures = self._shut = 0

    def bad(self) -> None:
        """Say that one has failed in a way that says something of the upstream."""
        self._failures += 1
        if self._failures >= _FAILURES or self._shut:
            self._until = time.monotonic() + _SHUT_S[min(self._shut, len(_SHUT_S) - 1)]
            self._shut += 1


class Target(NamedTuple):
    """How one wire of an upstream is asked."""

    path: str
    headers: Headers


class Upstream:
    """One endpoint."""

    def __init__(self, name: str, table: UpstreamTable, environ: Mapping[str, str]) -> None:
        given = {"base_url": table.base_url} if table.base_url else {}
        if table.key_env is not None:
            given["key_env"] = table.key_env
        tables = {"headers": table.headers, "query": table.query, "quirks": table.quirks}
        provider = make_provider(name, {**given, **{key: value for key, value in tables.items() if value}})
        self.name = name
        self.provider: Provider = provider
        self.wires: tuple[WireName, ...] = table.wires or (provider.wire,)
        self.breaker = Breaker()
        self._told = -math.inf
        self.turns = Turns(table.concurrent)
        self.tells_usage = quirks_of(provider.quirks).stream_usage
        self._key = key_of(provider, environ)
        self._environ = environ
        endpoint = parse_endpoint(provider.base_url)
        self._base = endpoint.path
        self._http = UpstreamHttp(
            endpoint, environ, connect_timeout_s=table.connect_timeout_s, idle_timeout_s=table.idle_timeout_s
        )
        self._own = own_headers(provider.headers, environ)
        self._targets = {wire: self._target(wire) for wire in self.wires}
        self._health = self._base + (table.health or self._models_path())

    def client(self, wire: WireName, model: ModelInfo) -> WireClient:
        """Return what asks this upstream in one of its wires, once."""
        provider = msgspec.structs.replace(self.provider, wire=wire)
        return WireClient(
            provider, model, key=self._key, environ=self._environ, http=self._http, retry=RetryPolicy(attempts=0)
        )

    def count(self, failure: Failure) -> None:
        """Count a failure that says something of the upstream, and not of the request; tell who runs the gateway."""
        if not isinstance(failure, EndpointError):
            self._tell(str(failure))
        elif failure.status in (401, 403):
            self._tell(f"it refuses the gateway's key (HTTP {failure.status})")
            return
        elif failure.status is not None and failure.status < 500:
            return
        else:
            self._tell(f"HTTP {failure.status}" if failure.status else "an error in its answer")
        self.breaker.bad()

    def _tell(self, what: str) -> None:
        """Log, once a minute at most; what an endpoint says itself may repeat what it was asked, and stays out."""
        now = time.monotonic()
        if now - self._told > _TELL_S:
            self._told = now
            _log.warning("The upstream %s fails: %s", self.name, what)

    def redacted(self, failure: Failure) -> Failure:
        """Return a failure without the gateway's own key, which some endpoints repeat in their errors."""
        if isinstance(failure, EndpointError) and len(self._key) >= 4:
            failure.message = failure.message.replace(self._key, "***")
            failure.code = failure.code.replace(self._key, "***")
        return failure

    def _models_path(self) -> str:
        return "/models" if self._base.endswith("/v1") else "/v1/models"

    def _target(self, name: WireName) -> Target:
        quirks = quirks_of(self.provider.quirks)
        wire = make_wire(name, WireSetup(ModelInfo(name=""), quirks, self._key))
        own = {header for header, _ in self._own}
        lines = [(header, value) for header, value in wire.auth() if header not in own]
        common = [("content-type", "application/json"), ("user-agent", "lathe")]
        return Target(
            target_of(self._base, wire.path, self.provider.query), header_lines([*common, *lines, *self._own])
        )

    async def post(self, wire: WireName, fragments: Sequence[Fragment], more: Headers = ()) -> UpstreamAnswer:
        """Send a request; raise `TransportError`."""
        target = self._targets[wire]
        return await self._http.post(target.path, [*target.headers, *more] if more else target.headers, fragments)

    async def post_beside(self, wire: WireName, suffix: str, body: bytes, more: Headers = ()) -> UpstreamAnswer:
        """Send a request to a path below that of a wire (`/count_tokens`); raise `TransportError`."""
        target = self._targets[wire]
        path, question, query = target.path.partition("?")
        return await self._http.post(f"{path}{suffix}{question}{query}", [*target.headers, *more], [body])

    async def is_well(self) -> bool:
        """Ask whether the endpoint answers at all."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                answer = await self._http.get(self._health, self._targets[self.wires[0]].headers)
        except (TransportError, TimeoutError):
            return False
        answer.abort()
        return answer.status < 500

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._http.aclose()


class Route(NamedTuple):
    """A model at an upstream. `upstream` is None for the embedded engine."""

    upstream: Upstream | None
    model: str
    info: ModelInfo


class Served(NamedTuple):
    """A model that the gateway serves."""

    name: str
    table: ModelTable
    info: ModelInfo
    routes: tuple[Route, ...]


class Upstreams:
    """All upstreams and models of the settings; raises `ConfigError` and `ModelRejected` (no key)."""

    def __init__(self, settings: GatewaySettings, environ: Mapping[str, str]) -> None:
        self.all = {name: Upstream(name, table, environ) for name, table in settings.upstreams.items()}
        self.models: dict[str, Served] = {}
        self.names: dict[str, str] = {}
        for name, table in settings.models.items():
            self._add(name, table)
        if settings.mend and MEND not in self.models:
            self._add(MEND, ModelTable(routes=(MEND,), price=None))

    def _add(self, name: str, table: ModelTable) -> None:
        routes = []
        for entry in table.routes:
            route = RouteTable(entry) if isinstance(entry, str) else entry
            called = route.model or name
            routes.append(Route(self.all.get(route.upstream), called, _info(called, table)))
        self.models[name] = Served(name, table, _info(name, table), tuple(routes))
        for known_as in (name, *table.aliases):
            self.names[known_as] = name

    def order(self, served: Served) -> list[Route]:
        """Return the routes to a model in the order to try them; those to upstreams that are shut come last."""
        shut = [one for one in served.routes if one.upstream is not None and one.upstream.breaker.state == "open"]
        return [one for one in served.routes if one not in shut] + shut

    def down(self) -> frozenset[str]:
        """Return the models of which every upstream is shut."""
        shut = {one.name for one in self.all.values() if one.breaker.state == "open"}
        if not shut:
            return _NONE
        return frozenset(
            name
            for name, served in self.models.items()
            if all(route.upstream is not None and route.upstream.name in shut for route in served.routes)
        )

    async def watch(self) -> None:
        """Look after upstreams that are shut until cancelled: one that answers again is asked again."""
        while True:
            await asyncio.sleep(_HEALTH_S)
            for one in self.all.values():
                if one.breaker.state != "closed" and await one.is_well():
                    one.breaker.good()

    async def aclose(self) -> None:
        """Close the idle connections of all."""
        for one in self.all.values():
            with contextlib.suppress(OSError):
                await one.aclose()


def _info(name: str, table: ModelTable) -> ModelInfo:
    own: dict[str, object] = {}
    if table.context_window is not None:
        own["context_window"] = table.context_window
    if table.max_output_tokens is not None:
        own["max_output_tokens"] = table.max_output_tokens
    if table.quirks:
        own["quirks"] = table.quirks
    if table.price is not None:
        price = table.price
        own["price"] = {"input": price.input, "output": price.output, "cached_input": price.cached_input}
        own["long_price"] = own["long_from"] = None
    return find_model(name, {name: own} if own else None)
