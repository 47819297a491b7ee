"""What is missing here and stands elsewhere: in the function, in another method of the class, anywhere in the file.

Code repeats itself within a file (Tu, Su and Devanbu, "On the localness of software", 2014), and what a fix puts in is
mostly there already (Barr et al., "The plastic surgery hypothesis", 2014).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from lathe.mend.operators.calls import end_of_arguments, takes_more
from lathe.mend.operators.filewords import Expression
from lathe.mend.operators.registry import AND, OR, Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS

_MOST = 60
_NOT_VALUES = (ast.Attribute, ast.keyword, ast.arguments)
_COMPOSED = (ast.Attribute, ast.Subscript, ast.Call, ast.BinOp, ast.JoinedStr)
_CONTINUED = {".": "missing attribute", "[": "missing index", "(": "call of a known name"}
_PERCENT = re.compile(r"%(?!%)[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]")
_FALSY = ("''", '""', "0", "None", "[]", "{}", "()", "False")


class Borrowed(NamedTuple):
    """An expression that could stand here, and how far it is fetched: 0.0 from the function, more from elsewhere."""

    text: str
    tree: ast.expr
    far: float


def borrowed(site: Site) -> list[Borrowed]:
    """Return the expressions of the function, the class and the file all of whose names are known here."""
    cache: dict[str, list[Borrowed]] = site.scope.__dict__.setdefault("borrowed", {})
    if site.source.path not in cache:
        cache[site.source.path] = list(_borrowed(site))
    return cache[site.source.path]


def _borrowed(site: Site) -> Iterator[Borrowed]:
    scope = site.scope
    yield from (Borrowed(text, tree, 0.0) for text, tree in scope.expressions.items())
    known = {*scope.names, *scope.functions, *site.words.top, *BUILTINS}
    own = site.words.class_of(scope.owner)

    def distance(one: Expression) -> tuple[bool, int]:
        return own is None or own not in one.classes, -one.places

    fitting = (one for one in site.words.expressions if one.text not in scope.expressions and one.names <= known)
    for rank, one in enumerate(sorted(fitting, key=distance)[: 4 * _MOST]):
        yield Borrowed(one.text, one.tree, (0.3 if distance(one)[0] else 0.15) + min(0.5, 0.005 * rank))


@operator(ast.Name, ast.Attribute, ast.Call, ast.Subscript, kinds=tuple(_CONTINUED.values()))
def continued(site: Site) -> Iterator[Edit]:
    """`a` as `a.x`, `a.f(b)`, `a[b]` where that stands elsewhere."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not isinstance(getattr(node, "ctx", _LOAD), ast.Load) or len(text) > 40:
        return
    if text in ("self", "cls") and isinstance(site.parent, ast.Attribute):
        return
    rank = 0
    for one in borrowed(site):
        more = one.text[len(text) : len(text) + 1]
        if more in _CONTINUED and one.text.startswith(text) and _begins_with(one.tree, text) and rank < _MOST:
            kind = _CONTINUED[more]
            yield from site.replace(node, one.text, kind, one.far + 0.02 * rank + 0.01 * len(one.text), level=16)
            rank += 1
    for called in site.words.called_with_one if "." in text or text in site.words.imports else ():
        if called == text or called.startswith(f"{text}."):
            for rank, name in enumerate(site.names[:10]):
                yield from site.replace(node, f"{called}({name})", "call of a known name", 0.3 + 0.05 * rank, level=16)


def _begins_with(tree: ast.expr, text: str) -> bool:
    """Return whether `text` is the value that `tree` goes on from."""
    inner: ast.expr | None = tree
    while inner is not None:
        inner = getattr(inner, "func", None) if isinstance(inner, ast.Call) else getattr(inner, "value", None)
        if isinstance(inner, ast.expr) and len(text) == (inner.end_col_offset or 0) - tree.col_offset:
            return True
    return False


@operator(ast.Call, kinds=("missing argument", "other argument"))
def argument(site: Site) -> Iterator[Edit]:
    """`f(a)` as `f(a, b.c)`, `f(b[0], a)` with what stands elsewhere; a call that has none first."""
    node = site.node
    assert isinstance(node, ast.Call)
    if not takes_more(node):
        return
    end, comma = end_of_arguments(site, node)
    rank = 0
    for one in borrowed(site):
        if not isinstance(one.tree, _COMPOSED) or rank > _MOST or one.text == site.text(node):
            continue
        extra = 0.2 + one.far + 0.01 * rank
        rank += 1
        if not node.args and not node.keywords:
            yield from site.splice(end, end, one.text, "missing argument", extra)
            continue
        yield from site.splice(end, end, f"{comma}{one.text}", "other argument", extra)
        for given in node.args[:2]:
            start = site.source.span(given)[0]
            yield from site.splice(start, start, f"{one.text}, ", "other argument", extra + 0.2)
    if not node.args and not node.keywords:
        for more, name in enumerate(site.names):
            yield from site.splice(end, end, name, "missing argument", 0.1 + 0.02 * more)
            for rank, called in enumerate(site.words.called_with_one[:20]):
                known = called.partition(".")[0]
                if known in site.scope.names or known in site.words.top or known in BUILTINS:
                    text = f"{called}({name})"
                    yield from site.splice(end, end, text, "missing argument", 0.6 + 0.03 * rank + 0.03 * more)
    for keyword in site.words.keywords.get(site.called(), ()):
        name = keyword.partition("=")[0]
        if name not in {entry.arg for entry in node.keywords}:
            yield from site.splice(end, end, f"{comma}{keyword}", "missing argument", 0.3)


@operator(ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant, kinds=("other expression", "same operands"))
def other(site: Site) -> Iterator[Edit]:
    """An expression as another of the class or the file, likeliest one of the same kind."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or site.text(node) in ("self", "cls") or isinstance(site.parent, _NOT_VALUES):
        return
    twin = _is_compared_with_itself(site)
    rank = 0
    for one in borrowed(site):
        if rank < _MOST and (one.far or twin) and not isinstance(one.tree, (ast.Compare, ast.UnaryOp)):
            alike = type(one.tree) is type(node) or isinstance(node, ast.Name)
            extra = one.far + 0.01 * rank + (0.0 if twin else 0.4 if alike else 0.8)
            rank += 1
            yield from site.replace(node, one.text, "same operands" if twin else "other expression", extra, level=16)


def _is_compared_with_itself(site: Site) -> bool:
    """Return whether the node stands on both sides of a comparison or a difference: hardly anybody means that."""
    parent = site.parent
    if isinstance(parent, ast.Compare) and len(parent.ops) == 1:
        return site.text(parent.left) == site.text(parent.comparators[0])
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod)):
        return site.text(parent.left) == site.text(parent.right)
    return False


@operator(ast.List, ast.Set, ast.Tuple, kinds=("missing element", "unfilled place"))
def element(site: Site) -> Iterator[Edit]:
    """`(a, b)` as `(a, b, c.d)`, `(a, c.d, b)`; where a text formatted with it has more places than it has parts,
    first."""
    node = site.node
    assert isinstance(node, (ast.List, ast.Set, ast.Tuple))
    if not site.is_value or not node.elts or isinstance(site.parent, ast.Subscript):
        return
    short_of = _places(site) == len(node.elts) + 1
    kind = "unfilled place" if short_of else "missing element"
    if short_of and site.function is not None and site.function.name in ("__repr__", "__str__"):
        for text in ("self.__class__.__name__", "type(self).__name__"):
            start = site.source.span(node.elts[0])[0]
            yield from site.splice(start, start, f"{text}, ", kind)
    spans = [site.source.span(part) for part in node.elts]
    rank = 0
    for one in borrowed(site):
        if isinstance(one.tree, (ast.Compare, ast.BoolOp)) or rank > _MOST:
            continue
        if isinstance(one.tree, (ast.Name, ast.Constant)) and not short_of:
            continue  # those have an operator of their own
        extra = one.far + 0.01 * rank
        rank += 1
        yield from site.splice(spans[-1][1], spans[-1][1], f", {one.text}", kind, extra)
        for low, _ in spans:
            yield from site.splice(low, low, f"{one.text}, ", kind, extra + 0.1)


def _places(site: Site) -> int:
    """Return how many values the text takes that is formatted with the node; 0 where there is none."""
    parent = site.parent
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mod) and site.field == "right":
        left = parent.left
        if isinstance(left, ast.Constant) and isinstance(left.value, str):
            return len(_PERCENT.findall(left.value))
    return 0


@operator(
    ast.Compare, ast.BoolOp, ast.Name, ast.Attribute, ast.Call, ast.UnaryOp,
    kinds=("missing condition", "loosened condition"),
)  # fmt: skip
def condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if a and b`, `if a or b`, with a condition of the file, or that something is (not) in `a`'s values."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not isinstance(site.parent, (ast.If, ast.While, ast.IfExp)) or site.field != "test":
        return
    strong, weak, own = site.operand(node, AND), site.operand(node, OR), site.text(node)
    inside = {site.text(inner): inner for inner in ast.walk(node) if isinstance(inner, (ast.Attribute, ast.Name))}
    for holder in inside:
        for name in site.names:
            if name not in inside and site.scope.names.get(name) not in ("list", "dict", "set"):
                for extra, sign in ((0.2, "in"), (0.3, "not in")):
                    text = f"{name} {sign} {holder}"
                    yield from site.replace(node, f"{strong} and {text}", "missing condition", extra, level=AND)
                    yield from site.replace(node, f"{weak} or {text}", "loosened condition", extra, level=OR)
    rank = 0
    for one in borrowed(site):
        if one.far and isinstance(one.tree, (ast.Compare, ast.UnaryOp, ast.Call)) and one.text != own and rank < _MOST:
            extra = one.far + 0.02 * rank
            rank += 1
            yield from site.replace(node, f"{strong} and {one.text}", "missing condition", extra, level=AND)
            yield from site.replace(node, f"{weak} or {one.text}", "loosened condition", extra, level=OR)


@operator(ast.Constant, ast.List, ast.Dict, ast.Tuple, kinds=("missing choice",))
def preferred(site: Site) -> Iterator[Edit]:
    """`""` as `a or ""`: the default of something that was forgotten."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_value or site.text(node) not in _FALSY or isinstance(site.parent, (ast.Compare, ast.arguments)):
        return
    default = site.text(node)
    for rank, name in enumerate(site.names):
        if site.scope.bound_at.get(name, 0) <= node.lineno:
            yield from site.replace(node, f"{name} or {default}", "missing choice", 0.03 * rank, level=OR)
    for rank, one in enumerate(one for one in borrowed(site) if isinstance(one.tree, (ast.Attribute, ast.Call))):
        if rank < _MOST // 2:
            yield from site.replace(node, f"{one.text} or {default}", "missing choice", 0.2 + one.far, level=OR)


_LOAD = ast.Load()
