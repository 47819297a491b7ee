"""The topical monitor: is a text about attacks on computers? Small, local, and quick enough for every request.

A linear model over hashed n-grams (`ngrams`), trained by scripts/train_topical.py from public sets (docs/guard-data.md)
and shipped as `topical.bin`. A text is looked at in windows, and the window that is most about the topic counts: a
request buried in a log is found, and a long harmless text doesn't hide it. A topic is no act: what the monitor finds
only says that a closer look is due.

A second set of weights over the same n-grams tells a request for harm from legitimate security work; the reasoner
asks for it, and it costs one more gather.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lathe.guard.findings import Finding, Material, Part, Span
from lathe.guard.ngrams import MAX_TEXT, NONE, fold, grams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHIPPED = Path(__file__).parent / "topical.bin"
MAGIC = b"LTHTOP1\n"
HEADER = struct.Struct("<8sI6d")  # magic, buckets, then for both judgements: step of the weights, slope, intercept
WINDOWS = ((160, 80), (480, 240))  # characters of a window, and how far the next one is
OVERLAP = 480  # characters that two pieces of a long text share
CACHED = 4_096  # texts whose score is kept
TOPIC, HARM = 0, 1
CLAUSE = "topic.cyber"


class Look(NamedTuple):
    """What is seen in a text: how likely it is about attacks (`topic`), how likely a request for harm (`harm`).

    `start` and `end` are the letters of the window that is most about the topic: exact in a text of ASCII, near in
    others.
    """

    topic: float
    harm: float
    start: int
    end: int


NOTHING = Look(0.0, 0.0, 0, 0)


class TopicalModel(NamedTuple):
    """The weights: `squares` of each bucket's rarity, and for both judgements weight, step and logistic.

    A table holds 16 bits for each bucket, and a last 0 for NONE.
    """

    squares: NDArray[np.uint16]
    weights: tuple[NDArray[np.int16], NDArray[np.int16]]
    steps: tuple[float, float]
    slopes: tuple[float, float]
    intercepts: tuple[float, float]

    @classmethod
    def read(cls, path: Path = SHIPPED) -> TopicalModel:
        """Return the model of a file; raise `ValueError` if it is none, `OSError` if it can't be read."""
        import numpy as np

        content = path.read_bytes()
        size = NONE + 1
        if len(content) != HEADER.size + 6 * size or content[:8] != MAGIC:
            raise ValueError(f"{path} is no model of the topical monitor.")
        _, buckets, *figures = HEADER.unpack_from(content)
        if buckets != size or not all(map(math.isfinite, figures)):
            raise ValueError(f"{path} is a model of the topical monitor that does not fit this version.")
        tables = [np.frombuffer(content, kind, size, HEADER.size + at * 2 * size) for at, kind in enumerate(_KINDS)]
        return cls(tables[0], (tables[1], tables[2]), *((figures[at], figures[at + 3]) for at in range(3)))

    def write(self, path: Path) -> None:
        """Write the model to a file."""
        figures = [one[judgement] for judgement in (TOPIC, HARM) for one in (self.steps, self.slopes, self.intercepts)]
        tables = [
            table.astype(kind).tobytes() for table, kind in zip((self.squares, *self.weights), _KINDS, strict=True)
        ]
        path.write_bytes(HEADER.pack(MAGIC, len(self.squares), *figures) + b"".join(tables))

    def probability(self, judgement: int, raw: float) -> float:
        """Return the calibrated probability of a raw score."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slopes[judgement] * raw + self.intercepts[judgement]))))

    def raw(self, text: str) -> tuple[float, float, int, int]:
        """Return the highest raw score of a text for both judgements, and the window of the first."""
        best = (-math.inf, -math.inf, 0, 0)
        folded = fold(text)
        ratio = len(text) / max(len(folded), 1)
        for at in range(0, max(len(folded) - OVERLAP, 1), MAX_TEXT - OVERLAP):
            topic, harm, start, end = self._piece(folded[at : at + MAX_TEXT])
            if topic > best[TOPIC]:
                best = (topic, max(harm, best[HARM]), int((at + start) * ratio), math.ceil((at + end) * ratio))
            else:
                best = (best[TOPIC], max(harm, best[HARM]), best[2], best[3])
        return best[0], best[1], best[2], min(best[3], len(text))

    def _piece(self, folded: str) -> tuple[float, float, int, int]:
        import numpy as np

        # Sums of whole numbers: a window's score is the same whatever else is in the text.
        sums = np.zeros((3, len(folded) + 3), dtype=np.int64)
        for buckets in grams(folded):
            for row, table in zip(sums, (self.squares, *self.weights), strict=True):
                row[1 : 1 + len(buckets)] += table.take(buckets)
        np.cumsum(sums, axis=1, out=sums)
        starts, ends = _windows(len(folded))
        inside = (sums[:, ends + 2] - sums[:, starts]).astype(np.float64)
        scores = inside[1:] / np.sqrt(np.maximum(inside[0], 1.0))
        at = int(scores[0].argmax())
        return (
            float(scores[0, at]) * self.steps[TOPIC],
            float(scores[1].max()) * self.steps[HARM],
            int(starts[at]),
            int(ends[at]),
        )


_KINDS = ("<u2", "<i2", "<i2")


@lru_cache(maxsize=MAX_TEXT + 1)
def _windows(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the windows of a piece begin and end; a short one is a window by itself."""
    import numpy as np

    starts, ends = [0], [min(length, WINDOWS[-1][0])]
    for size, stride in WINDOWS:
        for start in range(0, max(length - size + stride, 1), stride):
            starts.append(max(min(start, length - size), 0))
            ends.append(min(start + size, length))
    return np.array(starts), np.array(ends)


class TopicalMonitor:
    """Scores texts, and remembers by hash which it has seen: a thread that is sent again costs only what is new."""

    def __init__(self, model: TopicalModel) -> None:
        self._model = model
        self._seen: OrderedDict[bytes, Look] = OrderedDict()

    @classmethod
    def load(cls, path: Path = SHIPPED) -> TopicalMonitor:
        """Return the monitor; raise `OSError` or `ValueError` where its model is not there or broken."""
        return cls(TopicalModel.read(path))

    def score(self, text: str) -> float:
        """Return the calibrated probability (0 to 1) that a text is about attacks on computers."""
        return self.look(text).topic

    def look(self, text: str) -> Look:
        """Return what is seen in a text."""
        if not text or text.isspace():
            return NOTHING
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._seen.get(key)
        if known is not None:
            self._seen.move_to_end(key)
            return known
        topic, harm, start, end = self._model.raw(text)
        look = Look(self._model.probability(TOPIC, topic), self._model.probability(HARM, harm), start, end)
        self._seen[key] = look
        if len(self._seen) > CACHED:
            self._seen.popitem(last=False)
        return look

    def findings(self, material: Material) -> list[Finding]:
        """Return one finding for each new part and call of a material, the likeliest first.

        Every text gets one, however low its score: what score is enough is the policy's to say.
        """
        parts = [*material.parts, *(Part(call.id, call.arguments, "model") for call in material.calls)]
        found = [self._finding(part) for part in parts if part.text and not part.text.isspace()]
        return sorted(found, key=lambda one: -one.score)

    def _finding(self, part: Part) -> Finding:
        look = self.look(part.text)
        return Finding(
            "topical",
            CLAUSE,
            look.topic,
            (Span(part.id, look.start, look.end, part.provenance),),
            "A text speaks of attacks on computers." if look.topic >= 0.5 else "A text does not speak of attacks.",
            evidence={"harm": round(look.harm, 4)},
        )
