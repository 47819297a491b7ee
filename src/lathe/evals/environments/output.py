"""What a command printed, its middle left out where that is too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

HEAD: Final = 1 << 20
TAIL: Final = 1 << 20
"""So many bytes are kept of the beginning and of the end."""


class Output:
    """Collects blocks and tells of each; after `end`, it does neither."""

    def __init__(self, on_output: Callable[[bytes], None] | None = None) -> None:
        self._on_output = on_output
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._in_tail = self._left_out = 0
        self._ended = False

    def add(self, block: bytes) -> None:
        """Take a block."""
        if self._ended:
            return
        if self._on_output is not None:
            self._on_output(block)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += block[:room]
            block = block[room:]
        if not block:
            return
        self._tail.append(block)
        self._in_tail += len(block)
        while self._in_tail - len(self._tail[0]) >= TAIL:
            gone = len(self._tail.popleft())
            self._in_tail -= gone
            self._left_out += gone

    def end(self) -> bytes:
        """Return what is kept."""
        self._ended = True
        gap = f"\n[{self._left_out:,} bytes left out]\n".encode() if self._left_out else b""
        return bytes(self._head) + gap + b"".join(self._tail)
