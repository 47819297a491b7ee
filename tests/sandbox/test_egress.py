"""The way out of a sandbox: real programs inside, real servers outside, names in between."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from lathe.protocol.errors import ConfigError
from lathe.sandbox.destinations import THIS_MACHINE, Address, Destinations
from lathe.sandbox.dial import Proxy
from lathe.sandbox.egress import Attempt, Decision, Egress
from lathe.sandbox.inspection import BUNDLE_VARIABLES, Authority, Inspection, credential
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.published import Published
from lathe.sandbox.runner import Runner

HERE = "127.0.0.1"


class Site(http.server.BaseHTTPRequestHandler):
    """Says which method, host and authorization it was asked with; what is posted comes back."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        said = f"{self.command} {self.headers['host']} {self.headers['authorization']} ".encode() + body
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a web server."""
    server = http.server.ThreadingHTTPServer((HERE, 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def outer() -> Authority:
    """The authority that the servers of these tests have their certificates from."""
    return Authority()


@pytest.fixture
def secure_site(outer: Authority) -> Iterator[int]:
    """The port of a web server with TLS for api.example."""
    server = http.server.ThreadingHTTPServer((HERE, 0), Site)
    context = outer.context_for("api.example")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


class Box:
    """A sandbox with a way out, what was decided, and which addresses names lead to."""

    def __init__(self, runner: Runner, egress: Egress, workspace: Path) -> None:
        self.runner, self.egress, self.workspace = runner, egress, workspace
        self.decisions: list[Decision] = []

    async def run(self, script: str) -> tuple[int, str]:
        output = bytearray()
        process = await self.runner.spawn(["bash", "-c", script], cwd=str(self.workspace), on_output=output.extend)
        status = await asyncio.wait_for(process.wait(), 60)
        self.decisions = self.egress.take(process.name)
        return status, output.decode()

    async def code(self, url: str, *options: str) -> str:
        """Return the status that curl sees, "000" for none."""
        return (await self.run(f"curl -s -m 20 -o body -w '%{{http_code}}' {' '.join(options)} '{url}'"))[1]


MakeBox = Callable[..., "asyncio.Future[Box]"]


async def everything_is_here(_host: str, _port: int) -> Sequence[Address]:
    return [ipaddress.ip_address(HERE)]


@pytest.fixture
async def boxed(workspace: Path, environment: Mapping[str, str]) -> AsyncIterator[MakeBox]:
    made: list[Box] = []

    async def make(
        allow: Sequence[str] = (), deny: Sequence[str] = (), *, tier: str = "bubblewrap", **more: object
    ) -> Box:
        variables = dict(environment) | dict(more.pop("variables", {}))  # type: ignore[call-overload]
        readable = more.pop("readable", ())
        destinations = more.pop("destinations", None) or Destinations(allow, deny)
        more.setdefault("resolver", everything_is_here)
        egress = Egress(destinations, **more)  # type: ignore[arg-type]
        policy = SandboxPolicy(writable_roots=(str(workspace),), hosts=tuple(allow))
        runner = Runner(policy, cwd=workspace, env=variables, egress=egress, tiers=(tier,), readable=readable)  # type: ignore[arg-type]
        try:
            await runner.start()
        except ConfigError as error:
            pytest.skip(f"{tier}: {error.message}")
        made.append(Box(runner, egress, workspace))
        return made[-1]

    yield make
    for box in made:
        await box.egress.aclose()
        await box.runner.aclose()


async def test_a_listed_name_is_reached_by_programs_that_know_of_no_proxy(boxed: MakeBox, site: int) -> None:
    box = await boxed(["*.good.example", HERE])
    assert await box.code(f"http://www.good.example:{site}/") == "200"
    assert [(d.attempt.host, d.attempt.port, d.attempt.program, d.allowed) for d in box.decisions] == [
        ("www.good.example", site, "curl", True)
    ]
    script = f"import urllib.request as u; print(u.urlopen('http://a.good.example:{site}/').read().decode())"
    assert (await box.run(f'python3 -c "{script}"'))[1] == f"GET a.good.example:{site} None \n"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.9", "denied by 192.0.2.9"),
        ("192.0.2.7", "not listed"),
        ("169.254.169.254", "not listed"),
        ("198.19.200.1", "no name was asked for that this address stands for"),
        ("inside.example", "127.0.0.1 is not an address of the public internet"),
        ("nothing.good.example", "there is no such host"),
    ],
)
async def test_what_is_not_listed_is_refused_and_known(boxed: MakeBox, site: int, host: str, reason: str) -> None:
    async def resolver(name: str, _port: int) -> Sequence[Address]:
        if name.startswith("nothing"):
            raise socket.gaierror("no such host")
        return [ipaddress.ip_address(HERE)]

    box = await boxed(["*.good.example", "inside.example"], ["bad.good.example", "192.0.2.9"], resolver=resolver)
    assert await box.code(f"http://{host}:{site}/") == "000"
    assert [(d.attempt.host, d.attempt.port, d.allowed, d.reason) for d in box.decisions] == [
        (host, site, False, reason)
    ]


@pytest.mark.parametrize("command", ["curl -s", "python3 -c 'import socket, sys; socket.getaddrinfo(sys.argv[1], 80)'"])
@pytest.mark.parametrize(
    ("host", "reason"),
    [("evil.example", "not listed"), ("x.bad.example", "denied by *.bad.example"), (THIS_MACHINE, "not listed")],
)
async def test_a_name_of_which_nothing_can_be_reached_is_none(
    boxed: MakeBox, command: str, host: str, reason: str
) -> None:
    box = await boxed(["*.example:443", HERE], ["*.bad.example", "evil.example:443"])
    if host == "evil.example":
        box = await boxed(["*.good.example"])
    assert (await box.run(f"{command} {host}"))[0] != 0
    program = command.split()[0]
    assert box.decisions == [Decision(Attempt(host, 0, program, box.decisions[0].attempt.command), False, reason)]
    assert box.decisions[0].attempt.command


async def test_this_machine_is_reached_by_its_name_alone(boxed: MakeBox, site: int) -> None:
    box = await boxed([THIS_MACHINE])
    assert await box.code(f"http://{HERE}:{site}/") == "000"
    assert await box.code(f"http://{THIS_MACHINE}:{site}/") == "200"


async def test_a_name_is_resolved_once_and_dialled_there(boxed: MakeBox, site: int) -> None:
    asked: list[str] = []

    async def rebinding(name: str, _port: int) -> Sequence[Address]:
        asked.append(name)
        return [ipaddress.ip_address(HERE if len(asked) == 1 else "10.0.0.1")]

    box = await boxed(["name.example", HERE], resolver=rebinding)
    assert await box.code(f"http://name.example:{site}/") == "200"
    assert asked == ["name.example"]
    assert await box.code(f"http://name.example:{site}/") == "000"
    assert box.decisions[0].reason == "10.0.0.1 is not an address of the public internet"


async def test_a_server_may_speak_first_and_both_ways_are_whole(boxed: MakeBox) -> None:
    blob = os.urandom(5_000_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\n")
        digest = hashlib.sha256(await reader.read(-1)).hexdigest()
        writer.write(digest.encode() + b"\n" + blob)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HERE, 0)
    port = server.sockets[0].getsockname()[1]
    box = await boxed(["mail.example", HERE])
    (box.workspace / "blob").write_bytes(blob)
    script = f"""
import hashlib, socket
s = socket.create_connection(("mail.example", {port}))
f = s.makefile("rb")
print(f.readline().decode(), end="")
s.sendall(open("blob", "rb").read()); s.shutdown(socket.SHUT_WR)
print(f.readline().decode(), end="")
print(hashlib.sha256(f.read()).hexdigest())
"""
    (box.workspace / "client.py").write_text(script)
    digest = hashlib.sha256(blob).hexdigest()
    assert await box.run("python3 client.py") == (0, f"220 ready\n{digest}\n{digest}\n")
    server.close()


async def test_another_name_inside_tls_is_refused(boxed: MakeBox, secure_site: int) -> None:
    box = await boxed(["api.example", "front.example", HERE])
    assert await box.code(f"https://api.example:{secure_site}/", "-k") == "200"
    fronted = f"--connect-to api.example:{secure_site}:front.example:{secure_site}"
    assert await box.code(f"https://api.example:{secure_site}/", "-k", fronted) == "000"
    assert [(d.attempt.host, d.allowed) for d in box.decisions] == [("front.example", True), ("front.example", False)]
    assert "another name, api.example" in box.decisions[1].reason


async def test_a_person_is_asked_once_about_what_is_not_listed(boxed: MakeBox, site: int) -> None:
    asked: list[Attempt] = []

    async def ask(attempt: Attempt) -> bool:
        asked.append(attempt)
        await asyncio.sleep(0.05)
        return attempt.host == "yes.example"

    box = await boxed([HERE], ask=ask, can_ask=lambda: True)
    urls = " ".join(f"http://{name}.example:{site}/" for name in ("yes", "yes", "no", "no"))
    status, said = await box.run(f"curl -s -Z -m 20 --fail {urls}")
    assert said.count("GET yes.example") == 2
    assert sorted(attempt.host for attempt in asked) == ["no.example", "yes.example"]
    assert all(attempt.program == "curl" and attempt.command for attempt in asked)
    assert status != 0
    await box.code(f"http://no.example:{site}/")
    assert [(d.attempt.port, "did not allow it" in d.reason) for d in box.decisions] == [(0, True)]
    box.egress.forget()
    await box.code(f"http://no.example:{site}/")
    assert len(asked) == 3


async def test_a_command_in_the_background_is_told_apart(boxed: MakeBox, site: int) -> None:
    box = await boxed([])
    one = await box.runner.spawn(["curl", "-s", f"http://one.example:{site}/"], cwd="/", on_output=len)
    two = await box.runner.spawn(["curl", "-s", f"http://two.example:{site}/"], cwd="/", on_output=len)
    await one.wait()
    await two.wait()
    assert [d.attempt.host for d in box.egress.take(two.name)] == ["two.example"]
    assert [d.attempt.host for d in box.egress.take(one.name)] == ["one.example"]


async def test_what_is_on_the_machine_and_beside_it_stays_closed(boxed: MakeBox, site: int) -> None:
    """No datagram leaves, no other address family does, the listener itself is no way out."""
    box = await boxed(["*", "0.0.0.0/0"], ["127.0.0.0/8"])
    script = f"""
import socket
def attempt(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        try:
            one.connect(address)
            one.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print("answer", one.recv(10))
        except OSError as error:
            print(type(error).__name__)
attempt(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53))
attempt(socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 443))
attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {site}))
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    host, port = line.split()[1].split(":")
    if host == "0100007F" and line.split()[3] == "0A":
        attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(port, 16)))
"""
    (box.workspace / "closed.py").write_text(script)
    _, said = await box.run("python3 closed.py")
    lines = said.splitlines()
    assert len(lines) == 4
    assert not any(line.startswith("answer b'HTTP") for line in lines)


async def test_without_redirection_the_ports_of_rules_are_listened_on(
    boxed: MakeBox, site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lathe.sandbox.namespace._redirects", False)
    box = await boxed([f"name.example:{site}", HERE])
    assert await box.code(f"http://name.example:{site}/") == "200"
    assert await box.code("http://name.example:80/") == "000"
    assert [(d.attempt.port, d.reason) for d in box.decisions] == [(80, "not listed")]


# Looking into requests.


def inspected(outer: Authority, destinations: Destinations, *credentials: tuple[str, str, str]) -> Inspection:
    trust = ssl.create_default_context(cadata=outer.certificate())
    return Inspection(destinations, [credential(*one) for one in credentials], trust=trust)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "bundle.pem"


async def test_methods_are_allowed_one_by_one(boxed: MakeBox, secure_site: int, outer: Authority, bundle: Path) -> None:
    destinations = Destinations(["GET,HEAD api.example", HERE])
    inspection = inspected(outer, destinations)
    bundle.write_text(inspection.authority.bundle())
    variables = dict.fromkeys(BUNDLE_VARIABLES, str(bundle))
    box = await boxed(destinations=destinations, inspection=inspection, variables=variables, readable=(str(bundle),))
    url = f"https://api.example:{secure_site}/"
    assert await box.code(url) == "200"
    assert await box.code(url, "-d", "x") == "403"
    assert [(d.method, d.allowed, d.reason) for d in box.decisions] == [("POST", False, "POST is not listed")]
    script = f"import urllib.request as u; print(u.urlopen('{url}').read().decode())"
    assert (await box.run(f'python3 -c "{script}"'))[1].startswith("GET api.example")
    many = " ".join([url] * 3)
    assert (await box.run(f"curl -sS -w '%{{num_connects}}' {many}"))[1].count("GET") == 3
    big = box.workspace / "big"
    big.write_bytes(b"x" * 300_000)
    wrong = "-H 'Host: other.example'"
    assert await box.code(url, wrong) == "000"
    assert "another host, other.example" in box.decisions[-1].reason


async def test_a_credential_is_put_in_on_the_way_out_only(
    boxed: MakeBox, secure_site: int, site: int, outer: Authority, bundle: Path
) -> None:
    destinations = Destinations(["api.example", HERE])
    inspection = inspected(outer, destinations, ("api.example", "Authorization", "Bearer hidden-token"))
    bundle.write_text(inspection.authority.bundle())
    box = await boxed(
        destinations=destinations,
        inspection=inspection,
        variables=dict.fromkeys(BUNDLE_VARIABLES, str(bundle)),
        readable=(str(bundle),),
    )
    url = f"https://api.example:{secure_site}/"
    status, said = await box.run(f"curl -sS -H 'Authorization: Bearer mine' -d data {url}")
    assert (status, said) == (0, f"POST api.example:{secure_site} Bearer hidden-token data")
    big = box.workspace / "big"
    big.write_bytes(b"x" * 3_000_000)
    status, said = await box.run(f"curl -sS --data-binary @big {url} | wc -c")
    assert int(said) > 3_000_000
    assert "hidden-token" not in (await box.run("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null"))[1]
    assert await box.code(f"http://api.example:{site}/") == "000"
    assert "over TLS only" in box.decisions[-1].reason


async def test_a_server_that_is_not_what_it_says_is_refused(boxed: MakeBox, secure_site: int, bundle: Path) -> None:
    destinations = Destinations(["GET api.example", HERE])
    inspection = Inspection(destinations)  # trusts the system's authorities, of which the server's is none
    bundle.write_text(inspection.authority.bundle())
    box = await boxed(destinations=destinations, inspection=inspection, readable=(str(bundle),))
    assert await box.code(f"https://api.example:{secure_site}/", f"--cacert {bundle}") == "000"
    assert "not trusted" in box.decisions[-1].reason


# Through a proxy, and into the sandbox.


async def test_a_proxy_of_the_machine_is_used(boxed: MakeBox, site: int) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if b"no.example" in heads[-1]:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        onward, to_site = await asyncio.open_connection(HERE, site)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        to_site.write(await reader.read(4096))
        writer.write(await onward.read(4096))
        writer.close()
        to_site.close()

    server = await asyncio.start_server(serve, HERE, 0)
    where = Proxy(HERE, server.sockets[0].getsockname()[1], b"Basic abc")
    box = await boxed(["*.example", THIS_MACHINE], proxy=lambda host, port: where)
    assert await box.code("http://yes.example/") == "200"
    assert heads[0].startswith(b"CONNECT yes.example:80 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic abc" in heads[0]
    assert await box.code("http://no.example/") == "000"
    assert box.decisions[-1].reason == f"the proxy {HERE} answered 407"
    assert await box.code(f"http://{THIS_MACHINE}:{site}/") == "200"
    assert len(heads) == 2  # to itself the machine needs no proxy
    server.close()


async def test_a_port_is_published(boxed: MakeBox) -> None:
    box = await boxed([])
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port = probe.getsockname()[1]
    published = Published(box.runner.connect)
    assert published.open([port]) == []
    assert "not published" in published.open([port])[0]
    (box.workspace / "page").write_text("from inside\n")
    with pytest.raises(OSError):  # nobody listens inside yet: which error it is depends on the kernel
        await _fetch(port)
    server = await box.runner.spawn(["python3", "-m", "http.server", str(port)], cwd=str(box.workspace), on_output=len)
    while "from inside" not in (said := await _fetched(port)):
        await asyncio.sleep(0.02)
    assert "200 OK" in said
    await server.kill()
    await published.aclose()


async def _fetch(port: int) -> str:
    reader, writer = await asyncio.open_connection(HERE, port)
    writer.write(b"GET /page HTTP/1.0\r\n\r\n")
    said = await reader.read(-1)
    writer.close()
    if not said:
        raise ConnectionResetError
    return said.decode()


async def _fetched(port: int) -> str:
    try:
        return await _fetch(port)
    except OSError:
        return ""


async def test_landlock_says_that_it_cannot_open_hosts(boxed: MakeBox) -> None:
    box = await boxed(["name.example"], tier="landlock")
    assert "Landlock cannot open hosts one by one" in box.egress.trouble
    assert (await box.run("python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80))'"))[0] != 0
