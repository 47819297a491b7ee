"""Passing bytes between two sockets, and looking at the first of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

_BLOCK: Final = 256 * 1024
_LONGEST_HELLO: Final = 64 * 1024
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 22, 1, 0


class Mismatch(Exception):
    """What a connection says first does not fit what it was allowed for; the message says how."""


async def readable(one: socket.socket) -> None:
    """Return when there is something to be read, or the other end has gone."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(one, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(one)


async def relay(client: socket.socket, upstream: socket.socket, check: Callable[[bytes], bool] | None = None) -> None:
    """Pass bytes both ways until both ends have closed.

    `check` is given what the client says first, more and more of it, until it returns True; nothing is passed up
    before. What it raises ends both connections. An error of one end ends the other.
    """
    ways = [asyncio.ensure_future(_pass(client, upstream, check)), asyncio.ensure_future(_pass(upstream, client, None))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        failures = [way.exception() for way in ways if way.done() and way.exception() is not None]
        for failure in failures:
            if isinstance(failure, Mismatch):
                raise failure
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(source: socket.socket, sink: socket.socket, check: Callable[[bytes], bool] | None) -> None:
    loop = asyncio.get_running_loop()
    held = b""
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while count := await loop.sock_recv_into(source, buffer):
        if check is None:
            await loop.sock_sendall(sink, view[:count])
            continue
        held += view[:count]
        if check(held):
            check = None
            await loop.sock_sendall(sink, held)
    if held and check is not None:
        await loop.sock_sendall(sink, held)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def reset(one: socket.socket) -> None:
    """Close a connection in the way that its other end takes for a failure."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def server_name(said: bytes) -> tuple[bool, str]:
    """Return whether enough of a TLS client's first words is there, and the name that it asks for, "" for none.

    What is not TLS is enough at once. Raises `Mismatch` for what begins like TLS and then is not (RFC 8446, 4.1.2;
    RFC 6066, 3).
    """
    if said[:1] != bytes([_HANDSHAKE]):
        return True, ""
    hello = b""
    at = 0
    while True:
        if len(said) < at + 5:
            break
        if said[at] != _HANDSHAKE or said[at + 1] != 3:
            raise Mismatch("it began like TLS, but was not")
        size = int.from_bytes(said[at + 3 : at + 5], "big")
        hello += said[at + 5 : at + 5 + size]
        if len(said) < at + 5 + size:
            break
        at += 5 + size
        if len(hello) >= 4 and len(hello) >= 4 + int.from_bytes(hello[1:4], "big"):
            return True, _name_in(hello)
    if len(said) > _LONGEST_HELLO:
        raise Mismatch("its first TLS message is too long")
    return False, ""


def _name_in(hello: bytes) -> str:
    if hello[0] != _CLIENT_HELLO:
        raise Mismatch("it began like TLS, but was not")
    reader = _Reader(hello[4 : 4 + int.from_bytes(hello[1:4], "big")])
    reader.take(34)  # version and random
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    if reader.empty:
        return ""
    extensions = _Reader(reader.vector(2))
    while not extensions.empty:
        kind = int.from_bytes(extensions.take(2), "big")
        body = extensions.vector(2)
        if kind == _SERVER_NAME:
            names = _Reader(_Reader(body).vector(2))
            while not names.empty:
                what = names.take(1)
                name = names.vector(2)
                if what == b"\0":
                    return name.decode("latin-1").lower().rstrip(".")
    return ""


class _Reader:
    """Takes bytes from the front; raises `Mismatch` where there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def empty(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) < count:
            raise Mismatch("its first TLS message is damaged")
        self._at += count
        return part

    def vector(self, size: int) -> bytes:
        return self.take(int.from_bytes(self.take(size), "big"))
