"""What a replica counts of its requests, and the one place that the relay tells of them.

The counts are plain numbers, one object for each combination of labels that has occurred: what the hot path pays for
them is a few additions. `metrics` shows them to Prometheus; `tracing` makes spans of the same requests.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.store.gateway.ledger import Settled

FIRST_BYTE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WHOLE_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histograms, in seconds."""
LIMITS = ("rate_limit", "concurrency_limit", "budget_exhausted", "queue_timeout")
"""Codes of refusals by limits of the gateway's own."""
_MOST_SERIES = 2000
_OTHER = "other"


class Histogram:
    """Counts of values up to each of `bounds` (not cumulated; the last is of those beyond), and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Asked(NamedTuple):
    """The labels of requests: `model` is "" where no model of the gateway's was found, `code` where nothing failed."""

    wire: str
    model: str
    outcome: str
    code: str


class Use:
    """What requests of a wire to a model came to; `cost` is micro-dollars."""

    __slots__ = ("cached_tokens", "cost", "first_byte", "input_tokens", "output_tokens", "whole")

    def __init__(self) -> None:
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.cost = 0
        self.first_byte = Histogram(FIRST_BYTE_S)
        self.whole = Histogram(WHOLE_S)


class Spans(Protocol):
    """Where spans of requests go."""

    def ended(self, exchange: Exchange, settled: Settled) -> None:
        """Make a span of a request that has ended."""
        ...

    async def aclose(self) -> None:
        """Send what waits."""
        ...


class Telemetry:
    """One replica's counts since it began. `spans` is None where no traces are made."""

    def __init__(self, spans: Spans | None = None) -> None:
        self.requests: dict[Asked, int] = {}
        self.uses: dict[tuple[str, str], Use] = {}
        self.limits: dict[str, int] = dict.fromkeys(LIMITS, 0)
        self.decisions: dict[tuple[str, str], int] = {}
        self._spans = spans

    def ended(self, exchange: Exchange, settled: Settled) -> None:
        """Count a request that ends with the record `settled`."""
        known = exchange.info is not None  # else the model is whatever the caller wrote
        self._count(exchange.wire, exchange.decision.model if known else "", settled.state, settled.code)
        if known:
            self._use(exchange, settled)
        for one in exchange.guarded.judged if exchange.guarded is not None else ():
            self.decisions[one.step, one.clause] = self.decisions.get((one.step, one.clause), 0) + 1
        if self._spans is not None:
            self._spans.ended(exchange, settled)

    def turned_away(self, wire: str, code: str) -> None:
        """Count a request that was refused before it was on record."""
        self._count(wire, "", "turned_away", code)

    def _count(self, wire: str, model: str, outcome: str, code: str) -> None:
        asked = Asked(wire, model, outcome, code)
        count = self.requests.get(asked)
        if count is None:
            if len(self.requests) >= _MOST_SERIES:  # codes may be an upstream's, and as many as it likes
                asked = asked._replace(code=_OTHER)
            count = self.requests.get(asked, 0)
        self.requests[asked] = count + 1
        if code in self.limits:
            self.limits[code] += 1

    def _use(self, exchange: Exchange, settled: Settled) -> None:
        key = (exchange.wire, exchange.decision.model)
        use = self.uses.get(key)
        if use is None:
            use = self.uses[key] = Use()
        now = time.perf_counter()
        if settled.state == "done":
            use.first_byte.add((exchange.first_byte or now) - exchange.began)
        use.whole.add(now - exchange.began)
        use.input_tokens += settled.input_tokens
        use.cached_tokens += settled.cached_tokens
        use.output_tokens += settled.output_tokens
        use.cost += settled.cost

    async def aclose(self) -> None:
        """Send what waits to be sent."""
        if self._spans is not None:
            await self._spans.aclose()
