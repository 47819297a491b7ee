"""What an edit does to the names of its function: what it leaves without any use, what it uses out of its place.

Who wrote a parameter, a variable or the variable of a loop meant it to be used, and hardly ever behind the loop. What
is at odds with that is less likely, whatever its kind.
"""

from __future__ import annotations

import ast
import re

from lathe.mend.operators.registry import Edit
from lathe.mend.source import SourceFile

ORPHAN_COST = 3.0
STRAY_COST = 2.0
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
Loop = tuple[int, int, int]  # where it begins and ends, and its column


class Bindings:
    """The names that one function binds, where it reads them, and of the variables of loops where these are."""

    def __init__(self, source: SourceFile, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._text = source.text
        self._source = source
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        self._read: dict[str, list[int]] = {argument.arg: [] for argument in named}
        self._loops: dict[str, list[Loop]] = {}
        elsewhere: set[str] = set(self._read)
        targets: set[ast.AST] = set()
        nodes = [inner for inner in ast.walk(function) if inner is not function]
        for node in nodes:
            if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
                inside = self._place_of_loop(node)
                for inner in ast.walk(node.target):
                    if isinstance(inner, ast.Name):
                        self._loops.setdefault(inner.id, []).append(inside)
                        targets.add(inner)
        reads: list[ast.Name] = []
        for node in nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and not self._is_changed(node):
                self._read.setdefault(node.id, [])
                if node not in targets:
                    elsewhere.add(node.id)
            elif isinstance(node, ast.Name):
                reads.append(node)
            elif isinstance(node, (ast.Global, ast.Nonlocal)):
                elsewhere.update(node.names)
            elif isinstance(node, ast.arg):
                elsewhere.add(node.arg)
        for node in reads:
            if node.id in self._read:
                self._read[node.id].append(source.span(node)[0])
        for name in [name for name in self._read if name.startswith("_") or name in ("self", "cls")]:
            del self._read[name]
        for name in elsewhere:
            self._loops.pop(name, None)

    def cost(self, edit: Edit) -> float:
        """Return how much less likely an edit of this function is for what it does to the names."""
        before = set(_NAME.findall(self._text, edit.start, edit.end))
        after = set(_NAME.findall(edit.text))
        if any(self._is_orphaned(name, edit) for name in before - after):
            return ORPHAN_COST
        if any(self._is_stray(name, edit) for name in after - before):
            return STRAY_COST
        return 0.0

    def _is_orphaned(self, name: str, edit: Edit) -> bool:
        reads = self._read.get(name, ())
        return bool(reads) and all(edit.start <= at < edit.end for at in reads)

    def _is_stray(self, name: str, edit: Edit) -> bool:
        """Return whether `name` is only the variable of loops, and the edit in none of them."""
        loops = self._loops.get(name, ())
        return bool(loops) and not any(self._is_inside(edit, *loop) for loop in loops)

    def _is_inside(self, edit: Edit, start: int, end: int, column: int) -> bool:
        if start <= edit.start and edit.end <= end:
            return True
        indent = len(edit.text) - len(edit.text.lstrip(" \t"))
        return edit.start == edit.end and edit.start - end in (1, 2) and indent > column  # a line put in at its end

    def _place_of_loop(self, node: ast.For | ast.AsyncFor | ast.comprehension) -> Loop:
        around = node if not isinstance(node, ast.comprehension) else self._source.parents[node]
        assert isinstance(around, (ast.stmt, ast.expr))
        return (*self._source.span(around), around.col_offset)

    def _is_changed(self, node: ast.Name) -> bool:
        return isinstance(self._source.parents.get(node), ast.AugAssign)
