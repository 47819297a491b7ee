"""Feeds that are pulled on a schedule: which are due, and how the last pull went. Nothing is fetched here.

Whoever can reach the network gives `sync_due` a way to pull: `lathe guard intel sync --due`, or a gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from lathe.protocol.errors import LatheError, UsageError

if TYPE_CHECKING:
    from lathe.guard.intel import Intel

FeedState: TypeAlias = Literal["waiting", "due", "failed", "expired"]
"""`failed`: the last pull did; `expired`: none went well for three times the interval, whatever the reason."""
_FIRST_RETRY = timedelta(minutes=5)
_EXPIRED_AFTER = 3
_SHORTEST = timedelta(minutes=1)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Feed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A TAXII collection that is pulled every so many seconds. `authorization_env` names the variable of its header.

    `pulled` is when it last went well and `tried` when it was last tried; `error` says why the last `failures` failed.
    """

    url: str
    every_s: int
    authorization_env: str = ""
    since: datetime | None = None
    pulled: datetime | None = None
    tried: datetime | None = None
    failures: int = 0
    error: str = ""

    @property
    def next(self) -> datetime | None:
        """When it is to be pulled; None for now. After failures it is tried sooner, but less and less often."""
        if self.tried is None:
            return None
        wait = timedelta(seconds=self.every_s)
        if self.failures:
            wait = min(wait, _FIRST_RETRY * 2 ** min(self.failures - 1, 20))
        return self.tried + wait

    def is_due(self, now: datetime) -> bool:
        """Return whether it is to be pulled."""
        return self.next is None or self.next <= now

    def state(self, now: datetime) -> FeedState:
        """Return how it stands."""
        fresh = self.pulled or self.since
        if fresh is not None and now - fresh > timedelta(seconds=self.every_s) * _EXPIRED_AFTER:
            return "expired"
        if self.failures:
            return "failed"
        return "due" if self.is_due(now) else "waiting"

    def after(self, now: datetime, error: str = "") -> Feed:
        """Return the feed as it is after a pull, which failed where there is an `error`."""
        if error:
            return msgspec.structs.replace(self, tried=now, failures=self.failures + 1, error=error)
        return msgspec.structs.replace(self, tried=now, pulled=now, failures=0, error="")


class Synced(msgspec.Struct, frozen=True):
    """What became of a feed that was due: how many indicators it gave, what was left out, or why it failed."""

    url: str
    kept: int = 0
    left: tuple[str, ...] = ()
    error: str = ""


Pull: TypeAlias = Callable[[Feed], Sequence[Any]]
"""Returns all objects of a feed; raises `LatheError`."""


def interval(text: str) -> int:
    """Return the seconds that `30m`, `6h` or `1d` stand for; raise `UsageError`."""
    found = re.fullmatch(r"(\d{1,4})([mhd])", text.strip())
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if span < _SHORTEST:
        raise UsageError(f"{text[:40]!r} is no interval: write 30m, 6h or 1d.", code="guard_intel")
    return int(span.total_seconds())


def due(store: Intel, now: datetime) -> list[Feed]:
    """Return the feeds that are to be pulled now; raise `StorageError`."""
    return [feed for feed in store.feeds() if feed.is_due(now)]


def sync_due(store: Intel, now: datetime, pull: Pull) -> list[Synced]:
    """Pull what is due, and keep how it went; raise `StorageError`.

    A feed that fails leaves what it gave before, and the others are pulled all the same.
    """
    return [sync_feed(store, feed, now, pull) for feed in due(store, now)]


def sync_feed(store: Intel, feed: Feed, now: datetime, pull: Pull) -> Synced:
    """Pull one feed, and keep how it went; raise `StorageError`."""
    from lathe.guard.indicators import read_objects

    try:
        read = read_objects(pull(feed), feed.url)
    except LatheError as error:
        store.keep_feed(feed.after(now, error.message))
        return Synced(feed.url, error=error.message)
    kept = store.add(read, whole=feed.url)
    store.keep_feed(feed.after(now))
    return Synced(feed.url, kept, read.left)
