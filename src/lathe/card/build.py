"""A card on disk: computed from its sources, written, and computed anew to see whether it still is what they give.

card.html, card.md    the card, to read
card.json             the same as data, with the digests of all that it was made of
safeguards.json       what `lathe serve --safeguards` takes
thresholds.yaml       the thresholds that it was classified by
evidence/KIND.json    the files that figures were looked up in
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lathe import __version__
from lathe.card.classify import ClassificationRecord, ReadingRecord, reading_record
from lathe.card.evidence import shipped_kinds
from lathe.card.markdown import as_markdown
from lathe.card.page import as_page
from lathe.card.places import Places
from lathe.card.runs import RunDigest
from lathe.card.sources import CardSources
from lathe.card.thresholds import SHIPPED, Thresholds, shipped
from lathe.gateway.safeguards import written
from lathe.protocol.errors import StorageError

RECORD = "card.json"
THRESHOLDS = "thresholds.yaml"


class RunInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run that a card was made of; `path` is relative to the card's folder."""

    path: str
    digest: RunDigest


class LookedUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure that was looked up: which, its value, and for a share the counts and the interval."""

    id: str
    value: float | str | None
    hits: int | None
    of: int | None
    low: float | None
    high: float | None


class EvidenceInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that figures were looked up in, by its kind."""

    kind: str
    digest: str
    figures: tuple[LookedUp, ...]


class CardRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="lathe.card.v1"
):
    """The card as data. `own_thresholds` says that they are not the ones that Lathe comes with.

    `files` are digests of what was written beside it.
    """

    model: str
    served_as: str
    fallbacks: tuple[str, ...]
    issued: int
    lathe: str
    thresholds: str
    own_thresholds: bool
    kinds: str
    taxonomy: str
    runs: tuple[RunInput, ...]
    evidence: tuple[EvidenceInput, ...]
    classification: ClassificationRecord
    baseline: tuple[ReadingRecord, ...]
    safeguards: str
    files: dict[str, str]


class Card:
    """A card in memory: the bytes of each of its files, by name, and its record."""

    def __init__(self, of: CardSources, folder: Path, thresholds: bytes, *, lathe: str = __version__) -> None:
        """Compute the card of sources as it is in `folder`; `thresholds` is the file that they were read from.

        `lathe` is the version that is to have written it.
        """
        places = Places(of, folder)
        files = {
            "card.html": as_page(of, places).encode(),
            "card.md": as_markdown(of, places).encode(),
            "safeguards.json": written(of.safeguards),
            THRESHOLDS: thresholds,
            **{f"evidence/{one.kind.id}.json": one.bytes for one in of.evidence},
        }
        self.record = _record(of, places, {name: sha256(data) for name, data in files.items()}, lathe)
        self.files = {**files, RECORD: msgspec.json.format(msgspec.json.encode(self.record), indent=1) + b"\n"}


def build_card(
    runs: Sequence[Path],
    folder: Path,
    *,
    model: str,
    issued: int,
    evidence: Sequence[Path] = (),
    served_as: str = "",
    fallbacks: Sequence[str] = (),
    thresholds: Path | None = None,
) -> CardSources:
    """Write a card into a folder and return what it is made of.

    `thresholds` is a file of one's own, None for those that Lathe comes with. Raises `UsageError`, `ConfigError` and
    `StorageError`; nothing is written then that was not whole.
    """
    of = CardSources(
        runs,
        model=model,
        issued=issued,
        thresholds=Thresholds.load(thresholds) if thresholds is not None else shipped(),
        evidence=evidence,
        served_as=served_as,
        fallbacks=fallbacks,
    )
    card = Card(of, folder, (thresholds or SHIPPED).read_bytes())
    for kind in shipped_kinds().kinds:  # of a card that was there before
        if (name := f"evidence/{kind.id}.json") not in card.files:
            (folder / name).unlink(missing_ok=True)
    for name, data in card.files.items():  # the record comes last: without it the rest is no card
        _write(folder / name, data)
    return of


def _record(of: CardSources, places: Places, files: dict[str, str], lathe: str) -> CardRecord:
    return CardRecord(
        model=of.model,
        served_as=of.safeguards.model,
        fallbacks=of.fallbacks,
        issued=of.safeguards.issued,
        lathe=lathe,
        thresholds=of.thresholds.hash,
        own_thresholds=of.thresholds.hash != shipped().hash,
        kinds=shipped_kinds().hash,
        taxonomy=of.taxonomy.hash,
        runs=tuple(RunInput(places.run(run.plan.id), run.digest) for run in of.runs),
        evidence=tuple(
            EvidenceInput(
                one.kind.id,
                one.digest,
                tuple(
                    LookedUp(spec.id, found.value, found.hits, found.of, found.low, found.high)
                    for spec in one.kind.figures
                    for found in (one.look(spec, of.thresholds.confidence),)
                ),
            )
            for one in of.evidence
        ),
        classification=of.classification.record,
        baseline=tuple(reading_record(one, "not_measured") for one in of.classification.baseline),
        safeguards=of.safeguards.digest,
        files=files,
    )


def sha256(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error.strerror}.") from None
