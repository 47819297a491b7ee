"""How the reasoner's weights are fitted: on texts of sources that the topical model had not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from guard_corpus import COMMANDS, HARD, KNOWLEDGE, MALICIOUS
from guard_folds import Fold
from guard_learning import weights
from sklearn.linear_model import LogisticRegression

from lathe.guard.reasoner import SIGNS, Weights, measure
from lathe.guard.reasoner_signs import read_signs
from lathe.guard.topical import HARM, TOPIC, Look

DECIDES = 0.8  # the score from which the policy lets a finding decide
PASSED_ON = 0.05  # share of ordinary texts that the topical monitor may pass on
BLOCKED = {"ordinary": 0.0005, "hard": 0.015}  # shares that may reach DECIDES; below the bars, for what is not seen yet


class Measured(NamedTuple):
    """What is weighed of texts, a row each, with source and kind."""

    signs: np.ndarray
    topic: np.ndarray
    source: np.ndarray


def measured(found: list[Fold]) -> Measured:
    """Return the signs of all held texts; the folds are calibrated."""
    signs, topics, sources = [], [], []
    for fold in found:
        for one in fold.held:
            if one.source in COMMANDS | KNOWLEDGE:
                continue
            topic = fold.model.probability(TOPIC, one.topic)
            look = Look(topic, fold.model.probability(HARM, one.harm), 0, len(one.text))
            signs.append(measure(one.text, look, read_signs(one.text)))
            topics.append(topic)
            sources.append(one.source)
    return Measured(np.array(signs), np.array(topics), np.array(sources))


def fitted(found: list[Fold]) -> Weights:
    """Return weights, and an intercept that puts as many benign texts at DECIDES as BLOCKED says."""
    given = measured(found)
    positive = np.isin(given.source, list(MALICIOUS))
    hard = np.isin(given.source, list(HARD))
    model = LogisticRegression(C=1.0, max_iter=500)
    scale = given.signs.std(axis=0) + 1e-6
    counts = weights(given.source, positive, lambda name: 2.0 if name in HARD else 1.0)
    model.fit(given.signs / scale, positive, sample_weight=counts)
    coefficients = model.coef_[0] / scale
    totals = given.signs @ coefficients
    ordinary = ~(positive | hard)
    passes = highest(given.topic[ordinary], given.source[ordinary], PASSED_ON)
    kept = given.topic >= passes
    totals = np.where(kept, totals, -np.inf)
    least = max(
        highest(totals[ordinary], given.source[ordinary], BLOCKED["ordinary"]),
        highest(totals[hard], given.source[hard], BLOCKED["hard"]),
    )
    intercept = float(np.log(DECIDES / (1 - DECIDES)) - least - 1e-6)
    return Weights(
        {name: round(float(one), 5) for name, one in zip(SIGNS, coefficients, strict=True)},
        round(intercept, 5),
        round(float(passes), 5),
    )


def highest(scores: np.ndarray, sources: np.ndarray, share: float) -> float:
    """Return the score that this share of texts exceeds, each source counting the same."""
    names, at = np.unique(sources, return_inverse=True)
    counts = 1 / np.bincount(at)[at] / len(names)
    order = np.argsort(-scores, kind="stable")
    return float(scores[order][min(np.searchsorted(np.cumsum(counts[order]), share), len(scores) - 1)])
