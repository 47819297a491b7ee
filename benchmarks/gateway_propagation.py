"""How soon a grant or a revocation is live on every replica of a gateway, and whether any is ever stale after it.

Two replicas, each a process, follow one PostgreSQL with keys and entitlements in it. Entitlements are granted and
revoked by the ordinary operations of a third process; the time runs from the call of the operation until the policy
of a replica decides otherwise. The baseline, in the same run, is a replica that is not told by PostgreSQL and only
asks four times a second.

usage: gateway_propagation.py [--check] [--json] [--changes N] [--keys N] [--held N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path

from measuring import median, table
from postgresql import Cluster
from sqlalchemy import insert

import lathe.gateway.directory as directory_module
from lathe.gateway.admin.applications import review_application, submit_application
from lathe.gateway.admin.entitlements import revoke_entitlement
from lathe.gateway.admin.shapes_access import Judgement, NewApplication, Revocation
from lathe.gateway.bootstrap import bootstrap
from lathe.gateway.directory import Directory
from lathe.gateway.entitlements import grant
from lathe.gateway.principals import Principal, key_digest
from lathe.gateway.services import Services
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.store.gateway import schema
from lathe.store.gateway.database import CHANNEL, Database

BARS = {"p99_s": 2.0, "stale": 0}
REPLICAS = 2
_PATIENCE_S = 30.0


async def replica(url: str, digest: str, listen: str) -> None:
    """Follow the database, and print when what the principal holds becomes other than it was."""
    directory_module.CHANNEL = CHANNEL if listen == "yes" else "nobody_says_anything_here"
    database = Database(url)
    directory = await Directory.open(database)
    watching = asyncio.create_task(directory.watch())
    said: bool | None = None
    while not watching.done():
        who = directory.principal(digest)
        assert who is not None
        live = any(one["state"] == "live" for one in directory.policy.standing(who, time.time_ns() // 1_000_000))
        if live != said:
            said = live
            print(json.dumps({"at": time.monotonic(), "live": live}), flush=True)
        await asyncio.sleep(0.001)


class Follower:
    """A replica in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.live: bool | None = None

    @classmethod
    async def start(cls, url: str, digest: str, *, listen: bool = True) -> Follower:
        command = [sys.executable, __file__, "--follow", url, digest, "yes" if listen else "no"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        follower = cls(process)
        await follower.until(False)
        return follower

    async def until(self, live: bool) -> float:
        """Return the monotonic seconds at which the replica knew, infinity where it never did."""
        while True:
            assert self.process.stdout is not None
            try:
                said = json.loads(await asyncio.wait_for(self.process.stdout.readline(), _PATIENCE_S))
            except TimeoutError:
                return math.inf
            self.live = said["live"]
            if self.live == live:
                return float(said["at"])

    async def stop(self) -> None:
        self.process.kill()
        await self.process.wait()


async def prepare(database: Database, home: Path, keys: int, held: int) -> tuple[Services, Principal, Principal, str]:
    """Fill the database; return the services, who applies, who reviews, and the digest of the applicant's key."""
    await database.migrate()
    key = await bootstrap(database)
    assert key is not None
    signer = Signer.open(home / "signing.key")
    digest = key_digest(key)
    operator = (await Directory.open(database)).principal(digest)
    assert operator is not None
    org, project, now = operator.organisation, operator.project, time.time_ns() // 1_000_000
    async with database.begin() as connection:
        row = {"id": "gw_bench", "started": now, "seen": now, "address": "", "signer": signer.key_id}
        await connection.execute(insert(schema.replicas).values(public_key=signer.public_key, **row))
        person = {"id": "user_reviewer", "organisation": org, "email": "r@example.org", "roles": ["reviewer"]}
        await connection.execute(insert(schema.users).values(created=now, **person))
        columns = {"organisation": org, "project": project, "hint": "", "scopes": ["relay"], "created": now}
        rows = [{"id": f"key_{n}", "digest": f"{n:064}", **columns} for n in range(keys)]
        if rows:
            await connection.execute(insert(schema.keys), rows)
        for number in range(held):
            holder = f"project:other_{number}"
            made, sealed = grant(
                signer, subject=holder, organisation=org, tier="specialist", expires=now * 2, now=now, models=["m"]
            )
            values = {"id": made.id, "organisation": org, "subject": holder, "body": sealed.text}
            values |= {"signature": sealed.signature, "signer": sealed.key, "expires": made.expires}
            await connection.execute(insert(schema.entitlements).values(values))
        await database.changed(connection)
    services = await Services.open(
        database=database, signer=signer, home=home, settings=GatewaySettings(), replica="gw_bench"
    )
    reviewer = services.directory.principal_of("user_reviewer")
    assert reviewer is not None
    return services, operator, reviewer, digest


async def measure(changes: int, keys: int, held: int) -> dict[str, float]:
    """Return seconds until a change was live on all replicas, and how many were stale after it."""
    cluster = Cluster(())
    latencies: list[float] = []
    asking: list[float] = []

    async def note(began: float, live: bool) -> None:
        at = await asyncio.gather(*(one.until(live) for one in followers))
        latencies.append(max(at[:REPLICAS]) - began)
        asking.append(at[REPLICAS] - began)

    with contextlib.ExitStack() as stack:
        stack.callback(cluster.close)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lathe-propagation-")))
        url = cluster.url(cluster.new_database())
        database = Database(url)
        services, operator, reviewer, digest = await prepare(database, home, keys, held)
        watching = asyncio.create_task(services.directory.watch())
        followers = [await Follower.start(url, digest, listen=number < REPLICAS) for number in range(REPLICAS + 1)]
        try:
            for _ in range(changes // 2):
                asked = NewApplication(tier="organisation", why="x", subject=f"project:{operator.project}")
                application = await submit_application(services, operator, asked=asked)
                began = time.monotonic()
                granted = await review_application(
                    services, reviewer, application=application.id, asked=Judgement(verdict="approve")
                )
                await note(began, True)
                began = time.monotonic()
                await revoke_entitlement(services, operator, entitlement=granted.entitlement, asked=Revocation(why="x"))
                await note(began, False)
        finally:
            for one in followers:
                await one.stop()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await database.aclose()
    stale = sum(map(math.isinf, (*latencies, *asking)))
    return {"changes": len(latencies), "stale": stale, **_spread("", latencies), **_spread("asking_", asking)}


def _spread(name: str, seconds: list[float]) -> dict[str, float]:
    found = sorted(seconds)
    p99 = found[min(len(found) - 1, round(len(found) * 0.99))]
    return {f"{name}p50_s": median(found), f"{name}p99_s": p99, f"{name}max_s": found[-1]}


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--held", type=int, default=500, help="entitlements that others hold")
    parser.add_argument("--follow", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        asyncio.run(replica(*options.follow))
        return 0
    figures = asyncio.run(measure(options.changes, options.keys, options.held))
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures}))
    else:
        rows = [
            [
                f"live on both replicas, {name}, s",
                f"{figures[f'{key}_s']:.3f}",
                f"{figures[f'asking_{key}_s']:.3f}",
                bar,
            ]
            for name, key, bar in (("p50", "p50", ""), ("p99", "p99", "under 2"), ("longest", "max", ""))
        ]
        rows.append(["replicas that are stale after", f"{figures['stale']}", "", "0"])
        head = f"{figures['changes']} grants and revocations, {options.keys:,} keys, {options.held:,} entitlements"
        print(table([head, "Lathe", "asking 4 times a second", "bar"], rows))
    return int(options.check and (figures["p99_s"] >= BARS["p99_s"] or figures["stale"] > 0))


if __name__ == "__main__":
    sys.exit(main())
