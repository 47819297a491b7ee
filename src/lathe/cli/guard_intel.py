"""`lathe guard intel`: what others reported, kept on this machine: add, sync, list, explain."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import to_builtins

from lathe.protocol.errors import ConfigError, LatheError, UsageError

if TYPE_CHECKING:
    from lathe.guard.feeds import Feed
    from lathe.guard.indicators import Indicator, Read
    from lathe.guard.intel import Intel

_KINDS = frozenset({".json", ".yml", ".yaml", ".yar", ".yara"})
_LARGEST = 256 * 1024 * 1024


def main(argv: list[str]) -> int:
    """Run `lathe guard intel …` and return its exit code: 1 where `explain` finds nothing, 2 for what can't be used."""
    parser = argparse.ArgumentParser(
        prog="lathe guard intel",
        description="Indicators (STIX 2.1, TAXII 2.1), malicious packages (OSV), Sigma rules and YARA rules.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, run: Callable[[Any], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=f"{help}.", allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    command = add(
        "add", "Keep what files say: STIX bundles, OSV records, Sigma and YARA rules, or folders of them", _add
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    command.add_argument("--source", default="", help="the name of whoever said it (the file's name if left out)")
    command.add_argument("--licence", default="", help="that of YARA rules (as the rules say if left out)")
    command = add("sync", "Pull a TAXII 2.1 collection, which replaces what it said before", _sync)
    command.add_argument("url", nargs="?", default="", metavar="URL", help="…/collections/ID/")
    command.add_argument("--every", default="", metavar="30m|6h|1d|never", help="pull it by a schedule from now on")
    command.add_argument("--due", action="store_true", help="pull all collections with a schedule that are due")
    command.add_argument("--authorization-env", default="", metavar="NAME", help="a variable with that header's value")
    add("list", "Show the sources, and how much of each is in force", _list)
    command = add("explain", "Show who reported a value, when, how sure, and until when", _explain)
    command.add_argument("value", help="a domain, an address, a URL, a hash, or a package as npm/NAME")
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code


def _store() -> Intel:
    from lathe.config.paths import lathe_home
    from lathe.guard.intel import Intel

    return Intel(lathe_home(os.environ))


def _print(options: Any, plain: Any, lines: list[str]) -> None:
    from lathe.protocol.codec import encode

    print(encode(plain).decode() if options.json else "\n".join(lines))


class _Given(NamedTuple):
    """What the files say, to be kept at once: folders may hold hundreds of thousands of them."""

    reads: list[Read]
    rules: list[tuple[Mapping[str, Any], str]]
    left: list[str]


def _add(options: Any) -> int:
    from lathe.guard.indicators import merged

    store, given, yara = _store(), _Given([], [], []), 0
    for path in [found for named in options.files for found in _files(named)]:
        try:
            yara += _add_file(store, path, options, given)
        except (UsageError, ConfigError) as error:
            given.left.append(f"{error.message} {error.hint}".strip())
    kept = store.add(merged(given.reads)) if given.reads else 0
    if given.rules:
        store.add_rules(given.rules)
    said = f"Kept {kept} indicators and {len(given.rules)} rules" + (f", and {yara} YARA rules." if yara else ".")
    plain = {"indicators": kept, "rules": len(given.rules), "yara": yara, "left_out": given.left}
    _print(options, plain, [said, *(f"Left out: {one}" for one in given.left)])
    return 2 if given.left and not kept and not given.rules and not yara else 0


def _add_file(store: Intel, path: Path, options: Any, given: _Given) -> int:
    """Read a file, and keep it where it holds YARA rules; return how many of these."""
    if path.suffix in (".yml", ".yaml"):
        from lathe.guard.acts.sigma import compile_rule, read_plain

        source = options.source or str(path)
        plain = read_plain(path)
        compile_rule(plain, source)
        given.rules.append((plain, source))
        return 0
    if path.suffix in (".yar", ".yara"):
        from lathe.guard.acts.files import YaraSource

        text = _bytes(path).decode("utf-8", "replace")
        named = f"{options.source}/{path.name}" if options.source else str(path)
        found = store.add_yara(YaraSource(named, text, options.licence))
        given.left.extend(f"{path.name}: {one}" for one in found.left)
        return sum(map(len, found.names))
    read = _read(path, options.source or path.name)
    given.reads.append(read)
    given.left.extend(f"{path.name}: {one}" for one in read.left)
    return 0


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = (path for path in given.rglob("*") if path.suffix in _KINDS and path.is_file())
    return sorted(found)


def _read(path: Path, source: str) -> Read:
    from lathe.guard.indicators import read_record
    from lathe.protocol.codec import decode_json

    try:
        plain = decode_json(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}.", code="guard_intel") from None
    return read_record(plain, source)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST:,} bytes.", code="guard_intel")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", code="guard_intel") from None


def _sync(options: Any) -> int:
    if bool(options.url) is options.due or (options.due and (options.every or options.authorization_env)):
        raise UsageError("Name a collection, or say --due, which takes nothing else.")
    return _sync_due(options) if options.due else _sync_one(options)


def _sync_one(options: Any) -> int:
    from lathe.guard.feeds import Feed, interval
    from lathe.guard.indicators import read_objects

    store, now = _store(), datetime.now(UTC)
    known = next((one for one in store.feeds() if one.url == options.url), None)
    if options.every == "never":
        store.forget_feed(options.url)
        _print(options, {"url": options.url, "every_s": None}, [f"{options.url} is no longer pulled by a schedule."])
        return 0
    every_s = interval(options.every) if options.every else known.every_s if known else 0
    feed = Feed(options.url, every_s, options.authorization_env or (known.authorization_env if known else ""), now)
    try:
        read = read_objects(_pull(feed), feed.url)
    except LatheError as error:
        if known is not None:
            store.keep_feed(known.after(now, error.message))
        raise
    kept = store.add(read, whole=feed.url)
    if every_s:
        store.keep_feed(feed.after(now))
    lines = [f"Kept {kept} indicators of {options.url}.", *(f"Left out: {one}" for one in read.left)]
    _print(options, {"indicators": kept, "left_out": read.left}, lines)
    return 0


def _sync_due(options: Any) -> int:
    from lathe.guard.feeds import sync_due

    synced = sync_due(_store(), datetime.now(UTC), _pull)
    lines = [f"{one.url}: {one.error or f'kept {one.kept} indicators.'}" for one in synced]
    _print(options, synced, lines or ["No collection is due."])
    return 1 if any(one.error for one in synced) else 0


def _pull(feed: Feed) -> Sequence[Any]:
    from lathe.gateway.guarding.taxii import pull_feed

    return pull_feed(feed, os.environ)


def _list(options: Any) -> int:
    store, now = _store(), datetime.now(UTC)
    known = store.indicators()
    all_of, live = Counter(one.source for one in known), Counter(one.source for one in known if one.holds(now))
    rules = Counter(one.source for one in store.rules())
    rows = [
        {
            "source": name,
            "indicators": all_of[name],
            "in_force": live[name],
            "confidence": round(mean(one.trust(now) for one in known if one.source == name and one.holds(now)))
            if live[name]
            else None,
        }
        for name in sorted(all_of)
    ]
    lines = [
        f"{row['in_force']:>8} of {row['indicators']:<8} {row['source']}"
        + (f", confidence {row['confidence']} of 100 on average by now" if row["in_force"] else ", all expired")
        for row in rows
    ]
    lines.append(f"{rules.total():>8} Sigma rules besides the shipped ones")
    yara = [{"source": one.source, "rules": one.rules, "licence": one.licence} for one in store.yara()]
    lines += [
        f"{row['rules']:>8} YARA rules of {row['source']}, {row['licence'] or 'no licence named'}" for row in yara
    ]
    feeds = store.feeds()
    lines += [_feed_line(feed, now) for feed in feeds]
    plain = [{**to_builtins(feed), "state": feed.state(now), "next": feed.next} for feed in feeds]
    _print(options, {"sources": rows, "rules": rules.total(), "yara": yara, "feeds": plain}, lines)
    return 0


def _feed_line(feed: Feed, now: datetime) -> str:
    pulled = f"last pulled {feed.pulled:%Y-%m-%d %H:%M}" if feed.pulled else "never pulled"
    coming = "now" if feed.is_due(now) or feed.next is None else f"{feed.next:%Y-%m-%d %H:%M}"
    wrong = f"; {feed.failures} failed: {feed.error}" if feed.failures else ""
    every = timedelta(seconds=feed.every_s)
    return f"{feed.state(now):>8} {feed.url}, every {every}, {pulled} UTC, next {coming}{wrong}"


def _explain(options: Any) -> int:
    now = datetime.now(UTC)
    known = _store().about(options.value)
    if not known:
        _print(options, [], [f"Nobody here has reported {options.value}."])
        return 1
    plain = [{**to_builtins(one), "trust": one.trust(now), "end": one.end, "in_force": one.holds(now)} for one in known]
    _print(options, plain, [_said(one, now) for one in known])
    return 0


def _said(one: Indicator, now: datetime) -> str:
    since = f", from {one.since:%Y-%m-%d}" if one.since else ""
    until = f", until {one.end:%Y-%m-%d}" if one.end else ""
    faded = f" ({one.trust(now)} by now)" if one.trust(now) != one.confidence else ""
    state = "" if one.holds(now) else "; not in force"
    versions = f"; versions {', '.join(one.versions[:10])}" if one.versions else ""
    name = f" {one.name!r}" if one.name else ""
    return (
        f"{one.kind} {one.value}: {one.source} ({one.id}){name}, confidence {one.confidence} of 100{faded}"
        f"{since}{until}{versions}{state}"
    )
