"""What the gateway stands on goes away, and comes back: its database, an upstream's certificate, the right time."""

from __future__ import annotations

import asyncio
import datetime
import http.server
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from postgresql import Cluster
from serving import Models, Served, Told, ask, scripted_settings, serving
from sqlalchemy import func, insert, select

from lathe.gateway import replicas as replicas_module
from lathe.gateway.limits import Limits
from lathe.gateway.replicas import Replica
from lathe.gateway.signing import Signer
from lathe.models.script import Step, Words
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database

CHAT: dict[str, Any] = {"model": "scripted-chat", "messages": [{"role": "user", "content": "Hi"}]}
HI = Step(say=(Words("Hello"),))
PATH = "/v1/chat/completions"


@pytest.fixture
def on_postgresql(tmp_path: Path, postgresql: Cluster, scripted_models: Models) -> Iterator[tuple[Served, str]]:
    """A gateway on PostgreSQL, and the URL of its database."""
    url = postgresql.url(postgresql.new_database())
    with serving(tmp_path / "gateway", scripted_settings(scripted_models), database=url) as served:
        yield served, url


async def records(url: str) -> list[dict[str, Any]]:
    """The requests on record, once none is open, and that what was spent is their sum."""
    database = Database(url)
    try:
        while True:
            async with database.begin() as connection:
                rows = [dict(row._mapping) for row in await connection.execute(select(schema.requests))]
                scope = schema.spend.c.scope.like("key:%")
                spent = await connection.execute(select(func.sum(schema.spend.c.cost)).where(scope))
            if all(row["state"] != "open" for row in rows):
                assert spent.scalar_one() == sum(row["cost"] for row in rows)
                return rows
            await asyncio.sleep(0.05)
    finally:
        await database.aclose()


def test_a_database_that_goes_away_stops_new_requests_and_loses_none(
    on_postgresql: tuple[Served, str], postgresql: Cluster, models: Models
) -> None:
    served, url = on_postgresql
    models.play(lambda request: Step(say=HI.say, stall_s=3.0, stall_after_events=2) if b"slow" in request.body else HI)
    slow: list[str] = []
    begun = threading.Event()

    def stream() -> None:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0) as client:
            told: Any = [{"role": "user", "content": "slow"}]
            for chunk in client.chat.completions.create(model="scripted-chat", messages=told, stream=True):
                begun.set()
                slow.append(chunk.choices[0].finish_reason or "" if chunk.choices else "")

    thread = threading.Thread(target=stream)
    thread.start()
    begun.wait()
    postgresql.stop()
    answers: list[Told] = []
    while not answers or answers[-1].status == 200:
        answers.append(ask(served, PATH, {**CHAT, "stream": True}))
    refused = ask(served, PATH, CHAT)
    while refused.status == 200:  # what is known is believed for two seconds, and kept until it can be written
        answers.append(refused)
        refused = ask(served, PATH, CHAT)
    for told in (answers.pop(), refused):
        assert told.status == 503 and int(told.headers["retry-after"]) > 0
        assert told.code in ("directory_stale", "records_unavailable")
    thread.join()
    assert slow[-1] == "stop", "the stream that ran did not end well"
    assert ask(served, "/health").status == 503
    postgresql.start()
    while (told := ask(served, PATH, CHAT)).status != 200:
        time.sleep(0.1)
    rows = asyncio.run(records(url))
    done = [row for row in rows if row["state"] == "done"]
    assert len(done) == 2 + sum(one.status == 200 for one in answers)
    assert {row["input_tokens"] for row in done} == {100}
    assert ask(served, "/health").status == 200


def test_what_no_column_holds_keeps_no_other_record_from_being_written(
    on_postgresql: tuple[Served, str], models: Models
) -> None:
    served, url = on_postgresql
    said = {"error": {"message": "no", "type": "invalid_request_error", "code": "c\0" * 100}}
    models.play([Step(error="bad_request", body=json.dumps(said), status=400), HI])
    assert ask(served, PATH, {**CHAT, "model": "a\0b" * 300}).status == 404
    assert ask(served, PATH, {**CHAT, "user": "u\0" * 300, "max_tokens": 10**18}).status == 400
    assert ask(served, PATH, CHAT).status == 200
    assert sorted(row["state"] for row in asyncio.run(records(url))) == ["done", "failed"]


# Certificates.


def certificate(folder: Path, name: str, *, days: int) -> Path:
    """Make a certificate for 127.0.0.1 that its own key signs, valid to `days` from now, with its key in one file."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        said = json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None:
        pass


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up on a certificate is what the test is about


@pytest.fixture
def endpoints(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Endpoints with a good, an expired and a stranger's certificate, by name; the first two are trusted."""
    servers = []
    urls = {}
    trusted = []
    for name, days in (("good", 30), ("expired", -1), ("stranger", 30)):
        path = certificate(tmp_path, name, days=days)
        trusted += [path.read_text()] if name != "stranger" else []
        server = Quiet(("127.0.0.1", 0), Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        urls[name] = f"https://127.0.0.1:{server.server_port}/v1"
    (tmp_path / "trusted.pem").write_text("".join(trusted))
    yield urls
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_upstreams_certificate_that_has_expired_is_no_upstream(endpoints: dict[str, str], tmp_path: Path) -> None:
    lines = ["mend = false"]
    for name, url in endpoints.items():
        lines += [f"[upstreams.{name}]", f'base_url = "{url}"', 'wires = ["chat"]', 'key_env = ""']
        lines += [f"[models.{name}]", f'routes = ["{name}"]']
    lines += ["[models.both]", 'routes = ["expired", "good"]']
    served = Served(tmp_path / "gateway", "\n".join(lines))
    try:
        served.start({"SSL_CERT_FILE": str(tmp_path / "trusted.pem")})
        assert ask(served, PATH, {**CHAT, "model": "good"}).status == 200
        assert ask(served, PATH, {**CHAT, "model": "both"}).status == 200
        for name in ("expired", "stranger"):
            told = ask(served, PATH, {**CHAT, "model": name})
            assert (told.status, told.code) == (502, "upstream_unavailable"), told.body
        states = [(row["state"], row["cost"]) for row in served.settled()]
        assert states == [("done", 0), ("done", 0), ("failed", 0), ("failed", 0)]
        assert "The upstream expired fails:" in served.said() and "certificate has expired" in served.said()
    finally:
        served.stop()


# Clocks.


@pytest.fixture
async def pair(database: Database) -> AsyncIterator[tuple[Replica, Replica]]:
    first, second = (Replica(name, database, Signer.fresh(), Limits()) for name in ("gw_first", "gw_second"))
    await first.register("")
    await second.register("")
    yield first, second


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_replica_whose_clock_is_wrong_is_not_taken_for_dead(
    hours: int, pair: tuple[Replica, Replica], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    skewed, right = pair
    row = dict.fromkeys((column.name for column in schema.requests.c), "")
    row |= dict.fromkeys(("status", "reserved", "cost", "input_tokens", "cached_tokens", "output_tokens", "at"), 0)
    row |= {"id": "r", "replica": skewed.id, "state": "open", "ended": None}
    async with database.begin() as connection:
        await connection.execute(insert(schema.requests).values(row))
    with monkeypatch.context() as patched:
        patched.setattr(replicas_module, "now_ms", lambda: time.time_ns() // 1_000_000 + hours * 3_600_000)
        await skewed._beat()
    await right._beat()
    assert right.alive == 2
    async with database.begin() as connection:
        assert (await connection.execute(select(schema.requests.c.state))).scalar_one() == "open"
