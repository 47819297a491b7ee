"""The gateway as one ASGI application: everything it is made of, opened and closed in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from lathe.gateway.batches.runner import Runner
from lathe.gateway.bootstrap import bootstrap
from lathe.gateway.directory import now_ms
from lathe.gateway.front import HttpSink, Receive, Scope, Send
from lathe.gateway.guarding.accounts import Accounts
from lathe.gateway.guarding.telling import Post
from lathe.gateway.identity.site import console_site
from lathe.gateway.limits import Limits
from lathe.gateway.records import Records
from lathe.gateway.relay import Relay
from lathe.gateway.replicas import Replica
from lathe.gateway.safeguards import safeguards_of
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.gateway.telemetry import Telemetry
from lathe.gateway.tracing import open_spans
from lathe.gateway.upstreams import Upstreams
from lathe.models.provider import WireName
from lathe.protocol.ids import short_id
from lathe.store.gateway.database import Database, default_url
from lathe.store.gateway.ledger import open_ledger

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
_log = logging.getLogger(__name__)
_SOON_S = 0.5

WIRES: dict[str, WireName] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/responses": "responses",
    "/chat/completions": "chat",
    "/messages": "messages",
}
"""The paths of the relay; clients differ in whether their base URL ends in /v1."""


class Gateway:
    """One replica. `first_key` is the administrator's key, where this was the first start."""

    def __init__(self, settings: GatewaySettings, home: Path, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.first_key: str | None = None
        self._home = home / "gateway"
        self._environ = environ
        self._url = settings.database or default_url(home)
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._rest: App | None = None
        self.services: Services
        self.relay: Relay
        self.runner: Runner
        self.accounts: Accounts
        self.post: Post

    async def open(self, address: str = "") -> None:
        """Open the database and all else; raise `ConfigError`, `ModelRejected` and `StorageError`."""
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack, address)
            self._stack = stack.pop_all()

    async def _open(self, stack: contextlib.AsyncExitStack, address: str) -> None:
        settings = self.settings
        upstreams = Upstreams(settings, self._environ)
        stack.push_async_callback(upstreams.aclose)
        safeguards = await asyncio.to_thread(safeguards_of, settings, now=now_ms()) if settings.safeguards else {}
        database = Database(self._url)
        stack.push_async_callback(database.aclose)
        await database.migrate()
        signer = Signer.open(self._home / "signing.key")
        limits = Limits()
        replica = self.replica = Replica(short_id("gw"), database, signer, limits)
        await replica.register(address)
        stack.push_async_callback(_quietly, replica.leave)
        self.first_key = await bootstrap(database)
        self.services = await Services.open(
            database=database,
            signer=signer,
            home=self._home,
            settings=settings,
            replica=replica.id,
            safeguards=safeguards,
        )
        directory = self.services.directory
        records = Records(open_ledger(database.url), self.services.chain(f"{replica.id}/requests"))
        stack.push_async_callback(records.aclose)
        telemetry = Telemetry(open_spans(self._environ, replica.id))
        stack.push_async_callback(telemetry.aclose)
        secret = self.services.secret
        guard = None
        if settings.guard.enabled:
            # in a thread: it takes long enough for what is known of the database to grow stale
            found = await asyncio.to_thread(importlib.import_module, "lathe.gateway.guarding.guard")
            opened = functools.partial(found.open_guard, secret=secret, home=self._home.parent)
            guard = await asyncio.to_thread(opened, settings.guard, directory, upstreams)
            stack.callback(guard.close)
        self.accounts = Accounts(database, self.services.audit)
        self.post = Post(database, settings.smtp, console_site(settings).origin)
        self.relay = Relay(
            settings=settings,
            upstreams=upstreams,
            directory=directory,
            database=database,
            limits=limits,
            records=records,
            signer=signer,
            secret=secret,
            replica=replica.id,
            telemetry=telemetry,
            guard=guard,
            follow=self.accounts.follow,
        )
        self.runner = Runner(self.relay, self.services)
        stack.push_async_callback(self._stop_tasks)
        for work in (
            self.runner.run(),
            directory.watch(),
            upstreams.watch(),
            replica.beat(),
            self.services.checkpoints(),
            self.accounts.watch(),
            self.post.run(),
        ):
            self._tasks.append(asyncio.create_task(work))
        if guard is not None:
            from lathe.gateway.guarding.taxii import keep_synced

            self._tasks.append(asyncio.create_task(_soon(guard.load)))
            self._tasks.append(asyncio.create_task(keep_synced(guard.intel, self._environ)))

    async def _stop_tasks(self) -> None:
        # not in the midst of a transaction
        async with (
            self.services.directory.looking,
            self.replica.beating,
            self.runner.working,
            self.accounts.working,
            self.post.working,
        ):
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Write what waits and close everything."""
        await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        kind = scope["type"]
        if kind == "http":
            wire = WIRES.get(scope["path"])
            if wire is not None and scope["method"] == "POST":
                await self.relay.answer(wire, scope, receive, HttpSink(send))
                return
        elif kind == "websocket" and scope["path"] in ("/v1/responses", "/responses"):
            from lathe.gateway.sockets import serve_socket

            await serve_socket(self.relay, scope, receive, send)
            return
        elif kind == "lifespan":
            await _lifespan(receive, send)
            return
        if self._rest is None:
            # in a thread: it takes long enough for what is known of the database to grow stale
            found = await asyncio.to_thread(importlib.import_module, "lathe.gateway.pages")
            self._rest = self._rest or found.pages(self)
        await self._rest(scope, receive, send)


async def _soon(work: Callable[[], Awaitable[None]]) -> None:
    """Do what the first request would wait for, once there is time for it: until then others begin to listen."""
    await asyncio.sleep(_SOON_S)
    await work()


async def _quietly(work: Callable[[], Awaitable[None]]) -> None:
    """Do at the end what may fail because the database has gone first."""
    from lathe.protocol.errors import StorageError

    with contextlib.suppress(StorageError):
        await work()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message: Any = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def config_path(home: Path, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Return where the settings are, and whether they must be there."""
    named = environ.get("LATHE_GATEWAY_CONFIG")
    return (Path(named), True) if named else (home / "gateway" / "gateway.toml", False)


def environment() -> dict[str, str]:
    """Return the environment as the gateway reads it."""
    return dict(os.environ)
