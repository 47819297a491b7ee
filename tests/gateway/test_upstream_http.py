"""The gateway's client on the loop that the gateway runs on: straight, through a proxy, and when answers are odd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from lathe.gateway.upstream_http import UpstreamHttp
from lathe.models.endpoint import parse_endpoint
from lathe.models.http import TransportError, read_body
from lathe.models.script import Step, Words
from lathe.models.scripted import ScriptedServer

BODY = b'{"model":"m","messages":[]}'
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def test_a_proxy_of_the_machine_is_used() -> None:
    async def work() -> None:
        async with ScriptedServer([Step(say=(Words("hi"),))], repeat=True) as proxy:
            environ = {"http_proxy": proxy.base_url.removesuffix("/v1")}
            client = UpstreamHttp(parse_endpoint("http://models.example/v1"), environ)
            for _ in range(2):
                answer = await client.post("/v1/chat/completions", [(b"content-type", b"application/json")], [BODY])
                assert answer.status == 200
                assert b"hi" in await read_body(answer, 10_000)
            assert proxy.requests[0].path == "http://models.example/v1/chat/completions"
            await client.aclose()

    uvloop.run(work())


def test_connections_are_kept_and_one_that_died_is_replaced() -> None:
    async def work() -> None:
        async with ScriptedServer([Step(say=(Words("hi"),))], repeat=True) as server:
            client = UpstreamHttp(parse_endpoint(server.base_url), {})
            for _ in range(3):
                answer = await client.post("/v1/chat/completions", [], [BODY])
                await read_body(answer, 10_000)
            assert len(server._connections) == 1
            await server.drop()
            answer = await client.post("/v1/chat/completions", [], [BODY])
            assert answer.status == 200
            answer.abort()
            await client.aclose()

    uvloop.run(work())


@pytest.mark.parametrize(
    ("said", "fault", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nall of it", "", b"all of it"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "", b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut", "cut", b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ncut\r\n", "cut", b""),
        (b"what is this?\r\n\r\n", "garbage", b""),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, "garbage", b""),
        (b"", "cut", b""),
    ],
)
def test_odd_answers_are_read_or_told(said: bytes, fault: str, body: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(said)
        await writer.drain()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = UpstreamHttp(parse_endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), {})
        if fault:
            with pytest.raises(TransportError) as told:
                await read_body(await client.post("/", [], [BODY]), 10_000)
            assert told.value.fault == fault
        else:
            assert await read_body(await client.post("/", [], [BODY]), 10_000) == body
        await client.aclose()
        server.close()

    uvloop.run(work())
