"""Indicators from STIX 2.1 bundles and malicious packages from OSV records: what they say, in one form.

Facts: STIX 2.1 (OASIS), 4.7 "Indicator" and 9 "Patterning"; the OSV schema 1.7; records of
ossf/malicious-packages bear ids that begin with MAL-.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from lathe.guard.acts.installs import package_key
from lathe.protocol.errors import UsageError

Kind: TypeAlias = Literal["domain", "ipv4", "ipv6", "network", "url", "hash", "package"]
KINDS: tuple[str, ...] = get_args(Kind)


class Indicator(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value that somebody reported. `confidence` is from 0 to 100, as in STIX; `until` is None where it holds on.

    `modified` is when it was last spoken of. `versions` of a package are those affected, () for all.
    """

    kind: Kind
    value: str
    source: str
    id: str
    name: str = ""
    confidence: int = 50
    since: datetime | None = None
    until: datetime | None = None
    versions: tuple[str, ...] = ()
    modified: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Return whether it is in force: it has begun, has not ended, and has not faded."""
        return (self.since is None or self.since <= now) and (self.end is None or now < self.end)

    @property
    def end(self) -> datetime | None:
        """When it is in force no more: as its source says, else after three half-lives; None for never."""
        spoken, half = self._spoken, HALF_LIVES.get(self.kind)
        if self.until is not None or half is None or spoken is None:
            return self.until
        return spoken + _MOST_HALVES * half

    def trust(self, now: datetime) -> int:
        """Return its confidence by now, from 0 to 100. Where its source names no end, it halves with each half-life."""
        spoken, half = self._spoken, HALF_LIVES.get(self.kind)
        if self.until is not None or half is None or spoken is None or now <= spoken:
            return self.confidence
        return round(self.confidence * math.exp2(-((now - spoken) / half)))

    @property
    def _spoken(self) -> datetime | None:
        return max((time for time in (self.since, self.modified) if time is not None), default=None)


class Read(msgspec.Struct, frozen=True):
    """What was read, and a sentence for each record that could not be used. `ended` are ids that were withdrawn."""

    indicators: tuple[Indicator, ...]
    left: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


HALF_LIVES: dict[str, timedelta] = {
    "ipv4": timedelta(days=30),
    "ipv6": timedelta(days=30),
    "network": timedelta(days=30),
    "url": timedelta(days=60),
    "domain": timedelta(days=90),
}
"""How soon what is known of a value halves: addresses change hands, hashes and packages don't."""
_MOST_HALVES = 3
_UNSURE = 50
_COMPARISON = re.compile(
    r"\s*(?P<type>[a-z0-9-]+):(?P<path>[\w.'\[\]*-]+?)\s*(?P<how>=|ISSUBSET|IN)\s*"
    r"(?P<value>'(?:[^'\\]|\\.)*'|\((?:\s*'(?:[^'\\]|\\.)*'\s*,?)+\))\s*"
)
_TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'")
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")
_ECOSYSTEMS = ("PyPI", "npm", "crates.io", "RubyGems", "Go")


def merged(reads: Iterable[Read]) -> Read:
    """Return what several said as one."""
    every = list(reads)
    return Read(
        tuple(one for read in every for one in read.indicators),
        tuple(one for read in every for one in read.left),
        tuple(one for read in every for one in read.ended),
    )


def read_record(plain: Any, source: str) -> Read:
    """Return what a bundle of STIX, a TAXII envelope or a record of OSV says; raise `UsageError` for anything else."""
    if isinstance(plain, dict) and isinstance(plain.get("objects"), list):
        return read_objects(plain["objects"], source)
    if isinstance(plain, dict) and plain.get("type") == "bundle":
        return Read(())
    if isinstance(plain, dict) and isinstance(plain.get("id"), str) and isinstance(plain.get("affected"), list):
        return _osv(plain, source)
    if isinstance(plain, dict) and isinstance(plain.get("id"), str) and plain.get("withdrawn"):
        return Read((), ended=(plain["id"],))
    raise UsageError(f"{source} holds no STIX bundle and no OSV record.", code="guard_intel")


def read_objects(objects: Iterable[Any], source: str) -> Read:
    """Return the indicators among STIX objects; the newest version of each counts."""
    newest: dict[str, Mapping[str, Any]] = {}
    for one in objects:
        if isinstance(one, dict) and one.get("type") == "indicator":
            name = str(one.get("id") or one.get("pattern"))
            if str(one.get("modified", "")) >= str(newest.get(name, {}).get("modified", "")):
                newest[name] = one
    found: list[Indicator] = []
    left: list[str] = []
    for name, one in newest.items():
        if one.get("revoked") is True:
            continue
        try:
            found += _from_stix(one, name, source)
        except ValueError as error:
            left.append(f"{name[:80]}: {error}.")
    ended = tuple(name for name, one in newest.items() if one.get("revoked") is True)
    return Read(tuple(found), tuple(left), ended)


def _from_stix(one: Mapping[str, Any], name: str, source: str) -> list[Indicator]:
    pattern, kind = one.get("pattern"), one.get("pattern_type", "stix")
    if kind != "stix" or not isinstance(pattern, str):
        raise ValueError(f"its pattern is of the type {str(kind)[:20]!r}")
    confidence = one.get("confidence", _UNSURE)
    return [
        Indicator(
            kind=found,
            value=value,
            source=source,
            id=name,
            name=str(one.get("name") or "")[:200],
            confidence=confidence if isinstance(confidence, int) and 0 <= confidence <= 100 else _UNSURE,
            since=_time(one.get("valid_from")),
            until=_time(one.get("valid_until")),
            modified=_time(one.get("modified")),
        )
        for found, value in _compared(pattern)
    ]


def _compared(pattern: str) -> list[tuple[Kind, str]]:
    """Return what a pattern compares, where any one of it is enough; raise `ValueError` for other patterns."""
    rest = re.sub(r"\]\s*OR\s*\[", " OR ", pattern.strip())
    if not (rest.startswith("[") and rest.endswith("]")):
        raise ValueError("its pattern is not a simple comparison")
    rest, values = rest[1:-1], []
    while True:
        match = _COMPARISON.match(rest)
        if match is None:
            raise ValueError("its pattern is not a simple comparison")
        for text in _TEXT.findall(match["value"]):
            values.append(_observable(match["type"], match["path"], re.sub(r"\\(.)", r"\1", text)))
        rest = rest[match.end() :]
        if not rest:
            return values
        if not rest.startswith("OR "):
            raise ValueError("its pattern is not a simple comparison")
        rest = rest[3:]


def _observable(kind: str, path: str, value: str) -> tuple[Kind, str]:
    if kind == "domain-name" and path == "value":
        return "domain", value.lower().rstrip(".")
    if kind == "url" and path == "value":
        return "url", normal_url(value)
    if kind in ("ipv4-addr", "ipv6-addr") and path == "value":
        network = ipaddress.ip_network(value, strict=False)
        if network.num_addresses > 1:
            return "network", str(network)
        return "ipv4" if network.version == 4 else "ipv6", str(network.network_address)
    if kind == "file" and path.startswith("hashes."):
        if _HASH.fullmatch(value.lower()) is None:
            raise ValueError("its hash has no known length")
        return "hash", value.lower()
    raise ValueError(f"{kind[:30]}:{path[:30]} is not looked for")


def normal_url(url: str) -> str:
    """Return a URL with scheme and host in lower case, no fragment, and no slash at its end."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url.strip()
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), fragment="").geturl().rstrip("/")


def _osv(plain: Mapping[str, Any], source: str) -> Read:
    name = str(plain["id"])
    if not name.startswith("MAL-"):
        raise UsageError(f"{source} is no record of a malicious package: its id is {name[:60]!r}.", code="guard_intel")
    if plain.get("withdrawn"):
        return Read((), ended=(name,))
    found: list[Indicator] = []
    left: list[str] = []
    for affected in plain["affected"]:
        package = affected.get("package") if isinstance(affected, dict) else None
        ecosystem, called = (package.get("ecosystem"), package.get("name")) if isinstance(package, dict) else ("", "")
        if ecosystem not in _ECOSYSTEMS or not isinstance(called, str) or not called:
            left.append(f"{name[:60]}: {str(ecosystem)[:30]!r} is not an ecosystem that is looked for.")
            continue
        listed = affected.get("versions")
        versions = tuple(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else ()
        found.append(
            Indicator(
                kind="package",
                value=package_key(ecosystem, called),
                source=source,
                id=name,
                name=str(plain.get("summary") or "")[:200],
                confidence=95,
                since=None,
                versions=() if _all_versions(affected.get("ranges")) else versions,
            )
        )
    return Read(tuple(found), tuple(left))


def _all_versions(ranges: Any) -> bool:
    """Return whether a range begins with the first version and has no end."""
    for one in ranges if isinstance(ranges, list) else ():
        events = one.get("events") if isinstance(one, dict) else None
        events = [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []
        if any(event.get("introduced") == "0" for event in events) and not any(
            {"fixed", "last_affected"} & event.keys() for event in events
        ):
            return True
    return False


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("one of its times can't be read") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
