"""A file's text as lines that go back to the very same bytes."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_BREAK = re.compile(r"\r\n|\n")
_OLD_MAC_BREAK = re.compile(r"\r")
_ERRORS = {"utf-8": "surrogateescape", "utf-16-le": "surrogatepass", "utf-16-be": "surrogatepass"}


class Splice(NamedTuple):
    """Lines `start` to `stop` (from 0, half open) are to be replaced by `lines`."""

    start: int
    stop: int
    lines: tuple[str, ...]


class Text:
    """The lines of a file and how each of them ends ("" for a last line without a line break).

    Bytes that are not UTF-8 become lone surrogates (PEP 383) and go back as they were. UTF-16 is read where
    its byte order mark says so.
    """

    def __init__(self, data: bytes) -> None:
        self.encoding, self.bom, text = _decode(data)
        breaks = _BREAK if "\n" in text else _OLD_MAC_BREAK
        self.by_line_feed = breaks is _BREAK and self.encoding == "utf-8"
        self.lines: list[str] = []
        self.ends: list[str] = []
        at = 0
        for found in breaks.finditer(text):
            self.lines.append(text[at : found.start()])
            self.ends.append(found[0])
            at = found.end()
        if at < len(text):
            self.lines.append(text[at:])
            self.ends.append("")

    @property
    def line_break(self) -> str:
        """The line break that most lines have; a line feed where there is none."""
        counts = Counter(end for end in self.ends if end)
        return counts.most_common(1)[0][0] if counts else "\n"

    def spliced(self, splices: Iterable[Splice], final_newline: bool | None = None) -> bytes:
        """Return the file's bytes after `splices`, which are in order and do not overlap.

        Untouched lines stay as they are, new ones get the file's line break. The last line ends as the file
        did, or as `final_newline` says.
        """
        usual = self.line_break
        lines: list[str] = []
        ends: list[str] = []
        at = 0
        newest = -1
        for splice in splices:
            lines += self.lines[at : splice.start]
            ends += self.ends[at : splice.start]
            for line in splice.lines:
                newest = len(lines)
                lines.append(line.removesuffix("\r"))
                ends.append("\r\n" if line.endswith("\r") else usual)
            at = splice.stop
        lines += self.lines[at:]
        ends += self.ends[at:]
        ends[:-1] = [end or usual for end in ends[:-1]]
        ended = not self.ends or self.ends[-1] != ""
        if ends and (newest == len(ends) - 1 or final_newline is not None):
            ends[-1] = (ends[-1] or usual) if (ended if final_newline is None else final_newline) else ""
        text = "".join(line + end for line, end in zip(lines, ends, strict=True))
        return self.bom + text.encode(self.encoding, _ERRORS[self.encoding])


def _decode(data: bytes) -> tuple[str, bytes, str]:
    for bom, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(bom) and not data.startswith(codecs.BOM_UTF32_LE):
            try:
                return encoding, bom, data[len(bom) :].decode(encoding)
            except UnicodeDecodeError:
                break
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return "utf-8", bom, data[len(bom) :].decode("utf-8", "surrogateescape")
