"""Names and attributes that were mistaken for others."""

from __future__ import annotations

import ast
import difflib
import functools
import itertools
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS
from lathe.mend.operators.shapes import shape_of

# Callables and attributes that are taken for one another; within a group each for each.
CONFUSED = (
    ("any", "all"), ("min", "max"), ("append", "extend", "insert", "add"), ("startswith", "endswith"),
    ("lower", "upper", "title", "capitalize", "swapcase", "casefold"), ("strip", "lstrip", "rstrip"),
    ("keys", "values", "items"), ("pop", "popleft", "remove", "popitem"), ("find", "rfind", "index", "rindex", "count"),
    ("add", "update", "discard", "remove"), ("split", "rsplit", "splitlines", "partition", "rpartition"),
    ("floor", "ceil", "trunc"), ("sorted", "reversed", "list", "set", "tuple"), ("round", "floor", "ceil", "int"),
    ("int", "float", "round", "str"), ("issubset", "issuperset", "isdisjoint"), ("appendleft", "append"),
    ("union", "intersection", "difference", "symmetric_difference"), ("isupper", "islower"), ("ord", "chr"),
    ("isdigit", "isalpha", "isalnum", "isnumeric", "isdecimal"), ("sum", "len", "max", "min"), ("range", "enumerate"),
    ("isinstance", "issubclass"), ("get", "pop", "setdefault"), ("join", "format"), ("copy", "deepcopy"),
    ("exists", "is_file", "is_dir"), ("isfile", "isdir", "exists"), ("match", "search", "fullmatch"),
    ("findall", "finditer"), ("read", "readlines", "readline"), ("dump", "dumps"), ("load", "loads"),
    ("removeprefix", "removesuffix"), ("zip", "zip_longest"), ("ljust", "rjust", "center"), ("dict", "list", "set"),
    ("defaultdict", "dict", "Counter", "OrderedDict"), ("hasattr", "getattr"), ("encode", "decode"),
    ("sort", "reverse"), ("total_seconds", "seconds"), ("seconds", "microseconds", "days"), ("heappush", "heappop"),
    ("bisect_left", "bisect_right", "bisect"), ("insort_left", "insort_right"), ("astimezone", "replace"),
    ("utcnow", "now", "today"), ("name", "stem", "suffix"), ("first", "last"), ("left", "right"), ("start", "end"),
    ("head", "tail"), ("prev", "next"), ("previous", "next"), ("width", "height"), ("row", "col"),
    ("rows", "cols", "columns"), ("x", "y"), ("src", "dst"), ("source", "target"), ("old", "new"), ("lo", "hi"),
    ("low", "high"), ("combinations", "permutations", "product", "combinations_with_replacement"), ("map", "filter"),
    ("parent", "child"), ("key", "value"), ("put", "get"), ("send", "recv"), ("max", "sum"), ("bin", "hex", "oct"),
    ("list", "str"), ("str", "repr"), ("most_common", "elements"), ("strftime", "strptime"), ("timestamp", "time"),
    ("i", "j"),
)  # fmt: skip


_MAX_CONSTANTS = 24


@functools.cache
def confused_with(name: str) -> tuple[str, ...]:
    """Return what `name` is taken for, the likeliest first."""
    return tuple(dict.fromkeys(other for group in CONFUSED if name in group for other in group if other != name))


@operator(ast.Name, kinds=("wrong variable", "unknown name", "own name"))
def variable(site: Site) -> Iterator[Edit]:
    """A variable as another of the same function, of the same kind and of a like name first."""
    node = site.node
    assert isinstance(node, ast.Name)
    is_unknown = node.id in site.words.unknown
    called = isinstance(site.parent, ast.Call) and site.field == "func"
    if not isinstance(node.ctx, ast.Load) or (called and node.id not in site.scope.names and not is_unknown):
        return
    mine, foreign = site.scope.names.get(node.id, ""), 0.0 if node.id in site.scope.names or is_unknown else 0.8
    kind = "unknown name" if is_unknown else "wrong variable"
    here = node.lineno if not _is_in_loop(site) else 1 << 30
    for name in site.names:
        if name != node.id:
            other = site.scope.names[name]
            unlike = 0.0 if mine == other and mine else 0.25 if not (mine and other) else 0.7
            late = 0.6 if site.scope.bound_at.get(name, 0) > here and name not in site.scope.parameters else 0.0
            yield from site.replace(
                node, name, kind, 0.5 * _distance(name, node.id) + unlike + foreign + late, level=16
            )
    own = _own_name(site)
    if own != node.id and own in site.scope.names:
        yield from site.replace(node, own, "own name", level=16)
    for owner in ("self", "cls"):
        if owner in site.scope.names and owner != node.id and not called:
            is_owner = isinstance(site.parent, ast.Attribute)
            yield from site.replace(node, owner, kind, foreign + (0.2 if is_owner else 0.8), level=16)


def _own_name(site: Site) -> str:
    """Return the name of what a value is given to: `x` in `f(x=a)`, `self.x = a`, `{"x": a}`; "" where it has none."""
    parent = site.parent
    if isinstance(parent, ast.keyword):
        return parent.arg or ""
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Attribute):
        return parent.targets[0].attr
    if isinstance(parent, ast.Dict) and site.field == "values" and site.node in parent.values:
        key = parent.keys[parent.values.index(site.node)]
        return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""
    return ""


@operator(ast.Name, kinds=("wrong name", "unknown name"))
def global_name(site: Site) -> Iterator[Edit]:
    """A name of the module as another of the module (functions, classes, constants); an unknown name as a known one."""
    node = site.node
    assert isinstance(node, ast.Name)
    if not isinstance(node.ctx, ast.Load) or node.id in site.scope.names:
        return
    if node.id in site.words.unknown:
        known = [*site.words.top, *site.scope.functions, *BUILTINS]
        for name in difflib.get_close_matches(node.id, known, n=4, cutoff=0.6):
            yield from site.replace(node, name, "unknown name", 0.5 * _distance(name, node.id), level=16)
    if isinstance(site.parent, ast.Call) and site.field == "func":
        for name in site.scope.functions:
            if name != node.id:
                yield from site.replace(node, name, "wrong name", 0.2 + 0.6 * _distance(name, node.id), level=16)
    if node.id in site.words.top:
        for name in site.words.top:
            if name != node.id and name.isupper() == node.id.isupper() and name[:1].isupper() == node.id[:1].isupper():
                yield from site.replace(node, name, "wrong name", 0.6 * _distance(name, node.id), level=16)


@operator(ast.Name, kinds=("wrong function",))
def builtin(site: Site) -> Iterator[Edit]:
    """`min` as `max`, `any` as `all`."""
    node = site.node
    assert isinstance(node, ast.Name)
    if isinstance(node.ctx, ast.Load) and node.id not in site.scope.names:
        called = isinstance(site.parent, ast.Call) and site.field == "func"
        for rank, name in enumerate(confused_with(node.id)):
            if name in BUILTINS or name in site.words.top:
                yield from site.replace(node, name, "wrong function", (0.0 if called else 0.4) + 0.1 * rank, level=16)


@operator(ast.Name, kinds=("name for a constant",))
def spelled_out(site: Site) -> Iterator[Edit]:
    """A variable as a plain constant."""
    node = site.node
    assert isinstance(node, ast.Name)
    if site.is_value and node.id in site.scope.names and node.id not in ("self", "cls"):
        shape = site.scope.names[node.id]
        for text in ("0", "1", "None", "True", "False", "[]", '""', "-1"):
            unlike = 0.0 if not shape or shape_of(ast.parse(text, mode="eval").body) == shape else 0.4
            yield from site.replace(node, text, "name for a constant", 0.2 + unlike)


@operator(ast.Name, kinds=("missing self",))
def missing_self(site: Site) -> Iterator[Edit]:
    """`name` as `self.name`, `cls.name`."""
    node = site.node
    assert isinstance(node, ast.Name)
    if node.id not in site.vocabulary.members or not isinstance(node.ctx, (ast.Load, ast.Store)):
        return
    for owner in ("self", "cls"):
        if owner in site.scope.names:
            extra = 0.0 if node.id not in site.scope.names and node.id not in site.words.top else 0.9
            yield from site.splice(*site.source.span(node), f"{owner}.{node.id}", "missing self", extra)


@operator(ast.Attribute, kinds=("wrong attribute", "wrong function"))
def attribute(site: Site) -> Iterator[Edit]:
    """`a.x` as `a.y`: a known mix-up, or a member of the same class."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    end = site.source.span(node)[1]
    start = end - len(node.attr)
    called = isinstance(site.parent, ast.Call) and site.field == "func"
    for rank, name in enumerate(confused_with(node.attr)):
        kind = "wrong function" if called else "wrong attribute"
        yield from site.splice(start, end, name, kind, 0.1 * rank)
    known, here = site.vocabulary, site.scope.read_of.get(site.text(node.value), ())
    for name in known.members.get(node.attr, {}):
        if name != node.attr and not name.startswith("__"):
            is_method = name in known.signatures and name not in known.properties
            unlike = 0.0 if called == is_method else 0.6
            far = 0.0 if name in here else 0.6 * _distance(name, node.attr)
            yield from site.splice(start, end, name, "wrong attribute", far + unlike)


@operator(ast.Attribute, kinds=("other attribute",))
def other_attribute(site: Site) -> Iterator[Edit]:
    """`a.x` as `a.y` for any attribute that the file uses."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    end = site.source.span(node)[1]
    start = end - len(node.attr)
    members = site.vocabulary.members.get(node.attr, {})
    for name in site.words.attributes:
        if name != node.attr and name not in members:
            yield from site.splice(start, end, name, "other attribute", 0.6 * _distance(name, node.attr))


@operator(ast.Attribute, kinds=("unknown name",))
def misspelt_attribute(site: Site) -> Iterator[Edit]:
    """`a.apend` as `a.append`: an attribute that occurs once, and is like one of the project or of a plain type."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    if node.attr in site.vocabulary.members or node.attr in _known_methods() or site.words.counts[node.attr] > 1:
        return
    end = site.source.span(node)[1]
    for name in difflib.get_close_matches(node.attr, [*_known_methods(), *site.vocabulary.members], n=4, cutoff=0.7):
        yield from site.splice(end - len(node.attr), end, name, "unknown name", 0.4 + 0.5 * _distance(name, node.attr))


@operator(ast.Attribute, kinds=("surplus attribute",))
def surplus_attribute(site: Site) -> Iterator[Edit]:
    """`a.x` as `a`; `self.x` as `x`."""
    node = site.node
    assert isinstance(node, ast.Attribute)
    if site.is_value:
        yield from site.replace(node, site.text(node.value), "surplus attribute")
    if isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.attr in site.scope.names or node.attr in site.words.top or node.attr in site.scope.functions:
            yield from site.replace(node, node.attr, "surplus attribute", 0.0 if node.value.id == "self" else 0.5)
        elif node.attr in BUILTINS and site.field == "func":
            yield from site.replace(node, node.attr, "surplus attribute", 0.4)


@operator(ast.Name, ast.Call, ast.Attribute, ast.Subscript, kinds=("missing attribute",))
def missing_attribute(site: Site) -> Iterator[Edit]:
    """`a` as `a.x`, with attributes read from the same variable, then those of the project's classes."""
    node = site.node
    assert isinstance(node, ast.expr)
    text = site.text(node)
    if not site.is_short or isinstance(site.parent, ast.Attribute) or text in ("self", "cls"):
        return
    same = [donor[len(text) + 1 :] for donor in site.scope.expressions if donor.startswith(f"{text}.")]
    names = [name for name in same if name.isidentifier()]
    rest = [name for name in site.words.attributes if name in site.vocabulary.members and not name.startswith("_")]
    for rank, name in enumerate(dict.fromkeys([*names, *rest[:40]])):
        if name in site.vocabulary.properties or name not in site.vocabulary.signatures:
            yield from site.replace(
                node, f"{text}.{name}", "missing attribute", 0.0 if name in names else 0.3 + 0.02 * rank
            )
    foreign = (name for name in site.words.attributes if name not in site.vocabulary.members)
    for rank, name in enumerate(sorted(foreign, key=lambda name: -site.words.counts[name])[:60]):
        if name not in names and not name.startswith("_"):
            yield from site.replace(node, f"{text}.{name}", "missing attribute", 0.5 + 0.02 * rank)


@operator(
    ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.Compare, kinds=("other expression",)
)
def donor(site: Site) -> Iterator[Edit]:
    """An expression as another that stands in the function."""
    node = site.node
    assert isinstance(node, ast.expr)
    if not site.is_short:
        return
    own = site.text(node)
    operand = 0.2 if isinstance(site.parent, (ast.BinOp, ast.Compare)) else 0.0  # TSSB-3M: the second commonest fix
    for text, tree in site.scope.expressions.items():
        if isinstance(tree, ast.Constant) and not isinstance(node, ast.Constant):
            continue
        if isinstance(tree, ast.Name) and isinstance(node, ast.Name):
            continue  # see `variable`
        far = min(0.7, abs(tree.lineno - node.lineno) / 15)
        unlike = 0.0 if type(tree) is type(node) else 0.3 if isinstance(tree, ast.Name) else 0.6
        kin = 0.2 if own in text or text in own else 0.0
        extra = 0.2 + unlike + far + 0.01 * len(text) - kin - operand
        yield from site.replace(node, text, "other expression", max(0.0, extra))


@operator(ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, kinds=("known constant",))
def known_constant(site: Site) -> Iterator[Edit]:
    """An operand or an argument as a constant of the module."""
    node = site.node
    assert isinstance(node, ast.expr)
    parent = site.parent
    if not site.is_short or not isinstance(parent, (ast.Compare, ast.BinOp, ast.Call, ast.Assign, ast.Return)):
        return
    extra = 0.0 if isinstance(parent, ast.Compare) else 0.3
    for rank, name in enumerate(name for name in site.words.top if name.lstrip("_").isupper() and len(name) > 1):
        if rank < _MAX_CONSTANTS and name not in site.scope.names:
            yield from site.replace(node, name, "known constant", extra + 0.03 * rank, level=16)


@operator(ast.Assign, ast.AugAssign, kinds=("wrong target",))
def target(site: Site) -> Iterator[Edit]:
    """`a = ...` as `b = ...`."""
    node = site.node
    assert isinstance(node, (ast.Assign, ast.AugAssign))
    first = node.targets[0] if isinstance(node, ast.Assign) else node.target
    plain = (ast.Name, ast.Attribute, ast.Subscript)
    if not isinstance(first, plain) or (isinstance(node, ast.Assign) and len(node.targets) != 1):
        return
    for name in site.scope.names:
        if isinstance(first, ast.Name) and name not in ("self", "cls"):
            yield from site.replace(first, name, "wrong target", 0.5 * _distance(name, first.id))
    for text, tree in site.scope.expressions.items():
        if isinstance(tree, plain) and not isinstance(tree, ast.Name):
            yield from site.replace(first, text, "wrong target", 0.2 if type(tree) is type(first) else 0.7)


@operator(ast.Tuple, kinds=("exchanged names",))
def exchanged(site: Site) -> Iterator[Edit]:
    """`for k, v in a` as `for v, k in a`; `return a, b` as `return b, a`."""
    node = site.node
    assert isinstance(node, ast.Tuple)
    if isinstance(site.parent, (ast.Subscript, ast.pattern)) or len(node.elts) > 5:
        return
    for index, first in enumerate(node.elts):
        for second in node.elts[index + 1 :]:
            start, middle_start = site.source.span(first)
            middle_end, end = site.source.span(second)
            middle = site.source.text[middle_start:middle_end]
            yield from site.splice(start, end, f"{site.text(second)}{middle}{site.text(first)}", "exchanged names")


@operator(ast.Assign, ast.AugAssign, ast.Return, ast.Expr, kinds=("exchanged names",))
def exchanged_everywhere(site: Site) -> Iterator[Edit]:
    """Two variables exchanged wherever they stand in the statement: `a[i] = b[j]` as `b[i] = a[j]`."""
    node, source = site.node, site.source
    assert isinstance(node, ast.stmt)
    used: dict[str, list[tuple[int, int]]] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.JoinedStr):
            return
        if isinstance(inner, ast.Name) and inner.id in site.scope.names and inner.id not in ("self", "cls"):
            used.setdefault(inner.id, []).append(source.span(inner))
    start, end = source.span(node)
    for one, other in itertools.combinations(used, 2):
        if len(used[one]) + len(used[other]) > 8 or len(used) > 8:
            continue
        parts, at = [], start
        for low, high in sorted([*used[one], *used[other]]):
            parts += [source.text[at:low], other if source.text[low:high] == one else one]
            at = high
        yield from site.splice(start, end, "".join(parts) + source.text[at:end], "exchanged names", 0.3)


@functools.cache
def _known_methods() -> frozenset[str]:
    kinds = (str, bytes, list, dict, set, tuple, int, float)
    return frozenset(name for kind in kinds for name in dir(kind) if not name.startswith("__"))


def _is_in_loop(site: Site) -> bool:
    current = site.parent
    while current is not None and not isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if isinstance(current, (ast.For, ast.While, ast.AsyncFor)):
            return True
        current = site.source.parents.get(current)
    return False


@functools.lru_cache(maxsize=65536)
def _distance(one: str, other: str) -> float:
    """Return how unlike two names are, from 0 to 1: by the pairs of letters that they share (Dice)."""
    mine, others = _pairs(one), _pairs(other)
    return 1 - 2 * len(mine & others) / (len(mine) + len(others))


@functools.lru_cache(maxsize=16384)
def _pairs(name: str) -> frozenset[str]:
    padded = f"^{name}$"
    return frozenset(first + second for first, second in itertools.pairwise(padded))
