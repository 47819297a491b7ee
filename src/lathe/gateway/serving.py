"""Getting an answer: which upstream is asked, again or another one before the first byte, and how it is passed on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from lathe.gateway.dialects import DIALECTS
from lathe.gateway.exchange import Withheld
from lathe.gateway.front import JSON, STREAM, Lines, Sink
from lathe.gateway.upstream_http import UpstreamAnswer
from lathe.gateway.upstreams import Route, Upstream
from lathe.models.http import TransportError
from lathe.models.provider import WireName
from lathe.models.retry import BrokenStream, EndpointError, Failure, error_from_body, judge, retry_after
from lathe.models.sse import SseParser
from lathe.models.wire import dumps

if TYPE_CHECKING:
    from lathe.gateway.exchange import Exchange
    from lathe.gateway.guarding.streams import StreamWatch
    from lathe.gateway.relay import Relay

_ATTEMPTS = 3
_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0
_ERROR_BYTES = 256 * 1024
_MOST_BYTES = 64 << 20
_FORWARDED = (
    *(b"anthropic-version", b"anthropic-beta", b"openai-beta", b"session_id", b"conversation_id", b"originator"),
    *(b"traceparent", b"tracestate", b"x-codex-turn-metadata", b"x-codex-beta-features"),
)
"""Headers of a request that go on to an upstream of the same wire."""
_NO_STREAM = (b"application/json", b"text/html")
_RETURNED = (b"openai-", b"anthropic-", b"x-codex-", b"x-reasoning-")
_KEPT_BACK = (b"anthropic-ratelimit", b"openai-organization", b"openai-project", b"anthropic-organization")
"""Beginnings of headers of an answer that come back, and of those of them that are the gateway's own business."""


class Answered(NamedTuple):
    """An answer whose end is still to go out: `lines` and `rest`, or only `rest` where the stream has begun.

    `response` is the whole of it, or of a Responses stream the response, where something of it is kept.
    """

    state: str
    status: int
    code: str
    rest: bytes
    lines: Lines = ()
    response: bytes = b""


class Failed(Exception):
    """No upstream gave an answer that could be passed on."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


async def serve(relay: Relay, exchange: Exchange, sink: Sink) -> Answered:
    """Pass an answer on but for its end; raise `Failed`, `BadRequest` and `QueueTimeout`."""
    served = relay.upstreams.models[exchange.decision.model]
    failure: Failure | None = None
    for attempt in range(_ATTEMPTS):
        routes = relay.upstreams.order(served)
        route = routes[attempt % len(routes)]
        if attempt >= len(routes):
            pause = retry_after(failure) if failure is not None else None
            if pause is not None and pause > _LONGEST_PAUSE_S:
                break
            await asyncio.sleep(pause or _PAUSE_S * 2 ** (attempt - len(routes)))
        try:
            return await _attempt(relay, exchange, sink, route)
        except (TransportError, EndpointError, BrokenStream) as raised:
            failure = raised
            if sink.started or judge(raised) != "retry":
                break
    assert failure is not None
    raise Failed(*DIALECTS[exchange.wire].refused(failure, exchange.decision.model))


async def _attempt(relay: Relay, exchange: Exchange, sink: Sink, route: Route) -> Answered:
    upstream, request, head = route.upstream, exchange.request, exchange.head
    if upstream is None or request.wire not in upstream.wires:
        from lathe.gateway.translating import translate

        return await translate(relay, exchange, sink, route)
    async with relay.turn(upstream, exchange):
        body = DIALECTS[request.wire].retitle(request.body, route.model, head, ask_usage=upstream.tells_usage)
        more = [(name, request.headers[name]) for name in _FORWARDED if name in request.headers]
        answer = await post(upstream, request.wire, body, more)
        try:
            exchange.served = exchange.decision.model
            if head.stream:
                return await _stream(relay, exchange, sink, answer)
            return await _whole(relay, exchange, answer)
        except TransportError as error:
            upstream.count(error)
            raise
        finally:
            answer.abort()


async def post(upstream: Upstream, wire: WireName, body: bytes, more: Lines = ()) -> UpstreamAnswer:
    """Return an upstream's answer of success; raise `EndpointError` and `TransportError`, which the breaker counts."""
    return await _success(upstream, upstream.post(wire, [body], more))


async def post_beside(
    upstream: Upstream, wire: WireName, suffix: str, body: bytes, headers: Lines = ()
) -> UpstreamAnswer:
    """Return an answer of success from a path below that of a wire, as `post` does."""
    more = [(name, value) for name, value in headers if name in _FORWARDED]
    return await _success(upstream, upstream.post_beside(wire, suffix, body, more))


async def _success(upstream: Upstream, asked: Awaitable[UpstreamAnswer]) -> UpstreamAnswer:
    try:
        answer = await asked
        if answer.status < 400:
            upstream.breaker.good()
            return answer
        data = await read_all(answer, _ERROR_BYTES)
    except TransportError as error:
        upstream.count(error)
        raise
    failure = error_from_body(answer.status, answer.headers, data)
    upstream.count(failure)
    raise upstream.redacted(failure)


async def read_all(answer: UpstreamAnswer, most: int) -> bytes:
    """Return a body of at most `most` bytes; raise `TransportError`."""
    parts: list[bytes] = []
    size = 0
    while chunk := await answer.next():
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            answer.abort()
            raise TransportError("garbage", f"the answer is larger than {most} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _whole(relay: Relay, exchange: Exchange, answer: UpstreamAnswer) -> Answered:
    lines = returned(answer)
    data = await read_all(answer, _MOST_BYTES)
    dialect = DIALECTS[exchange.wire]
    exchange.tell(dialect.read_answer(data))
    await cleared(exchange)
    data = await judged(exchange, data)
    body = dialect.extend_body(data, dumps(relay.extension(exchange)))
    return Answered("done", answer.status, "", body, [JSON, *lines], data)


async def cleared(exchange: Exchange, tell: Callable[[bytes], Awaitable[None]] | None = None) -> None:
    """Wait until a second look lets the answer go; raise `Refused`. `tell` sends a comment where the answer streams."""
    if exchange.guarded is not None and exchange.guarded.pending is not None:
        from lathe.gateway.guarding.second import waited

        await waited(exchange.guarded.pending, tell)


async def judged(exchange: Exchange, answer: bytes) -> bytes:
    """Return a whole answer without what the guard withholds of it."""
    if exchange.guarded is None or exchange.guarded.answer is None:
        return answer
    from lathe.gateway.guarding.answers import judged_whole

    return await judged_whole(exchange.wire, exchange.guarded.answer, answer)


async def _stream(relay: Relay, exchange: Exchange, sink: Sink, answer: UpstreamAnswer) -> Answered:
    watcher = DIALECTS[exchange.wire].watcher(drop_usage=not exchange.head.include_usage)
    kind = next((value for name, value in answer.raw_headers if name == b"content-type"), b"")
    if kind.startswith(_NO_STREAM):
        raise TransportError("garbage", f"the endpoint answered with {kind.decode('latin-1')} in place of a stream")
    chunk = await answer.next()
    if not chunk:
        raise TransportError("cut", "the endpoint answered with an empty stream")

    async def begin(comment: bytes = b"") -> None:
        if not sink.started:
            await relay.on_record(exchange)
            await sink.start(answer.status, [STREAM, *returned(answer), *relay.lines(exchange)])
        if comment:
            await sink.send(comment)

    await cleared(exchange, begin)
    await begin()
    said: list[bytes] = []
    guarded = stream_watch(exchange)
    try:
        while chunk:
            if exchange.whole:
                said.append(chunk)
            for passed in watcher.feed(chunk):
                exchange.passed += passed.count(b"data:")
                if guarded is not None:
                    await guarded.feed(passed)
                await sink.send(passed)
            if watcher.failed is not None:
                raise watcher.failed
            chunk = await answer.next()
        for passed in watcher.close():
            if guarded is not None:
                await guarded.feed(passed)
            await sink.send(passed)
        if guarded is not None:
            await guarded.feed(watcher.final or b"")
            await guarded.end()
    except Withheld as stopped:
        assert guarded is not None
        exchange.tell(watcher)
        exchange.response_id = watcher.response_id
        model = watcher.model or exchange.decision.model
        extension = relay.extension(exchange)
        end = guarded.stop(model=model, response_id=exchange.response_id, usage=exchange.usage, extension=extension)
        return Answered("done", 200, stopped.code, end)
    exchange.tell(watcher)
    exchange.response_id = watcher.response_id
    if not watcher.complete:
        raise watcher.failed or BrokenStream("the stream ended before the answer was complete")
    response = b"".join(said)
    if exchange.wish is not None:
        response = response_in(watcher.final or b"") or response
    return Answered("done", 200, "", watcher.finish(dumps(relay.extension(exchange))), response=response)


def stream_watch(exchange: Exchange) -> StreamWatch | None:
    """Return what reads the stream of an answer along for the guard, None without one."""
    if exchange.guarded is None or exchange.guarded.answer is None:
        return None
    from lathe.gateway.guarding.streams import StreamWatch

    return StreamWatch(exchange.wire, exchange.guarded.answer)


def response_in(end: bytes) -> bytes:
    """Return the response that the last event of a Responses stream holds, b"" where there is none."""
    for event in SseParser().feed(end + b"\n\n"):
        with contextlib.suppress(msgspec.DecodeError):
            return bytes(msgspec.json.decode(event.data, type=_Ended).response)
    return b""


class _Ended(msgspec.Struct):
    response: msgspec.Raw


def returned(answer: UpstreamAnswer) -> list[tuple[bytes, bytes]]:
    """Return the headers of an upstream's answer that the caller gets."""
    return [
        (name, value)
        for name, value in answer.raw_headers
        if name.startswith(_RETURNED) and not name.startswith(_KEPT_BACK)
    ]
