"""Values that are off by one, have the wrong sign, or lack a part."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import MAX_TEXT, PRODUCT, SUM, Edit, Site, operator
from lathe.mend.operators.shapes import shape_of

_VALUES = (ast.Name, ast.Call, ast.Attribute, ast.BinOp, ast.Subscript)


def _is_bound(site: Site) -> bool:
    """Return whether the value is an index, a bound of a slice or range, or compared."""
    parent = site.parent
    if isinstance(parent, (ast.Slice, ast.Compare)) or (isinstance(parent, ast.Subscript) and site.field == "slice"):
        return True
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "range"


def _may_be_number(site: Site) -> bool:
    """Return whether nothing says that the value is no number."""
    node = site.node
    assert isinstance(node, ast.expr)
    shape = site.scope.names.get(node.id, "") if isinstance(node, ast.Name) else shape_of(node)
    return shape in ("", "number") and not (isinstance(node, ast.Name) and node.id in ("self", "cls"))


@operator(*_VALUES, kinds=("off by one",))
def off_by_one(site: Site) -> Iterator[Edit]:
    """`n` as `n + 1` or `n - 1`, likelier where it is an index, a bound or compared."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or not _may_be_number(site):
        return
    extra = 0.0 if _is_bound(site) else 0.3 if isinstance(site.parent, (ast.Return, ast.Call)) else 0.6
    text = site.operand(node, SUM)
    for step in ("+ 1", "- 1"):
        yield from site.replace(node, f"{text} {step}", "off by one", extra, level=SUM)


@operator(ast.Call, kinds=("recursion",))
def recursion(site: Site) -> Iterator[Edit]:
    """`f(n)` inside `f` as `f(n - 1)`, `f(n[1:])`, `f(n // 2)`; two calls of itself with exchanged arguments."""
    node = site.node
    assert isinstance(node, ast.Call)
    if site.function is None or site.called() != site.function.name:
        return
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            continue
        text = site.operand(argument, PRODUCT)
        shape = site.scope.names.get(text, "")
        steps = [f"{text} - 1", f"{text} + 1", f"{text} // 2"] if shape in ("", "number") else []
        if isinstance(argument, (ast.Name, ast.Attribute)) and shape != "number":
            steps += [f"{text}[1:]", f"{text}[:-1]", *_descents(site, text)]
        for rank, step in enumerate(steps):
            yield from site.replace(argument, step, "recursion", 0.1 * rank)


def _descents(site: Site, text: str) -> list[str]:
    """Return attributes of `text` that the function reads elsewhere: `node.left` for `node`."""
    return [donor for donor in site.scope.expressions if donor.startswith(f"{text}.") and donor.count(".") == 1]


@operator(ast.Return, kinds=("recursion",))
def missing_recursion(site: Site) -> Iterator[Edit]:
    """`return a` as `return a + f(n - 1)` with the calls of itself that the function has."""
    node, function = site.node, site.function
    assert isinstance(node, ast.Return)
    if node.value is None or function is None:
        return
    own = [
        text
        for text, tree in site.scope.expressions.items()
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == function.name
    ]
    value = site.operand(node.value, SUM)
    for text in own:
        if text not in value:
            for symbol, extra in (("+", 0.6), ("*", 1.2), ("-", 1.6)):
                yield from site.replace(node.value, f"{value} {symbol} {text}", "recursion", extra)


@operator(*_VALUES, kinds=("missing operand",))
def missing_operand(site: Site) -> Iterator[Edit]:
    """`a` as `a + b`, `a - b`, `a * b` and further, with a name of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or not _may_be_number(site):
        return
    extra = 0.6 if isinstance(site.parent, (ast.Compare, ast.Subscript)) else 0.2
    text, product = site.operand(node, SUM), site.operand(node, PRODUCT)
    own = site.text(node)
    for name in site.names:
        if name == own:
            continue
        far = 0.0 if site.scope.names[name] == "number" else 0.4 if not site.scope.names[name] else 1.2
        for symbol, more in (("+", 0.0), ("-", 0.0), ("*", 0.4), ("%", 0.7), ("//", 0.8), ("/", 0.9)):
            level = SUM if symbol in "+-" else PRODUCT
            value = text if level == SUM else product
            yield from site.replace(
                node, f"{value} {symbol} {name}", "missing operand", extra + more + far, level=level
            )
    for symbol in ("* 2", "// 2", "/ 2", "% 2", "% 10", "// 10", "* 10", "** 2"):
        level = 14 if symbol.startswith("**") else PRODUCT
        operand = site.operand(node) if level > PRODUCT else product
        yield from site.replace(node, f"{operand} {symbol}", "missing operand", extra + 0.6, level=level)


@operator(*_VALUES, ast.List, ast.ListComp, ast.JoinedStr, ast.Constant, kinds=("missing operand",))
def missing_part(site: Site) -> Iterator[Edit]:
    """A list or a text `a` as `a + b`, `b + a`, with names of the function that may be one."""
    node = site.node
    assert isinstance(node, ast.expr)
    shape = site.scope.names.get(node.id, "") if isinstance(node, ast.Name) else shape_of(node)
    if not site.is_value or len(site.text(node)) > 2 * MAX_TEXT or shape not in ("", "list", "text"):
        return
    text = site.operand(node, SUM)
    kept = isinstance(site.parent, (ast.Return, ast.Assign, ast.AugAssign, ast.Call, ast.BinOp))
    for name in site.names if kept else ():
        if site.scope.names[name] in ("", shape) and name != text and (shape or site.scope.names[name]):
            extra = 0.2 if site.scope.names[name] == shape else 0.5
            yield from site.replace(node, f"{text} + {name}", "missing operand", extra, level=SUM)
            yield from site.replace(node, f"{name} + {text}", "missing operand", extra, level=SUM)


@operator(*_VALUES, ast.Constant, kinds=("missing operand",), extra=0.7)
def longer_sum(site: Site) -> Iterator[Edit]:
    """`a` as `a + b[i]`, `a + f(b)`: with expressions that stand in the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or isinstance(site.parent, (ast.Subscript, ast.keyword)) or not _may_be_number(site):
        return
    text = site.operand(node, SUM)
    for donor, tree in site.scope.expressions.items():
        if isinstance(tree, (ast.Call, ast.Subscript, ast.Attribute, ast.BinOp)) and donor != site.text(node):
            far = min(0.6, abs(tree.lineno - node.lineno) / 15)
            value = site.operand(tree, PRODUCT)
            for symbol in ("+", "-"):
                yield from site.replace(node, f"{text} {symbol} {value}", "missing operand", 0.8 + far, level=SUM)


@operator(*_VALUES, kinds=("sign",))
def sign(site: Site) -> Iterator[Edit]:
    """`a` as `-a`."""
    node = site.node
    assert isinstance(node, ast.expr)
    kept = isinstance(site.parent, (ast.Return, ast.Call, ast.Assign, ast.BinOp, ast.keyword, ast.Tuple))
    if site.is_short and kept and _may_be_number(site):
        yield from site.replace(node, f"-{site.operand(node)}", "sign", 0.6, level=13)
