"""A thin HTTP/1.1 client for model endpoints: asyncio and h11, one kept-alive connection.

It does what streaming from a model needs and no more: no redirects, no cookies, no compression, no pool.
Written here because the usual clients cost 200 to 500 ms of start-up and 15 MB (docs/models.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import h11

from lathe.models.endpoint import Endpoint, Proxy, proxy_for, tls_context

if TYPE_CHECKING:
    import ssl

HEAD_LIMIT = 64 * 1024
"""Bytes of response headers; past it the answer is no HTTP of ours."""
HIGH_WATER = 4 * 1024 * 1024
"""Unread bytes of a body past which the socket is not read."""

Fault: TypeAlias = Literal["refused", "connect", "cut", "idle", "garbage"]
Fragment: TypeAlias = bytes | bytearray
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class TransportError(Exception):
    """The exchange failed below HTTP; `fault` says how, the message says it in words."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


class HttpAnswer(Protocol):
    """A response whose body is still to come."""

    status: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with names in lower case."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives; raise `TransportError`."""
        ...

    def release(self) -> None:
        """Say that nobody reads on: the connection is kept if the body ends, and closed if not."""
        ...

    def abort(self) -> None:
        """Close the connection now, unless it already went back whole."""
        ...


class HttpPost(Protocol):
    """What a wire needs of HTTP; the client below, or a tape."""

    async def post(self, target: str, headers: Headers, fragments: Sequence[Fragment]) -> HttpAnswer: ...

    async def aclose(self) -> None: ...


async def read_body(answer: HttpAnswer, limit: int) -> bytes:
    """Return at most `limit` bytes of the body and give the connection back."""
    parts: list[bytes] = []
    size = 0
    async with contextlib.aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= limit:
                break
    answer.release()
    return b"".join(parts)[:limit]


class _Connection(asyncio.Protocol):
    """One socket and its h11 state; data is parsed as it arrives, also while nobody waits for it."""

    def __init__(self, authority: str) -> None:
        self.authority = authority
        self.h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self.transport: asyncio.Transport | None = None
        self.head: h11.Response | None = None
        self.complete = False
        self.lost = False
        self.seen = False
        self.error: TransportError | None = None
        self.discard = False
        self._chunks: list[bytes] = []
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self.seen = True
        self._pump(data)

    def eof_received(self) -> bool:
        self.lost = True
        self._pump(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            if exc is None:
                self._pump(b"")
            elif not self.complete and self.error is None:
                # A reset is no end, not even of a body that has no other end than the connection's.
                self.error = TransportError("cut", "the connection was reset")
        self._wake()

    def _pump(self, data: bytes) -> None:
        if self.error is not None or self.complete:
            # Words after the answer's end, or after garbage: this connection is of no more use.
            self.lost = True
            return
        try:
            self.h11.receive_data(data)
            while (event := self.h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if self._take(event):
                    break
        except h11.RemoteProtocolError as error:
            if self.lost or not data:
                self.error = TransportError("cut", "the connection was closed in the middle of the answer")
            else:
                self.error = TransportError("garbage", f"the answer is no HTTP ({error})")
        if self.lost and not self.complete and self.error is None:
            self.error = TransportError("cut", "the connection was closed before the answer ended")
        self._wake()

    def _take(self, event: object) -> bool:
        """Note `event`; return whether it ends the answer."""
        if isinstance(event, h11.Response):
            self.head = event
        elif isinstance(event, h11.Data):
            if not self.discard:
                self._chunks.append(bytes(event.data))
                self._unread += len(event.data)
                if self._unread > HIGH_WATER and self.transport is not None:
                    self.transport.pause_reading()
        elif isinstance(event, h11.EndOfMessage):
            self.complete = True
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed")
        return self.complete

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The client's side

    @property
    def usable(self) -> bool:
        """Whether the last exchange is over and the socket open, so that another request may go out."""
        return (
            not self.lost
            and self.error is None
            and self.complete
            and self.h11.their_state is h11.DONE
            and not self.h11.trailing_data[0]
            and self.transport is not None
            and not self.transport.is_closing()
        )

    def send(self, head: h11.Request, fragments: Sequence[Fragment]) -> None:
        if self.complete:
            self.h11.start_next_cycle()
        self.head, self.complete, self.seen, self.discard = None, False, False, False
        self._chunks.clear()
        self._unread = 0
        parts: list[Fragment] = [self.h11.send(head) or b""]
        # h11 is told the length only; the bytes go out as they are, in one write with the head.
        self.h11.send_with_data_passthrough(h11.Data(data=_Sized(sum(map(len, fragments)))))  # type: ignore[arg-type]  # h11 documents any object with a length
        self.h11.send(h11.EndOfMessage())
        assert self.transport is not None
        self.transport.write(b"".join([*parts, *fragments]))

    async def wait(self, limit_s: float) -> None:
        """Wait until something arrives; raise `TransportError` after `limit_s` of silence."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit_s):
                await self._waiter
        except TimeoutError:
            raise TransportError("idle", f"nothing arrived for {limit_s:g} s") from None
        finally:
            self._waiter = None

    def drain(self) -> bytes:
        """Return what arrived since the last call."""
        if not self._chunks:
            return b""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._unread > HIGH_WATER and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        self._unread = 0
        return data

    def abort(self) -> None:
        self.lost = True
        if self.transport is not None:
            self.transport.abort()


class _Sized:
    """A length without bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class _Answer:
    def __init__(self, connection: _Connection, idle_timeout_s: float) -> None:
        assert connection.head is not None
        self.status: int = connection.head.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in connection.head.headers}
        self._connection: _Connection | None = connection
        self._idle_timeout_s = idle_timeout_s

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        connection = self._connection
        if connection is None:
            return
        try:
            while True:
                data = connection.drain()
                if data:
                    yield data
                elif connection.complete:
                    self.release()
                    return
                elif connection.error is not None:
                    raise connection.error
                else:
                    await connection.wait(self._idle_timeout_s)
        except BaseException:
            if self._connection is not None:
                self.abort()
            raise

    def release(self) -> None:
        if self._connection is not None:
            self._connection.discard = True
            self._connection = None

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class HttpClient:
    """Posts to one endpoint over one connection at a time, kept alive between posts.

    A kept-alive connection that turns out dead before any byte of its answer came is replaced silently, once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        environ: Mapping[str, str],
        *,
        connect_timeout_s: float = 15.0,
        idle_timeout_s: float = 300.0,
    ) -> None:
        self._endpoint = endpoint
        self._environ = environ
        self._proxy = proxy_for(endpoint, environ)
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._connection: _Connection | None = None
        absolute = self._proxy is not None and not endpoint.tls
        self._origin = f"http://{endpoint.authority}" if absolute else ""

    async def post(self, target: str, headers: Headers, fragments: Sequence[Fragment]) -> HttpAnswer:
        """Send the request and return its answer as soon as the head is there; raise `TransportError`."""
        return await self.request("POST", target, headers, fragments)

    async def get(self, target: str, headers: Headers) -> HttpAnswer:
        """Ask for `target` as `post` does, with no body."""
        return await self.request("GET", target, headers, ())

    async def request(self, method: str, target: str, headers: Headers, fragments: Sequence[Fragment]) -> HttpAnswer:
        """Ask as `post` does, with another method."""
        return await self._ask(self._head(method, target, headers, sum(map(len, fragments))), fragments)

    async def _ask(self, head: h11.Request, fragments: Sequence[Fragment]) -> HttpAnswer:
        kept = self._connection
        if kept is not None and kept.usable:
            answer = await self._exchange(kept, head, fragments, forgive=True)
            if answer is not None:
                return answer
        if kept is not None:
            kept.abort()
        self._connection = await self._connect()
        answer = await self._exchange(self._connection, head, fragments, forgive=False)
        assert answer is not None
        return answer

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.abort()
            # The transport closes its socket in the loop's next round.
            await asyncio.sleep(0)

    def _head(self, method: str, target: str, headers: Headers, length: int) -> h11.Request:
        extra: list[tuple[bytes, bytes]] = [
            (b"host", self._endpoint.authority.encode()),
            (b"accept-encoding", b"identity"),
            (b"content-length", str(length).encode()),
        ]
        if self._origin and self._proxy is not None and self._proxy.authorization:
            extra.append((b"proxy-authorization", self._proxy.authorization))
        return h11.Request(method=method, target=(self._origin + target).encode(), headers=[*extra, *headers])

    async def _exchange(
        self, connection: _Connection, head: h11.Request, fragments: Sequence[Fragment], *, forgive: bool
    ) -> _Answer | None:
        """Return the answer, or None where the connection died with not a byte of one and `forgive` is set."""
        try:
            connection.send(head, fragments)
            while connection.head is None:
                if connection.error is not None:
                    if forgive and not connection.seen:
                        return None
                    raise connection.error
                await connection.wait(self._idle_timeout_s)
            return _Answer(connection, self._idle_timeout_s)
        except BaseException:
            connection.abort()
            raise

    async def _connect(self) -> _Connection:
        endpoint, proxy = self._endpoint, self._proxy
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._open(endpoint, proxy)
        except TimeoutError:
            message = f"no connection to {endpoint.authority} within {self._connect_timeout_s:g} s"
            raise TransportError("connect", message) from None
        except ConnectionRefusedError:
            raise TransportError("refused", f"{endpoint.authority} refuses connections") from None
        except OSError as error:
            # Covers names that do not resolve and certificates that do not verify; both say so themselves.
            reason = error.strerror or str(error) or type(error).__name__
            raise TransportError("connect", f"no connection to {endpoint.authority}: {reason}") from None

    async def _open(self, endpoint: Endpoint, proxy: Proxy | None) -> _Connection:
        loop = asyncio.get_running_loop()
        tls = tls_context(self._environ) if endpoint.tls else None
        if proxy is None:
            _, connection = await loop.create_connection(
                lambda: _Connection(endpoint.authority),
                endpoint.host,
                endpoint.port,
                ssl=tls,
                server_hostname=endpoint.host if tls else None,
                **_eyeballs(loop),
            )
            return connection
        proxy_tls = tls_context(self._environ) if proxy.endpoint.tls else None
        if tls is None:
            _, connection = await loop.create_connection(
                lambda: _Connection(endpoint.authority), proxy.endpoint.host, proxy.endpoint.port, ssl=proxy_tls
            )
            return connection
        return await self._tunnel(proxy, proxy_tls, tls)

    async def _tunnel(self, proxy: Proxy, proxy_tls: ssl.SSLContext | None, tls: ssl.SSLContext) -> _Connection:
        """Return a connection through the proxy's CONNECT (RFC 9110, section 9.3.6)."""
        loop = asyncio.get_running_loop()
        where = f"{self._endpoint.host}:{self._endpoint.port}"
        transport, tunnel = await loop.create_connection(
            _Tunnel, proxy.endpoint.host, proxy.endpoint.port, ssl=proxy_tls
        )
        try:
            lines = [f"CONNECT {where} HTTP/1.1".encode(), f"Host: {where}".encode()]
            if proxy.authorization:
                lines.append(b"Proxy-Authorization: " + proxy.authorization)
            transport.write(b"\r\n".join([*lines, b"", b""]))
            status = await tunnel.answer
            if not 200 <= status < 300:
                raise TransportError("connect", f"the proxy {proxy.endpoint.authority} answered {status} to CONNECT")
            connection = _Connection(self._endpoint.authority)
            secured = await loop.start_tls(transport, connection, tls, server_hostname=self._endpoint.host)
            if secured is None:
                raise ConnectionResetError("the proxy closed the connection")
            connection.connection_made(secured)
            return connection
        except BaseException:
            transport.abort()
            raise


def _eyeballs(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Return what has both kinds of address tried at once (RFC 8305), for loops that can; uvloop does it by itself."""
    return {} if type(loop).__module__.startswith("uvloop") else {"happy_eyeballs_delay": 0.25}


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT; `answer` is its status."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._head:
            words = self._head.split(b"\r\n", 1)[0].split()
            status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            self.answer.set_result(status)
        elif len(self._head) > HEAD_LIMIT:
            self.answer.set_result(0)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("the proxy closed the connection"))
