"""Indices, slices, loops and generators."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.arithmetic import is_value
from lathe.mend.operators.registry import Edit, Site, operator

_ITERATIONS = (
    "enumerate({})", "reversed({})", "sorted({})", "list({})", "range(len({}))", "{}[1:]", "{}[:-1]", "{}.items()",
    "set({})", "{}.values()",
)  # fmt: skip


@operator(ast.Subscript)
def index(site: Site) -> Iterator[Edit]:
    """`a[0]` as `a[-1]`, `a[i]` as `a[i:]`, `a[i, j]` as `a[j, i]`, `a[i]` as `a`."""
    node = site.node
    assert isinstance(node, ast.Subscript)
    where = node.slice
    if isinstance(where, ast.Tuple) and len(where.elts) == 2:
        first, second = where.elts
        text = f"{site.text(second)}, {site.text(first)}"
        yield from site.splice(*site.source.span(where), text, "swapped indices", 1.6)
    if not isinstance(node.ctx, ast.Load):
        return
    yield from site.replace(node, site.text(node.value), "surplus index", 2.4)
    if not isinstance(where, (ast.Slice, ast.Tuple)):
        start, end = site.source.span(where)
        for template in ("{}:", ":{}"):
            yield from site.splice(start, end, template.format(site.text(where)), "index for a slice", 2.8)


@operator(ast.Subscript)
def swapped_subscripts(site: Site) -> Iterator[Edit]:
    """`a[i][j]` as `a[j][i]`."""
    node = site.node
    assert isinstance(node, ast.Subscript)
    inner = node.value
    if isinstance(inner, ast.Subscript) and not isinstance(inner.slice, ast.Slice | ast.Tuple):
        if isinstance(node.slice, ast.Slice):
            return
        text = f"{site.text(inner.value)}[{site.text(node.slice)}][{site.text(inner.slice)}]"
        yield from site.splice(*site.source.span(node), text, "swapped indices", 1.8)


@operator(ast.Slice)
def bounds(site: Site) -> Iterator[Edit]:
    """`a[i:j]` as `a[i + 1:j]`, `a[i:]`, `a[:j]`, `a[::-1]`; bounds that are there are also off by one elsewhere."""
    node = site.node
    assert isinstance(node, ast.Slice)
    start, end = site.source.span(node)
    parts = [site.text(part) if part is not None else "" for part in (node.lower, node.upper, node.step)]
    choices: list[tuple[int, str, float]] = []
    for place in (0, 1):
        if parts[place]:
            choices.append((place, "", 1.9))
        else:
            choices += [(place, text, 2.1) for text in ("1", "-1", "2")]
            choices += [(place, name, 2.5) for name in site.scope.names if name not in ("self", "cls")]
    choices += [(2, "", 2.2)] if parts[2] else [(2, "-1", 2.6), (2, "2", 3.0)]
    if parts[0] and parts[1]:
        yield from site.splice(start, end, f"{parts[1]}:{parts[0]}", "slice bounds", 2.4)
    for place, text, cost in choices:
        changed = [*parts[:place], text, *parts[place + 1 :]]
        written = f"{changed[0]}:{changed[1]}" + (f":{changed[2]}" if changed[2] else "")
        yield from site.splice(start, end, written, "slice bounds", cost)


@operator(ast.Name, ast.Call, ast.Attribute)
def missing_index(site: Site) -> Iterator[Edit]:
    """`a` as `a[0]`, `a[1:]`, `a[i]`."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not is_value(site) or len(text) > 50 or text == "self":
        return
    for suffix in ("[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[1]"):
        yield from site.replace(node, text + suffix, "missing index", 2.9)
    for name in site.scope.names:
        if name not in (text, "self", "cls"):
            for template, cost in (("[{}:]", 3.5), ("[:{}]", 3.6), ("[{}]", 3.6)):
                yield from site.replace(node, text + template.format(name), "missing index", cost)


@operator(ast.For)
def iteration(site: Site) -> Iterator[Edit]:
    """`for x in a` as `for x in reversed(a)`, `a[1:]`, `a.items()`, ..."""
    node = site.node
    assert isinstance(node, ast.For)
    for template in _ITERATIONS:
        text = site.text(node.iter) if template.count("({}") else site.operand(node.iter)
        yield from site.replace(node.iter, template.format(text), "iteration", 2.6)


@operator(ast.List, ast.Set)
def elements(site: Site) -> Iterator[Edit]:
    """`[]` as `[x]`, `[x]` as `x` or `[]`."""
    node = site.node
    assert isinstance(node, (ast.List, ast.Set))
    if not is_value(site):
        return
    if not node.elts:
        for name in site.scope.names:
            if name not in ("self", "cls"):
                yield from site.replace(node, f"[{name}]", "missing element", 2.6)
        for text in ("[[]]", "[0]", "None", '[""]', "{}", "set()"):
            yield from site.replace(node, text, "missing element", 2.8)
    elif len(node.elts) == 1 and not isinstance(node.elts[0], ast.Starred):
        yield from site.replace(node, site.text(node.elts[0]), "surplus brackets", 2.4)


@operator(ast.Name, ast.Call, ast.Attribute)
def missing_brackets(site: Site) -> Iterator[Edit]:
    """`a` as `[a]`."""
    node = site.node
    assert isinstance(node, ast.expr)
    if is_value(site) and len(site.text(node)) <= 50 and isinstance(site.parent, (ast.Return, ast.Assign, ast.Call)):
        yield from site.replace(node, f"[{site.text(node)}]", "missing brackets", 3.0)


@operator(ast.Yield, ast.YieldFrom)
def delegation(site: Site) -> Iterator[Edit]:
    """`yield a` as `yield from a`, and back."""
    node = site.node
    assert isinstance(node, (ast.Yield, ast.YieldFrom))
    if node.value is not None:
        word = "yield from" if isinstance(node, ast.Yield) else "yield"
        start, end = site.source.span(node)
        yield from site.splice(start, end, f"{word} {site.text(node.value)}", "delegation", 1.6)
