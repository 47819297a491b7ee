"""An answer from an upstream of another wire, or from the embedded engine: through items and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from lathe.gateway.dialects import DIALECTS, Inbound, Writer
from lathe.gateway.front import JSON, STREAM, Lines, Sink
from lathe.gateway.serving import Answered, post, response_in, returned
from lathe.models.base import Completed, ItemDone, ModelPart
from lathe.models.http import TransportError
from lathe.models.provider import WireName
from lathe.models.retry import BrokenStream, EndpointError
from lathe.models.sse import SseOverflow, SseParser
from lathe.models.wire import CallIds, StreamDecoder

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.gateway.relay import Relay
    from lathe.gateway.upstream_http import UpstreamAnswer
    from lathe.gateway.upstreams import Route, Upstream

_EVENT_STREAM = [(b"accept", b"text/event-stream")]


async def translate(relay: Relay, exchange: Exchange, sink: Sink, route: Route) -> Answered:
    """Pass an answer on but for its end; raise `EndpointError`, `BrokenStream`, `TransportError` and `BadRequest`."""
    dialect = DIALECTS[exchange.wire]
    inbound = dialect.parse(exchange.request.body, exchange.head)
    upstream = route.upstream
    if upstream is None:
        writer = _writer(exchange, inbound, "responses")
        from lathe.mend.policy import MendModel

        async with aclosing(_settled(inbound, MendModel().stream(inbound.request))) as parts:
            return await _pass(relay, exchange, sink, _Translation(writer, parts))
    wire = upstream.wires[0]
    dialect.check_carried(inbound, wire)
    async with upstream.turns.turn(exchange.project, relay.queue_timeout_s, idle=exchange.asked.surface == "batch"):
        encoder = upstream.wire(wire, route.info)
        body = b"".join(encoder.encode(inbound.request))
        answer = await post(upstream, wire, body, _EVENT_STREAM)
        writer = _writer(exchange, inbound, wire)
        try:
            decoded = _decoded(upstream, encoder.decoder(inbound.request), answer)
            async with aclosing(_settled(inbound, decoded)) as parts:
                return await _pass(relay, exchange, sink, _Translation(writer, parts, returned(answer)))
        finally:
            answer.abort()


def _writer(exchange: Exchange, inbound: Inbound, wire: WireName) -> Writer:
    dialect = DIALECTS[exchange.wire]
    id = dialect.response_id(exchange.id.rpartition("_")[2])
    return dialect.writer(inbound, id, exchange.decision.model, wire)


async def _decoded(
    upstream: Upstream, decoder: StreamDecoder, answer: UpstreamAnswer
) -> AsyncGenerator[ModelPart, None]:
    """Yield the parts of an upstream's stream; raise what is wrong with it."""
    parser = SseParser()
    try:
        while chunk := await answer.next():
            for event in parser.feed(chunk):
                for part in decoder.feed(event):
                    yield part
                if decoder.finished:
                    answer.release()
                    return
    except SseOverflow as error:
        raise BrokenStream(str(error)) from None
    except TransportError:
        upstream.breaker.bad()
        raise
    for part in decoder.close():
        yield part


async def _settled(inbound: Inbound, parts: AsyncIterator[ModelPart]) -> AsyncGenerator[ModelPart, None]:
    """Yield parts whose calls have ids that are not taken."""
    ids = CallIds()
    ids.begin(inbound.request.transcript)
    async for part in parts:
        yield ItemDone(ids.settle(part.item)) if isinstance(part, ItemDone) else part


class _Translation(NamedTuple):
    """What writes the answer, the parts that it writes, and headers of the upstream's that come back."""

    writer: Writer
    parts: AsyncGenerator[ModelPart, None]
    lines: Lines = ()


async def _pass(relay: Relay, exchange: Exchange, sink: Sink, translation: _Translation) -> Answered:
    writer, parts, lines = translation
    if not exchange.head.stream:
        found = [part async for part in parts]
        exchange.served = exchange.decision.model
        for part in found:
            _take(exchange, part)
        body = writer.whole(found, relay.extension(exchange))
        return Answered("done", 200, "", body, [JSON, *lines], body)
    kept: list[bytes] = []
    try:
        async for part in parts:
            _take(exchange, part)
            if not sink.started:
                await relay.on_record(exchange)
                exchange.served = exchange.decision.model
                await sink.start(200, [STREAM, *lines, *relay.lines(exchange)])
                await _send(sink, kept, exchange, writer.begin())
            await _send(sink, kept, exchange, writer.feed(part))
        if not sink.started:
            raise BrokenStream("the stream ended before the answer had begun")
    except (EndpointError, BrokenStream, TransportError) as failure:
        if not sink.started:
            raise
        told = DIALECTS[exchange.wire].refused(failure, exchange.decision.model)
        return Answered("failed", told.status, told.code, writer.fail(told.status, told.code, told.message))
    rest = writer.end(relay.extension(exchange))
    response = b"".join([*kept, rest]) if exchange.whole else b""
    if exchange.wish is not None:
        response = response_in(rest) or response
    return Answered("done", 200, "", rest, response=response)


async def _send(sink: Sink, kept: list[bytes], exchange: Exchange, data: bytes) -> None:
    if not data:
        return
    if exchange.whole:
        kept.append(data)
    await sink.send(data)


def _take(exchange: Exchange, part: ModelPart) -> None:
    if isinstance(part, Completed):
        exchange.usage = part.usage
