"""How natural an edit reads: a statistical model of Python, and of the file that is edited.

Two models are mixed. One is global: an n-gram model over words, of which the frequent ones are kept and the others
stand for their class, with modified Kneser-Ney smoothing (Chen and Goodman, "An empirical study of smoothing techniques
for language modeling", 1998), trained by `scripts/train_natural.py` and shipped as `natural.bin`. The other is counted
from the file itself, words as they are, with Witten-Bell weights: code repeats itself most within one file (Tu, Su and
Devanbu, "On the localness of software", 2014). What an edit replaces is taken out of the counts before both sides are
weighed, so the original has no advantage from having been counted.
"""

from __future__ import annotations

import ast
import functools
import json
import math
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lathe.mend.lexemes import CLASSES, Lexemes, class_of, lex, words_of
from lathe.mend.operators.registry import Edit
from lathe.mend.source import SourceFile

ORDER = 4
MAGIC = b"lathe natural 1\n"
ID_BITS = 12
PROBABILITY_STEP = 0.1  # bits
BACKOFF_STEP, BACKOFF_LOWEST = 1 / 16, -14.0  # powers of two
_FILE = Path(__file__).with_name("natural.bin")
_MIX = 0x9E3779B97F4A7C15
_MAX_MEMO = 200_000
_MAX_FILES = 24

_NEAR, _FAR = 0.6, 0.35  # a name of its class: used in the same function, in the same file
_NEW = 0.05 / 500  # ... nowhere yet
# A repair reads as well as any code; one that reads far better has only left something out. Tuned on code of packages
# that are neither trained on nor measured.
_WORD_COST = 3.5  # bits that a word more may cost, as any word does
_MOST_GAIN, _MOST_LOSS = 4.0, 10.0
_LONG = 3  # words more or fewer, from which on an edit gains nothing: stock phrases cost little
_BEYOND = 0.05  # how much what goes beyond that gain counts still
_BY_CLASS = 0.4  # how far a frequent name is foretold as some name of the function rather than by itself


def slot(key: int) -> int:
    """Return the 32 bits that stand for an n-gram, given as its word numbers in one integer."""
    return ((key * _MIX) >> 32) & 0xFFFFFFFF


class Natural:
    """The global model, with what it has counted of files so far. Not for several threads."""

    def __init__(self, data: bytes) -> None:
        """Read a model; raise `ValueError` for what is none."""
        if not data.startswith(MAGIC):
            raise ValueError("not a model of naturalness, or one of another version")
        size = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
        at = len(MAGIC) + 4
        header = json.loads(data[at : at + size])
        at += size
        words: list[str] = header["words"]
        self.sources: list[str] = header["sources"]
        self.numbers = {word: number for number, word in enumerate(words)}
        self._classes = {name: self.numbers[name] for name in CLASSES}
        self._single = data[at : at + len(words)]
        self._single_backoff = data[at + len(words) : at + 2 * len(words)]
        at += 2 * len(words)
        self._keys: list[array[int]] = []
        self._bits: list[bytes] = []
        self._backoffs: list[bytes] = []
        for order, count in enumerate(header["counts"], start=2):
            keys = array("I")
            keys.frombytes(data[at : at + 4 * count])
            if sys.byteorder == "big":
                keys.byteswap()
            at += 4 * count
            self._keys.append(keys)
            self._bits.append(data[at : at + count])
            at += count
            if order < ORDER:
                self._backoffs.append(data[at : at + count])
                at += count
        self._memo: dict[tuple[int, int, int, int], float] = {}
        self._facts: dict[tuple[str, bool], _Fact] = {}
        self._files: OrderedDict[int, _File] = OrderedDict()

    @classmethod
    def load(cls) -> Natural:
        """Return the model that is shipped."""
        return _shipped()

    def score(self, source: SourceFile, edit: Edit) -> float:
        """Return by how many bits the words around `edit` are more surprising than the original's, at most 10.

        Below 0 reads better, below -4 hardly any better. What words cost just for being more or fewer is left out.
        """
        return self._file(source).score(edit.start, edit.end, edit.text)

    def scores(self, source: SourceFile, edits: Iterable[Edit]) -> list[float]:
        """Return the score of each edit of one file."""
        file = self._file(source)
        return [file.score(edit.start, edit.end, edit.text) for edit in edits]

    def fact(self, word: str, is_attribute: bool) -> _Fact:
        """Return what is known of a word by itself."""
        key = (word, is_attribute)
        known = self._facts.get(key)
        if known is None:
            if len(self._facts) > _MAX_MEMO:
                self._facts.clear()
            kind = class_of(word, "." if is_attribute else "")
            group = self._classes[kind]
            number = self.numbers.get(word, -1)
            named = word not in _FIXED and kind != "<operator>" and not word.startswith("<")
            known = self._facts[key] = _Fact(group if number < 0 else number, group, number >= 0, named)
        return known

    def probability(self, a: int, b: int, c: int, word: int) -> float:
        """Return how likely `word` is after a, b, c."""
        key = (a, b, c, word)
        known = self._memo.get(key)
        if known is None:
            if len(self._memo) > _MAX_MEMO:
                self._memo.clear()
            known = self._memo[key] = 2.0 ** -self._surprise(a, b, c, word)
        return known

    def _surprise(self, a: int, b: int, c: int, word: int) -> float:
        """Return bits, from the longest n-gram that is known and the back-off weights of the contexts above it."""
        two = c << ID_BITS | word
        three = b << 2 * ID_BITS | two
        at = self._find(2, a << 3 * ID_BITS | three)
        if at >= 0:
            return self._bits[2][at] * PROBABILITY_STEP
        left = b << ID_BITS | c
        bits = -self._backoff(1, a << 2 * ID_BITS | left)
        at = self._find(1, three)
        if at >= 0:
            return bits + self._bits[1][at] * PROBABILITY_STEP
        bits -= self._backoff(0, left)
        at = self._find(0, two)
        if at >= 0:
            return bits + self._bits[0][at] * PROBABILITY_STEP
        bits -= self._single_backoff[c] * BACKOFF_STEP + BACKOFF_LOWEST
        return bits + self._single[word] * PROBABILITY_STEP

    def _find(self, table: int, key: int) -> int:
        keys, wanted = self._keys[table], slot(key)
        at = bisect_left(keys, wanted)
        return at if at < len(keys) and keys[at] == wanted else -1

    def _backoff(self, table: int, key: int) -> float:
        at = self._find(table, key)
        return self._backoffs[table][at] * BACKOFF_STEP + BACKOFF_LOWEST if at >= 0 else 0.0

    def _file(self, source: SourceFile) -> _File:
        """Return the counts of a file; the last few are kept."""
        key = id(source)
        known = self._files.get(key)
        if known is None or known.source is not source:
            known = self._files[key] = _File(self, source)
            if len(self._files) > _MAX_FILES:
                self._files.popitem(last=False)
        return known


class _Fact(NamedTuple):
    """The number of a word or, where it is not `known`, of its class, and that of its class in any case.

    `named` says that it is a name, number or string of somebody's choice.
    """

    number: int
    group: int
    known: bool
    named: bool


Gram = tuple[str, ...]
Names = dict[tuple[int, str], int]


class _Place(NamedTuple):
    """The words first to last of a file, the names in use around them, and what they themselves had counted for."""

    first: int
    last: int
    near: Names
    removed: dict[Gram, int]
    less: Names


class _File:
    """One file: its words, how often they follow each other, and which names its functions use."""

    def __init__(self, model: Natural, source: SourceFile) -> None:
        self.source = source
        self._model = model
        self._lexemes: Lexemes = lex(source.text)
        words = self._lexemes.words
        self._facts = [model.fact(word, at > 0 and words[at - 1] == ".") for at, word in enumerate(words)]
        self._grams: dict[Gram, int] = {}
        self._followers: dict[Gram, int] = {}
        padded = [*_BEGIN, *words]
        for at in range(3, len(padded)):
            self._count((padded[at - 2], padded[at - 1], padded[at]))
        self._far = self._names(0, len(words))
        self._near: dict[tuple[int, int], Names] = {}
        self._before: dict[tuple[int, int], tuple[float, _Place]] = {}
        self._blocks = self._functions()

    def _count(self, gram: Gram) -> None:
        grams, followers = self._grams, self._followers
        one, two = gram[2:], gram[1:]
        grams[one] = grams.get(one, 0) + 1
        if two not in grams:
            followers[two[:1]] = followers.get(two[:1], 0) + 1
        grams[two] = grams.get(two, 0) + 1
        if gram not in grams:
            followers[gram[:2]] = followers.get(gram[:2], 0) + 1
        grams[gram] = grams.get(gram, 0) + 1

    def _functions(self) -> list[tuple[int, int]]:
        """Return where the outermost functions and methods are in the text, in order."""
        found: list[tuple[int, int]] = []
        todo: list[ast.stmt] = list(self.source.tree.body)
        while todo:
            node = todo.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.append(self.source.block(node))
            elif isinstance(node, ast.ClassDef):
                todo += node.body
        return sorted(found)

    def _names(self, low: int, high: int) -> Names:
        """Return how often each name, number and string occurs in a stretch of words; "" is all of one class."""
        counts: Names = {}
        for word, fact in zip(self._lexemes.words[low:high], self._facts[low:high], strict=True):
            if fact.named:
                for key in ((fact.group, word), (fact.group, "")):
                    counts[key] = counts.get(key, 0) + 1
        return counts

    def _near_names(self, start: int) -> Names:
        """Return the names of the function around `start`."""
        at = bisect_right(self._blocks, (start, sys.maxsize)) - 1
        if at < 0 or start >= self._blocks[at][1]:
            return {}
        block = self._blocks[at]
        if block not in self._near:
            low, high = (bisect_left(self._lexemes.starts, offset) for offset in block)
            self._near[block] = self._names(low, high)
        return self._near[block]

    def score(self, start: int, end: int, text: str) -> float:
        """Return the change in bits that comes of putting `text` in the place of the characters start to end."""
        lexemes = self._lexemes
        words = lexemes.words
        first = bisect_left(lexemes.ends, start)
        last = max(first, bisect_right(lexemes.starts, end))
        if first >= len(words):
            return 0.0
        low, high = start, end
        if last > first:
            low, high = min(lexemes.starts[first], start), max(lexemes.ends[last - 1], end)
        source = self.source.text
        new = words_of(source[low:start] + text + source[end:high], lexemes.depths[first], lexemes.margins[first])
        while first < last and new and new[0] == words[first]:
            first += 1
            del new[0]
        while first < last and new and new[-1] == words[last - 1]:
            last -= 1
            del new[-1]
        if first == last and not new:
            return 0.0
        known = self._before.get((first, last))
        if known is None:
            place = _Place(first, last, self._near_names(start), self._removed(first, last), self._names(first, last))
            known = self._before[first, last] = self._bits(place, words[first:last]), place
        before, place = known
        more = len(new) - (last - first)
        change = self._bits(place, new) - before - _WORD_COST * more
        most = _MOST_GAIN if abs(more) < _LONG else 0.0
        return (change + most) * _BEYOND - most if change < -most else min(_MOST_LOSS, change)

    def _removed(self, first: int, last: int) -> dict[Gram, int]:
        """Return the counts that the words first to last, and those after them that look back on them, gave."""
        words = self._lexemes.words
        removed: dict[Gram, int] = {}
        for at in range(first, min(last + 2, len(words))):
            for begin in range(max(0, at - 2), min(at + 1, last)):
                gram = tuple(words[begin : at + 1])
                removed[gram] = removed.get(gram, 0) + 1
        return removed

    def _bits(self, place: _Place, new: Sequence[str]) -> float:
        """Return the surprise of `new` in the place of the words there, and of what follows."""
        first, last, near, removed, less = place
        model, words = self._model, self._lexemes.words
        grams, followers = self._grams, self._followers
        far, probability = self._far, model.probability
        after = words[last : last + ORDER - 1]
        x, y, z = words[first - 3 : first] if first >= 3 else [*_BEGIN, *words[:first]][-3:]
        a, b, c = (model.fact(word, False).number for word in (x, y, z))
        facts = self._facts
        if first >= 3:
            a, b, c = facts[first - 3].number, facts[first - 2].number, facts[first - 1].number
        total, product = 0.0, 1.0
        for word in (*new, *after):
            number, group, known, named = model.fact(word, z == ".")
            if not named:
                chance = probability(a, b, c, number)
            else:
                share = _NEW
                many = near.get((group, ""), 0) - less.get((group, ""), 0)
                gone = less.get((group, word), 0)
                if many > 0:
                    share += _NEAR * max(0, near.get((group, word), 0) - gone) / many
                many = far[group, ""] - less.get((group, ""), 0) if (group, "") in far else 0
                if many > 0:
                    share += _FAR * max(0, far.get((group, word), 0) - gone) / many
                chance = probability(a, b, c, group) * share
                if known:
                    chance = _BY_CLASS * chance + (1 - _BY_CLASS) * probability(a, b, c, number)
            one, two = (z,), (z, word)
            trust = followers.get(one, 0)
            if trust:
                seen = grams.get(two, 0) - removed.get(two, 0)
                chance = (seen + trust * chance) / (grams.get(one, 0) - removed.get(one, 0) + trust)
                two, three = (y, z), (y, z, word)
                trust = followers.get(two, 0)
                if trust:
                    seen = grams.get(three, 0) - removed.get(three, 0)
                    chance = (seen + trust * chance) / (grams.get(two, 0) - removed.get(two, 0) + trust)
            product *= chance
            if product < 1e-200:
                total -= math.log2(product)
                product = 1.0
            y, z = z, word
            a, b, c = b, c, number
        return total - math.log2(product)


_BEGIN = ("<nl>", "<nl>", "<nl>")


def _keywords() -> frozenset[str]:
    from keyword import kwlist

    return frozenset(kwlist)


_FIXED = _keywords()


@functools.cache
def _shipped() -> Natural:
    return Natural(_FILE.read_bytes())
