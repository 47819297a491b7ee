"""The smallest gateway there can be: real HTTP, the dialects of the house, and one upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from models.driving import client_for

from lathe.gateway.dialects import DIALECTS, BadRequest, Dialect
from lathe.models.base import ModelPart
from lathe.models.client import WireClient
from lathe.models.http import TransportError
from lathe.models.retry import BrokenStream, EndpointError
from lathe.models.script import Wire

PATHS: dict[str, Wire] = {"/responses": "responses", "/chat/completions": "chat", "/messages": "messages"}
EXTENSION = {"decision": "d1", "served": "scripted-1"}


class Front:
    """Takes requests in any dialect and asks `upstream` over the wire `wire`; `errors` keeps what went wrong here."""

    def __init__(self, wire: Wire, upstream: str, quirks: dict[str, Any] | None = None) -> None:
        self.errors: list[BaseException] = []
        self._wire = wire
        self._upstream = upstream
        self._quirks = quirks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
            path = head.split()[1].partition("?")[0]
            dialect = DIALECTS[next(wire for end, wire in PATHS.items() if path.endswith(end))]
            await self.answer(dialect, body, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()

    async def answer(self, dialect: Dialect, body: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            inbound = dialect.parse(body)
            dialect.check_carried(inbound, self._wire)
        except BadRequest as bad:
            send(writer, bad.status, dialect.error(bad.status, bad.code, bad.message, param=bad.param))
            return
        client = client_for(self._wire, self._upstream, self._quirks)
        assert isinstance(client, WireClient)
        answer = dialect.writer(inbound, dialect.response_id("x1"), "scripted-1", self._wire)
        began = False
        kept: list[ModelPart] = []
        try:
            async with aclosing(client.attempt(inbound.request)) as parts:
                async for part in parts:
                    if not inbound.head.stream:
                        kept.append(part)
                        continue
                    if not began:
                        begin(writer)
                        writer.write(answer.begin())
                        began = True
                    writer.write(answer.feed(part))
            if inbound.head.stream:
                writer.write(answer.end(EXTENSION))
            else:
                send(writer, 200, answer.whole(kept, EXTENSION))
        except (EndpointError, BrokenStream, TransportError) as failure:
            refused = dialect.refused(failure, "scripted-1")
            if began:
                writer.write(answer.fail(refused.status, refused.code, refused.message))
                return
            wait = refused.retry_after_s
            send(writer, refused.status, dialect.error(refused.status, refused.code, refused.message), wait)
        finally:
            await client.aclose()


def send(writer: asyncio.StreamWriter, status: int, body: bytes, retry_after_s: float | None = None) -> None:
    extra = "" if retry_after_s is None else f"retry-after: {retry_after_s:g}\r\n"
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{extra}"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + body)


def begin(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")


@asynccontextmanager
async def front(wire: Wire, upstream: str, quirks: dict[str, Any] | None = None) -> AsyncIterator[str]:
    """Yield the address of a gateway to `upstream`; what went wrong inside it is raised at the end."""
    gateway = Front(wire, upstream, quirks)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0, limit=1 << 26)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
    if gateway.errors:
        raise gateway.errors[0]
