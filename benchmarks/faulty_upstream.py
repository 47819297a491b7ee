"""A model endpoint that fails in every way that endpoints do: for the chaos benchmark of the gateway.

It speaks all three wires. Request number n uses `usage_of(n)` tokens and is answered `answer n: …`, so that what a
caller saw can be held against what is on record. Faults come by a seeded draw, a share of the requests each.

usage: faulty_upstream.py [--seed N] [--share 0.3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from lathe.models.script import Step, Tokens, Wire, Words, error_body
from lathe.models.script_wires import Answer, render

WIRES: dict[str, Wire] = {"/responses": "responses", "/chat/completions": "chat", "/messages": "messages"}
STALL_S = 60.0
"""Longer than any time limit of a gateway under test."""
_LORIS_S = 0.05


def usage_of(number: int) -> Tokens:
    """Return what request `number` uses: no two near each other use the same."""
    return Tokens(input=100 + number % 9973, output=10 + number % 89)


class Exchange:
    """One request and the connection that it came by."""

    def __init__(self, writer: asyncio.StreamWriter, wire: Wire, number: int, body: bytes) -> None:
        self.writer = writer
        self.wire = wire
        self.stream = b'"stream":true' in body.replace(b" ", b"")
        step = Step(say=(Words(f"answer {number}: " + "word " * 30),), usage=usage_of(number))
        self.answer: Answer = render(step, wire, number, "faulty-1", b"include_usage" in body)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def document(self, status: int, payload: object, *lines: str, length: int | None = None) -> None:
        """Send a whole answer, with a `length` that may be a lie."""
        body = json.dumps(payload).encode()
        head = [f"HTTP/1.1 {status} X", "content-type: application/json", *lines]
        head.append(f"content-length: {len(body) if length is None else length}")
        self.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def head(self) -> None:
        """Begin a stream."""
        self.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def begin(self, events: int) -> None:
        """Send the first of a stream's events."""
        self.head()
        for event in self.answer.events[:events]:
            self.chunk(event)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with RST, as a machine that has crashed does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def well(one: Exchange) -> None:
    """Answer as asked."""
    if not one.stream:
        one.document(200, one.answer.whole)
        return
    one.head()
    for event in one.answer.events:
        if one.writer.is_closing():
            return
        one.chunk(event)
        await asyncio.sleep(0.002)
    one.write(b"0\r\n\r\n")


async def server_error(one: Exchange) -> None:
    status, payload = error_body("server", one.wire)
    one.document(status, payload)


async def overloaded(one: Exchange) -> None:
    status, payload = error_body("overloaded", one.wire)
    one.document(status, payload, "retry-after: 1")


async def rate_limited(one: Exchange) -> None:
    status, payload = error_body("rate_limit", one.wire)
    one.document(status, payload, "retry-after: 30")


async def bad_gateway(one: Exchange) -> None:
    one.write(b"HTTP/1.1 502 X\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n<html>bad</html>\r\n\r\n")


async def stall(one: Exchange) -> None:
    await asyncio.sleep(STALL_S)


async def stall_within(one: Exchange) -> None:
    await one.begin(4)
    await asyncio.sleep(STALL_S)


async def cut(one: Exchange) -> None:
    await one.begin(5)
    one.writer.close()


async def cut_at_once(one: Exchange) -> None:
    one.writer.close()


async def reset(one: Exchange) -> None:
    one.reset()


async def reset_within(one: Exchange) -> None:
    await one.begin(5)
    one.reset()


async def short(one: Exchange) -> None:
    """Promise more bytes than come."""
    one.document(200, one.answer.whole, length=100_000)
    await one.writer.drain()
    one.writer.close()


async def garbage(one: Exchange) -> None:
    """Answer well, in words that are no JSON."""
    body = b'{"id": "x", "choices": [<html>\xff\xfe' * 3
    one.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def no_http(one: Exchange) -> None:
    one.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)))
    await one.writer.drain()
    one.writer.close()


async def bad_chunk(one: Exchange) -> None:
    await one.begin(5)
    one.write(b"zz\r\nno number\r\n")
    await one.writer.drain()
    one.writer.close()


async def garbage_within(one: Exchange) -> None:
    """Put in the midst of a good stream what is no JSON, and end."""
    await one.begin(5)
    one.chunk(b'data: {"choices": [{"delta": \xff\xfe <html>502</html>\n\n')
    one.write(b"0\r\n\r\n")


async def ends_early(one: Exchange) -> None:
    """End a stream in good order, but before its answer."""
    await one.begin(5)
    one.write(b"0\r\n\r\n")


async def nothing(one: Exchange) -> None:
    one.head()
    one.write(b"0\r\n\r\n")


async def error_within(one: Exchange) -> None:
    await one.begin(5)
    _, payload = error_body("overloaded", one.wire)
    if one.wire == "responses":
        payload = {"type": "error", **payload["error"], "sequence_number": 9}
    one.chunk(("event: error\n" if one.wire != "chat" else "").encode() + f"data: {json.dumps(payload)}\n\n".encode())
    one.write(b"0\r\n\r\n")


async def slow_head(one: Exchange) -> None:
    """Drip the head, then answer well."""
    drops = b"HTTP/1.1 200 OK\r\nx-slow: 1234567890\r\n"
    for at in range(0, len(drops), 2):
        one.write(drops[at : at + 2])
        await asyncio.sleep(_LORIS_S)
    body = json.dumps(one.answer.whole).encode()
    if not one.stream:
        one.write(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return
    one.write(b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    one.chunk(b"".join(one.answer.events))
    one.write(b"0\r\n\r\n")


async def slow_body(one: Exchange) -> None:
    """Drip a stream in pieces that no event ends with."""
    if not one.stream:
        await well(one)
        return
    one.head()
    text = b"".join(one.answer.events)
    for at in range(0, len(text), 97):
        one.chunk(text[at : at + 97])
        await asyncio.sleep(_LORIS_S / 2)
    one.write(b"0\r\n\r\n")


Fault = Callable[[Exchange], Awaitable[None]]
BEFORE: tuple[Fault, ...] = (
    server_error,
    overloaded,
    rate_limited,
    bad_gateway,
    stall,
    cut_at_once,
    reset,
    no_http,
    garbage,
)
WITHIN: tuple[Fault, ...] = (
    *(stall_within, cut, reset_within, bad_chunk, garbage_within, ends_early, nothing, error_within),
    *(slow_head, slow_body),
)
"""Faults of streams; an answer that is asked for whole has those of `BEFORE` and `short`."""


class FaultyUpstream:
    """The endpoint; `dealt` counts what it has dealt out by name."""

    def __init__(self, seed: int, share: float) -> None:
        self.dealt: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._share = share
        self._number = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until a side ends it."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing() and not reader.at_eof():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                path = lines[0].split(" ")[1].partition("?")[0]
                await self._answer(writer, path, body)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
        wire = next((wire for end, wire in WIRES.items() if path.endswith(end)), None)
        if wire is None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            return
        self._number += 1
        one = Exchange(writer, wire, self._number, body)
        fault: Fault = well
        if self._draw.random() < self._share:
            fault = self._draw.choice((*BEFORE, *(WITHIN if one.stream else (short, slow_head))))
        self.dealt[fault.__name__] += 1
        await fault(one)
        if not writer.is_closing():
            await writer.drain()


async def run(seed: int, share: float) -> None:
    """Serve until SIGTERM; the base URL is the first line on stdout, what was dealt out the last one."""
    upstream = FaultyUpstream(seed, share)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=512, limit=1 << 24)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await ended.wait()
    print(json.dumps(upstream.dealt), flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.3, help="of the requests that a fault befalls")
    options = parser.parse_args()
    asyncio.run(run(options.seed, options.share))


if __name__ == "__main__":
    main()
