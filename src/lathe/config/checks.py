"""Checking one layer of configuration, and saying what is wrong with it: the file, the line, the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from lathe.config.settings import CHOICES, TABLES, Project, Requirements, Settings
from lathe.protocol.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def dotted(path: tuple[str, ...]) -> str:
    """Return `path` as TOML writes a dotted key: parts that are not plain in quotes."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in path)


def check(table: Mapping[str, Any], source: str, text: str, shape: type[msgspec.Struct] = Settings) -> None:
    """Raise `ConfigError` unless every key of `table` exists and has the right type.

    `source` names the layer for people; `text` is the file's text, "" where the layer is no file.
    """
    if shape is Settings:
        shapes: dict[str, type[msgspec.Struct]] = {**TABLES, "projects": Project}
        for section, entry_shape in shapes.items():
            entries = table.get(section, {})
            if not isinstance(entries, Mapping):
                _fail(
                    source, text, (section,), f"{section} should be a table.", f"Write [{section}.NAME] above its keys."
                )
            for name, entry in entries.items():
                _convert(entry, entry_shape, (section, name), source, text)
    _convert(table, shape, (), source, text)


def _convert(value: Any, shape: type[msgspec.Struct], path: tuple[str, ...], source: str, text: str) -> None:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None
        _explain(found["what"], (*path, *_steps(found["path"] or "")), shape, source, text)


def _steps(path: str) -> list[str]:
    return [step for step in re.split(r"\.|(?=\[)", path) if step]


def _explain(what: str, path: tuple[str, ...], shape: type[msgspec.Struct], source: str, text: str) -> NoReturn:
    key = dotted(tuple(step for step in path if not step.startswith("["))) + "".join(
        f" (entry {int(step[1:-1]) + 1})" for step in path if re.fullmatch(r"\[\d+\]", step)
    )
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown is not None:
        whole = dotted((*[step for step in path if not step.startswith("[")], unknown[1]))
        near = nearest(unknown[1], known_keys(shape, path))
        hint = f"Did you mean {near}?" if near else "`lathe config show` lists the keys."
        _fail(source, text, (*path, unknown[1]), f"there is no key {whole}.", hint)
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing is not None:
        _fail(source, text, path, f"{key} lacks the key {missing[1]}.")
    last = next((step for step in reversed(path) if not step.startswith("[")), "")
    if what.startswith("Invalid enum value"):
        choices = CHOICES.get(last, ())
        value = what.removeprefix("Invalid enum value ")
        hint = f"Use {', '.join(choices[:-1])} or {choices[-1]}." if choices else ""
        if last == "network":
            hint = "Requirements can only take the network away."
        _fail(source, text, path, f"{key} can't be {value}.", hint)
    _fail(source, text, path, f"{key} {_expected(what)}.")


def _expected(what: str) -> str:
    wrong = re.fullmatch(r"Expected `(.*)`, got `(.*)`", what)
    if wrong is not None:
        wanted = " or ".join(_NAMES.get(name, name) for name in wrong[1].split(" | ") if name != "null")
        return f"should be {wanted}, not {_NAMES.get(wrong[2], wrong[2])}"
    bound = re.fullmatch(r"Expected `.*` (>=|<=|>|<) (\S+)", what)
    if bound is not None:
        words = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
        return f"should be {words[bound[1]]} {bound[2]}"
    return f"is wrong: {what}"


def known_keys(shape: type[msgspec.Struct], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys that may stand at `path` in `shape`, for suggestions."""
    if path[:1] == ("rules",):
        from lathe.config.settings import RuleSpec, RuleTables

        return (RuleTables if len(path) == 1 else RuleSpec).__struct_fields__
    if path == ("guard",):
        from lathe.config.settings import GuardTable

        return GuardTable.__struct_fields__
    if path == ("limits",):
        from lathe.config.settings import LimitTable

        return LimitTable.__struct_fields__
    if path[:1] == ("egress",):
        from lathe.config.settings import CredentialTable, EgressDemands, EgressTable

        if len(path) > 1:
            return CredentialTable.__struct_fields__
        return (EgressTable if shape is Settings else EgressDemands).__struct_fields__
    if path[:1] == ("paths",):
        from lathe.config.settings import PathTable

        return PathTable.__struct_fields__
    if path and path[-1] in ("price", "long_price"):
        from lathe.config.settings import PriceTable

        return PriceTable.__struct_fields__
    return shape.__struct_fields__ if shape in (Settings, Requirements) or len(path) <= 2 else ()


def nearest(word: str, known: tuple[str, ...]) -> str:
    """Return the word of `known` that looks most like `word`, "" where none does."""
    import difflib

    found = difflib.get_close_matches(word.lower().replace("-", "_"), known, 1, 0.6)
    return found[0] if found else ""


def _fail(source: str, text: str, path: tuple[str, ...], message: str, hint: str = "") -> NoReturn:
    line = line_of(text, path)
    raise ConfigError(f"{source}{f', line {line}' if line else ''}: {message}", hint=hint)


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the line of a TOML text where the key `path` is set, as far as a look at each line can tell."""
    wanted = [step for step in path if not step.startswith("[")]
    entry = next((int(step[1:-1]) for step in path if re.fullmatch(r"\[\d+\]", step)), 0)
    while wanted:
        found = _find(text, wanted, entry)
        if found is not None:
            return found
        wanted.pop()
    return None


def _find(text: str, wanted: list[str], entry: int) -> int | None:
    header: list[str] = []
    seen = -1
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        table = re.match(r"(\[\[?)\s*(.*?)\s*\]\]?\s*(?:#.*)?$", stripped)
        if table is not None:
            header = split_key(table[2]) or []
            if header == wanted[: len(header)] and table[1] == "[[":
                seen += 1
            if header == wanted and (table[1] == "[" or seen == entry):
                return number
            continue
        keys = split_key(stripped.partition("=")[0].strip()) if "=" in stripped else None
        in_entry = seen < 0 or seen == entry
        if keys and in_entry and [*header, *keys] == wanted:
            return number
    return None


def split_key(key: str) -> list[str] | None:
    """Return the parts of a dotted key, quoted parts whole; None where it is none."""
    part = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
    if not re.fullmatch(rf"\s*{part}(?:\s*\.\s*{part})*\s*", key):
        return None
    return [found.strip("\"'") for found in re.findall(part, key)]
