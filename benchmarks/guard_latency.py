"""What the whole guard adds to a streamed turn of ordinary work: to its beginning, and between its tokens.

Two gateways stand before the same upstream and differ in the guard alone. Conversations of a coding agent grow turn by
turn (requests and files from public sets, never the same twice) and are sent to both, the one right after the other and
in turns first. The beginning is the time to the first event of the answer; a gap is the time between two events that
the upstream sends 5 ms apart.

usage: guard_latency.py [--check] [--json] [--turns N]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from measuring import table
from replica import Replica

DATA = Path(os.environ.get("LATHE_SHARED", "/work/shared")) / "data" / "guard" / "benign_dev.jsonl"
BARS = {"added_p50_ms": 3.0, "gap_p50_ratio": 1.05}
EVENTS = 30
PAUSE_S = 0.005


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "m", "choices": [choice]}
    data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    words = ("the column is renamed in the migration and in the tests that read it, " * 3).split()
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = next(
            int(one.split(b":")[1]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length")
        )
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(EVENTS):
            writer.write(_event({"content": words[number % len(words)] + " "}))
            await asyncio.sleep(PAUSE_S)
        data = b"data: [DONE]\n\n"
        writer.write(_event({}, "stop") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))


async def _serve(port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


class Turn(NamedTuple):
    """One answer: milliseconds to its first event, and between events."""

    first: float
    gaps: list[float]


class Client:
    """Asks one gateway over one connection."""

    def __init__(self, replica: Replica) -> None:
        self._port = int(replica.url.rpartition(":")[2])
        self._key = replica.key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> Turn:
        """Return how one answer came; raise `RuntimeError` where it is none."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        began = time.perf_counter()
        writer.write(head.encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answered[:20]:
            raise RuntimeError((answered + await reader.read(600)).decode())
        times: list[float] = []
        while size := int(await reader.readline(), 16):
            times.append(time.perf_counter())
            await reader.readexactly(size + 2)
        await reader.readline()
        return Turn((times[0] - began) * 1000, [(b - a) * 1000 for a, b in itertools.pairwise(times)])


def conversations(turns: int) -> list[bytes]:
    """Return the requests of agents at work: each conversation grows by a request or by what a tool has read."""
    chance = random.Random(11)
    asked = [json.loads(line)["text"] for line in DATA.read_bytes().splitlines()]
    files = [path.read_text("utf-8", "replace") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    found: list[bytes] = []
    while len(found) < turns:
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are a coding agent. " + chance.choice(asked)}
        ]
        for number in range(12):
            messages.append({"role": "user", "content": f"{chance.choice(asked)} ({len(found)})"})
            found.append(json.dumps({"model": "m", "stream": True, "messages": messages}).encode())
            call = {"name": "shell", "arguments": json.dumps({"command": f"sed -n {number},80p module.py"})}
            id = f"call_{number}"
            messages.append({"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": call}]})
            text = chance.choice(files)
            start = chance.randrange(max(len(text) - 6_000, 1))
            messages.append(
                {"role": "tool", "tool_call_id": id, "content": text[start : start + chance.randrange(200, 6_000)]}
            )
            found.append(json.dumps({"model": "m", "stream": True, "messages": messages}).encode())
            messages.append({"role": "assistant", "content": "Done."})
    return found[:turns]


async def measured(replicas: dict[str, Replica], turns: int) -> dict[str, list[Turn]]:
    """Return the turns of each gateway, each request asked of all of them one right after the other."""
    clients = {name: Client(replica) for name, replica in replicas.items()}
    found: dict[str, list[Turn]] = {name: [] for name in replicas}
    for number, body in enumerate(conversations(turns)):
        names = list(clients) if number % 2 else list(reversed(clients))
        for name in names:
            found[name].append(await clients[name].ask(body))
    return {name: rows[len(rows) // 20 :] for name, rows in found.items()}


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of values does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        asyncio.run(_serve(options.upstream))
        return 0
    from gateway_overhead import free_port

    port = free_port()
    upstream = subprocess.Popen([sys.executable, __file__, "--upstream", str(port)])
    settings = (
        f'[upstreams.up]\nbase_url = "http://127.0.0.1:{port}/v1"\nwires = ["chat"]\n[models.m]\nroutes = ["up"]\n'
    )
    with tempfile.TemporaryDirectory(prefix="lathe-guard-") as scratch:
        replicas = {
            "without the guard": Replica(Path(scratch) / "off", settings + "[guard]\nenabled = false\n"),
            "with the guard": Replica(Path(scratch) / "on", settings),
        }
        try:
            for one in replicas.values():
                one.start()
            found = asyncio.run(measured(replicas, options.turns))
        finally:
            upstream.terminate()
            for one in replicas.values():
                if one.process is not None:
                    one.stop()
    off, on = found["without the guard"], found["with the guard"]
    added = [b.first - a.first for a, b in zip(off, on, strict=True)]
    gaps = {name: [gap for turn in rows for gap in turn.gaps] for name, rows in found.items()}
    figures = {
        "added_p50_ms": percentile(added, 0.5),
        "added_p95_ms": percentile(added, 0.95),
        "added_p99_ms": percentile(added, 0.99),
        "gap_p50_ratio": percentile(gaps["with the guard"], 0.5) / percentile(gaps["without the guard"], 0.5),
        "gap_p99_ratio": percentile(gaps["with the guard"], 0.99) / percentile(gaps["without the guard"], 0.99),
    }
    if options.json:
        print(json.dumps({"at": time.time(), "turns": len(on), **figures}))
    else:
        rows = [
            [
                name,
                *(f"{percentile([turn.first for turn in turns], at):.1f}" for at in (0.5, 0.95, 0.99)),
                *(f"{percentile(gaps[name], at):.2f}" for at in (0.5, 0.99)),
            ]
            for name, turns in found.items()
        ]
        print(table(["ms", "first event p50", "p95", "p99", "between events p50", "p99"], rows))
        print(
            f"added to a turn: p50 {figures['added_p50_ms']:.2f} ms (bar: under 3), p95 {figures['added_p95_ms']:.2f}, "
            f"p99 {figures['added_p99_ms']:.2f}; between events: {figures['gap_p50_ratio']:.3f} times (bar: 1.05)"
        )
    return int(options.check and any(figures[name] >= bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
