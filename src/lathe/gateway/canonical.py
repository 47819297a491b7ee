"""Canonical JSON: one text for one value, so that a signature outlives every reader and writer in between.

The form is that of RFC 8785 (JSON Canonicalization Scheme): UTF-8, no space, the keys of an object in the order of
their UTF-16 code units, the shortest escapes, numbers as ECMAScript writes them. Whole numbers are taken up to
2^53 - 1, as RFC 7493 (I-JSON) has it: beyond that other readers would round them.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from lathe.protocol.errors import UsageError

_LARGEST = 2**53 - 1
_DEEPEST = 200
_SIMPLE = frozenset({str, bool, type(None)})
_WORDS = frozenset({str})
_encode = msgspec.json.Encoder(order="sorted").encode
_quote = msgspec.json.Encoder().encode


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of `value`: a msgspec struct, or null, booleans, numbers, strings, lists, dicts.

    Raises `UsageError` for what has no canonical form: another type, a key that is no string, a whole number beyond
    2^53 - 1, a number that is not finite, half a surrogate pair, or more than 200 levels.
    """
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    try:
        if _is_plain(value):
            return _encode(value)
        return "".join(_parts(value)).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("A string holds half a surrogate pair, which has no canonical form.") from None


def read_strictly(text: bytes) -> Any:
    """Return the value of a JSON text that came from outside.

    Raises `UsageError` where it is no JSON, is not UTF-8, says a key twice or is nested too deeply.
    """
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_once, parse_int=_integer, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        raise UsageError("The text is not UTF-8.") from None
    except RecursionError:
        raise UsageError(f"The text is nested more than {_DEEPEST} levels deep.") from None
    except ValueError as error:
        raise UsageError(f"The text is not JSON: {error}.") from None


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Say whether msgspec's writing of `value` is the canonical one; raise `UsageError` where there is none."""
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if kind is int:
        if -_LARGEST <= value <= _LARGEST:
            return True
        raise UsageError(f"The number {str(value)[:30]} is beyond 2^53 - 1, which has no canonical form.")
    if kind is float:
        if math.isfinite(value):
            return False
        raise UsageError(f"The number {value} is not finite, which has no canonical form.")
    if depth > _DEEPEST:
        raise UsageError(f"A value nested more than {_DEEPEST} levels deep has no canonical form.")
    plain = True
    if kind is dict:
        if not _WORDS.issuperset(map(type, value)):
            raise UsageError("An object has a key that is no string, so it has no canonical form.")
        names = "".join(value)
        # bytes of UTF-8 sort as code points do, and those as UTF-16 units do up to U+FFFF
        plain = names.isascii() or max(names) <= "\uffff"
        for inner in value.values():
            if type(inner) not in _SIMPLE and not _is_plain(inner, depth + 1):
                plain = False
        return plain
    if kind is list or kind is tuple:
        for inner in value:
            if not _is_plain(inner, depth + 1):
                plain = False
        return plain
    raise UsageError(f"A value of the type {kind.__name__} has no canonical form.")


def _parts(value: Any) -> list[str]:
    """Return the canonical text of a value in parts; slow, for numbers with fractions and keys beyond U+FFFF."""
    if type(value) is float:
        return [_number(value)]
    if type(value) is dict:
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        parts = ["{"]
        for key in keys:
            parts += [",", _quote(key).decode(), ":", *_parts(value[key])]
        del parts[1:2]
        return [*parts, "}"]
    if type(value) in (list, tuple):
        parts = ["["]
        for inner in value:
            parts += [",", *_parts(inner)]
        del parts[1:2]
        return [*parts, "]"]
    return [_quote(value).decode()]


def _number(value: float) -> str:
    """Return a finite number as ECMAScript's Number::toString writes it; Python's digits are the shortest ones too."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    padded = whole + fraction
    digits = padded.lstrip("0")
    point -= len(padded) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UsageError(f"The key {twice!r} stands twice in one object.")
    return found


def _integer(digits: str) -> int | float:
    """Return a whole number, as the double that RFC 8785 takes it for where it is beyond 2^53 - 1."""
    number = float(digits)
    return int(digits) if abs(number) <= _LARGEST else number


def _no_constant(word: str) -> Any:
    raise UsageError(f"The text is not JSON: it holds {word}.")
