"""Text as hashed n-grams of characters inside words, each at the place where it begins.

A text is folded (case, width, digits, characters that don't show), then every run of 3, 4 and 5 characters of a word,
its edges included, gets a bucket. Hashes come from prefix sums of a polynomial over the integers modulo 2**64 (the
rolling hash of Karp and Rabin), so numpy finds all of them at once. The work is linear in the text and does not depend
on its script.

N-grams never span two words: what spans words is mostly how people phrase things, and a model that learns the phrasing
of the sets that it was trained on does not know the next one.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKET_BITS = 18
NONE = 1 << BUCKET_BITS  # the bucket of a place where no n-gram begins
WIDTHS = (3, 4, 5)
MAX_TEXT = 4_096  # characters that one call looks at; a longer text is cut into pieces by the caller
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIX = 0xD6E8FEB86659FD93
# Soft hyphen, zero-width and direction marks: what hides a word from a reader's search and from nobody else.
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_BLANK = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0`*#>|~"  # marks of Markdown too: a fence says nothing of what it holds


def fold(text: str) -> str:
    """Return a text without case, width and characters that don't show. A text in ASCII keeps its length."""
    if not text.isascii():
        text = _UNSEEN.sub("", text)
        if not unicodedata.is_normalized("NFKC", text):
            text = unicodedata.normalize("NFKC", text)
    return text.lower()


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of the base and those of its inverse, modulo 2**64, and what the first 256 characters count as.

    All digits count as one, and so do all blanks.
    """
    import numpy as np

    powers = np.full(MAX_TEXT + 8, _BASE, dtype=np.uint64)
    inverses = np.full(MAX_TEXT + 8, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    alike = np.arange(256, dtype=np.uint64)
    alike[[ord(digit) for digit in "123456789"]] = ord("0")
    alike[[ord(blank) for blank in _BLANK]] = ord(" ")
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64), alike


def grams(folded: str) -> list[NDArray[np.intp]]:
    """Return, for each width, the bucket of the n-gram that begins at each place; NONE where it would span two words.

    The first place is the edge before the text. Nothing past MAX_TEXT characters is looked at.
    """
    import numpy as np

    raw = np.frombuffer(f" {folded[:MAX_TEXT]} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    powers, inverses, alike = _tables()
    codes = raw.astype(np.uint64)
    small = codes < 256
    codes[small] = alike[codes[small]]
    size = len(codes)
    blank = codes == 32
    sums = np.zeros(size + 1, dtype=np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[:size], out=sums[1:])
    blanks = np.zeros(size + 1, dtype=np.int16)
    np.cumsum(blank, out=blanks[1:])
    found = []
    for width in WIDTHS:
        count = max(size - width + 1, 0)
        mixed = (sums[width : width + count] - sums[:count]) * inverses[:count] + np.uint64(width)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(_MIX)
        buckets = (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.intp)
        # A blank may be the first or the last character of an n-gram, never one between.
        buckets[blanks[width - 1 : width - 1 + count] != blanks[1 : 1 + count]] = NONE
        found.append(buckets)
    return found
