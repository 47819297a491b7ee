"""The gateway's own field `lathe` in an answer: put in as bytes, whatever else the answer holds."""

from __future__ import annotations

import re

import msgspec

from lathe.gateway.dialects.base import BadRequest
from lathe.gateway.dialects.fields import read_fields, rewritten, with_member
from lathe.models.provider import WireName

FIELD = "lathe"
_quoted = b'"lathe"'
_data = re.compile(rb"(?:\A|[\r\n])data:[ ]?")
_response = re.compile(rb'"response"[ \t\r\n]*:[ \t\r\n]*\{')


def extend_event(wire: WireName, event: bytes, extension: bytes) -> bytes:
    """Return the SSE event `event` with `extension`, a JSON object, as the field `lathe` of its data.

    In a Responses event it stands in the `response`, where the SDKs' users look; elsewhere outermost. An event
    that has no object is returned as it is.
    """
    found = _data.search(event)
    brace = event.find(b"{", found.end()) if found else -1
    if brace < 0:
        return event
    if _quoted in event:
        return _replaced(wire, event, brace, extension)
    if wire == "responses":
        inner = _response.search(event, brace)
        if inner and event.count(b"{", brace, inner.end()) == 2:
            brace = inner.end() - 1
    return with_member(event, brace, FIELD, extension)


def extend_body(body: bytes, extension: bytes) -> bytes:
    """Return the whole answer `body`, an object, with `extension` as its field `lathe`; other bodies as they are."""
    if _quoted in body:
        return _set(body, extension)
    brace = body.find(b"{")
    return with_member(body, brace, FIELD, extension) if not body[: max(brace, 0)].strip() and brace >= 0 else body


def _replaced(wire: WireName, event: bytes, brace: int, extension: bytes) -> bytes:
    """Extend an event in which the word stands already: another gateway may be the upstream."""
    end = event.rfind(b"}") + 1
    data = event[brace:end]
    try:
        fields = read_fields(data)
        inner = fields.get("response") if wire == "responses" else None
        if inner is not None and data[inner.value : inner.value + 1] == b"{":
            changed = rewritten(data, fields, {"response": _set(data[inner.value : inner.end], extension)})
        else:
            changed = rewritten(data, fields, {FIELD: extension})
    except BadRequest:
        return event
    return event[:brace] + changed + event[end:]


def _set(body: bytes, extension: bytes) -> bytes:
    try:
        return rewritten(body, read_fields(body), {FIELD: extension})
    except (BadRequest, msgspec.DecodeError):
        return body
