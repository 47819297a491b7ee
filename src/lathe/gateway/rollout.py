"""Rollout: when a model opens, on which surface, to which tier, to what share of projects, in which region.

A schedule is data. Each of its entries opens the model from a date on to those that it fits; entries add up, so the
widest wins. A model without a schedule is open, one with an empty schedule is closed to all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from lathe.gateway.entitlements import RANK
from lathe.gateway.principals import SURFACES, TIERS, Asked, Principal, Surface, Tier
from lathe.gateway.refusals import listed, moment
from lathe.protocol.errors import UsageError

_KEYS = {"surface", "tier", "from", "share", "region"}
_LAST = 253_402_300_799_999  # the end of the year 9999
_WAYS = 3


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One way in. No surfaces or regions mean all of them; `tier` and all above it; `share` is of projects, 0 to 1."""

    starts: int = msgspec.field(name="from")
    surfaces: tuple[Surface, ...] = msgspec.field(name="surface", default=())
    tier: Tier = "default"
    share: float = 1.0
    regions: tuple[str, ...] = msgspec.field(name="region", default=())


class Schedule(msgspec.Struct, frozen=True):
    """The entries of one model; entry 1 is the first."""

    model: str
    entries: tuple[Entry, ...]


class Way(NamedTuple):
    """How else the model is served, or will be: `at` is when, in milliseconds since the epoch."""

    surfaces: tuple[Surface, ...]
    tier: Tier
    regions: tuple[str, ...]
    at: int

    def __str__(self) -> str:
        where = f" on {listed(list(self.surfaces))}" if self.surfaces else ""
        region = f" in the region {listed(list(self.regions))}" if self.regions else ""
        return f"the tier {self.tier}{where}{region}"


class Opening(NamedTuple):
    """Whether a model is open to a request. `entry` is the number of the entry that says so, 0 where none does.

    `at` is when it opens to this very request, None where no date is set; `now` are the ways in which this project
    would be served already, `later` those that are to come for it sooner than `at`.
    """

    open: bool
    entry: int = 0
    at: int | None = None
    now: tuple[Way, ...] = ()
    later: tuple[Way, ...] = ()


OPEN = Opening(True)


class Gate:
    """A schedule, ready to be asked."""

    def __init__(self, schedule: Schedule) -> None:
        self.model = schedule.model
        numbered = [
            (number, one, RANK[one.tier], frozenset(one.surfaces or SURFACES), frozenset(one.regions))
            for number, one in enumerate(schedule.entries, 1)
        ]
        self._entries = sorted(numbered, key=lambda one: (-one[1].share, one[2], one[1].starts, one[0]))

    def opens(self, who: Principal, tier: Tier, asked: Asked) -> Opening:
        """Return whether the model is open to a request of a principal that is trusted as far as `tier`."""
        rank = RANK[tier]
        place = -1.0
        for number, entry, needed, surfaces, regions in self._entries:
            if (
                entry.starts <= asked.at
                and needed <= rank
                and asked.surface in surfaces
                and (not regions or asked.region in regions)
            ):
                if entry.share < 1 and place < 0:
                    place = share_of(self.model, who)
                if place < entry.share:
                    return Opening(True, number)
        return self._closed(who, rank, asked)

    def _closed(self, who: Principal, rank: int, asked: Asked) -> Opening:
        place = share_of(self.model, who)
        own = [
            entry.starts
            for _, entry, needed, surfaces, regions in self._entries
            if needed <= rank
            and asked.surface in surfaces
            and (not regions or asked.region in regions)
            and place < entry.share
        ]
        at = min(own, default=None)
        ways = sorted(
            {
                Way(entry.surfaces, entry.tier, entry.regions, entry.starts)
                for _, entry, _, _, _ in self._entries
                if place < entry.share
            },
            key=lambda way: (way.at, RANK[way.tier], way),
        )
        now = tuple(way for way in ways if way.at <= asked.at)
        later = tuple(way for way in ways if way.at > asked.at and (at is None or way.at < at))
        return Opening(False, 0, at, now, later)


def opens(schedule: Schedule, who: Principal, tier: Tier, asked: Asked) -> Opening:
    """Return whether the schedule's model is open to a request, and otherwise when and for whom it opens."""
    return Gate(schedule).opens(who, tier, asked)


def said(opening: Opening, who: Principal, tier: Tier, asked: Asked) -> str:
    """Return when and for whom a model opens that is not open to a request, as the end of a sentence."""
    whom = f"project {who.project}" if who.project else f"organisation {who.organisation}"
    region = f" in the region {asked.region}" if asked.region else ""
    request = f"{whom} with the tier {tier} on {asked.surface}{region}"
    parts = [f"it opens to {request} on {moment(opening.at)}" if opening.at else f"no date is set for {request}"]
    if opening.now:
        parts.append(f"to the same project it is open now with {'; or '.join(map(str, opening.now[:_WAYS]))}")
    if opening.later and not opening.now:
        soon = (f"{way} from {moment(way.at)}" for way in opening.later[:_WAYS])
        parts.append(f"to the same project it opens earlier with {'; or '.join(soon)}")
    return ", ".join(parts)


def share_of(model: str, who: Principal) -> float:
    """Return the place of a project in the order in which `model` opens to projects: 0 to 1, 0 the first.

    The place never changes, so a project that is in stays in when the share grows. A key of a whole organisation
    has the place of its organisation.
    """
    name = f"{who.project or who.organisation}\n{model}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:6]) / 2**48


def read_schedule(model: str, data: Any) -> Schedule:
    """Return the schedule of a model from JSON: `{"entries": [{"surface", "tier", "from", "share", "region"}, ...]}`.

    `from` is a date, a time with its zone (RFC 3339) or milliseconds since the epoch; `surface` and `region` are a
    word, a list of words, or `*`. Raises `UsageError` with one sentence for every fault.
    """
    faults: list[str] = []
    entries: list[Entry] = []
    if not isinstance(data, dict) or set(data) != {"entries"} or not isinstance(data["entries"], list):
        raise UsageError(f"The schedule of {model} must be an object with a list of entries.", code="schedule_invalid")
    for number, one in enumerate(data["entries"], 1):
        found = list(_faults(one))
        faults += [f"Entry {number}: {fault}." for fault in found]
        if not found:
            entries.append(_entry(one))
    if faults:
        raise UsageError(" ".join(faults), code="schedule_invalid")
    return Schedule(model, tuple(entries))


def shown(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the JSON that `read_schedule` takes."""
    return {"entries": [msgspec.to_builtins(one) for one in schedule.entries]}


def _faults(one: Any) -> Iterator[str]:
    if not isinstance(one, dict):
        yield "it must be an object"
        return
    unknown = sorted(str(key) for key in one if key not in _KEYS)
    if unknown:
        yield f"there is no field {listed(unknown)}, only {listed(sorted(_KEYS))}"
    for surface in _words(one.get("surface", "*")) or ["*"]:
        if surface != "*" and surface not in SURFACES:
            yield f"there is no surface {surface!r}, only {listed(list(SURFACES))}"
    tier = one.get("tier", "default")
    if tier not in TIERS:
        yield f"there is no tier {tier!r}, only {listed(list(TIERS))}"
    for region in _words(one.get("region", "*")) or ["*"]:
        if not isinstance(region, str) or not 0 < len(region) <= 20:
            yield f"{region!r} is no region"
    share = one.get("share", 1)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        yield f"its share {share!r} must be a number above 0 and up to 1"
    if _time(one.get("from")) is None:
        yield f"its from {one.get('from')!r} must be a date, a time with its zone, or milliseconds since the epoch"


def _entry(one: dict[str, Any]) -> Entry:
    return Entry(
        starts=_time(one["from"]) or 0,
        surfaces=_these(one.get("surface", "*")),
        tier=one.get("tier", "default"),
        share=float(one.get("share", 1)),
        regions=_these(one.get("region", "*")),
    )


def _words(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _these(value: Any) -> tuple[Any, ...]:
    words = _words(value)
    return () if "*" in words else tuple(dict.fromkeys(words))


def _time(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= _LAST else None
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    if found.tzinfo is None:
        if len(value) > 10:
            return None
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def gates(schedules: Iterable[Schedule]) -> dict[str, Gate]:
    """Return the gate of each model that has a schedule."""
    return {one.model: Gate(one) for one in schedules}
