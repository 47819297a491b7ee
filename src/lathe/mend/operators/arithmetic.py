"""Comparisons, arithmetic and boolean operators."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
BINARIES: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
}  # fmt: skip
# For each operator those it is mistaken for, the likeliest first.
MISTAKEN_COMPARISONS = {
    "<": ("<=", ">", ">=", "!="), "<=": ("<", ">=", ">", "=="), ">": (">=", "<", "<=", "!="),
    ">=": (">", "<=", "<", "=="), "==": ("!=", "in", "is", ">=", "<=", ">", "<"), "!=": ("==", "not in", "<", ">"),
    "is": ("is not", "=="), "is not": ("is", "!="), "in": ("not in", "=="), "not in": ("in", "!="),
}  # fmt: skip
MISTAKEN_BINARIES = {
    "+": ("-", "*", "|"), "-": ("+", "*"), "*": ("+", "**", "/", "//"), "/": ("//", "*", "%"), "//": ("/", "%", "*"),
    "%": ("//", "/"), "**": ("*",), "&": ("|", "^"), "|": ("&", "^", "+"), "^": ("&", "|", "**"), "<<": (">>",),
    ">>": ("<<",), "@": ("*",),
}  # fmt: skip


@operator(ast.Compare)
def comparison(site: Site) -> Iterator[Edit]:
    """`a < b` as `a <= b`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    operands = [node.left, *node.comparators]
    for index, symbol in enumerate(COMPARISONS[type(op)] for op in node.ops):
        for rank, new in enumerate(MISTAKEN_COMPARISONS[symbol]):
            yield from site.between(
                (operands[index], operands[index + 1]), symbol, new, "comparison", 1.0 + 0.25 * rank
            )


@operator(ast.Compare)
def comparison_sides(site: Site) -> Iterator[Edit]:
    """`a < b` as `b < a`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    if len(node.ops) == 1 and not isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
        symbol = COMPARISONS[type(node.ops[0])]
        swapped = f"{site.operand(node.comparators[0])} {symbol} {site.operand(node.left)}"
        yield from site.replace(node, swapped, "swapped operands", 2.0)


@operator(ast.BinOp)
def arithmetic(site: Site) -> Iterator[Edit]:
    """`a + b` as `a - b`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    for rank, new in enumerate(MISTAKEN_BINARIES[symbol]):
        yield from site.between((node.left, node.right), symbol, new, "arithmetic", 1.2 + 0.3 * rank)


@operator(ast.BinOp)
def operands(site: Site) -> Iterator[Edit]:
    """`a - b` as `b - a`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    swapped = f"{site.operand(node.right)} {symbol} {site.operand(node.left)}"
    yield from site.replace(node, swapped, "swapped operands", 1.6)
    for side in (node.left, node.right):
        yield from site.replace(node, site.text(side), "surplus operand", 1.9)


@operator(ast.BinOp)
def grouping(site: Site) -> Iterator[Edit]:
    """`a + b * c` as `(a + b) * c`, and `(a + b) * c` as `a + b * c`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    if isinstance(node.right, ast.BinOp):
        inner = node.right
        left, middle, right = site.operand(node.left), site.operand(inner.left), site.operand(inner.right)
        yield from site.replace(node, f"({left} {symbol} {middle}) {BINARIES[type(inner.op)]} {right}", "grouping", 2.0)
    if isinstance(node.left, ast.BinOp):
        inner = node.left
        left, middle, right = site.operand(inner.left), site.operand(inner.right), site.operand(node.right)
        yield from site.replace(node, f"{left} {BINARIES[type(inner.op)]} ({middle} {symbol} {right})", "grouping", 2.0)


@operator(ast.AugAssign)
def accumulation(site: Site) -> Iterator[Edit]:
    """`a += b` as `a -= b` or `a = b`."""
    node = site.node
    assert isinstance(node, ast.AugAssign)
    symbol = BINARIES[type(node.op)]
    start, end = site.source.span(node.target)[1], site.source.span(node.value)[0]
    for rank, new in enumerate(MISTAKEN_BINARIES[symbol]):
        yield from site.splice(start, end, f" {new}= ", "accumulation", 1.2 + 0.3 * rank)
    yield from site.splice(start, end, " = ", "accumulation", 1.7)


@operator(ast.Assign)
def assignment(site: Site) -> Iterator[Edit]:
    """`a = b` as `a += b`, `a = max(a, b)` or `a = a + b`."""
    node = site.node
    assert isinstance(node, ast.Assign)
    target = node.targets[0]
    if len(node.targets) != 1 or isinstance(target, (ast.Tuple, ast.List)) or not site.source.function(node):
        return
    start, end = site.source.span(target)[1], site.source.span(node.value)[0]
    for new, cost in (("+=", 1.9), ("-=", 2.5), ("*=", 2.8), ("|=", 3.0)):
        yield from site.splice(start, end, f" {new} ", "accumulation", cost)
    name, value = site.text(target), site.text(node.value)
    for wrapper in ("max", "min"):
        yield from site.replace(node.value, f"{wrapper}({name}, {value})", "accumulation", 2.4)


@operator(ast.BoolOp)
def connective(site: Site) -> Iterator[Edit]:
    """`a and b` as `a or b`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.BoolOp)
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    if len(node.values) == 2:
        yield from site.between((node.values[0], node.values[1]), old, new, "connective", 1.2)
    parts = [site.text(value) for value in node.values]
    if len(parts) > 2:
        yield from site.replace(node, f" {new} ".join(parts), "connective", 1.4)
    for index in range(len(parts)):
        rest = parts[:index] + parts[index + 1 :]
        yield from site.replace(node, f" {old} ".join(rest), "surplus condition", 1.7)


@operator(ast.UnaryOp)
def unary(site: Site) -> Iterator[Edit]:
    """`not a` as `a`, `-a` as `a`."""
    node = site.node
    assert isinstance(node, ast.UnaryOp)
    kind = "negation" if isinstance(node.op, ast.Not) else "sign"
    yield from site.replace(node, site.text(node.operand), kind, 1.4)


@operator(ast.Name, ast.Call, ast.Attribute, ast.BinOp, ast.Subscript)
def off_by_one(site: Site) -> Iterator[Edit]:
    """`n` as `n + 1` or `n - 1`, likelier where it is an index, a bound or compared."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not is_value(site) or len(site.text(node)) > 50:
        return
    parent = site.parent
    bound = isinstance(parent, (ast.Slice, ast.Compare)) or (
        isinstance(parent, ast.Subscript) and site.field == "slice"
    )
    bound = bound or (isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "range")
    cost = 1.5 if bound else 1.9 if isinstance(parent, ast.Return) else 2.3
    for step in ("+ 1", "- 1"):
        yield from site.replace(node, f"{site.operand(node)} {step}", "off by one", cost)


@operator(ast.Name, ast.Call, ast.Attribute, ast.BinOp, ast.Subscript)
def missing_operand(site: Site) -> Iterator[Edit]:
    """`a` as `a + b`, `a - b`, `a * b` with a name of the function, or as `-a`."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not is_value(site) or isinstance(site.parent, (ast.Compare, ast.Subscript)) or len(site.text(node)) > 50:
        return
    text = site.operand(node)
    for name in site.scope.names:
        if name not in ("self", "cls", site.text(node)):
            for symbol, cost in (("+", 3.3), ("-", 3.3), ("*", 3.8)):
                yield from site.replace(node, f"{text} {symbol} {name}", "missing operand", cost)
    if isinstance(site.parent, (ast.Return, ast.Call, ast.Assign, ast.BinOp, ast.keyword)):
        yield from site.replace(node, f"-{text}", "sign", 3.0)


def is_value(site: Site) -> bool:
    """Return whether the expression is read, and is neither a statement, a called name, an annotation nor text."""
    node = site.node
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        return False
    if isinstance(site.parent, (ast.Expr, ast.FormattedValue, ast.JoinedStr, ast.Starred)):
        return False
    return not (isinstance(site.parent, ast.Call) and site.field == "func")
