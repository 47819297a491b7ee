"""What a key is entitled to, asked of the gateway of Lathe's that its models are asked through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from lathe.models.client import own_headers, target_of
from lathe.models.endpoint import header_lines, parse_endpoint
from lathe.models.http import HttpClient, TransportError, read_body
from lathe.models.provider import Provider, key_of
from lathe.protocol.errors import LatheError, ModelUnreachable
from lathe.protocol.trust import Tier

LIMIT_S = 1.5
"""How long the gateway may take."""
_PATH = "/v1/access/check"
_MOST = 256 * 1024
_CHOICES = {"lathe-program": "program", "lathe-engagement": "engagement"}
"""Headers by which requests choose among what is held, and what the question calls them."""


class Named(msgspec.Struct, frozen=True):
    """Targets of an engagement."""

    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()


class Entitled(msgspec.Struct, frozen=True):
    """What a request of this key would be judged by; `targets` are those of the engagement."""

    outcome: str
    tier: Tier
    entitlement: str
    scope: tuple[str, ...]
    engagement: str
    message: str = ""
    targets: Named | None = None


async def entitled(provider: Provider, model: str, environ: Mapping[str, str]) -> Entitled:
    """Return what requests for `model` with the provider's key and headers are judged by; raise `LatheError`."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await _ask(provider, model, environ)
    except TimeoutError:
        raise _mute(f"it did not answer within {LIMIT_S:g} s") from None
    except (TransportError, OSError) as error:
        raise _mute(str(error)) from None


async def _ask(provider: Provider, model: str, environ: Mapping[str, str]) -> Entitled:
    endpoint = parse_endpoint(provider.base_url)
    own = own_headers(provider.headers, environ)
    question = {"model": model} | {_CHOICES[name]: value for name, value in own if name in _CHOICES}
    key = key_of(provider, environ)
    given = {name for name, _ in own}
    auth = [("authorization", f"Bearer {key}")] if key and not {"authorization", "x-api-key"} & given else []
    headers = header_lines([("content-type", "application/json"), ("user-agent", "lathe"), *auth, *own])
    http = HttpClient(endpoint, environ, connect_timeout_s=LIMIT_S, idle_timeout_s=LIMIT_S)
    try:
        target = target_of(endpoint.path, _PATH, provider.query)
        answer = await http.post(target, headers, [msgspec.json.encode(question)])
        body = await read_body(answer, _MOST)
    finally:
        await http.aclose()
    if answer.status != 200:
        raise _mute(f"it answered with the status {answer.status}")
    try:
        return msgspec.json.decode(body, type=Entitled)
    except msgspec.DecodeError:
        raise _mute("its answer makes no sense") from None


def _mute(why: str) -> LatheError:
    return ModelUnreachable(f"The gateway can't say what the key is entitled to: {why}.")
