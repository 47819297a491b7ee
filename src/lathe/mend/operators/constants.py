"""Constants: numbers that are wrong, flags the wrong way round, empty values, and values to begin with."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator


@operator(ast.Constant, kinds=("flag",))
def flag(site: Site) -> Iterator[Edit]:
    """`True` as `False`."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if isinstance(node.value, bool):
        yield from site.replace(node, str(not node.value), "flag", level=16)


@operator(ast.Constant, kinds=("number",))
def number(site: Site) -> Iterator[Edit]:
    """`1` as `2`, `0`, `-1`, a number of the function, ..."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    half = value / 2 if isinstance(value, float) else value // 2
    near = [value + 1, value - 1, 0, 1, -1, 2, -value, value * 2, half, value * 10, value / 10, 10, 100, 3, 4, 1000]
    for rank, new in enumerate(dict.fromkeys(near)):
        if isinstance(value, int) and isinstance(new, float):
            if not new.is_integer():
                continue
            new = int(new)
        if new != value or isinstance(new, float) != isinstance(value, float):
            yield from site.replace(node, repr(new), "number", 0.12 * rank, level=16 if new >= 0 else 13)
    for text, tree in site.scope.expressions.items():
        if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)) and tree.value not in near:
            extra = 0.9 if not isinstance(tree.value, bool) else 1.5
            yield from site.replace(node, text, "number", extra, level=16)


@operator(ast.Constant, kinds=("constant type",))
def constant_type(site: Site) -> Iterator[Edit]:
    """`0` as `None`, `0.0`, `"0"`, `float("inf")`, `[]`; `1` as `True`; `"1"` as `1`."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        others = [
            "None",
            'float("inf")',
            '-float("inf")',
            f'"{value}"',
            *(["[]", "False", "True"] if value in (0, 1) else []),
        ]
        others += [repr(float(value))] if isinstance(value, int) and abs(value) < 1e15 else []
        for rank, text in enumerate(others):
            yield from site.replace(node, text, "constant type", 0.15 * rank)
    elif isinstance(value, bool):
        for rank, text in enumerate(("None", str(int(value)))):
            yield from site.replace(node, text, "constant type", 0.3 + 0.2 * rank)
    elif isinstance(value, str) and _is_open(site):
        texts = [value] if value.lstrip("-").isdigit() else []
        for rank, text in enumerate([*texts, "None", *(["0", "[]", "{}"] if not value else [])]):
            yield from site.replace(node, text, "constant type", 0.2 * rank)


@operator(ast.Constant, kinds=("name for a constant",))
def name_for_constant(site: Site) -> Iterator[Edit]:
    """`10` as a variable of the function, or an upper-case name of the file."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if not _is_open(site) or not site.is_value or (isinstance(node.value, str) and len(node.value) > 20):
        return
    for name in [*site.names, *(name for name in site.words.top if name.isupper())]:
        yield from site.replace(node, name, "name for a constant", level=16)


@operator(ast.Constant, kinds=("missing value",))
def nothing(site: Site) -> Iterator[Edit]:
    """`None` as an empty value."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if node.value is None and _is_open(site):
        for rank, text in enumerate(("[]", "0", "{}", '""', "False", "True", "set()", "()")):
            yield from site.replace(node, text, "missing value", 0.1 * rank, level=16)


@operator(ast.Assign, kinds=("initial value",))
def initial_value(site: Site) -> Iterator[Edit]:
    """`best = 0` before a loop as `best = None`, `float("inf")`, `a[0]`, `len(a)`, `1`, `[]`."""
    node, place = site.node, site.place
    assert isinstance(node, ast.Assign)
    plain = (ast.Constant, ast.List, ast.Dict, ast.Name, ast.Subscript, ast.UnaryOp, ast.Call)
    if place is None or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        return
    following = place.body[place.index + 1 : place.index + 5]
    if not isinstance(node.value, plain) or not any(isinstance(other, (ast.For, ast.While)) for other in following):
        return
    fixed = ["1", "0", "None", "-1", 'float("-inf")', 'float("inf")', "[]", "{}", "set()", '""', "False", "True", "[0]"]
    values = [value for value in fixed if value != site.text(node.value)]
    target = node.targets[0].id
    for name in site.scope.names:
        if name != target and name not in ("self", "cls") and name in site.scope.parameters:
            values += [name, f"{name}[0]", f"len({name})"]
    for rank, value in enumerate(values):
        yield from site.replace(node.value, value, "initial value", min(1.0, 0.08 * rank))


def _is_open(site: Site) -> bool:
    return not isinstance(site.parent, (ast.Expr, ast.JoinedStr, ast.FormattedValue, ast.pattern))
