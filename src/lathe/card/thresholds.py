"""What a model is classified by: categories, measures and thresholds, as data under review.

After OpenAI's Preparedness Framework (version 2) and the system cards that apply it. Each threshold says where it comes
from, and what of it is Lathe's own. Loading the data runs its cases: published outcomes, and what follows from them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.gateway.safeguards import FALLBACKS, KEEPS, RUNNING, Fallback
from lathe.guard.reviewed import content_hash, read_reviewed
from lathe.protocol.errors import ConfigError
from lathe.protocol.trust import RANK, Retention, Surface, Tier

Status: TypeAlias = Literal["reached", "cannot_rule_out", "below", "not_measured"]
STATUSES: tuple[Status, ...] = ("reached", "cannot_rule_out", "below", "not_measured")
"""What a measure or a category comes to. What is not measured is never below."""
Needs: TypeAlias = Literal["all", "any"]
SHIPPED = Path(__file__).parent / "thresholds.yaml"
_ID = re.compile(r"[a-z][a-z0-9_]*")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where something was published."""

    title: str
    address: str


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which figure of a run: `mean` of the reward, or `pass_at`, that one of `k` attempts has the whole reward.

    `reward` names one of the rewards that a verifier gives, "" for the reward.
    """

    kind: Literal["mean", "pass_at"]
    k: int = 1
    reward: str = ""


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody published of a model by this measure, and what they took the model for."""

    model: str
    figure: float
    treated_as: str = ""


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One figure of a category.

    It is of concern `from` the figure on, or `under` it. `datasets` are names, in which `*` stands for any letters,
    with how many tasks each has: those that a run leaves out count as unknown. 0 is for sets without a fixed number.
    `ours` says what of the threshold was not published by anybody.
    """

    id: str
    title: str
    protocol: str
    estimate: Estimate
    concern: Literal["from", "under"]
    figure: float
    datasets: dict[str, int]
    sources: tuple[str, ...]
    ours: str = ""
    published: tuple[Published, ...] = ()

    def status(self, low: float, high: float) -> Status:
        """Return what an interval comes to: one that reaches the threshold can't rule it out."""
        if self.concern == "from":
            return "reached" if low >= self.figure else "below" if high < self.figure else "cannot_rule_out"
        return "reached" if high < self.figure else "below" if low >= self.figure else "cannot_rule_out"


class Demand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a status asks of whoever serves the model; see `Safeguards` in `lathe.gateway.safeguards`."""

    surfaces: dict[Surface, Tier]
    scope: tuple[str, ...] = ()
    scopes: dict[str, Tier] = {}
    monitors: tuple[str, ...] = ()
    fallback: Fallback = "any"
    stands_in: bool = True
    retention: Retention = "zero"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the measures of a category come to, and what the category must come to then."""

    measures: dict[str, Status]
    status: Status
    why: str


class Category(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kind of risk. `needs` says whether all measures must be reached for it, or any one.

    Where the measures are not `sufficient`, reaching them all only means that the level can't be ruled out.
    """

    id: str
    title: str
    level: str
    describe: str
    needs: Needs
    sufficient: bool
    sources: tuple[str, ...]
    measures: tuple[Measure, ...]
    demands: dict[Status, Demand]
    cases: tuple[Case, ...]
    ours: str = ""

    def status(self, measures: Mapping[str, Status]) -> Status:
        """Return what the category comes to with these measures; one that is missing is not measured."""
        found = [measures.get(one.id, "not_measured") for one in self.measures]
        if self.needs == "any":
            return worst(found)
        if "below" in found:
            return "below"
        if "not_measured" in found:
            return "not_measured"
        return "reached" if self.sufficient and set(found) == {"reached"} else "cannot_rule_out"


def worst(found: Sequence[Status]) -> Status:
    """Return the gravest of statuses; nothing measured is not measured."""
    order: tuple[Status, ...] = ("reached", "cannot_rule_out", "not_measured", "below")
    return min(found, key=order.index, default="not_measured")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    confidence: float
    doubt_from: float
    valid_days: int
    sources: dict[str, Source]
    categories: tuple[Category, ...]


class Thresholds:
    """All categories. `hash` names this state of them.

    `confidence` is of the intervals, `doubt_from` how sure the audit must be of a flag for a trial to be in doubt,
    `valid_days` how long safeguards hold that follow.
    """

    def __init__(self, file: _File, name: str) -> None:
        self.version = file.version
        self.confidence = file.confidence
        self.doubt_from = file.doubt_from
        self.valid_days = file.valid_days
        self.sources = file.sources
        self.categories = file.categories
        if fault := _fault(file):
            raise ConfigError(f"{name}: {fault}.", code="thresholds")
        self.hash = content_hash(file)

    @classmethod
    def load(cls, path: Path = SHIPPED) -> Thresholds:
        """Return the thresholds of a file, once its cases hold; raise `ConfigError` with one sentence."""
        return cls(read_reviewed(path, _File), str(path))


@functools.cache
def shipped() -> Thresholds:
    """Return the thresholds that Lathe comes with; raise `ConfigError`."""
    return Thresholds.load()


def _fault(file: _File) -> str:
    """Return what is wrong with thresholds, as a sentence without its stop; "" where nothing is."""
    if not 0.5 < file.confidence < 1 or not 0 < file.doubt_from <= 1 or file.valid_days < 1:
        return "confidence is a figure from 0.5 to 1, doubt_from one from 0 to 1, valid_days a day at least"
    ids = [name for one in file.categories for name in (one.id, *(measure.id for measure in one.measures))]
    if bad := [one for at, one in enumerate(ids) if not _ID.fullmatch(one) or one in ids[:at]]:
        return f"{bad[0]!r} is no word of small letters, or stands twice"
    for category in file.categories:
        if fault := _category_fault(category, file.sources):
            return f"the category {category.id} {fault}"
    return ""


def _category_fault(category: Category, sources: Mapping[str, Source]) -> str:
    named = (*category.sources, *(name for measure in category.measures for name in measure.sources))
    if unknown := [name for name in named if name not in sources]:
        return f"names the source {unknown[0]!r}, which there is not"
    if not category.measures or not category.cases:
        return "needs a measure and a case"
    if missing := [status for status in STATUSES if status not in category.demands]:
        return f"does not say what follows where it is {missing[0]}"
    for measure in category.measures:
        if fault := _measure_fault(measure):
            return f"has the measure {measure.id}, which {fault}"
    if wrong := [one for one in category.demands.values() if set(one.monitors) - RUNNING]:
        return f"asks for the monitor {min(set(wrong[0].monitors) - RUNNING)}, which no gateway runs"
    if milder := _milder(category.demands):
        return f"asks for less where it is {milder} than where it is below"
    for case in category.cases:
        if (came_to := category.status(case.measures)) != case.status:
            return f"comes to {came_to} in the case that says {case.status}: {case.why}"
    return ""


def _measure_fault(measure: Measure) -> str:
    estimate = measure.estimate
    if not 0 < measure.figure <= 1 or any(not 0 <= one.figure <= 1 for one in measure.published):
        return "has a figure that is no share"
    if estimate.k < 1 or (estimate.kind == "mean" and estimate.k != 1):
        return "has no number of attempts that makes sense"
    if not measure.datasets or any(tasks < 0 for tasks in measure.datasets.values()):
        return "names no datasets with their numbers of tasks"
    if not measure.sources and not measure.ours:
        return "neither has a source nor says what is Lathe's own"
    return ""


def _milder(demands: Mapping[Status, Demand]) -> str:
    """Return the status at which something is asked less strictly than at `below`, "" where there is none."""
    for status in ("reached", "cannot_rule_out", "not_measured"):
        if strictest([demands[status], demands["below"]]) != strictest([demands[status]]):
            return status
    return ""


def strictest(demands: Iterable[Demand]) -> Demand:
    """Return one demand that asks for all that several do."""
    found = list(demands)
    if not found:
        raise ValueError("no demand says nothing of surfaces")
    open_on = set.intersection(*(set(one.surfaces) for one in found))
    words = sorted({word for one in found for word in one.scopes})
    return Demand(
        surfaces={
            surface: max((one.surfaces[surface] for one in found), key=RANK.__getitem__) for surface in sorted(open_on)
        },
        scope=tuple(sorted({word for one in found for word in one.scope})),
        scopes={word: max((one.scopes.get(word, "default") for one in found), key=RANK.__getitem__) for word in words},
        monitors=tuple(sorted({name for one in found for name in one.monitors})),
        fallback=min((one.fallback for one in found), key=FALLBACKS.index),
        stands_in=all(one.stands_in for one in found),
        retention=max((one.retention for one in found), key=KEEPS.__getitem__),
    )
