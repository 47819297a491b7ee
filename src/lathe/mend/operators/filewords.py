"""What one file offers: attributes, texts, imports, expressions and names at its top."""

from __future__ import annotations

import ast
import collections
import functools
import symtable
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lathe.mend.operators.reusable import (
    BUILTINS,
    defined_names,
    free_names,
    is_docstring,
    is_donor,
    is_short,
)
from lathe.mend.source import Function, SourceFile

_MAX_STRING = 30
_BORROWED = (ast.Attribute, ast.Subscript, ast.Call, ast.Compare, ast.UnaryOp)


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
        constants = (node.value for node in nodes if isinstance(node, ast.Constant) and not is_docstring(source, node))
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
                    if isinstance(node, _BORROWED) and is_donor(self._source, node):
                        places.setdefault(self._source.segment(node), []).append(node)
        return [
            Expression(text, nodes[0], frozenset(free_names(nodes[0])), len(nodes), self._classes_of(nodes))
            for text, nodes in places.items()
        ]

    @functools.cached_property
    def raised(self) -> dict[str, list[Expression]]:
        """What the file raises, by the name of the error."""
        found: dict[str, list[Expression]] = {}
        for node in ast.walk(self._source.tree):
            made = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.lineno == made.end_lineno:
                names = frozenset(free_names(made))
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
                found.update(self._source.segment(kind) for kind in node.args[1:2] if is_short(self._source, kind))
        return [kind for kind, _ in found.most_common()]

    @functools.cached_property
    def keywords(self) -> dict[str, dict[str, None]]:
        """The keyword arguments, as they are written, that calls of a function by that name are given in the file."""
        found: dict[str, dict[str, None]] = {}
        for node in ast.walk(self._source.tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                for keyword in node.keywords:
                    value = keyword.value
                    if keyword.arg and isinstance(value, ast.Constant) and is_short(self._source, value):
                        found.setdefault(name, {})[f"{keyword.arg}={self._source.segment(value)}"] = None
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


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _top_names(tree: ast.Module) -> Iterator[str]:
    yield from defined_names(tree)
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
