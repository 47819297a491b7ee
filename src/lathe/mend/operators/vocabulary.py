"""What a repair may draw on: the names, expressions and statements of the function and of the project."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from lathe.mend.operators.clues import NONE, Clues
from lathe.mend.operators.reusable import bound_inside, defined_names, is_donor, is_short, names_in
from lathe.mend.operators.shapes import ANSWERS, shape_of, shape_of_annotation, shapes_of_names
from lathe.mend.source import Function, SourceFile

_MAX_DONORS = 400
_DONORS = (ast.Assign, ast.AugAssign, ast.Return, ast.Continue, ast.Break, ast.Expr, ast.Raise, ast.Delete, ast.Assert)
_WORDS = re.compile(r"[A-Za-z][a-z0-9]*")


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
                self.inner.update(bound_inside(node))
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
            elif isinstance(node, ast.Return) and node.value is not None and is_short(source, node.value):
                self.returned.setdefault(source.segment(node.value), node.value)
            if isinstance(node, (ast.If, ast.While, ast.IfExp)):
                tests = [node.test, *(node.test.values if isinstance(node.test, ast.BoolOp) else [])]
                self.conditions.update((source.segment(test), test) for test in tests if is_short(source, test))
            if isinstance(node, ast.expr) and is_donor(source, node):
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
            for name in defined_names(source.tree):
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
                words = words_of(function.name).union(*(words_of(name) for name in names_in(function)))
                for node in ast.walk(function):
                    if isinstance(node, _DONORS) and _is_donor_statement(node) and is_short(source, node):
                        text = source.segment(node)
                        found.setdefault(text, Donor(text, frozenset(names_in(node)), words, source.path))
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


def _is_in_comprehension(source: SourceFile, node: ast.AST) -> bool:
    current: ast.AST | None = node
    while current is not None and not isinstance(current, ast.stmt):
        if isinstance(current, ast.comprehension):
            return True
        current = source.parents.get(current)
    return False


def _is_donor_statement(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not docstring and node.lineno == node.end_lineno


def _is_error(base: ast.expr) -> bool:
    name = base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
    return name.endswith(("Error", "Exception", "Warning"))


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
