"""Models of the guard that have not seen a source, and what they say of its texts.

The sources are split into folds (guard_corpus.py). For each fold a model learns from the others; its logistics and the
score from which it passes on are fitted on scores of the other folds too. So nothing of a fold, not even its threshold,
is in what judges it. Models are kept below .bench/guard, by a hash of the code and the data.
"""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path
from typing import NamedTuple

import guard_corpus
import guard_learning
import numpy as np
from guard_corpus import COMMANDS, FOLDS, HARD, KNOWLEDGE, MALICIOUS, Text

from lathe.guard.topical import TOPIC, TopicalModel

ROOT = Path(__file__).parents[1]

PASSED_ON = 0.02  # share of ordinary texts that the reasoner may be asked about
KEPT = ROOT / ".bench" / "guard"
CODE = ("scripts/guard_corpus.py", "scripts/guard_learning.py", "scripts/guard_terms.txt", "src/lathe/guard/ngrams.py")


class Fold(NamedTuple):
    """What was held out, and the model that did not see it; `held` are its scores, of at most `most` texts a source."""

    sources: tuple[str, ...]
    model: TopicalModel
    held: list[guard_learning.Held]


def folds(data: Path, more: Path, most: int) -> tuple[dict[str, list[Text]], list[Fold]]:
    """Return all texts, and the folds that have any."""
    texts = guard_corpus.read(data, more)
    state = hashlib.sha256(repr([(name, len(rows)) for name, rows in texts.items()]).encode())
    for path in CODE:
        state.update((ROOT / path).read_bytes())
    folder = KEPT / state.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    used = [sources for sources in FOLDS if any(name in texts for name in sources)]
    given = None
    found: list[Fold] = []
    for number, sources in enumerate(used):
        path = folder / f"{number}.bin"
        if not path.exists():
            given = given or guard_learning.counted(guard_corpus.lessons(texts))
            guard_learning.learn(given, sources).write(path)
            print(f"learnt without {', '.join(sources)}", file=sys.stderr, flush=True)
        model = TopicalModel.read(path)
        found.append(Fold(sources, model, guard_learning.scored(model, texts, sources, most)))
    return texts, found


def calibrated(found: list[Fold]) -> list[Fold]:
    """Return the folds with the logistics that the other folds' scores give."""
    return [
        one._replace(
            model=guard_learning.calibrated(
                one.model, [held for other in found if other is not one for held in other.held]
            )
        )
        for one in found
    ]


def passes(found: list[Fold]) -> float:
    """Return the probability that PASSED_ON of the ordinary texts of these folds exceed."""
    held = [(one.source, fold.model.probability(TOPIC, one.topic)) for fold in found for one in fold.held]
    sources, scores = np.array([name for name, _ in held]), np.array([score for _, score in held])
    return threshold(scores, sources, sorted(set(sources) - MALICIOUS - HARD - COMMANDS - KNOWLEDGE), PASSED_ON)


def threshold(scores: np.ndarray, sources: np.ndarray, ordinary: list[str], share_above: float) -> float:
    """Return the score that this share of ordinary texts exceeds, each source counting the same."""
    kept = np.isin(sources, ordinary)
    scores, sources = scores[kept], sources[kept]
    counts = np.array([1 / (sources == name).sum() for name in sources]) / len(ordinary)
    order = np.argsort(-scores, kind="stable")
    return float(scores[order][min(np.searchsorted(np.cumsum(counts[order]), share_above), len(order) - 1)])


def interval(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson)."""
    if not of:
        return 0.0, 1.0
    z = 1.96
    share = hits / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - half) / (1 + z * z / of)), min(1.0, (middle + half) / (1 + z * z / of))


def share(hits: int, of: int) -> str:
    """Return a share with its interval, in words."""
    low, high = interval(hits, of)
    return f"{hits / max(of, 1):.3f} ({low:.3f} to {high:.3f})"
