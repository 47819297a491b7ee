"""Text from models, tools and files, made harmless for a terminal."""

from __future__ import annotations

import re

from lathe.tools.output import strip_escapes

# C0 and C1 controls without tab and line feed, and the marks that reorder or hide text (Unicode TR 36, 2.4).
# The joiners U+200C and U+200D belong to ordinary words and emoji; only where a person decides are they shown.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_HIDDEN = re.compile(f"[{_CONTROLS}]")
_HIDDEN_OR_JOINED = re.compile(f"[{_CONTROLS}\u200c\u200d]")


def plain(text: str) -> str:
    """Return `text` without escape sequences, and with every other control written as an escape."""
    return _HIDDEN.sub(_escape, strip_escapes(text).replace("\r\n", "\n"))


def visible(text: str) -> str:
    """Return `text` with everything unseen written as an escape and nothing left out, for a person to decide on."""
    return _HIDDEN_OR_JOINED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
