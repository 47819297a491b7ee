"""Inputs for a function: those that its tests used, changed a little, and those that its annotations allow.

What the observed arguments have in common (never negative, always sorted, never empty) is kept by most of the changed
ones, because a function need not work beyond what it is meant for; a few go beyond, and say so.
"""

from __future__ import annotations

import collections.abc
import copy
import enum
import itertools
import math
import random
import types
import typing
from typing import Any, NamedTuple

_BEYOND = 0.2  # of the changed inputs may leave what was observed
_MAX_LENGTH = 60
_LETTERS = "ab zA0_-."


class Call(NamedTuple):
    """Arguments for the function numbered `function`.

    `origin` is passing, failing (of the test that made the call, or of the call it was changed from) or typed;
    `usual` says whether it keeps to what was observed; `changes` counts how far it is from an observed call.
    """

    function: int
    positional: tuple[Any, ...]
    keywords: dict[str, Any]
    origin: str
    usual: bool
    changes: int


class Habits:
    """What the values seen at one place have in common."""

    def __init__(self) -> None:
        self.negative = self.zero = self.empty = self.unsorted = self.repeated = False
        self.lists = 0
        self.largest = 0
        self.letters: set[str] = set()

    def see(self, value: Any) -> None:
        """Take note of a value."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self.negative = self.negative or value < 0
            self.zero = self.zero or value == 0
            if math.isfinite(value):
                self.largest = max(self.largest, int(min(abs(value), 1e6)))
        elif isinstance(value, (str, bytes)):
            self.empty = self.empty or not value
            self.letters.update(value if isinstance(value, str) else "")
        elif isinstance(value, (list, tuple)):
            self.empty = self.empty or not value
            try:
                self.unsorted = self.unsorted or any(a > b for a, b in itertools.pairwise(value))
                self.repeated = self.repeated or any(a == b for a, b in itertools.pairwise(value))
            except TypeError:
                self.unsorted = True
            self.lists += len(value) > 2
        elif isinstance(value, (dict, set, frozenset)):
            self.empty = self.empty or not value

    def allow(self, value: Any) -> bool:
        """Return whether `value` keeps the habits."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < 0 and not self.negative:
                return False
            return (value != 0 or self.zero) and abs(value) <= 4 * self.largest + 10
        if isinstance(value, (list, tuple)) and self.sorts and _sorted(list(value)) != list(value):
            return False
        if isinstance(value, str) and not self.letters.issuperset(value):
            return False
        if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)):
            return bool(value) or self.empty
        return True

    @property
    def sorts(self) -> bool:
        """Whether every list was in order, and there were enough to say so."""
        return self.lists >= 2 and not self.unsorted


class Mutator:
    """Changes values a little, the same way every time for one seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._habits: dict[object, Habits] = {}
        self._beyond = False

    def observe(self, value: Any, place: object, depth: int = 0) -> None:
        """Learn the habits of the values at `place`, and of what they hold."""
        self._habits.setdefault((place, depth, _kind(value)), Habits()).see(value)
        if depth < 4:
            for item in _held(value):
                self.observe(item, place, depth + 1)

    def call(self, observed: list[Call]) -> Call | None:
        """Return a changed call of one function; `None` where nothing could be changed."""
        choose = self._random
        base = choose.choice(observed)
        self._beyond = choose.random() < _BEYOND
        positional, keywords = copy.deepcopy((base.positional, base.keywords))
        values: list[Any] = list(positional)
        places: list[Any] = [*range(len(values)), *sorted(keywords)]
        if not places:
            return None
        times = choose.choice((1, 1, 1, 2, 2, 3))
        changed = 0
        for _ in range(times):
            place = choose.choice(places)
            old = values[place] if isinstance(place, int) else keywords[place]
            new = (
                self._from_another(observed, place)
                if choose.random() < 0.2
                else self.change(old, (base.function, place))
            )
            changed += _differs(old, new)
            if isinstance(place, int):
                values[place] = new
            else:
                keywords[place] = new
        if not changed:
            return None
        usual = not self._beyond or self._is_usual(base.function, values, keywords)
        return Call(base.function, tuple(values), keywords, base.origin, usual, changed)

    def _from_another(self, observed: list[Call], place: Any) -> Any:
        other = self._random.choice(observed)
        if isinstance(place, int):
            return copy.deepcopy(other.positional[place]) if place < len(other.positional) else None
        return copy.deepcopy(other.keywords.get(place))

    def _is_usual(self, function: int, values: list[Any], keywords: dict[str, Any]) -> bool:
        every = [*enumerate(values), *keywords.items()]
        return all(self._allows(value, (function, place), 0) for place, value in every)

    def _allows(self, value: Any, place: object, depth: int) -> bool:
        habits = self._habits.get((place, depth, _kind(value)))
        if habits is None or not habits.allow(value):
            return False
        return depth >= 4 or all(self._allows(item, place, depth + 1) for item in _held(value))

    def change(self, value: Any, place: object, depth: int = 0) -> Any:
        """Return a changed value of the same kind, or the same where it cannot be changed."""
        habits = self._habits.get((place, depth, _kind(value)))
        for _ in range(8):
            new = self._changed(value, place, depth, habits)
            if self._beyond or habits is None or habits.allow(new):
                return new
        return value

    def _changed(self, value: Any, place: object, depth: int, habits: Habits | None) -> Any:
        choose = self._random
        if isinstance(value, bool):
            return not value
        if isinstance(value, enum.Enum):
            return choose.choice(list(type(value)))
        if isinstance(value, int) and type(value) is int:
            return choose.choice((value + 1, value - 1, 0, 1, 2, -value, value * 2, value // 2, value + 10, 3, 5, 7))
        if type(value) is float:
            return choose.choice((value + 1, value - 1, 0.0, -value, value * 2, value / 2, value + 0.5, 1.0))
        if type(value) is str:
            return self._text(value, habits)
        if type(value) is bytes:
            return self._text(value.decode("latin-1"), None).encode("latin-1", "ignore")
        return value if depth >= 4 else self._rebuilt(value, place, depth, habits)

    def _rebuilt(self, value: Any, place: object, depth: int, habits: Habits | None) -> Any:
        """Return a container or an object with a part of it changed."""
        if type(value) in (list, tuple):
            items = self._items(list(value), place, depth)
            if habits is not None and habits.sorts and not self._beyond:
                items = _sorted(items)
            return type(value)(items)
        if type(value) in (set, frozenset):
            return type(value)(_hashable(self._items(_sorted(list(value)), place, depth)))
        if type(value) is dict:
            return self._mapping(value, place, depth)
        return self._object(value, place, depth)

    def _text(self, text: str, habits: Habits | None) -> str:
        choose = self._random
        letters = sorted(habits.letters) if habits is not None and habits.letters and not self._beyond else _LETTERS
        at = choose.randrange(len(text) + 1)
        letter = choose.choice(letters)
        return choose.choice(
            (
                text[:at] + text[at + 1 :],
                text[:at] + letter + text[at:],
                text[:at] + letter + text[at + 1 :],
                text[:at] + text[at : at + 1] + text[at:],
                text[::-1],
                (text + text)[:_MAX_LENGTH],
                text[:at],
                text[at:],
                letter,
                "",
                text.swapcase() if self._beyond else text[at:] + text[:at],
            )
        )

    def _items(self, items: list[Any], place: object, depth: int) -> list[Any]:
        choose = self._random
        if not items:
            return items
        at = choose.randrange(len(items))
        other = choose.randrange(len(items))
        match choose.randrange(9):
            case 0:
                del items[at]
            case 1:
                items.insert(at, copy.deepcopy(items[other]))
            case 2:
                items[at], items[other] = items[other], items[at]
            case 3 | 4 | 5:
                items[at] = self.change(items[at], place, depth + 1)
            case 6:
                items.append(self.change(copy.deepcopy(items[at]), place, depth + 1))
            case 7:
                items = items[: at + 1] if choose.random() < 0.7 else []
            case _:
                items.reverse()
        return items[:_MAX_LENGTH]

    def _mapping(self, value: dict[Any, Any], place: object, depth: int) -> dict[Any, Any]:
        choose = self._random
        if not value:
            return value
        new = dict(value)
        key = choose.choice(list(new))
        match choose.randrange(4):
            case 0:
                del new[key]
            case 1 | 2:
                new[key] = self.change(new[key], place, depth + 1)
            case _:
                for fresh in _hashable([self.change(key, place, depth + 1)]):
                    new[fresh] = copy.deepcopy(new[key])
        return new

    def _object(self, value: Any, place: object, depth: int) -> Any:
        """Change one plain attribute of an object; what it holds otherwise stays."""
        content = getattr(value, "__dict__", None)
        if not isinstance(content, dict) or isinstance(value, (type, types.ModuleType, types.FunctionType)):
            return value
        plain = [name for name, item in content.items() if isinstance(item, (int, float, str, list, dict, tuple, set))]
        if plain:
            name = self._random.choice(plain)
            content[name] = self.change(content[name], place, depth + 1)
        return value


_SAMPLES: dict[Any, list[Any]] = {
    int: [0, 1, 2, 3, 5, 10, -1, -2, 100], float: [0.0, 1.0, -1.5, 0.1, 100.0], bool: [True, False],
    str: ["", "a", "ab", "A b", "aa", "0", "a-b", "é"], bytes: [b"", b"a", b"ab"], type(None): [None], None: [None],
}  # fmt: skip


def typed(function: int, parameters: list[tuple[str, Any]], count: int, seed: int = 0) -> list[Call]:
    """Return calls made from annotations alone; an empty list where one has no plain values to offer."""
    choose = random.Random(seed)
    calls = []
    for _ in range(count):
        try:
            values = tuple(_of_hint(hint, choose, 0) for _, hint in parameters)
        except LookupError:
            return []
        calls.append(Call(function, values, {}, "typed", False, 9))
    return calls


def by_hypothesis(function: int, parameters: list[tuple[str, Any]], count: int) -> list[Call]:
    """Return calls that Hypothesis makes from the annotations, the same every time; needs `hypothesis` installed."""
    import hypothesis
    from hypothesis import strategies

    found: list[Call] = []
    every = list(hypothesis.HealthCheck)

    @hypothesis.settings(
        max_examples=count, database=None, derandomize=True, deadline=None, suppress_health_check=every,
        phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(strategies.tuples(*(strategies.from_type(hint) for _, hint in parameters)))
    def collect(values: tuple[Any, ...]) -> None:
        found.append(Call(function, values, {}, "typed", False, 9))

    collect()
    return found


def _of_hint(hint: Any, choose: random.Random, depth: int) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SAMPLES:
        return choose.choice(_SAMPLES[hint])
    if origin in (typing.Union, types.UnionType):
        return _of_hint(choose.choice(inner), choose, depth)
    if origin is typing.Literal:
        return choose.choice(inner)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return choose.choice(list(hint))
    if depth > 2:
        raise LookupError(hint)
    return _container(origin or hint, inner, choose, depth)


def _container(kind: Any, inner: tuple[Any, ...], choose: random.Random, depth: int) -> Any:
    """Return a container of a kind, with what annotations say of its items."""
    size = choose.choice((0, 1, 1, 2, 3, 5))
    if kind in (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection) and inner:
        return [_of_hint(inner[0], choose, depth + 1) for _ in range(size)]
    if kind in (set, frozenset) and inner:
        return kind(_of_hint(inner[0], choose, depth + 1) for _ in range(size))
    if kind in (dict, collections.abc.Mapping, collections.abc.MutableMapping) and len(inner) == 2:
        return {_of_hint(inner[0], choose, depth + 1): _of_hint(inner[1], choose, depth + 1) for _ in range(size)}
    if kind is tuple and inner:
        if inner[-1] is Ellipsis:
            return tuple(_of_hint(inner[0], choose, depth + 1) for _ in range(size))
        return tuple(_of_hint(item, choose, depth + 1) for item in inner)
    raise LookupError(kind)


def _kind(value: Any) -> str:
    return type(value).__name__


def _held(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)[:_MAX_LENGTH]
    if isinstance(value, dict):
        return [*list(value)[:20], *list(value.values())[:20]]
    return []


def _differs(old: Any, new: Any) -> bool:
    if old is new and hasattr(old, "__dict__"):
        return True  # changed in place
    try:
        return type(old) is not type(new) or bool(old != new)
    except Exception:
        return True


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return items


def _hashable(items: list[Any]) -> list[Any]:
    kept = []
    for item in items:
        try:
            hash(item)
        except TypeError:
            continue
        kept.append(item)
    return kept
