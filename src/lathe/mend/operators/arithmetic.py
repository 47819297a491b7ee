"""Comparisons, arithmetic and boolean operators, and the forms of assignment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import PRODUCT, Edit, Site, operator

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
    "<": ("<=", ">", ">=", "!=", "=="), "<=": ("<", ">=", ">", "==", "!="), ">": (">=", "<", "<=", "!=", "=="),
    ">=": (">", "<=", "<", "==", "!="), "==": ("!=", "in", "is", ">=", "<=", ">", "<", "not in"),
    "!=": ("==", "not in", "is not", "<", ">", "<=", ">="), "is": ("==", "is not", "in"), "is not": ("!=", "is"),
    "in": ("not in", "=="), "not in": ("in", "!="),
}  # fmt: skip
MISTAKEN_BINARIES = {
    "+": ("-", "*", "|", "%", "/"), "-": ("+", "*", "/", "%"), "*": ("+", "**", "/", "//", "-", "%"),
    "/": ("//", "*", "%", "-"), "//": ("/", "%", "*", "-"), "%": ("//", "/", "*", "+", "-"), "**": ("*", "^"),
    "&": ("|", "^", "and"), "|": ("&", "^", "+", "or"), "^": ("&", "|", "**"), "<<": (">>", "*"), ">>": ("<<", "//"),
    "@": ("*",),
}  # fmt: skip


@operator(ast.Compare, kinds=("comparison", "identity"))
def comparison(site: Site) -> Iterator[Edit]:
    """`a < b` as `a <= b`; `a is b` as `a == b`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    operands = [node.left, *node.comparators]
    for index, symbol in enumerate(COMPARISONS[type(op)] for op in node.ops):
        kind = "identity" if symbol.startswith("is") else "comparison"
        for rank, new in enumerate(MISTAKEN_COMPARISONS[symbol]):
            yield from site.between((operands[index], operands[index + 1]), symbol, new, kind, 0.2 * rank)


@operator(ast.Compare, kinds=("swapped operands",))
def comparison_sides(site: Site) -> Iterator[Edit]:
    """`a < b` as `b < a`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    if len(node.ops) == 1 and not isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
        symbol = COMPARISONS[type(node.ops[0])]
        swapped = f"{site.operand(node.comparators[0], 7)} {symbol} {site.operand(node.left, 7)}"
        yield from site.replace(node, swapped, "swapped operands", level=6)


@operator(ast.Compare, kinds=("inexact comparison",))
def inexact(site: Site) -> Iterator[Edit]:
    """`a == b` for floating point as `abs(a - b) < 1e-9`, for texts as `a.lower() == b.lower()`; `a % 2 == 1`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    if len(node.ops) != 1 or not isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
        return
    left, right = node.left, node.comparators[0]
    symbol = COMPARISONS[type(node.ops[0])]
    one, other = site.operand(left), site.operand(right)
    yield from site.replace(node, f"{one}.lower() {symbol} {other}.lower()", "inexact comparison", 0.2, level=6)
    if symbol in ("==", "!="):
        word = "<" if symbol == "==" else ">="
        gap = f"abs({site.text(left)} - {site.operand(right, PRODUCT)}) {word} 1e-9"
        yield from site.replace(node, gap, "inexact comparison", 0.1, level=6)
    else:
        for side in (left, right):
            yield from site.replace(side, f"{site.operand(side)}.lower()", "inexact comparison", 0.4)


@operator(ast.Compare, kinds=("comparison",))
def chain(site: Site) -> Iterator[Edit]:
    """`a < b < c` as `a < b`, and as `b < c`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    if len(node.ops) > 1:
        start, end = site.source.span(node)
        text = site.source.text
        yield from site.replace(node, text[start : site.source.span(node.comparators[-2])[1]], "comparison", 0.8)
        yield from site.replace(node, text[site.source.span(node.comparators[0])[0] : end], "comparison", 0.8)


@operator(ast.BinOp, kinds=("arithmetic",))
def arithmetic(site: Site) -> Iterator[Edit]:
    """`a + b` as `a - b`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    for rank, new in enumerate(MISTAKEN_BINARIES[symbol]):
        yield from site.between((node.left, node.right), symbol, new, "arithmetic", 0.25 * rank)


@operator(ast.BinOp, kinds=("swapped operands", "surplus operand"))
def operands(site: Site) -> Iterator[Edit]:
    """`a - b` as `b - a`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    if not isinstance(node.op, ast.Mod) or not isinstance(node.left, ast.Constant):
        swapped = f"{site.operand(node.right)} {symbol} {site.operand(node.left)}"
        commutes = isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor))
        yield from site.replace(node, swapped, "swapped operands", 0.8 if commutes else 0.0)
    for side in (node.left, node.right):
        yield from site.replace(node, site.text(side), "surplus operand")


@operator(ast.BinOp, kinds=("grouping",))
def grouping(site: Site) -> Iterator[Edit]:
    """`a + b * c` as `(a + b) * c`, and `(a + b) * c` as `a + b * c`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    symbol = BINARIES[type(node.op)]
    if isinstance(node.right, ast.BinOp):
        inner = node.right
        left, middle, right = site.operand(node.left), site.operand(inner.left), site.operand(inner.right)
        yield from site.replace(node, f"({left} {symbol} {middle}) {BINARIES[type(inner.op)]} {right}", "grouping")
    if isinstance(node.left, ast.BinOp):
        inner = node.left
        left, middle, right = site.operand(inner.left), site.operand(inner.right), site.operand(node.right)
        yield from site.replace(node, f"{left} {BINARIES[type(inner.op)]} ({middle} {symbol} {right})", "grouping")


@operator(ast.AugAssign, kinds=("accumulation",))
def accumulation(site: Site) -> Iterator[Edit]:
    """`a += b` as `a -= b` or `a = b`."""
    node = site.node
    assert isinstance(node, ast.AugAssign)
    symbol = BINARIES[type(node.op)]
    start, end = site.source.span(node.target)[1], site.source.span(node.value)[0]
    gap = site.source.text[start:end]
    tail = gap.partition("=")[2]  # with an opening parenthesis, if there is one
    for rank, new in enumerate(MISTAKEN_BINARIES[symbol]):
        if not new.isalpha():
            yield from site.splice(start, end, f" {new}={tail}", "accumulation", 0.25 * rank)
    yield from site.splice(start, end, f" ={tail}", "accumulation", 0.3)


@operator(ast.AugAssign, kinds=("augmented form",))
def augmented_form(site: Site) -> Iterator[Edit]:
    """`a += b` as `a = a + b` (another list, not the same), `a = b + a`, `a.append(b)`, `a += [b]`."""
    node = site.node
    assert isinstance(node, ast.AugAssign)
    target, value = site.text(node.target), site.text(node.value)
    symbol, operand = BINARIES[type(node.op)], site.operand(node.value)
    span = site.source.span(node)
    for rank, text in enumerate((f"{target} = {target} {symbol} {operand}", f"{target} = {operand} {symbol} {target}")):
        yield from site.splice(*span, text, "augmented form", 0.2 * rank)
    if isinstance(node.op, ast.Add):
        yield from site.splice(*span, f"{target}.append({value})", "augmented form", 0.2)
        yield from site.replace(node.value, f"[{value}]", "augmented form", 0.1)


@operator(ast.Assign, kinds=("accumulation", "running extreme"))
def assignment(site: Site) -> Iterator[Edit]:
    """`a = b` as `a += b`, `a = max(a, b)`; `a =+ b` as `a += b`."""
    node = site.node
    assert isinstance(node, ast.Assign)
    target = node.targets[0]
    if len(node.targets) != 1 or isinstance(target, (ast.Tuple, ast.List)) or site.function is None:
        return
    start, end = site.source.span(target)[1], site.source.span(node.value)[0]
    tail = site.source.text[start:end].partition("=")[2]
    for new, extra in (("+=", 0.2), ("-=", 0.6), ("*=", 0.9), ("|=", 1.1), ("//=", 1.2), ("&=", 1.4), ("%=", 1.4)):
        yield from site.splice(start, end, f" {new}{tail}", "accumulation", extra)
    if isinstance(node.value, ast.UnaryOp) and isinstance(node.value.op, (ast.UAdd, ast.USub)):
        sign = "+" if isinstance(node.value.op, ast.UAdd) else "-"
        inner = site.text(node.value.operand)
        yield from site.splice(start, site.source.span(node.value)[1], f" {sign}= {inner}", "accumulation")
    name, value = site.text(target), site.text(node.value)
    for wrapper in ("max", "min"):
        yield from site.replace(node.value, f"{wrapper}({name}, {value})", "running extreme", level=16)


@operator(ast.BoolOp, kinds=("connective", "surplus condition"))
def connective(site: Site) -> Iterator[Edit]:
    """`a and b` as `a or b`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.BoolOp)
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        yield from site.between((left, right), old, new, "connective", 0.0 if len(node.values) == 2 else 0.3)
    if len(node.values) > 2:
        yield from site.replace(node, f" {new} ".join(map(site.operand, node.values)), "connective", 0.1)
    parts = [site.text(value) for value in node.values]
    for index in range(len(parts)):
        rest = parts[:index] + parts[index + 1 :]
        yield from site.replace(node, f" {old} ".join(rest), "surplus condition")


@operator(ast.BoolOp, kinds=("precedence", "type check"))
def misread(site: Site) -> Iterator[Edit]:
    """`a == 1 or 2` as `a in (1, 2)`; `a or b and c` as `(a or b) and c`; `a or b` as `a if a is not None else b`."""
    node = site.node
    assert isinstance(node, ast.BoolOp)
    first, *rest = node.values
    if isinstance(first, ast.Compare) and len(first.ops) == 1:
        symbol = COMPARISONS[type(first.ops[0])]
        word = {"==": "in", "!=": "not in"}.get(symbol)
        if word and not any(isinstance(value, (ast.Compare, ast.BoolOp, ast.Call)) for value in rest):
            values = ", ".join(site.text(value) for value in (first.comparators[0], *rest))
            yield from site.replace(node, f"{site.text(first.left)} {word} ({values})", "precedence")
        each = [f"{site.text(first.left)} {symbol} {site.operand(value)}" for value in rest]
        joined = (" and " if isinstance(node.op, ast.And) else " or ").join([site.text(first), *each])
        yield from site.replace(node, joined, "precedence", 0.2)
    last = node.values[-1]
    if isinstance(node.op, ast.Or) and isinstance(last, ast.BoolOp) and isinstance(last.op, ast.And):
        head = " or ".join(map(site.text, [*node.values[:-1], last.values[0]]))
        tail = " and ".join(map(site.text, last.values[1:]))
        yield from site.replace(node, f"({head}) and {tail}", "precedence", 0.1)
    if isinstance(node.op, ast.Or) and len(node.values) == 2 and isinstance(first, (ast.Name, ast.Attribute)):
        text = f"{site.text(first)} if {site.text(first)} is not None else {site.text(last)}"
        yield from site.replace(node, text, "type check", 0.2)


@operator(ast.UnaryOp, kinds=("negation", "sign"))
def unary(site: Site) -> Iterator[Edit]:
    """`not a` as `a`, `-a` as `a`, `~a` as `not a` and `-a`."""
    node = site.node
    assert isinstance(node, ast.UnaryOp)
    kind = "negation" if isinstance(node.op, ast.Not) else "sign"
    yield from site.replace(node, site.text(node.operand), kind)
    if isinstance(node.op, ast.Invert):
        yield from site.replace(node, f"not {site.text(node.operand)}", "sign", 0.2)
        yield from site.replace(node, f"-{site.text(node.operand)}", "sign", 0.4)
    if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.BoolOp):
        first, *rest = node.operand.values
        word = " and " if isinstance(node.operand.op, ast.And) else " or "
        yield from site.replace(node, word.join([f"not {site.text(first)}", *map(site.text, rest)]), "negation", 0.4)
