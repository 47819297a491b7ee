"""Conditions: negated, too strong, too weak, or another one altogether; and the two branches of a choice."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator


def _is_condition(site: Site) -> bool:
    parent = site.parent
    if isinstance(parent, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        return site.field == "test"
    return isinstance(parent, ast.comprehension) and site.field == "ifs"


def _is_truth(site: Site) -> bool:
    return _is_condition(site) or isinstance(site.parent, ast.BoolOp)


_EXPRESSIONS = (
    ast.Compare, ast.BoolOp, ast.Name, ast.Attribute, ast.Call, ast.UnaryOp, ast.Subscript, ast.NamedExpr,
)  # fmt: skip


@operator(*_EXPRESSIONS)
def negation(site: Site) -> Iterator[Edit]:
    """`if a` as `if not a`."""
    node = site.node
    assert isinstance(node, ast.expr)
    negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    returned = isinstance(site.parent, ast.Return) and isinstance(node, (ast.Compare, ast.BoolOp, ast.Call, ast.Name))
    if (_is_truth(site) or returned) and not negated:
        text = site.text(node) if not isinstance(node, (ast.BoolOp, ast.NamedExpr)) else f"({site.text(node)})"
        yield from site.replace(node, f"not {text}", "negation", 1.5 if _is_truth(site) else 2.2)


@operator(*_EXPRESSIONS)
def guard(site: Site) -> Iterator[Edit]:
    """`if a` as `if x is not None and a`, `if not x or a`, for names of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    returned = isinstance(site.parent, ast.Return) and isinstance(node, (ast.Compare, ast.BoolOp))
    if not _is_condition(site) and not returned:
        return
    text = site.operand(node) if isinstance(node, ast.BoolOp) else site.text(node)
    used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    for name in site.scope.names:
        cost = 2.6 if name in used else 3.2
        for extra in (f"not {name}", f"{name} is None"):
            yield from site.replace(node, f"{extra} or {text}", "missing guard", cost)
            yield from site.replace(node, f"{text} or {extra}", "missing guard", cost + 0.2)
        for extra in (name, f"{name} is not None"):
            yield from site.replace(node, f"{extra} and {text}", "missing guard", cost)


@operator(*_EXPRESSIONS)
def other_condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if a and b`, `if a or b`, `if b`, with conditions that stand elsewhere in the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not _is_condition(site):
        return
    whole = site.text(node)
    text = f"({whole})" if isinstance(node, (ast.BoolOp, ast.IfExp, ast.NamedExpr)) else whole
    for donor, tree in site.scope.conditions.items():
        if donor != whole:
            other = f"({donor})" if isinstance(tree, (ast.BoolOp, ast.NamedExpr)) else donor
            yield from site.replace(node, f"{text} and {other}", "condition too weak", 3.0)
            yield from site.replace(node, f"{text} or {other}", "condition too strong", 3.0)
            yield from site.replace(node, donor, "other condition", 3.0)
            yield from site.replace(node, f"{text} and not {other}", "condition too weak", 3.6)
    for constant in ("True", "False"):
        yield from site.replace(node, constant, "constant condition", 3.8)


@operator(*_EXPRESSIONS)
def new_condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if a and x == 0`, for names and attributes of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not isinstance(site.parent, (ast.If, ast.While)) or site.field != "test":
        return
    text = f"({site.text(node)})" if isinstance(node, (ast.BoolOp, ast.NamedExpr)) else site.text(node)
    plain = (ast.Name, ast.Attribute, ast.Subscript)
    atoms = [donor for donor, tree in site.scope.expressions.items() if isinstance(tree, plain) and len(donor) < 25][
        :12
    ]
    for atom in atoms:
        for other in ("0", "1", *atoms):
            if other != atom:
                for symbol in ("==", ">", "<") if other in "01" else ("==", "!=", "<", "in", "not in"):
                    for word in ("and", "or"):
                        extra = f"{text} {word} {atom} {symbol} {other}"
                        yield from site.replace(node, extra, "condition too weak", 4.6 if other in "01" else 5.2)


@operator(ast.IfExp)
def branches(site: Site) -> Iterator[Edit]:
    """`a if c else b` as `b if c else a`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.IfExp)
    body, test, other = site.text(node.body), site.text(node.test), site.text(node.orelse)
    yield from site.replace(node, f"{other} if {test} else {body}", "swapped branches", 1.6)
    for only in (body, other):
        yield from site.replace(node, only, "surplus choice", 2.4)


@operator(ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
def surplus_filter(site: Site) -> Iterator[Edit]:
    """`[x for x in a if c]` as `[x for x in a]`."""
    node = site.node
    assert isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp))
    for clause in node.generators:
        before: ast.expr = clause.iter
        for test in clause.ifs:
            start, end = site.source.span(before)[1], site.source.span(test)[1]
            yield from site.splice(start, end, "", "surplus filter", 2.2)
            before = test


@operator(ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
def missing_filter(site: Site) -> Iterator[Edit]:
    """`[x for x in a]` as `[x for x in a if x]`, or with a condition of the function."""
    node = site.node
    assert isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp))
    clause = node.generators[-1]
    if clause.ifs:
        return
    end = site.source.span(clause.iter)[1]
    targets = [inner.id for inner in ast.walk(clause.target) if isinstance(inner, ast.Name)]
    tests = [*targets, *(f"{name} is not None" for name in targets), *site.scope.conditions]
    for rank, test in enumerate(tests):
        yield from site.splice(end, end, f" if {test}", "missing filter", 2.8 if rank < len(targets) else 3.4)
