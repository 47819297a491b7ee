"""An answer from an upstream of another wire, or from the embedded engine: through items and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from lathe.gateway.dialects import DIALECTS, Inbound, Writer
from lathe.gateway.exchange import Withheld
from lathe.gateway.front import JSON, STREAM, Sink
from lathe.gateway.serving import Answered, cleared, judged, response_in
from lathe.models.base import Completed, ItemDone, ModelPart, ReasoningDelta, TextDelta
from lathe.models.http import TransportError
from lathe.models.provider import WireName
from lathe.models.retry import BrokenStream, EndpointError
from lathe.models.wire import CallIds
from lathe.protocol.items import CustomToolCall, FunctionCall

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.gateway.guarding.answers import AnswerWatch
    from lathe.gateway.relay import Relay
    from lathe.gateway.upstreams import Route


async def translate(relay: Relay, exchange: Exchange, sink: Sink, route: Route) -> Answered:
    """Pass an answer on but for its end; raise `EndpointError`, `BrokenStream`, `TransportError` and `BadRequest`."""
    dialect = DIALECTS[exchange.wire]
    inbound = dialect.parse(exchange.request.body, exchange.head)
    exchange.left_out = inbound.left_out
    upstream = route.upstream
    if upstream is None:
        writer = _writer(exchange, inbound, "responses")
        from lathe.mend.policy import MendModel

        async with aclosing(_settled(inbound, MendModel().stream(inbound.request))) as parts:
            return await _pass(relay, exchange, sink, writer, parts)
    wire = upstream.wires[0]
    dialect.check_carried(inbound, wire)
    async with relay.turn(upstream, exchange):
        client = upstream.client(wire, route.info)
        writer = _writer(exchange, inbound, wire)
        try:
            async with aclosing(client.attempt(inbound.request)) as parts:
                answered = await _pass(relay, exchange, sink, writer, parts)
        except (EndpointError, BrokenStream, TransportError) as failure:
            upstream.count(failure)
            raise upstream.redacted(failure) from None
        if answered.state == "done":
            upstream.breaker.good()
        else:
            upstream.breaker.bad()
        return answered


def _writer(exchange: Exchange, inbound: Inbound, wire: WireName) -> Writer:
    dialect = DIALECTS[exchange.wire]
    id = dialect.response_id(exchange.id.rpartition("_")[2])
    return dialect.writer(inbound, id, exchange.decision.model, wire)


async def _settled(inbound: Inbound, parts: AsyncIterator[ModelPart]) -> AsyncGenerator[ModelPart, None]:
    """Yield parts whose calls have ids that are not taken."""
    ids = CallIds()
    ids.begin(inbound.request.transcript)
    async for part in parts:
        yield ItemDone(ids.settle(part.item)) if isinstance(part, ItemDone) else part


async def _pass(
    relay: Relay, exchange: Exchange, sink: Sink, writer: Writer, parts: AsyncGenerator[ModelPart, None]
) -> Answered:
    if not exchange.head.stream:
        found = [part async for part in parts]
        exchange.served = exchange.decision.model
        for part in found:
            _take(exchange, part)
        await cleared(exchange)
        body = writer.whole(found, relay.extension(exchange))
        changed = await judged(exchange, body)
        if changed is not body:
            body = msgspec.json.encode({**msgspec.json.decode(changed), "lathe": relay.extension(exchange)})
        return Answered("done", 200, "", body, [JSON], body)
    kept: list[bytes] = []
    watch = exchange.guarded.answer if exchange.guarded is not None else None
    code, begun = "", False

    async def begin(comment: bytes = b"") -> None:
        if not sink.started:
            await relay.on_record(exchange)
            await sink.start(200, [STREAM, *relay.lines(exchange)])
        if comment:
            await sink.send(comment)

    try:
        async for part in parts:
            _take(exchange, part)
            try:
                await _judge(watch, part)
            except Withheld as stopped:
                code = stopped.code
                part = Completed(exchange.usage, stop="refusal")
            if not begun:
                exchange.served = exchange.decision.model
                await cleared(exchange, begin)
                await begin()
                begun = True
                await _send(sink, kept, exchange, writer.begin())
            await _send(sink, kept, exchange, writer.feed(part))
            if code:
                exchange.estimate()
                break
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
    return Answered("done", 200, code, rest, response=response)


async def _judge(watch: AnswerWatch | None, part: ModelPart) -> None:
    """Have the guard judge a part of an answer; raise `Withheld`."""
    if watch is None:
        return
    match part:
        case TextDelta(text=text):
            watch.say(text)
        case ItemDone(item=FunctionCall(call_id=id, name=name, arguments=text)):
            await watch.call(id, name, text)
        case ItemDone(item=CustomToolCall(call_id=id, name=name, input=text)):
            await watch.call(id, name, text)
        case Completed():
            watch.end()


async def _send(sink: Sink, kept: list[bytes], exchange: Exchange, data: bytes) -> None:
    if not data:
        return
    if exchange.whole:
        kept.append(data)
    await sink.send(data)


def _take(exchange: Exchange, part: ModelPart) -> None:
    if isinstance(part, Completed):
        exchange.usage = part.usage
        exchange.estimate()
    elif isinstance(part, TextDelta | ReasoningDelta):
        exchange.passed += 1
