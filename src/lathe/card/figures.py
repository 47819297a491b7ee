"""What may stand in a card: words without figures, and references to what is computed or looked up.

No part of a card takes a number. `Words` refuses whatever reads like one; every other part holds the thing that the
figure is read from (a reading of trials, a looked-up file, a threshold, a plan) and works out how it is shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

from lathe.card.classify import Classified, Measured
from lathe.card.evidence import EvidenceFile, FigureSpec, Kind
from lathe.card.readings import DOUBTS, Doubt, Reading
from lathe.card.runs import Run
from lathe.card.thresholds import Category, Measure, Published, Source, Status, Thresholds
from lathe.evals.record import Plan
from lathe.gateway.safeguards import Safeguards
from lathe.guard.taxonomy import Taxonomy

SHOWN_STATUS: dict[Status, str] = {
    "reached": "reached",
    "cannot_rule_out": "cannot rule out",
    "below": "below",
    "not_measured": "not measured",
}
SHOWN_DOUBT: dict[Doubt, str] = {
    "fault": "infrastructure faults",
    "unscored": "without this reward",
    "missing": "missing",
    "untried": "tasks left out",
    "substituted": "served by another model",
    "flagged": "flagged by the audit",
    "standin": "with stand-ins",
}
_SPELLED = ("percent", "per cent")
_UNIT = "\u00a0%"


class Inputs(Protocol):
    """What a card is made of."""

    def know(self, thing: object) -> bool:
        """Say whether a thing is one of them, and not merely like one."""
        ...


class NoFigure(TypeError):
    """Something was to be put into a card that is no part of one: a figure that somebody typed."""


class Words:
    """Text. Raises `NoFigure` for one with a digit, a sign of numbers or a percentage in it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise NoFigure(f"{text!r} is no text")
        signs = [sign for sign in text if sign in "%‰" or unicodedata.category(sign) in ("Nd", "Nl", "No")]
        if signs or any(word in text.lower() for word in _SPELLED):
            raise NoFigure(f"a figure can't be typed: {text[:80]!r}")
        self.text = text


_Owner: TypeAlias = "Plan | Measure | Category | Source | Published | Kind | FigureSpec | Safeguards | Taxonomy"


class Named(NamedTuple):
    """A text that some data says: a field of a plan, a threshold, a source; never a text of its own."""

    of: _Owner
    field: str

    @property
    def text(self) -> str:
        """How it is shown."""
        value: Any = getattr(self.of, self.field)
        if not isinstance(value, str):
            raise NoFigure(f"{self.field} of {type(self.of).__name__} is no text")
        return value


class FromTrials(NamedTuple):
    """A figure of a reading: the estimate with its interval, or how many tasks or trials stand behind it."""

    reading: Reading
    part: Literal["estimate", "tasks", "trials"] = "estimate"

    @property
    def text(self) -> str:
        """How it is shown."""
        if self.part == "tasks":
            return f"{self.reading.tasks:,}"
        if self.part == "trials":
            return f"{len(self.reading.trials):,}"
        low, high = self.reading.interval
        value = self.reading.value
        return "unknown" if value is None else f"{_percent(value)} ({_range(low, high)})"


class Doubted(NamedTuple):
    """How many outcomes of a reading are in doubt, and why."""

    reading: Reading

    @property
    def text(self) -> str:
        """How it is shown; "none" where nothing is in doubt."""
        doubts = self.reading.doubts
        said = [f"{doubts[doubt]:,} {SHOWN_DOUBT[doubt]}" for doubt in DOUBTS if doubt in doubts]
        return ", ".join(said) or "none"


class FromFile(NamedTuple):
    """A figure that is looked up in a file."""

    file: EvidenceFile
    spec: FigureSpec
    thresholds: Thresholds

    @property
    def text(self) -> str:
        """How it is shown."""
        found = self.file.look(self.spec, self.thresholds.confidence)
        if found.value is None:
            return "not given"
        if isinstance(found.value, str):
            return found.value
        if found.hits is not None and found.low is not None and found.high is not None:
            return f"{_percent(found.value)} ({_range(found.low, found.high)}): {found.hits:,} of {found.of:,}"
        if self.spec.rate:
            return _percent(found.value)
        return f"{found.value:,.4g} {found.unit}".strip() if isinstance(found.value, float) else f"{found.value:,}"


class OfThreshold(NamedTuple):
    """The threshold of a measure."""

    measure: Measure

    @property
    def text(self) -> str:
        """How it is shown."""
        word = "from" if self.measure.concern == "from" else "under"
        return f"{word} {_percent(self.measure.figure)}"


class OfEstimate(NamedTuple):
    """Which estimate a measure takes."""

    measure: Measure

    @property
    def text(self) -> str:
        """How it is shown."""
        one = self.measure.estimate
        name = f"pass@{one.k}" if one.kind == "pass_at" else "mean"
        return f"{name} of the reward {one.reward}" if one.reward else name


class OfPublished(NamedTuple):
    """A figure that somebody published."""

    published: Published

    @property
    def text(self) -> str:
        """How it is shown."""
        treated = f" ({self.published.treated_as})" if self.published.treated_as else ""
        return f"{self.published.model} {_percent(self.published.figure)}{treated}"


class OfStatus(NamedTuple):
    """What a category, a measure, or one reading of it comes to."""

    of: Classified | Measured
    reading: int | None = None

    @property
    def status(self) -> Status:
        """The word as data."""
        if self.reading is None:
            return self.of.status
        assert isinstance(self.of, Measured)
        return self.of.statuses[self.reading]

    @property
    def text(self) -> str:
        """How it is shown."""
        return SHOWN_STATUS[self.status]


class Counted(NamedTuple):
    """How many there are of something, given as the things themselves."""

    things: Sequence[object]

    @property
    def text(self) -> str:
        """How it is shown."""
        return f"{len(self.things):,}"


class When(NamedTuple):
    """A time that safeguards, a plan or a file of evidence names."""

    of: Safeguards | Plan | EvidenceFile
    field: Literal["issued", "expires", "created", "at"]

    @property
    def text(self) -> str:
        """How it is shown: the day, in UTC."""
        value: Any = getattr(self.of, self.field)
        if not value:
            return "not said"
        seconds = value if isinstance(self.of, EvidenceFile) else value / 1000
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


class HashOf(NamedTuple):
    """The hash that names something, the first of its digits."""

    of: Thresholds | Safeguards | Run | EvidenceFile | Taxonomy
    classification: bool = False

    @property
    def text(self) -> str:
        """How it is shown."""
        match self.of:
            case Safeguards():
                found = self.of.basis.classification if self.classification else self.of.digest
            case Run():
                found = self.of.digest.whole
            case EvidenceFile():
                found = self.of.digest
            case _:
                found = self.of.hash
        return found[:12]


class Setting(NamedTuple):
    """What safeguards say of one matter, in words."""

    of: Safeguards
    field: Literal["surfaces", "scope", "scopes", "monitors", "fallback", "stands_in", "retention"]

    @property
    def text(self) -> str:
        """How it is shown."""
        one = self.of
        match self.field:
            case "surfaces":
                return _table(one.surfaces) or "closed everywhere"
            case "scopes":
                return _table(one.scopes) or "no word is held back"
            case "scope" | "monitors":
                return ", ".join(getattr(one, self.field)) or "none"
            case "fallback":
                named = ", ".join(one.fallbacks)
                words = {"none": "nothing", "named": named, "any": "what the project agreed to"}
                return words[one.fallback]
            case "stands_in":
                return "yes" if one.stands_in else "no"
            case _:
                return one.retention


class VersionOf(NamedTuple):
    """The version of data under review, or the confidence of its intervals."""

    of: Thresholds | Taxonomy
    field: Literal["version", "confidence", "valid_days"] = "version"

    @property
    def text(self) -> str:
        """How it is shown."""
        value: Any = getattr(self.of, self.field)
        return _percent(value) if self.field == "confidence" else f"{value}"


_Referring: TypeAlias = (
    Named
    | FromTrials
    | Doubted
    | FromFile
    | OfThreshold
    | OfEstimate
    | OfPublished
    | OfStatus
    | Counted
    | When
    | HashOf
    | Setting
    | VersionOf
)
Part: TypeAlias = Words | _Referring
_PARTS: tuple[type, ...] = get_args(Part)


def shown(part: Part, inputs: Inputs) -> str:
    """Return how a part is shown; raise `NoFigure` for what is no part, or does not come from the card's inputs."""
    if type(part) not in _PARTS:
        raise NoFigure(f"{part!r} is no part of a card")
    if isinstance(part, Words):
        return Words(part.text).text  # it may have been changed since
    for thing in _rests_on(part):
        if not inputs.know(thing):
            raise NoFigure(f"{part!r} does not come from what the card is made of")
    return part.text


def _rests_on(part: _Referring) -> Sequence[object]:
    match part:
        case Counted():
            return part.things
        case FromFile():
            return part
        case _:
            return part[:1]


def _percent(value: float) -> str:
    """Return a share as people read it: more digits where it is small, or nearly all."""
    per = value * 100
    if 0 < per < 1 or 99 < per < 100:
        return f"{per:.2f}{_UNIT}"
    return f"{per:.1f}{_UNIT}"


def _range(low: float, high: float) -> str:
    return f"{_percent(low).removesuffix(_UNIT)} to {_percent(high)}"


def _table(pairs: dict[Any, Any]) -> str:
    return ", ".join(f"{name} from {tier}" for name, tier in pairs.items())
