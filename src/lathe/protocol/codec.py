"""JSON of the protocol's types, by msgspec; the only place that knows which library does it."""

from __future__ import annotations

from typing import Any

import msgspec

from lathe.protocol.events import Event
from lathe.protocol.items import Item

_encoder = msgspec.json.Encoder()
_items = msgspec.json.Decoder(Item)
_events = msgspec.json.Decoder(Event)
_anything = msgspec.json.Decoder()

DecodeError = msgspec.DecodeError
"""Raised by every `decode_*` here for text that is no JSON or JSON of the wrong shape."""


def encode(value: Any) -> bytes:
    """Return `value` (structs, containers, scalars) as compact JSON in UTF-8, without a line break."""
    return _encoder.encode(value)


def decode_item(data: bytes | str) -> Item:
    """Return the item that `data` holds; raise `DecodeError`."""
    item: Item = _items.decode(data)
    return item


def decode_event(data: bytes | str) -> Event:
    """Return the event that `data` holds; raise `DecodeError`."""
    event: Event = _events.decode(data)
    return event


def decode_json(data: bytes | str) -> Any:
    """Return plain Python values; raise `DecodeError`."""
    return _anything.decode(data)
