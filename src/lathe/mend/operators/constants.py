"""Constants: numbers off by one, flags the wrong way round, texts that were mixed up, missing f-string prefixes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator

_SEPARATORS = (",", ";", "\t", "|", " ", ":", "/", ".", "-", "_", "", "\n")
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)[^{}]*\}")


def _is_open(site: Site) -> bool:
    return not isinstance(site.parent, (ast.Expr, ast.JoinedStr, ast.FormattedValue))


@operator(ast.Constant)
def flag(site: Site) -> Iterator[Edit]:
    """`True` as `False`."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if isinstance(node.value, bool):
        yield from site.replace(node, str(not node.value), "flag", 1.0)


@operator(ast.Constant)
def number(site: Site) -> Iterator[Edit]:
    """`1` as `2`, `0`, `-1`, ..."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    half = value / 2 if isinstance(value, float) else value // 2
    near = [value + 1, value - 1, 0, 1, -1, 2, -value, value * 2, half, value * 10, value / 10, 10, 100]
    for rank, new in enumerate(dict.fromkeys(near)):
        if isinstance(value, int) and isinstance(new, float):
            if not new.is_integer():
                continue
            new = int(new)
        if new != value or isinstance(new, float) != isinstance(value, float):
            yield from site.replace(node, repr(new), "number", 1.1 + 0.15 * rank)
    for text in ("None", 'float("inf")', '-float("inf")'):
        yield from site.replace(node, text, "number", 3.3)


@operator(ast.Constant)
def wording(site: Site) -> Iterator[Edit]:
    """A short text as another text of the file, another separator, or in other case."""
    node = site.node
    assert isinstance(node, ast.Constant)
    value = node.value
    if not isinstance(value, str) or not _is_open(site) or len(value) > 60:
        return
    quote = "'" if site.text(node).startswith("'") else '"'
    if value in _SEPARATORS:
        for rank, new in enumerate(text for text in _SEPARATORS if text != value):
            yield from site.replace(node, _quoted(new, quote), "separator", 1.6 + 0.1 * rank)
    for new in site.words.strings:
        if new != value:
            alike = new.lower() == value.lower() or new in value or value in new
            yield from site.replace(node, _quoted(new, quote), "wrong text", 1.8 if alike and new else 2.3)
    for new in (value.strip(), value.lower(), value.upper(), value + " ", " " + value, value + "s", value[::-1]):
        if new != value:
            yield from site.replace(node, _quoted(new, quote), "wrong text", 2.6)


@operator(ast.Constant)
def missing_prefix(site: Site) -> Iterator[Edit]:
    """`"{name}"` as `f"{name}"` where there is such a name."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if isinstance(node.value, str) and _is_open(site) and site.text(node)[:1] in "\"'":
        fields = _FIELD.findall(node.value)
        if fields and all(name in site.scope.names for name in fields):
            start, _ = site.source.span(node)
            yield from site.splice(start, start, "f", "missing f prefix", 1.2)


@operator(ast.Constant)
def nothing(site: Site) -> Iterator[Edit]:
    """`None` as an empty value."""
    node = site.node
    assert isinstance(node, ast.Constant)
    if node.value is None and _is_open(site):
        for text in ("[]", "0", "{}", '""', "False", "True"):
            yield from site.replace(node, text, "missing value", 2.2)


@operator(ast.FunctionDef, ast.AsyncFunctionDef)
def mutable_default(site: Site) -> Iterator[Edit]:
    """`def f(a=[])` as `def f(a=None)` with the value made in the body."""
    node, source = site.node, site.source
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    arguments = [*node.args.posonlyargs, *node.args.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = [
        *zip(arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
        first = node.body[1]
    if not source.owns_its_lines(first):
        return
    at = source.block(first)[0]
    indent = " " * first.col_offset
    for argument, default in pairs:
        made = isinstance(default, ast.Call) and isinstance(default.func, ast.Name) and not default.args
        if default is not None and (isinstance(default, (ast.List, ast.Dict, ast.Set)) or made):
            start, end = source.span(default)
            name, value = argument.arg, site.text(default)
            middle = source.text[end:at]
            body = f"{indent}if {name} is None:\n{indent}    {name} = {value}\n"
            yield from site.splice(start, at, f"None{middle}{body}", "mutable default", 1.4)


def _quoted(text: str, quote: str) -> str:
    written = repr(text)
    if written[0] != quote and quote not in text and written[0] not in written[1:-1]:
        return quote + written[1:-1] + quote
    return written
