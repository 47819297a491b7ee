"""What a command printed: kept whole on disk when long, and cut to size for the model.

`OutputBuffer` takes raw blocks as they arrive, in bounded memory, and gives clean text on request. `clean` is the
cleaning alone: UTF-8 with replacement, terminal escapes removed, progress lines collapsed, control characters out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from lathe.tools.base import Hiding, NothingHidden
from lathe.tools.passing import Passing

BYTES_PER_TOKEN = 4
"""An estimate; exact counts need the model's own tokeniser, and a cut needs no more than this."""

SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one command's output that are kept on disk."""

_KEPT = 128 * 1024
"""Raw bytes kept at each end: more than the model is shown, since cleaning can shrink them a lot."""

_HEAD_SHARE = 0.4  # the end of an output says more often what went wrong
_PLAIN = bytes([*range(0x20, 0x7F), *range(0x80, 0x100), 0x0A, 0x09])
_TEXT = bytes([*_PLAIN, 0x08, 0x0C, 0x0D, 0x1B])
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves (ECMA-48, section 5.4)
    r"|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links; ends with BEL or ST
    r"|[PX^_][^\x1b\n]*(?:\x1b\\)?"  # DCS, SOS, PM, APC strings
    r"|[ -/]*[0-~])?"  # two characters, or an escape that leads nowhere
)
_OVERSTRIKES = re.compile(r"[^\n\x08]\x08")
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0d-\x1f\x7f-\x9f]")


class Shown(NamedTuple):
    """Text for the model; `path` is the file of the full output, where there is one."""

    text: str
    path: str | None


class Spill:
    """The full output in a file, as long as the disk takes it: at most `SPILL_LIMIT` bytes, raw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure = ""
        self.written = 0
        self.capped = False
        self._fd = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def write(self, block: bytes | bytearray) -> None:
        """Append `block`. A file that cannot hold the whole is removed: room on a full disk is worth more."""
        if self._fd < 0:
            return
        room = SPILL_LIMIT - self.written
        view = memoryview(block)[:room]
        try:
            while view:
                count = os.write(self._fd, view)
                self.written += count
                view = view[count:]
        except OSError as error:
            self.failure = error.strerror or str(error)
            self.close()
            self.path.unlink(missing_ok=True)
            return
        if len(block) > room:
            self.capped = True
            self.close()

    def close(self) -> None:
        """Close the file; later blocks are dropped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def where(self) -> str:
        """Return the end of a notice: the path of the file, or why there is none."""
        if self.failure:
            return f"the full output could not be kept: {self.failure}"
        if self.capped:
            return f"the first {SPILL_LIMIT // 1024 // 1024} MiB: {self.path}"
        return f"full output: {self.path}"


class OutputBuffer:
    """The output of one command.

    `limit_tokens` is the most that one `take` returns. The file at `spill_path` is written only when an output is
    longer than is kept in memory, or is not shown in full; then it holds everything from the first byte on, secrets
    too. `passing` is what the text goes through before it is cut.
    """

    def __init__(self, limit_tokens: int, spill_path: Path, hiding: Hiding | None = None) -> None:
        self.hiding: Hiding = hiding or NothingHidden()
        self.passing = Passing(self.hiding)
        self.total = 0
        self._limit = max(limit_tokens, 1) * BYTES_PER_TOKEN
        self._kept = max(_KEPT, self._limit)
        self._spill_path = spill_path
        self._spill: Spill | None = None
        self._closed = False
        self._earlier = bytearray()  # what was taken before, while there is no file
        self._restart()

    def _restart(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._new = 0
        self._line_breaks = 0

    def write(self, block: bytes) -> None:
        """Add a block of output."""
        self.total += len(block)
        self._new += len(block)
        if self._spill is not None:
            self._spill.write(block)
        elif self.total > self._kept:
            self._start_spill().write(block)
        self._line_breaks += block.count(b"\n")
        room = self._kept - len(self._head)
        if room >= len(block):
            self._head += block
            return
        self._head += block[:room]
        self._tail += block[max(room, len(block) - self._kept) :]
        if len(self._tail) > 2 * self._kept:
            del self._tail[: -self._kept]

    def pending(self) -> bytes:
        """Return the raw output since the last `take`, as far as it is kept."""
        return bytes(self._head + self._tail)

    def take(self, limit_tokens: int | None = None, *, more: bool = False) -> Shown:
        """Return what arrived since the last `take`, in at most `limit_tokens` (or the buffer's own limit).

        With `more` to come, an end that may be a part of a secret is left for the next time.
        """
        limit = self._limit if limit_tokens is None else min(max(limit_tokens, 1) * BYTES_PER_TOKEN, self._limit)
        lost = self._new - len(self._head) - len(self._tail)
        raw = bytes(self._head) if lost else bytes(self._head + self._tail)
        if _is_binary(raw):
            shown = self._notice(f"[binary output, {self._new:,} bytes, not shown; ", "]")
        else:
            shown = self._cut(raw, bytes(self._tail) if lost else b"", limit, lost, more)
        if self._spill is None:
            self._earlier += self._head
        self._restart()
        return shown

    def close(self) -> None:
        """Close the file of the full output; what arrives later is not kept there."""
        self._closed = True
        if self._spill is not None:
            self._spill.close()

    def _cut(self, head: bytes, tail: bytes, limit: int, lost: int, more: bool) -> Shown:
        text = self.passing.add(clean(head), more=more and not lost)
        if not lost and (len(text) * 4 <= limit or len(text.encode()) <= limit):
            return Shown(text, self._path())
        first = _first_bytes(text, int(limit * _HEAD_SHARE))
        rest = self._after_gap(tail, more) if lost else text[len(first) :]
        last = _last_bytes(rest, limit - int(limit * _HEAD_SHARE))
        shown_lines = first.count("\n") + last.count("\n")
        cleaned = len(text.encode()) if not lost else self._new
        tokens = max(cleaned - len(first.encode()) - len(last.encode()), 0) // BYTES_PER_TOKEN
        lines = max(self._line_breaks - shown_lines, 0)
        count = f"{tokens:,} tokens" + (f", {lines:,} lines" if lines else "")
        before = first if first.endswith("\n") else first + "\n"
        return self._notice(f"{before}[… {count} cut; ", f" …]\n{last}")

    def _after_gap(self, tail: bytes, more: bool) -> str:
        """Return the text of `tail` from its first whole line on: of the line before, a secret may be cut."""
        self.passing = Passing(self.hiding)
        return self.passing.add(clean(tail[tail.find(b"\n") + 1 :]), more=more)

    def _notice(self, before: str, after: str) -> Shown:
        spill = self._spill or self._start_spill()
        return Shown(before + spill.where() + after, self._path())

    def _path(self) -> str | None:
        return str(self._spill.path) if self._spill is not None and not self._spill.failure else None

    def _start_spill(self) -> Spill:
        self._spill = spill = Spill(self._spill_path)
        spill.write(self._earlier)
        spill.write(self._head)
        self._earlier = bytearray()
        if self._closed:
            spill.close()
        return spill


def clean(raw: bytes) -> str:
    """Return `raw` as text to read: no escapes, no carriage returns, no control characters but tab and line break."""
    if not raw.translate(None, _PLAIN):
        text = raw.decode("utf-8", "replace")
        return text if text.isascii() else _CONTROLS.sub("\ufffd", text)
    nuls = raw.count(0)
    text = raw.decode("utf-8", "replace")
    text = strip_escapes(text).replace("\0", "").replace("\f", "\n")
    if "\r" in text:
        text = _collapse_progress(text)
    if "\x08" in text:
        text = _OVERSTRIKES.sub("", text)
    text = _CONTROLS.sub("\ufffd", text)
    return f"{text}\n[{nuls:,} NUL bytes left out]" if nuls else text


def strip_escapes(text: str) -> str:
    """Return `text` without terminal escapes (colours, cursor moves, titles)."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


def _collapse_progress(text: str) -> str:
    """Return `text` with each line as a terminal would leave it: the last thing written after a carriage return."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line for line in text.split("\n"))


def _is_binary(raw: bytes) -> bool:
    """Tell whether most of `raw` is no text: many control characters, or hardly anything that is valid UTF-8."""
    strange = len(raw.translate(None, _TEXT))
    if strange * 10 > len(raw):
        return True
    if raw.isascii():
        return False
    return raw.decode("utf-8", "replace").count("\ufffd") * 10 > len(raw) * 3


def _first_bytes(text: str, limit: int) -> str:
    """Return the start of `text` in at most `limit` bytes of UTF-8, whole lines where they are not too long."""
    part = text[:limit].encode()[:limit].decode("utf-8", "ignore")
    end = part.rfind("\n") + 1
    return part[:end] if end > len(part) // 2 else part


def _last_bytes(text: str, limit: int) -> str:
    """Return the end of `text` in at most `limit` bytes of UTF-8, whole lines where they are not too long."""
    part = text[-limit:].encode()[-limit:].decode("utf-8", "ignore")
    start = part.find("\n") + 1
    return part[start:] if start < len(part) // 2 else part
