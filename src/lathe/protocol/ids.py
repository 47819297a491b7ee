"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as 36 characters; later ids sort after earlier ones."""
    millis = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10))
    value = (millis & (2**48 - 1)) << 80 | 0x7 << 76 | (tail >> 68 & 0xFFF) << 64 | 0b10 << 62 | tail & (2**62 - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def short_id(prefix: str) -> str:
    """Return `prefix_` and 16 random hexadecimal digits, for items and calls."""
    return f"{prefix}_{os.urandom(8).hex()}"


def ordered_id(prefix: str) -> str:
    """Return `prefix_` and a UUIDv7 as 32 hexadecimal digits: later ids of one kind sort after earlier ones."""
    return f"{prefix}_{new_id().replace('-', '')}"
