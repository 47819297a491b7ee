"""Conditions: negated, too strong, too weak, or another one altogether; and the two branches of a choice."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import AND, COMPARED, NOT, OR, Edit, Site, operator

_EXPRESSIONS = (
    ast.Compare, ast.BoolOp, ast.Name, ast.Attribute, ast.Call, ast.UnaryOp, ast.Subscript, ast.NamedExpr,
)  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
_PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)


def _is_condition(site: Site) -> bool:
    parent = site.parent
    if isinstance(parent, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        return site.field == "test"
    return isinstance(parent, ast.comprehension) and site.field == "ifs"


def is_truth(site: Site) -> bool:
    """Return whether only the truth of the expression matters."""
    return _is_condition(site) or isinstance(site.parent, ast.BoolOp)


def _is_decision(site: Site) -> bool:
    """Return whether the expression is a condition or a truth value that is returned."""
    return _is_condition(site) or (
        isinstance(site.parent, (ast.Return, ast.Assign)) and isinstance(site.node, (ast.Compare, ast.BoolOp))
    )


@operator(*_EXPRESSIONS, kinds=("negation",))
def negation(site: Site) -> Iterator[Edit]:
    """`if a` as `if not a`."""
    node = site.node
    assert isinstance(node, ast.expr)
    negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    returned = isinstance(site.parent, ast.Return) and isinstance(node, (ast.Compare, ast.BoolOp, ast.Call, ast.Name))
    if (is_truth(site) or returned) and not negated:
        extra = 0.0 if is_truth(site) else 0.5
        yield from site.replace(node, f"not {site.operand(node, NOT)}", "negation", extra, level=NOT)


@operator(*_EXPRESSIONS, kinds=("missing check",))
def check(site: Site) -> Iterator[Edit]:
    """`if a` as `if x is not None and a`, `if not x or a`, for names of the function, those in the condition first."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not _is_decision(site):
        return
    strong, weak = site.operand(node, AND), site.operand(node, OR)
    used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    for name in site.names:
        extra = 0.0 if name in used else 0.6
        whole = strong == name
        for rank, more in enumerate((f"not {name}", f"{name} is None")):
            yield from site.replace(node, f"{more} or {weak}", "missing check", extra + 0.2 * rank, level=OR)
            yield from site.replace(node, f"{weak} or {more}", "missing check", extra + 0.2, level=OR)
        for more in (name, f"{name} is not None", f"not {name}", f"{name} is None"):
            if more != name or not whole:
                yield from site.replace(node, f"{more} and {strong}", "missing check", extra + 0.1, level=AND)
                yield from site.replace(node, f"{strong} and {more}", "missing check", extra + 0.3, level=AND)
        for text in _of_kind(site, name) if name in used else ():
            yield from site.replace(node, f"{text} and {strong}", "missing check", extra + 0.4, level=AND)
            yield from site.replace(node, f"{strong} and {text}", "missing check", extra + 0.5, level=AND)
            yield from site.replace(node, f"{text} or {weak}", "missing check", extra + 0.5, level=OR)
    for far, holder in enumerate(_held(site, node)):
        for rank, text in enumerate((f"{holder} is not None", holder)):
            yield from site.replace(node, f"{text} and {strong}", "missing check", 0.05 * far + 0.1 * rank, level=AND)
        for rank, text in enumerate((f"{holder} is None", f"not {holder}"), start=1):
            yield from site.replace(node, f"{text} or {weak}", "missing check", 0.05 * far + 0.1 * rank, level=OR)
    for name in site.words.top:
        if name.lstrip("_").isupper() and name not in site.scope.names:
            yield from site.replace(node, f"{strong} and {name}", "missing check", 0.6, level=AND)
            yield from site.replace(node, f"{name} and {strong}", "missing check", 0.7, level=AND)
    for text in _bounds(site, node):
        yield from site.replace(node, f"{text} and {strong}", "missing check", 0.1, level=AND)
        yield from site.replace(node, f"{strong} and {text}", "missing check", 0.2, level=AND)
    if isinstance(node, ast.Name):
        for text in (f"{node.id} is not None", f"{node.id} is None", f"len({node.id}) > 0", f"len({node.id}) > 1"):
            yield from site.replace(node, text, "missing check", level=COMPARED)


def _held(site: Site, node: ast.expr) -> list[str]:
    """Return the attributes in a condition that may not be there yet."""
    found = dict.fromkeys(
        site.text(inner)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and not (isinstance(site.source.parents.get(inner), ast.Call) and site.source.fields.get(inner) == "func")
    )
    return [text for text in found if "(" not in text and text != site.text(node)]


def _of_kind(site: Site, name: str) -> list[str]:
    """Return what may be said of the type and the length of a name."""
    kinds = [f"{word}isinstance({name}, {kind})" for kind in site.words.kinds[:3] for word in ("", "not ")]
    if site.scope.names[name] in ("", "list", "text", "tuple", "dict"):
        kinds += [f"len({name}) == 1", f"len({name}) > 1", f"len({name}) > 0", f"len({name}) == 2"]
    return kinds


@operator(*_PLAIN, ast.UnaryOp, kinds=("truth for presence",))
def presence(site: Site) -> Iterator[Edit]:
    """`if a` as `if a is not None`, `if not a` as `if a is None`, also in a part of a condition."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not is_truth(site) or (isinstance(site.parent, ast.UnaryOp)):
        return
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not) and isinstance(node.operand, _PLAIN):
            yield from site.replace(node, f"{site.text(node.operand)} is None", "truth for presence", level=COMPARED)
        return
    extra = 0.3 if isinstance(node, ast.Call) else 0.0
    yield from site.replace(node, f"{site.text(node)} is not None", "truth for presence", extra, level=COMPARED)


def _bounds(site: Site, node: ast.expr) -> Iterator[str]:
    """Yield the conditions under which what `node` looks up is there."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Subscript) and not isinstance(inner.slice, (ast.Slice, ast.Tuple)):
            base, key = site.text(inner.value), site.text(inner.slice)
            if isinstance(inner.slice, ast.Constant):
                yield base
            else:
                yield from (f"{key} < len({base})", f"{key} in {base}", f"{key} >= 0", f"0 <= {key} < len({base})")


@operator(ast.Compare, kinds=("surplus guard",))
def plain_truth(site: Site) -> Iterator[Edit]:
    """`if a is not None` as `if a`, `if a is None` as `if not a`, `len(a) > 0` as `a`."""
    node = site.node
    assert isinstance(node, ast.Compare)
    if len(node.ops) == 1 and is_truth(site):
        against = node.comparators[0]
        if isinstance(against, ast.Constant) and (against.value is None or against.value in (0, True, False, "")):
            yields_none = isinstance(node.ops[0], (ast.Is, ast.Eq))
            text = site.text(node.left)
            yield from site.replace(
                node, f"not {site.operand(node.left, NOT)}" if yields_none else text, "surplus guard"
            )


@operator(*_EXPRESSIONS, kinds=("missing condition", "loosened condition", "other condition"))
def other_condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if a and b`, `if a or b`, `if b`, with conditions that stand elsewhere in the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not _is_decision(site):
        return
    whole, strong, weak = site.text(node), site.operand(node, AND), site.operand(node, OR)
    for donor, tree in site.scope.conditions.items():
        if donor != whole:
            far = min(0.5, abs(tree.lineno - node.lineno) / 20)
            other, negated = site.operand(tree, AND), f"not {site.operand(tree, NOT)}"
            yield from site.replace(node, f"{strong} and {other}", "missing condition", far, level=AND)
            yield from site.replace(node, f"{weak} or {site.operand(tree, OR)}", "loosened condition", far, level=OR)
            yield from site.replace(node, donor, "other condition", far)
            yield from site.replace(node, f"{strong} and {negated}", "missing condition", 0.4 + far, level=AND)
            yield from site.replace(node, f"{weak} or {negated}", "loosened condition", 0.5 + far, level=OR)
            yield from site.replace(node, negated, "other condition", 0.4 + far, level=NOT)


@operator(*_EXPRESSIONS, kinds=("constant condition",))
def constant_condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if True`, `if False`."""
    node = site.node
    assert isinstance(node, ast.expr)
    if _is_condition(site):
        for constant in ("True", "False"):
            yield from site.replace(node, constant, "constant condition", level=16)


@operator(*_EXPRESSIONS, kinds=("missing condition", "loosened condition", "other condition"), extra=0.5)
def new_condition(site: Site) -> Iterator[Edit]:
    """`if a` as `if a and x == 0`, `if a or x > y`, `if x < y`, for names, attributes and items of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not _is_decision(site):
        return
    strong, weak = site.operand(node, AND), site.operand(node, OR)
    used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    for extra, text in _tests(site, used):
        yield from site.replace(node, f"{strong} and {text}", "missing condition", 0.5 + extra, level=AND)
        yield from site.replace(node, f"{weak} or {text}", "loosened condition", 0.3 + extra, level=OR)
        if isinstance(site.parent, (ast.If, ast.While)):
            yield from site.replace(node, text, "other condition", 0.7 + extra, level=COMPARED)


def _tests(site: Site, used: set[str]) -> Iterator[tuple[float, str]]:
    """Yield comparisons of what the function reads, nearest first, with how far-fetched each is."""
    line = getattr(site.node, "lineno", 1)
    atoms: list[tuple[str, float]] = []
    for text, tree in site.scope.expressions.items():
        if isinstance(tree, _PLAIN) and len(text) < 25 and text not in ("self", "cls"):
            if isinstance(tree, ast.Name) and tree.id not in site.scope.names:
                continue
            near = 0.0 if text in used else 0.3
            atoms.append((text, near + min(0.4, abs(tree.lineno - line) / 25)))
    atoms = sorted(atoms, key=lambda atom: atom[1])[:14]
    for atom, extra in atoms:
        for constant in ("0", "1"):
            for rank, symbol in enumerate((">", "==", "<", "!=", ">=", "<=")):
                yield extra + 0.08 * rank, f"{atom} {symbol} {constant}"
        for other, more in atoms:
            if other != atom:
                for rank, symbol in enumerate(("<", "==", "!=", "<=", "in", "not in")):
                    yield extra + more + 0.3 + 0.05 * rank, f"{atom} {symbol} {other}"


@operator(ast.IfExp, kinds=("swapped branches", "surplus choice"))
def choice(site: Site) -> Iterator[Edit]:
    """`a if c else b` as `b if c else a`, `a` or `b`."""
    node = site.node
    assert isinstance(node, ast.IfExp)
    body, test, other = site.text(node.body), site.text(node.test), site.text(node.orelse)
    if not isinstance(node.orelse, ast.IfExp):
        yield from site.replace(node, f"{other} if {test} else {body}", "swapped branches", level=2)
    for only in (body, other):
        yield from site.replace(node, only, "surplus choice")


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, kinds=("missing choice",))
def missing_choice(site: Site) -> Iterator[Edit]:
    """`a` as `a if a else 0`, `a or []`, `a if c else None` with conditions of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or not isinstance(site.parent, (ast.Return, ast.Assign, ast.keyword, ast.Call, ast.AugAssign)):
        return
    text, whole = site.operand(node, OR), site.text(node)
    for rank, default in enumerate(("[]", "0", '""', "None", "{}", "1")):
        if not isinstance(node, ast.BinOp) and default != "None":
            yield from site.replace(node, f"{text} or {default}", "missing choice", 0.1 * rank, level=OR)
    if isinstance(site.parent, (ast.Return, ast.Assign)):
        tests = [*site.scope.conditions, *(name for name in site.names if name in whole.split("."))]
        for test in dict.fromkeys(tests):
            for default in ("0", "None", "[]", '""'):
                yield from site.replace(node, f"{text} if {test} else {default}", "missing choice", 0.4, level=2)


@operator(*_COMPREHENSIONS, kinds=("surplus filter",))
def surplus_filter(site: Site) -> Iterator[Edit]:
    """`[x for x in a if c]` as `[x for x in a]`."""
    node = site.node
    assert isinstance(node, _COMPREHENSIONS)
    for clause in node.generators:
        before: ast.expr = clause.iter
        for test in clause.ifs:
            start, end = site.source.span(before)[1], site.source.span(test)[1]
            if "(" not in site.source.text[start : site.source.span(test)[0]]:
                yield from site.splice(start, end, "", "surplus filter")
            before = test


@operator(*_COMPREHENSIONS, kinds=("missing filter",))
def missing_filter(site: Site) -> Iterator[Edit]:
    """`[x for x in a]` as `[x for x in a if x]`, `if x > 0`, or with a condition of the function."""
    node = site.node
    assert isinstance(node, _COMPREHENSIONS)
    clause = node.generators[-1]
    if clause.ifs:
        return
    end = site.source.span(clause.iter)[1]
    targets = [inner.id for inner in ast.walk(clause.target) if isinstance(inner, ast.Name)]
    tests = [*targets, *(f"{name} is not None" for name in targets)]
    for name in targets:
        tests += [f"{name} {symbol} {value}" for symbol in (">", "!=", ">=", "<", "==") for value in ("0", "1")]
        tests += [f"{name} % 2 == 0", f"{name} % 2 == 1", f"{name}.strip()", f"isinstance({name}, int)", f"not {name}"]
        others = [other for other in site.scope.names if other not in (*targets, "self", "cls")][:6]
        tests += [f"{name} {symbol} {other}" for other in others for symbol in ("!=", "in", "not in", ">", "<", "==")]
    tests += site.scope.conditions
    for rank, test in enumerate(dict.fromkeys(tests)):
        yield from site.splice(end, end, f" if {test}", "missing filter", min(0.9, 0.05 * rank))
