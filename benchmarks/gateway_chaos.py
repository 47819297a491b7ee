"""The gateway under upstreams that fail and replicas that die: what is charged, what is said, what it holds in memory.

64 clients (the vendors' own libraries) ask two replicas on one PostgreSQL, whose two upstreams fail in nineteen ways
(faulty_upstream.py); one speaks Messages only, so that some answers are translated. One replica is killed every 30 s
and started anew; the other one lives, and its memory is watched. What every client saw is then held against the
records.

usage: gateway_chaos.py [--check] [--json] [--minutes 10] [--clients 64] [--seed 1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from chaos_clients import Client, Outcome
from faulty_upstream import usage_of
from measuring import median, table
from postgresql import Cluster
from replica import Replica

PRICE = (3.0, 15.0)
DEAD_S = 15.0
"""After this long a replica that says nothing is dead, and its requests are lost."""
GROWTH = 0.10
_SHARE = 0.3
_GRACE_S = 1.0


class Plan(NamedTuple):
    """How long, with how many clients, how often a replica is killed (seconds), and what the draws begin with.

    With `hurry` a dead replica's silence is made older in the database, where else one would wait.
    """

    seconds: float = 600.0
    clients: int = 64
    kill_every_s: float = 30.0
    seed: int = 1
    hurry: bool = False


class Found(NamedTuple):
    """What a run came to: `figures` by name, and a sentence for everything that must not be."""

    figures: dict[str, Any]
    wrong: list[str]


def settings(first: str, second: str) -> str:
    """Return the gateway's settings: a model for each wire, asked at either upstream.

    The second one speaks Messages alone, and is the first that is asked for Responses: those are translated.
    """
    lines = ["mend = false"]
    for name, url, wires in (("u0", first, ["chat", "responses", "messages"]), ("u1", second, ["messages"])):
        lines += [f"[upstreams.{name}]", f'base_url = "{url}"', f"wires = {wires}"]
        lines += ['key_env = ""', "idle_timeout_s = 2.0", "connect_timeout_s = 2.0"]
    for wire in ("chat", "responses", "messages"):
        routes = ["u1", "u0"] if wire == "responses" else ["u0", "u1"]
        lines += [f"[models.chaos-{wire}]", f"routes = {routes}"]
        lines += [f"price = {{ input = {PRICE[0]}, output = {PRICE[1]} }}"]
    return "\n".join(lines) + "\n"


class Upstream:
    """A faulty upstream that runs."""

    def __init__(self, seed: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("faulty_upstream.py"))]
        self._process = subprocess.Popen(
            [*command, "--seed", str(seed), "--share", str(_SHARE)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.dealt: Counter[str] = Counter()

    def close(self) -> Counter[str]:
        """Stop it, and return what it dealt out."""
        if self._process.poll() is None:
            self._process.terminate()
            out, _ = self._process.communicate()
            self.dealt = Counter(json.loads(out))
        return self.dealt


class Memory:
    """What a replica holds, second by second."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    async def watch(self, replica: Replica) -> None:
        while True:
            self._samples.append((time.monotonic(), replica.resident_mb()))
            await asyncio.sleep(1)

    def ends(self) -> tuple[float, float]:
        """Return MB in the first minute (or sixth) and in the last one: the median of each."""
        first, last = self._samples[0][0], self._samples[-1][0]
        span = min(60.0, (last - first) / 6)
        begin = [mb for at, mb in self._samples if at <= first + span]
        return median(begin), median([mb for at, mb in self._samples if at >= last - span])


async def _kills(replica: Replica, plan: Plan, until: float, deaths: list[tuple[float, float]]) -> None:
    """Kill a replica at regular times, and note when it was away."""
    begun = time.monotonic()
    for number in itertools.count(1):
        due = begun + number * plan.kill_every_s
        if due >= until:
            return
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        at = time.time()
        replica.stop(signal.SIGKILL)
        await asyncio.to_thread(replica.start)
        deaths.append((at, time.time()))


async def _run(plan: Plan, replicas: list[Replica]) -> tuple[list[Outcome], list[tuple[float, float]], Memory]:
    outcomes: list[Outcome] = []
    deaths: list[tuple[float, float]] = []
    memory = Memory()
    until = time.monotonic() + plan.seconds
    clients = [
        Client(number, number // 3 % 2, replicas[number // 3 % 2].url, replicas[0].key, plan.seed)
        for number in range(plan.clients)
    ]
    watching = asyncio.create_task(memory.watch(replicas[0]))
    killing = asyncio.create_task(_kills(replicas[1], plan, until, deaths))
    await asyncio.gather(*(client.run(until, outcomes) for client in clients))
    await killing
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return outcomes, deaths, memory


class Books:
    """What the database says at the end."""

    def __init__(self, rows: list[Any], spend: int, alive: set[str]) -> None:
        self.rows = {row["id"]: row for row in rows}
        self.spend = spend
        self.alive = alive


async def _books(dsn: str, plan: Plan) -> Books:
    """Return the records, once no request is open any more or a dead replica's time is well past."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        if plan.hurry:
            await asyncio.sleep(_GRACE_S + 1)  # those that live have said so since
            old = int((time.time() - _GRACE_S - 0.5) * 1000)
            await connection.execute(f"update replicas set seen = seen - {int(DEAD_S * 1000)} where seen < {old}")
        for _ in range(int(DEAD_S + 5) * 2):
            if not await connection.fetchval("select count(*) from requests where state = 'open'"):
                break
            await asyncio.sleep(0.5)
        rows = await connection.fetch("select * from requests")
        scopes = "scope like 'organisation:%' and length(period) = 7"
        spend = await connection.fetchval(f"select coalesce(sum(cost), 0) from spend where {scopes}")
        alive = await connection.fetch("select id from replicas where seen > $1", int((time.time() - 5) * 1000))
        return Books(rows, int(spend), {row["id"] for row in alive})
    finally:
        await connection.close()


def charge(usage: tuple[int, int]) -> int:
    """Return micro-dollars for tokens in and out."""
    return round(usage[0] * PRICE[0] + usage[1] * PRICE[1])


def _judge(outcomes: list[Outcome], deaths: list[tuple[float, float]], books: Books) -> list[str]:
    """Return a sentence for everything that must not be."""
    wrong: list[str] = []
    for one in outcomes:
        about = f"{one.wire}{' stream' if one.stream else ''} {one.request or 'without id'}"
        row = books.rows.get(one.request)
        if one.kind == "complete":
            expected = usage_of(one.number)
            if row is None or row["state"] != "done":
                wrong.append(f"lost: {about} was complete, and is {row['state'] if row else 'not'} on record")
                continue
            recorded = (row["input_tokens"], row["output_tokens"])
            if not (recorded == one.usage == (expected.input, expected.output)):
                wrong.append(f"usage: {about} used {expected}, its caller saw {one.usage}, on record is {recorded}")
            if row["cost"] != charge(recorded):
                wrong.append(f"charge: {about} cost {charge(recorded)}, on record is {row['cost']}")
        elif one.kind == "silent":
            wrong.append(f"silent: {about} ended before its end without an error")
        elif one.kind == "foreign":
            wrong.append(f"foreign: {about} raised what is no error of the library's: {one.error}")
        elif one.error.startswith(("RemoteProtocolError", "ReadError", "APIConnectionError")):
            away = any(begin - _GRACE_S <= one.at <= end + _GRACE_S for begin, end in deaths)
            if one.replica == 0 or not away:
                wrong.append(f"broken off: {about} at a replica that lived: {one.error}")
        elif one.error.startswith("500 "):
            wrong.append(f"500: {about}: {one.error}")
    for row in books.rows.values():
        if row["state"] == "open":
            wrong.append(f"open: {row['id']} of {'a living' if row['replica'] in books.alive else 'a dead'} replica")
    total = sum(row["cost"] for row in books.rows.values())
    if total != books.spend:
        wrong.append(f"spend: {books.spend} micro-dollars were spent, the records come to {total}")
    return wrong


def chaos(folder: Path, plan: Plan) -> Found:
    """Run it all below `folder`."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.close)
        database = cluster.url(cluster.new_database())
        upstreams = [Upstream(plan.seed * 10 + number) for number in range(2)]
        for each in upstreams:
            stack.callback(each.close)
        replicas: list[Replica] = []
        for name in "ab":
            key = replicas[0].key if replicas else ""
            asked = settings(*(each.url for each in upstreams))
            replica = Replica(folder / name, asked, database=database, key=key)
            stack.callback(_end, replica)
            replica.start()
            replicas.append(replica)
        began = time.monotonic()
        outcomes, deaths, memory = asyncio.run(_run(plan, replicas))
        took = time.monotonic() - began
        books = asyncio.run(_books(database.replace("postgresql+asyncpg", "postgresql"), plan))
        dealt = sum((each.close() for each in upstreams), Counter[str]())
        for replica in replicas:
            if "Traceback" in replica.said():
                print(replica.said()[-3000:], file=sys.stderr)
    wrong = _judge(outcomes, deaths, books)
    first, last = memory.ends()
    figures = {
        "seconds": round(took, 1),
        "requests": len(outcomes),
        "kills": len(deaths),
        "away_s": round(median([end - begin for begin, end in deaths]), 2),
        "seen": dict(Counter(one.kind for one in outcomes)),
        "faults": dict(dealt),
        "records": dict(Counter(row["state"] for row in books.rows.values())),
        "usd": round(books.spend / 1e6, 4),
        "memory_first_mb": round(first, 1),
        "memory_last_mb": round(last, 1),
        "memory_growth": round(last / first - 1, 3),
        "wrong": dict(Counter(each.partition(":")[0] for each in wrong)),
    }
    return Found(figures, wrong)


def _end(replica: Replica) -> None:
    if replica.process is not None:
        replica.stop()


def main() -> int:
    """Run, print, and return 1 with --check where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=30, metavar="SECONDS")
    options = parser.parse_args()
    plan = Plan(options.minutes * 60, options.clients, options.kill_every, options.seed)
    with tempfile.TemporaryDirectory(prefix="lathe-chaos-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        figures, wrong = chaos(Path(folder), plan)
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures, "wrong": wrong}))
    else:
        seen, bad = figures["seen"], figures["wrong"]
        charges = sum(bad.get(what, 0) for what in ("lost", "usage", "charge", "spend"))
        ends = sum(bad.get(what, 0) for what in ("silent", "foreign", "broken off", "500"))
        rows = [
            ["requests; kills of a replica", f"{figures['requests']:,}; {figures['kills']}", ""],
            ["answers seen whole", f"{seen.get('complete', 0):,}", ""],
            ["faults of the upstreams", f"{sum(figures['faults'].values()) - figures['faults'].get('well', 0):,}", ""],
            ["charges lost, doubled or wrong", str(charges), "0"],
            ["answers that ended without an error of the library's", str(ends), "0"],
            ["records open after 15 s", str(bad.get("open", 0)), "0"],
            [
                "memory in the first and the last minute, MB",
                f"{figures['memory_first_mb']:.0f}; {figures['memory_last_mb']:.0f}",
                "+10 %",
            ],
        ]
        print(table([f"{plan.clients} clients, {figures['seconds']:.0f} s", "found", "bar"], rows))
        print("\n".join(wrong[:40]))
    return int(options.check and (bool(wrong) or figures["memory_growth"] >= GROWTH))


if __name__ == "__main__":
    sys.exit(main())
