"""Reasoning that a caller keeps for an upstream of another wire.

A dialect has one opaque field that callers send back untouched: encrypted content, a signature. What only another
wire can use is sealed into that field whole, and opened when it comes back.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from lathe.models.provider import WireName
from lathe.protocol.items import Reasoning

_MARK = "lathe1."
_decoder = msgspec.json.Decoder(Reasoning)


def sealed(item: Reasoning) -> str:
    """Return `item` as a text for an opaque field."""
    bare = msgspec.structs.replace(item, id=None)
    return _MARK + base64.urlsafe_b64encode(msgspec.json.encode(bare)).decode()


def opened(opaque: str) -> Reasoning | None:
    """Return what `sealed` made `opaque` of; None for the provider's own text."""
    if not opaque.startswith(_MARK):
        return None
    try:
        return _decoder.decode(base64.urlsafe_b64decode(opaque[len(_MARK) :]))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None


def opaque_part(item: Reasoning, wire: WireName) -> str | None:
    """Return what stands in the opaque field of `wire` for `item`: its own text there, or all of it sealed."""
    if item.source == wire and (item.encrypted_content or not item.content):
        return item.encrypted_content
    return sealed(item) if item.encrypted_content or item.content else None


def text_of_thought(item: Reasoning) -> str:
    """Return the words of `item` that people are shown."""
    return "\n\n".join(part.text for part in item.summary) or "".join(part.text for part in item.content)
