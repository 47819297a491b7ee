"""The outermost fields of a JSON object, found and changed without a decode of what they hold.

A body on its way through is judged by a few of its fields. Two readers of one body must not see two values, so a
field that stands twice is an error: msgspec would take the last one, and an upstream may take the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from lathe.gateway.dialects.base import BadRequest


class Field(NamedTuple):
    """Where a field stands: its key from `key`, its value from `value` to `end`."""

    key: int
    value: int
    end: int
    raw: msgspec.Raw


Fields: TypeAlias = dict[str, Field]

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_next = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*("([^"\\]*(?:\\.[^"\\]*)*)"[ \t\r\n]*:[ \t\r\n]*)')
_end = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*\Z")
_empty = re.compile(rb"[ \t\r\n]*\}")


def read_fields(body: bytes) -> Fields:
    """Return the fields of the object that `body` is; raise `BadRequest` where it is none, or has one twice.

    What the fields hold is JSON as far as its brackets and quotes go. Whether it is UTF-8 throughout is seen by
    whoever decodes it: to look here costs more than all the rest.
    """
    try:
        raws = _object.decode(body)
    except UnicodeDecodeError:
        raise BadRequest("invalid_utf8", "The body is no UTF-8.") from None
    except msgspec.ValidationError:
        raise BadRequest("invalid_json", "The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequest("invalid_json", f"The body is no JSON: {error}.") from None
    except RecursionError:
        raise BadRequest("invalid_json", "The body is nested too deeply.") from None
    return _located(body, raws)


def _located(body: bytes, raws: Mapping[str, msgspec.Raw]) -> Fields:
    fields: Fields = {}
    match, new = _next.match, Field._make
    at = 0
    while found := match(body, at):
        key, value = found.span(1)
        name = found[2].decode() if b"\\" not in found[2] else _unescaped(found[1])
        raw = raws.get(name)
        # A value that is not the one decoded is an earlier one of the same name.
        if raw is None or name in fields or not body.startswith(raw, value):
            raise _twice(name)
        at = value + len(memoryview(raw))
        fields[name] = new((key, value, at, raw))
    if _end.match(body, at if fields else body.index(b"{") + 1) is None:
        raise _twice(name)
    return fields


def _unescaped(key: bytes) -> str:
    name: str = msgspec.json.decode(key.rstrip(b" \t\r\n:"))
    return name


def _twice(name: str) -> BadRequest:
    return BadRequest("duplicate_field", f"The field {name[:80]!r} stands twice in the body.", param=name[:80])


def rewritten(body: bytes, fields: Fields, changes: Mapping[str, bytes | None]) -> bytes:
    """Return `body` with other values, as JSON, for the fields in `changes`; None takes a field away.

    The other fields keep their bytes. One that is not there yet is put first.
    """
    members = [
        msgspec.json.encode(name) + b":" + value for name, value in changes.items() if value and name not in fields
    ]
    for name, place in fields.items():
        value = changes.get(name, body[place.value : place.end])
        if value is not None:
            members.append(body[place.key : place.value] + value)
    return b"{" + b",".join(members) + b"}"


def with_member(data: bytes, brace: int, name: str, value: bytes) -> bytes:
    """Return `data` with a member put first into the object that opens at `brace`."""
    comma = b"" if _empty.match(data, brace + 1) else b","
    return b"".join((data[: brace + 1], b'"', name.encode(), b'":', value, comma, data[brace + 1 :]))
