"""The Responses API over a WebSocket: one connection, one request after the other, new items only.

The caller sends `{"type": "response.create", ...}` with the fields of a request, and gets each event of the stream as
a message. What the connection has been told it remembers, also where nothing is stored: `previous_response_id` leads
to any response of the same connection. With `generate: false` it is told what to remember and asks for no answer, as
Codex does before its first turn; no model is asked then.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from lathe.gateway.dialects import DIALECTS, BadRequest
from lathe.gateway.exchange import Request, now_ms
from lathe.gateway.front import Message, Receive, Scope, Send, SocketSink
from lathe.gateway.remembering import remember
from lathe.models.responses_events import ResponsesEvents
from lathe.protocol.ids import short_id
from lathe.protocol.usage import Usage

if TYPE_CHECKING:
    from lathe.gateway.relay import Relay
    from lathe.gateway.remembering import Memory

_MOST_WAITING = 8
_MOST_REMEMBERED = 64


async def serve_socket(relay: Relay, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection until the caller closes it."""
    from lathe.gateway.relay import Refused

    headers = dict(scope["headers"])
    if (await receive())["type"] != "websocket.connect":
        return
    try:
        await relay.principal(headers)
    except Refused as refused:
        body = DIALECTS["responses"].error(refused.status, refused.code, refused.message)
        kind = [(b"content-type", b"application/json")]
        await send({"type": "websocket.http.response.start", "status": refused.status, "headers": kind})
        await send({"type": "websocket.http.response.body", "body": body})
        return
    await send({"type": "websocket.accept"})
    waiting: asyncio.Queue[Message | None] = asyncio.Queue(_MOST_WAITING)
    memory: Memory = {}

    async def work() -> None:
        while (message := await waiting.get()) is not None:
            sink = SocketSink(send)
            try:
                body, generate = _read(message)
            except ValueError as error:
                await relay.refuse("responses", sink, Refused(400, "invalid_event", str(error)))
                continue
            # the key may have been revoked since the connection was made
            try:
                now = await relay.principal(headers)
            except Refused as refused:
                await relay.refuse("responses", sink, refused)
                continue
            if generate:
                await relay.relay(Request(now, "responses", headers, body), sink, memory)
            else:
                await _remember(relay, body, memory, sink)
            while len(memory) > _MOST_REMEMBERED:
                del memory[next(iter(memory))]

    worker = asyncio.create_task(work())
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] == "websocket.receive":
                await waiting.put(message)
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker


async def _remember(relay: Relay, body: bytes, memory: Memory, sink: SocketSink) -> None:
    """Answer a request that wants nothing but to be remembered."""
    from lathe.gateway.relay import Refused

    try:
        head = DIALECTS["responses"].head(body)
        events = ResponsesEvents("", {"id": short_id("resp"), "model": head.model, "created_at": now_ms() // 1000})
        events.begin()
        remember(memory, head, events.end(Usage()))
    except BadRequest as error:
        await relay.refuse("responses", sink, Refused(error.status, error.code, error.message, param=error.param))
        return
    await sink.start(200, ())
    await sink.end(b"".join(events.events))


def _read(message: Message) -> tuple[bytes, bool]:
    """Return the request that a message is, and whether an answer is wanted; raise `ValueError` in one sentence."""
    given = message.get("text")
    data = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else message.get("bytes") or b""
    try:
        event: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("The message is no JSON.") from None
    if not isinstance(event, dict) or event.get("type") != "response.create":
        raise ValueError("The only message that is known is `response.create`.")
    # some clients put the request into a field of its own
    request = event.pop("response", None)
    del event["type"]
    body = {**event, **(request if isinstance(request, dict) else {}), "stream": True}
    body.pop("background", None)
    generate = body.pop("generate", True) is not False
    return msgspec.json.encode(body), generate
