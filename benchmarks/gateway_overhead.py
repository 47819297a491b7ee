"""What the gateway costs a request, beside a bare pass-through and LiteLLM's proxy in the same run.

All stand before the same upstream, a server in this file that answers at once, and are asked in turn with the same
requests. Lathe has everything switched on: keys, limits, policy, receipts, audit, SQLite, the guard
(`unguarded` is Lathe without that). Added latency is that of a request through the gateway less that of one straight to
the upstream. CPU is that of the gateway's whole tree.
`--install` puts granian, aiohttp and LiteLLM below `.bench/`.

usage: gateway_overhead.py [--check] [--json] [--quick] [--install] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from measuring import median, table

from lathe.evals.gateway_process import GatewayProcess, free_port

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench" / "gwvenv"
CONNECTIONS = (1, 16, 64)
BARS = {"litellm_ratio": 20.0, "cpu_ratio": 2.0, "ready_s": 1.5, "memory_mb": 120.0}
CHUNKS = 20
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")

WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "scripted",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 60}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
}


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "scripted"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


def _usage() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "scripted"}
    return b"data: " + json.dumps({**head, "choices": [], "usage": WHOLE["usage"]}).encode() + b"\n\n"


class Upstream(asyncio.Protocol):
    """Answers at once; a stream comes in pieces, two milliseconds apart."""

    whole = json.dumps(WHOLE).encode()

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        if len(body) < length:
            return
        self._data = b""
        assert self._transport is not None
        if b'"stream":true' in body.replace(b" ", b""):
            self._task = asyncio.ensure_future(self._stream(self._transport))
            return
        lines = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(self.whole)
        self._transport.write(lines + self.whole)

    async def _stream(self, transport: asyncio.Transport) -> None:
        transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        parts = [_chunk({"content": "word word word "}) for _ in range(CHUNKS)]
        for part in [*parts, _chunk({}, "stop"), _usage() + b"data: [DONE]\n\n"]:
            transport.write(b"%x\r\n%s\r\n" % (len(part), part))
            await asyncio.sleep(0.002)
        transport.write(b"0\r\n\r\n")


async def _serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


BARE = """
import aiohttp
session = None
async def app(scope, receive, send):
    global session
    if scope["type"] != "http":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if session is None:
        session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    url = "http://127.0.0.1:UPSTREAM" + scope["path"]
    async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
        kind = answer.headers["content-type"].encode()
        await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
"""


class Running(NamedTuple):
    """A gateway that is up: how long that took, and what asks it."""

    name: str
    pid: int
    port: int
    key: str
    ready_s: float


def _command(name: str, folder: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    environ = {**os.environ, "PYTHONPATH": ""}
    if name == "bare":
        (folder / "bare.py").write_text(BARE.replace("UPSTREAM", str(upstream)))
        granian = str(BENCH / "bin" / "granian")
        return [granian, "--interface", "asgi", "--port", str(port), "--no-access-log", "bare:app"], environ
    if name == "litellm":
        (folder / "litellm.yaml").write_text(
            "model_list:\n  - model_name: scripted\n    litellm_params:\n      model: openai/scripted\n"
            f"      api_base: http://127.0.0.1:{upstream}/v1\n      api_key: x\n"
            "general_settings:\n  master_key: sk-bench\nlitellm_settings:\n  telemetry: false\n"
        )
        program = str(BENCH / "bin" / "litellm")
        environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        return [program, "--config", "litellm.yaml", "--port", str(port), "--host", "127.0.0.1"], environ
    (folder / "gateway.toml").write_text(
        f'[upstreams.scripted]\nbase_url = "http://127.0.0.1:{upstream}/v1"\nwires = ["chat"]\n'
        '[models.scripted]\nroutes = ["scripted"]\nprice = { input = 1.0, output = 2.0 }\n'
        f"[guard]\nenabled = {str(name == 'lathe').lower()}\n"
    )
    environ["LATHE_HOME"] = str(folder / "home")
    program = str(Path(sys.executable).with_name("lathe"))
    return [program, "serve", "--config", "gateway.toml", "--listen", f"127.0.0.1:{port}"], environ


@contextlib.contextmanager
def running(name: str, folder: Path, upstream: int) -> Iterator[Running]:
    """Start a gateway and wait until it answers a request."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command, environ = _command(name, folder, port, upstream)
    began = time.perf_counter()
    process = GatewayProcess(command, folder, environ, port)
    try:
        key = {"bare": "x", "litellm": "sk-bench"}.get(name, "")
        if not process.wait(120, for_key=not key):
            raise RuntimeError(f"{name} did not start: {process.said}")
        yield Running(name, process.pid, port, key or process.key, time.perf_counter() - began)
    finally:
        process.end()


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def _cpu_ms(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_MS


def _memory_mb(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return total / 1024


class Load(NamedTuple):
    """One measurement; times are milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float
    memory: float


async def load(port: int, key: str, connections: int, count: int, stream: bool, pids: list[int]) -> Load:
    """Ask `count` times over `connections` connections; raise `RuntimeError` for a bad answer."""
    words = "word " * 300
    body = json.dumps(
        {"model": "scripted", "stream": stream, "messages": [{"role": "user", "content": words}]},
        separators=(",", ":"),
    ).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), len(body), body)
    )
    took: list[float] = []

    async def one(times: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(times):
            began = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head[:20]:
                raise RuntimeError(f"a bad answer: {head[:300]!r} {await reader.read(500)!r}")
            if b"content-length:" in head:
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            else:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            took.append((time.perf_counter() - began) * 1000)
        writer.close()

    await asyncio.gather(*(one(3) for _ in range(connections)))
    took.clear()
    before, began = _cpu_ms(pids), time.perf_counter()
    await asyncio.gather(*(one(max(1, count // connections)) for _ in range(connections)))
    wall = time.perf_counter() - began
    took.sort()
    number = len(took)
    return Load(
        number / wall, took[number // 2], took[int(number * 0.99)], (_cpu_ms(pids) - before) / number, _memory_mb(pids)
    )


def _install() -> None:
    subprocess.run([sys.executable, "-m", "venv", str(BENCH)], check=True)
    pip = [str(BENCH / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "granian", "aiohttp", "litellm[proxy]"], check=True)


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a quarter of the requests")
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--only", nargs="+", default=["bare", "lathe", "litellm"])
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        asyncio.run(_serve_upstream(options.upstream))
        return 0
    if options.install:
        _install()
    names = [name for name in options.only if name in ("lathe", "unguarded") or (BENCH / "bin" / "granian").exists()]
    port = free_port()
    upstream = subprocess.Popen([sys.executable, __file__, "--upstream", str(port)])
    try:
        with tempfile.TemporaryDirectory(prefix="lathe-gateway-") as scratch:
            return _measure(names, Path(scratch), port, upstream.pid, options)
    finally:
        upstream.kill()
        upstream.wait()


def _measure(names: list[str], scratch: Path, port: int, pid: int, options: argparse.Namespace) -> int:
    while not _answers_raw(port):
        time.sleep(0.02)
    share = 4 if options.quick else 1
    found: dict[str, dict[str, Load]] = {}
    ready: dict[str, float] = {}
    memory: dict[str, float] = {}
    cases = [(connections, stream) for stream in (False, True) for connections in CONNECTIONS]
    found["upstream"] = {
        _case(*case): asyncio.run(load(port, "x", case[0], _number(2000 // share, *case), case[1], [pid]))
        for case in cases
    }
    for name in names:
        count = (320 if name == "litellm" else 4000) // share
        with running(name, scratch / name, port) as gateway:
            pids = _tree(gateway.pid)
            ready[name] = gateway.ready_s
            print(f"{name} is up after {gateway.ready_s:.2f} s", file=sys.stderr)
            found[name] = {
                _case(*case): asyncio.run(
                    load(gateway.port, gateway.key, case[0], _number(count, *case), case[1], pids)
                )
                for case in cases
            }
            memory[name] = max(one.memory for one in found[name].values())
    wrong = _missed(found, ready, memory)
    if options.json:
        plain = {name: {case: one._asdict() for case, one in cases.items()} for name, cases in found.items()}
        print(json.dumps({"loads": plain, "ready_s": ready, "memory_mb": memory, "missed": wrong}))
    else:
        _print(found, ready, memory)
        print("\n".join(f"missed: {line}" for line in wrong))
    return int(options.check and bool(wrong))


def _number(count: int, connections: int, stream: bool) -> int:
    """Return how many requests to send: a stream takes 50 ms at least."""
    return min(count, 100 + 20 * connections) if stream else count


def _answers_raw(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _case(connections: int, stream: bool) -> str:
    return f"{'stream' if stream else 'JSON'}, {connections}"


def _missed(found: dict[str, dict[str, Load]], ready: dict[str, float], memory: dict[str, float]) -> list[str]:
    wrong = []
    for case, mine in found.get("lathe", {}).items():
        if "litellm" in found and mine.rate < BARS["litellm_ratio"] * found["litellm"][case].rate and "JSON" in case:
            wrong.append(f"{case}: {mine.rate / found['litellm'][case].rate:.1f} times LiteLLM's rate")
    if "lathe" in found and "bare" in found:
        for kind in ("JSON", "stream"):
            ratios = [one.cpu / found["bare"][case].cpu for case, one in found["lathe"].items() if kind in case]
            if median(ratios) > BARS["cpu_ratio"]:
                wrong.append(f"{kind}: {median(ratios):.2f} times the CPU of the bare pass-through")
    if ready.get("lathe", 0) > BARS["ready_s"]:
        wrong.append(f"ready after {ready['lathe']:.2f} s")
    if memory.get("lathe", 0) > BARS["memory_mb"]:
        wrong.append(f"{memory['lathe']:.0f} MB")
    return wrong


def _print(found: dict[str, dict[str, Load]], ready: dict[str, float], memory: dict[str, float]) -> None:
    rows = []
    for name in found:
        for case, one in found[name].items():
            direct = found["upstream"][case]
            rows.append(
                [
                    name,
                    case,
                    f"{one.rate:.0f}",
                    f"{one.cpu:.2f}",
                    f"{one.p50 - direct.p50:.1f} / {one.p99 - direct.p99:.1f}" if name != "upstream" else "-",
                ]
            )
    print(table(["", "kind, connections", "requests a second", "CPU ms a request", "added p50 / p99, ms"], rows))
    print()
    print(
        table(["", "ready, s", "memory, MB"], [[name, f"{ready[name]:.2f}", f"{memory[name]:.0f}"] for name in ready])
    )


if __name__ == "__main__":
    sys.exit(main())
