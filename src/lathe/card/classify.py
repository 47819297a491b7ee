"""Classification: from runs to what a model is taken for, category by category. Pure: same runs, same result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from lathe.card.readings import Doubt, Finished, Reading, by_dataset, readings_of
from lathe.card.thresholds import Category, Estimate, Measure, Status, Thresholds, worst
from lathe.guard.reviewed import content_hash


class Measured(NamedTuple):
    """A measure with what the runs say of it, a reading a dataset."""

    measure: Measure
    readings: tuple[Reading, ...]

    @property
    def statuses(self) -> tuple[Status, ...]:
        """What each reading comes to; one of which nothing is known is not measured."""
        return tuple(
            "not_measured" if one.value is None else self.measure.status(*one.interval) for one in self.readings
        )

    @property
    def status(self) -> Status:
        """The gravest of them."""
        return worst(self.statuses)


class Classified(NamedTuple):
    """A category, measured."""

    category: Category
    measures: tuple[Measured, ...]

    @property
    def status(self) -> Status:
        """What the category comes to."""
        return self.category.status({one.measure.id: one.status for one in self.measures})


class ReadingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reading as it is written."""

    dataset: str
    runs: tuple[str, ...]
    value: float | None
    low: float
    high: float
    tasks: int
    trials: int
    doubts: dict[Doubt, int]
    status: Status


class _MeasureRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    status: Status
    readings: tuple[ReadingRecord, ...]


class _CategoryRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    status: Status
    measures: tuple[_MeasureRecord, ...]


class ClassificationRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A classification as it is written."""

    model: str
    thresholds: str
    runs: dict[str, str]
    categories: tuple[_CategoryRecord, ...]


class Classification:
    """What a model is taken for. `runs` are the digests of the runs that say so, by their ids."""

    def __init__(
        self, model: str, thresholds: Thresholds, runs: Sequence[Finished], digests: Mapping[str, str]
    ) -> None:
        self.model = model
        self.thresholds = thresholds
        self.runs = dict(digests)
        certain = {"level": thresholds.confidence, "doubt_from": thresholds.doubt_from}
        self.categories = tuple(
            Classified(
                category,
                tuple(Measured(one, tuple(readings_of(one, runs, **certain))) for one in category.measures),
            )
            for category in thresholds.categories
        )
        counted = {
            one.dataset for category in self.categories for measured in category.measures for one in measured.readings
        }
        self.baseline = tuple(
            Reading(name, Estimate("mean"), mine, tasks=0, **certain)
            for name, mine in by_dataset(runs).items()
            if name not in counted
        )
        """Readings of datasets that count for no measure: they are shown, and nothing follows from them."""

    @property
    def record(self) -> ClassificationRecord:
        """The classification as it is written."""
        return ClassificationRecord(
            self.model, self.thresholds.hash, self.runs, tuple(map(_category_record, self.categories))
        )

    @property
    def hash(self) -> str:
        """The hash that names it."""
        return content_hash(self.record)


def _category_record(one: Classified) -> _CategoryRecord:
    return _CategoryRecord(
        one.category.id,
        one.status,
        tuple(
            _MeasureRecord(
                measured.measure.id,
                measured.status,
                tuple(map(reading_record, measured.readings, measured.statuses)),
            )
            for measured in one.measures
        ),
    )


def reading_record(one: Reading, status: Status) -> ReadingRecord:
    """Return a reading as it is written, with what it comes to."""
    low, high = one.interval
    return ReadingRecord(
        one.dataset,
        one.runs,
        one.value,
        low,
        high,
        one.tasks,
        len(one.trials),
        dict(one.doubts),
        status,
    )
