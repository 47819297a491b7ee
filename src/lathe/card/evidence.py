"""Evidence besides runs: files that benchmarks and gateways wrote. A figure of theirs is looked up, never typed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from lathe.evals.stats.intervals import clopper_pearson
from lathe.guard.reviewed import content_hash, read_reviewed
from lathe.protocol.errors import ConfigError, UsageError

SHIPPED = Path(__file__).parent / "evidence.yaml"
SectionName: TypeAlias = Literal[
    "sandbox", "network", "data_destructive", "injection", "monitors", "access", "enforcement"
]
Step: TypeAlias = str | int
_LARGEST = 64 << 20
_MISSING: Any = object()


class FigureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where in a file a figure stands, and of which kind it is: exactly one of the kinds is given.

    `count` and `of` are paths to numbers, `pair` one to a list of both; `rows` is one to a list, of which those that
    fit `where` count, and those whose `field` is true are the hits; `leaves` is one to tables of texts by name, where
    an empty text is a hit, and the tables of `skip` are left out.
    """

    id: str
    title: str
    count: tuple[Step, ...] = ()
    of: tuple[Step, ...] = ()
    pair: tuple[Step, ...] = ()
    rows: tuple[Step, ...] = ()
    where: dict[str, str] = {}
    field: str = ""
    leaves: tuple[Step, ...] = ()
    skip: tuple[str, ...] = ()
    rate: tuple[Step, ...] = ()
    number: tuple[Step, ...] = ()
    unit: str = ""


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of file: who makes it, which paths it holds, and what is shown of it in which section."""

    id: str
    title: str
    made_by: str
    section: SectionName
    holds: tuple[tuple[Step, ...], ...]
    figures: tuple[FigureSpec, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    kinds: tuple[Kind, ...]


class Kinds(NamedTuple):
    """All kinds; `hash` names this state of them."""

    kinds: tuple[Kind, ...]
    hash: str


@functools.cache
def shipped_kinds() -> Kinds:
    """Return the kinds that Lathe knows; raise `ConfigError`."""
    file = read_reviewed(SHIPPED, _File)
    for kind in file.kinds:
        for one in kind.figures:
            given = (one.count and one.of, one.pair, one.rows and one.field, one.leaves, one.rate, one.number)
            if sum(map(bool, given)) != 1:
                raise ConfigError(f"{SHIPPED}: {kind.id}.{one.id} is not of one kind of figure.", code="evidence")
    return Kinds(file.kinds, content_hash(file))


class Looked(NamedTuple):
    """A figure of a file. `hits` and `of` are given for a share, with the exact interval; else `value` alone.

    `value` may be a text that stands in place of a small number, and None where the file says nothing.
    """

    value: float | str | None
    unit: str = ""
    hits: int | None = None
    of: int | None = None
    low: float | None = None
    high: float | None = None


class EvidenceFile:
    """A file that was read; its kind is known by what it holds, and its figures are looked up in its bytes."""

    def __init__(self, path: Path) -> None:
        """Read a file; raise `UsageError` where it is of no kind that is known."""
        self.path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"The evidence {path} can't be read: {error.strerror}.", code="evidence") from None
        self.bytes = data
        self.digest = hashlib.sha256(data).hexdigest()
        try:
            if len(data) > _LARGEST:
                raise msgspec.DecodeError(f"larger than {_LARGEST:,} bytes")
            self._data: Any = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"The evidence {path} is no JSON: {error}.", code="evidence") from None
        self.kind = self._known()

    def _known(self) -> Kind:
        kinds = shipped_kinds().kinds
        for kind in kinds:
            if all(_at(self._data, steps) is not _MISSING for steps in kind.holds):
                return kind
        makers = "; ".join(kind.made_by for kind in kinds)
        raise UsageError(f"The evidence {self.path} is of no kind that is known.", hint=f"Known: {makers}.")

    @property
    def at(self) -> float | None:
        """When it was made, in seconds since the epoch, where it says so."""
        found = _at(self._data, ("at",))
        if not isinstance(found, int | float) or isinstance(found, bool):
            return None
        return found / 1000 if found > 1e11 else float(found)

    def look(self, spec: FigureSpec, level: float) -> Looked:
        """Return a figure; raise `UsageError` where what stands in its place is none."""
        if spec.rate or spec.number:
            return Looked(self._value(spec.rate or spec.number), spec.unit)
        hits, of = self._share(spec)
        if not 0 <= hits <= of:
            raise self._wrong(spec)
        if of == 0:
            return Looked(None)
        interval = clopper_pearson(hits, of, level)
        return Looked(hits / of, "", hits, of, interval.low, interval.high)

    def _share(self, spec: FigureSpec) -> tuple[int, int]:
        if spec.count:
            return self._whole(spec, _at(self._data, spec.count)), self._whole(spec, _at(self._data, spec.of))
        if spec.pair:
            pair = _at(self._data, spec.pair)
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._wrong(spec)
            return self._whole(spec, pair[0]), self._whole(spec, pair[1])
        if spec.rows:
            rows = _at(self._data, spec.rows)
            mine = [row for row in rows if all(row.get(key) == value for key, value in spec.where.items())]
            return sum(row.get(spec.field) is True for row in mine), len(mine)
        tables = _at(self._data, spec.leaves)
        texts = [text for name, table in tables.items() if name not in spec.skip for text in table.values()]
        return sum(text == "" for text in texts), len(texts)

    def _value(self, steps: Sequence[Step]) -> float | str | None:
        found = _at(self._data, steps)
        if isinstance(found, str):
            return found[:100]
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def _whole(self, spec: FigureSpec, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(spec)
        return value

    def _wrong(self, spec: FigureSpec) -> UsageError:
        return UsageError(f"The evidence {self.path} has no figure for {spec.title!r}.", code="evidence")


def read_evidence(paths: Iterable[Path]) -> list[EvidenceFile]:
    """Return files by the order of their kinds; raise `UsageError` for two of one kind."""
    found: dict[str, EvidenceFile] = {}
    for path in paths:
        one = EvidenceFile(path)
        if one.kind.id in found:
            raise UsageError(f"{found[one.kind.id].path} and {path} are both evidence of one kind: {one.kind.title}.")
        found[one.kind.id] = one
    return [found[kind.id] for kind in shipped_kinds().kinds if kind.id in found]


def _at(data: Any, steps: Sequence[Step]) -> Any:
    """Return what stands at a path, `_MISSING` where nothing does."""
    for step in steps:
        if isinstance(data, list):
            data = data[step] if isinstance(step, int) and step < len(data) else _MISSING
        else:
            data = data.get(step, _MISSING) if isinstance(data, dict) else _MISSING
    return data
