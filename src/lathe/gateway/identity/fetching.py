"""Small JSON documents from identity providers: bounded in size and time, no redirects, errors as sentences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from lathe.gateway.identity.settings import check_address
from lathe.gateway.identity.site import Refused
from lathe.gateway.upstream_http import UpstreamHttp
from lathe.models.http import TransportError, read_body
from lathe.protocol.codec import DecodeError, decode_json
from lathe.protocol.errors import ConfigError

_LIMIT = 512 * 1024
_TIMEOUT_S = 15.0


class ProviderFailed(Refused):
    """The identity provider did not answer, or not as it should; `status` is 502."""

    def __init__(self, message: str, *, hint: str = "Try again; if it stays, tell the operator.") -> None:
        super().__init__(message, hint=hint, code="provider_failed", status=502)


async def fetch_json(
    url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """GET `url`, or POST `form` to it; return the status and the JSON object; raise `ProviderFailed`."""
    try:
        endpoint = check_address(url)
    except ConfigError as error:
        raise ProviderFailed(error.message) from None
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [(b"accept", b"application/json")]
    lines += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
    client = UpstreamHttp(endpoint, os.environ, connect_timeout_s=_TIMEOUT_S, idle_timeout_s=_TIMEOUT_S)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            if form is None:
                answer = await client.get(target, lines)
            else:
                lines.append((b"content-type", b"application/x-www-form-urlencoded"))
                answer = await client.post(target, lines, [urlencode(form).encode()])
            body = await read_body(answer, _LIMIT)
    except (TransportError, TimeoutError) as error:
        reason = str(error) or f"nothing within {_TIMEOUT_S:g} s"
        raise ProviderFailed(f"The identity provider at {endpoint.authority} can't be asked: {reason}.") from None
    finally:
        await client.aclose()
    try:
        decoded = decode_json(body)
    except DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise ProviderFailed(f"The identity provider at {endpoint.authority} answered {answer.status} without JSON.")
    return answer.status, decoded
