"""Indices, slices, ranges, loops, comprehensions and generators."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import SUM, Edit, Site, operator

_ITERATIONS = (
    "enumerate({})", "reversed({})", "sorted({})", "{}.items()", "range({})", "list({})", "range(len({}))", "{}[1:]",
    "{}[:-1]", "{}.values()", "set({})", "{}[::-1]", "{}.keys()", "{}.copy()", "{}.split()", "zip({}, {}[1:])",
    "range(1, {})", "str({})",
)  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


@operator(ast.Subscript, kinds=("swapped indices", "surplus index", "index for a slice"))
def index(site: Site) -> Iterator[Edit]:
    """`a[i, j]` as `a[j, i]`, `a[i]` as `a`, `a[i:]`, `a[-i]`."""
    node = site.node
    assert isinstance(node, ast.Subscript)
    where = node.slice
    if isinstance(where, ast.Tuple) and len(where.elts) == 2:
        first, second = where.elts
        text = f"{site.text(second)}, {site.text(first)}"
        yield from site.splice(*site.source.span(where), text, "swapped indices")
    if not isinstance(node.ctx, ast.Load):
        return
    yield from site.replace(node, site.text(node.value), "surplus index")
    if not isinstance(where, (ast.Slice, ast.Tuple)):
        start, end = site.source.span(where)
        text = site.text(where)
        others = [f"{text}:", f":{text}", f"-{site.operand(where)}", "-1", "0", "1:", ":-1"]
        for rank, other in enumerate(others):
            yield from site.splice(start, end, other, "index for a slice", 0.1 * rank)


@operator(ast.Subscript, kinds=("swapped indices",))
def swapped_subscripts(site: Site) -> Iterator[Edit]:
    """`a[i][j]` as `a[j][i]`, and `a[i]` as `i[a]`."""
    node = site.node
    assert isinstance(node, ast.Subscript)
    inner = node.value
    if isinstance(node.slice, (ast.Slice, ast.Tuple)):
        return
    if isinstance(inner, ast.Subscript) and not isinstance(inner.slice, (ast.Slice, ast.Tuple)):
        text = f"{site.text(inner.value)}[{site.text(node.slice)}][{site.text(inner.slice)}]"
        yield from site.splice(*site.source.span(node), text, "swapped indices")
    elif isinstance(node.slice, (ast.Name, ast.Attribute)) and isinstance(inner, (ast.Name, ast.Attribute)):
        text = f"{site.text(node.slice)}[{site.text(inner)}]"
        yield from site.splice(*site.source.span(node), text, "swapped indices", 0.6)


@operator(ast.Slice, kinds=("slice bounds",))
def bounds(site: Site) -> Iterator[Edit]:
    """`a[i:j]` as `a[i + 1:j]`, `a[i:]`, `a[:j]`, `a[::-1]`; bounds that are there are also off by one elsewhere."""
    node = site.node
    assert isinstance(node, ast.Slice)
    start, end = site.source.span(node)
    parts = [site.text(part) if part is not None else "" for part in (node.lower, node.upper, node.step)]
    choices: list[tuple[int, str, float]] = []
    for place in (0, 1):
        if parts[place]:
            choices += [(place, "", 0.0), (place, f"-{parts[place]}", 0.7)]
        else:
            choices += [(place, text, 0.2) for text in ("1", "-1", "2", "-2")]
        near = [name for name in site.names if name != parts[place] and site.scope.names[name] in ("", "number")]
        for name in near:
            choices += [
                (place, name, 0.4),
                (place, f"{name} + 1", 0.8),
                (place, f"{name} - 1", 1.0),
                (place, f"-{name}", 0.9),
            ]
        for name in site.names:
            if site.scope.names[name] in ("list", "text", "tuple", ""):
                choices.append((place, f"len({name})", 0.9))
    choices += [(2, "", 0.2)] if parts[2] else [(2, "-1", 0.3), (2, "2", 0.6)]
    if parts[0] and parts[1]:
        yield from site.splice(start, end, f"{parts[1]}:{parts[0]}", "slice bounds", 0.3)
    only = parts[0] or parts[1]
    if only and not (parts[0] and parts[1]):
        yield from site.splice(start, end, f":{only}" if parts[0] else f"{only}:", "slice bounds")
    for place, text, extra in choices:
        changed = [*parts[:place], text, *parts[place + 1 :]]
        written = f"{changed[0]}:{changed[1]}" + (f":{changed[2]}" if changed[2] else "")
        yield from site.splice(start, end, written, "slice bounds", extra)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, kinds=("missing index",))
def missing_index(site: Site) -> Iterator[Edit]:
    """`a` as `a[0]`, `a[1:]`, `a[i]`."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not site.is_short or text in ("self", "cls"):
        return
    shape = site.scope.names.get(text, "")
    if shape in ("number", "truth", "function"):
        return
    for rank, suffix in enumerate(("[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[1]", "[2:]", "[-2]")):
        yield from site.replace(node, text + suffix, "missing index", 0.04 * rank, level=16)
    for name in site.names:
        if name != text and site.scope.names[name] not in ("list", "dict", "set", "function"):
            number = site.scope.names[name] in ("number", "")
            yield from site.replace(node, f"{text}[{name}]", "missing index", 0.3, level=16)
            if number:
                for rank, template in enumerate(("[{}:]", "[:{}]", "[{} + 1:]", "[:{} + 1]")):
                    yield from site.replace(
                        node, text + template.format(name), "missing index", 0.5 + 0.1 * rank, level=16
                    )


@operator(ast.Call, kinds=("range",))
def ranges(site: Site) -> Iterator[Edit]:
    """`range(n)` as `range(1, n)`, `range(1, n + 1)`, `range(i, n)`, `range(0, n, 2)`, `range(n - 1, -1, -1)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    if site.called() != "range" or node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        return
    span = (site.source.span(node.args[0])[0], site.source.span(node.args[-1])[1]) if node.args else (0, 0)
    texts = [site.text(argument) for argument in node.args]
    last = site.operand(node.args[-1], SUM) if node.args else ""
    if len(texts) == 1:
        stop = texts[0]
        others = [
            f"1, {last} + 1",
            f"1, {stop}",
            f"{last} - 1, -1, -1",
            f"{last}, 0, -1",
            f"2, {last} + 1",
            f"2, {stop}",
            f"0, {stop}, 2",
        ]
        others += [f"{name}, {stop}" for name in site.names] + [f"{name} + 1, {stop}" for name in site.names]
        others += [f"len({stop})", f"int({stop})", f"int({stop} ** 0.5) + 1", f"{last} // 2", f"{last} // 2 + 1"]
    elif len(texts) == 2:
        start, stop = texts
        others = [stop, f"{stop}, {start}", f"{stop}, {start}, -1", f"{start}, {last} + 1", f"{start}, {last} - 1"]
        others += [
            f"{site.operand(node.args[0], SUM)} + 1, {last} + 1",
            f"{start}, {stop}, 2",
            f"{start}, int({stop} ** 0.5) + 1",
        ]
        others += [f"{name}, {stop}" for name in site.names] + [f"{name} + 1, {stop}" for name in site.names]
        others += [f"{start}, {stop}, {name}" for name in site.names]
    elif len(texts) == 3:
        start, stop, step = texts
        others = [f"{start}, {stop}", f"{stop}, {start}, {step}", f"{start}, {stop}, -{site.operand(node.args[2])}"]
        others += [f"{start}, {last.lstrip('-')}", f"{start}, -1, {step}"]
    else:
        return
    for rank, other in enumerate(others):
        yield from site.splice(*span, other, "range", min(1.0, 0.08 * rank))


@operator(ast.For, kinds=("iteration",))
def iteration(site: Site) -> Iterator[Edit]:
    """`for x in a` as `for x in reversed(a)`, `a[1:]`, `a.items()`, ..."""
    node = site.node
    assert isinstance(node, ast.For)
    yield from _iterations(site, node.iter, 0.0)


@operator(*_COMPREHENSIONS, kinds=("iteration",))
def iteration_inside(site: Site) -> Iterator[Edit]:
    """The same for the clauses of a comprehension."""
    node = site.node
    assert isinstance(node, _COMPREHENSIONS)
    for clause in node.generators:
        yield from _iterations(site, clause.iter, 0.2)


def _iterations(site: Site, iterated: ast.expr, extra: float) -> Iterator[Edit]:
    for rank, template in enumerate(_ITERATIONS):
        text = site.operand(iterated) if template.startswith(("{}", "zip")) else site.text(iterated)
        yield from site.replace(iterated, template.replace("{}", text), "iteration", extra + 0.05 * rank, level=16)


@operator(*_COMPREHENSIONS, kinds=("element",))
def element(site: Site) -> Iterator[Edit]:
    """`[x for x in a]` as `[x[0] for x in a]`, `[y ...]`, `[x * x ...]`, `[str(x) ...]`; its clauses exchanged."""
    node = site.node
    assert isinstance(node, _COMPREHENSIONS)
    targets = [
        inner.id for clause in node.generators for inner in ast.walk(clause.target) if isinstance(inner, ast.Name)
    ]
    elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    for part in elements:
        for name in targets:
            texts = [
                name,
                f"{name}[0]",
                f"{name}[1]",
                f"{name}.strip()",
                f"{name} * {name}",
                f"{name} + 1",
                f"{name} - 1",
            ]
            texts += [f"({name}, {site.text(part)})", f"{name} * 2", f"{name} ** 2"]
            for rank, text in enumerate(texts):
                yield from site.replace(part, text, "element", 0.05 * rank)
    if len(node.generators) == 2 and not any(clause.is_async for clause in node.generators):
        starts = [site.source.text.rfind("for", 0, site.source.span(clause.target)[0]) for clause in node.generators]
        ends = [max(site.source.span(part)[1] for part in (clause.iter, *clause.ifs)) for clause in node.generators]
        one, other = (site.source.text[start:end] for start, end in zip(starts, ends, strict=True))
        if "(" not in site.source.text[ends[0] : starts[1]] and ")" not in site.source.text[ends[0] : starts[1]]:
            between = site.source.text[ends[0] : starts[1]]
            yield from site.splice(starts[0], ends[1], f"{other}{between}{one}", "element", 0.1)


@operator(ast.ListComp, ast.GeneratorExp, ast.SetComp, kinds=("lazy or whole",))
def lazy_or_whole(site: Site) -> Iterator[Edit]:
    """`[x for ...]` as `(x for ...)`, `{x for ...}`, and back; `list(...)` of a generator."""
    node = site.node
    assert isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp))
    start, end = site.source.span(node)
    text = site.source.text[start:end]
    if text[:1] not in "([{" or text[-1:] not in ")]}":
        return
    alone = isinstance(node, ast.GeneratorExp) and isinstance(site.parent, ast.Call) and len(site.parent.args) == 1
    shared = alone and isinstance(site.parent, ast.Call) and site.source.span(site.parent)[1] == end
    for rank, (opening, closing) in enumerate((("[", "]"), ("(", ")"), ("{", "}"))):
        if opening != text[0]:
            inner = f"{opening}{text[1:-1]}{closing}"
            yield from site.splice(start, end, f"({inner})" if shared else inner, "lazy or whole", 0.3 * rank)


@operator(ast.List, ast.Set, ast.Dict, ast.Tuple, kinds=("missing element", "surplus element", "other container"))
def elements(site: Site) -> Iterator[Edit]:
    """`[]` as `[x]`, `{}`; `[x, y]` as `[x]`, `[x, y, z]`."""
    node = site.node
    assert isinstance(node, (ast.List, ast.Set, ast.Dict, ast.Tuple))
    if not site.is_value:
        return
    start, end = site.source.span(node)
    parts = node.values if isinstance(node, ast.Dict) else node.elts
    if not parts:
        fixed = ["[]", "{}", "set()", "()", "[[]]", "[0]", "None", '[""]', "[None]", "[1]", "0", '""', "{0}"]
        for rank, text in enumerate(text for text in fixed if text != site.text(node)):
            yield from site.replace(node, text, "other container", 0.1 * rank, level=16)
        if isinstance(node, ast.List):
            for name in site.names:
                yield from site.replace(node, f"[{name}]", "missing element", level=16)
                yield from site.replace(node, f"[{name}[0]]", "missing element", 0.4, level=16)
        return
    if isinstance(node, ast.Dict) or site.source.text[start] not in "[({":
        return
    spans = [site.source.span(part) for part in node.elts]
    for place, (low, _) in enumerate(spans):
        if len(spans) > 1 and place + 1 < len(spans):
            yield from site.splice(low, spans[place + 1][0], "", "surplus element")
        elif place:
            rest = ",)" if isinstance(node, ast.Tuple) and place == 1 else site.source.text[end - 1]
            yield from site.splice(spans[place - 1][1], end, rest, "surplus element")
    if isinstance(site.parent, ast.Subscript):
        return
    for name in [*site.names, "0", "1", "None"]:
        yield from site.splice(spans[-1][1], spans[-1][1], f", {name}", "missing element", 0.3)
        yield from site.splice(spans[0][0], spans[0][0], f"{name}, ", "missing element", 0.4)


@operator(ast.Yield, ast.YieldFrom, kinds=("delegation",))
def delegation(site: Site) -> Iterator[Edit]:
    """`yield a` as `yield from a`, and back."""
    node = site.node
    assert isinstance(node, (ast.Yield, ast.YieldFrom))
    if node.value is not None:
        start, end = site.source.span(node)[0], site.source.span(node.value)[0]
        rest = site.source.text[start:end].removeprefix("yield").lstrip().removeprefix("from").lstrip()
        word = "yield from" if isinstance(node, ast.Yield) else "yield"
        yield from site.splice(start, end, f"{word} {rest}", "delegation")
