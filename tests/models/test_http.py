from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from loopback import LAST, Peer, Request, always, chunk, in_turn, loopback, plain, stream_head, whole

from lathe.models.endpoint import header_lines, parse_endpoint, proxy_for
from lathe.models.http import HttpClient, TransportError, read_body
from lathe.protocol.errors import ConfigError


def client(url: str, environ: dict[str, str] | None = None, **limits: float) -> HttpClient:
    return HttpClient(parse_endpoint(url), environ or {}, **limits)


async def fetch(http: HttpClient, body: bytes = b"{}") -> bytes:
    return await read_body(await http.post("/v1/x", [], [body]), 1 << 30)


async def test_one_connection_serves_request_after_request() -> None:
    async with loopback(always(whole(b"hello"))) as place:
        http = client(place.base_url)
        assert [await fetch(http) for _ in range(5)] == [b"hello"] * 5
        await http.aclose()
        assert len(place.peers) == 1
        assert place.requests[0].line == "POST /v1/x HTTP/1.1"
        assert place.requests[0].header("accept-encoding") == "identity"


async def test_a_kept_connection_that_the_server_closed_is_replaced_silently() -> None:
    async with loopback(always(plain(200, b"once"), keep=False)) as place:
        http = client(place.base_url)
        for _ in range(4):
            assert await fetch(http) == b"once"
        await http.aclose()
        assert len(place.peers) == 4


async def test_a_kept_connection_that_dies_as_the_request_arrives_is_replaced_once() -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        if len(place.requests) == 2:
            peer.reset()
            return False
        await peer.send(plain(200, b"fine"))
        return True

    async with loopback(handler) as place:
        http = client(place.base_url)
        assert await fetch(http) == b"fine"
        assert await fetch(http, b'{"second": 1}') == b"fine"
        await http.aclose()
        assert [request.connection for request in place.requests] == [0, 0, 1]
        assert place.requests[2].body == b'{"second": 1}'


async def test_a_connection_that_dies_in_its_first_request_is_a_cut() -> None:
    async with loopback(always(b"", keep=False)) as place:
        http = client(place.base_url)
        with pytest.raises(TransportError) as caught:
            await fetch(http)
        assert caught.value.fault == "cut"
        assert len(place.peers) == 1
        await http.aclose()


async def test_a_body_cut_short_is_a_cut_wherever_it_is_cut() -> None:
    answer = stream_head() + chunk(b"one") + chunk(b"two") + LAST
    for size in range(len(answer)):
        async with loopback(always(answer[:size], keep=False)) as place:
            http = client(place.base_url)
            with pytest.raises(TransportError) as caught:
                await fetch(http)
            assert caught.value.fault == "cut"
            await http.aclose()


async def test_a_body_may_end_with_the_connection() -> None:
    async with loopback(always(stream_head(chunked=False) + b"all of it", keep=False)) as place:
        http = client(place.base_url)
        assert await fetch(http) == b"all of it"
        assert await fetch(http) == b"all of it"
        await http.aclose()


async def test_a_reset_is_no_end_of_a_body() -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head(chunked=False) + b"half")
        await seen.wait()
        peer.reset()
        return False

    seen = asyncio.Event()
    async with loopback(handler) as place:
        http = client(place.base_url)
        answer = await http.post("/v1/x", [], [b"{}"])
        chunks = answer.chunks()
        assert await anext(chunks) == b"half"
        seen.set()
        with pytest.raises(TransportError, match="reset"):
            await anext(chunks)
        await http.aclose()


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\x00", b"HTTP/1.1 banana\r\n\r\n"])
async def test_what_is_no_http_is_garbage(text: bytes) -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(text)
        await peer.gone()
        return False

    async with loopback(handler) as place:
        http = client(place.base_url, idle_timeout_s=0.2)
        with pytest.raises(TransportError) as caught:
            await fetch(http)
        assert caught.value.fault in ("garbage", "idle")
        await http.aclose()


async def test_silence_is_an_error_after_the_idle_limit() -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head() + chunk(b"and then"))
        await peer.gone()
        return False

    async with loopback(handler) as place:
        http = client(place.base_url, idle_timeout_s=0.02)
        answer = await http.post("/v1/x", [], [b"{}"])
        chunks = answer.chunks()
        assert await anext(chunks) == b"and then"
        with pytest.raises(TransportError, match=r"nothing arrived for 0\.02 s"):
            await anext(chunks)
        await http.aclose()


async def test_a_reader_that_stops_closes_the_socket() -> None:
    left = asyncio.Event()

    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head() + chunk(b"more to come"))
        await peer.gone()
        left.set()
        return False

    async with loopback(handler) as place:
        http = client(place.base_url)
        answer = await http.post("/v1/x", [], [b"{}"])
        chunks = answer.chunks()
        await anext(chunks)
        await chunks.aclose()
        await asyncio.wait_for(left.wait(), 5)
        await http.aclose()


async def test_a_cancelled_wait_closes_the_socket() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(peer: Peer, _request: Request) -> bool:
        asked.set()
        await peer.gone()
        left.set()
        return False

    async with loopback(handler) as place:
        http = client(place.base_url)
        task = asyncio.create_task(fetch(http))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(left.wait(), 5)
        await http.aclose()


async def test_an_answer_given_back_early_keeps_the_connection_if_its_end_arrives() -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head() + chunk(b"enough"))
        await go.wait()
        await peer.send(chunk(b"ignored") + LAST)
        return True

    go = asyncio.Event()
    async with loopback(handler) as place:
        http = client(place.base_url)
        answer = await http.post("/v1/x", [], [b"{}"])
        await anext(answer.chunks())
        answer.release()
        go.set()
        while not http._connection.usable:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert await fetch(http) == b"enoughignored"
        assert len(place.peers) == 1
        await http.aclose()


async def test_words_after_the_end_of_an_answer_are_not_taken_for_the_next() -> None:
    async with loopback(in_turn(plain(200, b"one") + plain(200, b"stray"), plain(200, b"two"))) as place:
        http = client(place.base_url)
        assert await fetch(http) == b"one"
        assert await fetch(http) == b"two"
        assert len(place.peers) == 2
        await http.aclose()


async def test_a_large_answer_is_read_whole_while_the_socket_is_held_back() -> None:
    block = bytes(range(256)) * 4096
    answer = stream_head() + chunk(block) * 24 + LAST
    async with loopback(always(answer)) as place:
        http = client(place.base_url)
        for _ in range(2):
            assert await fetch(http) == block * 24
        await http.aclose()


async def test_a_large_request_arrives_whole_in_pieces() -> None:
    async with loopback(always(plain(200, b"ok"))) as place:
        http = client(place.base_url)
        pieces = [b"[", bytearray(b"1," * 2_000_000), b"2]"]
        answer = await http.post("/v1/x", [], pieces)
        assert await read_body(answer, 10) == b"ok"
        await http.aclose()
        assert place.requests[0].body == b"".join(pieces)


async def test_nobody_listening_is_refused() -> None:
    async with loopback(always(b"")) as place:
        url = place.base_url
    with pytest.raises(TransportError) as caught:
        await fetch(client(url))
    assert caught.value.fault == "refused"


async def test_a_name_that_does_not_exist_is_no_connection() -> None:
    with pytest.raises(TransportError) as caught:
        await fetch(client("http://no-such-host.invalid"))
    assert caught.value.fault == "connect"


async def test_a_plain_request_goes_through_the_proxy_with_its_whole_address() -> None:
    async with loopback(always(plain(200, b"by proxy"))) as proxy:
        environ = {"HTTP_PROXY": f"http://me:s%20t@{proxy.authority}"}
        http = client("http://models.example:8080/v1", environ)
        assert await fetch(http) == b"by proxy"
        await http.aclose()
        assert proxy.requests[0].line == "POST http://models.example:8080/v1/x HTTP/1.1"
        assert proxy.requests[0].header("proxy-authorization") == "Basic bWU6cyB0"


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxied"),
    [
        ("https://api.example.com", "", True),
        ("https://api.example.com", "example.com", False),
        ("https://api.example.com", ".example.com, other", False),
        ("https://badexample.com", "example.com", True),
        ("https://api.example.com:8443", "api.example.com:443", True),
        ("https://api.example.com:8443", "api.example.com:8443", False),
        ("https://api.example.com", "*", False),
        ("https://127.0.0.1", "", False),
        ("https://localhost:9000", "", False),
        ("http://api.example.com", "", False),
    ],
)
def test_the_environment_says_who_is_proxied(url: str, no_proxy: str, proxied: bool) -> None:
    environ = {"https_proxy": "proxy:3128", "NO_PROXY": no_proxy}
    assert (proxy_for(parse_endpoint(url), environ) is not None) is proxied


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for this machine, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.DNSName("localhost"),
        x509.DNSName("models.example"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_https_trusts_the_certificates_of_the_environment(certificate: Path) -> None:
    async with loopback(always(whole(b"secret")), tls=server_context(certificate)) as place:
        http = client(place.base_url, {"SSL_CERT_FILE": str(certificate)})
        assert [await fetch(http) for _ in range(3)] == [b"secret"] * 3
        assert len(place.peers) == 1
        await http.aclose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_https_with_an_unknown_certificate_is_no_connection(certificate: Path) -> None:
    async with loopback(always(whole(b"secret")), tls=server_context(certificate)) as place:
        with pytest.raises(TransportError, match="certificate verify failed") as caught:
            await fetch(client(place.base_url))
        assert caught.value.fault == "connect"
        assert place.requests == []


async def tunnel(peer: Peer, port: int) -> None:
    """Answer a CONNECT and pass bytes both ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))


async def test_https_goes_through_the_proxys_tunnel(certificate: Path) -> None:
    async def connect(peer: Peer, _request: Request) -> bool:
        await tunnel(peer, place.port)
        return False

    async with loopback(always(whole(b"deep")), tls=server_context(certificate)) as place, loopback(connect) as proxy:
        environ = {"SSL_CERT_FILE": str(certificate), "HTTPS_PROXY": f"http://{proxy.authority}"}
        http = client("https://models.example:8443/v1", environ)
        assert [await fetch(http), await fetch(http)] == [b"deep"] * 2
        assert proxy.requests[0].line == "CONNECT models.example:8443 HTTP/1.1"
        assert place.requests[0].line == "POST /v1/x HTTP/1.1"
        await http.aclose()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"what?\r\n\r\n"])
async def test_a_proxy_that_refuses_is_no_connection(answer: bytes) -> None:
    async with loopback(always(answer, keep=False)) as proxy:
        http = client("https://models.example", {"https_proxy": f"http://{proxy.authority}"})
        with pytest.raises(TransportError) as caught:
            await fetch(http)
        assert caught.value.fault == "connect"
        await http.aclose()


@pytest.mark.parametrize("url", ["models.example", "ftp://models.example", "http://", "http://x:notaport", ""])
def test_an_address_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_endpoint(url)


def test_certificates_that_cannot_be_read_are_a_configuration_error() -> None:
    async def connect() -> None:
        await fetch(client("https://models.example", {"SSL_CERT_FILE": "/no/such/file"}))

    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        asyncio.run(connect())


@pytest.mark.parametrize("value", ["a\nb: c", "\x00", "snow ☃"])
def test_a_header_that_http_cannot_carry_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        header_lines([("x-api-key", value)])
    assert value not in str(caught.value)


async def test_a_get_and_a_post_share_the_connection() -> None:
    async with loopback(always(whole(b"list"))) as place:
        http = client(place.base_url)
        assert await read_body(await http.get("/v1/models", []), 100) == b"list"
        assert await fetch(http) == b"list"
        await http.aclose()
    assert [request.line for request in place.requests] == ["GET /v1/models HTTP/1.1", "POST /v1/x HTTP/1.1"]
    assert len(place.peers) == 1
