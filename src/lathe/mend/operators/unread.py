"""Names that were bound for a purpose and serve none: a parameter, a variable, an import, a helper that nothing reads.

Where something was left out, what it needed often stands there still.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from typing import NamedTuple

from lathe.mend.operators.calls import end_of_arguments, takes_more
from lathe.mend.operators.conditions import is_truth
from lathe.mend.operators.registry import AND, CHOICE, COMPARED, OR, PRODUCT, SUM, Edit, Site, operator
from lathe.mend.operators.statements import COMPOUND, SIMPLE, spots

_MOST = 4
_KIND = "unread name"
_LONGEST = 90
_BINARY = (("+", SUM), ("-", SUM), ("*", PRODUCT), ("/", PRODUCT), ("%", PRODUCT))
_VALUES = (
    ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp,
    ast.IfExp, ast.List, ast.Dict, ast.Tuple, ast.JoinedStr, ast.ListComp, ast.GeneratorExp,
)  # fmt: skip


class Unread(NamedTuple):
    """A name that nothing reads, and whether it is something to be called: perhaps a class."""

    text: str
    is_callable: bool
    is_class: bool


def unread(site: Site) -> list[Unread]:
    """Return the names that nothing reads and that can be read here, at most a few of the function and of the file."""
    cache: dict[object, list[Unread]] = site.scope.__dict__.setdefault("unread_here", {})
    key = site.source.path
    if key not in cache:
        local = [name for name in site.scope.unread if name not in site.scope.inner]
        own = [Unread(name, name in site.scope.functions, False) for name in local]
        known = {*site.scope.names, *site.scope.functions}
        top = [name for name in site.words.unread if name not in known]
        if "self" not in site.scope.names:
            top = [name for name in top if not name.startswith("self.")]
        cache[key] = own[:_MOST] + [_of_module(site, name) for name in top[:_MOST]]
    return cache[key]


def _of_module(site: Site, name: str) -> Unread:
    plain = name.rpartition(".")[2]
    is_class = plain.lstrip("_")[:1].isupper() and not plain.isupper()
    known = name in site.vocabulary.signatures or plain in site.vocabulary.signatures
    return Unread(name, known or is_class or (name in site.words.imports and not plain.isupper()), is_class)


@operator(*_VALUES, kinds=(_KIND,))
def value(site: Site) -> Iterator[Edit]:
    """`a` as the name, as a call of it, as something that takes it into account: `u(a)`, `a or u`, `a + u`, `a[u]`."""
    node = site.node
    assert isinstance(node, ast.expr)
    names = unread(site)
    if not names or not site.is_value or len(site.text(node)) > _LONGEST:
        return
    text, is_condition = site.text(node), is_truth(site)
    if text in ("self", "cls") and isinstance(site.parent, ast.Attribute):
        return
    for one in names:
        name = one.text
        if name == text:
            continue
        if one.is_callable:
            yield from site.replace(node, f"{name}({text})", _KIND, 0.0, level=16)
            yield from site.replace(node, f"{name}()", _KIND, 0.5, level=16)
            if one.is_class:
                yield from site.replace(node, f"isinstance({text}, {name})", _KIND, 0.4, level=16)
        yield from site.replace(node, name, _KIND, 0.1, level=16)
        if is_condition:
            yield from _conditions(site, node, name)
        else:
            yield from _combined(site, node, name)
    if isinstance(node, ast.Call) and takes_more(node):
        yield from _arguments(site, node, names)


def _conditions(site: Site, node: ast.expr, name: str) -> Iterator[Edit]:
    strong, weak = site.operand(node, AND), site.operand(node, OR)
    for rank, test in enumerate((name, f"not {name}", f"{name} is not None", f"{name} is None")):
        yield from site.replace(node, f"{strong} and {test}", _KIND, 0.1 + 0.1 * rank, level=AND)
        yield from site.replace(node, f"{test} and {strong}", _KIND, 0.2 + 0.1 * rank, level=AND)
        yield from site.replace(node, f"{weak} or {test}", _KIND, 0.2 + 0.1 * rank, level=OR)
        if rank:
            yield from site.replace(node, test, _KIND, 0.4 + 0.1 * rank, level=COMPARED)
    for rank, sign in enumerate(("==", "in", "!=", "not in", "<", ">", "is")):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
            yield from site.replace(node, f"{strong} {sign} {name}", _KIND, 0.3 + 0.1 * rank, level=COMPARED)


def _combined(site: Site, node: ast.expr, name: str) -> Iterator[Edit]:
    loose, choice = site.operand(node, OR), site.operand(node, CHOICE + 1)
    yield from site.replace(node, f"{loose} or {name}", _KIND, 0.4, level=OR)
    yield from site.replace(node, f"{name} or {loose}", _KIND, 0.4, level=OR)
    yield from site.replace(node, f"{choice} if {name} is None else {name}", _KIND, 0.4, level=CHOICE)
    yield from site.replace(node, f"{name} if {name} is not None else {choice}", _KIND, 0.5, level=CHOICE)
    if site.scope.bound_at.get(name) is not None:
        for rank, default in enumerate(("None", "0", '""', "[]")):
            yield from site.replace(node, f"{choice} if {name} else {default}", _KIND, 0.5 + 0.1 * rank, level=CHOICE)
    for rank, (sign, level) in enumerate(_BINARY):
        left, right = site.operand(node, level), site.operand(node, level + 1)
        yield from site.replace(node, f"{left} {sign} {name}", _KIND, 0.4 + 0.1 * rank, level=level)
        yield from site.replace(node, f"{name} {sign} {right}", _KIND, 0.5 + 0.1 * rank, level=level)
    if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
        for rank, form in enumerate(("{}[{}]", "{}.get({})", "{}[{}:]", "{}[:{}]")):
            yield from site.replace(node, form.format(site.text(node), name), _KIND, 0.4 + 0.1 * rank, level=16)
    if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
        for rank, part in enumerate((node.elts[-1], node.elts[0])):
            start, end = site.source.span(part)
            at, text = (end, f", {name}") if not rank else (start, f"{name}, ")
            yield from site.splice(at, at, text, _KIND, 0.2 + 0.2 * rank)


def _arguments(site: Site, node: ast.Call, names: list[Unread]) -> Iterator[Edit]:
    end, comma = end_of_arguments(site, node)
    accepted = {
        argument.arg
        for arguments in site.vocabulary.signatures.get(site.called(), [])
        for argument in (*arguments.args, *arguments.kwonlyargs)
    }
    for one in names:
        if one.text in accepted:
            yield from site.splice(end, end, f"{comma}{one.text}={one.text}", _KIND, 0.0)
        if not node.keywords:
            yield from site.splice(end, end, f"{comma}{one.text}", _KIND, 0.0)
        if node.args or node.keywords:
            first = site.source.span(node.args[0] if node.args else node.keywords[0])[0]
            yield from site.splice(first, first, f"{one.text}, ", _KIND, 0.2)
        if isinstance(node.func, ast.Name) and one.is_callable:
            yield from site.replace(node.func, one.text, _KIND, 0.1, level=16)


@operator(*SIMPLE, *COMPOUND, ast.Pass, kinds=(_KIND,))
def statement(site: Site) -> Iterator[Edit]:
    """Put a statement under a condition of the name; insert one that stores, returns or calls it."""
    place, names = site.place, unread(site)
    if place is None or not names:
        return
    step, newline = place.indent + place.step, site.source.newline
    inner = place.moved(deeper=True)
    answers = [*site.scope.answers(site.function)[:4], *site.names[:2]]
    for one in names:
        name = one.text
        deeds: list[tuple[str, float]] = []
        if one.is_callable:
            values = [*site.names[:8], *(["self"] if "self" in site.scope.names else [])]
            deeds += [(f"{name}()", 0.3), *((f"{name}({value})", 0.4) for value in values)]
            deeds += [(f"{value} = {name}({value})", 0.2) for value in site.names[:8]]
        elif not hasattr(builtins, name):
            tests = (name, f"not {name}", f"{name} is None", f"{name} is not None")
            for rank, test in enumerate(tests):
                text = f"{place.indent}if {test}:{newline}{inner}"
                yield from site.splice(place.start, place.end, text, _KIND, 0.4 + 0.1 * rank)
                jumps = [f"return {answer}" for answer in answers]
                jumps += ["continue", "break"] if isinstance(site.parent, (ast.For, ast.While)) else []
                for more, jump in enumerate(jumps):
                    text = f"{place.indent}if {test}:\n{step}{jump}\n"
                    yield from site.insert(place.start, text, _KIND, 0.6 + 0.1 * rank + 0.05 * more)
            deeds += [(f"return {name}", 0.3)]
            if "self" in site.scope.names:
                deeds += [(f"self.{name} = {name}", 0.0 if name in site.vocabulary.members else 0.6)]
            others = [other for other in site.names if other != name]
            deeds += [(f"{other} = {name}", 0.4) for other in others[:8]]
            deeds += [(f"{other} += {name}", 0.5) for other in others[:8]]
            deeds += [(f"{other}.append({name})", 0.5) for other in others if site.scope.names[other] in ("", "list")]
        for text, extra in deeds:
            for spot in spots(site):
                yield from site.insert(spot, f"{place.indent}{text}\n", _KIND, extra + 0.1 * (spot == place.end))
