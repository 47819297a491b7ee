"""A whole gateway within a test: real HTTP on loopback, a real database, real upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from sqlalchemy import insert, update

from lathe.gateway import entitlements
from lathe.gateway.application import Gateway
from lathe.gateway.settings import GatewaySettings, ModelTable, PriceTable, UpstreamTable
from lathe.protocol.trust import Tier
from lathe.store.gateway.schema import entitlements as granted
from lathe.store.gateway.schema import projects

PRICE = PriceTable(input=1.0, output=2.0)


class Running:
    """A gateway that listens at `url`; `key` is its administrator's, `client` asks with it."""

    def __init__(self, gateway: Gateway, url: str, database: Path) -> None:
        self.gateway = gateway
        self.url = url
        self.key = gateway.first_key or ""
        self.client = httpx2.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {self.key}"}, timeout=30, trust_env=False
        )
        self._database = database

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self._database)) as connection:
            return connection.execute(query, values).fetchall()

    def requests(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self._database)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("select * from requests order by at, id")]

    async def settled(self, count: int) -> list[dict[str, Any]]:
        """Return the records once `count` of them have ended."""
        for _ in range(500):
            found = [row for row in self.requests() if row["state"] != "open"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(self.requests())

    async def set_project(self, **settings: object) -> None:
        """Set the settings of the first project, and wait until they hold."""
        services = self.gateway.services
        async with services.database.begin() as connection:
            await connection.execute(update(projects).values(settings=settings))
            await services.database.changed(connection, "principals", "access")
        await self.gateway.services.directory.refresh()

    async def entitle(self, tier: Tier, *scope: str, models: Sequence[str] = ("*",)) -> str:
        """Grant a tier to the first project, on every surface; return the entitlement's id."""
        services = self.gateway.services
        [(organisation, project)] = self.rows("select organisation, id from projects limit 1")
        now = services.clock()
        made, sealed = entitlements.grant(
            services.signer,
            subject=f"project:{project}",
            organisation=organisation,
            tier=tier,
            models=models,
            scope=scope,
            now=now,
            expires=now + 3_600_000,
        )
        async with services.database.begin() as connection:
            row = {"id": made.id, "organisation": organisation, "subject": made.subject, "expires": made.expires}
            signed = {"body": sealed.text, "signature": sealed.signature, "signer": sealed.key}
            await connection.execute(insert(granted).values(**row, **signed))
            await services.database.changed(connection, "access")
        await services.directory.refresh()
        return made.id

    async def ask(self, model: str, text: str = "Hello", **headers: str) -> httpx2.Response:
        """Ask a model by Chat Completions."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)


def table(*routes: str, **rest: Any) -> ModelTable:
    return ModelTable(routes=routes, **{"price": PRICE, **rest})


def upstream(base_url: str, *wires: Any, **rest: Any) -> UpstreamTable:
    return UpstreamTable(base_url=base_url, wires=wires, **rest)


@contextlib.asynccontextmanager
async def running(settings: GatewaySettings, home: Path) -> AsyncIterator[Running]:
    """Run a gateway on a free port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    gateway = Gateway(settings, home, os.environ)
    await gateway.open(url)
    config = uvicorn.Config(
        gateway, http="httptools", ws="websockets-sansio", lifespan="off", log_level="warning", timeout_keep_alive=75
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listening]))
    found = Running(gateway, url, home / "gateway" / "gateway.sqlite")
    try:
        yield found
    finally:
        await found.client.aclose()
        server.should_exit = True
        await serving
        listening.close()
        await gateway.aclose()
