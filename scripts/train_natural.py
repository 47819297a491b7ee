"""Train the model of naturalness that mend ships, from the code on this machine.

    python scripts/train_natural.py [--output FILE] [--list]

Counts the standard library and the installed packages under permissive licences, prints which, and writes
`src/lathe/mend/natural.bin`. The same code gives the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import sys
import sysconfig
import tokenize
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lathe.mend.lexemes import CLASSES, class_of, lex
from lathe.mend.natural import BACKOFF_LOWEST, BACKOFF_STEP, ID_BITS, MAGIC, ORDER, PROBABILITY_STEP, slot

TARGET = Path(__file__).parents[1] / "src" / "lathe" / "mend" / "natural.bin"
PERMISSIVE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "0BSD", "Unlicense", "Zlib", "HPND")
RECIPROCAL = ("GPL", "MPL", "Mozilla", "EPL", "CDDL", "EUPL")
# Tests, tables and code for other Pythons are not what a program under repair looks like.
SKIPPED = {"test", "tests", "testing", "idle_test", "lib2to3", "encodings", "pydoc_data", "site-packages"}
MAX_FILE = 400_000
MAX_NUMBERS = 0.25  # the share of numbers above which a file is a table
MAX_PER_FILE = 4  # times one file may count an n-gram: no generated table outweighs what people write
WORDS = (1 << ID_BITS) - 2
LEAST_FILES = 6  # that a word must occur in to be kept
MAX_BYTES = 1_850_000
MASKS = [(1 << ID_BITS * order) - 1 for order in range(ORDER + 1)]
WORD = MASKS[1]


def licence(distribution: importlib.metadata.Distribution) -> str:
    """Return the licence of a distribution if it is permissive, else ""."""
    metadata = distribution.metadata
    classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    expression = "".join(metadata.get_all("License-Expression") or ())
    texts = [expression] if expression else [text.rpartition("::")[2].strip() for text in classifiers]
    if not any(name in text for text in texts for name in PERMISSIVE):
        texts += ["".join(metadata.get_all("License") or ()).partition("\n")[0][:60]]
    found = [text for text in texts if any(name in text for name in PERMISSIVE)]
    foreign = any(name in text for text in texts for name in RECIPROCAL)
    return found[0] if found and not foreign else ""


def corpus() -> Iterator[tuple[str, list[Path]]]:
    """Yield each source of code, in words, with its files."""
    library = Path(sysconfig.get_path("stdlib"))
    version = ".".join(map(str, sys.version_info[:3]))
    yield f"CPython {version} standard library (PSF-2.0)", _program(library, sorted(library.rglob("*.py")))
    distributions = {str(one.metadata["Name"]).lower(): one for one in importlib.metadata.distributions()}
    for name, distribution in sorted(distributions.items()):
        terms = licence(distribution)
        if not terms or name == "lathe":
            continue
        top = Path(str(distribution.locate_file("")))
        files = _program(top, sorted(top / path for path in distribution.files or () if path.suffix == ".py"))
        if files:
            yield f"{name} {distribution.version} ({terms})", files


def _program(top: Path, files: list[Path]) -> list[Path]:
    """Return the files that are no tests, tables or other people's packages."""
    return [
        path
        for path in files
        if not SKIPPED & set(path.relative_to(top).parts[:-1]) and not path.name.startswith(("test_", "conftest"))
    ]


def read(files: list[Path], seen: set[bytes]) -> Iterator[list[str]]:
    """Yield the words of each file that is fit to learn from, each text once."""
    for path in files:
        if not path.is_file() or path.stat().st_size > MAX_FILE:
            continue
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        try:
            with tokenize.open(path) as stream:
                words = lex(stream.read()).words
        except (SyntaxError, UnicodeDecodeError):
            continue
        if sum(word[0].isdigit() for word in words) < MAX_NUMBERS * len(words):
            yield words


def vocabulary(texts: list[list[str]]) -> list[str]:
    """Return the words to keep: line breaks and classes first, then those that most files use."""
    files: Counter[str] = Counter()
    for words in texts:
        files.update({word for word in words if len(word) < 40 and word.isascii() and word.isprintable()})
    fixed = ["<nl>", "<nl+>", "<nl->", *CLASSES]
    ranked = sorted(((-count, word) for word, count in files.items() if count >= LEAST_FILES and word not in fixed))
    return fixed + [word for _, word in ranked[: WORDS - len(fixed)]]


def count(texts: list[list[str]], numbers: dict[str, int]) -> list[Counter[int]]:
    """Return how often each n-gram of each order occurs, by its word numbers in one integer; order 0 is empty."""
    totals: list[Counter[int]] = [Counter() for _ in range(ORDER + 1)]
    for words in texts:
        own: list[Counter[int]] = [Counter() for _ in range(ORDER + 1)]
        before, history = "<nl>", 0
        for word in words:
            number = numbers.get(word, numbers[class_of(word, before)])
            history = (history << ID_BITS | number) & MASKS[ORDER]
            for order in range(1, ORDER + 1):
                own[order][history & MASKS[order]] += 1
            before = word
        for order in range(1, ORDER + 1):
            totals[order].update({key: min(MAX_PER_FILE, times) for key, times in own[order].items()})
    return totals


class KneserNey:
    """Interpolated modified Kneser-Ney estimates from counts."""

    def __init__(self, raw: list[Counter[int]], words: int) -> None:
        self.words = words
        self.counts: list[Counter[int]] = [Counter() for _ in range(ORDER + 1)]
        self.counts[ORDER] = raw[ORDER]
        for order in range(1, ORDER):
            continued: Counter[int] = Counter()
            for key in raw[order + 1]:
                continued[key & MASKS[order]] += 1
            for key in raw[order]:
                continued.setdefault(key, 1)  # what begins a file has nothing before it
            self.counts[order] = continued
        self.discounts = [_discounts(counts) if order else (0.0,) * 4 for order, counts in enumerate(self.counts)]
        self.totals: list[Counter[int]] = [Counter() for _ in range(ORDER + 1)]
        self.held: list[dict[int, float]] = [{} for _ in range(ORDER + 1)]
        for order in range(1, ORDER + 1):
            totals, held, discount = self.totals[order], self.held[order], self.discounts[order]
            for key, times in self.counts[order].items():
                context = key >> ID_BITS
                totals[context] += times
                held[context] = held.get(context, 0.0) + discount[min(times, 3)]

    def chance(self, order: int, key: int) -> float:
        """Return how likely the last word of an n-gram is after the others."""
        if order == 0:
            return 1 / self.words
        context = key >> ID_BITS
        total = self.totals[order].get(context, 0)
        lower = self.chance(order - 1, key & MASKS[order - 1])
        if not total:
            return lower
        times = self.counts[order].get(key, 0)
        own = times - self.discounts[order][min(times, 3)] if times else 0.0
        return (own + self.held[order][context] * lower) / total

    def gain(self, order: int, key: int, times: int) -> float:
        """Return what keeping an n-gram is worth: bits saved over backing off, each time it occurs."""
        context = key >> ID_BITS
        total = self.totals[order][context]
        lower = self.held[order][context] / total * self.chance(order - 1, key & MASKS[order - 1])
        return times * math.log2(self.chance(order, key) / lower)


def _discounts(counts: Counter[int]) -> tuple[float, float, float, float]:
    met = Counter(counts.values())
    one, two, three, four = (max(1, met[times]) for times in (1, 2, 3, 4))
    share = one / (one + 2 * two)
    rough = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    return (0.0, *(min(max(value, 0.1), times) for times, value in enumerate(rough, start=1)))  # type: ignore[return-value]


def choose(model: KneserNey, raw: list[Counter[int]], room: int) -> list[set[int]]:
    """Return the n-grams to keep of each order, the most valuable first, with the contexts they need."""
    ranked = []
    for order in range(2, ORDER + 1):
        for key, times in raw[order].items():
            if times > 1:
                worth = model.gain(order, key, times)
                if worth > 0:
                    ranked.append((-worth, order, key))
    ranked.sort()
    kept: list[set[int]] = [set() for _ in range(ORDER + 1)]
    for _, order, key in ranked:
        while order >= 2 and key not in kept[order]:
            kept[order].add(key)
            room -= 5 if order == ORDER else 6
            order, key = order - 1, key >> ID_BITS
        if room <= 0:
            break
    return kept


class Backoff:
    """The estimates of what is kept, and the weights that make the rest add up to one."""

    def __init__(self, model: KneserNey, kept: list[set[int]]) -> None:
        self.single = [model.chance(1, word) for word in range(model.words)]
        self.kept: list[dict[int, float]] = [{} for _ in range(ORDER + 1)]
        self.weights: list[dict[int, float]] = [{} for _ in range(ORDER + 1)]
        total = sum(self.single)
        self.single = [chance / total for chance in self.single]
        for order in range(2, ORDER + 1):
            used: dict[int, float] = {}
            lower: dict[int, float] = {}
            for key in sorted(kept[order]):
                chance = model.chance(order, key)
                self.kept[order][key] = chance
                context = key >> ID_BITS
                used[context] = used.get(context, 0.0) + chance
                lower[context] = lower.get(context, 0.0) + self.chance(order - 1, key & MASKS[order - 1])
            for context, share in used.items():
                self.weights[order - 1][context] = max(1e-4, 1 - share) / max(1e-4, 1 - lower[context])

    def chance(self, order: int, key: int) -> float:
        """Return the chance as the shipped model will compute it, but for rounding."""
        if order == 1:
            return self.single[key]
        known = self.kept[order].get(key)
        if known is not None:
            return known
        return self.weights[order - 1].get(key >> ID_BITS, 1.0) * self.chance(order - 1, key & MASKS[order - 1])


def write(backoff: Backoff, words: list[str], sources: list[str], path: Path) -> int:
    """Write the model and return its size in bytes."""
    tables = [sorted((slot(key), key) for key in backoff.kept[order]) for order in range(2, ORDER + 1)]
    header = {"words": words, "sources": sources, "counts": [len(table) for table in tables]}
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    parts = [MAGIC, len(head).to_bytes(4, "little"), head]
    parts.append(bytes(_bits(chance) for chance in backoff.single))
    parts.append(bytes(_weight(backoff.weights[1].get(word, 1.0)) for word in range(len(words))))
    for order, table in enumerate(tables, start=2):
        keys = array("I", [number for number, _ in table])
        if sys.byteorder == "big":
            keys.byteswap()
        parts.append(keys.tobytes())
        parts.append(bytes(_bits(backoff.kept[order][key]) for _, key in table))
        if order < ORDER:
            parts.append(bytes(_weight(backoff.weights[order].get(key, 1.0)) for _, key in table))
    data = b"".join(parts)
    path.write_bytes(data)
    return len(data)


def _bits(chance: float) -> int:
    return min(255, max(0, round(-math.log2(chance) / PROBABILITY_STEP)))


def _weight(weight: float) -> int:
    return min(255, max(0, round((math.log2(weight) - BACKOFF_LOWEST) / BACKOFF_STEP)))


def main() -> int:
    """Train, and return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--list", action="store_true", help="only say which code would be counted")
    options = parser.parse_args()
    seen: set[bytes] = set()
    texts: list[list[str]] = []
    sources: list[str] = []
    for name, files in corpus():
        if options.list:
            print(name)
            continue
        before = len(texts)
        texts += read(files, seen)
        if len(texts) > before:
            sources.append(name)
            print(f"{name}: {len(texts) - before} files, {sum(map(len, texts[before:])):,} words")
    if options.list:
        return 0
    words = vocabulary(texts)
    raw = count(texts, {word: number for number, word in enumerate(words)})
    print(f"{len(words)} words kept; n-grams: {', '.join(f'{len(one):,}' for one in raw[1:])}")
    model = KneserNey(raw, len(words))
    head = sum(len(word.encode()) + 5 for word in words) + sum(map(len, sources)) + 2048
    kept = choose(model, raw, MAX_BYTES - head)
    size = write(Backoff(model, kept), words, sources, options.output)
    print(f"kept {', '.join(f'{len(one):,}' for one in kept[2:])}; {size:,} bytes in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
