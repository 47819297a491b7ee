"""A person's own file of a piece of authorised security work, for work without a gateway that knows of it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from lathe.config.layers import read_toml
from lathe.guard.engaged import Targets, Unfit, fault, normal_domain, normal_network, normal_repository
from lathe.protocol.errors import ConfigError
from lathe.protocol.trust import Tier

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    authority: str
    starts: Any
    expires: Any
    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    tier: Tier = "verified"
    scope: tuple[str, ...] = ()


class OwnEngagement:
    """An engagement that whoever owns the machine says of themselves.

    `authority` is the SHA-256, in hexadecimal, of the document in which the owner of the targets agrees. `tier` and
    `scope` hold at its targets and nowhere else.
    """

    def __init__(self, file: _File, starts: datetime, expires: datetime) -> None:
        self.name = file.name
        self.authority = file.authority.lower()
        self.tier = file.tier
        self.scope = file.scope
        self.starts = starts
        self.expires = expires
        self.targets = Targets(file)

    @classmethod
    def load(cls, path: Path) -> OwnEngagement:
        """Return the engagement of a file; raise `ConfigError` that says what is wrong with it."""
        read = read_toml(path)
        if read is None:
            raise ConfigError(f"There is no engagement file {path}.", hint="guard.engagement names it.")
        try:
            file = msgspec.convert(read[0], _File)
            file = msgspec.structs.replace(
                file,
                domains=tuple(map(normal_domain, file.domains)),
                networks=tuple(map(normal_network, file.networks)),
                repositories=tuple(map(normal_repository, file.repositories)),
            )
        except (msgspec.ValidationError, Unfit) as error:
            raise _wrong(path, str(error).rstrip(".")) from None
        if not file.name.strip():
            raise _wrong(path, "it has no name")
        if not _SHA256.fullmatch(file.authority.lower()):
            raise _wrong(path, "its authority must be the SHA-256 of the document, in 64 hexadecimal digits")
        if without := fault(file):
            raise _wrong(path, without)
        starts, expires = _moment(path, "starts", file.starts), _moment(path, "expires", file.expires)
        if starts >= expires:
            raise _wrong(path, "its window ends before it begins")
        return cls(file, starts, expires)

    def why_not(self, now: datetime) -> str:
        """Return why it does not count at this time, as a sentence; "" where it does."""
        if now >= self.expires:
            return f"The engagement {self.name} ended on {self.expires:%Y-%m-%d %H:%M} UTC."
        if now < self.starts:
            return f"The engagement {self.name} begins on {self.starts:%Y-%m-%d %H:%M} UTC."
        return ""


def _moment(path: Path, name: str, value: Any) -> datetime:
    """Return a time of TOML; a date is its first moment, and what names no zone is of UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise _wrong(path, f"{name} must be a date or a time of TOML, such as 2026-12-01")


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(f"The engagement file {path} is wrong: {what}.", hint="docs/guard.md says how it is written.")
