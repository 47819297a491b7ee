"""Ports of a sandbox that this machine's 127.0.0.1 leads to, such as that of a development server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

from lathe.sandbox.relay import relay, reset


class Published:
    """Listens on ports of this machine and leads each connection into the sandbox by `connect`."""

    def __init__(self, connect: Callable[[int], Awaitable[socket.socket]]) -> None:
        self._connect = connect
        self._listeners: list[socket.socket] = []
        self._serving: set[asyncio.Task[None]] = set()

    def open(self, ports: Sequence[int]) -> list[str]:
        """Listen on `ports`; return a sentence for each that cannot be had."""
        troubles = []
        for port in dict.fromkeys(ports):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen()
            except OSError as error:
                listener.close()
                why = (error.strerror or str(error)).lower()
                troubles.append(f"Port {port} of the sandbox is not published: {why}.")
                continue
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, port)
            self._listeners.append(listener)
        return troubles

    def cut(self) -> list[asyncio.Task[None]]:
        """End all connections, and go on listening; return what is still ending."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        return serving

    async def aclose(self) -> None:
        """Stop listening and end all connections."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners.clear()
        await asyncio.gather(*self.cut(), return_exceptions=True)

    def _accept(self, listener: socket.socket, port: int) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        task = asyncio.ensure_future(self._serve(client, port))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket, port: int) -> None:
        try:
            with contextlib.suppress(OSError):
                inside = await self._connect(port)
                inside.setblocking(False)
                with inside:
                    await relay(client, inside)
                client.close()
        finally:
            reset(client)
