"""Two organisations with people of every role, and a way to ask the administration as each of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from rulings import DEVELOPS, judge, situation
from sqlalchemy import insert, update
from starlette.applications import Starlette

from lathe.gateway.admin.routes import routes
from lathe.gateway.bootstrap import bootstrap
from lathe.gateway.guarding.accounts import put_in_force
from lathe.gateway.principals import Principal, key_digest
from lathe.gateway.receipts import Receipt, signed
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.guard.ladder import Standing
from lathe.guard.ledger import Proposal, marks_of
from lathe.protocol.ids import ordered_id
from lathe.store.gateway import guard_schema, schema
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
        self.made: list[str] = []
        self.identified = False

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
        """Ask as one of `keys`, or as nobody."""
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

    # --- things of organisation A

    async def furnish(self) -> None:
        """Give organisation A an entitlement, an engagement and a request with its receipt."""
        for kind in ("entitlement", "engagement"):
            self.ids[f"{kind}_a"] = await self.fresh(kind)
        receipt = Receipt(
            id="req_a",
            at=1,
            organisation=self.ids["org_a"],
            project=self.ids["proj_a"],
            key=self.ids["key_member_a"],
            requested="mend",
            wire="chat",
            surface="api",
            outcome="serve",
            policy="",
            replica="gw_test",
        )
        text, signature = signed(receipt, self.services.signer)
        values = {name: getattr(receipt, name) for name in ("id", "at", "organisation", "project", "key", "requested")}
        values |= {"wire": "chat", "surface": "api", "replica": "gw_test", "user": self.ids["user_member_a"]}
        values |= {"state": "done", "receipt": text, "signature": signature, "signer": self.services.signer.key_id}
        async with self.services.database.begin() as connection:
            await connection.execute(insert(schema.requests).values(values))
            spent = {"scope": f"project:{receipt.project}", "period": "2026-11", "cost": 5, "tokens": 7, "requests": 1}
            await connection.execute(insert(schema.spend).values(spent))
        self.ids["receipt_a"] = "req_a"
        reversed_one = self.ids["reversed_a"] = await self.fresh("appeal")
        body = {"verdict": "reverse", "fault": "policy", "reason": "The rule reaches too far."}
        await self.done("reviewer", "POST", f"/admin/v1/appeals/{reversed_one}/decide", body)
        [self.ids["notice_a"]] = [one["id"] for one in (await self.done("member_a", "GET", "/v1/notices"))["data"]]
        self.ids["measure_a"] = await self.fresh("measure")

    async def fresh(self, kind: str) -> str:
        """Make one more thing of organisation A; return its id."""
        id = await getattr(self, f"_new_{kind}")()
        self.made.append(str(id))
        return str(id)

    def of_a(self) -> list[tuple[str, str]]:
        """Return the ids of all that is organisation A's."""
        named = [(name, id) for name, id in self.ids.items() if name.endswith("_a")]
        return named + [("made", id) for id in self.made if "_" in id]

    async def _new_project(self) -> str:
        body = {"name": f"p{len(self.made)}", "organisation": self.ids["org_a"]}
        return (await self.done("operator", "POST", "/admin/v1/projects", body))["id"]

    async def _new_user(self) -> str:
        body = {"email": f"u{len(self.made)}@example.org", "organisation": self.ids["org_a"]}
        return (await self.done("operator", "POST", "/admin/v1/users", body))["id"]

    async def _new_member(self) -> str:
        user = await self._new_user()
        await self.done("operator", "PUT", f"/admin/v1/projects/{self.ids['proj_a']}/members/{user}", {})
        return user

    async def _new_group(self) -> str:
        body = {"name": f"g{len(self.made)}", "organisation": self.ids["org_a"]}
        return (await self.done("operator", "POST", "/admin/v1/groups", body))["id"]

    async def _new_group_member(self) -> str:
        user = await self._new_user()
        await self.done("operator", "PUT", f"/admin/v1/groups/{self.ids['group_a']}/members/{user}")
        return user

    async def _new_key(self) -> str:
        body = {"owner": "machine", "organisation": self.ids["org_a"], "project": self.ids["proj_a"]}
        return (await self.done("operator", "POST", "/admin/v1/keys", body))["key"]["id"]

    async def _new_own_key(self) -> str:
        return (await self.done("member_a", "POST", "/admin/v1/keys", {"project": self.ids["proj_a"]}))["key"]["id"]

    async def _new_application(self) -> str:
        """The member, who has been identified, applies."""
        if not self.identified:
            self.identified = True
            path = f"/admin/v1/users/{self.ids['user_member_a']}/identity"
            await self.done("reviewer", "POST", path, {"note": "passport seen"})
        body = {"tier": "verified", "why": "research"}
        return (await self.done("member_a", "POST", "/v1/access/applications", body))["id"]

    async def _new_entitlement(self) -> str:
        application = await self._new_application()
        path = f"/admin/v1/applications/{application}/review"
        return (await self.done("reviewer", "POST", path, {"verdict": "approve"}))["entitlement"]

    async def _new_engagement(self) -> str:
        body = {"project": self.ids["proj_a"], "name": "work", "domains": ["example.org"]}
        body |= {"authority": "a" * 64, "expires": 9_000_000_000_000}
        return (await self.done("operator", "POST", "/admin/v1/engagements", body))["id"]

    # --- decisions of the guard

    def principal(self, name: str) -> Principal:
        """Return who a key stands for."""
        found = self.services.directory.principal(key_digest(self.keys[name]))
        assert found is not None
        return found

    async def _new_decision(self) -> str:
        text = f"a text that nobody has sent before, {len(self.made)}"
        return (await judge(self.services, self.principal("member_a"), situation(DEVELOPS), text=text))[0]

    async def _new_machine_decision(self) -> str:
        text = f"a text of a machine, {len(self.made)}"
        return (await judge(self.services, self.principal("unscoped"), situation(DEVELOPS), text=text))[0]

    async def _new_appeal(self) -> str:
        decision = await self._new_decision()
        return (await self.done("member_a", "POST", f"/v1/decisions/{decision}/appeal", {}))["id"]

    async def _new_proposal(self, state: str = "open", reviewers: tuple[str, ...] = ()) -> str:
        """A proposal about the member; what was proposed before has ended."""
        marks = marks_of(self.services.secret, user=self.ids["user_member_a"])
        made = Proposal(ordered_id("pro"), marks, "restricted", "The score rose to 21.0.", ())
        values = {"id": made.id, "organisation": self.ids["org_a"], "body": msgspec.json.encode(made).decode()}
        values |= {"wanted": "restricted", "at": self.services.clock()}
        async with self.services.database.begin() as connection:
            await connection.execute(update(guard_schema.proposals).values(state="lifted"))
            await connection.execute(insert(guard_schema.proposals).values(**values, state=state))
            if state == "in_force":
                await put_in_force(connection, made, Standing("restricted", reviewers, made.id), values["at"])
            await self.services.database.changed(connection, "guard")
        return made.id

    async def _new_measure(self) -> str:
        return await self._new_proposal("in_force", ("user_one", "user_two"))

    async def _new_rollout(self) -> str:
        body = {"model": "m", "schedule": {"entries": []}, "why": "later"}
        return (await self.done("second_reviewer", "POST", "/admin/v1/rollouts", body))["version"]
