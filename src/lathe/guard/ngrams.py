"""Text as hashed n-grams of characters inside words, each at the place where it begins.

A text is folded (case, width, digits, blanks, characters that don't show), then every run of 3, 4 and 5 characters of a
word, its edges included, gets a bucket. Hashes come from prefix sums of a polynomial over the integers modulo 2**64
(the rolling hash of Karp and Rabin), so numpy finds all of them at once, and a linear model over them scores any window
of a text with two subtractions. The work is linear in the text and does not depend on its script.

N-grams never span two words: what spans words is mostly how people phrase things, and a model that learns the phrasing
of the sets that it was trained on does not know the next one.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKET_BITS = 18
WIDTHS = (3, 4, 5)
MAX_TEXT = 4_096  # characters that one call looks at; a longer text is cut into pieces by the caller
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIX = 0xD6E8FEB86659FD93
# Soft hyphen, zero-width and direction marks: what hides a word from a reader's search and from nobody else.
_UNSEEN = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF])
_DIGITS = dict.fromkeys(map(ord, "123456789"), "0")


class Grams(NamedTuple):
    """The n-grams of a folded text in order: the bucket of each, and where in the text it begins."""

    buckets: NDArray[np.int64]
    places: NDArray[np.int64]
    length: int  # characters of the folded text that were looked at


def fold(text: str) -> str:
    """Return a text without what carries no topic: case, width, which digit, how many blanks, unseen characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_UNSEEN))
    return " ".join(text.lower().translate(_DIGITS).split())


@lru_cache(maxsize=1)
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of the base and those of its inverse, modulo 2**64."""
    import numpy as np

    powers = np.full(MAX_TEXT + 8, _BASE, dtype=np.uint64)
    inverses = np.full(MAX_TEXT + 8, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)


def grams(folded: str) -> Grams:
    """Return the n-grams of a folded text of at most MAX_TEXT characters (what is past them is not looked at)."""
    import numpy as np

    padded = f" {folded[:MAX_TEXT]} "
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    powers, inverses = _powers()
    size = len(codes)
    sums = np.zeros(size + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[:size], out=sums[1:])
    blanks = np.zeros(size + 1, dtype=np.int32)
    np.cumsum(codes == 32, out=blanks[1:])
    hashes, places = [], []
    for width in WIDTHS:
        if size >= width:
            count = size - width + 1
            # A blank may be the first or the last character of an n-gram, never one between.
            starts = np.flatnonzero(blanks[width - 1 : width - 1 + count] == blanks[1 : 1 + count])
            hashes.append((sums[starts + width] - sums[starts]) * inverses[starts] + np.uint64(width))
            places.append(starts)
    if not hashes:
        return Grams(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), size - 2)
    mixed = np.concatenate(hashes)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(_MIX)
    buckets = (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    return Grams(buckets, np.concatenate(places), size - 2)
