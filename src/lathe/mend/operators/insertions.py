"""Statements that are missing: steps, guards, base cases, and what stands elsewhere in the function or the project."""

from __future__ import annotations

import ast
import difflib
import functools
import itertools
import re
from collections.abc import Iterator

from lathe.mend.operators.place import Place
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS
from lathe.mend.operators.statements import COMPOUND, LEAVES, SIMPLE, spots
from lathe.mend.operators.vocabulary import Donor
from lathe.mend.source import Function

_MAX_DONORS = 60
_MAX_CONDITIONS = 90
_FORMS = ("{}[1:]", "{}[:-1]", "{}[2:]", "{}.strip()", "{}.lower()", "{}[0]", "list({})", "str({})")
_GUARD_WORDS = ("continue", "break")


@operator(*SIMPLE, *COMPOUND, kinds=("missing statement",))
def missing(site: Site) -> Iterator[Edit]:
    """Insert a statement that stands elsewhere in the function, also with another of its names."""
    place = site.place
    if place is None:
        return
    for spot in spots(site):
        for text, donor in site.scope.statements.items():
            extra = 0.5 if isinstance(donor, LEAVES) and spot == place.start and not place.is_last else 0.0
            extra += min(0.5, abs(donor.lineno - place.node.lineno) / 20)
            if donor is not place.node:
                yield from site.insert(spot, f"{place.indent}{text}\n", "missing statement", extra)


@operator(ast.Pass, kinds=("empty block",))
def empty(site: Site) -> Iterator[Edit]:
    """`pass` in an `if` or a loop as a statement: what stands elsewhere, what gathers, what changes a variable."""
    place = site.place
    if place is None or isinstance(site.parent, (*Function, ast.ExceptHandler)) or len(place.body) > 1:
        return
    span = site.source.span(place.node)
    for rank, (text, donor) in enumerate(site.scope.statements.items()):
        if not isinstance(donor, ast.Pass):
            yield from site.splice(*span, text, "empty block", 0.1 + 0.01 * rank)
    for rank, (text, extra) in enumerate(itertools.chain(_steps(site), _alike(site), _changed(site))):
        yield from site.splice(*span, text, "empty block", 0.2 + 0.5 * extra + min(0.8, 0.004 * rank))
    for rank, (text, extra) in enumerate(_donations(site)):
        yield from site.splice(*span, text, "empty block", 0.4 + 0.5 * extra + 0.01 * rank)


def _changed(site: Site) -> Iterator[tuple[str, float]]:
    """Yield assignments that make something new of a variable or of what is kept in `self`."""
    for name in site.names:
        if site.scope.names[name] not in ("number", "truth"):
            yield from ((f"{name} = {form.format(name)}", 0.4) for form in _FORMS)
        yield from ((f"{name} = {called}({name})", 0.5) for called in site.words.called_with_one[:12])
        yield from ((f"{name} = {value}", 0.5) for value in ("None", "True", "False", '""', "[]", "0"))
        yield from ((f"{name} = {other}", 0.4) for other in site.names if other != name)


@operator(*SIMPLE, *COMPOUND, ast.Pass, kinds=("missing state",))
def state(site: Site) -> Iterator[Edit]:
    """Insert `self.a = True` where the class gives `a` plain values elsewhere, those values and their opposites."""
    place = site.place
    if place is None or "self" not in site.scope.names:
        return
    for spot in spots(site):
        for rank, text in enumerate(site.words.states(site.scope.owner)):
            yield from site.insert(spot, f"{place.indent}{text}\n", "missing state", 0.04 * rank)


@operator(*SIMPLE, *COMPOUND, kinds=("missing statement",))
def missing_alike(site: Site) -> Iterator[Edit]:
    """Insert a statement of the function with one of its names exchanged: `a.append(x)` for an `a.append(y)`."""
    place = site.place
    if place is None:
        return
    alike = _alike(site)
    for spot in spots(site):
        for text, extra in alike:
            yield from site.insert(spot, f"{place.indent}{text}\n", "missing statement", extra)


def _alike(site: Site) -> list[tuple[str, float]]:
    found: dict[str, float] = {}
    line = getattr(site.node, "lineno", 1)
    for text, donor in site.scope.statements.items():
        if isinstance(donor, LEAVES) or len(found) > 300:
            continue
        used = {inner.id for inner in ast.walk(donor) if isinstance(inner, ast.Name)} & set(site.scope.names)
        far = min(0.4, abs(donor.lineno - line) / 25)
        for name in used - {"self", "cls"}:
            for other in site.names:
                if other != name:
                    same = site.scope.names[name] == site.scope.names[other]
                    renamed = _renamed(text, ((name, other),))
                    found.setdefault(renamed, 0.5 + far + (0.0 if same else 0.3))
    return list(found.items())


@operator(*SIMPLE, *COMPOUND, kinds=("donated statement",))
def donated(site: Site) -> Iterator[Edit]:
    """Insert a statement of another function of the project, those that speak of the same things first, renamed."""
    place = site.place
    if place is None:
        return
    places = spots(site)
    for rank, (text, extra) in enumerate(_donations(site)):
        for spot in places:
            yield from site.insert(spot, f"{place.indent}{text}\n", "donated statement", extra + 0.01 * rank)
    if isinstance(site.node, SIMPLE):
        for rank, (text, extra) in enumerate(_donations(site)):
            likeness = difflib.SequenceMatcher(None, text, site.text(place.node)).quick_ratio()
            yield from site.splice(
                *site.source.span(place.node), text, "donated statement", extra + 0.01 * rank + 1 - likeness
            )


def _donations(site: Site) -> list[tuple[str, float]]:
    scope = site.scope
    cache = scope.__dict__.setdefault("donations", {})
    key = site.source.path
    if key not in cache:
        known = {*scope.names, *site.words.top, *BUILTINS}
        cache[key] = [
            fitted
            for donor in site.vocabulary.donors_for(key, scope)[: 4 * _MAX_DONORS]
            for fitted in _fitted(donor, known, scope.names)
        ][:_MAX_DONORS]
    found: list[tuple[str, float]] = cache[key]
    return found


def _fitted(donor: Donor, known: set[str], names: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Yield the text of a donor with names that are unknown here replaced by those that are likest."""
    strange = sorted(donor.names - known)
    if not strange:
        yield donor.text, 0.0
        return
    if len(strange) > 2:
        return
    choices = [_likest(name, tuple(names)) for name in strange]
    for picked in itertools.islice(itertools.product(*choices), 4):
        if len(set(picked)) == len(picked):
            yield _renamed(donor.text, tuple(zip(strange, picked, strict=True))), 0.3 * len(strange)


@functools.lru_cache(maxsize=4096)
def _likest(name: str, names: tuple[str, ...]) -> list[str]:
    usable = [other for other in names if other not in ("self", "cls")]
    return sorted(usable, key=lambda other: -difflib.SequenceMatcher(None, name, other).quick_ratio())[:3]


@functools.lru_cache(maxsize=16384)
def _renamed(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    table = dict(pairs)
    pattern = r"(?<![\w.])(" + "|".join(map(re.escape, table)) + r")\b(?!\s*=[^=])"
    first = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, table)) + r")\b")
    matched = first.match(text)
    if matched:  # the target of an assignment is renamed, the keyword of a call is not
        head = table[matched.group(1)]
        return head + re.sub(pattern, lambda match: table[match.group(1)], text[matched.end() :])
    return re.sub(pattern, lambda match: table[match.group(1)], text)


@operator(*SIMPLE, *COMPOUND, kinds=("missing step",))
def counting(site: Site) -> Iterator[Edit]:
    """Insert `n += 1`, `n -= 1`, `n = 0`, `n = []`, `a.append(b)`, `a = b`, `a, b = b, a`."""
    place = site.place
    if place is None:
        return
    outside = 0.0 if isinstance(site.parent, (ast.For, ast.While)) else 0.4
    steps = _steps(site)
    for spot in spots(site):
        for text, extra in steps:
            counts = outside if text.endswith(("= 1", "= 0")) else 0.0  # what a loop gathers is also flushed behind it
            yield from site.insert(spot, f"{place.indent}{text}\n", "missing step", extra + counts)


def _steps(site: Site) -> list[tuple[str, float]]:
    calls = sorted(
        {
            (site.text(tree.func.value), tree.func.attr)
            for tree in site.scope.expressions.values()
            if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute) and len(tree.args) == 1
        }
    )
    lists = [name for name in site.names if site.scope.names[name] in ("list", "set")]
    calls += [(name, "add" if site.scope.names[name] == "set" else "append") for name in lists]
    found: list[tuple[str, float]] = []
    for name in site.names:
        shape = site.scope.names[name]
        if shape in ("", "number"):
            unlike = 0.0 if shape else 0.3
            found += [(f"{name} += 1", unlike), (f"{name} -= 1", 0.2 + unlike), (f"{name} = 0", 0.3 + unlike)]
        if shape in ("", "list"):
            found.append((f"{name} = []", 0.4))
        if shape == "text":
            found.append((f'{name} = ""', 0.4))
        found += [(f"{receiver}.{method}({name})", 0.2) for receiver, method in calls if receiver != name]
        for other in site.names:
            if other != name:
                same = 0.4 if site.scope.names[other] == shape else 0.7
                found += [(f"{name} = {other}", same), (f"{name} += {other}", same + 0.1)]
    if "self" in site.scope.names:
        found += [(f"self.{name} = {name}", 0.3) for name in site.names if name in site.vocabulary.members]
    return list(dict(found).items())


@operator(*SIMPLE, *COMPOUND, kinds=("missing base case",))
def early_return(site: Site) -> Iterator[Edit]:
    """Insert `if not a: return ...` with what fits: for parameters at the start of a function, for names used here."""
    place = site.place
    if place is None or site.function is None or place.start not in spots(site):
        return
    start = isinstance(site.parent, Function) and place.index <= 1
    own = site.function.args
    parameters = [one.arg for one in (*own.posonlyargs, *own.args, *own.kwonlyargs) if one.arg not in ("self", "cls")]
    used = [
        inner.id for inner in ast.walk(site.node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
    ]
    names = [name for name in dict.fromkeys([*(parameters if start else []), *used]) if name in site.scope.names]
    answers = site.scope.answers(site.function)[:10]
    for name in names:
        if name in ("self", "cls"):
            continue
        extra = 0.0 if start and name in parameters else 0.4
        for rank, test in enumerate(_base_tests(name, site.scope.names[name])):
            for more, answer in enumerate(dict.fromkeys([*answers, name])):
                text = f"{place.indent}if {test}:\n{place.indent}{place.step}return {answer}\n"
                yield from site.insert(place.start, text, "missing base case", extra + 0.08 * rank + 0.05 * more)


def _base_tests(name: str, shape: str) -> list[str]:
    sized = [f"not {name}", f"{name} is None", f"len({name}) == 1", f"len({name}) <= 1", f"len({name}) < 2"]
    number = [
        f"{name} == 0",
        f"{name} < 0",
        f"{name} == 1",
        f"{name} <= 0",
        f"{name} <= 1",
        f"{name} < 2",
        f"{name} is None",
    ]
    if shape == "number":
        return number
    return sized if shape else [*sized[:2], *number[:5], *sized[2:]]


@operator(*SIMPLE, *COMPOUND, kinds=("missing guard",))
def leave(site: Site) -> Iterator[Edit]:
    """Insert `if c: continue`, `break`, `return a`, with a condition of the function or a comparison of its names."""
    place = site.place
    if place is None or place.start not in spots(site):
        return
    in_loop = isinstance(site.parent, (ast.For, ast.While))
    words = list(_GUARD_WORDS) if in_loop else []
    words += [f"return {answer}" for answer in site.scope.answers(site.function)[:5]]
    for test, extra in guards(site):
        own = _itself(test, site.names)
        for rank, word in enumerate(dict.fromkeys([*own, *words])):
            text = f"{place.indent}if {test}:\n{place.indent}{place.step}{word}\n"
            yield from site.insert(place.start, text, "missing guard", extra + 0.08 * rank)


def _itself(test: str, names: list[str]) -> list[str]:
    """Return what one may return under a condition on a name: its value, or what it makes of another name."""
    name = test.removesuffix(" is not None")
    if name not in names:
        return []
    return [f"return {name}", *(f"return {name}({other})" for other in names[:4] if other != name)]


@operator(*SIMPLE, *COMPOUND, kinds=("missing guard",))
def conditional(site: Site) -> Iterator[Edit]:
    """Put a statement under a condition: one of the function, or a test of its names; as `elif` of the `if` before."""
    place = site.place
    if place is None or place.start not in spots(site):
        return
    inner, newline = place.moved(deeper=True), site.source.newline
    extra = 0.0 if isinstance(site.node, SIMPLE) else 0.4
    follows = isinstance(place.before, ast.If) and not place.before.orelse
    for test, more in guards(site):
        text = f"{place.indent}if {test}:{newline}{inner}"
        yield from site.splice(place.start, place.end, text, "missing guard", extra + more)
        if follows:
            text = f"{place.indent}elif {test}:{newline}{inner}"
            yield from site.splice(place.start, place.end, text, "missing guard", extra + more + 0.6)


@operator(*SIMPLE, kinds=("missing guard",))
def raising(site: Site) -> Iterator[Edit]:
    """Insert `if a < 0: raise ValueError` at the start of a function, for its parameters."""
    place = site.place
    if place is None or not isinstance(site.parent, Function) or place.index > 1:
        return
    errors = [name for name in site.words.top if name in site.vocabulary.errors]
    own = site.parent.args
    for argument in (*own.posonlyargs, *own.args, *own.kwonlyargs):
        if argument.arg in ("self", "cls"):
            continue
        for rank, test in enumerate(_base_tests(argument.arg, site.scope.names.get(argument.arg, ""))[:6]):
            for more, error in enumerate([*errors[:3], "ValueError", "TypeError", "IndexError", "KeyError"]):
                text = f"{place.indent}if {test}:\n{place.indent}{place.step}raise {error}\n"
                yield from site.insert(place.start, text, "missing guard", 0.3 + 0.06 * rank + 0.06 * more)


def guards(site: Site) -> list[tuple[str, float]]:
    """Return conditions that may be missing before a statement, with how far-fetched each is."""
    place = site.place
    assert isinstance(place, Place)
    line = place.node.lineno
    found: dict[str, float] = {}
    for text, tree in site.scope.conditions.items():
        far = min(0.4, abs(tree.lineno - line) / 20)
        found[text] = far
        if not isinstance(tree, ast.BoolOp):
            found.setdefault(
                f"not {text}" if isinstance(tree, (ast.Name, ast.Attribute, ast.Call)) else f"not ({text})", far + 0.3
            )
    used = {inner.id for inner in ast.walk(place.node) if isinstance(inner, ast.Name)}
    for name in site.names:
        extra = 0.3 if name in used else 0.6
        number = site.scope.names[name] == "number"
        tests = [name, f"not {name}", f"{name} is not None", f"{name} is None"] if not number else []
        tests += (
            [f"{name} > 0", f"{name} == 0", f"{name} < 0", f"{name} != 0"]
            if site.scope.names[name] in ("number", "")
            else []
        )
        for test in tests:
            found.setdefault(test, extra)
        if site.scope.names[name] in ("", "text", "list") and name in used | site.scope.parameters:
            for rank, kind in enumerate(site.words.kinds[:4]):
                found.setdefault(f"not isinstance({name}, {kind})", extra + 0.1 + 0.1 * rank)
                found.setdefault(f"isinstance({name}, {kind})", extra + 0.2 + 0.1 * rank)
        for other in site.names:
            if other != name and {name, other} & used:
                symbols = ("<", ">", "==", "!=") if number else ("in", "not in", "==", "!=")
                for symbol in symbols:
                    found.setdefault(f"{name} {symbol} {other}", extra + 0.5)
    return sorted(found.items(), key=lambda entry: entry[1])[:_MAX_CONDITIONS]
