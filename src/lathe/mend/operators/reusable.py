"""What of a syntax tree can be used again elsewhere: names, short expressions, definitions."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from lathe.mend.source import SourceFile

MAX_DONOR = 60
BUILTINS = frozenset(dir(builtins))


def bound_inside(node: ast.AST) -> Iterator[str]:
    """Yield the names that a lambda or a comprehension binds for itself."""
    if isinstance(node, ast.Lambda):
        yield from (argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg))
    for clause in getattr(node, "generators", ()):
        yield from (name.id for name in ast.walk(clause.target) if isinstance(name, ast.Name))


def is_short(source: SourceFile, node: ast.expr | ast.stmt) -> bool:
    """Return whether `node` stands on one line and is short enough to be used elsewhere."""
    return node.lineno == node.end_lineno and len(source.segment(node)) <= MAX_DONOR


def is_donor(source: SourceFile, node: ast.expr) -> bool:
    """Return whether an expression can stand elsewhere by itself."""
    if isinstance(
        node, (ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.Slice, ast.Lambda, ast.Yield, ast.YieldFrom)
    ):
        return False
    if not isinstance(getattr(node, "ctx", _LOAD), ast.Load) or not is_short(source, node):
        return False
    inside: ast.AST | None = node
    while inside is not None and not isinstance(inside, ast.stmt):
        field = source.fields.get(inside)
        if field in ("annotation", "returns", "decorator_list") or isinstance(inside, (ast.JoinedStr, ast.pattern)):
            return False
        inside = source.parents.get(inside)
    return not is_docstring(source, node)


def is_docstring(source: SourceFile, node: ast.expr) -> bool:
    """Return whether `node` is a constant that is a statement of its own."""
    return isinstance(node, ast.Constant) and isinstance(source.parents.get(node), ast.Expr)


def free_names(node: ast.expr) -> set[str]:
    """Return the names that an expression needs around it; what a comprehension in it binds is its own."""
    return names_in(node) - {name for inner in ast.walk(node) for name in bound_inside(inner)}


def names_in(node: ast.AST) -> set[str]:
    """Return every name in `node`."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield what a module defines at its top, without what it imports."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id


_LOAD = ast.Load()
