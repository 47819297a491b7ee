"""`lathe config`: the settings in force, where each came from, and the files that were looked for."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lathe.cli.options import working_directory
from lathe.config.checks import dotted
from lathe.config.layers import Loaded, load_settings
from lathe.config.paths import cache_home, config_home, lathe_home
from lathe.protocol.codec import encode
from lathe.sandbox.environment import is_secret_name, is_secret_value

HIDDEN = "***"
_SECRET_TABLES = frozenset({"headers", "env"})


def main(argv: list[str]) -> int:
    """Run `lathe config show` or `lathe config path` and return the exit code."""
    parser = argparse.ArgumentParser(prog="lathe config", description="Show the configuration.", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="show | path")
    show = actions.add_parser("show", help="print every setting; secrets are never shown")
    show.add_argument("--origin", action="store_true", help="say where each value came from")
    path = actions.add_parser("path", help="print the files that are read, and Lathe's folders")
    for one in (show, path):
        one.add_argument("-C", "--cd", metavar="DIR", default=".", help="as for work in DIR")
        one.add_argument("-c", "--config", metavar="KEY=VALUE", action="append", default=[], help="set one setting")
        one.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    loaded = load_settings(cwd=working_directory(options), overrides=options.config, environ=os.environ)
    if options.action == "path":
        _print_paths(loaded, as_json=options.json)
    else:
        _print_settings(loaded, origin=options.origin, as_json=options.json)
    return 0


def _print_settings(loaded: Loaded, *, origin: bool, as_json: bool) -> None:
    values = dict(settings_by_key(loaded))
    if as_json:
        shown = {key: {"value": value, "origin": loaded.origin(key)} for key, value in values.items()}
        print(encode({"settings": shown, "warnings": loaded.warnings}).decode())
        return
    lines = [
        f"{key} = {_as_toml(value)}" if value is not None else f"# {key} is not set" for key, value in values.items()
    ]
    width = min(max(map(len, lines), default=0), 60)
    for key, line in zip(values, lines, strict=True):
        print(f"{line:<{width}}  # {loaded.origin(key)}" if origin else line)
    for warning in loaded.warnings:
        sys.stderr.write(f"lathe: {warning}\n")


def settings_by_key(loaded: Loaded) -> Iterator[tuple[str, Any]]:
    """Yield every setting by its dotted key, secrets replaced by `***`."""
    yield from _leaves(msgspec.to_builtins(loaded.settings), ())


def _leaves(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        here = (*path, name)
        if isinstance(value, dict):
            yield from _leaves(value, here)
        else:
            yield dotted(here), _without_secrets(value, here)


def _without_secrets(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_secrets(one, path) for one in value]
    if not isinstance(value, str):
        return value
    if value.startswith("env:") or path[-1] == "key_env":
        return value
    secret_table = len(path) > 2 and path[-2] in _SECRET_TABLES
    shown = re.sub(r"(?<=://)[^/@\s]+@", f"{HIDDEN}@", value)
    if secret_table or (len(path) > 1 and is_secret_name(path[-1])):
        return HIDDEN
    return HIDDEN if shown == value and is_secret_value(value) else shown


def _as_toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dotted((key,))} = {_as_toml(one)}" for key, one in value.items()) + "}"
    return encode(value).decode()


def _print_paths(loaded: Loaded, *, as_json: bool) -> None:
    folders = {
        "config": config_home(os.environ),
        "home": lathe_home(os.environ),
        "cache": cache_home(os.environ),
    }
    if as_json:
        files = [{"path": path, "state": state} for path, state in loaded.files]
        print(encode({"files": files, "folders": {name: str(path) for name, path in folders.items()}}).decode())
        return
    width = max(len(path) for path, _ in loaded.files)
    for path, state in loaded.files:
        print(f"{path:<{width}}  {state}")
    print()
    for name, folder in folders.items():
        print(f"{name:<7} {folder}")
