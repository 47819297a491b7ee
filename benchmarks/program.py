"""A Python file as the seeder and the judge look at it: text, tree, and the way from one to the other."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Callable_ = ast.FunctionDef | ast.AsyncFunctionDef


class Program:
    """`text` and its tree. Raises `SyntaxError` for what does not parse."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.parent: dict[ast.AST, ast.AST] = {}
        self.field: dict[ast.AST, str] = {}
        for node in ast.walk(self.tree):
            for name, value in ast.iter_fields(node):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.parent[child] = node
                        self.field[child] = name
        self._lines = text.splitlines(keepends=True)
        self._start = [0]
        for line in self._lines:
            self._start.append(self._start[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        """Return the place in `text` of a column, counted in bytes of UTF-8, of a line, counted from 1."""
        return self._start[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return where a node that has a place begins and ends."""
        places = node.__dict__
        return self.at(places["lineno"], places["col_offset"]), self.at(places["end_lineno"], places["end_col_offset"])

    def of(self, node: ast.AST) -> str:
        """Return a node as it is written."""
        start, end = self.span(node)
        return self.text[start:end]

    def lines_of(self, node: ast.stmt) -> tuple[int, int] | None:
        """Return the span of the whole lines of a statement; None where it shares them with something else."""
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        start, end = self._start[first - 1], self._start[node.end_lineno or node.lineno]
        before, after = self.text[start : self.span(node)[0]], self.text[self.span(node)[1] : end].strip()
        alone = first < node.lineno or not before.strip()
        return (start, end) if alone and (not after or after.startswith("#")) else None

    def with_text(self, start: int, end: int, text: str) -> str:
        return self.text[:start] + text + self.text[end:]

    def functions(self) -> Iterator[Callable_]:
        """Yield the outermost functions: of the module and of its classes, not those inside functions."""
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop(0)
            if isinstance(node, Function):
                yield node
            else:
                waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]

    def qualified(self, function: ast.AST) -> str:
        """Return a function's `__qualname__`."""
        names: list[str] = []
        node: ast.AST | None = function
        while node is not None:
            if isinstance(node, Definition):
                if names and isinstance(node, Function):
                    names.append("<locals>")
                names.append(node.name)
            node = self.parent.get(node)
        return ".".join(reversed(names))

    def is_docstring(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and isinstance(self.parent.get(node), ast.Expr)

    def blocks(self, node: ast.AST) -> Iterator[list[ast.stmt]]:
        """Yield the lists of statements in a node."""
        for inner in ast.walk(node):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(inner, name, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    yield block

    @cached_property
    def members(self) -> dict[tuple[str, bool], list[str]]:
        """Return, by the text in front of the dot and whether it is called, the attributes that the file uses."""
        found: defaultdict[tuple[str, bool], set[str]] = defaultdict(set)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                found[self.of(node.value), self.field.get(node) == "func"].add(node.attr)
        return {base: sorted(names) for base, names in found.items()}

    @cached_property
    def signatures(self) -> dict[str, list[ast.arguments]]:
        """Return what the functions of the file accept, by their names."""
        found: defaultdict[str, list[ast.arguments]] = defaultdict(list)
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                found[node.name].append(node.args)
        return dict(found)
