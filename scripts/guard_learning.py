"""How the topical monitor learns: n-grams counted, weights fitted so that sources agree on them, scores calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from guard_corpus import HARD, KNOWLEDGE, MALICIOUS, Text
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from lathe.guard.ngrams import NONE, fold, grams
from lathe.guard.topical import TopicalModel

SMOOTHING = 0.0005  # of the share of a source's texts that hold an n-gram
FLOOR = 0.02  # how far an n-gram may speak that no two sources agree on
HARD_WEIGHT = 0.0  # of legitimate security work when the topic is learnt: it is about the topic, and no attack
MAX_RARITY = 65_535
MILDEST = 0.15  # how far an n-gram may speak against the topic, as a share of how far one may speak for it: a request
# is not talked away by harmless words around it


class Lessons(NamedTuple):
    """Texts to learn from as a matrix of counts, a row each."""

    counts: sparse.csr_matrix
    source: np.ndarray
    positive: np.ndarray


def counted(texts: list[Text]) -> Lessons:
    """Return the n-grams of texts."""
    starts, buckets, values = [0], [], []
    for text in texts:
        found = np.concatenate(grams(fold(text.text)))
        found = found[found != NONE]
        unique, count = np.unique(found, return_counts=True)
        buckets.append(unique)
        values.append(count.astype(np.float32))
        starts.append(starts[-1] + len(unique))
    shape = (len(texts), NONE)
    matrix = sparse.csr_matrix((np.concatenate(values), np.concatenate(buckets), np.array(starts)), shape=shape)
    return Lessons(matrix, np.array([text.source for text in texts]), np.array([text.positive for text in texts]))


def weights(source: np.ndarray, positive: np.ndarray, mean: Callable[[str], float]) -> np.ndarray:
    """Return how much each row counts: a source by the root of its size times `mean`, both classes the same."""
    found = np.zeros(len(source))
    for name in np.unique(source):
        rows = source == name
        found[rows] = mean(name) / np.sqrt(rows.sum())
    for kind in (True, False):
        found[positive == kind] /= max(found[positive == kind].sum(), 1e-12)
    return found * len(source)


def agreement(present: sparse.csr_matrix, source: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return how far sources agree on what each n-gram says: a logarithm, 0 where they don't.

    The mean rate among the sources of one kind stands against the highest among those of the other, and at least two
    sources must hold the n-gram: what only one source does, its style, says next to nothing of the next one.
    """
    rates: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for name in np.unique(source):
        rows = source == name
        rates[bool(positive[rows][0])].append(np.asarray(present[rows].mean(axis=0)).ravel())
    said = np.zeros(present.shape[1])
    for kind in (True, False):
        ours, theirs = np.array(rates[kind]), np.array(rates[not kind])
        ratio = np.log((ours.mean(axis=0) + SMOOTHING) / (theirs.max(axis=0) + SMOOTHING))
        said = np.maximum(said, np.where((ours > 0).sum(axis=0) > 1, ratio, 0.0))
    return said


def rarity(present: sparse.csr_matrix) -> np.ndarray:
    """Return the inverse document frequency of each n-gram, such that its square is kept in 16 bits."""
    held = np.asarray(present.sum(axis=0)).ravel()
    return np.sqrt(np.round(np.log(present.shape[0] / (held + 1)).clip(0.5) ** 2 * 256).clip(max=MAX_RARITY) / 256)


def fit(
    given: Lessons, rare: np.ndarray, mean: Callable[[str], float], agreed: bool = True, strength: float = 1.0
) -> np.ndarray:
    """Return the weight of each n-gram in the sum that is divided by the root of all rarities."""
    kept = np.array([mean(name) > 0 for name in given.source])
    counts, source, positive = given.counts[kept], given.source[kept], given.positive[kept]
    present = counts.copy()
    present.data[:] = 1
    scale = agreement(present, source, positive) + FLOOR if agreed else np.ones(len(rare))
    norm = np.sqrt(np.maximum(counts @ (rare**2), 1e-6))
    rows = (sparse.diags(1 / norm) @ counts @ sparse.diags(rare * scale)).tocsr()
    model = LogisticRegression(C=strength, max_iter=80, tol=1e-3)
    model.fit(rows, positive, sample_weight=weights(source, positive, mean))
    return (model.coef_[0] * rare * scale).astype(np.float64)


def about_attacks(name: str) -> float:
    """Return how much a source counts when the topic is learnt."""
    return HARD_WEIGHT if name in HARD else 1.0


def asks_for_harm(name: str) -> float:
    """Return how much a source counts when requests for harm are told from legitimate work."""
    if name in HARD:
        return 3.0
    return 0.0 if name.partition("+")[0] in KNOWLEDGE else 1.0


def learn(given: Lessons, without: tuple[str, ...] = ()) -> TopicalModel:
    """Return a model, not calibrated yet, of all sources but those `without`."""
    kept = np.array([name.partition("+")[0] not in without for name in given.source])
    given = Lessons(given.counts[kept], given.source[kept], given.positive[kept])
    present = given.counts.copy()
    present.data[:] = 1
    rare = rarity(present)
    topic, harm = fit(given, rare, about_attacks), fit(given, rare, asks_for_harm)
    topic = topic.clip(-MILDEST * topic.max())
    steps = [float(np.abs(one).max()) / 32_000 for one in (topic, harm)]
    tables = [
        np.append(np.round(one / step), 0).astype(np.int16) for one, step in zip((topic, harm), steps, strict=True)
    ]
    squares = np.append(np.round(rare**2 * 256), 0).astype(np.uint16)
    # The monitor divides by the root of the squares as they are kept, 256 times what they are here.
    return TopicalModel(squares, (tables[0], tables[1]), (16 * steps[0], 16 * steps[1]), (1.0, 1.0), (0.0, 0.0))


class Held(NamedTuple):
    """A text of a source that the scoring model had not seen, its raw scores, and the window of the first."""

    source: str
    positive: bool
    topic: float
    harm: float
    text: str
    start: int
    end: int


def scored(model: TopicalModel, texts: dict[str, list[Text]], sources: tuple[str, ...], most: int) -> list[Held]:
    """Return the raw scores of at most `most` texts of each of these sources."""
    found: list[Held] = []
    for source in sources:
        rows = texts.get(source, [])
        for row in rows[:: math.ceil(len(rows) / most)] if rows else ():
            topic, harm, start, end = model.raw(row.text)
            found.append(Held(source, row.positive, topic, harm, row.text, start, end))
    return found


def calibrate(scores: np.ndarray, positive: np.ndarray, source: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the logistic (Platt) that makes probabilities of held-out scores."""
    model = LogisticRegression(C=1e6)
    model.fit(scores.reshape(-1, 1), positive, sample_weight=weights(source, positive, lambda _: 1.0))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def calibrated(model: TopicalModel, scored: list[Held]) -> TopicalModel:
    """Return the model with the logistic of held-out scores."""
    source = np.array([one.source for one in scored])
    positive = np.array([one.positive for one in scored])
    malicious = np.isin(source, list(MALICIOUS))
    hard = np.isin(source, list(HARD))
    asked = malicious | ~(positive | hard)
    topic = calibrate(np.array([one.topic for one in scored])[asked], positive[asked], source[asked])
    asked = malicious | ~positive
    harm = calibrate(np.array([one.harm for one in scored])[asked], positive[asked], source[asked])
    return model._replace(slopes=(topic[0], harm[0]), intercepts=(topic[1], harm[1]))
