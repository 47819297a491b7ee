"""A running gateway, asked over HTTP: one connection, one sentence for whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from lathe.models.endpoint import is_loopback, parse_endpoint
from lathe.models.http import HttpClient, TransportError, read_body
from lathe.protocol.codec import DecodeError, decode_json, encode
from lathe.protocol.errors import ConfigError, ExitCode, LatheError, UsageError

DEFAULT_URL = "http://127.0.0.1:8484"
_BODY_LIMIT = 64 * 2**20
_CONNECT_S = 10.0
_ANSWER_S = 120.0


class GatewayRefused(LatheError):
    """The gateway does not do what was asked; `status` is HTTP's, `code` the gateway's."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class GatewayUnreachable(LatheError):
    """No gateway answers."""

    code = "gateway_unreachable"
    exit_code = ExitCode.UNREACHABLE


class Gateway:
    """One gateway and the key to ask it with; each call waits for its answer."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._endpoint = parse_endpoint(url)
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError("The key holds characters that no key has.", hint="Copy it anew.")
        self._key = key

    @property
    def is_exposed(self) -> bool:
        """Whether a key goes over a network in plain text."""
        return not self._endpoint.tls and not is_loopback(self._endpoint.host)

    def at(self, url: str) -> Gateway:
        """Return another replica, to be asked with the same key."""
        return Gateway(url, self._key)

    def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """Return the answer to a request; raise `GatewayRefused`, `GatewayUnreachable` or `ConfigError`."""
        data = self.fetch(method, path, body, query)
        try:
            return decode_json(data)
        except DecodeError:
            raise _no_gateway(self.url) from None

    def fetch(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> bytes:
        """Return the body of an answer; raise as `ask` does."""
        asked = {name: _word(value) for name, value in (query or {}).items() if value not in (None, "")}
        target = f"{self._endpoint.path}{path}{f'?{urlencode(asked)}' if asked else ''}"
        status, data = asyncio.run(self._exchange(method, target, b"" if body is None else encode(body), None))
        if status < 300:
            return data
        raise self._refused(status, data)

    def save(self, path: str, file: BinaryIO) -> None:
        """Write an answer of any length to `file` as it comes; raise as `ask` does."""
        status, data = asyncio.run(self._exchange("GET", f"{self._endpoint.path}{path}", b"", file))
        if status >= 300:
            raise self._refused(status, data)

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield all entries of a list; raise as `ask` does."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask("GET", path, query={"limit": 200, **query, "cursor": cursor})
            yield from page["data"]
            cursor = page["next"]

    def project(self, named: str) -> str:
        """Return the id of a project by its id or name; raise `UsageError`."""
        if not named or named.startswith("proj_"):
            return named
        return _only([one for one in self.pages("/admin/v1/projects", {}) if one["name"] == named], "project", named)

    def user(self, named: str) -> str:
        """Return the id of a user by id or e-mail address; raise `UsageError`."""
        if "@" not in named:
            return named
        return _only(self.ask("GET", "/admin/v1/users", query={"email": named})["data"], "user", named)

    def organisation(self, named: str) -> str:
        """Return the id of an organisation by its id or name; raise `UsageError`."""
        if not named or named.startswith("org_"):
            return named
        found = [one for one in self.pages("/admin/v1/organisations", {}) if one["name"] == named]
        return _only(found, "organisation", named)

    async def _exchange(self, method: str, target: str, body: bytes, file: BinaryIO | None) -> tuple[int, bytes]:
        headers = [(b"accept", b"application/json")]
        if self._key:
            headers.append((b"authorization", f"Bearer {self._key}".encode()))
        if body:
            headers.append((b"content-type", b"application/json"))
        client = HttpClient(self._endpoint, os.environ, connect_timeout_s=_CONNECT_S, idle_timeout_s=_ANSWER_S)
        try:
            answer = await client.request(method, target, headers, [body] if body else [])
            if file is not None and answer.status < 300:
                async for chunk in answer.chunks():
                    file.write(chunk)
                return answer.status, b""
            data = await read_body(answer, _BODY_LIMIT)
            if len(data) == _BODY_LIMIT:
                raise UsageError(f"The answer is larger than {_BODY_LIMIT >> 20} MiB.", hint="Ask for less.")
            return answer.status, data
        except TransportError as error:
            if error.fault == "garbage":
                raise _no_gateway(self.url) from None
            raise GatewayUnreachable(
                f"There is no gateway at {self.url}: {error}.", hint="Start one with lathe serve, or give --url."
            ) from None
        finally:
            await client.aclose()

    def _refused(self, status: int, data: bytes) -> LatheError:
        try:
            told = decode_json(data)["error"]
            code, message, hint = told["code"], told["message"], told.get("hint", "")
        except (DecodeError, KeyError, TypeError):
            return _no_gateway(self.url, status)
        if status == 401:
            hint = "Give one with --key or LATHE_GATEWAY_KEY."
            if code == "key_unknown":
                hint = f"Is it for {self.url}? Another is given with --key or LATHE_GATEWAY_KEY."
            return ConfigError(message, hint=hint, code=code)
        return GatewayRefused(status, code, message, hint)


def segment(text: str) -> str:
    """Return a word as a part of a path."""
    return quote(text, safe="")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _only(found: list[dict[str, Any]], what: str, named: str) -> str:
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise UsageError(f"There is no {what} {named!r} that you can see.")
    raise UsageError(f"There are {len(found)} {what}s {named!r}.", hint="Give the id of one.")


def _no_gateway(url: str, status: int | None = None) -> LatheError:
    what = f" (HTTP {status})" if status else ""
    return ConfigError(f"What answers at {url} is no Lathe gateway{what}.", hint="Check --url.")
