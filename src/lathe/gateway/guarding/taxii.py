"""The objects of a TAXII 2.1 collection, pulled page by page. Facts: TAXII 2.1 (OASIS), 5.4 "Get Objects"."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from lathe.models.endpoint import is_loopback, parse_endpoint
from lathe.models.http import HttpClient, TransportError, read_body
from lathe.protocol.errors import ModelUnreachable, UsageError

if TYPE_CHECKING:
    from lathe.guard.feeds import Feed, Synced
    from lathe.guard.intel import Intel

_log = logging.getLogger(__name__)
_EVERY_S = 60.0
MEDIA = b"application/taxii+json;version=2.1"
_MOST_PAGES = 10_000
_LARGEST_PAGE = 64 * 1024 * 1024


class _Envelope(msgspec.Struct):
    more: bool = False
    next: str | None = None
    objects: list[Any] = []


def pull(url: str, environ: Mapping[str, str], authorization: str = "", page: int = 500) -> list[Any]:
    """Return all objects of the collection at `url` (`…/collections/ID/`).

    `authorization` is the value of that header. Raises `UsageError` where the server refuses or speaks something
    else, `ModelUnreachable` where it can't be reached; nothing is returned in part.
    """
    endpoint = parse_endpoint(url)
    if not endpoint.tls and not is_loopback(endpoint.host):
        raise UsageError(f"{endpoint.host} is asked over https only.", code="guard_intel")
    try:
        return asyncio.run(_pages(HttpClient(endpoint, environ), endpoint.path, authorization, page))
    except TransportError as error:
        raise ModelUnreachable(f"The collection at {endpoint.authority} can't be pulled: {error}.") from None


def pull_feed(feed: Feed, environ: Mapping[str, str]) -> list[Any]:
    """Return all objects of a feed, as `pull` does; raise `UsageError` too where the variable of its key is not set."""
    name = feed.authorization_env
    if name and not environ.get(name):
        raise UsageError(f"The variable {name} is not set.")
    return pull(feed.url, environ, environ.get(name, "") if name else "")


async def keep_synced(store: Intel, environ: Mapping[str, str]) -> None:
    """Pull the feeds that are due, each minute, until cancelled."""
    while True:
        try:
            for one in await asyncio.to_thread(_due, store, environ):
                if one.error:
                    _log.warning("The feed %s could not be pulled: %s", one.url, one.error)
        except Exception:
            _log.exception("Feeds of the guard could not be pulled.")
        await asyncio.sleep(_EVERY_S)


def _due(store: Intel, environ: Mapping[str, str]) -> list[Synced]:
    from lathe.guard.feeds import sync_due

    return sync_due(store, datetime.now(UTC), lambda feed: pull_feed(feed, environ))


async def _pages(client: HttpClient, path: str, authorization: str, page: int) -> list[Any]:
    headers = [(b"accept", MEDIA)]
    if authorization:
        headers.append((b"authorization", authorization.encode()))
    found: list[Any] = []
    query: dict[str, Any] = {"limit": page}
    try:
        for _ in range(_MOST_PAGES):
            answer = await client.get(f"{path}/objects/?{urlencode(query)}", headers)
            body = await read_body(answer, _LARGEST_PAGE)
            if answer.status != 200:
                raise UsageError(f"The TAXII server answers with {answer.status}.", code="guard_intel")
            envelope = _envelope(body)
            found += envelope.objects
            if not envelope.more:
                return found
            if not envelope.next:
                raise UsageError("The TAXII server has more, and does not say where.", code="guard_intel")
            query["next"] = envelope.next
    finally:
        await client.aclose()
    raise UsageError(f"The collection has more than {_MOST_PAGES:,} pages.", code="guard_intel")


def _envelope(body: bytes) -> _Envelope:
    try:
        return msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"The server's answer is no TAXII envelope: {error}.", code="guard_intel") from None
