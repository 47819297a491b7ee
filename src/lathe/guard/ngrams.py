"""Text as hashed n-grams of characters inside words, whole words and pairs of words, each at the place where it begins.

A text is folded (case, width, digits, characters that don't show), then every run of 3, 4 and 5 characters of a word,
its edges included, gets a bucket, and so do words and two words in a row. Hashes come from prefix sums of a polynomial
over the integers modulo 2**64 (the rolling hash of Karp and Rabin), so numpy finds all of them at once. The work is
linear in the text and does not depend on its script.

Nothing spans more than two words: that is mostly how people phrase things, and a model that learns the phrasing of the
sets that it was trained on does not know the next one.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKET_BITS = 19
NONE = 1 << BUCKET_BITS  # the bucket of a place where no n-gram begins
WIDTHS = (3, 4, 5)
NEAR = 2  # characters between two words in a row, at most
MAX_TEXT = 4_096  # characters that one call looks at; a longer text is cut into pieces by the caller
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_WORD, _PAIR = 64, 0xC2B2AE3D27D4EB4F  # set words and pairs apart from n-grams of the same letters
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


Places: TypeAlias = "slice | NDArray[np.intp]"


def grams(folded: str) -> list[tuple[Places, NDArray[np.intp]]]:
    """Return buckets and the places where they begin: of each width of n-gram, of whole words, of two words in a row.

    An n-gram that would span two words has the bucket NONE. The first place is the edge before the text. Nothing past
    MAX_TEXT characters is looked at.
    """
    import numpy as np

    raw = np.frombuffer(f" {folded[:MAX_TEXT]} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    powers, inverses, alike = _tables()
    codes = raw.astype(np.uint64)
    np.putmask(codes, raw < 256, alike.take(raw, mode="clip"))
    size = len(codes)
    blank = codes == 32
    sums = np.zeros(size + 1, dtype=np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[:size], out=sums[1:])
    blanks = np.zeros(size + 1, dtype=np.int16)
    np.cumsum(blank, out=blanks[1:])
    found: list[tuple[Places, NDArray[np.intp]]] = []
    for width in WIDTHS:
        count = max(size - width + 1, 0)
        buckets = _buckets((sums[width : width + count] - sums[:count]) * inverses[:count] + np.uint64(width))
        # A blank may be the first or the last character of an n-gram, never one between.
        np.putmask(buckets, blanks[width - 1 : width - 1 + count] != blanks[1 : 1 + count], NONE)
        found.append((slice(0, count), buckets))
    return [*found, *_words(codes, sums, inverses)]


def _words(
    codes: NDArray[np.uint64], sums: NDArray[np.uint64], inverses: NDArray[np.uint64]
) -> list[tuple[Places, NDArray[np.intp]]]:
    """Return the same of whole words, which are runs of letters, and of two words with little between them."""
    import numpy as np

    letter = np.zeros(len(codes) + 2, dtype=np.int8)
    letter[1:-1] = ((codes >= ord("a")) & (codes <= ord("z"))) | (codes >= 192)
    edges = np.diff(letter)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    words = (sums[ends] - sums[starts]) * inverses[starts] + np.uint64(_WORD)
    near = starts[1:] - ends[:-1] <= NEAR
    pairs = (words[:-1] * np.uint64(_PAIR) + words[1:])[near]
    return [(starts, _buckets(words)), (starts[:-1][near], _buckets(pairs))]


def _buckets(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    import numpy as np

    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(_MIX)
    hashes >>= np.uint64(64 - BUCKET_BITS)
    return hashes.astype(np.intp)
