"""An installation for tests: two organisations with people of every role, and the services of one replica."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rulings import furnish_decisions
from sqlalchemy import insert

from lathe.gateway.admin import applications, entitlements, keys, people, rollouts
from lathe.gateway.admin.shapes import NewGroup, NewKey
from lathe.gateway.admin.shapes_access import Judgement, NewApplication, NewEngagement, NewRollout, Wanted
from lathe.gateway.identity.proofs import bring_proof
from lathe.gateway.principals import key_digest, key_hint, new_key
from lathe.gateway.receipts import Receipt, Usage, signed
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

PEOPLE = {
    "olga": ("org_acme", ["operator"]),
    "rita": ("org_acme", ["reviewer"]),
    "rolf": ("org_acme", ["reviewer"]),
    "aude": ("org_acme", ["auditor"]),
    "anna": ("org_acme", ["admin"]),
    "mary": ("org_acme", ["member"]),
    "bert": ("org_beta", ["admin"]),
    "bill": ("org_beta", ["member"]),
}
"""The users `user_NAME`, who have the addresses NAME@acme.example and NAME@beta.example."""


class Clock:
    """The time, and a little more where a test says so."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


async def populate(database: Database) -> None:
    """Make the organisations `org_acme` and `org_beta`, a project each, and everybody of `PEOPLE`."""
    async with database.begin() as connection:
        for name in ("acme", "beta"):
            await connection.execute(
                insert(schema.organisations).values(id=f"org_{name}", name=name.title(), created=1)
            )
            await connection.execute(
                insert(schema.projects).values(
                    id=f"proj_{name}", organisation=f"org_{name}", name=f"{name} project", created=1
                )
            )
        for name, (organisation, roles) in PEOPLE.items():
            await connection.execute(
                insert(schema.users).values(
                    id=f"user_{name}",
                    organisation=organisation,
                    email=f"{name}@{organisation.removeprefix('org_')}.example",
                    name=name.title(),
                    roles=roles,
                    created=1,
                )
            )
            await connection.execute(
                insert(schema.memberships).values(
                    project=organisation.replace("org", "proj"), user=f"user_{name}", role="member"
                )
            )
        await database.changed(connection)


async def make_key(database: Database, organisation: str, user: str | None = None, **more: Any) -> str:
    """Make a key of an organisation, or of one of its users, and return it."""
    key = new_key()
    values = {
        "id": f"key_{key_digest(key)[:12]}",
        "organisation": organisation,
        "user": user,
        "digest": key_digest(key),
        "hint": key_hint(key),
        "scopes": ["relay", "admin"],
        "created": 1,
    } | more
    async with database.begin() as connection:
        await connection.execute(insert(schema.keys).values(values))
        await database.changed(connection, "principals")
    return key


async def open_services(database: Database, home: Path, clock: Clock, **settings: Any) -> Services:
    """Return the services of a replica on a database."""
    home.mkdir(parents=True, exist_ok=True)
    services = await Services.open(
        database=database,
        signer=Signer.open(home / "signing.key"),
        home=home,
        settings=GatewaySettings(**settings),
        replica="gw_test",
    )
    return services._replace(clock=clock)


async def furnish(services: Services) -> dict[str, str]:
    """Give Acme one of everything that the console shows; return the ids by kind."""
    principal = services.directory.principal_of
    olga, rita, mary, anna = (principal(f"user_{name}") for name in ("olga", "rita", "mary", "anna"))
    assert olga and rita and mary and anna
    database, now = services.database, services.clock()
    async with database.begin() as connection:
        values = {"id": "gw_test", "started": now - 7_200_000, "seen": now + 10**9, "address": "http://10.0.0.5:8484"}
        values |= {"signer": services.signer.key_id, "public_key": services.signer.public_key}
        await connection.execute(insert(schema.replicas).values(values))
        await database.changed(connection)
    await services.directory.refresh()
    seen = {"seen": "Passport of the Netherlands, valid until 2031", "how": "In person, Utrecht"}
    for user in ("mary", "anna"):
        await bring_proof(services, rita, "manual", f"user:user_{user}", seen, {})
    ids = {"user": "user_mary", "organisation": "org_acme", "project": "proj_acme"}

    async def apply(who: Any, **more: Any) -> str:
        asked = NewApplication(
            **{"tier": "verified", "why": "We test our own login pages before each release.", **more}
        )
        return (await applications.submit_application(services, who, asked)).id

    first = await apply(mary)
    granted = await applications.review_application(services, rita, first, Judgement(verdict="approve", note="Fits."))
    ids["entitlement"] = granted.entitlement
    ids["own_application"] = await apply(mary, renews=granted.entitlement)
    wanted = Wanted(models=("mend", "gpt-*"), scope=("cyber.defensive",), days=90)
    ids["application"] = await apply(anna, tier="specialist", wanted=wanted, why="Red team of Acme, quarter four.")
    work = NewEngagement(
        project="proj_acme",
        name="Login pages, winter",
        authority="a" * 64,
        expires=now + 30 * 86_400_000,
        domains=("login.acme.example", "id.acme.example"),
        networks=("10.1.0.0/16",),
    )
    ids["engagement"] = (await entitlements.create_engagement(services, rita, work)).id
    made = await keys.create_key(services, mary, NewKey(name="notebook", project="proj_acme"))
    ids["key"] = made.key.id
    ids["group"] = (await people.create_group(services, anna, NewGroup(name="Security"))).id
    schedule = {
        "entries": [
            {"from": "2026-11-01", "tier": "specialist"},
            {"from": "2026-12-01", "tier": "verified", "surface": ["cli", "ide"]},
            {"from": "2026-12-15", "share": 0.1, "region": "eu"},
            {"from": "2027-01-10"},
        ]
    }
    asked = NewRollout(model="mend", schedule=schedule, why="Trusted people first.")
    version = str((await rollouts.propose_rollout(services, olga, asked)).version)
    await rollouts.review_rollout(services, rita, version, Judgement(verdict="approve", note="As agreed."))
    asked = NewRollout(model="mend", schedule={"entries": schedule["entries"][:3]}, why="Not to everyone in January.")
    ids["rollout"] = str((await rollouts.propose_rollout(services, olga, asked)).version)
    ids["receipt"] = "req_1"
    await _requests(services, ids["key"], now)
    ids |= await furnish_decisions(services, ids["key"])
    return ids


async def _requests(services: Services, key: str, now: int) -> None:
    async with services.database.begin() as connection:
        for number in range(1, 40):
            refused = number % 7 == 3
            at = now - number * number * 50_000
            receipt = Receipt(
                id=f"req_{number}",
                at=at,
                organisation="org_acme",
                project="proj_acme",
                user="user_mary",
                key=key,
                requested="mend",
                served="" if refused else "mend",
                wire="responses",
                surface="cli",
                outcome="refuse" if refused else "serve",
                code="model_not_open" if refused else "",
                policy=services.directory.policy.hash,
                replica="gw_test",
                status=403 if refused else 200,
                usage=Usage(input=1_200 * number, output=90 * number),
                cost=3_100 * number,
            )
            text, signature = signed(receipt, services.signer)
            names = ("id", "at", "organisation", "project", "user", "key", "requested", "served", "wire", "surface")
            values = {name: getattr(receipt, name) for name in (*names, "code", "replica", "cost", "status")}
            values |= {"state": "refused" if refused else "done", "input_tokens": receipt.usage.input}
            values |= {"output_tokens": receipt.usage.output, "ended": at + 900}
            values |= {"receipt": text, "signature": signature, "signer": services.signer.key_id}
            await connection.execute(insert(schema.requests).values(values))
        for scope in ("project:proj_acme", f"key:{key}", "organisation:org_acme"):
            spent = {"scope": scope, "period": time.strftime("%Y-%m", time.gmtime(now / 1000)), "requests": 39}
            await connection.execute(insert(schema.spend).values(**spent, cost=2_418_000, tokens=1_006_200))
