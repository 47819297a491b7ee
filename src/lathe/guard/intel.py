"""What others reported, kept on this machine: indicators and Sigma rules, a line of JSON each.

The folder is `guard/intel` below $LATHE_HOME. Nothing is fetched here; `lathe guard intel` does that, when asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lathe.guard.acts.installs import package_key
from lathe.guard.acts.monitor import ActMonitor, observables, shipped_rules
from lathe.guard.acts.sigma import compile_rule
from lathe.guard.indicators import Indicator, Read
from lathe.protocol.errors import StorageError

_T = TypeVar("_T", bound=msgspec.Struct)
_ECOSYSTEMS = {"pypi": "PyPI", "npm": "npm", "crates.io": "crates.io", "rubygems": "RubyGems", "go": "Go"}


class KeptRule(msgspec.Struct, frozen=True):
    """A Sigma rule as plain data, and where it came from."""

    source: str
    plain: dict[str, Any]


class Intel:
    """The store. Writing replaces a file whole, under a lock; who reads sees the old or the new one."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "guard" / "intel"

    def indicators(self) -> list[Indicator]:
        """Return all indicators, expired ones too; raise `StorageError` where the file is damaged."""
        return self._read("indicators.jsonl", Indicator)

    def rules(self) -> list[KeptRule]:
        """Return the rules of others; raise `StorageError`."""
        return self._read("rules.jsonl", KeptRule)

    def add(self, read: Read, whole: str = "") -> int:
        """Keep what was read; what the same source said before under the same id is replaced. Return how many.

        `whole` names a source of which this is all: whatever else it said before no longer counts.
        """
        gone = {(one.source, one.id) for one in read.indicators}
        with self._locked():
            kept = [
                one
                for one in self.indicators()
                if (one.source, one.id) not in gone and one.id not in read.ended and (one.source != whole or not whole)
            ]
            self._write("indicators.jsonl", [*kept, *read.indicators])
        return len(read.indicators)

    def add_rule(self, plain: Mapping[str, Any], source: str) -> None:
        """Keep a Sigma rule; one of the same id is replaced. Raise `ConfigError` where it can't be used."""
        rule = compile_rule(plain, source)
        fresh = KeptRule(source, _json_ready(plain))
        with self._locked():
            kept = [one for one in self.rules() if compile_rule(one.plain, one.source).id != rule.id]
            self._write("rules.jsonl", [*kept, fresh])

    def monitor(self) -> ActMonitor:
        """Return a monitor with the shipped rules and all that is kept; raise `StorageError` or `ConfigError`."""
        others = [compile_rule(one.plain, one.source) for one in self.rules()]
        return ActMonitor([*shipped_rules(), *others], self.indicators())

    def about(self, value: str) -> list[Indicator]:
        """Return what is known of a value: a domain, an address, a URL, a hash, or a package as `npm/name`."""
        ecosystem, slash, name = value.partition("/")
        if slash and ecosystem.lower() in _ECOSYSTEMS:
            keys = {("package", package_key(_ECOSYSTEMS[ecosystem.lower()], name))}
        else:
            keys = {(kind, seen) for kind, seen, _, _ in observables(value)}
        return [one for one in self.indicators() if (one.kind, one.value) in keys or _within(one, keys)]

    def _read(self, name: str, shape: type[_T]) -> list[_T]:
        path = self.folder / name
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{path} can't be read: {error.strerror}.") from None
        decoder = msgspec.json.Decoder(shape)
        try:
            return [decoder.decode(line) for line in lines]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(f"{path} is damaged: {error}.", hint="Add its sources again, or delete it.") from None

    def _write(self, name: str, structs: Iterable[msgspec.Struct]) -> None:
        path = self.folder / name
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with fresh.open("wb") as file:
                file.writelines(msgspec.json.encode(one) + b"\n" for one in structs)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise StorageError(f"{path} can't be written: {error.strerror}.") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise StorageError(f"{self.folder} can't be written: {error.strerror}.") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _json_ready(plain: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(dict(plain), str_keys=True)
    return found


def _within(one: Indicator, keys: Iterable[tuple[str, str]]) -> bool:
    if one.kind != "network":
        return False
    network = ipaddress.ip_network(one.value)
    return any(kind in ("ipv4", "ipv6") and ipaddress.ip_address(value) in network for kind, value in keys)
