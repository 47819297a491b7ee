"""Two organisations with people of every role, and a way to ask the administration as each of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import insert
from starlette.applications import Starlette

from lathe.gateway.admin.routes import routes
from lathe.gateway.bootstrap import bootstrap
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database


class Said(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


async def call(
    app: Starlette,
    method: str,
    target: str,
    *,
    key: str = "",
    json_body: Any = None,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Said:
    """Ask an ASGI application, without a socket."""
    parts = urlsplit(target)
    lines = {"host": "gateway", **(headers or {})}
    if key:
        lines["authorization"] = f"Bearer {key}"
    if json_body is not None:
        body = json.dumps(json_body).encode()
        lines.setdefault("content-type", "application/json")
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": ("127.0.0.1", 1),
        "server": ("gateway", 80),
    }
    await app(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Said(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


class World:
    """A gateway's administration with two organisations, `a` and `b`; `keys` are those of each role."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.app = Starlette(routes=routes(services))
        self.keys: dict[str, str] = {}
        self.ids: dict[str, str] = {}

    @classmethod
    async def make(cls, database: Database, home: Path) -> World:
        """Make the world in a fresh database."""
        signer = Signer.open(home / "signing.key")
        operator = await bootstrap(database)
        assert operator
        async with database.begin() as connection:
            values = {"id": "gw_test", "started": 0, "seen": 2**50, "address": "http://gateway"}
            values |= {"signer": signer.key_id, "public_key": signer.public_key}
            await connection.execute(insert(schema.replicas).values(values))
            await database.changed(connection)
        services = await Services.open(
            database=database, signer=signer, home=home, settings=GatewaySettings(), replica="gw_test"
        )
        world = cls(services)
        world.keys["operator"] = operator
        for role in ("reviewer", "auditor", "second_reviewer"):
            await world._person(role, [role.removeprefix("second_")], "", [])
        for tenant in ("a", "b"):
            await world._tenant(tenant)
        await world._key(
            "unscoped",
            {
                "owner": "machine",
                "organisation": world.ids["org_a"],
                "project": world.ids["proj_a"],
                "scopes": ["relay"],
            },
        )
        return world

    async def ask(self, who: str, method: str, target: str, body: Any = None) -> Said:
        """Ask as one of `keys`, or as nobody; the directory is as fresh as it can be."""
        await self.services.directory.refresh()
        return await call(self.app, method, target, key=self.keys.get(who, ""), json_body=body)

    async def done(self, who: str, method: str, target: str, body: Any = None) -> Any:
        """Ask for what must succeed."""
        said = await self.ask(who, method, target, body)
        assert said.status < 300, (method, target, said.body)
        return said.json

    async def _tenant(self, tenant: str) -> None:
        made = await self.done("operator", "POST", "/admin/v1/organisations", {"name": f"org {tenant}"})
        organisation = self.ids[f"org_{tenant}"] = made["id"]
        body = {"name": "main", "organisation": organisation}
        project = self.ids[f"proj_{tenant}"] = (await self.done("operator", "POST", "/admin/v1/projects", body))["id"]
        await self._person(f"admin_{tenant}", ["admin"], organisation, [])
        await self._person(f"member_{tenant}", ["member"], organisation, [project])
        body = {"name": "team", "organisation": organisation, "grants": {"projects": {project: "member"}}}
        self.ids[f"group_{tenant}"] = (await self.done("operator", "POST", "/admin/v1/groups", body))["id"]

    async def _person(self, name: str, roles: list[str], organisation: str, projects: list[str]) -> None:
        body = {"email": f"{name}@example.org", "roles": roles, "organisation": organisation, "projects": projects}
        user = self.ids[f"user_{name}"] = (await self.done("operator", "POST", "/admin/v1/users", body))["id"]
        await self._key(
            name, {"owner": user, "scopes": ["admin", "relay"], **({"project": projects[0]} if projects else {})}
        )

    async def _key(self, name: str, body: dict[str, Any]) -> None:
        made = await self.done("operator", "POST", "/admin/v1/keys", body)
        self.ids[f"key_{name}"], self.keys[name] = made["key"]["id"], made["secret"]
