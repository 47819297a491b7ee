"""Calls: arguments swapped, missing or too many; wrapped in another call, or not; a missing `await`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.arithmetic import is_value
from lathe.mend.operators.registry import Edit, Site, operator

_WRAPPERS = (
    ("len", 2.8), ("int", 2.8), ("str", 2.8), ("list", 2.8), ("sorted", 2.8), ("abs", 2.8), ("set", 2.9),
    ("sum", 3.4), ("tuple", 3.2), ("float", 3.4), ("reversed", 3.4), ("bool", 3.4), ("max", 3.4), ("min", 3.4),
    ("round", 3.2), ("dict", 3.4), ("iter", 3.8),
)  # fmt: skip
_METHODS = ("lower()", "upper()", "strip()", "copy()", "items()", "keys()", "values()", "split()")
_CLAMPS = ("max(0, {})", "max({}, 1)", "min(1, {})")
_KEYS = ("abs", "len", "str", "str.lower", "lambda entry: entry[0]", "lambda entry: entry[1]", "lambda entry: -entry")


@operator(ast.Call)
def argument_order(site: Site) -> Iterator[Edit]:
    """`f(a, b)` as `f(b, a)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    arguments = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    for index, first in enumerate(arguments):
        for second in arguments[index + 1 :]:
            start, end = site.source.span(first)[0], site.source.span(second)[1]
            middle = site.source.text[site.source.span(first)[1] : site.source.span(second)[0]]
            swapped = f"{site.text(second)}{middle}{site.text(first)}"
            yield from site.splice(start, end, swapped, "argument order", 1.4)


@operator(ast.Call)
def keyword_values(site: Site) -> Iterator[Edit]:
    """`f(x=a, y=b)` as `f(x=b, y=a)`."""
    node = site.node
    assert isinstance(node, ast.Call)
    for index, first in enumerate(node.keywords):
        for second in node.keywords[index + 1 :]:
            if first.arg and second.arg:
                start, end = site.source.span(first.value)[0], site.source.span(second.value)[1]
                middle = site.source.text[site.source.span(first.value)[1] : site.source.span(second.value)[0]]
                swapped = f"{site.text(second.value)}{middle}{site.text(first.value)}"
                yield from site.splice(start, end, swapped, "argument order", 1.9)


@operator(ast.Call)
def surplus_argument(site: Site) -> Iterator[Edit]:
    """`f(a, b)` as `f(a)`, `f(a, k=b)` as `f(a)`."""
    node, source = site.node, site.source
    assert isinstance(node, ast.Call)
    spans = [source.span(argument) for argument in node.args] + [source.span(keyword) for keyword in node.keywords]
    spans.sort()
    for index, (start, end) in enumerate(spans):
        cost = 2.6 if index < len(node.args) else 2.4
        if index + 1 < len(spans):
            yield from site.splice(start, spans[index + 1][0], "", "surplus argument", cost)
        elif index > 0:
            yield from site.splice(spans[index - 1][1], end, "", "surplus argument", cost)


@operator(ast.Call)
def missing_argument(site: Site) -> Iterator[Edit]:
    """`f(a)` as `f(a, b)` with names of the function, by keyword where the function called is known."""
    node = site.node
    assert isinstance(node, ast.Call)
    end = site.source.span(node)[1] - 1
    if any(isinstance(argument, (ast.Starred, ast.GeneratorExp)) for argument in node.args) or len(node.args) > 3:
        return
    comma = ", " if node.args or node.keywords else ""
    if site.source.text[:end].rstrip().endswith(","):
        comma = " "
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    given = {keyword.arg for keyword in node.keywords}
    known = site.vocabulary.signatures.get(called, [])
    for arguments in known:
        for argument in [*arguments.args[len(node.args) :], *arguments.kwonlyargs]:
            if argument.arg in site.scope.names and argument.arg not in given and argument.arg not in ("self", "cls"):
                text = f"{comma}{argument.arg}={argument.arg}"
                yield from site.splice(end, end, text, "missing argument", 1.9)
    if not node.keywords:
        for name in [*site.scope.names, "0", "1", "-1", "True", "None"]:
            yield from site.splice(end, end, f"{comma}{name}", "missing argument", 3.2)
            if node.args:
                start = site.source.span(node.args[0])[0]
                yield from site.splice(start, start, f"{name}, ", "missing argument", 3.4)


@operator(ast.Call)
def ordering(site: Site) -> Iterator[Edit]:
    """`sorted(a)` as `sorted(a, reverse=True)` or with a key; a surplus `key` is a surplus argument."""
    node = site.node
    assert isinstance(node, ast.Call)
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if called not in ("sorted", "sort", "max", "min"):
        return
    end, given = site.source.span(node)[1] - 1, {keyword.arg for keyword in node.keywords}
    comma = ", " if node.args or node.keywords else ""
    if called in ("sorted", "sort") and "reverse" not in given:
        yield from site.splice(end, end, f"{comma}reverse=True", "order", 2.2)
    if "key" not in given:
        for key in _KEYS:
            yield from site.splice(end, end, f"{comma}key={key}", "order", 3.2)


@operator(ast.Call)
def surplus_call(site: Site) -> Iterator[Edit]:
    """`f(a)` as `a`, `a.f(...)` as `a`."""
    node = site.node
    assert isinstance(node, ast.Call)
    if isinstance(site.parent, ast.Expr):
        return
    if len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], (ast.Starred, ast.GeneratorExp)):
        yield from site.replace(node, site.text(node.args[0]), "surplus call", 2.3)
    if isinstance(node.func, ast.Attribute):
        yield from site.replace(node, site.text(node.func.value), "surplus call", 2.6)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, ast.ListComp)
def missing_call(site: Site) -> Iterator[Edit]:
    """`a` as `len(a)`, `a.strip()`, `max(0, a)`."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not is_value(site) or len(text) > 50:
        return
    for wrapper, cost in _WRAPPERS:
        yield from site.replace(node, f"{wrapper}({text})", "missing call", cost)
    for clamp in _CLAMPS:
        yield from site.replace(node, clamp.format(text), "missing limit", 3.3)
    if not isinstance(node, ast.BinOp):
        for method in _METHODS:
            yield from site.replace(node, f"{text}.{method}", "missing call", 3.2)


@operator(ast.Name, ast.Attribute)
def call_of_known(site: Site) -> Iterator[Edit]:
    """`a.total` as `a.total()` where the project has such a function without further parameters."""
    node = site.node
    assert isinstance(node, (ast.Name, ast.Attribute))
    name = node.id if isinstance(node, ast.Name) else node.attr
    if is_value(site) and name in site.vocabulary.signatures:
        yield from site.replace(node, f"{site.text(node)}()", "missing call", 1.8)


@operator(ast.Name, ast.Call, ast.Attribute)
def helper_call(site: Site) -> Iterator[Edit]:
    """`a` as `f(a)` with a one-parameter function of the same file."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not is_value(site) or len(site.text(node)) > 50:
        return
    for name in site.words.top:
        for arguments in site.vocabulary.signatures.get(name, []):
            if len(arguments.args) == 1 and not arguments.kwonlyargs:
                yield from site.replace(node, f"{name}({site.text(node)})", "missing call", 2.9)


@operator(ast.Call)
def missing_await(site: Site) -> Iterator[Edit]:
    """`f()` as `await f()` where `f` is a coroutine of the project."""
    node = site.node
    assert isinstance(node, ast.Call)
    called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    inside = site.source.function(node)
    waits = isinstance(site.parent, ast.Await)
    if called in site.vocabulary.coroutines and isinstance(inside, ast.AsyncFunctionDef) and not waits:
        start, end = site.source.span(node)
        text = f"await {site.text(node)}"
        tight = isinstance(site.parent, (ast.Attribute, ast.Subscript, ast.Call)) and site.field in ("value", "func")
        yield from site.splice(start, end, f"({text})" if tight else text, "missing await", 1.1)
