"""What an operator is, and what it is given."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from lathe.mend.operators.vocabulary import FileWords, Scope, Vocabulary
from lathe.mend.source import SourceFile

ATOMS = (
    ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.List, ast.Dict, ast.Set,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.JoinedStr,
)  # fmt: skip
_TIGHT = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp, ast.Await, ast.Starred, ast.IfExp)


class Edit(NamedTuple):
    """Put `text` in the place of the characters from `start` to `end`.

    `cost` says how unlikely such a mistake is, 1.0 the likeliest; `line` is where the changed code stands.
    """

    start: int
    end: int
    text: str
    kind: str
    cost: float
    line: int


class Site:
    """A place in a file that an operator looks at."""

    def __init__(
        self, source: SourceFile, node: ast.AST, scope: Scope, words: FileWords, vocabulary: Vocabulary
    ) -> None:
        self.source = source
        self.node = node
        self.words = words
        self.scope = scope
        self.vocabulary = vocabulary
        self.parent = source.parents.get(node)
        self.field = source.fields.get(node, "")

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return `node` as it is written."""
        return self.source.segment(node)

    def operand(self, node: ast.expr) -> str:
        """Return `node` as it is written, in parentheses where an operator beside it would tear it apart."""
        text = self.text(node)
        return text if isinstance(node, ATOMS) else f"({text})"

    def replace(self, node: ast.expr, text: str, kind: str, cost: float) -> Iterator[Edit]:
        """Yield the edit that puts the expression `text` in the place of `node`, with parentheses where needed."""
        parsed = _kind_of(text)
        if parsed is None or text == self.text(node):
            return
        parent, field = self.source.parents.get(node), self.source.fields.get(node)
        loose = not issubclass(parsed, ATOMS)
        tight = isinstance(parent, _TIGHT) or (
            isinstance(parent, (ast.Attribute, ast.Subscript, ast.Call)) and field in ("value", "func")
        )
        start, end = self.source.span(node)
        if (
            loose
            and tight
            and not (self.source.text[start - 1 : start] == "(" and self.source.text[end : end + 1] == ")")
        ):
            text = f"({text})"
        yield Edit(start, end, text, kind, cost, node.lineno)

    def splice(self, start: int, end: int, text: str, kind: str, cost: float, *, line: int = 0) -> Iterator[Edit]:
        """Yield the edit that replaces a stretch of text, if it changes anything."""
        if self.source.text[start:end] != text:
            yield Edit(start, end, text, kind, cost, line or getattr(self.node, "lineno", 1))

    def between(self, sides: tuple[ast.expr, ast.expr], old: str, new: str, kind: str, cost: float) -> Iterator[Edit]:
        """Yield the edit that exchanges the operator `old` between two operands."""
        left, right = sides
        start, end = self.source.span(left)[1], self.source.span(right)[0]
        gap = self.source.text[start:end]
        if gap.count(old) == 1:
            at = start + gap.index(old)
            yield Edit(at, at + len(old), new, kind, cost, left.end_lineno or left.lineno)


Operator: TypeAlias = Callable[[Site], Iterator[Edit]]
REGISTRY: dict[type[ast.AST], list[Operator]] = {}


def operator(*kinds: type[ast.AST]) -> Callable[[Operator], Operator]:
    """Register a function as an operator for nodes of these kinds."""

    def register(function: Operator) -> Operator:
        for kind in kinds:
            REGISTRY.setdefault(kind, []).append(function)
        return function

    return register


@functools.lru_cache(maxsize=65536)
def _kind_of(text: str) -> type[ast.AST] | None:
    try:
        return type(ast.parse(f"({text}\n)", mode="eval").body)
    except (SyntaxError, ValueError):
        return None
