"""The way out of a sandbox: what connects inside ends here, is decided on by name, and dialled from outside.

Programs need to know nothing of it: the sandbox's own network leads every connection to the listeners that
`netns.py` makes, and every name to an address that stands for it (`names.py`). A name is resolved once, outside, and
dialled at that address. Nothing is reached that no rule allows and no person has said yes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from lathe.sandbox.connections import Inside
from lathe.sandbox.destinations import NOT_LISTED, THIS_MACHINE, Destinations, as_address
from lathe.sandbox.dial import Proxy, Refused, Resolve, dial_first, dial_through, resolve
from lathe.sandbox.names import Names, asked, is_stand_in
from lathe.sandbox.relay import Mismatch, relay, reset, server_name

if TYPE_CHECKING:
    from lathe.sandbox.inspection import Inspection

_ORIGINAL_DESTINATION: Final = 80  # SO_ORIGINAL_DST, linux/netfilter_ipv4.h
DECLINED: Final = f"{NOT_LISTED}, and the person did not allow it"
_MOST_CONNECTIONS: Final = 512
_MOST_NOTED: Final = 200
_LONGEST_QUERY: Final = 4096
WELL_KNOWN_PORTS: Final = (22, 80, 443)
"""Those that are listened on where the kernel cannot redirect, beside the ports that rules name."""


class Attempt(NamedTuple):
    """A wish to connect: to a name or address, and by whom: a program, and the mark of the command it belongs to.

    The port is 0 where it ended with the question for the name.
    """

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


AskFor: TypeAlias = Callable[[Attempt], Awaitable[bool]]


async def _nobody(_attempt: Attempt) -> bool:
    return False


class Egress:
    """Decides on connections and makes them, for the sandboxes that are attached to it.

    `ask` puts an attempt that no rule speaks of to a person, if `can_ask` says that one is there. `heard` is told of
    every decision. `proxy` names the proxy to dial through, if any. `inspection` looks into requests where that is
    needed.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        ask: AskFor = _nobody,
        can_ask: Callable[[], bool] = lambda: False,
        heard: Callable[[Decision], None] = lambda decision: None,
        resolver: Resolve = resolve,
        proxy: Callable[[str, int], Proxy | None] = lambda host, port: None,
        inspection: Inspection | None = None,
    ) -> None:
        self.destinations = destinations
        self.names = Names()
        self._ask = ask
        self._can_ask = can_ask
        self._heard = heard
        self._resolve = resolver
        self._proxy = proxy
        self._inspection = inspection
        self._answers: dict[tuple[str, int], asyncio.Future[bool]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._attached: list[Inside] = []
        self._clients: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._upstreams: weakref.WeakSet[socket.socket] = weakref.WeakSet()
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
        network = Inside(fds, root)
        loop = asyncio.get_running_loop()
        loop.add_reader(network.names, self._answer, network)
        for listener in network.listeners:
            loop.add_reader(listener, self._accept, network, listener)
        self._attached.append(network)

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

    def sever(self) -> int:
        """Cut all connections at once and let no more come, from any thread; return how many were cut.

        Nothing is passed on from then on, in either direction. `detach` tidies up.
        """
        for network in list(self._attached):
            for listener in network.listeners:
                _shut(listener)
        return self._cut()

    def cut(self) -> int:
        """Cut all connections that there are; return how many. What comes after is decided on anew."""
        self.forget()
        return self._cut()

    def _cut(self) -> int:
        for upstream in _members(self._upstreams):
            _shut(upstream)
        return sum(map(_shut, _members(self._clients)))

    def detach(self) -> list[asyncio.Task[None]]:
        """End all connections and serve nothing that is attached now; return what is still ending."""
        self.forget()
        loop = asyncio.get_running_loop()
        for network in self._attached:
            for one in (network.names, *network.listeners):
                loop.remove_reader(one)
            network.close()
        self._attached.clear()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        return serving

    async def aclose(self) -> None:
        """End all connections and stop serving."""
        await asyncio.gather(*self.detach(), return_exceptions=True)

    def _answer(self, network: Inside) -> None:
        with contextlib.suppress(OSError):
            query, who = network.names.recvfrom(_LONGEST_QUERY)
            name = asked(query)
            if name and (why := self._closes(name)):
                self._keep(self._refuse_name(network, query, who, Decision(Attempt(name, 0), False, why)))
            elif answer := self.names.answer(query):
                network.names.sendto(answer, who)

    def _closes(self, name: str) -> str:
        """Return why nothing of this name can be reached, "" where something may be.

        To be told so at once is what programs can live with: from a connection that fails they expect better days,
        and try again for minutes.
        """
        why = self.destinations.closes(name)
        if why != NOT_LISTED:
            return why
        said = [answer.result() for (host, _), answer in self._answers.items() if host == name and answer.done()]
        if said and not any(said):
            return DECLINED
        return "" if self._can_ask() else why

    async def _refuse_name(self, network: Inside, query: bytes, who: tuple[str, int], decision: Decision) -> None:
        program, command = await network.owner(socket.IPPROTO_UDP, who, network.names.getsockname())
        self._note(decision._replace(attempt=decision.attempt._replace(program=program, command=command)))
        with contextlib.suppress(OSError):
            network.names.sendto(self.names.answer(query, closed=True), who)

    def _keep(self, serving: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(serving)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _accept(self, network: Inside, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        self._clients.add(client)
        if len(self._serving) >= _MOST_CONNECTIONS:
            reset(client)
            return
        self._keep(self._serve(client, peer, network))

    async def _serve(self, client: socket.socket, peer: tuple[str, int], network: Inside) -> None:
        address, port = _destination(client)
        attempt = Attempt(self.names.name_of(address) or address, port)
        try:
            if address.startswith("127."):
                return  # to the listener itself, which is no way out
            program, command = await network.owner(socket.IPPROTO_TCP, peer, (address, port))
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
        if not self._can_ask():
            raise Refused(NOT_LISTED)
        key = (attempt.host, attempt.port)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.ensure_future(self._ask(attempt))
        if await asyncio.shield(answer):
            return "allowed by the person"
        raise Refused(DECLINED)

    async def _dial(self, host: str, port: int) -> socket.socket:
        """Return a connection to a destination that may be reached; raise `Refused`."""
        upstream = await self._dialled(host, port)
        self._upstreams.add(upstream)
        return upstream

    async def _dialled(self, host: str, port: int) -> socket.socket:
        proxy = self._proxy(host, port) if host != THIS_MACHINE else None
        literal = as_address(host)
        if proxy is not None:
            if literal is not None and (why := self.destinations.refuses_address(literal, port)):
                raise Refused(why)
            return await dial_through(proxy, host, port)
        if host == THIS_MACHINE:
            return await dial_first([ipaddress.IPv4Address("127.0.0.1")], port)
        try:
            addresses = [literal] if literal is not None else await self._resolve(host, port)
        except OSError:
            raise Refused("there is no such host") from None
        refusals = [self.destinations.refuses_address(address, port) for address in addresses]
        allowed = [address for address, why in zip(addresses, refusals, strict=True) if not why]
        if not allowed:
            raise Refused(refusals[0] if refusals else "there is no such host")
        return await dial_first(allowed, port)


def _shut(one: socket.socket) -> bool:
    """End a connection in both directions; return whether there was one."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    return True


def _members(open_: weakref.WeakSet[socket.socket]) -> list[socket.socket]:
    while True:
        try:
            return list(open_)
        except RuntimeError:  # the event loop has added one meanwhile
            continue


def _destination(client: socket.socket) -> tuple[str, int]:
    """Return where a connection was meant to go before it was redirected."""
    try:
        port, packed = struct.unpack("!2xH4s8x", client.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DESTINATION, 16))
    except OSError:
        host, port = client.getsockname()
        return host, port
    return socket.inet_ntoa(packed), port
