"""An answer from an upstream of another wire, or from the embedded engine: through items and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lathe.gateway.dialects import BadRequest

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.gateway.front import Sink
    from lathe.gateway.relay import Relay
    from lathe.gateway.serving import Answered
    from lathe.gateway.upstreams import Route


async def translate(relay: Relay, exchange: Exchange, sink: Sink, route: Route) -> Answered:
    """Pass an answer on but for its end; raise `EndpointError`, `BrokenStream`, `TransportError` and `BadRequest`."""
    raise BadRequest("wire_unsupported", f"{route.model} is not served in {exchange.wire} yet.")
