"""`/metrics`: what a replica counts, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lathe.gateway.limits import MICRO
from lathe.gateway.relay import Refused
from lathe.gateway.telemetry import Histogram

if TYPE_CHECKING:
    from lathe.gateway.application import Gateway

_STATES = ("closed", "half-open", "open")


def metrics_route(gateway: Gateway) -> Route:
    """Return the route."""
    made: list[Any] = []

    async def metrics(request: Request) -> Response:
        if not gateway.settings.metrics.open:
            try:
                await _may_read(gateway, request)
            except Refused as refused:
                return Response(f"{refused.message}\n", refused.status, media_type="text/plain")
        if not made:
            await asyncio.to_thread(importlib.import_module, "prometheus_client")
            made[:] = made or [_registry(gateway)]
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(made[0]), headers={"content-type": kind})

    return Route("/metrics", metrics, methods=["GET"])


async def _may_read(gateway: Gateway, request: Request) -> None:
    """Raise `Refused` where a key may not read what concerns the whole installation."""
    who = await gateway.relay.holder(dict(request.headers.raw))
    over_all = who.roles & {"operator", "auditor"}
    if "metrics" not in who.scopes and not ("admin" in who.scopes and over_all):
        message = "The key may not read metrics: it lacks the scope `metrics`, and is no operator's or auditor's."
        raise Refused(403, "key_scope", message)


def _registry(gateway: Gateway) -> Any:
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(gateway))
    ProcessCollector(registry=registry)
    return registry


class _Collector:
    """Reads the gateway anew each time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Any]:
        """Yield all metrics but those of the process."""
        yield from self._requests()
        yield from self._upstreams()
        yield from self._replica()

    def _requests(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        telemetry = self._gateway.relay.telemetry
        found = CounterMetricFamily(
            "lathe_gateway_requests",
            "Requests that have ended, by the state of their record; turned_away: refused before there was one.",
            labels=["wire", "model", "outcome", "code"],
        )
        for asked, count in list(telemetry.requests.items()):
            found.add_metric(asked, count)
        yield found
        found = CounterMetricFamily(
            "lathe_gateway_limits_reached", "Requests that a limit of the gateway's own refused.", labels=["code"]
        )
        for code, count in telemetry.limits.items():
            found.add_metric([code], count)
        yield found
        found = CounterMetricFamily(
            "lathe_gateway_guard_decisions",
            "Decisions of the guard that are on record, by what followed and by which clause or failing monitor.",
            labels=["step", "clause"],
        )
        for (step, clause), count in list(telemetry.decisions.items()):
            found.add_metric([step, clause], count)
        yield found
        found = CounterMetricFamily(
            "lathe_gateway_guard_shadow",
            "Situations, by what followed and by what would have followed under the policy that is tried.",
            labels=["step", "would"],
        )
        guard: Any = self._gateway.relay.guard
        shadow = guard.shadow if guard is not None else None
        for (step, would), count in list(shadow.counts.items()) if shadow is not None else ():
            found.add_metric([step, would], count)
        yield found
        tokens = CounterMetricFamily(
            "lathe_gateway_tokens", "Tokens; cached_input is a part of input.", labels=["wire", "model", "kind"]
        )
        cost = CounterMetricFamily(
            "lathe_gateway_cost_usd", "What requests cost their callers, in US dollars.", labels=["wire", "model"]
        )
        first = HistogramMetricFamily(
            "lathe_gateway_first_byte_seconds",
            "From the request to the first byte of its answer, of those that were answered.",
            labels=["wire", "model"],
        )
        whole = HistogramMetricFamily(
            "lathe_gateway_request_seconds", "From the request to the end of its answer.", labels=["wire", "model"]
        )
        for (wire, model), use in list(telemetry.uses.items()):
            kinds = {"input": use.input_tokens, "cached_input": use.cached_tokens, "output": use.output_tokens}
            for kind, count in kinds.items():
                tokens.add_metric([wire, model, kind], count)
            cost.add_metric([wire, model], use.cost / MICRO)
            first.add_metric([wire, model], list(_cumulated(use.first_byte)), use.first_byte.sum)
            whole.add_metric([wire, model], list(_cumulated(use.whole)), use.whole.sum)
        yield from (tokens, cost, first, whole)

    def _upstreams(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        state = GaugeMetricFamily(
            "lathe_gateway_upstream_state",
            "1 for the state that the breaker of an upstream is in.",
            labels=["upstream", "state"],
        )
        running = GaugeMetricFamily(
            "lathe_gateway_upstream_running", "Requests that an upstream works on.", labels=["upstream"]
        )
        waiting = GaugeMetricFamily(
            "lathe_gateway_upstream_waiting",
            "Requests that wait for their turn at an upstream; idle are those of batches.",
            labels=["upstream", "kind"],
        )
        for name, upstream in self._gateway.relay.upstreams.all.items():
            for one in _STATES:
                state.add_metric([name, one], float(upstream.breaker.state == one))
            running.add_metric([name], upstream.turns.running)
            waiting.add_metric([name, "interactive"], upstream.turns.waiting)
            waiting.add_metric([name, "idle"], upstream.turns.idle)
        yield from (state, running, waiting)

    def _replica(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        from lathe import __version__

        gateway = self._gateway
        records = gateway.relay.records
        values = {
            "records_waiting": ("Records that wait to be written.", records.waiting),
            "records_healthy": ("1 while the database takes records.", float(records.healthy)),
            "directory_age_seconds": (
                "How long ago what is known of keys and access was known to be all; past 2 s requests are refused.",
                gateway.services.directory.age_s,
            ),
            "replicas_alive": ("Replicas that this one knows to live, itself included.", gateway.replica.alive),
            "batch_lines_running": ("Lines of batches that this replica has under way.", gateway.runner.running),
        }
        yield InfoMetricFamily(
            "lathe_gateway", "This replica.", {"version": __version__, "replica": gateway.services.replica}
        )
        for name, (words, value) in values.items():
            yield GaugeMetricFamily(f"lathe_gateway_{name}", words, value)


def _cumulated(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Yield a histogram's buckets: upper bound, and how many values are no larger."""
    total = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        yield bound, total
