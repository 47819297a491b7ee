"""`lathe access`: a running gateway looked after from the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.cli.access_client import Gateway

_FIRST_KEY = "lathe serve prints the first one when it first starts."


class Call(NamedTuple):
    """One command: its options and the gateway to ask, which is not asked before it is needed."""

    options: argparse.Namespace
    gateway: Gateway


Run: TypeAlias = Callable[[Call], "int | None"]


class Words:
    """The commands of one level: `add` makes one, `group` a level below."""

    def __init__(self, parser: argparse.ArgumentParser, name: str) -> None:
        self._name = name
        self._actions = parser.add_subparsers(dest=f"command_{name.count(' ')}", required=True, metavar="COMMAND")

    def add(self, name: str, help: str, run: Run, *, keyless: bool = False) -> argparse.ArgumentParser:
        """Make a command and return its parser; one that is `keyless` works without a key."""
        parser = self._actions.add_parser(name, help=help, description=f"{help}.", allow_abbrev=False)
        parser.set_defaults(run=run, keyless=keyless)
        parser.add_argument("--url", help="the gateway (LATHE_GATEWAY_URL; http://127.0.0.1:8484 if left out)")
        if not keyless:
            parser.add_argument("--key", metavar="KEY", help="a key (LATHE_GATEWAY_KEY)")
        parser.add_argument("--json", action="store_true", help="print JSON")
        return parser

    def group(self, name: str, help: str) -> Words:
        """Make a level of commands below `name`."""
        parser = self._actions.add_parser(name, help=help, description=f"{help}.", allow_abbrev=False)
        return Words(parser, f"{self._name} {name}")


def main(argv: list[str]) -> int:
    """Run `lathe access …` and return its exit code: 1 refused, 2 usage or a wrong key, 4 no gateway there."""
    from lathe.cli import access_guard, access_principals, access_records, access_trust

    parser = argparse.ArgumentParser(
        prog="lathe access",
        description="Look after a gateway: what is live now, keys and people, trusted access, rollouts, decisions "
        "and appeals, receipts and the audit.",
        allow_abbrev=False,
    )
    words = Words(parser, "access")
    for module in (access_trust, access_principals, access_guard, access_records):
        module.add_commands(words)
    options = parser.parse_args(argv)
    run: Run = options.run
    return run(Call(options, _gateway(options))) or 0


def _gateway(options: Any) -> Gateway:
    from lathe.cli.access_client import DEFAULT_URL, Gateway

    url = options.url or os.environ.get("LATHE_GATEWAY_URL") or DEFAULT_URL
    key = "" if options.keyless else options.key or os.environ.get("LATHE_GATEWAY_KEY") or ""
    if not key and not options.keyless:
        raise UsageError("There is no key to ask the gateway with.", hint=f"Set LATHE_GATEWAY_KEY. {_FIRST_KEY}")
    gateway = Gateway(url, key)
    if key and gateway.is_exposed:
        sys.stderr.write(f"lathe: the key goes to {url} unencrypted.\n")
    return gateway
