"""Fields and values of Sigma rules: modifiers, wildcards, and what a text must hold for a rule to be worth a look.

Facts: the Sigma specification 2.1.0, appendix on modifiers. Values compare without regard to case, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import product
from typing import Any, Literal, NamedTuple, TypeAlias


class Fields(NamedTuple):
    """An event: its fields as they are, and in lower case."""

    raw: dict[str, str]
    lower: dict[str, str]


Check: TypeAlias = Callable[[Fields], bool]


class Clue(NamedTuple):
    """What a text must hold, in one of several ways, for a rule to be worth a look.

    `programs` are words of the text, `pieces` parts of it, both in lower case; `patterns` are found in it.
    """

    programs: frozenset[str] = frozenset()
    pieces: frozenset[str] = frozenset()
    patterns: frozenset[re.Pattern[str]] = frozenset()

    def __or__(self, other: tuple[Any, ...]) -> Clue:
        """Return the clue that is there where one of both is."""
        return Clue(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def worth(self) -> tuple[bool, int, int]:
        """How much it rules out, and how cheaply: compares with that of others."""
        cheap = bool(self.programs) and not self.pieces and not self.patterns
        shortest = min(map(len, self.pieces), default=0) if not self.patterns else 0
        return cheap, shortest, -len(self.pieces) - len(self.patterns)


Clues: TypeAlias = tuple[Clue, ...]
"""All of these must be there, the most telling first; (): nothing can be said."""
NEVER = Clue()
"""What no text holds."""
PARENT = "/usr/bin/bash"
"""What starts every command here."""


class Probe(NamedTuple):
    """A check and its clues."""

    check: Check
    clues: Clues


_MODIFIERS = frozenset({"contains", "startswith", "endswith", "all", "re", "cased", "i", "m", "s", "exists"})
_WRITTEN = frozenset({"CommandLine", "Image", "TargetFilename"})
"""Fields that are made of what the command line says."""
_FIRST = re.compile(r"([\w.+-]+)\s")
_LONGEST = 16_000
_MOST_CLUES = 12
_PIECE = re.compile(r"\\([*?\\])|([*?])|([^*?\\]+|\\)", re.DOTALL)
_NAME = re.compile(r"[\w.+-]+")
_COUNT = re.compile(r"\{[\d,]*\}")
_TELLING = re.compile(r"(?<!\\)[A-Za-z0-9/=-]")
_ANCHOR = re.compile(r"[$^]|\\[AZ]|\(\?<?[=!]")
_FOLDERS = re.compile(r"[\s'\"\\`$/]+")
_BREAKS = re.compile(r"[\s'\"\\`$]+")


def both(tests: Sequence[Probe]) -> Probe:
    """Return a test that holds where all do."""
    if len(tests) == 1:
        return tests[0]
    clues = dict.fromkeys(clue for test in tests for clue in test.clues)
    first, *rest = [test.check for test in sorted(tests, key=lambda test: not (test.clues and test.clues[0].worth[0]))]
    if len(rest) == 1:
        second = rest[0]
        return Probe(lambda fields: first(fields) and second(fields), _sorted(clues))
    return Probe(lambda fields: first(fields) and all(check(fields) for check in rest), _sorted(clues))


def either(tests: Sequence[Probe]) -> Probe:
    """Return a test that holds where one does."""
    if len(tests) == 1:
        return tests[0]
    checks = [test.check for test in tests]
    ways: list[Clues] = [test.clues for test in tests]
    count = math.prod(map(len, ways))  # 0 where one has none: then nothing can be said
    if count > _MOST_CLUES:  # each by its best clue, by its second best and so on
        deepest = max(map(len, ways))
        combined = [[clues[min(at, len(clues) - 1)] for clues in ways] for at in range(deepest)]
    else:
        combined = [list(way) for way in product(*ways)]
    clues = dict.fromkeys(reduce(Clue.__or__, way) for way in combined)
    return Probe(lambda fields: any(check(fields) for check in checks), _sorted(clues))


def _sorted(clues: Iterable[Clue]) -> Clues:
    return tuple(sorted(clues, key=lambda clue: clue.worth, reverse=True)[:_MOST_CLUES])


def field_test(spelled: str, wanted: Any) -> Probe:
    """Return the test of `field|modifier…: values`; raise `ValueError` with the reason where it can't be used."""
    field, *modifiers = spelled.split("|")
    strange = [name for name in modifiers if name not in _MODIFIERS]
    if strange:
        raise ValueError(f"the modifier {strange[0][:40]!r} is not among those that are read")
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values:
        raise ValueError(f"{spelled[:80]!r} has no value")
    if "exists" in modifiers:
        return Probe(lambda fields: (field in fields.raw) is bool(values[0]), ())
    if "all" in modifiers:
        return both([_any_of(field, modifiers, [value]) for value in values])
    return _any_of(field, modifiers, values)


def _any_of(field: str, modifiers: Sequence[str], values: Sequence[Any]) -> Probe:
    """Return the test that a field has one of the values. Those of one simple form are tried together."""
    tests: list[Probe] = []
    forms: dict[_Form, list[_Parts]] = {}
    cased = "cased" in modifiers
    for value in values:
        if isinstance(value, dict | list):
            raise ValueError(f"a value of {field[:40]!r} is neither text nor number")
        if value is None:
            tests.append(Probe(lambda fields: not fields.raw.get(field), ()))
        elif "re" in modifiers:
            tests.append(_pattern_test(field, modifiers, str(value)))
        else:
            parts = _parts(str(value))
            if "contains" in modifiers or "endswith" in modifiers:
                parts.insert(0, None)
            if "contains" in modifiers or "startswith" in modifiers:
                parts.append(None)
            form = _form(parts)
            if form is None:
                tests.append(Probe(_wildcard_check(field, parts, cased), _clues(field, parts)))
            else:
                forms.setdefault(form, []).append(parts)
    for form, alike in forms.items():
        wanted = tuple("".join(part or "" for part in parts) for parts in alike)
        check = _simple_check(field, form, wanted if cased else tuple(map(str.lower, wanted)), cased)
        tests.append(Probe(check, either([Probe(check, _clues(field, parts)) for parts in alike]).clues))
    test = either(tests)
    return test if field in _WRITTEN else Probe(test.check, _constant(field, test.check))


def _constant(field: str, check: Check) -> Clues:
    """Return the clues of a test of a field that no command says: of two of them something is known."""
    known = {"ParentImage": PARENT} if field == "ParentImage" else {}
    possible = field == "CurrentDirectory" or check(Fields(known, known))
    return () if possible else (NEVER,)


def _pattern_test(field: str, modifiers: Sequence[str], text: str) -> Probe:
    flags = sum(getattr(re, letter.upper()) for letter in set(modifiers) & {"i", "m", "s"})
    try:
        pattern = re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a pattern of {field[:40]!r} can't be read ({error})") from None
    # without an anchor, a line that holds it stands in a text that holds it
    loose = field == "CommandLine" and not _ANCHOR.search(text) and _TELLING.search(_COUNT.sub("", text)) is not None
    clues = (Clue(patterns=frozenset({pattern})),) if loose else ()
    return Probe(lambda fields: pattern.search(fields.raw.get(field, "")[:_LONGEST]) is not None, clues)


_Parts: TypeAlias = list[str | None]
"""A value in pieces: literal text, "" for one unknown letter (`?`), None for any text (`*`)."""


def _parts(text: str) -> _Parts:
    parts: _Parts = []
    for escaped, wild, plain in _PIECE.findall(text):
        if wild:
            parts.append(None if wild == "*" else "")
        elif parts and parts[-1]:
            parts[-1] += escaped or plain
        else:
            parts.append(escaped or plain)
    return parts


_Form: TypeAlias = Literal["anything", "nothing", "contains", "startswith", "endswith", "equals"]


def _form(parts: _Parts) -> _Form | None:
    """Return how a value compares, None where it takes a pattern."""
    solid = [part for part in parts if part]
    if "" in parts or len(solid) > 1:
        return None
    if not solid:
        return "anything" if parts else "nothing"
    match parts[0] is None, parts[-1] is None:
        case True, True:
            return "contains"
        case True, False:
            return "endswith"
        case False, True:
            return "startswith"
        case _:
            return "equals"


def _simple_check(field: str, form: _Form, wanted: tuple[str, ...], cased: bool) -> Check:
    side = 0 if cased else 1  # Fields.raw or Fields.lower
    only = wanted[0]
    match form:
        case "anything":
            return lambda fields: field in fields.raw
        case "nothing":
            return lambda fields: not fields.raw.get(field)
        case "contains" if len(wanted) == 1:
            return lambda fields: only in fields[side].get(field, "")
        case "contains":
            return lambda fields: _holds(fields[side].get(field, ""), wanted)
        case "startswith":
            return lambda fields: fields[side].get(field, "").startswith(wanted)
        case "endswith":
            return lambda fields: fields[side].get(field, "").endswith(wanted)
        case _:
            return lambda fields: fields[side].get(field) in wanted


def _holds(text: str, wanted: tuple[str, ...]) -> bool:
    for one in wanted:  # noqa: SIM110 (a generator would cost more than what it goes through)
        if one in text:
            return True
    return False


def _wildcard_check(field: str, parts: _Parts, cased: bool) -> Check:
    pattern = "".join(".*" if part is None else "." if part == "" else re.escape(part) for part in parts)
    match = re.compile(pattern, re.DOTALL | (0 if cased else re.IGNORECASE)).fullmatch
    return lambda fields: match(fields.raw.get(field, "")[:_LONGEST]) is not None


def _clues(field: str, parts: _Parts) -> Clues:
    texts = [part for part in parts if part]
    if field == "Image":
        _, slash, name = texts[-1].rpartition("/") if texts else ("", "", "")
        if slash and parts[-1] and _NAME.fullmatch(name):
            return (Clue(programs=frozenset({name.lower()})),)
        # the folder of a program is seldom written, and then added
        texts = [text.rpartition("/")[2] or ("" if text in "/usr/bin/" else text) for text in texts]
    breaks = _FOLDERS if field == "TargetFilename" else _BREAKS  # a command may have gone to the folder before
    pieces = {piece for text in texts for piece in breaks.split(text.lower()) if piece}
    clues = [Clue(pieces=frozenset({piece})) for piece in pieces]
    if field == "CommandLine" and parts and (first := _FIRST.match(parts[0] or "")):  # it begins with the program
        clues.append(Clue(programs=frozenset({first[1].lower()})))
    return _sorted(clues)
