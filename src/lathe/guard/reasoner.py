"""The embedded safety reasoner: a judge over act, target and authority that needs no model and no network.

It sees only what the topical monitor passed on. For each new text it weighs the second judgement of the topical model
(request for harm or security work), the acts that the text asks for, what it says of purpose, and where the act is
aimed; for a call, the command that would run. It answers with a clause of the taxonomy, the letters that decided, the
targets, and what is missing for the act to be allowed. Where nothing says so, a text is security work.

The weights are those of `reasoner.json`, fitted by scripts/train_topical.py on texts of sources that the topical model
had not seen (docs/guard-data.md says which).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from lathe.guard.findings import Finding, Material, Part, Span
from lathe.guard.ladder import Target
from lathe.guard.reasoner_signs import Signs, is_grave, read_signs, relation_of, targets_in
from lathe.guard.taxonomy import Authority, Clause, Relation, Taxonomy
from lathe.guard.topical import Look, TopicalMonitor

MONITOR = "reasoner"
SHIPPED = Path(__file__).parent / "reasoner.json"
WHOLE = 2_000  # characters of a text that is judged as a whole; of a longer one, the window that the topic is in
DOUBT = 0.5  # from which score on an act is named
UNNAMED = "exploit.develop"  # an attack of which no sign says what kind it is
SIGNS = (
    "topic",
    "harm",
    "acts",
    "grave_acts",
    "misuse",
    "defence",
    "defence_share",
    "own",
    "explains",
    "code",
    "length",
)


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The logistic over the signs, and from which score of the topical monitor on a text is judged."""

    signs: dict[str, float]
    intercept: float
    passes: float


class Scene(NamedTuple):
    """What is known of whoever asks: their authority, and what targets are to them as gateway and sandbox say."""

    authority: Authority = Authority()
    targets: tuple[Target, ...] = ()


@lru_cache(maxsize=1)
def weights(path: Path = SHIPPED) -> Weights:
    """Return the shipped weights; raise `OSError` or `msgspec.MsgspecError`."""
    return msgspec.json.decode(path.read_bytes(), type=Weights)


def measure(text: str, look: Look, signs: Signs) -> tuple[float, ...]:
    """Return the figures that are weighed, in the order of SIGNS."""
    words = max(len(text[:4_000].split()), 1)
    return (
        _logit(look.topic),
        _logit(look.harm),
        min(len(signs.acts), 4),
        signs.grave,
        math.log1p(signs.misuse),
        math.log1p(signs.defence),
        math.log1p(signs.defence) - math.log1p(signs.misuse),
        float(signs.own > 0),
        float(signs.explains),
        sum(text.count(one) for one in "{};=<>$|") / max(len(text), 1) * 10,
        math.log(words),
    )


def _logit(probability: float) -> float:
    return math.log((probability + 1e-4) / (1 - probability + 1e-4))


class Reasoner:
    """Judges with the signs. It keeps nothing between two looks but what the topical monitor remembers."""

    def __init__(self, topical: TopicalMonitor, taxonomy: Taxonomy, fitted: Weights | None = None) -> None:
        self._topical = topical
        self._taxonomy = taxonomy
        self._weights = fitted or weights()

    def judge(self, material: Material, scene: Scene = Scene()) -> list[Finding]:  # noqa: B008 - it can't be changed
        """Return one finding for each new text that the topical monitor passes on, the gravest first."""
        parts = [*material.parts, *(Part(call.id, call.arguments, "model") for call in material.calls)]
        found: list[Finding] = []
        for part in parts:
            look = self._topical.look(part.text)
            if look.topic >= self._weights.passes:
                found.append(self._judged(part, look, scene))
        return sorted(found, key=lambda one: (-self._taxonomy.rank(one.clause), -one.score))

    def _judged(self, part: Part, look: Look, scene: Scene) -> Finding:
        offset = look.start if len(part.text) > WHOLE else 0
        passage = part.text[offset : look.end] if offset or len(part.text) > WHOLE else part.text
        signs = read_signs(passage)
        score = self.probability(passage, look, signs)
        targets = targets_in(passage)
        known: dict[str, Relation] = {one.name: one.relation for one in scene.targets}
        relations = [known.get(name, relation_of(name)) for name in targets]
        if score < DOUBT:
            clause, score = "learn.explain" if signs.explains else "work.security_upkeep", 1 - score
            why, letters = "It asks for no act of attack.", [(0, len(part.text))]
        else:
            clause = next(
                (one for one, _, _ in signs.acts if is_grave(one)), signs.acts[0][0] if signs.acts else UNNAMED
            )
            why = f"It asks for {self._taxonomy.clauses[clause].title}."
            letters = [(offset + start, offset + end) for _, start, end in signs.acts] or [(look.start, look.end)]
        by = Authority(scene.authority.tier, scene.authority.scope, tuple(relations))
        evidence = {
            "targets": targets,
            "relations": dict(zip(targets, relations, strict=True)),
            "missing": _missing(self._taxonomy.clauses[clause], by),
        }
        spans = tuple(Span(part.id, start, end, part.provenance) for start, end in letters)
        return Finding(MONITOR, clause, round(score, 6), spans, why, _confidence(score), evidence)

    def probability(self, text: str, look: Look, signs: Signs) -> float:
        """Return how likely a text asks for harm."""
        held = self._weights
        total = held.intercept + sum(
            held.signs.get(name, 0.0) * value for name, value in zip(SIGNS, measure(text, look, signs), strict=True)
        )
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def _confidence(score: float) -> float:
    """Return how far a score is to be trusted: least where it could as well be the other."""
    return round(min(1.0, 0.4 + 1.2 * abs(score - 0.5)), 4)


def _missing(clause: Clause, by: Authority) -> list[str]:
    """Return what is missing for the act to be allowed, in the way that lacks least."""
    ways = sorted((way.lacks(by) for way in clause.allowed_by), key=len)
    return list(ways[0]) if ways else ["nothing would allow it"]
