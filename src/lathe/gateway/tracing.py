"""A span for each request, by OpenTelemetry's conventions for generative AI, sent by OTLP over HTTP.

The conventions are still in development; their names stand here and nowhere else. They are those of version 1.40
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans). What was asked and answered is never in a span.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lathe.gateway.limits import MICRO
from lathe.gateway.telemetry import Spans
from lathe.models.endpoint import parse_endpoint

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.gateway.upstreams import Upstream
    from lathe.store.gateway.ledger import Settled

_log = logging.getLogger(__name__)
_CLOSE_S = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SCHEMA = "https://opentelemetry.io/schemas/1.40.0"

# the standard's names
_OPERATION = "gen_ai.operation.name"
_PROVIDER = "gen_ai.provider.name"
_ASKED_MODEL = "gen_ai.request.model"
_SERVED_MODEL = "gen_ai.response.model"
_MOST_OUTPUT = "gen_ai.request.max_tokens"
_STREAMED = "gen_ai.request.stream"
_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
_INPUT = "gen_ai.usage.input_tokens"
_CACHED = "gen_ai.usage.cache_read.input_tokens"
_OUTPUT = "gen_ai.usage.output_tokens"
_ADDRESS = "server.address"
_PORT = "server.port"
_ERROR = "error.type"


def open_spans(environ: Mapping[str, str], replica: str) -> Spans | None:
    """Return where spans go, None where the environment names no place for them.

    The places, headers and time limits are those of OpenTelemetry's variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).
    """
    if not any(environ.get(name) for name in _ENDPOINTS) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    try:
        return _Otlp(environ, replica)
    except ImportError as error:
        _log.warning("No traces are sent: %s is missing. pip install 'lathe[telemetry]'", error.name)
        return None


class _Otlp:
    """Spans by OpenTelemetry's SDK, which sends many at a time from a thread of its own."""

    def __init__(self, environ: Mapping[str, str], replica: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from lathe import __version__

        named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        facts = {"service.instance.id": replica, "service.version": __version__}
        resource = Resource.create(facts if named else {"service.name": "lathe-gateway", **facts})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("lathe.gateway", __version__, schema_url=_SCHEMA)
        self._parent = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.CLIENT
        self._failed = Status(StatusCode.ERROR)
        self._servers: dict[str, dict[str, Any]] = {}

    def ended(self, exchange: Exchange, settled: Settled) -> None:
        """See `Spans.ended`."""
        headers = exchange.request.headers
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        span = self._tracer.start_span(
            f"chat {exchange.asked.model}",
            context=self._parent(carrier) if carrier else None,
            kind=self._kind,
            attributes=self._attributes(exchange, settled),
            start_time=exchange.asked.at * 1_000_000,
        )
        if settled.state != "done":
            span.set_status(self._failed)
        span.end(settled.ended * 1_000_000)

    def _attributes(self, exchange: Exchange, settled: Settled) -> dict[str, Any]:
        asked, decision, who = exchange.asked, exchange.decision, exchange.who
        said: dict[str, Any] = {
            _OPERATION: "chat",
            _ASKED_MODEL: asked.model,
            _STREAMED: exchange.head.stream,
            "lathe.request": exchange.id,
            "lathe.receipt": f"/v1/receipts/{exchange.id}",
            "lathe.wire": exchange.wire,
            "lathe.surface": asked.surface,
            "lathe.organisation": who.organisation,
            "lathe.project": exchange.project,
            "lathe.tier": decision.tier,
            "lathe.decision": decision.clause,
            "lathe.outcome": settled.state,
            "lathe.policy": decision.policy,
            "lathe.status": settled.status,
        }
        if exchange.head.max_output_tokens is not None:
            said[_MOST_OUTPUT] = exchange.head.max_output_tokens
        if settled.served:
            said |= {_SERVED_MODEL: settled.served, "lathe.cost": settled.cost / MICRO}
            said |= {_INPUT: settled.input_tokens, _OUTPUT: settled.output_tokens, _CACHED: settled.cached_tokens}
        if exchange.head.stream and exchange.first_byte:
            said[_FIRST_CHUNK] = exchange.first_byte - exchange.began
        if decision.substitution:
            said["lathe.substitution"] = decision.substitution
        if settled.code:
            said[_ERROR] = settled.code
        return said | self._server(exchange.upstream)

    def _server(self, upstream: Upstream | None) -> dict[str, Any]:
        if upstream is None:
            return {_PROVIDER: "lathe"}
        known = self._servers.get(upstream.name)
        if known is None:
            endpoint = parse_endpoint(upstream.provider.base_url)
            known = {_PROVIDER: upstream.name, _ADDRESS: endpoint.host, _PORT: endpoint.port}
            self._servers[upstream.name] = known
        return known

    async def aclose(self) -> None:
        """See `Spans.aclose`."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.to_thread(self._provider.shutdown)
        except TimeoutError:
            _log.warning("The last spans could not be sent within %g s.", _CLOSE_S)
