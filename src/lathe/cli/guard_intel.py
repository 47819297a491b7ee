"""`lathe guard intel`: what others reported, kept on this machine: add, sync, list, explain."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.guard.indicators import Indicator, Read
    from lathe.guard.intel import Intel

_LARGEST = 256 * 1024 * 1024


def main(argv: list[str]) -> int:
    """Run `lathe guard intel …` and return its exit code: 1 where `explain` finds nothing, 2 for what can't be used."""
    parser = argparse.ArgumentParser(
        prog="lathe guard intel",
        description="Indicators (STIX 2.1, TAXII 2.1), malicious packages (OSV) and Sigma rules.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, run: Callable[[Any], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=f"{help}.", allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    command = add("add", "Keep what files say: STIX bundles, OSV records, Sigma rules, or folders of them", _add)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    command.add_argument("--source", default="", help="the name of whoever said it (the file's name if left out)")
    command = add("sync", "Pull a TAXII 2.1 collection, which replaces what it said before", _sync)
    command.add_argument("url", metavar="URL", help="…/collections/ID/")
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


def _add(options: Any) -> int:
    store, kept, rules, left = _store(), 0, 0, list[str]()
    for path in [found for given in options.files for found in _files(given)]:
        source = options.source or path.name
        try:
            if path.suffix in (".yml", ".yaml"):
                from lathe.guard.acts.sigma import read_plain

                store.add_rule(read_plain(path), source if options.source else str(path))
                rules += 1
            else:
                read = _read(path, source)
                kept += store.add(read)
                left += [f"{path.name}: {one}" for one in read.left]
        except UsageError as error:
            left.append(error.message)
    lines = [f"Kept {kept} indicators and {rules} rules.", *(f"Left out: {one}" for one in left)]
    _print(options, {"indicators": kept, "rules": rules, "left_out": left}, lines)
    return 2 if left and not kept and not rules else 0


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = (path for path in given.rglob("*") if path.suffix in (".json", ".yml", ".yaml") and path.is_file())
    return sorted(found)


def _read(path: Path, source: str) -> Read:
    from lathe.guard.indicators import read_record
    from lathe.protocol.codec import decode_json

    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST:,} bytes.", code="guard_intel")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", code="guard_intel") from None
    try:
        plain = decode_json(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}.", code="guard_intel") from None
    return read_record(plain, source)


def _sync(options: Any) -> int:
    from lathe.cli.taxii import pull
    from lathe.guard.indicators import read_objects

    name = options.authorization_env
    if name and not os.environ.get(name):
        raise UsageError(f"The variable {name} is not set.")
    read = read_objects(pull(options.url, os.environ, os.environ.get(name, "") if name else ""), options.url)
    kept = _store().add(read, whole=options.url)
    lines = [f"Kept {kept} indicators of {options.url}.", *(f"Left out: {one}" for one in read.left)]
    _print(options, {"indicators": kept, "left_out": read.left}, lines)
    return 0


def _list(options: Any) -> int:
    store, now = _store(), datetime.now(UTC)
    known = store.indicators()
    all_of, live = Counter(one.source for one in known), Counter(one.source for one in known if one.holds(now))
    rules = Counter(one.source for one in store.rules())
    rows = [{"source": name, "indicators": all_of[name], "in_force": live[name]} for name in sorted(all_of)]
    lines = [f"{row['in_force']:>8} of {row['indicators']:<8} {row['source']}" for row in rows]
    lines.append(f"{rules.total():>8} Sigma rules besides the shipped ones")
    _print(options, {"sources": rows, "rules": rules.total()}, lines)
    return 0


def _explain(options: Any) -> int:
    now = datetime.now(UTC)
    known = _store().about(options.value)
    if not known:
        _print(options, [], [f"Nobody here has reported {options.value}."])
        return 1
    _print(options, known, [_said(one, now) for one in known])
    return 0


def _said(one: Indicator, now: datetime) -> str:
    since = f", from {one.since:%Y-%m-%d}" if one.since else ""
    until = f", until {one.until:%Y-%m-%d}" if one.until else ""
    state = "" if one.holds(now) else "; not in force"
    versions = f"; versions {', '.join(one.versions[:10])}" if one.versions else ""
    name = f" {one.name!r}" if one.name else ""
    return (
        f"{one.kind} {one.value}: {one.source} ({one.id}){name}, confidence {one.confidence} of 100"
        f"{since}{until}{versions}{state}"
    )
