"""Definitions: defaults, parameters, decorators, imports, and which variable an assignment means."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from lathe.mend.operators.place import Place
from lathe.mend.operators.registry import Edit, Site, operator
from lathe.mend.operators.reusable import BUILTINS
from lathe.mend.operators.vocabulary import module_of
from lathe.mend.source import Definition, Function

# Well-known names of the standard library that are imported from their module.
_FROM = {
    "collections": "defaultdict Counter OrderedDict deque namedtuple ChainMap",
    "collections.abc": "Iterable Iterator Callable Mapping MutableMapping Sequence Generator Awaitable",
    "contextlib": "contextmanager suppress closing ExitStack asynccontextmanager nullcontext redirect_stdout",
    "copy": "deepcopy", "dataclasses": "dataclass field asdict astuple replace", "decimal": "Decimal ROUND_HALF_UP",
    "datetime": "datetime timedelta timezone date", "enum": "Enum IntEnum Flag auto", "fractions": "Fraction",
    "functools": "reduce partial wraps lru_cache cache cached_property total_ordering cmp_to_key singledispatch",
    "heapq": "heappush heappop heapify nlargest nsmallest", "bisect": "bisect_left bisect_right bisect insort",
    "io": "StringIO BytesIO", "itertools": "chain product permutations combinations groupby islice zip_longest "
    "accumulate repeat cycle takewhile dropwhile starmap tee pairwise", "json": "JSONDecodeError",
    "math": "sqrt ceil floor gcd factorial pi inf isclose log prod hypot comb isqrt sin cos tan atan2",
    "operator": "itemgetter attrgetter methodcaller mul add", "os": "path environ",
    "pathlib": "Path PurePath PurePosixPath",
    "queue": "Queue Empty PriorityQueue", "random": "randint shuffle choice", "string": "ascii_lowercase ascii_letters "
    "ascii_uppercase digits punctuation Template", "threading": "Thread Lock Event",
    "time": "sleep monotonic perf_counter",
    "types": "SimpleNamespace MappingProxyType", "typing": "Any Optional Union List Dict Tuple Set NamedTuple TypeVar "
    "Protocol Generic cast overload TYPE_CHECKING ClassVar Literal TypedDict", "abc": "ABC abstractmethod",
    "uuid": "uuid4 UUID", "urllib.parse": "urlparse urlencode quote unquote urljoin parse_qs", "numbers": "Number Real",
    "textwrap": "dedent indent wrap", "warnings": "warn", "weakref": "WeakKeyDictionary WeakValueDictionary",
    "statistics": "mean median stdev", "inspect": "signature", "tempfile": "TemporaryDirectory NamedTemporaryFile",
}  # fmt: skip
_HOME: dict[str, str] = {}
for _module, _names in _FROM.items():
    for _name in _names.split():
        _HOME.setdefault(_name, _module)
_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "dt": "datetime"}


@operator(ast.Name, kinds=("missing import",))
def missing_import(site: Site) -> Iterator[Edit]:
    """An unknown name imported: a module, a well-known member of the standard library, a symbol of the project."""
    node = site.node
    assert isinstance(node, ast.Name)
    if node.id in site.words.unknown:
        yield from _imports_of(site, node.id)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign, kinds=("missing import", "unknown name"))
def annotated(site: Site) -> Iterator[Edit]:
    """The same for an unknown name in an annotation or a decorator, which fails when the module is imported."""
    node = site.node
    parts: list[ast.expr | None] = []
    if isinstance(node, ast.AnnAssign):
        parts = [node.annotation]
    elif isinstance(node, Function):
        arguments = (one for one in ast.walk(node.args) if isinstance(one, ast.arg))
        parts = [node.returns, *node.decorator_list, *(one.annotation for one in arguments)]
    for part in parts:
        for name in ast.walk(part) if part is not None else ():
            if isinstance(name, ast.Name) and name.id in site.words.unknown:
                yield from _imports_of(site, name.id)
                for near in difflib.get_close_matches(name.id, [*site.words.top, *BUILTINS, *_HOME], n=2):
                    yield from site.replace(name, near, "unknown name", 0.3, level=16)


def _imports_of(site: Site, name: str) -> Iterator[Edit]:
    lines = []
    for path in site.vocabulary.exports.get(name, []):
        if path != site.source.path:
            lines.append(f"from {_module_from(site, path)} import {name}")
    if name in _HOME:
        lines.append(f"from {_HOME[name]} import {name}")
    if name in sys.stdlib_module_names:
        lines.insert(0, f"import {name}")
    if name in _ALIASES:
        lines.append(f"import {_ALIASES[name]} as {name}")
    at = _import_place(site)
    for rank, line in enumerate(lines):
        yield from site.insert(at, f"{line}\n", "missing import", 0.2 * rank)


def _module_from(site: Site, path: str) -> str:
    here, there = PurePosixPath(site.source.path), PurePosixPath(path)
    if site.words.is_package_relative and here.parent == there.parent:
        return f".{there.stem}"
    return module_of(path)


def _import_place(site: Site) -> int:
    """Return where a further import goes: behind the last at the top, else behind the docstring."""
    body = site.source.tree.body
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    first = next((node for node in body if isinstance(node, Definition)), None)
    early = [node for node in imports if first is None or node.lineno < first.lineno]
    if early:
        return site.source.block(early[-1])[1]
    if (
        isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        return site.source.block(body[0])[1]
    return site.source.block(body[0])[0]


def _first_line(site: Site, node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, str] | None:
    """Return where the body begins behind the docstring, and its indentation; None where it shares a line."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
        first = node.body[1]
    start = site.source.block(first)[0]
    if first.lineno == node.lineno or not (site.source.owns_its_lines(first) or hasattr(first, "body")):
        return None
    return start, site.source.text[start : start + first.col_offset]


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    arguments = [*node.args.posonlyargs, *node.args.args]
    return [
        *zip(arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("mutable default",))
def mutable_default(site: Site) -> Iterator[Edit]:
    """`def f(a=[])` as `def f(a=None)` with the value made in the body; `=None` with the value missing in the body."""
    node, source = site.node, site.source
    assert isinstance(node, Function)
    beginning = _first_line(site, node)
    if beginning is None:
        return
    at, indent = beginning
    end_of_line, step = source.newline, source.step
    for argument, default in _defaults(node):
        name = argument.arg
        if default is None:
            continue
        made = isinstance(default, ast.Call) and not default.args
        if made or isinstance(default, (ast.List, ast.Dict, ast.Set, ast.ListComp)):
            start, end = source.span(default)
            body = f"{indent}if {name} is None:{end_of_line}{indent}{step}{name} = {site.text(default)}{end_of_line}"
            yield from site.splice(start, at, f"None{source.text[end:at]}{body}", "mutable default")
        elif isinstance(default, ast.Constant) and default.value is None:
            for rank, value in enumerate(("[]", "{}", "set()", "0", '""', "1")):
                body = f"{indent}if {name} is None:\n{indent}{step}{name} = {value}\n"
                yield from site.insert(at, body, "mutable default", 1.2 + 0.2 * rank)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("mistyped default",))
def mistyped_default(site: Site) -> Iterator[Edit]:
    """`def f(a: str | None = True)` as `def f(a: str | None = None)`: a default that its annotation does not allow."""
    node = site.node
    assert isinstance(node, Function)
    for parameter, default in _defaults(node):
        if isinstance(default, ast.Constant) and default.value is not None and parameter.annotation is not None:
            allowed = ast.unparse(parameter.annotation)
            if ("None" in allowed or "Optional" in allowed) and type(default.value).__name__ not in allowed:
                yield from site.replace(default, "None", "mistyped default", level=16)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("wrong default",))
def wrong_default(site: Site) -> Iterator[Edit]:
    """`def f(a=0)` as `def f(a=None)`, `def f(a)` as `def f(a=None)`."""
    node = site.node
    assert isinstance(node, Function)
    for _, default in _defaults(node):
        if default is not None:
            for rank, text in enumerate(("None", "1", "0", "True", "False", '""', "()", '" "', "-1", "2", "10")):
                yield from site.replace(default, text, "wrong default", 0.1 * rank)
    plain = node.args.args[-1] if node.args.args and not node.args.defaults else None
    if plain is not None and plain.arg not in ("self", "cls"):
        end = site.source.span(plain)[1]
        for rank, text in enumerate(("None", "0", "1", "False", "True", "()", '""')):
            written = f" = {text}" if plain.annotation else f"={text}"
            yield from site.splice(end, end, written, "wrong default", 0.3 + 0.1 * rank)


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("missing parameter", "missing decorator"))
def method(site: Site) -> Iterator[Edit]:
    """A method without `self`; `@staticmethod` and the like missing or too many; a misspelt `__init__`."""
    node, source = site.node, site.source
    assert isinstance(node, Function)
    if not isinstance(site.parent, ast.ClassDef):
        return
    parameters = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    start = source.span(node)[0]
    opening = source.text.index("(", start) + 1
    bare = not parameters or parameters[0] not in ("self", "cls")
    if bare and not node.decorator_list:
        yield from site.splice(
            opening, opening, "self, " if parameters or node.args.vararg else "self", "missing parameter"
        )
    line = source.block(node)[0]
    indent = source.text[source.line_start(node.lineno) : source.line_start(node.lineno) + node.col_offset]
    if not node.decorator_list:
        wanted = [("staticmethod", 0.0 if bare else 0.8), ("classmethod", 0.0 if parameters[:1] == ["cls"] else 0.8)]
        wanted += [("property", 0.2)] if parameters == ["self"] else []
        for name, extra in wanted:
            yield from site.insert(line, f"{indent}@{name}\n", "missing decorator", extra)
    for decorator in node.decorator_list:
        low, high = (
            source.line_start(decorator.lineno),
            source.line_start((decorator.end_lineno or decorator.lineno) + 1),
        )
        yield from site.splice(low, high, "", "missing decorator", 0.3)
        if isinstance(decorator, ast.Name) and decorator.id in ("staticmethod", "classmethod", "property"):
            for name in ("staticmethod", "classmethod", "property"):
                yield from site.replace(decorator, name, "missing decorator", 0.3, level=16)
    if node.name in ("_init_", "__init", "init", "__int__", "_init__", "__init_"):
        at = source.text.index(node.name, start)
        yield from site.splice(at, at + len(node.name), "__init__", "missing decorator")


@operator(ast.FunctionDef, ast.AsyncFunctionDef, kinds=("missing super call",))
def super_call(site: Site) -> Iterator[Edit]:
    """A method of a class with bases that lacks `super().f(...)`: at its beginning, at its end."""
    node = site.node
    assert isinstance(node, Function)
    if not isinstance(site.parent, ast.ClassDef) or not site.parent.bases:
        return
    if "super()" in (site.source.text[slice(*site.source.span(node))]):
        return
    beginning = _first_line(site, node)
    own = [argument.arg for argument in node.args.args[1:]]
    if beginning is None:
        return
    at, indent = beginning
    for rank, arguments in enumerate(dict.fromkeys(("", ", ".join(own), *own[:2]))):
        text = f"{indent}super().{node.name}({arguments})\n"
        yield from site.insert(at, text, "missing super call", (0.0 if node.name == "__init__" else 0.4) + 0.1 * rank)


@operator(ast.Assign, ast.AugAssign, kinds=("missing global",))
def missing_global(site: Site) -> Iterator[Edit]:
    """`n += 1` for an `n` of the module with `global n`, of the function around with `nonlocal n`."""
    node, function = site.node, site.function
    assert isinstance(node, (ast.Assign, ast.AugAssign))
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name) or function is None or target.id in {one.arg for one in function.args.args}:
        return
    beginning = _first_line(site, function)
    if beginning is None:
        return
    at, indent = beginning
    if target.id in site.words.top:
        yield from site.insert(at, f"{indent}global {target.id}\n", "missing global")
    outer = site.source.parents.get(function)
    around = site.source.function(outer) if outer is not None else None
    if around is not None and _binds(around, function, target.id):
        yield from site.insert(at, f"{indent}nonlocal {target.id}\n", "missing global")


def _binds(around: ast.AST, inner: ast.AST, name: str) -> bool:
    todo: list[ast.AST] = [around]
    while todo:
        node = todo.pop()
        if node is inner:
            continue
        if isinstance(node, ast.arg) and node.arg == name:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        todo += ast.iter_child_nodes(node)
    return False


@operator(ast.Lambda, kinds=("wrong default",))
def late_binding(site: Site) -> Iterator[Edit]:
    """`lambda: i` as `lambda i=i: i`, so that each keeps its own."""
    node = site.node
    assert isinstance(node, ast.Lambda)
    own = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
    free = {inner.id for inner in ast.walk(node.body) if isinstance(inner, ast.Name)} - own
    start, body = site.source.span(node)[0] + len("lambda"), site.source.span(node.body)[0]
    colon = site.source.text.rindex(":", start, body)
    for name in sorted(free & set(site.names)):
        lead = ", " if own else " "
        yield from site.splice(colon, colon, f"{lead}{name}={name}", "wrong default", 0.2)


@operator(ast.Global, ast.Nonlocal, kinds=("surplus statement",))
def surplus_global(site: Site) -> Iterator[Edit]:
    """Leave `global n` out."""
    place = site.place
    if isinstance(place, Place):
        text = "" if len(place.body) > 1 else f"{place.indent}pass{site.source.newline}"
        yield from site.splice(place.start, place.end, text, "surplus statement", 0.2)
