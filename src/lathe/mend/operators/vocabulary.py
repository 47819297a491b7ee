"""The names a repair may draw on: those in the function, in the file, and in the project."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from lathe.mend.source import Function, SourceFile

MAX_DONOR = 60
_MAX_STRING = 30


class Scope:
    """What one outermost function (or a module's top level) offers to the code in it."""

    def __init__(self, source: SourceFile, owner: ast.AST) -> None:
        self.names: dict[str, str] = {}
        self.expressions: dict[str, ast.expr] = {}
        self.conditions: dict[str, ast.expr] = {}
        self.statements: dict[str, ast.stmt] = {}
        for node in _own(owner):
            if isinstance(node, ast.arguments):
                self._arguments(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.names.setdefault(node.id, "")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.names[node.target.id] = ast.unparse(node.annotation)
            if isinstance(node, (ast.If, ast.While, ast.IfExp)):
                tests = [node.test, *(node.test.values if isinstance(node.test, ast.BoolOp) else [])]
                self.conditions.update((source.segment(test), test) for test in tests if _short(source, test))
            if isinstance(node, ast.expr) and _is_donor(source, node):
                self.expressions.setdefault(source.segment(node), node)
            if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Continue, ast.Break, ast.Expr)):
                docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                if not docstring and node.lineno == node.end_lineno:
                    self.statements.setdefault(source.segment(node), node)

    def _arguments(self, arguments: ast.arguments) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in every:
            if argument is not None:
                self.names[argument.arg] = ast.unparse(argument.annotation) if argument.annotation else ""


class Vocabulary:
    """What the whole project offers: members of classes, functions of modules, words and strings of a file."""

    def __init__(self, sources: Iterable[SourceFile]) -> None:
        self.members: dict[str, dict[str, None]] = {}
        self.signatures: dict[str, list[ast.arguments]] = {}
        self.coroutines: set[str] = set()
        self._by_class: list[dict[str, None]] = []
        for source in sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef):
                    self._by_class.append(dict.fromkeys(_members(node)))
                elif isinstance(node, Function):
                    self.signatures.setdefault(node.name, []).append(node.args)
                    if isinstance(node, ast.AsyncFunctionDef):
                        self.coroutines.add(node.name)
        for members in self._by_class:
            for name in members:
                self.members.setdefault(name, {}).update(members)


class FileWords:
    """Attributes, short strings and top-level names of one file."""

    def __init__(self, source: SourceFile) -> None:
        nodes = list(ast.walk(source.tree))
        self.attributes = sorted({node.attr for node in nodes if isinstance(node, ast.Attribute)})
        constants = (node.value for node in nodes if isinstance(node, ast.Constant) and not _is_docstring(source, node))
        self.strings = sorted({value for value in constants if isinstance(value, str) and len(value) < _MAX_STRING})
        self.top = list(dict.fromkeys(_top_names(source.tree)))


def _own(owner: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of `owner`; of a module or class only what is not inside a function."""
    todo = [owner]
    whole = isinstance(owner, Function)
    while todo:
        node = todo.pop()
        yield node
        if whole or node is owner or not isinstance(node, Function):
            todo += reversed(list(ast.iter_child_nodes(node)))


def _short(source: SourceFile, node: ast.expr) -> bool:
    return node.lineno == node.end_lineno and len(source.segment(node)) <= MAX_DONOR


def _is_donor(source: SourceFile, node: ast.expr) -> bool:
    if isinstance(node, (ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.Slice, ast.Lambda)):
        return False
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or not _short(source, node):
        return False
    inside: ast.AST | None = node
    while inside is not None and not isinstance(inside, ast.stmt):
        field = source.fields.get(inside)
        if field in ("annotation", "returns", "decorator_list") or isinstance(inside, ast.JoinedStr):
            return False
        inside = source.parents.get(inside)
    return not _is_docstring(source, node)


def _is_docstring(source: SourceFile, node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(source.parents.get(node), ast.Expr)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, Function):
            yield statement.name
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self":
            yield inner.attr


def _top_names(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
