"""What others reported, kept on this machine: indicators, rules and feeds, a line of JSON each.

The folder is `guard/intel` below $LATHE_HOME. Nothing is fetched here; `lathe guard intel` does that, when asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from lathe.guard.acts.files import YaraSource
from lathe.guard.acts.installs import package_key
from lathe.guard.acts.monitor import ActMonitor, observables, shipped_rules
from lathe.guard.acts.sigma import compile_rule
from lathe.guard.feeds import Feed
from lathe.guard.indicators import Indicator, Read
from lathe.protocol.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from lathe.guard.acts.files import Compiled, FileMonitor

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
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
        self._acts: tuple[Stamp, ActMonitor] | None = None
        self._looks: tuple[Stamp, FileMonitor] | None = None

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
            ended = frozenset(read.ended)
            kept = [
                one
                for one in self.indicators()
                if (one.source, one.id) not in gone and one.id not in ended and (one.source != whole or not whole)
            ]
            self._write("indicators.jsonl", [*kept, *read.indicators])
        return len(read.indicators)

    def add_rules(self, given: Iterable[tuple[Mapping[str, Any], str]]) -> None:
        """Keep Sigma rules, each with who said it; those of the same id are replaced.

        Raises `ConfigError` where one can't be used: then none is kept.
        """
        fresh = {compile_rule(plain, source).id: KeptRule(source, _json_ready(plain)) for plain, source in given}
        with self._locked():
            kept = [one for one in self.rules() if str(one.plain.get("id") or one.plain.get("title")) not in fresh]
            self._write("rules.jsonl", [*kept, *fresh.values()])

    def yara(self) -> list[YaraSource]:
        """Return the files of YARA rules; raise `StorageError`."""
        return self._read("yara.jsonl", YaraSource)

    def add_yara(self, one: YaraSource) -> Compiled:
        """Keep a file of YARA rules; what the same source gave before is replaced. Return it compiled.

        Raises `ConfigError` where it holds no rule that can be used, or YARA-X is missing.
        """
        from lathe.guard.acts.files import compiled

        found = compiled([one])
        if not any(found.names):
            why = found.left[0] if found.left else "it is empty."
            raise ConfigError(f"{one.source} holds no YARA rule that can be used: {why}", code="guard_yara")
        licence = one.licence or ", ".join(found.licences)
        fresh = YaraSource(one.source, one.text, licence, sum(map(len, found.names)))
        with self._locked():
            self._write("yara.jsonl", [*(kept for kept in self.yara() if kept.source != one.source), fresh])
        return found

    def feeds(self) -> list[Feed]:
        """Return the feeds with a schedule; raise `StorageError`."""
        return self._read("feeds.jsonl", Feed)

    def keep_feed(self, feed: Feed) -> None:
        """Keep a feed, and how its last pull went."""
        self._change_feeds(feed.url, feed)

    def forget_feed(self, url: str) -> None:
        """End a schedule. What the feed gave stays until it ends by itself."""
        self._change_feeds(url)

    def _change_feeds(self, url: str, *instead: Feed) -> None:
        with self._locked():
            self._write("feeds.jsonl", [*(kept for kept in self.feeds() if kept.url != url), *instead])

    def current(self) -> ActMonitor:
        """Return the monitor of all that is kept now: the same one as before until the store has changed.

        Costs a look at two files where nothing has. Raises as `monitor` does.
        """
        stamp = self._stamp("indicators.jsonl", "rules.jsonl")
        if self._acts is None or self._acts[0] != stamp:
            self._acts = (stamp, self.monitor())
        return self._acts[1]

    def current_files(self) -> FileMonitor:
        """Return the monitor of files in the same way; raise `StorageError` or `ConfigError`."""
        from lathe.guard.acts.files import FileMonitor

        stamp = self._stamp("yara.jsonl")
        if self._looks is None or self._looks[0] != stamp:
            self._looks = (stamp, FileMonitor(self.yara()))
        return self._looks[1]

    def _stamp(self, *names: str) -> Stamp:
        """Return what changes whenever one of the files does: each is replaced by another file as a whole."""
        found: list[tuple[int, int, int]] = []
        for name in names:
            try:
                at = (self.folder / name).stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((at.st_ino, at.st_size, at.st_mtime_ns))
        return tuple(found)

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
