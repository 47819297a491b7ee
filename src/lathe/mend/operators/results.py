"""What a function gives back: the wrong value, wrapped or not, yielded or returned, or nothing at all."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from lathe.mend.operators.borrowing import borrowed
from lathe.mend.operators.place import Place
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.source import Function

_MAX_BORROWED = 60
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)


@operator(ast.Return, kinds=("wrong result",))
def answer(site: Site) -> Iterator[Edit]:
    """`return a` as `return b`, for names of the function, what it returns elsewhere, and plain values."""
    node = site.node
    assert isinstance(node, ast.Return)
    start, end = site.source.span(node)
    first = min((site.scope.bound_at.get(name, 0) for name in site.names), default=0)
    for name in site.names:
        late = 0.0 if site.scope.bound_at.get(name, first) <= node.lineno else 0.5
        yield from site.splice(start, end, f"return {name}", "wrong result", 0.1 + late)
    for rank, text in enumerate(site.scope.answers(site.function)):
        yield from site.splice(start, end, f"return {text}", "wrong result", min(0.8, 0.08 * rank))
    for name in site.names:
        if site.scope.names[name] not in ("number", "truth", "function"):
            for rank, form in enumerate(("len({})", "{}[-1]", "{}[0]", "sum({})", "max({})", "min({})", "list({})")):
                yield from site.splice(start, end, f"return {form.format(name)}", "wrong result", 0.7 + 0.05 * rank)


@operator(ast.Return, kinds=("wrong result",))
def composed_answer(site: Site) -> Iterator[Edit]:
    """`return`, `return a` as `return` of a call, an attribute or an item of the file, or of two names together."""
    node = site.node
    assert isinstance(node, ast.Return)
    if node.value is not None and not isinstance(node.value, (ast.Name, ast.Constant)):
        return
    start, end = site.source.span(node)
    for rank, one in enumerate(borrowed(site)[:_MAX_BORROWED]):
        if isinstance(one.tree, (ast.Call, ast.Attribute, ast.Subscript)):
            yield from site.splice(start, end, f"return {one.text}", "wrong result", 0.3 + one.far + 0.01 * rank)
    parameters = [name for name in site.names if name in site.scope.parameters]
    for left, right in itertools.permutations(parameters[:4], 2):
        for rank, sign in enumerate(("+", "-", "*", "==", "/", "in", "**", "and", "or", "<", "%")):
            yield from site.splice(start, end, f"return {left} {sign} {right}", "wrong result", 0.6 + 0.05 * rank)


@operator(ast.Return, kinds=("wrong result",))
def compared_answer(site: Site) -> Iterator[Edit]:
    """`return True` as `return a == b`, with conditions of the function."""
    node = site.node
    assert isinstance(node, ast.Return)
    if isinstance(node.value, (ast.Constant, ast.Name)):
        for text in site.scope.conditions:
            yield from site.replace(node.value, text, "wrong result", 0.7)
            yield from site.replace(node.value, f"not ({text})", "wrong result", 1.0, level=5)
        for name in site.names:
            for test in (
                f"{name} == 0",
                f"{name} == 1",
                f"{name} > 0",
                f"not {name}",
                f"len({name}) == 0",
                f"bool({name})",
            ):
                yield from site.replace(node.value, test, "wrong result", 0.9)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, ast.Tuple, ast.Constant, kinds=("brackets",))
def brackets(site: Site) -> Iterator[Edit]:
    """`a` as `[a]`, `(a,)`, where it is returned, kept, added or passed on; `a, b` as `[a, b]`."""
    node = site.node
    assert isinstance(node, ast.expr)
    kept = isinstance(site.parent, (ast.Return, ast.Assign, ast.Call, ast.BinOp, ast.keyword, ast.AugAssign, ast.Yield))
    kept = kept or isinstance(site.parent, (ast.List, ast.For))
    if not site.is_short or not kept or site.text(node) in ("self", "cls"):
        return
    extra = 0.0 if isinstance(site.parent, (ast.Return, ast.BinOp, ast.AugAssign, ast.Yield)) else 0.3
    text = site.text(node)
    if isinstance(node, ast.Tuple):
        inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
        yield from site.replace(node, f"[{inner}]", "brackets", extra, level=16)
        return
    yield from site.replace(node, f"[{text}]", "brackets", extra, level=16)
    if not isinstance(site.parent, ast.BinOp):
        yield from site.replace(node, f"({text},)", "brackets", 0.3 + extra, level=16)
    if isinstance(site.parent, ast.Return):
        for name in site.names:
            if name != text:
                yield from site.replace(node, f"{text}, {name}", "brackets", 0.7)
                yield from site.replace(node, f"{name}, {text}", "brackets", 0.8)


@operator(ast.List, ast.Tuple, ast.Set, kinds=("brackets",))
def surplus_brackets(site: Site) -> Iterator[Edit]:
    """`[a]` as `a`; `a, b` as `a`; `[a, b]` as `(a, b)`."""
    node = site.node
    assert isinstance(node, (ast.List, ast.Tuple, ast.Set))
    if not site.is_value or not node.elts or isinstance(site.parent, ast.Subscript):
        return
    for rank, part in enumerate(node.elts[:3]):
        if not isinstance(part, ast.Starred):
            yield from site.replace(node, site.text(part), "brackets", 0.0 if len(node.elts) == 1 else 0.3 + 0.1 * rank)
    if isinstance(node, ast.List):
        inner = site.text(node)[1:-1].rstrip().rstrip(",")
        comma = "," if len(node.elts) == 1 else ""
        yield from site.replace(node, f"({inner}{comma})", "brackets", 0.3, level=16)
        yield from site.replace(node, f"{{{inner}}}", "brackets", 0.5, level=16)


@operator(ast.Starred, kinds=("unpacking",))
def surplus_star(site: Site) -> Iterator[Edit]:
    """`f(*a)` as `f(a)`, `[*a]` as `[a]`."""
    node = site.node
    assert isinstance(node, ast.Starred)
    if isinstance(node.ctx, ast.Load):
        yield from site.splice(*site.source.span(node), site.text(node.value), "unpacking")


@operator(ast.Call, kinds=("unpacking",))
def missing_star(site: Site) -> Iterator[Edit]:
    """`f(a)` as `f(*a)`, `f(**a)`; `f(**a)` as `f(a)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    if node.args and isinstance(node.args[-1], (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
        start = site.source.span(node.args[-1])[0]
        shape = site.scope.names.get(site.text(node.args[-1]), "")
        if shape not in ("number", "truth"):
            yield from site.splice(start, start, "*", "unpacking", 0.2)
            yield from site.splice(start, start, "**", "unpacking", 0.6 if shape != "dict" else 0.1)
    for keyword in node.keywords:
        if keyword.arg is None:
            yield from site.splice(*site.source.span(keyword), site.text(keyword.value), "unpacking", 0.2)


@operator(ast.Expr, kinds=("missing return", "lost result"))
def missing_return(site: Site) -> Iterator[Edit]:
    """`f(a)` as `return f(a)`; `a.f(b)` as `a = a.f(b)`; `f(a)` as `a = f(a)`; `a + b` as `a += b`."""
    node = site.node
    assert isinstance(node, ast.Expr)
    if isinstance(node.value, ast.Constant) or site.function is None:
        return
    start = site.source.span(node)[0]
    if not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
        yield from site.splice(start, start, "return ", "missing return")
    if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        receiver = site.text(node.value.func.value)
        if "(" not in receiver and '"' not in receiver and "'" not in receiver:
            yield from site.splice(start, start, f"{receiver} = ", "lost result")
    yield from _assigned(site, node)
    if isinstance(node.value, ast.Call):
        for argument in node.value.args[:2]:
            if isinstance(argument, (ast.Name, ast.Attribute)):
                yield from site.splice(start, start, f"{site.text(argument)} = ", "lost result", 0.1)
                yield from site.splice(start, start, f"{site.text(argument)} += ", "lost result", 0.7)
        for name in site.names:
            for symbol, extra in (("=", 0.5), ("+=", 0.6)):
                yield from site.splice(start, start, f"{name} {symbol} ", "lost result", extra)
    if isinstance(node.value, ast.BinOp) and isinstance(node.value.left, (ast.Name, ast.Attribute)):
        left = site.source.span(node.value.left)[1]
        right = site.source.span(node.value.right)[0]
        symbol = site.source.text[left:right].strip()
        yield from site.splice(left, right, f" {symbol}= ", "lost result")
    if isinstance(node.value, ast.Compare) and len(node.value.ops) == 1 and isinstance(node.value.ops[0], ast.Eq):
        yield from site.between((node.value.left, node.value.comparators[0]), "==", "=", "lost result")


def _assigned(site: Site, node: ast.Expr) -> Iterator[Edit]:
    """`a.update(b)` as `a = b`, `a.extend(b)` as `a += b`, `a.append(b)` as `a += [b]`."""
    call = node.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and len(call.args) == 1:
        value = call.func.value
        if isinstance(value, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(call.args[0], ast.Starred):
            receiver, argument = site.text(value), site.text(call.args[0])
            for rank, text in enumerate((f"= {argument}", f"+= {argument}", f"+= [{argument}]", f"|= {argument}")):
                yield from site.splice(*site.source.span(node), f"{receiver} {text}", "lost result", 0.6 + 0.1 * rank)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("missing return",))
def missing_last_return(site: Site) -> Iterator[Edit]:
    """Insert `return a` at the end of a function that ends without one."""
    node = site.node
    assert isinstance(node, Function)
    last = node.body[-1]
    if isinstance(last, _LEAVES) or (not site.source.owns_its_lines(last) and not isinstance(last, _COMPOUND)):
        return
    end = site.source.block(last)[1]
    lead = "" if site.source.text[:end].endswith(("\n", "\r")) else site.source.newline
    indent = site.source.text[site.source.block(last)[0] :][: last.col_offset]
    names = [name for name in site.scope.names if name not in site.scope.inner and name not in ("self", "cls")]
    local = [name for name in names if name not in site.scope.parameters]
    answers = (
        ["None", "True", "False", "[]", "0", "self", "-1", '""']
        if "self" in site.scope.names
        else ["True", "False", "[]", "0", "-1"]
    )
    for rank, name in enumerate(dict.fromkeys([*reversed(local), *names, *site.scope.answers(node)[:4], *answers])):
        text = f"{lead}{indent}return {name}{site.source.newline}"
        yield from site.splice(end, end, text, "missing return", min(0.9, 0.04 * rank), line=last.lineno)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("flag",))
def inverted(site: Site) -> Iterator[Edit]:
    """A function that answers the other way round: each `return True` as `return False`, and back."""
    node, source = site.node, site.source
    assert isinstance(node, Function)
    flags = [
        value
        for value in (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return))
        if isinstance(value, ast.Constant) and isinstance(value.value, bool)
    ]
    flags.sort(key=source.span)
    if len(flags) > 1:
        parts, at = [], source.span(flags[0])[0]
        for flag in flags:
            start, end = source.span(flag)
            parts += [source.text[at:start], str(not flag.value)]
            at = end
        yield from site.splice(source.span(flags[0])[0], at, "".join(parts), "flag", 1.0, line=flags[0].lineno)


@operator(ast.Assign, ast.AugAssign, kinds=("missing return",))
def return_for_assignment(site: Site) -> Iterator[Edit]:
    """`a = b` as `return b`; `a.append(b)` as `yield b` is in `yield_for_append`."""
    node = site.node
    assert isinstance(node, (ast.Assign, ast.AugAssign))
    if site.function is not None:
        yield from site.splice(*site.source.span(node), f"return {site.text(node.value)}", "missing return", 0.6)


@operator(ast.Return, ast.Yield, ast.Expr, kinds=("yield for return",))
def yielding(site: Site) -> Iterator[Edit]:
    """`return a` as `yield a`, `yield a` as `return a`, `a.append(b)` as `yield b`."""
    node = site.node
    if isinstance(node, ast.Return) and node.value is not None:
        start = site.source.span(node)[0]
        yield from site.splice(start, start + len("return"), "yield", "yield for return")
        yield from site.splice(start, start + len("return"), "yield from", "yield for return", 0.3)
    elif isinstance(node, ast.Yield) and isinstance(site.parent, ast.Expr):
        start = site.source.span(node)[0]
        yield from site.splice(start, start + len("yield"), "return", "yield for return", 0.1)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and len(node.value.args) == 1:
        text = f"yield {site.text(node.value.args[0])}"
        extra = 0.6 if getattr(node.value.func, "attr", "") == "append" else 1.2
        yield from site.splice(*site.source.span(node), text, "yield for return", extra)


@operator(ast.Return, kinds=("lost result",))
def in_place(site: Site) -> Iterator[Edit]:
    """`return a.sort()` as `return sorted(a)`; `return a.append(b)` as the call and then `return a`."""
    node, place = site.node, site.place
    assert isinstance(node, ast.Return)
    call = node.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return
    receiver, method = site.text(call.func.value), call.func.attr
    if method in ("sort", "reverse"):
        word = "sorted" if method == "sort" else "reversed"
        inner = site.source.text[site.source.span(call.func)[1] + 1 : site.source.span(call)[1] - 1]
        yield from site.replace(call, f"{word}({receiver}{', ' if inner else ''}{inner})", "lost result", level=16)
    if isinstance(place, Place) and isinstance(call.func.value, (ast.Name, ast.Attribute)):
        text = f"{place.indent}{site.text(call)}\n{place.indent}return {receiver}\n".replace("\n", site.source.newline)
        yield from site.splice(place.start, place.end, text, "lost result", 0.3)


@operator(ast.Assign, kinds=("lost result",))
def kept_nothing(site: Site) -> Iterator[Edit]:
    """`a = a.append(b)` as `a.append(b)`; `a = b.sort()` as `a = sorted(b)`."""
    node = site.node
    assert isinstance(node, ast.Assign)
    call = node.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and site.function is not None:
        yield from site.splice(*site.source.span(node), site.text(call), "lost result", 0.2)
        if call.func.attr in ("sort", "reverse") and not call.args and not call.keywords:
            word = "sorted" if call.func.attr == "sort" else "reversed"
            yield from site.replace(call, f"{word}({site.text(call.func.value)})", "lost result", level=16)
