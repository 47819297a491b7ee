"""What the failing tests ask for in so many words: an argument that a call left out, an error that nobody raised."""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Iterator

from lathe.mend.operators.borrowing import borrowed
from lathe.mend.operators.calls import end_of_arguments
from lathe.mend.operators.insertions import guards
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS
from lathe.mend.operators.statements import COMPOUND, SIMPLE, spots
from lathe.mend.operators.texts import quoted

_MOST = 60
_LIKE = 0.8
_PLAIN = ("None", "0", "1", "True", "False", '""', "[]")
_KINDS = ("str", "dict", "list", "(list, tuple)", "int", "tuple", "bytes", "type", "set", "bool", "float")


@operator(ast.Call, kinds=("asked argument",))
def argument(site: Site) -> Iterator[Edit]:
    """A call that lacks an argument, by the error that it raises, with one: of the name that is asked for first."""
    node = site.node
    assert isinstance(node, ast.Call)
    clues, called = site.vocabulary.clues, site.called()
    owner = site.text(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    asked = clues.missing.get(called, [])
    if owner == "super()" or (isinstance(node.func, ast.Name) and node.func.id == "cls"):
        asked = asked or [name for names in clues.missing.values() for name in names]
    if not asked and called not in clues.short:
        return
    for rank, (value, extra) in enumerate(_values(site, node, called, asked)):
        if rank > 2 * _MOST:
            return
        yield from _with_argument(site, node, value, extra + 0.01 * rank)
    for name in asked:
        texts = [name] if name in site.scope.names else list(_PLAIN) + site.names
        for rank, text in enumerate(texts):
            yield from _with_argument(site, node, f"{name}={text}", 0.1 + 0.02 * rank)


def _values(site: Site, node: ast.Call, called: str, asked: list[str]) -> Iterator[tuple[str, float]]:
    if called in ("isinstance", "issubclass"):
        own = [name for name in site.words.top if name[:1].isupper()]
        yield from ((kind, 0.0) for kind in dict.fromkeys([*site.words.kinds, *_KINDS, *own]))
        return
    given = {site.text(one) for one in node.args}
    names = [name for name in site.names if name not in given]
    yield from ((name, 0.0) for name in names if name in asked)
    yield from ((f"self.{name}", 0.0) for name in asked if name in site.vocabulary.members)
    yield from ((name, 0.1) for name in names if name not in asked)
    if "self" in site.scope.names and "self" not in given:
        yield "self", 0.2
    for one in borrowed(site):
        if not isinstance(one.tree, (ast.Name, ast.Constant)) and one.text not in given:
            yield one.text, 0.1 + one.far
    yield from ((text, 0.5) for text in _PLAIN)
    yield from ((name, 0.5) for name in site.words.top if name not in BUILTINS)


def _with_argument(site: Site, node: ast.Call, value: str, extra: float) -> Iterator[Edit]:
    end, comma = end_of_arguments(site, node)
    if "=" in value and value.partition("=")[0].isidentifier():
        yield from site.splice(end, end, f"{comma}{value}", "asked argument", extra)
        return
    starts = [site.source.span(one)[0] for one in node.args[:3]]
    starts += [site.source.span(one)[0] for one in node.keywords[:1]]
    if not node.keywords:
        yield from site.splice(end, end, f"{comma}{value}", "asked argument", extra)
    for rank, start in enumerate(starts):
        yield from site.splice(start, start, f"{value}, ", "asked argument", extra + 0.1 + 0.1 * rank)


@operator(*SIMPLE, *COMPOUND, ast.Pass, kinds=("unset attribute",))
def attribute(site: Site) -> Iterator[Edit]:
    """Insert `self.a = a`, `self.a = None` into `__init__` where the class reads an `a` that nobody sets."""
    place = site.place
    if place is None or site.function is None or site.function.name not in ("__init__", "__new__", "setUp"):
        return
    wanted = site.words.unset(site.scope.owner, site.vocabulary.members_set)
    told = [name for name in site.vocabulary.clues.unset if name in wanted]
    for more, name in enumerate(told or wanted):
        values = [name] if name in site.scope.names else [other for other in site.scope.unread if len(wanted) < 4]
        for rank, value in enumerate([*values, *_PLAIN, "{}", "()", "set()"]):
            extra = (0.0 if told else 0.4) + 0.1 * more + (0.0 if value == name else 0.3 + 0.05 * rank)
            text = f"{place.indent}self.{name} = {value}\n"
            for spot in spots(site):
                yield from site.insert(spot, text, "unset attribute", extra + 0.1 * (spot == place.start))


@operator(ast.Dict, kinds=("asked key",))
def key(site: Site) -> Iterator[Edit]:
    """`{"a": 0}` as `{"a": 0, "b": 0}` where `b` is looked up in vain, with the values that are there."""
    node = site.node
    assert isinstance(node, ast.Dict)
    if not node.values or None in node.keys:
        return
    there = [site.text(one) for one in node.keys if one is not None]
    values = dict.fromkeys([*(site.text(one) for one in reversed(node.values)), *_PLAIN])
    end = site.source.span(node.values[-1])[1]
    for more, name in enumerate(name for name in site.vocabulary.clues.keys if name not in there):
        own = [text for text in (name[1:-1],) if text in site.scope.names]
        for rank, value in enumerate([*own, *values][:30]):
            yield from site.splice(end, end, f", {name}: {value}", "asked key", 0.1 * more + 0.03 * rank)


@operator(ast.Constant, kinds=("asked text",))
def text(site: Site) -> Iterator[Edit]:
    """A text as one that stands in a failing test, and is almost the same."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if not isinstance(value, str) or len(value) < 3 or isinstance(site.parent, (ast.Expr, ast.JoinedStr)):
        return
    if any(_stands_in(value, known) for known in site.vocabulary.clues.texts):
        return
    quote = "'" if site.text(node).startswith("'") else '"'
    found = {near for known in site.vocabulary.clues.texts for near in alike(value, known)}
    for rank, new in enumerate(sorted(found, key=lambda new: -_likeness(value, new))[:6]):
        yield from site.replace(node, quoted(new, quote), "asked text", 0.1 * rank, level=16)


@functools.lru_cache(maxsize=4096)
def alike(value: str, known: str) -> tuple[str, ...]:
    """Return the stretches of `known`, up to the ends of words, that `value` is a slip of the pen of."""
    low, other = value.lower(), known.lower()
    match = difflib.SequenceMatcher(None, other, low, autojunk=False).find_longest_match()
    if 2 * match.size < len(value) or len(other) != len(known):
        return ()
    first = match.a - match.b
    found = []
    for start in range(max(0, first - 1), max(0, first) + 2):
        for end in range(first + len(value) - 1, min(len(known), first + len(value) + 1) + 1):
            piece = known[start:end]
            if piece != value and _is_whole(known, start, end) and _likeness(value, piece) > _LIKE:
                found.append(piece)
    return tuple(found)


def _stands_in(value: str, known: str) -> bool:
    at = known.find(value)
    return at >= 0 and _is_whole(known, at, at + len(value))


def _is_whole(text: str, start: int, end: int) -> bool:
    """Return whether a stretch of `text` begins and ends where words do."""
    begins = start == 0 or not (text[start - 1].isalnum() and text[start : start + 1].isalnum())
    return begins and (end >= len(text) or not (text[end].isalnum() and text[end - 1 : end].isalnum()))


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower(), autojunk=False).ratio()


@operator(*SIMPLE, *COMPOUND, ast.Pass, kinds=("asked error",))
def error(site: Site) -> Iterator[Edit]:
    """Insert `if c: raise E` where a test waits for `E` in vain; `raise E` for an early answer."""
    node, place = site.node, site.place
    assert isinstance(node, ast.stmt)
    expected = site.vocabulary.clues.expected
    if place is None or not expected:
        return
    raised = [text for name in expected[:3] for text in _raised(site, name)]
    if isinstance(node, (ast.Return, ast.Pass, ast.Continue, ast.Break)):
        for rank, text in enumerate(raised):
            yield from site.splice(*site.source.span(node), f"raise {text}", "asked error", 0.1 * rank)
    for rank, text in enumerate(raised):
        deed = f"{place.indent}raise {text}\n"
        yield from site.insert(place.end, deed, "asked error", 0.4 + 0.1 * rank)
    for test, extra in guards(site):
        for rank, text in enumerate(raised[:2]):
            deed = f"{place.indent}if {test}:\n{place.indent}{place.step}raise {text}\n"
            yield from site.insert(place.start, deed, "asked error", extra + 0.2 * rank)


def _raised(site: Site, name: str) -> list[str]:
    """Return how an error can be raised here: as elsewhere in the file with names that are known, else plainly."""
    known = {*site.scope.names, *site.words.top, *BUILTINS}
    if name not in known:
        return []
    elsewhere = [one.text for one in site.words.raised.get(name, ()) if one.names <= known]
    return [*elsewhere[:2], name if name not in site.vocabulary.errors else f'{name}("")']
