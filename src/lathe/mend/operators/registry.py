"""What an operator is, and what it is given."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from lathe.mend.operators.filewords import FileWords
from lathe.mend.operators.likelihood import COST
from lathe.mend.operators.place import Place
from lathe.mend.operators.vocabulary import Scope, Vocabulary
from lathe.mend.source import SourceFile

MAX_TEXT = 50
# How tightly an expression holds together, as the grammar has it.
LOOSE, CHOICE, OR, AND, NOT, COMPARED, SUM, PRODUCT, ATOM = 0, 2, 3, 4, 5, 6, 11, 12, 16
_BINDING: dict[type[ast.AST], int] = {
    ast.NamedExpr: LOOSE, ast.Yield: LOOSE, ast.YieldFrom: LOOSE, ast.Tuple: LOOSE, ast.Lambda: 1, ast.IfExp: CHOICE,
    ast.Compare: COMPARED, ast.Or: OR, ast.And: AND, ast.Not: NOT, ast.BitOr: 7, ast.BitXor: 8, ast.BitAnd: 9,
    ast.LShift: 10, ast.RShift: 10, ast.Add: SUM, ast.Sub: SUM, ast.Mult: PRODUCT, ast.Div: PRODUCT,
    ast.FloorDiv: PRODUCT, ast.Mod: PRODUCT, ast.MatMult: PRODUCT, ast.UAdd: 13, ast.USub: 13, ast.Invert: 13,
    ast.Pow: 14, ast.Await: 15, ast.Starred: LOOSE,
}  # fmt: skip
_WORD = re.compile(r"[\w.]+\Z")


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

    @functools.cached_property
    def names(self) -> list[str]:
        """The variables that can be used here, without `self` and `cls`."""
        hidden = self.scope.inner
        if hidden:
            hidden = hidden - self._bound_around()
        return [name for name in self.scope.names if name not in hidden and name not in ("self", "cls")]

    @functools.cached_property
    def is_value(self) -> bool:
        """Whether the expression is read, and is neither a statement, a called name nor a piece of a text."""
        if not isinstance(getattr(self.node, "ctx", _LOAD), ast.Load):
            return False
        if isinstance(self.parent, (ast.Expr, ast.FormattedValue, ast.JoinedStr, ast.Starred, ast.pattern)):
            return False
        return not (isinstance(self.parent, ast.Call) and self.field == "func")

    @functools.cached_property
    def is_short(self) -> bool:
        """Whether the expression is a value (see `is_value`) short enough to be built into another."""
        return self.is_value and isinstance(self.node, ast.expr) and len(self.text(self.node)) <= MAX_TEXT

    @functools.cached_property
    def place(self) -> Place | None:
        """Where the statement stands among its neighbours; None where statements cannot be moved."""
        return Place.of(self.source, self.node, self.parent, self.field) if isinstance(self.node, ast.stmt) else None

    @functools.cached_property
    def function(self) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The innermost function around the node, not the node itself."""
        return self.source.function(self.parent) if self.parent is not None else None

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return `node` as it is written."""
        return self.source.segment(node)

    def operand(self, node: ast.expr, needed: int = ATOM) -> str:
        """Return `node` as it is written, in parentheses where it holds together less tightly than `needed`."""
        text = self.text(node)
        return text if binding(node) >= needed else f"({text})"

    def replace(
        self, node: ast.expr, text: str, kind: str, extra: float = 0.0, *, level: int | None = None
    ) -> Iterator[Edit]:
        """Yield the edit that puts the expression `text` in the place of `node`, with parentheses where needed.

        The edit costs what its `kind` does, and `extra`; `level` is how tightly `text` holds together, where known.
        """
        start, end = self.source.span(node)
        if self.source.text[start:end] == text:
            return
        needed = binding_needed(self.source, node)
        if needed > LOOSE:
            if level is None:
                level = ATOM if _WORD.match(text) else binding_of(text)
                if level < 0:
                    return
            around = self.source.text[start - 1 : start] == "(" and self.source.text[end : end + 1] == ")"
            if level < needed and not around:
                text = f"({text})"
        yield Edit(start, end, text, kind, COST[kind] + extra, node.lineno)

    def splice(
        self, start: int, end: int, text: str, kind: str, extra: float = 0.0, *, line: int = 0
    ) -> Iterator[Edit]:
        """Yield the edit that replaces a stretch of text, if it changes anything."""
        if self.source.text[start:end] != text:
            yield Edit(start, end, text, kind, COST[kind] + extra, line or getattr(self.node, "lineno", 1))

    def between(
        self, sides: tuple[ast.expr, ast.expr], old: str, new: str, kind: str, extra: float = 0.0
    ) -> Iterator[Edit]:
        """Yield the edit that exchanges the operator `old` between two operands."""
        left, right = sides
        start, end = self.source.span(left)[1], self.source.span(right)[0]
        found = [match.start() for match in _operator_pattern(old).finditer(self.source.text, start, end)]
        if len(found) == 1:
            at = found[0]
            line = left.end_lineno or left.lineno
            yield Edit(at, at + len(old), new, kind, COST[kind] + extra, line)

    def insert(self, at: int, text: str, kind: str, extra: float = 0.0) -> Iterator[Edit]:
        """Yield the edit that puts whole lines in, with the line ends of the file."""
        yield from self.splice(at, at, text.replace("\n", self.source.newline), kind, extra)

    def called(self) -> str:
        """Return the last name of what the call calls, "" where it has none."""
        if not isinstance(self.node, ast.Call):
            return ""
        function = self.node.func
        return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")

    def _bound_around(self) -> set[str]:
        bound: set[str] = set()
        current: ast.AST | None = self.node
        while current is not None and not isinstance(current, ast.stmt):
            if isinstance(current, ast.Lambda):
                bound.update(argument.arg for argument in ast.walk(current.args) if isinstance(argument, ast.arg))
            for clause in getattr(current, "generators", ()):
                bound.update(name.id for name in ast.walk(clause.target) if isinstance(name, ast.Name))
            current = self.source.parents.get(current)
        return bound


_LOAD = ast.Load()
Operator: TypeAlias = Callable[[Site], Iterator[Edit]]
REGISTRY: dict[type[ast.AST], list[tuple[float, Operator]]] = {}


def operator(*nodes: type[ast.AST], kinds: tuple[str, ...], extra: float = 0.0) -> Callable[[Operator], Operator]:
    """Register a function as an operator for such nodes.

    Its edits are of these `kinds` and cost no less than they do, and `extra`.
    """
    least = min(COST[kind] for kind in kinds) + extra

    def register(function: Operator) -> Operator:
        for node in nodes:
            REGISTRY.setdefault(node, []).append((least, function))
        return function

    return register


def binding(node: ast.expr) -> int:
    """Return how tightly an expression holds together (see `LOOSE` to `ATOM`)."""
    kind = node.op if isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp)) else node
    return _BINDING.get(type(kind), ATOM)


def binding_needed(source: SourceFile, node: ast.AST) -> int:
    """Return how tightly an expression must hold together to stand in the place of `node` without parentheses."""
    parent, field = source.parents.get(node), source.fields.get(node, "")
    if isinstance(parent, (ast.BinOp, ast.BoolOp, ast.UnaryOp)):
        own = _BINDING.get(type(parent.op), ATOM)
        left = isinstance(parent, ast.BinOp) and field == "left"
        is_power = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow)
        return own if isinstance(parent, ast.UnaryOp) or left != is_power else own + 1
    if isinstance(parent, ast.Compare):
        return COMPARED + 1
    if isinstance(parent, (ast.Attribute, ast.Subscript, ast.Call)):
        return ATOM if field in ("value", "func") else 1
    if isinstance(parent, ast.IfExp):
        return OR if field != "orelse" else CHOICE
    if isinstance(parent, ast.comprehension):
        return OR
    return ATOM if isinstance(parent, (ast.Await, ast.Starred, ast.FormattedValue)) else LOOSE


@functools.lru_cache(maxsize=65536)
def binding_of(text: str) -> int:
    """Return how tightly the expression `text` holds together; -1 for what is none."""
    try:
        node = ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError):
        return -1
    is_bracketed = isinstance(node, ast.Tuple) and text.startswith("(") and text.endswith(")")
    return ATOM if is_bracketed else binding(node)


@functools.cache
def _operator_pattern(symbol: str) -> re.Pattern[str]:
    """Return what finds an operator and no longer one that contains it."""
    if symbol[0].isalpha():
        return re.compile(rf"\b{symbol}\b")
    return re.compile(rf"(?<![<>=!*/+-]){re.escape(symbol)}(?![<>=*/])")
