"""A tape: real HTTP exchanges, recorded once and replayed in tests.

One exchange a line of JSON: path, request body, status, a few headers, response body. No request header and no
query is written, so no key is; timing is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lathe.models.http import Fragment, Headers, HttpAnswer, HttpPost
from lathe.protocol.errors import ConfigError, ModelRejected, StorageError

_KEPT_HEADERS = frozenset(("content-type", "retry-after", "retry-after-ms", "x-should-retry"))


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request and its answer. `response` is text, or base64 of it in `response_base64` where it is none."""

    path: str
    request: Any
    status: int
    headers: dict[str, str]
    response: str = ""
    response_base64: bytes = b""

    def body(self) -> bytes:
        return self.response_base64 or self.response.encode()


class TapeMismatch(ModelRejected):
    """A request is not the one that the tape has at this place; the message says where they differ."""

    code = "tape_mismatch"


class TapeRecorder:
    """Posts through `inner` and appends each finished exchange to `path`."""

    def __init__(self, inner: HttpPost, path: Path) -> None:
        self._inner = inner
        self._path = path

    async def post(self, target: str, headers: Headers, fragments: Sequence[Fragment]) -> HttpAnswer:
        """See `http.HttpPost.post`."""
        answer = await self._inner.post(target, headers, fragments)
        kept = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
        body = msgspec.json.decode(b"".join(fragments))
        path = target.partition("?")[0]

        def write(response: bytes) -> None:
            try:
                exchange = Exchange(path, body, answer.status, kept, response=response.decode())
            except UnicodeDecodeError:
                exchange = Exchange(path, body, answer.status, kept, response_base64=response)
            try:
                with self._path.open("ab") as file:
                    file.write(msgspec.json.encode(exchange) + b"\n")
            except OSError as error:
                raise StorageError(f"The tape {self._path} can't be written: {error.strerror}.") from None

        return _RecordedAnswer(answer, write)

    async def aclose(self) -> None:
        """See `http.HttpPost.aclose`."""
        await self._inner.aclose()


class _RecordedAnswer:
    """Passes an answer on; what was read of it is written when its reader is done, whole or cut."""

    def __init__(self, inner: HttpAnswer, write: Any) -> None:
        self.status = inner.status
        self.headers = inner.headers
        self._inner = inner
        self._write = write
        self._seen: list[bytes] | None = []

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._inner.chunks():
                if self._seen is not None:
                    self._seen.append(chunk)
                yield chunk
        finally:
            self._finish()

    def release(self) -> None:
        self._finish()
        self._inner.release()

    def abort(self) -> None:
        self._finish()
        self._inner.abort()

    def _finish(self) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            self._write(b"".join(seen))


class TapePlayer:
    """Answers each request from the tape, in order, if it is the recorded one byte for byte (as JSON)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        try:
            lines = path.read_bytes().splitlines()
            self._exchanges = [msgspec.json.decode(line, type=Exchange) for line in lines if line]
        except OSError as error:
            raise ConfigError(f"The tape {path} can't be read: {error.strerror}.") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is no tape: {error}.") from None

    async def post(self, target: str, _headers: Headers, fragments: Sequence[Fragment]) -> HttpAnswer:
        """See `http.HttpPost.post`; raises `TapeMismatch`."""
        at, path = self._next, target.partition("?")[0]
        if at >= len(self._exchanges):
            raise TapeMismatch(f"The tape {self._path.name} ends after {at} requests, and here is one more.")
        exchange = self._exchanges[at]
        given = msgspec.json.decode(b"".join(fragments))
        where = f"path is {path!r}, not {exchange.path!r}" if path != exchange.path else ""
        where = where or difference(exchange.request, given, "request")
        if where:
            hint = "Record the tape again if the change is meant."
            raise TapeMismatch(f"Request {at + 1} is not the one on {self._path.name}: {where}.", hint=hint)
        self._next += 1
        return _PlayedAnswer(exchange)

    async def aclose(self) -> None:
        """See `http.HttpPost.aclose`."""


class _PlayedAnswer:
    def __init__(self, exchange: Exchange) -> None:
        self.status = exchange.status
        self.headers = dict(exchange.headers)
        self._body = exchange.body()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        yield self._body

    def release(self) -> None:
        pass

    def abort(self) -> None:
        pass


def difference(wanted: Any, given: Any, where: str) -> str:
    """Return where two JSON values first differ, in words that begin with the path `where`; "" where they don't."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in [*wanted, *(key for key in given if key not in wanted)]:
            if key not in given:
                return f"{where}.{key} is missing"
            if key not in wanted:
                return f"{where}.{key} is new ({_short(given[key])})"
            if found := difference(wanted[key], given[key], f"{where}.{key}"):
                return found
        return ""
    if isinstance(wanted, list) and isinstance(given, list):
        for at, (one, other) in enumerate(zip(wanted, given, strict=False)):
            if found := difference(one, other, f"{where}[{at}]"):
                return found
        return "" if len(wanted) == len(given) else f"{where} has {len(given)} entries, not {len(wanted)}"
    same = wanted == given and type(wanted) is type(given)
    return "" if same else f"{where} is {_short(given)}, not {_short(wanted)}"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
