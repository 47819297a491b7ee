"""Looking into requests to chosen hosts: which method, and with whose credential.

Only hosts that a rule with methods speaks of, or that a credential is for, are looked into; all else passes as it is.
For TLS the sandbox is given a certificate authority of its own that lives as long as the session, in memory alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import h11

from lathe.protocol.errors import ConfigError
from lathe.sandbox.destinations import Destinations, Rule, parse_rules
from lathe.sandbox.dial import Refused
from lathe.sandbox.egress import Attempt, Decision
from lathe.sandbox.relay import readable

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_BLOCK: Final = 256 * 1024
_LIFETIME: Final = datetime.timedelta(days=30)
_HELLO: Final = b"\x16"
_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
BUNDLE_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
)
"""Variables by which programs are told of a bundle of certificates."""


class Credential(NamedTuple):
    """A header that requests to some hosts are given on their way out; `value` is secret."""

    rules: tuple[Rule, ...]
    header: str
    value: str

    def __repr__(self) -> str:
        return f"Credential({', '.join(rule.text for rule in self.rules)}, {self.header})"


def credential(host: str, header: str, value: str) -> Credential:
    """Return a credential for the hosts that a rule without methods fits; raise ValueError."""
    if not value.isprintable() or not value.isascii():
        raise ValueError("the value has characters that a header cannot carry")
    return Credential(parse_rules([host]), header.lower(), value)


class Inspection:
    """Looks into the requests of one session, by `destinations`, and gives them `credentials`.

    `trust` is the context with which servers are checked.
    """

    def __init__(
        self, destinations: Destinations, credentials: Sequence[Credential] = (), *, trust: ssl.SSLContext | None = None
    ) -> None:
        self._destinations = destinations
        self._credentials = tuple(credentials)
        self._trust = trust or ssl.create_default_context()
        self._trust.set_alpn_protocols(["http/1.1"])
        self._authority: Authority | None = None

    @property
    def authority(self) -> Authority:
        """The authority whose certificates the sandbox must trust."""
        if self._authority is None:
            self._authority = Authority()
        return self._authority

    def wanted(self, host: str, port: int) -> bool:
        """Tell whether requests to this destination are looked into."""
        return self._destinations.by_method(host, port) or self._credential(host, port) is not None

    def _credential(self, host: str, port: int) -> Credential | None:
        return next((one for one in self._credentials if any(rule.fits(host, port) for rule in one.rules)), None)

    async def serve(
        self,
        client: socket.socket,
        attempt: Attempt,
        dial: Callable[[str, int], Awaitable[socket.socket]],
        heard: Callable[[Decision], None],
    ) -> None:
        """Pass the requests of one connection on, as far as each is allowed, and tell of each by `heard`."""
        secure = await _first_byte(client) == _HELLO
        reader, writer = await _accepted(client, self.authority.context_for(attempt.host) if secure else None)
        upstream: asyncio.StreamWriter | None = None
        try:
            connection = await dial(attempt.host, attempt.port)
            trust = self._trust if secure else None
            name = attempt.host if secure else None
            try:
                answers, upstream = await asyncio.open_connection(sock=connection, ssl=trust, server_hostname=name)
            except (ssl.SSLError, OSError) as error:
                raise Refused(f"its certificate is not trusted or TLS failed: {error}") from None
            await _Exchange(self, attempt, heard, (reader, writer), (answers, upstream), secure=secure).run()
        except Refused as refusal:
            heard(Decision(attempt, False, str(refusal)))  # before the client learns of it, and perhaps ends
        finally:
            for one in (writer, upstream):
                if one is not None:
                    one.close()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await one.wait_closed()

    def allowed(self, attempt: Attempt, method: str) -> tuple[bool, str]:
        """Return whether a request with this method is allowed, and why."""
        standing, rule = self._destinations.standing(attempt.host, attempt.port, method)
        if standing == "unlisted":
            return False, f"{method} is not listed"
        return standing == "allowed", f"{standing} by {rule}"

    def headers(self, attempt: Attempt, headers: Sequence[tuple[bytes, bytes]], *, secure: bool) -> list[Any]:
        """Return the headers that a request goes out with; raise `Refused` where a secret would go in the clear."""
        found = self._credential(attempt.host, attempt.port)
        if found is None:
            return list(headers)
        if not secure:
            raise Refused("a credential is for this host, and goes out over TLS only")
        name = found.header.encode()
        return [*((key, value) for key, value in headers if key.lower() != name), (name, found.value.encode())]


class _Exchange:
    """Requests and answers on one connection, one after the other."""

    def __init__(
        self,
        inspection: Inspection,
        attempt: Attempt,
        heard: Callable[[Decision], None],
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        secure: bool,
    ) -> None:
        self._inspection = inspection
        self._attempt = attempt
        self._heard = heard
        self._reader, self._writer = client
        self._answers, self._upstream = upstream
        self._secure = secure
        self._inside = h11.Connection(h11.SERVER)
        self._outside = h11.Connection(h11.CLIENT)

    async def run(self) -> None:
        try:
            while await self._one():
                pass
        except h11.ProtocolError as error:
            raise Refused(f"it is not HTTP: {error}") from None

    async def _one(self) -> bool:
        """Pass one request and its answer on; return whether another may follow."""
        request = await self._next(self._inside, self._reader)
        if not isinstance(request, h11.Request):
            return False
        method = request.method.decode("ascii")
        self._check_host(request)
        allowed, why = self._inspection.allowed(self._attempt, method)
        self._heard(Decision(self._attempt, allowed, why, method))
        if not allowed:
            await self._refuse(why)
            return False
        headers = self._inspection.headers(self._attempt, list(request.headers.raw_items()), secure=self._secure)
        onward = h11.Request(method=request.method, target=request.target, headers=headers)
        await self._send(self._outside, self._upstream, onward)
        up = asyncio.ensure_future(self._pass_body())
        try:
            switched = await self._pass_answer()
            if switched:
                await self._pass_raw()
                return False
            await up
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
        if self._inside.our_state is not h11.DONE or self._inside.their_state is not h11.DONE:
            return False
        if self._outside.our_state is not h11.DONE or self._outside.their_state is not h11.DONE:
            return False
        self._inside.start_next_cycle()
        self._outside.start_next_cycle()
        return True

    def _check_host(self, request: h11.Request) -> None:
        """Raise `Refused` for a request that is meant for another host than the connection."""
        named = dict(request.headers).get(b"host", b"").decode("latin-1").lower()
        name, colon, port = named.rpartition(":")
        if not colon or not port.isdecimal():
            name = named
        if name.rstrip(".") != self._attempt.host:
            raise Refused(f"a request on it was meant for another host, {name or 'none'}")

    async def _pass_body(self) -> None:
        if self._inside.they_are_waiting_for_100_continue:
            await self._send(self._inside, self._writer, h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            event = await self._next(self._inside, self._reader)
            if not isinstance(event, h11.Data | h11.EndOfMessage):
                return
            await self._send(self._outside, self._upstream, event)
            if isinstance(event, h11.EndOfMessage):
                return

    async def _pass_answer(self) -> bool:
        """Pass one answer on; return whether the connection is something else than HTTP from now on."""
        while True:
            event = await self._next(self._outside, self._answers)
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return event is h11.PAUSED
            if isinstance(event, h11.InformationalResponse) and event.status_code == 100:
                continue  # said to the client already
            if isinstance(event, h11.InformationalResponse | h11.Response):
                # made anew, for that of an HTTP/1.0 server could not be sent on
                onward = type(event)(status_code=event.status_code, headers=event.headers, reason=event.reason)
                await self._send(self._inside, self._writer, onward)
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                await self._send(self._inside, self._writer, event)
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return True
            if isinstance(event, h11.EndOfMessage):
                return False

    async def _pass_raw(self) -> None:
        async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter, before: bytes) -> None:
            sink.write(before)
            while block := await source.read(_BLOCK):
                sink.write(block)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

        await asyncio.gather(
            one_way(self._reader, self._upstream, self._inside.trailing_data[0]),
            one_way(self._answers, self._writer, self._outside.trailing_data[0]),
        )

    async def _refuse(self, why: str) -> None:
        text = f"Lathe does not let this request out: {why}.\n".encode()
        headers = [("content-type", "text/plain"), ("content-length", str(len(text))), ("connection", "close")]
        await self._send(self._inside, self._writer, h11.Response(status_code=403, headers=headers))
        await self._send(self._inside, self._writer, h11.Data(data=text))
        await self._send(self._inside, self._writer, h11.EndOfMessage())

    async def _next(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
        while True:
            event = connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            connection.receive_data(await reader.read(_BLOCK))

    async def _send(self, connection: h11.Connection, writer: asyncio.StreamWriter, event: Any) -> None:
        if data := connection.send(event):
            writer.write(data)
            await writer.drain()


async def _first_byte(client: socket.socket) -> bytes:
    """Return the first byte that a client says, and leave it there; raise OSError where it says none."""
    await readable(client)
    return client.recv(1, socket.MSG_PEEK)


async def _accepted(
    client: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    # the transport closes what it is given
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, client.dup(), ssl=context)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Authority:
    """A certificate authority that lives in memory, for one session."""

    def __init__(self) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError:
            raise ConfigError(
                "Rules with methods, and credentials, need the package cryptography.",
                hint="Install Lathe with it: pip install 'lathe[egress]'.",
            ) from None
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _signed("Lathe, for this session only", self._key, None, self._key)
        self._contexts: dict[str, ssl.SSLContext] = {}

    def certificate(self) -> str:
        """Return this authority's own certificate as PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._certificate.public_bytes(Encoding.PEM).decode()

    def bundle(self) -> str:
        """Return the system's certificates and this authority's own, as PEM."""
        system = ""
        for path in _SYSTEM_BUNDLES:
            with contextlib.suppress(OSError):
                system = Path(path).read_text(encoding="utf-8", errors="replace")
                break
        return f"{system.rstrip()}\n{self.certificate()}"

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for a host; it refuses clients that ask for another."""
        if host not in self._contexts:
            self._contexts[host] = self._context(host)
        return self._contexts[host]

    def _context(self, host: str) -> ssl.SSLContext:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(host, key, self._certificate, self._key)
        text = certificate.public_bytes(Encoding.PEM) + self._certificate.public_bytes(Encoding.PEM)
        text += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        memory = os.memfd_create("lathe-certificate", os.MFD_CLOEXEC)  # ssl reads keys from files only
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(text)
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
        context.set_alpn_protocols(["http/1.1"])

        def check(_ssl: Any, name: str | None, _context: Any) -> int | None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name is not None and name.lower() != host else None

        context.sni_callback = check
        return context


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """Return a certificate for a host, or without an issuer that of an authority (RFC 5280)."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is None:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    else:
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
