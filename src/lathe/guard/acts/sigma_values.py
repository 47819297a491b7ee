"""Fields and values of Sigma rules: modifiers, wildcards, and what a text must hold for a rule to be worth a look.

Facts: the Sigma specification 2.1.0, appendix on modifiers. Values compare without regard to case, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias


class Fields(NamedTuple):
    """An event: its fields as they are, and in lower case."""

    raw: dict[str, str]
    lower: dict[str, str]


Check: TypeAlias = Callable[[Fields], bool]
Needles: TypeAlias = frozenset[str] | None
"""Texts in lower case of which one must stand in the command, `/name` as a word; None: nothing can be said."""


class Probe(NamedTuple):
    """A check and its needles."""

    check: Check
    needles: Needles


_MODIFIERS = frozenset({"contains", "startswith", "endswith", "all", "re", "cased", "i", "m", "s", "exists"})
_WRITTEN = frozenset({"CommandLine", "Image", "TargetFilename"})
"""Fields that are made of what the command line says; others come from elsewhere."""
_LONGEST = 16_000
_PIECE = re.compile(r"\\([*?\\])|([*?])|([^*?\\]+|\\)", re.DOTALL)
_NAME = re.compile(r"[\w.+-]+")
_FOLDERS = re.compile(r"[\s'\"\\`$/]+")
_BREAKS = re.compile(r"[\s'\"\\`$]+")


def both(tests: Sequence[Probe]) -> Probe:
    """Return a test that holds where all do; its needles are the most telling ones."""
    if len(tests) == 1:
        return tests[0]
    checks = [test.check for test in tests]
    known = [test.needles for test in tests if test.needles]
    best = max(known, key=lambda needles: (min(map(len, needles)), -len(needles)), default=None)
    return Probe(lambda fields: all(check(fields) for check in checks), best)


def either(tests: Sequence[Probe]) -> Probe:
    """Return a test that holds where one does."""
    if len(tests) == 1:
        return tests[0]
    checks = [test.check for test in tests]
    known = [test.needles for test in tests if test.needles is not None]
    needles = frozenset[str]().union(*known) if len(known) == len(tests) else None
    return Probe(lambda fields: any(check(fields) for check in checks), needles)


def field_test(spelled: str, wanted: Any) -> Probe:
    """Return the test of `field|modifier…: values`; raise `ValueError` with the reason where it can't be used."""
    field, *modifiers = spelled.split("|")
    strange = [name for name in modifiers if name not in _MODIFIERS]
    if strange:
        raise ValueError(f"the modifier {strange[0][:40]!r} is not among those that are read")
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values:
        raise ValueError(f"{spelled[:80]!r} has no value")
    if "exists" in modifiers:
        return Probe(lambda fields: (field in fields.raw) is bool(values[0]), None)
    tests = [_value_test(field, modifiers, value) for value in values]
    return both(tests) if "all" in modifiers else either(tests)


def _value_test(field: str, modifiers: Sequence[str], value: Any) -> Probe:
    if value is None:
        return Probe(lambda fields: not fields.raw.get(field), None)
    if isinstance(value, dict | list):
        raise ValueError(f"a value of {field[:40]!r} is neither text nor number")
    text = str(value)
    if "re" in modifiers:
        return _pattern_test(field, modifiers, text)
    parts = _parts(text)
    if "contains" in modifiers or "endswith" in modifiers:
        parts.insert(0, None)
    if "contains" in modifiers or "startswith" in modifiers:
        parts.append(None)
    cased = "cased" in modifiers
    return Probe(_wildcard_check(field, parts, cased), _needles(field, parts))


def _pattern_test(field: str, modifiers: Sequence[str], text: str) -> Probe:
    flags = sum(getattr(re, letter.upper()) for letter in set(modifiers) & {"i", "m", "s"})
    try:
        search = re.compile(text, flags).search
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a pattern of {field[:40]!r} can't be read ({error})") from None
    return Probe(lambda fields: search(fields.raw.get(field, "")[:_LONGEST]) is not None, None)


_Parts: TypeAlias = list[str | None]
"""A value in pieces: literal text, "" for one unknown letter (`?`), None for any text (`*`)."""


def _parts(text: str) -> _Parts:
    parts: _Parts = []
    for escaped, wild, plain in _PIECE.findall(text):
        if wild:
            parts.append(None if wild == "*" else "")
        elif parts and parts[-1]:
            parts[-1] += escaped or plain
        else:
            parts.append(escaped or plain)
    return parts


def _wildcard_check(field: str, parts: _Parts, cased: bool) -> Check:
    literal = "".join(part or "" for part in parts)
    wanted = literal if cased else literal.lower()
    side = 0 if cased else 1  # Fields.raw or Fields.lower
    solid = [part for part in parts if part]
    if "" not in parts and len(solid) <= 1:
        before, after = bool(parts) and parts[0] is None, bool(parts) and parts[-1] is None
        if not solid:
            return lambda fields: field in fields.raw if parts else not fields.raw.get(field)
        if before and after:
            return lambda fields: wanted in fields[side].get(field, "")
        if before:
            return lambda fields: fields[side].get(field, "").endswith(wanted)
        if after:
            return lambda fields: fields[side].get(field, "").startswith(wanted)
        return lambda fields: fields[side].get(field) == wanted
    pattern = "".join(".*" if part is None else "." if part == "" else re.escape(part) for part in parts)
    match = re.compile(pattern, re.DOTALL | (0 if cased else re.IGNORECASE)).fullmatch
    return lambda fields: match(fields.raw.get(field, "")[:_LONGEST]) is not None


def _needles(field: str, parts: _Parts) -> Needles:
    if field not in _WRITTEN:
        return None
    texts = [part for part in parts if part]
    if field == "Image":
        _, slash, name = texts[-1].rpartition("/") if texts else ("", "", "")
        if slash and parts[-1] and _NAME.fullmatch(name):
            return frozenset({f"/{name.lower()}"})
        # the folder of a program is seldom written, and then added
        texts = [text.rpartition("/")[2] or ("" if text in "/usr/bin/" else text) for text in texts]
    breaks = _FOLDERS if field == "TargetFilename" else _BREAKS  # a command may have gone to the folder before
    pieces = [piece for text in texts for piece in breaks.split(text.lower())]
    longest = max(reversed(pieces), key=len, default="")
    return frozenset({longest}) if longest else None
