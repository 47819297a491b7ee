"""What a repair may draw on: the names, expressions and statements of the function, of the file, of the project."""

from __future__ import annotations

import ast
import builtins
import collections
import functools
import re
import symtable
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from lathe.mend.operators.clues import NONE, Clues
from lathe.mend.operators.shapes import ANSWERS, shape_of, shape_of_annotation, shapes_of_names
from lathe.mend.source import Function, SourceFile

MAX_DONOR = 60
_MAX_STRING = 30
_MAX_DONORS = 400
_DONORS = (ast.Assign, ast.AugAssign, ast.Return, ast.Continue, ast.Break, ast.Expr, ast.Raise, ast.Delete, ast.Assert)
_BORROWED = (ast.Attribute, ast.Subscript, ast.Call, ast.Compare, ast.UnaryOp)
_WORDS = re.compile(r"[A-Za-z][a-z0-9]*")
BUILTINS = frozenset(dir(builtins))


class Scope:
    """What one outermost function (or a module's top level) offers to the code in it."""

    def __init__(self, source: SourceFile, owner: ast.AST) -> None:
        self.owner = owner
        self.names: dict[str, str] = {}
        self.parameters: set[str] = set()
        self.bound_at: dict[str, int] = {}
        self.expressions: dict[str, ast.expr] = {}
        self.conditions: dict[str, ast.expr] = {}
        self.statements: dict[str, ast.stmt] = {}
        self.returned: dict[str, ast.expr] = {}
        self.inner: set[str] = set()
        self.functions: dict[str, None] = {}
        nodes = list(_own(owner))
        outer: set[str] = set()
        for node in nodes:
            if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.Lambda)):
                self.inner.update(_bound_inside(node))
        for node in nodes:
            if isinstance(node, ast.arguments):
                self._arguments(source, node, outer)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._bind(node.id, node.lineno)
                if not _is_in_comprehension(source, node):
                    outer.add(node.id)
            elif isinstance(node, Function) and node is not owner:
                self.functions[node.name] = None
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self._bind(node.name, node.lineno)
                outer.add(node.name)
            elif isinstance(node, ast.Return) and node.value is not None and _short(source, node.value):
                self.returned.setdefault(source.segment(node.value), node.value)
            if isinstance(node, (ast.If, ast.While, ast.IfExp)):
                tests = [node.test, *(node.test.values if isinstance(node.test, ast.BoolOp) else [])]
                self.conditions.update((source.segment(test), test) for test in tests if _short(source, test))
            if isinstance(node, ast.expr) and _is_donor(source, node):
                self.expressions.setdefault(source.segment(node), node)
            if isinstance(node, _DONORS) and _is_donor_statement(node):
                self.statements.setdefault(source.segment(node), node)
        self.inner -= outer
        self.names.update({name: shape for name, shape in shapes_of_names(nodes).items() if name in self.names})

    @functools.cached_property
    def words(self) -> set[str]:
        """The words that the names of the function are made of."""
        return set().union(*(words_of(name) for name in self.names), words_of(getattr(self.owner, "name", "")))

    @functools.cached_property
    def read_of(self) -> dict[str, set[str]]:
        """The attributes that the function reads, by what it reads them of."""
        found: dict[str, set[str]] = {}
        for text, tree in self.expressions.items():
            if isinstance(tree, ast.Attribute):
                found.setdefault(text[: -len(tree.attr) - 1], set()).add(tree.attr)
        return found

    @functools.cached_property
    def unread(self) -> list[str]:
        """The parameters, variables and nested functions that the function never reads: something may be missing."""
        read = {node.id for node in _own(self.owner) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        names = [*self.names, *self.functions] if isinstance(self.owner, Function) else []
        return [name for name in names if name not in read and not name.startswith("_") and name not in ("self", "cls")]

    def answers(self, function: ast.FunctionDef | ast.AsyncFunctionDef | None) -> list[str]:
        """Return what a function may return early, the likeliest first: what fits its annotation and its returns."""
        texts = list(self.returned)
        shapes = [shape_of(value) or self.names.get(text, "") for text, value in self.returned.items()]
        if function is not None and function.returns is not None:
            shapes.insert(0, shape_of_annotation(function.returns))
        fitting = [answer for shape in shapes for answer in ANSWERS.get(shape, ())]
        plain = [
            text for text in texts if isinstance(self.returned[text], (ast.Constant, ast.Name, ast.List, ast.Dict))
        ]
        rest = ["None", "[]", "0", "False", "True", '""', "-1", "1"]
        return list(dict.fromkeys([*plain, *fitting, *[text for text in texts if len(text) <= 25], *rest]))

    def _bind(self, name: str, line: int) -> None:
        self.names.setdefault(name, "")
        self.bound_at[name] = min(line, self.bound_at.get(name, line))

    def _arguments(self, source: SourceFile, arguments: ast.arguments, outer: set[str]) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        own = not isinstance(source.parents.get(arguments), ast.Lambda)
        for argument in every:
            if argument is not None:
                self._bind(argument.arg, argument.lineno)
                if own:
                    outer.add(argument.arg)
                    self.parameters.add(argument.arg)


class Vocabulary:
    """What the whole project offers: members of classes, signatures, errors, what can be imported, and donors.

    `clues` are what the failing tests say.
    """

    def __init__(self, sources: Iterable[SourceFile], clues: Clues = NONE) -> None:
        self.clues = clues
        self.members: dict[str, dict[str, None]] = {}
        self.signatures: dict[str, list[ast.arguments]] = {}
        self.coroutines: set[str] = set()
        self.properties: set[str] = set()
        self.errors: dict[str, None] = {}
        self.exports: dict[str, list[str]] = {}
        self._sources = list(sources)
        self.members_set: set[str] = set()
        by_class: list[dict[str, None]] = []
        for source in self._sources:
            for name in _defined_names(source.tree):
                self.exports.setdefault(name, []).append(source.path)
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                    self.members_set.add(node.attr)
                if isinstance(node, ast.ClassDef):
                    self.members_set.update(_defined(node))
                    by_class.append(dict.fromkeys(_members(node)))
                    if any(_is_error(base) for base in node.bases):
                        self.errors[node.name] = None
                    for method in node.body:
                        if isinstance(method, Function) and method.name == "__init__":
                            self.signatures.setdefault(node.name, []).append(method.args)
                elif isinstance(node, Function):
                    self.signatures.setdefault(node.name, []).append(node.args)
                    self.coroutines.update([node.name] if isinstance(node, ast.AsyncFunctionDef) else [])
                    self.properties.update([node.name] if any(map(_is_property, node.decorator_list)) else [])
        for members in by_class:
            for name in members:
                self.members.setdefault(name, {}).update(members)

    @functools.cached_property
    def one_argument(self) -> list[str]:
        """The functions and methods that can be called with one argument."""
        return [name for name, known in self.signatures.items() if any(map(_takes_one, known))]

    @functools.cached_property
    def plain_methods(self) -> list[str]:
        """The public methods that take nothing but `self`."""
        public = (name for name in self.signatures if name in self.members and not name.startswith("_"))
        names = (name for name in public if name not in self.properties)
        return [name for name in names if any(len(arguments.args) == 1 for arguments in self.signatures[name])]

    @functools.cached_property
    def donors(self) -> list[Donor]:
        """The short statements in functions of the project, each once."""
        found: dict[str, Donor] = {}
        for source in self._sources:
            for function in ast.walk(source.tree):
                if not isinstance(function, Function):
                    continue
                words = words_of(function.name).union(*(words_of(name) for name in _names_in(function)))
                for node in ast.walk(function):
                    if isinstance(node, _DONORS) and _is_donor_statement(node) and _short(source, node):
                        text = source.segment(node)
                        found.setdefault(text, Donor(text, frozenset(_names_in(node)), words, source.path))
                if len(found) > _MAX_DONORS * 10:
                    return list(found.values())
        return list(found.values())

    def donors_for(self, path: str, scope: Scope) -> list[Donor]:
        """Return the donors that are likeliest to fit into a function: of functions that speak of the same things."""

        def similarity(donor: Donor) -> float:
            together = len(scope.words | donor.words)
            near = 0.2 if donor.path == path else 0.0
            return near + (len(scope.words & donor.words) / together if together else 0.0)

        ranked = sorted(self.donors, key=similarity, reverse=True)
        return [donor for donor in ranked[:_MAX_DONORS] if donor.text not in scope.statements]


class Donor:
    """A statement that stands somewhere in the project, the names in it, and the words of the function around it."""

    __slots__ = ("names", "path", "text", "words")

    def __init__(self, text: str, names: frozenset[str], words: set[str], path: str) -> None:
        self.text = text
        self.names = names
        self.words = words
        self.path = path


class Expression(NamedTuple):
    """A short expression of a file: the names it reads, how often it stands there, and in which classes."""

    text: str
    tree: ast.expr
    names: frozenset[str]
    places: int
    classes: frozenset[ast.ClassDef]


class FileWords:
    """Attributes, short strings, imports, expressions and top-level names of one file."""

    def __init__(self, source: SourceFile) -> None:
        nodes = list(ast.walk(source.tree))
        self.counts = collections.Counter(node.attr for node in nodes if isinstance(node, ast.Attribute))
        self.attributes = sorted(self.counts)
        constants = (node.value for node in nodes if isinstance(node, ast.Constant) and not _is_docstring(source, node))
        self.strings = sorted({value for value in constants if isinstance(value, str) and len(value) < _MAX_STRING})
        self.top = list(dict.fromkeys(_top_names(source.tree)))
        self.imports = dict(_imports(nodes))
        self.is_package_relative = any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)
        self._source = source

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """Return the innermost class around `node`."""
        current = self._source.parents.get(node)
        while current is not None and not isinstance(current, ast.ClassDef):
            current = self._source.parents.get(current)
        return current

    @functools.cached_property
    def expressions(self) -> list[Expression]:
        """The attributes, items, calls and comparisons in functions of the file, and its base classes, each once."""
        places: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self._source.tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                if isinstance(base, ast.Attribute):
                    places.setdefault(self._source.segment(base), []).append(base)
        for function in ast.walk(self._source.tree):
            if isinstance(function, Function) and not isinstance(self._source.parents.get(function), Function):
                for node in ast.walk(function):
                    if isinstance(node, _BORROWED) and _is_donor(self._source, node):
                        places.setdefault(self._source.segment(node), []).append(node)
        return [
            Expression(text, nodes[0], frozenset(_free_names(nodes[0])), len(nodes), self._classes_of(nodes))
            for text, nodes in places.items()
        ]

    @functools.cached_property
    def raised(self) -> dict[str, list[Expression]]:
        """What the file raises, by the name of the error."""
        found: dict[str, list[Expression]] = {}
        for node in ast.walk(self._source.tree):
            made = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.lineno == made.end_lineno:
                names = frozenset(_free_names(made))
                one = Expression(self._source.segment(made), made, names, 1, self._classes_of([made]))
                found.setdefault(made.func.id, []).append(one)
        return found

    def _classes_of(self, nodes: Iterable[ast.AST]) -> frozenset[ast.ClassDef]:
        return frozenset(found for node in nodes if (found := self.class_of(node)) is not None)

    def unset(self, owner: ast.AST, known: set[str]) -> list[str]:
        """Return the attributes of `self` that the class around `owner` reads and that are not `known` to be set."""
        around = self.class_of(owner)
        found: dict[str, None] = {}
        for node in ast.walk(around) if around is not None else ():
            if not isinstance(node, ast.Attribute) or getattr(node.value, "id", "") != "self":
                continue
            if node.attr not in known and not node.attr.startswith("__"):
                found[node.attr] = None
        return list(found)

    def states(self, owner: ast.AST) -> list[str]:
        """Return assignments of plain values to attributes, as the class around `owner` has them, and opposite ones."""
        around = self.class_of(owner)
        found: dict[str, None] = {}
        for node in ast.walk(around) if around is not None else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and len(node.targets) == 1:
                target, value = self._source.segment(node.targets[0]), self._source.segment(node.value)
                if target.startswith("self.") and target[5:].isidentifier() and len(value) < _MAX_STRING:
                    found[f"{target} = {value}"] = None
                    if isinstance(node.value.value, bool):
                        found[f"{target} = {not node.value.value}"] = None
                    if node.value.value is None:
                        found[f"{target} = True"] = None
        return list(found)

    @functools.cached_property
    def unread(self) -> list[str]:
        """The imports and private names of the file, and private methods as `self._f`, that nothing in it reads."""
        if self._source.path.endswith("__init__.py") and self.is_package_relative:
            return []  # what it imports is for others
        read = {node.id for node in ast.walk(self._source.tree) if isinstance(node, ast.Name) and _is_read(node)}
        exported = set(self.strings)
        names = (name for name in self.top if name in self.imports or name.startswith("_"))
        found = [name for name in names if name not in read | exported and not name.startswith("__")]
        for node in ast.walk(self._source.tree):
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(method, Function) or method.decorator_list or self.counts[method.name]:
                    continue
                if method.name.startswith("_") and method.name[1:2] != "_":
                    found.append(f"self.{method.name}")
        return found

    @functools.cached_property
    def called_with_one(self) -> list[str]:
        """What is called with exactly one argument in the file, as it is written, the most frequent first."""
        found: collections.Counter[str] = collections.Counter()
        for node in ast.walk(self._source.tree):
            if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
                inside = isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name)
                if isinstance(node.func, (ast.Name, ast.Attribute)) and not inside:
                    found[self._source.segment(node.func)] += 1
        return [name for name, _ in found.most_common()]

    @functools.cached_property
    def kinds(self) -> list[str]:
        """The second arguments of `isinstance` in the file, the most frequent first."""
        found: collections.Counter[str] = collections.Counter()
        for node in ast.walk(self._source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                found.update(self._source.segment(kind) for kind in node.args[1:2] if _short(self._source, kind))
        return [kind for kind, _ in found.most_common()]

    @functools.cached_property
    def keywords(self) -> dict[str, dict[str, None]]:
        """The keyword arguments, as they are written, that calls of a function by that name are given in the file."""
        found: dict[str, dict[str, None]] = {}
        for node in ast.walk(self._source.tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                for keyword in node.keywords:
                    if keyword.arg and isinstance(keyword.value, ast.Constant) and _short(self._source, keyword.value):
                        found.setdefault(name, {})[f"{keyword.arg}={self._source.segment(keyword.value)}"] = None
        return found

    @functools.cached_property
    def identifiers(self) -> collections.Counter[str]:
        """How often each name, attribute, parameter, keyword, and text that looks like one, stands in the file."""
        found: collections.Counter[str] = collections.Counter()
        for node in ast.walk(self._source.tree):
            for field in ("id", "attr", "arg", "name"):
                value = getattr(node, field, None)
                found.update([value] if isinstance(value, str) else [])
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found[node.value] += 1
        return found

    @functools.cached_property
    def unknown(self) -> frozenset[str]:
        """The names that the file reads as globals and nobody binds: each a NameError."""
        tree = self._source.tree
        if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)):
            return frozenset()
        table = symtable.symtable(self._source.text, self._source.path, "exec")
        bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
        read: set[str] = set()
        todo = [table]
        while todo:
            inner = todo.pop()
            todo += inner.get_children()
            for symbol in inner.get_symbols():
                if symbol.is_global() or inner is table:
                    read.update([symbol.get_name()] if symbol.is_referenced() else [])
                    bound.update([symbol.get_name()] if symbol.is_declared_global() and symbol.is_assigned() else [])
        special = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__path__", "__class__"}
        return frozenset(read - bound - BUILTINS - special)


@functools.cache
def words_of(name: str) -> set[str]:
    """Return the words a name is made of, in lower case."""
    return {word.lower() for word in _WORDS.findall(name) if len(word) > 1}


def module_of(path: str) -> str:
    """Return the dotted name under which a file of the project is imported."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts and parts[0] in ("src", "lib"):
        parts = parts[1:]
    return ".".join(parts[:-1] if parts and parts[-1] == "__init__" else parts)


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _is_property(decorator: ast.expr) -> bool:
    name = decorator.id if isinstance(decorator, ast.Name) else getattr(decorator, "attr", "")
    return name in ("property", "cached_property", "setter")


def _takes_one(arguments: ast.arguments) -> bool:
    own = sum(argument.arg not in ("self", "cls") for argument in arguments.args)
    return own - len(arguments.defaults) == 1 and not arguments.kwonlyargs


def _own(owner: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of `owner`; of a module or class only what is not inside a function."""
    todo = [owner]
    whole = isinstance(owner, Function)
    while todo:
        node = todo.pop()
        yield node
        if whole or node is owner or not isinstance(node, Function):
            todo += reversed(list(ast.iter_child_nodes(node)))


def _bound_inside(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Lambda):
        yield from (argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg))
    for clause in getattr(node, "generators", ()):
        yield from (name.id for name in ast.walk(clause.target) if isinstance(name, ast.Name))


def _is_in_comprehension(source: SourceFile, node: ast.AST) -> bool:
    current: ast.AST | None = node
    while current is not None and not isinstance(current, ast.stmt):
        if isinstance(current, ast.comprehension):
            return True
        current = source.parents.get(current)
    return False


def _short(source: SourceFile, node: ast.expr | ast.stmt) -> bool:
    return node.lineno == node.end_lineno and len(source.segment(node)) <= MAX_DONOR


def _is_donor(source: SourceFile, node: ast.expr) -> bool:
    if isinstance(
        node, (ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.Slice, ast.Lambda, ast.Yield, ast.YieldFrom)
    ):
        return False
    if not isinstance(getattr(node, "ctx", _LOAD), ast.Load) or not _short(source, node):
        return False
    inside: ast.AST | None = node
    while inside is not None and not isinstance(inside, ast.stmt):
        field = source.fields.get(inside)
        if field in ("annotation", "returns", "decorator_list") or isinstance(inside, (ast.JoinedStr, ast.pattern)):
            return False
        inside = source.parents.get(inside)
    return not _is_docstring(source, node)


def _is_donor_statement(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not docstring and node.lineno == node.end_lineno


def _is_docstring(source: SourceFile, node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(source.parents.get(node), ast.Expr)


def _is_error(base: ast.expr) -> bool:
    name = base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
    return name.endswith(("Error", "Exception", "Warning"))


def _free_names(node: ast.expr) -> set[str]:
    """Return the names that an expression needs around it; what a comprehension in it binds is its own."""
    return _names_in(node) - {name for inner in ast.walk(node) for name in _bound_inside(inner)}


def _names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _defined(node: ast.ClassDef) -> Iterator[str]:
    """Yield the names that the body of a class binds, also the slots it lists."""
    for statement in node.body:
        if isinstance(statement, Function):
            yield statement.name
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def _members(node: ast.ClassDef) -> Iterator[str]:
    yield from _defined(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self":
            yield inner.attr


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id


def _top_names(tree: ast.Module) -> Iterator[str]:
    yield from _defined_names(tree)
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield each imported name with the module, or the module and member, that it stands for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    (alias.asname or alias.name).partition(".")[0],
                    alias.name if alias.asname else alias.name.partition(".")[0],
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


_LOAD = ast.Load()
