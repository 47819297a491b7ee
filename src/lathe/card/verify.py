"""Verification: whether a card is what its journals and files give today, with a sentence for each way in which not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from lathe import __version__
from lathe.card.build import RECORD, THRESHOLDS, Card, CardRecord, sha256
from lathe.card.classify import ClassificationRecord, ReadingRecord
from lathe.card.evidence import shipped_kinds
from lathe.card.runs import Run, changed
from lathe.card.sources import CardSources
from lathe.card.thresholds import Thresholds, shipped
from lathe.gateway.refusals import moment
from lathe.gateway.safeguards import Safeguards
from lathe.protocol.errors import LatheError, UsageError


def verify_card(folder: Path, *, now: int) -> list[str]:
    """Return what is wrong with a card, nothing where all is as its sources give it.

    `now` is milliseconds since the epoch. Raises `UsageError` where there is no card.
    """
    path = folder / RECORD
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"There is no card in {folder}: {path.name} can't be read ({error.strerror}).", hint="lathe card build"
        ) from None
    try:
        record = msgspec.json.decode(data, type=CardRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [f"{RECORD} is not what it should be: {error}."]
    found = [*_inputs(folder, record), *_outdated(folder, record, now)]
    try:
        thresholds = Thresholds.load(folder / THRESHOLDS)
        of = CardSources(
            [folder / one.path for one in record.runs],
            model=record.model,
            issued=record.issued,
            thresholds=thresholds,
            evidence=[folder / "evidence" / f"{one.kind}.json" for one in record.evidence],
            served_as=record.served_as,
            fallbacks=record.fallbacks,
        )
        card = Card(of, folder, (folder / THRESHOLDS).read_bytes(), lathe=record.lathe)
    except LatheError as error:
        return found or [error.message]
    found += _figures(record, card.record)
    return [*found, *_files(folder, record, card, explained=bool(found))]


def _inputs(folder: Path, record: CardRecord) -> Iterator[str]:
    for one in record.runs:
        path = folder / one.path
        if not (path / "plan.json").is_file():
            yield f"The run {one.digest.id} is not at {one.path} any more."
            continue
        try:
            yield from changed(one.digest, Run(path).digest)
        except LatheError as error:
            yield error.message
    for kind in record.evidence:
        name = f"evidence/{kind.kind}.json"
        if not (folder / name).is_file():
            yield f"{name} is gone."


def _outdated(folder: Path, record: CardRecord, now: int) -> Iterator[str]:
    """Yield what has been overtaken: thresholds, kinds of evidence, the taxonomy, and the time."""
    try:
        own = Thresholds.load(folder / THRESHOLDS).hash
    except LatheError as error:
        yield error.message
        return
    if own != record.thresholds:
        yield f"{THRESHOLDS} is not the file that the card was classified by."
    if not record.own_thresholds and shipped().hash != record.thresholds:
        yield "Lathe's thresholds have changed since the card was built."
    if shipped_kinds().hash != record.kinds:
        yield "Lathe knows other kinds of evidence than when the card was built."
    end = _end(folder)
    if end is not None and end <= now:
        yield f"The safeguards of the card held until {moment(end)}."


def _end(folder: Path) -> int | None:
    try:
        return msgspec.json.decode((folder / "safeguards.json").read_bytes(), type=Safeguards).expires
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # that it is not what it should be is said where files are compared


def _figures(old: CardRecord, new: CardRecord) -> Iterator[str]:
    """Yield each figure and each classification that the sources give otherwise than the record says."""
    was, is_now = _readings(old.classification), _readings(new.classification)
    was |= {f"baseline on {one.dataset}": one for one in old.baseline}
    is_now |= {f"baseline on {one.dataset}": one for one in new.baseline}
    for name in sorted(was.keys() | is_now.keys()):
        if was.get(name) != is_now.get(name):
            before, now = _said(was.get(name)), _said(is_now.get(name))
            yield f"The figure {name} is {before} in the card, and {now} by the journals."
    statuses = {one.id: one.status for one in new.classification.categories}
    for category in old.classification.categories:
        if (status := statuses.get(category.id)) != category.status:
            yield f"The category {category.id} is {category.status} in the card, and {status} by the journals."
    looked = {(kind.kind, one.id): one for kind in new.evidence for one in kind.figures}
    for kind in old.evidence:
        for one in kind.figures:
            other = looked.get((kind.kind, one.id))
            if other != one:
                says = other.value if other is not None else "nothing"
                yield f"The figure {kind.kind}.{one.id} is {one.value} in the card, and {says} in its file."


def _readings(record: ClassificationRecord) -> dict[str, ReadingRecord]:
    return {
        f"{measure.id} on {reading.dataset}": reading
        for category in record.categories
        for measure in category.measures
        for reading in measure.readings
    }


def _said(one: ReadingRecord | None) -> str:
    if one is None:
        return "not there"
    value = "unknown" if one.value is None else f"{one.value:.4f}"
    return f"{value} ({one.low:.4f} to {one.high:.4f}; {one.trials} trials, {sum(one.doubts.values())} in doubt)"


def _files(folder: Path, record: CardRecord, card: Card, *, explained: bool) -> Iterator[str]:
    """Yield each file that is not what the sources give; where that is `explained`, only those edited by hand."""
    follows = True
    for name, data in card.files.items():
        try:
            here = (folder / name).read_bytes()
        except OSError:
            yield f"{name} is gone."
            continue
        if name != RECORD and sha256(here) != record.files.get(name):
            yield f"{name} has been edited since the card was built."
        else:
            follows = follows and here == data
    if follows or explained:
        return
    if record.lathe == __version__:
        yield f"{RECORD} has been edited: it is not what the journals give."
    else:
        yield f"The card was written by Lathe {record.lathe}, and Lathe {__version__} writes it otherwise."
