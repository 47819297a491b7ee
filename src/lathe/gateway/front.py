"""The front of the relay: a request as it comes in by ASGI, and where its answer goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol, TypeAlias

from lathe.models.sse import SseParser

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Lines: TypeAlias = Sequence[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


class Unreadable(Exception):
    """A body that will not be read: `status` says why in numbers, the message in words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Gone(Exception):
    """The caller has gone away."""


async def read_body(scope: Scope, receive: Receive, most: int, timeout_s: float) -> bytes:
    """Return the body of a request, JSON of at most `most` bytes; raise `Unreadable` and `Gone`."""
    _check_kind(scope["headers"])
    message = await _first(receive, timeout_s)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > most:
            raise _too_large(most)
        return body
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    parts, size = [body], len(body)
    try:
        async with asyncio.timeout(timeout_s):
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_large(most)
    except TimeoutError:
        raise _too_slow(timeout_s) from None
    return b"".join(parts)


def _check_kind(headers: Lines) -> None:
    for name, value in headers:
        if name == b"content-type" and value and b"json" not in value.lower():
            said = value.decode("latin-1")[:60]
            raise Unreadable(415, "unsupported_type", f"The body must be application/json, and is said to be {said!r}.")
        if name == b"content-encoding" and value.lower() != b"identity":
            said = value.decode("latin-1")[:60]
            raise Unreadable(
                415, "unsupported_encoding", f"The body must not be compressed, and is said to be {said!r}."
            )


async def _first(receive: Receive, timeout_s: float) -> Message:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError:
        raise _too_slow(timeout_s) from None
    if message["type"] == "http.disconnect":
        raise Gone
    return message


def _too_large(most: int) -> Unreadable:
    return Unreadable(413, "request_too_large", f"The body is larger than {most // (1 << 20)} MB.")


def _too_slow(timeout_s: float) -> Unreadable:
    return Unreadable(408, "request_timeout", f"The body did not arrive within {timeout_s:g} s.")


class Sink(Protocol):
    """Where an answer goes."""

    started: bool
    """Whether something of the answer is on its way: then only its end can still tell of an error."""

    async def start(self, status: int, lines: Lines) -> None: ...

    async def send(self, data: bytes) -> None:
        """Pass bytes of the body on."""
        ...

    async def end(self, data: bytes = b"") -> None:
        """Pass the last bytes on."""
        ...


class HttpSink:
    """An HTTP response."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send

    async def start(self, status: int, lines: Lines) -> None:
        """See `Sink.start`."""
        await self._send({"type": "http.response.start", "status": status, "headers": lines})
        self.started = True

    async def send(self, data: bytes) -> None:
        """See `Sink.send`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """See `Sink.end`."""
        await self._send({"type": "http.response.body", "body": data})


class SocketSink:
    """The messages of a WebSocket: each event of a stream is one, and an error that is no stream another."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._status = 200
        self._parser = SseParser()
        self._body: list[bytes] = []

    async def start(self, status: int, lines: Lines) -> None:
        """See `Sink.start`."""
        self.started = True
        self._status = status

    async def send(self, data: bytes) -> None:
        """See `Sink.send`."""
        if self._status != 200:
            self._body.append(data)
            return
        for event in self._parser.feed(data):
            if event.data != "[DONE]":
                await self._send({"type": "websocket.send", "text": event.data})

    async def end(self, data: bytes = b"") -> None:
        """See `Sink.end`."""
        await self.send(data)
        if self._status != 200:
            whole = b"".join(self._body).decode("utf-8", "replace")
            text = f'{{"type":"error","status":{self._status},{whole.lstrip()[1:]}' if whole.startswith("{") else whole
            await self._send({"type": "websocket.send", "text": text})
