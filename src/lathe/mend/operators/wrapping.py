"""Values that lack a call around them, have one too many, or are shared where they should be copied."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS
from lathe.mend.operators.shapes import shape_of

# What is put around a value, with the shapes of values that it fits ("" for a value of which nothing is known).
_WRAPPERS = {
    "len": ("", "list", "text", "dict", "set", "tuple"), "int": ("", "text", "number"), "str": ("", "number"),
    "list": ("", "dict", "set", "tuple", "text", "list"), "sorted": ("", "list", "dict", "set"), "abs": ("", "number"),
    "set": ("", "list", "text"), "sum": ("", "list"), "tuple": ("", "list"), "float": ("", "number", "text"),
    "reversed": ("", "list", "text"), "bool": ("", "list", "dict", "number", "text"), "max": ("", "list"),
    "min": ("", "list"), "round": ("", "number"), "dict": ("", "dict", "list"), "iter": ("list",),
    "enumerate": ("list",), "repr": ("", "text"), "ord": ("text",), "chr": ("number",), "any": ("list",),
    "all": ("list",), "frozenset": ("set",), "type": (), "callable": ("function",), "next": (), "hash": (), "id": (),
    "bytes": ("bytes",),
}  # fmt: skip
_METHODS = {
    "lower()": ("", "text"), "strip()": ("", "text"), "upper()": ("", "text"), "items()": ("", "dict"),
    "values()": ("dict",), "keys()": ("dict",), "split()": ("", "text"), "copy()": ("", "list", "dict", "set"),
    "rstrip()": ("text",), "lstrip()": ("text",), "decode()": ("", "bytes"), "encode()": ("", "text"),
    "title()": ("text",), "capitalize()": ("text",), "splitlines()": ("text",), "casefold()": ("text",),
    "read()": ("",), "group()": ("",), "is_integer()": ("number",),
}  # fmt: skip
_CLAMPS = ("max(0, {})", "max({}, 0)", "max({}, 1)", "max(1, {})", "min(1, {})", "min({}, 1)")
_TYPES = frozenset(("str", "int", "float", "bool", "bytes", "list", "dict", "set", "tuple", "frozenset", "complex"))
_MOST, _LONGEST = 40, 90
_VALUES = (ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.BinOp, ast.ListComp, ast.GeneratorExp)


def _shape(site: Site, node: ast.expr) -> str:
    return site.scope.names.get(node.id, "") if isinstance(node, ast.Name) else shape_of(node)


@operator(ast.Call, kinds=("surplus call",))
def surplus_call(site: Site) -> Iterator[Edit]:
    """`f(a)` as `a`, `a.f(...)` as `a`, `f()` as `f`."""
    node = site.node
    assert isinstance(node, ast.Call)
    if isinstance(site.parent, ast.Expr):
        return
    for argument in node.args[:2] if not node.keywords else ():
        if not isinstance(argument, (ast.Starred, ast.GeneratorExp)):
            yield from site.replace(node, site.text(argument), "surplus call", 0.0 if len(node.args) == 1 else 0.6)
    if isinstance(node.func, ast.Attribute):
        yield from site.replace(node, site.text(node.func.value), "surplus call", 0.3)
    if not node.args and not node.keywords:
        yield from site.replace(node, site.text(node.func), "surplus call", 0.2)


@operator(*_VALUES, kinds=("missing call",))
def missing_call(site: Site) -> Iterator[Edit]:
    """`a` as `len(a)`, `int(a)`, `sorted(a)`, ..., what fits the kind of value first."""
    node = site.node
    assert isinstance(node, ast.expr)
    text, shape = site.text(node), _shape(site, node)
    if not site.is_short or (text in ("self", "cls") and isinstance(site.parent, ast.Attribute)):
        return
    if isinstance(node, ast.GeneratorExp) and isinstance(site.parent, ast.Call):
        return
    expected = _expected(site)
    for rank, (wrapper, fits) in enumerate(_WRAPPERS.items()):
        extra = 0.0 if shape in fits and shape else 0.25 if shape in fits else 1.0
        if wrapper == expected:
            extra = -0.03 * rank
        written = f"{wrapper}{text}" if isinstance(node, ast.GeneratorExp) else f"{wrapper}({text})"
        yield from site.replace(node, written, "missing call", extra + 0.03 * rank, level=16)


def _expected(site: Site) -> str:
    """Return the call that the place asks for: `iter` of what `__iter__` returns, `type` beside a type."""
    parent = site.parent
    if isinstance(parent, ast.Return) and site.function is not None:
        name = site.function.name.strip("_")
        return name if site.function.name == f"__{name}__" and name in _WRAPPERS else ""
    if isinstance(parent, ast.Compare) and len(parent.ops) == 1:
        other = parent.comparators[0] if parent.left is site.node else parent.left
        return "type" if isinstance(other, ast.Name) and other.id in _TYPES else ""
    return ""


@operator(*_VALUES, kinds=("missing limit",))
def missing_limit(site: Site) -> Iterator[Edit]:
    """`a` as `max(0, a)`, `min(a, b)` with names of the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or _shape(site, node) not in ("", "number"):
        return
    text = site.text(node)
    for clamp in _CLAMPS:
        yield from site.replace(node, clamp.format(text), "missing limit", level=16)
    for name in site.names:
        if name != text and site.scope.names[name] in ("", "number"):
            for word in ("min", "max"):
                yield from site.replace(node, f"{word}({text}, {name})", "missing limit", 0.3, level=16)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant, kinds=("missing method",))
def missing_method(site: Site) -> Iterator[Edit]:
    """`a` as `a.strip()`, `a.lower()`, `a.items()`, ..., what fits the kind of value first; methods of the file."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not site.is_short or text in ("self", "cls") or (isinstance(node, ast.Constant) and not node.value):
        return
    if isinstance(node, ast.Constant) and not isinstance(node.value, (str, bytes)):
        return
    shape = _shape(site, node)
    for rank, (method, fits) in enumerate(_METHODS.items()):
        extra = 0.0 if shape in fits and shape else 0.2 if shape in fits else 1.0
        yield from site.replace(node, f"{text}.{method}", "missing method", extra + 0.03 * rank, level=16)
    if not isinstance(node, ast.Constant):
        for name in site.vocabulary.plain_methods:
            if name in site.words.counts:
                yield from site.replace(node, f"{text}.{name}()", "missing method", 0.6, level=16)


@operator(ast.Name, ast.Attribute, kinds=("call of a known name",))
def call_of_known(site: Site) -> Iterator[Edit]:
    """`a.total` as `a.total()` where the project, or a plain type, has such a function."""
    node = site.node
    assert isinstance(node, (ast.Name, ast.Attribute))
    name = node.id if isinstance(node, ast.Name) else node.attr
    if site.is_value and not isinstance(site.parent, ast.Attribute):
        if (
            name in site.vocabulary.signatures
            and name not in site.vocabulary.properties
            and name not in site.scope.names
        ):
            yield from site.replace(node, f"{site.text(node)}()", "call of a known name", level=16)
        elif isinstance(node, ast.Attribute) and f"{name}()" in _METHODS:
            yield from site.replace(node, f"{site.text(node)}()", "call of a known name", 0.1, level=16)


@operator(ast.Expr, kinds=("call of a known name",))
def call_statement(site: Site) -> Iterator[Edit]:
    """`a.close` as a statement as `a.close()`."""
    node = site.node
    assert isinstance(node, ast.Expr)
    if isinstance(node.value, (ast.Attribute, ast.Name)):
        yield from site.replace(node.value, f"{site.text(node.value)}()", "call of a known name", level=16)


@operator(
    *_VALUES,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Constant,
    ast.JoinedStr,
    ast.List,
    ast.Tuple,
    ast.Dict,
    kinds=("known call",),
)
def known_call(site: Site) -> Iterator[Edit]:
    """`a` as `f(a)` with what is called with one argument elsewhere in the file, also longer values."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not site.is_value or len(text) > _LONGEST or (text == "self" and isinstance(site.parent, ast.Attribute)):
        return
    known = {*site.scope.names, *site.scope.functions, *site.words.top, *BUILTINS}
    called = [name for name in site.words.called_with_one if name.partition(".")[0] in known]
    unlike = 0.0 if isinstance(node, _VALUES) else 0.3
    inside = text if isinstance(node, ast.GeneratorExp) or _is_bracketed(text, node) else f"({text})"
    for rank, name in enumerate(called[:_MOST]):
        yield from site.replace(node, f"{name}{inside}", "known call", unlike + 0.02 * rank, level=16)


def _is_bracketed(text: str, node: ast.expr) -> bool:
    return False if isinstance(node, ast.Tuple) else text.startswith("(") and text.endswith(")") and "(" not in text[1:]


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, kinds=("helper",))
def helper_call(site: Site) -> Iterator[Edit]:
    """`a` as `f(a)` or `self.f(a)` with a one-parameter function of the file, those called here first."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short or site.text(node) in ("self", "cls"):
        return
    own = site.function.name if site.function is not None else ""
    here = {text.partition("(")[0] for text, tree in site.scope.expressions.items() if isinstance(tree, ast.Call)}
    for name in site.vocabulary.one_argument:
        called = name
        if name not in site.words.top and name not in site.scope.functions:
            is_method = name in site.vocabulary.members and name in site.words.counts
            if not is_method or "self" not in site.scope.names:
                continue
            called = f"self.{name}"
        text = f"{called}({site.text(node)})"
        near = 0.0 if called in here or name in site.scope.functions else 0.2
        yield from site.replace(node, text, "helper", near if name != own else 0.4, level=16)


@operator(ast.Name, ast.Attribute, ast.Subscript, kinds=("copy",))
def copy(site: Site) -> Iterator[Edit]:
    """`a` as `a[:]`, `list(a)`, `a.copy()`, `dict(a)`, `copy.deepcopy(a)` where it is kept or passed on."""
    node = site.node
    assert isinstance(node, ast.expr)
    text, shape = site.text(node), _shape(site, node)
    kept = isinstance(
        site.parent, (ast.Assign, ast.Call, ast.Return, ast.keyword, ast.List, ast.For, ast.Tuple, ast.Yield)
    )
    if not site.is_short or not kept or shape in ("number", "text", "truth") or text in ("self", "cls"):
        return
    copies = [f"{text}[:]", f"list({text})", f"{text}.copy()", f"dict({text})", f"set({text})"]
    if "copy" in site.words.imports:
        member = site.words.imports["copy"] == "copy.copy"
        copies += [f"copy({text})"] if member else [f"copy.copy({text})", f"copy.deepcopy({text})"]
    if site.words.imports.get("deepcopy") == "copy.deepcopy":
        copies.append(f"deepcopy({text})")
    for rank, written in enumerate(copies):
        yield from site.replace(node, written, "copy", 0.1 * rank, level=16)


@operator(ast.BinOp, kinds=("copy",))
def repeated_reference(site: Site) -> Iterator[Edit]:
    """`[[0] * n] * m` as `[[0] * n for _ in range(m)]`."""
    node = site.node
    assert isinstance(node, ast.BinOp)
    if isinstance(node.op, ast.Mult) and isinstance(node.left, ast.List) and len(node.left.elts) == 1:
        inner = node.left.elts[0]
        if not isinstance(inner, ast.Constant):
            text = f"[{site.text(inner)} for _ in range({site.text(node.right)})]"
            yield from site.replace(node, text, "copy", level=16)
