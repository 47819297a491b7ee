"""The gateway's HTTP/1.1 client: many kept-alive connections to one endpoint, bodies passed on as they come.

A request costs it 0.1 ms of CPU where aiohttp takes 0.4 (docs/dependencies.md). No redirects, no cookies, no
compression. A proxy that the environment names is reached by the slower client of `models.http`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import httptools

from lathe.models.endpoint import Endpoint, proxy_for, tls_context
from lathe.models.http import HEAD_LIMIT, HIGH_WATER, Fault, Fragment, Headers, HttpAnswer, HttpClient, TransportError

if TYPE_CHECKING:
    import ssl

_KEPT_S = 55.0
"""Seconds after which an idle connection is not used again; most servers close theirs after a minute or more."""
_MOST_KEPT = 512


class UpstreamHttp:
    """Connections to `endpoint`. Time limits in seconds: `idle_timeout_s` is the longest silence of an answer."""

    def __init__(
        self,
        endpoint: Endpoint,
        environ: Mapping[str, str],
        *,
        connect_timeout_s: float = 10.0,
        idle_timeout_s: float = 300.0,
    ) -> None:
        self._endpoint = endpoint
        self._environ = environ
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._kept: deque[_Connection] = deque()
        self._host = endpoint.authority.encode()
        self._proxied = proxy_for(endpoint, environ) is not None
        self._tls: ssl.SSLContext | None = None

    async def post(self, target: str, headers: Headers, fragments: Sequence[Fragment]) -> UpstreamAnswer:
        """Send the request and return its answer as soon as the head is there; raise `TransportError`."""
        if self._proxied:
            client = HttpClient(
                self._endpoint,
                self._environ,
                connect_timeout_s=self._connect_timeout_s,
                idle_timeout_s=self._idle_timeout_s,
            )
            return _Proxied(await client.post(target, headers, fragments), client)
        return await self._ask("POST", target, headers, fragments)

    async def get(self, target: str, headers: Headers) -> UpstreamAnswer:
        """Ask for `target`; raise `TransportError`."""
        return await self._ask("GET", target, headers, ())

    async def aclose(self) -> None:
        """Close the idle connections."""
        while self._kept:
            self._kept.pop().abort()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    async def _ask(self, method: str, target: str, headers: Headers, fragments: Sequence[Fragment]) -> Answer:
        lines = [f"{method} {target} HTTP/1.1\r\nhost: ".encode(), self._host, b"\r\naccept-encoding: identity"]
        for name, value in headers:
            lines += (b"\r\n", name, b": ", value)
        lines.append(b"\r\ncontent-length: %d\r\n\r\n" % sum(map(len, fragments)))
        data = b"".join([*lines, *fragments])
        kept = self._take()
        if kept is not None:
            answer = await self._exchange(kept, data, forgive=True)
            if answer is not None:
                return answer
        answer = await self._exchange(await self._connect(), data, forgive=False)
        assert answer is not None
        return answer

    def _take(self) -> _Connection | None:
        now = time.monotonic()
        while self._kept:
            connection = self._kept.pop()
            if not connection.lost and now - connection.since < _KEPT_S:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose exchange is over."""
        connection.since = time.monotonic()
        if len(self._kept) >= _MOST_KEPT:
            self._kept.popleft().abort()
        self._kept.append(connection)

    async def _exchange(self, connection: _Connection, data: bytes, *, forgive: bool) -> Answer | None:
        """Return the answer, or None where the connection died with not a byte of one and `forgive` is set."""
        connection.begin(self._idle_timeout_s)
        try:
            connection.write(data)
            while not connection.headed:
                if connection.error is not None:
                    if forgive and not connection.seen:
                        return None
                    raise connection.error
                await connection.wait()
            return Answer(connection, self)
        except BaseException:
            connection.abort()
            raise

    async def _connect(self) -> _Connection:
        endpoint = self._endpoint
        if endpoint.tls and self._tls is None:
            self._tls = tls_context(self._environ)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection,
                    endpoint.host,
                    endpoint.port,
                    ssl=self._tls,
                    server_hostname=endpoint.host if endpoint.tls else None,
                )
            return connection
        except TimeoutError:
            message = f"no connection to {endpoint.authority} within {self._connect_timeout_s:g} s"
            raise TransportError("connect", message) from None
        except ConnectionRefusedError:
            raise TransportError("refused", f"{endpoint.authority} refuses connections") from None
        except OSError as error:
            # Covers names that do not resolve and certificates that do not verify; both say so themselves.
            reason = error.strerror or str(error) or type(error).__name__
            raise TransportError("connect", f"no connection to {endpoint.authority}: {reason}") from None


class _Connection(asyncio.Protocol):
    """One connection; what httptools calls back are the methods whose names begin with `on_`."""

    def __init__(self) -> None:
        self.since = 0.0
        self.lost = False
        self.seen = False
        self.headed = False
        self.complete = False
        self.error: TransportError | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._chunks: list[bytes] = []
        self._unread = 0
        self._head_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit_s = 0.0
        self._heard = 0.0
        self._loop = asyncio.get_running_loop()

    def begin(self, limit_s: float) -> None:
        """Make ready for an exchange that may be silent for `limit_s`."""
        self.seen = self.headed = self.complete = False
        self.headers = []
        self._chunks = []
        self._unread = self._head_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self._limit_s = limit_s
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(limit_s, self._overdue)

    def end(self) -> None:
        """Leave the exchange."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        silent_s = self._loop.time() - self._heard
        if silent_s < self._limit_s:  # something has come since; one timer does for the whole exchange
            self._timer = self._loop.call_later(self._limit_s - silent_s, self._overdue)
            return
        self._fail("idle", f"nothing arrived for {self._limit_s:g} s")

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            self._fail("cut", "the connection was closed")
            return
        self._transport.write(data)

    async def wait(self) -> None:
        """Wait until something arrives, or is wrong."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def drain(self) -> bytes:
        """Return what has arrived of the body since the last call."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self._unread > HIGH_WATER and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._unread = 0
        return data

    def abort(self) -> None:
        self.end()
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, fault: Fault, message: str) -> None:
        if self.error is None and not self.complete:
            self.error = TransportError(fault, message)
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self.seen = True
        self._heard = self._loop.time()
        if self._parser is None or self.complete:
            self._fail("garbage", "bytes after the answer's end")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("garbage", "the endpoint changes the protocol")
            return
        except httptools.HttpParserError:
            self._fail("garbage", "the answer is no HTTP/1.1")
            return
        if not self.headed:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:
                self._fail("garbage", "the answer's headers are too long")
                return
        self._wake()

    def eof_received(self) -> None:
        self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()

    def _ended(self) -> None:
        self.lost = True
        if not self.complete and self.error is None:
            # without a length the end of the connection is the end of the body (RFC 9112, section 6.3)
            if self.headed and not self._has_length():
                self.complete = True
            else:
                self.error = TransportError("cut", "the connection was cut")
        self._wake()

    def _has_length(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # trailers are not passed on
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        self.status = status
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._unread += len(body)
        if self._unread > HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self.headed:  # an informational answer; another one follows
            return
        self.complete = True
        if not self._parser.should_keep_alive():
            self.lost = True


class Answer:
    """A response whose body is still to come; see `models.http.HttpAnswer`."""

    def __init__(self, connection: _Connection, pool: UpstreamHttp) -> None:
        self.status = connection.status
        self.raw_headers = connection.headers
        self._connection: _Connection | None = connection
        self._pool = pool

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with names in lower case."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers}

    async def next(self) -> bytes:
        """Return the next bytes of the body, b"" at its end; raise `TransportError`."""
        connection = self._connection
        if connection is None:
            return b""
        while True:
            data = connection.drain()
            if data:
                return data
            if connection.complete:
                self.release()
                return b""
            if connection.error is not None:
                self.abort()
                raise connection.error
            await connection.wait()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives; raise `TransportError`."""
        try:
            while data := await self.next():
                yield data
        except BaseException:
            self.abort()
            raise

    def release(self) -> None:
        """Say that nobody reads on."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.end()
        if connection.complete and not connection.lost:
            self._pool.give_back(connection)
        else:
            connection.abort()

    def abort(self) -> None:
        """Close the connection now, unless it already went back whole; whoever waits for it is told."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def cancel(self) -> None:
        """Have whoever waits for the body be told that it was cut."""
        if self._connection is not None:
            self._connection._fail("cut", "the caller has gone away")


class _Proxied:
    """An answer of the slower client, whose connection ends with it."""

    def __init__(self, answer: HttpAnswer, client: HttpClient) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        self._answer = answer
        self._client = client
        self._chunks = answer.chunks()

    async def next(self) -> bytes:
        return await anext(self._chunks, b"")

    def chunks(self) -> AsyncGenerator[bytes, None]:
        return self._chunks

    def release(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._answer.abort()

    def cancel(self) -> None:
        self._answer.abort()


UpstreamAnswer: TypeAlias = Answer | _Proxied
