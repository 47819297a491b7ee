"""What the way out of a sandbox costs: connections, requests and bytes through it, against the same client outside.

The server is a process on this machine. The client opens connections one after the other, asks on one that stays open,
and reads a large body; inside the sandbox it does so by a name that a rule allows, with nothing but Python's sockets.
The baseline is the same client without a sandbox. The start of a sandbox is measured with and without a way out.

usage: egress.py [--check] [--json] [--rounds N] [--mib N]
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import median, table

from lathe.sandbox.destinations import Address, Destinations
from lathe.sandbox.egress import Egress
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner

BARS = {"connection_ms": 5.0, "request_ms": 1.0, "mib_s": 100.0, "start_ms": 100.0}
CONNECTIONS, REQUESTS = 100, 500
SERVER = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=200)
print(listener.getsockname()[1], flush=True)
block = bytes(1 << 20)
def serve(one):
    with one:
        while word := one.recv(64):
            if word.startswith(b"big"):
                for _ in range(int(word[3:])): one.sendall(block)
                return
            one.sendall(word)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENT = f"""
import json, socket, sys, time
host, port, mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def once():
    with socket.create_connection((host, port)) as one:
        one.sendall(b"x"); one.recv(64)
once()
began = time.perf_counter()
for _ in range({CONNECTIONS}): once()
connection = (time.perf_counter() - began) / {CONNECTIONS}
with socket.create_connection((host, port)) as one:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    began = time.perf_counter()
    for _ in range({REQUESTS}): one.sendall(b"x"); one.recv(64)
    request = (time.perf_counter() - began) / {REQUESTS}
with socket.create_connection((host, port)) as one:
    one.sendall(b"big%d" % mib)
    got, buffer = 0, bytearray(1 << 20)
    began = time.perf_counter()
    while count := one.recv_into(buffer): got += count
    assert got == mib << 20
    speed = mib / (time.perf_counter() - began)
print(json.dumps({{"connection_ms": connection * 1000, "request_ms": request * 1000, "mib_s": speed}}))
"""


async def here(_host: str, _port: int) -> Sequence[Address]:
    return [ipaddress.ip_address("127.0.0.1")]


def runner(workspace: Path, egress: Egress | None) -> Runner:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    return Runner(
        SandboxPolicy(writable_roots=(str(workspace),)), cwd=workspace, env=env, tiers=("bubblewrap",), egress=egress
    )


async def started(workspace: Path, *, way_out: bool) -> float:
    """Return how long a sandbox takes to start, in milliseconds."""
    egress = Egress(Destinations(["name.example"])) if way_out else None
    one = runner(workspace, egress)
    began = time.perf_counter()
    await one.start()
    took = (time.perf_counter() - began) * 1000
    await one.aclose()
    if egress is not None:
        assert not egress.trouble, egress.trouble
        await egress.aclose()
    return took


async def inside(workspace: Path, port: int, mib: int) -> dict[str, float]:
    egress = Egress(Destinations(["name.example", "127.0.0.1"]), resolver=here)
    one = runner(workspace, egress)
    output = bytearray()
    argv = [sys.executable, "-I", "-c", CLIENT, "name.example", str(port), str(mib)]
    process = await one.spawn(argv, cwd=str(workspace), on_output=output.extend)
    await process.wait()
    await one.aclose()
    await egress.aclose()
    found: dict[str, float] = json.loads(output)
    return found


def outside(port: int, mib: int) -> dict[str, float]:
    argv = [sys.executable, "-I", "-c", CLIENT, "127.0.0.1", str(port), str(mib)]
    found: dict[str, float] = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return found


async def run(rounds: int, mib: int) -> dict[str, float]:
    """Return medians, by name; those of the baseline end in `_outside`."""
    rows: list[dict[str, float]] = []
    with (
        tempfile.TemporaryDirectory(dir="/srv" if os.geteuid() == 0 else None) as folder,
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        port = int(server.stdout.readline())
        workspace = Path(folder)
        for _ in range(rounds):
            row = {f"{key}_outside": value for key, value in outside(port, mib).items()}
            row |= await inside(workspace, port, mib)
            row["start_outside_ms"] = await started(workspace, way_out=False)
            row["start_ms"] = await started(workspace, way_out=True)
            rows.append(row)
        server.kill()
    return {key: median([row[key] for row in rows]) for key in rows[0]}


def main() -> int:
    """Run, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=500)
    options = parser.parse_args()
    found = asyncio.run(run(options.rounds, options.mib))
    added = found["start_ms"] - found["start_outside_ms"]
    good = {
        "connection_ms": found["connection_ms"] <= BARS["connection_ms"],
        "request_ms": found["request_ms"] - found["request_ms_outside"] <= BARS["request_ms"],
        "mib_s": found["mib_s"] >= BARS["mib_s"],
        "start_ms": added <= BARS["start_ms"],
    }
    if options.json:
        print(json.dumps({"at": time.time(), "found": found, "bars": BARS, "good": good}))
    else:
        rows = [
            ["a new connection, with who made it, ms", "connection_ms", "at most 5"],
            ["a request on an open one, ms", "request_ms", "at most 1 more"],
            ["a large body, MiB a second", "mib_s", "at least 100"],
        ]
        cells = [[text, f"{found[f'{key}_outside']:.2f}", f"{found[key]:.2f}", bar] for text, key, bar in rows]
        start = [f"{found['start_outside_ms']:.2f}", f"{found['start_ms']:.2f}", "at most 100 more"]
        print(table(["", "outside", "through the way out", "bar"], [*cells, ["start of a sandbox, ms", *start]]))
    return int(options.check and not all(good.values()))


if __name__ == "__main__":
    sys.exit(main())
