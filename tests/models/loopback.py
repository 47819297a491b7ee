"""A loopback server of raw bytes: what goes out is exactly what a test writes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec


class Request(NamedTuple):
    """`connection` counts the sockets, `head` is the request's first lines as they came."""

    connection: int
    head: str
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def line(self) -> str:
        return self.head.split("\r\n", 1)[0]

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None


class Peer:
    """One socket as the server sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> Request | None:
        """Return the next request, None where the client closed."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        request = Request(self.number, head, b"")
        size = int(request.header("content-length") or 0)
        return request._replace(body=await self.reader.readexactly(size))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close with a TCP reset instead of an end."""
        opened = self.writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Peer, Request], Awaitable[bool | None]]
"""Answers a request; True keeps the socket open for the next."""


class Loopback:
    def __init__(self, host: str, port: int, requests: list[Request], tls: bool) -> None:
        self.port = port
        self.requests = requests
        self.peers: list[Peer] = []
        self.authority = f"{'localhost' if tls else host}:{port}"
        self.base_url = f"http{'s' if tls else ''}://{self.authority}/v1"


def _address() -> str:
    """Return an address of this process alone: other tests still knock at ports of 127.0.0.1 that were theirs."""
    pid = os.getpid()
    return f"127.{128 + (pid >> 16) % 128}.{(pid >> 8) % 256}.{pid % 254 + 1}"


@asynccontextmanager
async def loopback(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Loopback]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(len(place.peers), reader, writer)
        place.peers.append(peer)
        try:
            while (request := await peer.request()) is not None:
                place.requests.append(request)
                if not await handler(peer, request):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    host = "127.0.0.1" if tls is not None else _address()
    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    place = Loopback(host, server.sockets[0].getsockname()[1], [], tls is not None)
    try:
        yield place
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def sse(*events: Any) -> bytes:
    """Return events as a stream's text; strings stand for themselves."""
    texts = [event if isinstance(event, str) else msgspec.json.encode(event).decode() for event in events]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def stream_head(*, chunked: bool = True, extra: str = "") -> bytes:
    coding = "transfer-encoding: chunked\r\n" if chunked else ""
    return f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{coding}{extra}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"


def whole(body: bytes) -> bytes:
    """Return a complete streamed answer."""
    return stream_head() + chunk(body) + LAST


def plain(status: int, body: bytes | dict[str, Any], extra: str = "", kind: str = "application/json") -> bytes:
    """Return a complete answer with a length."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{extra}\r\n"
    return head.encode() + data


def always(data: bytes, keep: bool = True) -> Handler:
    """Return a handler that answers everything with `data`."""

    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(data)
        return keep

    return handler


def in_turn(*answers: bytes) -> Handler:
    """Return a handler that gives each request the next answer."""
    left = list(answers)

    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(left.pop(0))
        return True

    return handler
