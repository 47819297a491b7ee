"""Connecting from outside a sandbox: to addresses, or through a proxy."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from lathe.sandbox.destinations import Address, as_address

_DIAL_S: Final = 15.0
_LONGEST_HEAD: Final = 16384

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class Proxy(NamedTuple):
    """An HTTP proxy through which this machine reaches others; `authorization` is the value of that header."""

    host: str
    port: int
    authorization: bytes | None = None


class Refused(Exception):
    """An attempt is not allowed, or leads nowhere; the message says why."""


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name as this machine knows them; raise OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [as_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return [address for address in dict.fromkeys(addresses) if address is not None]


async def dial_first(addresses: Sequence[Address], port: int) -> socket.socket:
    """Return a connection to the first of the addresses that answers; raise `Refused`."""
    why = "it does not answer"
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        try:
            async with asyncio.timeout(_DIAL_S):
                await asyncio.get_running_loop().sock_connect(one, (str(address), port))
        except (OSError, TimeoutError) as error:
            why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else why
            one.close()
        except BaseException:
            one.close()
            raise
        else:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return one
    raise Refused(f"it cannot be reached: {why}")


async def dial_through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a connection by way of a proxy's CONNECT (RFC 9110, section 9.3.6); raise `Refused`."""
    loop = asyncio.get_running_loop()
    try:
        one = await dial_first(await resolve(proxy.host, proxy.port), proxy.port)
    except OSError:
        raise Refused(f"the proxy {proxy.host} is not known") from None
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1".encode(), f"Host: {where}".encode()]
    if proxy.authorization:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    try:
        async with asyncio.timeout(_DIAL_S):
            await loop.sock_sendall(one, b"\r\n".join(lines) + b"\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n") and len(answer) < _LONGEST_HEAD:
                # byte by byte at the end, for what comes after it is not the proxy's
                if not (part := await loop.sock_recv(one, 1)):
                    break
                answer += part
    except (OSError, TimeoutError):
        one.close()
        raise Refused(f"the proxy {proxy.host} does not answer") from None
    status = answer.partition(b"\r\n")[0].split(b" ")[1:2]
    if status != [b"200"]:
        one.close()
        said = status[0].decode("latin-1") if status else "nothing"
        raise Refused(f"the proxy {proxy.host} answered {said}")
    return one
