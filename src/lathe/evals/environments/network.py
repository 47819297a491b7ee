"""What a room may reach: its way out is Lathe's own egress, whatever the policy, so that a policy can change."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from lathe.evals.environments.base import Door, EnvironmentFault
from lathe.evals.task import Network
from lathe.sandbox.destinations import THIS_MACHINE, Address, Destinations, Standing
from lathe.sandbox.dial import Refused, dial_first, resolve
from lathe.sandbox.egress import Egress
from lathe.sandbox.relay import relay, reset

_MOST_WAITING: Final = 256


class Everywhere(Destinations):
    """All but this machine itself and what hands out its credentials."""

    def standing(self, host: str, port: int, method: str | None = None) -> tuple[Standing, str]:
        """Allow it, unless it is this machine."""
        return ("denied", THIS_MACHINE) if host == THIS_MACHINE else ("allowed", "the task's network is public")

    def closes(self, name: str) -> str:
        """Close no name but this machine's."""
        return f"denied by {THIS_MACHINE}" if name == THIS_MACHINE else ""

    def refuses_address(self, address: Address, port: int) -> str:
        """Refuse what is this machine's own; a network around it, with mirrors of its own, counts as public."""
        if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
            return f"{address} is this machine's own"
        if address.is_private or not address.is_global:
            one = Destinations((str(ipaddress.ip_network(address)),))
            return one.refuses_address(address, port)
        return super().refuses_address(address, port)


def destinations(network: Network) -> Destinations:
    """Return what a policy means; raise `EnvironmentFault` for hosts that make no sense."""
    if network.mode == "public":
        return Everywhere()
    try:
        return Destinations(network.hosts if network.mode == "allowlist" else ())
    except ValueError as error:
        raise EnvironmentFault("start", f"The task's network: {error}.") from None


class Inner(Protocol):
    """A place with a network namespace of its own."""

    async def network(self, doors: Sequence[int], ports: Sequence[int]) -> tuple[list[socket.socket], list[int]]:
        """Return listeners for ports inside, and what `Egress.attach` takes where there are `ports`."""
        ...


class WayOut:
    """The way out of one room and its doors; made when first something may be reached."""

    def __init__(self, room: Inner, root: int, environ: Mapping[str, str]) -> None:
        self._room = room
        self._root = root
        self._environ = environ
        self._egress: Egress | None = None
        self._doors: list[socket.socket] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._policy: Network | None = None

    async def open(self, network: Network, doors: Sequence[Door]) -> None:
        """Open the doors, and the way out as far as the policy goes."""
        wanted = destinations(network)
        egress = self._made(wanted) if network.mode != "none" else None
        if egress is None and not doors:
            return
        ports = egress.ports() if egress is not None else []
        listeners, fds = await self._room.network([door.port for door in doors], ports)
        loop = asyncio.get_running_loop()
        for listener, door in zip(listeners, doors, strict=True):
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener, door)
            self._doors.append(listener)
        if egress is not None:
            egress.attach(fds, self._root)
            self._egress = egress
        self._policy = network

    async def change(self, network: Network) -> None:
        """Have another policy from now on; connections that the last one allowed are cut."""
        if network == self._policy:
            return
        if self._egress is None:
            if network.mode != "none":
                await self.open(network, ())
        else:
            self._egress.destinations = destinations(network)
            self._egress.cut()
        self._policy = network

    async def close(self) -> None:
        """End all connections and stop serving."""
        for listener in self._doors:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._doors.clear()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._egress is not None:
            await self._egress.aclose()
            self._egress = None

    def _made(self, wanted: Destinations) -> Egress:
        from lathe.agent.reach import proxies

        return Egress(wanted, proxy=proxies(self._environ))

    def _accept(self, listener: socket.socket, door: Door) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        if len(self._serving) >= _MOST_WAITING:
            reset(client)
            return
        task = asyncio.ensure_future(_through(client, door))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)


async def _through(client: socket.socket, door: Door) -> None:
    try:
        with contextlib.suppress(OSError, Refused):
            with await dial_first(await resolve(door.host, door.to_port), door.to_port) as upstream:
                await relay(client, upstream)
            client.close()
    finally:
        reset(client)
