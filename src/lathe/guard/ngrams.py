"""Text as hashed n-grams of characters inside words, each at the place where it begins.

A text is folded (case, width, digits, characters that don't show), then every run of 3, 4 and 5 characters of a word,
its edges included, gets a bucket. Hashes come from prefix sums of a polynomial over the integers modulo 2**64 (the
rolling hash of Karp and Rabin), so numpy finds all of them at once. The work is linear in the text and does not depend
on its script.

N-grams never span two words: what spans words is mostly how people phrase things, and a model that learns the phrasing
of the sets that it was trained on does not know the next one.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Grams: TypeAlias = list[tuple[NDArray[np.intp], NDArray[np.intp]]]

BUCKET_BITS = 18
WIDTHS = (3, 4, 5)
MAX_TEXT = 4_096  # characters that one call looks at; a longer text is cut into pieces by the caller
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIX = 0xD6E8FEB86659FD93
# Soft hyphen, zero-width and direction marks: what hides a word from a reader's search and from nobody else.
_UNSEEN = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF])
_ALIKE = dict.fromkeys(map(ord, "123456789"), "0") | dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0"), " ")


def fold(text: str) -> str:
    """Return a text without what carries no topic: case, width, which digit, which blank, unseen characters.

    A text in ASCII keeps its length.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_UNSEEN))
    return text.lower().translate(_ALIKE)


@lru_cache(maxsize=1)
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the powers of the base and those of its inverse, modulo 2**64."""
    import numpy as np

    powers = np.full(MAX_TEXT + 8, _BASE, dtype=np.uint64)
    inverses = np.full(MAX_TEXT + 8, pow(_BASE, -1, 1 << 64), dtype=np.uint64)
    powers[0] = inverses[0] = 1
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)


def grams(folded: str) -> Grams:
    """Return, for each width, where n-grams of a folded text begin (ascending) and the bucket of each.

    Nothing past MAX_TEXT characters is looked at. A place counts one more than in the text, for the edge before it.
    """
    import numpy as np

    codes = np.frombuffer(f" {folded[:MAX_TEXT]} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    powers, inverses = _powers()
    size = len(codes)
    sums = np.zeros(size + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[:size], out=sums[1:])
    blanks = np.zeros(size + 1, dtype=np.int32)
    np.cumsum(codes == 32, out=blanks[1:])
    found: Grams = []
    for width in WIDTHS:
        count = max(size - width + 1, 0)
        # A blank may be the first or the last character of an n-gram, never one between.
        starts = np.flatnonzero(blanks[width - 1 : width - 1 + count] == blanks[1 : 1 + count])
        mixed = (sums[starts + width] - sums[starts]) * inverses[starts] + np.uint64(width)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(_MIX)
        found.append((starts, (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.intp)))
    return found
