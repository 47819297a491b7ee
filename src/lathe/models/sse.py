"""Server-sent events, read as the WHATWG HTML standard says (section 9.2.6, "Interpreting an event stream")."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

LIMIT = 16 * 1024 * 1024
"""Bytes that an event may have before its end is seen."""


_encoder = msgspec.json.Encoder()


class SseEvent(NamedTuple):
    event: str
    data: str


class SseOverflow(Exception):
    """An event grew past the parser's limit: whatever sends this is no event stream."""


class SseParser:
    """Turns chunks of bytes, split anywhere, into events. An event without its final blank line is dropped."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        self._line_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._event = ""
        self._skip_lf = False
        self._first = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Return the events that `chunk` completes; raise `SseOverflow` past the limit."""
        events: list[SseEvent] = []
        if not chunk:
            return events
        ends_in_cr = chunk[-1] == 13
        if self._skip_lf and chunk[0] == 10:
            chunk = chunk[1:]
        self._skip_lf = ends_in_cr
        for piece in bytes(chunk).splitlines(keepends=True):
            if piece[-1] not in b"\r\n":
                self._grow(piece)
                break
            line = piece.rstrip(b"\r\n")
            if self._line:
                self._line.append(line)
                line = b"".join(self._line)
                self._line.clear()
                self._line_size = 0
            self._take(line, events)
        return events

    def _grow(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_size += len(piece)
        self._check()

    def _check(self) -> None:
        if self._line_size + self._data_size > self._limit:
            raise SseOverflow(f"more than {self._limit} bytes without the end of an event")

    def _take(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                data = b"\n".join(self._data).decode("utf-8", "replace")
                events.append(SseEvent(self._event or "message", data))
            self._data.clear()
            self._data_size = 0
            self._event = ""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value) + 1
            self._check()
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")


def sse_event(name: str, data: Any) -> bytes:
    """Return an event with `data` as JSON; without a `name` it is a plain message."""
    head = b"event: " + name.encode() + b"\ndata: " if name else b"data: "
    return head + _encoder.encode(data) + b"\n\n"
