"""The way out of a sandbox: what connects inside ends here, is decided on by name, and dialled from outside.

Programs need to know nothing of it: the sandbox's own network leads every connection to the listeners that
`netns.py` makes, and every name to an address that stands for it (`names.py`). A name is resolved once, outside, and
dialled at that address. Nothing is reached that no rule allows and no person has said yes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from lathe.sandbox.connections import owner_of
from lathe.sandbox.destinations import THIS_MACHINE, Address, Destinations, as_address
from lathe.sandbox.names import Names, is_stand_in
from lathe.sandbox.relay import Mismatch, relay, reset, server_name

if TYPE_CHECKING:
    from lathe.sandbox.inspection import Inspection

_ORIGINAL_DESTINATION: Final = 80  # SO_ORIGINAL_DST, linux/netfilter_ipv4.h
_MOST_CONNECTIONS: Final = 512
_MOST_NOTED: Final = 200
_DIAGNOSIS_S: Final = 1.0
_DIAL_S: Final = 15.0
_LONGEST_QUERY: Final = 4096
WELL_KNOWN_PORTS: Final = (22, 80, 443)
"""Those that are listened on where the kernel cannot redirect, beside the ports that rules name."""


class Attempt(NamedTuple):
    """A wish to connect: to a name or address, and by whom: a program, and the mark of the command it belongs to."""

    host: str
    port: int
    program: str = ""
    command: str = ""


class Decision(NamedTuple):
    """What became of an attempt; `method` is known only where requests are looked into."""

    attempt: Attempt
    allowed: bool
    reason: str
    method: str = ""


class Proxy(NamedTuple):
    """An HTTP proxy through which this machine reaches others; `authorization` is the value of that header."""

    host: str
    port: int
    authorization: bytes | None = None


AskFor: TypeAlias = Callable[[Attempt], Awaitable[bool | None]]
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]


class Refused(Exception):
    """An attempt is not allowed, or leads nowhere; the message says why."""


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name as this machine knows them; raise OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [as_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return [address for address in dict.fromkeys(addresses) if address is not None]


class Egress:
    """Decides on connections and makes them, for the sandboxes that are attached to it.

    `ask` puts an attempt that no rule speaks of to a person, and is None or returns None where nobody is there.
    `heard` is told of every decision.
    `proxy` names the proxy to dial through, if any. `inspection` looks into requests where that is needed.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        ask: AskFor | None = None,
        heard: Callable[[Decision], None] = lambda decision: None,
        resolver: Resolve = resolve,
        proxy: Callable[[str, int], Proxy | None] = lambda host, port: None,
        inspection: Inspection | None = None,
    ) -> None:
        self.destinations = destinations
        self.names = Names()
        self._ask = ask
        self._heard = heard
        self._resolve = resolver
        self._proxy = proxy
        self._inspection = inspection
        self._answers: dict[tuple[str, int], asyncio.Future[bool | None]] = {}
        self._diagnosing = asyncio.Lock()  # one question at a time on that socket
        self._serving: set[asyncio.Task[None]] = set()
        self._open: list[Callable[[], None]] = []
        self._log: dict[str, dict[Decision, None]] = {}
        self.trouble = ""
        """Why nothing can be reached, as a sentence, where the sandbox in force has no way out."""

    def ports(self) -> list[int]:
        """Return the ports to listen on where there is no redirection."""
        named = (port for rule in self.destinations.allow for port in rule.ports)
        return sorted({*WELL_KNOWN_PORTS, *named})

    def attach(self, fds: Sequence[int], root: int) -> None:
        """Serve the network whose descriptors `netns.py` made: connections, the socket for names, listeners.

        `root` is the process from which all that is in that network descends.
        """
        loop = asyncio.get_running_loop()
        diagnosis, names, *listeners = every = [socket.socket(fileno=fd) for fd in fds]
        for one in every:
            one.setblocking(False)
        diagnosis.settimeout(_DIAGNOSIS_S)
        loop.add_reader(names, self._answer, names)
        for listener in listeners:
            loop.add_reader(listener, self._accept, listener, diagnosis, root)

        def close() -> None:
            for one in (names, *listeners):
                loop.remove_reader(one)
            for one in every:
                one.close()

        self._open.append(close)

    def take(self, command: str) -> list[Decision]:
        """Return what was decided on attempts of a command, and of nobody known, since the last call; each once."""
        return [*self._log.pop(command, ()), *self._log.pop("", ())]

    def _note(self, decision: Decision) -> None:
        noted = self._log.setdefault(decision.attempt.command, {})
        if len(noted) < _MOST_NOTED:
            noted[decision] = None
        self._heard(decision)

    def forget(self) -> None:
        """Ask again about what was allowed or declined for the time being, and take back what is being asked."""
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()

    async def aclose(self) -> None:
        """End all connections and stop serving."""
        self.forget()
        for close in self._open:
            close()
        self._open.clear()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _answer(self, names: socket.socket) -> None:
        with contextlib.suppress(OSError):
            query, who = names.recvfrom(_LONGEST_QUERY)
            if answer := self.names.answer(query):
                names.sendto(answer, who)

    def _accept(self, listener: socket.socket, diagnosis: socket.socket, root: int) -> None:
        try:
            client, peer = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        if len(self._serving) >= _MOST_CONNECTIONS:
            reset(client)
            return
        task = asyncio.ensure_future(self._serve(client, peer, diagnosis, root))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket, peer: tuple[str, int], diagnosis: socket.socket, root: int) -> None:
        address, port = _destination(client)
        attempt = Attempt(self.names.name_of(address) or address, port)
        try:
            if address.startswith("127."):
                return  # to the listener itself, which is no way out
            async with self._diagnosing:
                program, command = await asyncio.to_thread(owner_of, diagnosis, peer, (address, port), root)
            attempt = attempt._replace(program=program, command=command)
            await self._connect(client, attempt)
            client.close()
        except (Refused, Mismatch) as refusal:
            self._note(Decision(attempt, False, str(refusal)))
        except OSError:
            pass  # one of both ends has gone away
        finally:
            reset(client)

    async def _connect(self, client: socket.socket, attempt: Attempt) -> None:
        host, port = attempt.host, attempt.port
        why = await self._permission(attempt)
        if self._inspection is not None and self._inspection.wanted(host, port):
            await self._inspection.serve(client, attempt, self._dial, self._note)
            return
        upstream = await self._dial(host, port)
        self._note(Decision(attempt, True, why))

        def check(said: bytes) -> bool:
            complete, name = server_name(said)
            if name and name != host and as_address(host) is None:
                raise Mismatch(f"it asked for another name, {name}, inside TLS")
            return complete

        with upstream:
            await relay(client, upstream, check)

    async def _permission(self, attempt: Attempt) -> str:
        """Return what allows an attempt; raise `Refused`."""
        standing, rule = self.destinations.standing(attempt.host, attempt.port)
        if standing == "allowed":
            return f"allowed by {rule}"
        if standing == "denied":
            raise Refused(f"denied by {rule}")
        if is_stand_in(attempt.host):
            raise Refused("no name was asked for that this address stands for")
        if self._ask is None:
            raise Refused("not listed")
        key = (attempt.host, attempt.port)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.ensure_future(self._ask(attempt))
        said = await asyncio.shield(answer)
        if said:
            return "allowed by the person"
        raise Refused("not listed" if said is None else "not listed, and the person did not allow it")

    async def _dial(self, host: str, port: int) -> socket.socket:
        """Return a connection to a destination that may be reached; raise `Refused`."""
        proxy = self._proxy(host, port)
        literal = as_address(host)
        if proxy is not None:
            if literal is not None and (why := self.destinations.refuses_address(literal, port)):
                raise Refused(why)
            return await _through(proxy, host, port)
        if host == THIS_MACHINE:
            return await _first_of([ipaddress.IPv4Address("127.0.0.1")], port)
        try:
            addresses = [literal] if literal is not None else await self._resolve(host, port)
        except OSError:
            raise Refused("there is no such host") from None
        refusals = [self.destinations.refuses_address(address, port) for address in addresses]
        allowed = [address for address, why in zip(addresses, refusals, strict=True) if not why]
        if not allowed:
            raise Refused(refusals[0] if refusals else "there is no such host")
        return await _first_of(allowed, port)


def _destination(client: socket.socket) -> tuple[str, int]:
    """Return where a connection was meant to go before it was redirected."""
    try:
        port, packed = struct.unpack("!2xH4s8x", client.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DESTINATION, 16))
    except OSError:
        host, port = client.getsockname()
        return host, port
    return socket.inet_ntoa(packed), port


async def _first_of(addresses: Sequence[Address], port: int) -> socket.socket:
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


async def _through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a connection by way of a proxy's CONNECT (RFC 9110, section 9.3.6)."""
    loop = asyncio.get_running_loop()
    try:
        one = await _first_of(await resolve(proxy.host, proxy.port), proxy.port)
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
            while not answer.endswith(b"\r\n\r\n") and len(answer) < 16384:
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
