"""A request's conversation as the guard sees it: what is new in it, what was judged before, what is set aside.

Elements that were looked at and served are known again by a hash of their bytes, so a conversation that is sent again
costs a hash for each of its elements and a judgement only for what is new.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from lathe.gateway.dialects.base import BadRequest
from lathe.gateway.dialects.fields import Fields, rewritten
from lathe.gateway.guarding.pieces import BESIDE, FIELDS, Piece, developers, is_models, pieces_of, withheld
from lathe.guard.quarantine import Blocked, identity, notice_line
from lathe.models.provider import WireName

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder()
_MOST = 20_000


class Heard(NamedTuple):
    """What is kept of an element: the identities of its pieces, and which of them a person said."""

    items: tuple[bytes, ...]
    persons: tuple[bool, ...]


class Passed:
    """Elements that were judged and served, with how they were judged in their keys; the oldest are forgotten."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Heard] = OrderedDict()

    def get(self, key: bytes) -> Heard | None:
        """Return what is kept of an element, None where it is not known."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def add(self, key: bytes, heard: Heard) -> None:
        """Keep an element."""
        self._known[key] = heard
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class Unseen(NamedTuple):
    """A piece that is to be judged: its name, the number of its element and its own in there, and whether it is new.

    Words of the developer's before all have the number -1, and what stands beside a conversation a lower one: that is
    never set aside.
    """

    name: str
    number: int
    place: int
    piece: Piece
    item: bytes
    new: bool


class Conversation:
    """The conversation of one request. Raises `BadRequest` where it can't be read."""

    def __init__(self, wire: WireName, fields: Fields, context: bytes, passed: Passed) -> None:
        self._wire = wire
        self._passed = passed
        self._fields = fields
        main, before = FIELDS[wire]
        self._main, self._before = main, before
        self._raws = self._read(main)
        self._decoded: dict[int, Any] = {}
        self._keys: list[bytes] = []
        self._heard: list[Heard] = []
        self.unseen: list[Unseen] = []
        begins = self._begin()
        for number, raw in enumerate(self._raws):
            key = hashlib.blake2b(raw, key=context, digest_size=16).digest()
            heard = passed.get(key)
            if heard is None:
                heard = self._look(number, pieces_of(wire, self._element(number)), number >= begins)
            self._keys.append(key)
            self._heard.append(heard)
        self._beside: dict[str, tuple[bytes, Heard]] = {}
        for number, field in enumerate((before, *BESIDE[wire]), 1):
            if field in fields:
                raw = fields[field].raw
                key = hashlib.blake2b(raw, key=context, digest_size=16, person=field[:16].encode()).digest()
                heard = passed.get(key)
                if heard is None:
                    heard = self._look(-number, developers(self._plain(raw, field)), new=False)
                self._beside[field] = (key, heard)

    def _read(self, field: str) -> list[msgspec.Raw]:
        if field not in self._fields:
            return []
        raw = self._fields[field].raw
        if bytes(memoryview(raw)[:1]) != b"[":
            return [raw]
        try:
            return _elements.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _unreadable(field) from None

    def _plain(self, raw: msgspec.Raw, field: str) -> Any:
        try:
            return _anything.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _unreadable(field) from None

    def _element(self, number: int) -> Any:
        if number not in self._decoded:
            self._decoded[number] = self._plain(self._raws[number], self._main)
        return self._decoded[number]

    def _begin(self) -> int:
        """Return where what is new begins: after the model's last words but those that it is to go on from."""
        at = len(self._raws)
        while at and is_models(self._wire, self._element(at - 1)):
            at -= 1
        while at and not is_models(self._wire, self._element(at - 1)):
            at -= 1
        return at

    def _look(self, number: int, pieces: list[Piece], new: bool) -> Heard:
        found = []
        for piece in pieces:
            item = bytes.fromhex(identity(piece.item))
            found.append(item)
            where = f"item_{number}" if number >= 0 else (self._before, *BESIDE[self._wire])[-number - 1]
            name = where if len(pieces) == 1 else f"{where}.{len(found) - 1}"
            self.unseen.append(Unseen(name, number, len(found) - 1, piece, item, new))
        return Heard(tuple(found), tuple(one.kind == "said" and one.provenance == "person" for one in pieces))

    def items(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the identities of all pieces in order, with whether a person said it."""
        for heard in self._heard:
            yield from zip(heard.items, heard.persons, strict=True)

    def recent(self, most: int = 4) -> Iterator[Piece]:
        """Yield the pieces right before what is new, the newest last."""
        begin = next((one.number for one in self.unseen if one.new), len(self._raws))
        for number in range(max(0, begin - most), max(0, begin)):
            yield from pieces_of(self._wire, self._element(number))

    @property
    def last_words(self) -> tuple[int, int]:
        """The last text of the person's: the number of its element, and its own in there; (-1, -1) for none."""
        for number in range(len(self._heard) - 1, -1, -1):
            persons = self._heard[number].persons
            if any(persons):
                return number, len(persons) - 1 - persons[::-1].index(True)
        return -1, -1

    def first_words(self) -> bytes:
        """Return the identity of the first thing that a person said, b"" where nobody said anything."""
        return next((item for item, person in self.items() if person), b"")

    def without(self, blocked: Mapping[bytes, Blocked], body: bytes, *, keep: frozenset[bytes] = frozenset()) -> bytes:
        """Return the body with a stand-in for each piece that is blocked, but for those to `keep`.

        A call that is set aside takes its output with it. Where nothing is blocked the bytes stay as they are.
        """
        calls: dict[str, Blocked] = {}
        changed: dict[int, Any] = {}
        for number, heard in enumerate(self._heard):
            hit = any(item in blocked and item not in keep for item in heard.items)
            if not hit and not calls:
                continue
            element = self._element(number)
            instead: list[tuple[Piece, str]] = []
            for piece, item in zip(pieces_of(self._wire, element), heard.items, strict=True):
                why = blocked.get(item) if item not in keep else None
                call_id = getattr(piece.item, "call_id", "")
                if piece.kind == "call" and why is not None:
                    calls[call_id] = why
                elif piece.kind == "output" and why is None:
                    why = calls.get(call_id)
                if why is not None:
                    instead.append((piece, notice_line(why)))
            # from the last block to the first, for a stand-in may take the place of several
            for piece, notice in sorted(instead, key=lambda one: -one[0].at):
                element = withheld(self._wire, element, piece, notice) if element is not None else None
                changed[number] = element
        fields: dict[str, bytes | None] = {}
        if changed:
            kept = [changed.get(number, raw) for number, raw in enumerate(self._raws)]
            fields[self._main] = msgspec.json.encode([one for one in kept if one is not None])
        _, before = self._beside.get(self._before, (b"", Heard((), ())))
        if why := next((blocked[item] for item in before.items if item in blocked and item not in keep), None):
            fields[self._before] = msgspec.json.encode(notice_line(why))
        return rewritten(body, self._fields, fields) if fields else body

    def remember(self, blocked: Mapping[bytes, Blocked]) -> None:
        """Have it known that all of this was judged and served, but for elements with something that is set aside."""
        for key, heard in (*zip(self._keys, self._heard, strict=True), *self._beside.values()):
            if not any(item in blocked for item in heard.items):
                self._passed.add(key, heard)


def _unreadable(field: str) -> BadRequest:
    return BadRequest("invalid_json", f"The field `{field}` can't be read.", param=field)
