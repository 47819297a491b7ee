"""Names and attributes that were mistaken for others."""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Iterator

from lathe.mend.operators.arithmetic import is_value
from lathe.mend.operators.registry import Edit, Site, operator

# Callables that are taken for one another; within a group each for each.
CONFUSED = (
    ("any", "all"), ("min", "max"), ("append", "extend", "insert", "add"), ("startswith", "endswith"),
    ("lower", "upper", "title", "capitalize", "swapcase", "casefold"), ("strip", "lstrip", "rstrip"),
    ("keys", "values", "items"), ("pop", "popleft", "remove", "popitem"), ("find", "rfind", "index", "rindex"),
    ("add", "update", "discard", "remove"), ("split", "rsplit", "splitlines", "partition", "rpartition"),
    ("partition", "rpartition"), ("floor", "ceil", "trunc"), ("sorted", "reversed", "list", "set", "tuple"),
    ("int", "float", "round", "str"), ("issubset", "issuperset", "isdisjoint"), ("appendleft", "append"),
    ("union", "intersection", "difference", "symmetric_difference"), ("isupper", "islower"), ("ord", "chr"),
    ("isdigit", "isalpha", "isalnum", "isnumeric", "isdecimal"), ("sum", "len", "max", "min"), ("range", "enumerate"),
    ("isinstance", "issubclass"), ("get", "pop", "setdefault"), ("join", "format"), ("copy", "deepcopy"),
    ("exists", "is_file", "is_dir"), ("isfile", "isdir", "exists"), ("match", "search", "fullmatch"),
    ("findall", "finditer"), ("read", "readlines", "readline"), ("dump", "dumps"), ("load", "loads"),
    ("removeprefix", "removesuffix"), ("zip", "zip_longest"), ("ljust", "rjust", "center"), ("dict", "list", "set"),
    ("defaultdict", "dict", "Counter"), ("hasattr", "getattr"), ("encode", "decode"), ("sort", "reverse"),
    ("total_seconds", "seconds"), ("seconds", "microseconds", "days", "total_seconds()"), ("heappush", "heappop"),
    ("bisect_left", "bisect_right", "bisect"), ("insort_left", "insort_right"), ("astimezone", "replace"),
    ("utcnow", "now", "today"), ("name", "stem", "suffix"), ("first", "last"), ("left", "right"), ("start", "end"),
    ("lower", "upper"), ("head", "tail"), ("prev", "next"), ("previous", "next"), ("width", "height"),
    ("row", "col"), ("rows", "cols", "columns"), ("x", "y"), ("src", "dst"), ("source", "target"), ("old", "new"),
)  # fmt: skip


@functools.cache
def confused_with(name: str) -> tuple[str, ...]:
    """Return what `name` is taken for, the likeliest first."""
    return tuple(dict.fromkeys(other for group in CONFUSED if name in group for other in group if other != name))


@operator(ast.Name)
def variable(site: Site) -> Iterator[Edit]:
    """A variable as another of the same function, of the same annotated type first."""
    node = site.node
    assert isinstance(node, ast.Name)
    called = isinstance(site.parent, ast.Call) and site.field == "func"
    if not isinstance(node.ctx, ast.Load) or (called and node.id not in site.scope.names):
        return
    mine = site.scope.names.get(node.id, "")
    for name, annotation in site.scope.names.items():
        if name != node.id and name not in ("self", "cls"):
            other_type = 0.5 if mine and annotation and mine != annotation else 0.0
            foreign = 0.0 if node.id in site.scope.names else 0.8
            cost = 1.5 + 0.7 * _distance(name, node.id) + other_type + foreign
            yield from site.replace(node, name, "wrong variable", cost)


@operator(ast.Name)
def global_name(site: Site) -> Iterator[Edit]:
    """A name of the module as another of the module (functions, classes, constants)."""
    node = site.node
    assert isinstance(node, ast.Name)
    if not isinstance(node.ctx, ast.Load) or node.id in site.scope.names or node.id not in site.words.top:
        return
    for name in site.words.top:
        if name != node.id and name.isupper() == node.id.isupper() and name[:1].isupper() == node.id[:1].isupper():
            yield from site.replace(node, name, "wrong name", 2.0 + 0.8 * _distance(name, node.id))


@operator(ast.Name)
def builtin(site: Site) -> Iterator[Edit]:
    """`min` as `max`, `any` as `all`."""
    node = site.node
    assert isinstance(node, ast.Name)
    if isinstance(node.ctx, ast.Load) and node.id not in site.scope.names:
        called = isinstance(site.parent, ast.Call) and site.field == "func"
        for rank, name in enumerate(confused_with(node.id)):
            yield from site.replace(node, name, "wrong function", (1.5 if called else 2.0) + 0.1 * rank)


@operator(ast.Name)
def spelled_out(site: Site) -> Iterator[Edit]:
    """A variable as a plain constant."""
    node = site.node
    assert isinstance(node, ast.Name)
    if is_value(site) and node.id in site.scope.names:
        for text in ("0", "1", "None", "True", "False", "[]"):
            yield from site.replace(node, text, "name for a constant", 3.4)


@operator(ast.Name)
def missing_self(site: Site) -> Iterator[Edit]:
    """`name` as `self.name`."""
    node = site.node
    assert isinstance(node, ast.Name)
    if (
        "self" in site.scope.names
        and node.id in site.vocabulary.members
        and isinstance(node.ctx, (ast.Load, ast.Store))
    ):
        cost = 1.6 if node.id not in site.scope.names else 2.4
        yield from site.splice(*site.source.span(node), f"self.{node.id}", "missing self", cost)


@operator(ast.Attribute)
def attribute(site: Site) -> Iterator[Edit]:
    """`a.x` as `a.y`: a known mix-up, a member of the same class, or any attribute of the file."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    end = site.source.span(node)[1]
    start = end - len(node.attr)
    for rank, name in enumerate(confused_with(node.attr)):
        yield from site.splice(start, end, name, "wrong attribute", 1.6 + 0.1 * rank)
    members = site.vocabulary.members.get(node.attr, {})
    called = isinstance(site.parent, ast.Call) and site.field == "func"
    for name in members:
        dunder = name.startswith("__")
        callable_name = name in site.vocabulary.signatures
        if name != node.attr and not dunder:
            unlike = 0.5 if called and not callable_name else 0.0
            yield from site.splice(start, end, name, "wrong attribute", 1.7 + 0.6 * _distance(name, node.attr) + unlike)
    for name in site.words.attributes:
        if name != node.attr and name not in members:
            yield from site.splice(start, end, name, "wrong attribute", 2.4 + 0.8 * _distance(name, node.attr))


@operator(ast.Attribute)
def surplus_attribute(site: Site) -> Iterator[Edit]:
    """`a.x` as `a`."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    if is_value(site):
        yield from site.replace(node, site.text(node.value), "surplus attribute", 2.5)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.Compare)
def donor(site: Site) -> Iterator[Edit]:
    """An expression as another that stands in the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not is_value(site) or len(site.text(node)) > 50:
        return
    for text, tree in site.scope.expressions.items():
        if isinstance(tree, ast.Constant) and not isinstance(node, ast.Constant):
            continue
        far = min(1.0, abs(tree.lineno - node.lineno) / 15)
        unlike = 0.0 if type(tree) is type(node) else 0.9
        yield from site.replace(node, text, "other expression", 2.8 + unlike + far + 0.02 * len(text))


@operator(ast.Assign)
def target(site: Site) -> Iterator[Edit]:
    """`a = ...` as `b = ...`."""
    node = site.node
    assert isinstance(node, ast.Assign)
    first = node.targets[0]
    if len(node.targets) != 1 or not isinstance(first, (ast.Name, ast.Attribute, ast.Subscript)):
        return
    for text, tree in site.scope.expressions.items():
        if type(tree) is type(first) and isinstance(tree, (ast.Name, ast.Attribute, ast.Subscript)):
            yield from site.replace(first, text, "wrong target", 2.8)


@functools.lru_cache(maxsize=65536)
def _distance(one: str, other: str) -> float:
    return 1 - difflib.SequenceMatcher(None, one, other).ratio()
