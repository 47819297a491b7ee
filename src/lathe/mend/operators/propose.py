"""The edits of a file, statement by statement, the likeliest first."""

from __future__ import annotations

import ast
import functools
import heapq
import math
from collections.abc import Callable, Iterator

from lathe.mend.operators import (
    arithmetic,
    asked,
    borrowing,
    branches,
    built,
    calls,
    conditions,
    constants,
    definitions,
    errors,
    insertions,
    interfaces,
    names,
    offsets,
    results,
    sequences,
    statements,
    texts,
    unread,
    wrapping,
)
from lathe.mend.operators.filewords import FileWords
from lathe.mend.operators.registry import REGISTRY, Edit, Operator, Site
from lathe.mend.operators.repeated import Occurrences
from lathe.mend.operators.vocabulary import Scope, Vocabulary
from lathe.mend.source import SourceFile

OPERATOR_MODULES = (
    arithmetic, asked, borrowing, branches, built, calls, conditions, constants, definitions, errors, insertions,
    interfaces, names, offsets, results, sequences, statements, texts, unread, wrapping,
)  # fmt: skip
_SKIPPED_FIELDS = frozenset(("annotation", "returns", "decorator_list", "type_comment", "ctx", "op", "ops"))


class Proposer:
    """Proposes edits for one file. What it reads of the file, it reads once, and only when a statement is asked for."""

    def __init__(self, source: SourceFile, vocabulary: Vocabulary) -> None:
        self._source = source
        self._vocabulary = vocabulary
        self._scopes: dict[ast.AST, Scope] = {}
        self._repeated: dict[Scope, Occurrences] = {}

    @functools.cached_property
    def _words(self) -> FileWords:
        return FileWords(self._source)

    def edits(self, statement: ast.stmt) -> Iterator[Edit]:
        """Yield the edits of `statement` itself, not of statements inside it, the likeliest first, each text once.

        An operator runs only when its cheapest kind of edit is due, so that a statement that is hardly suspicious
        costs nothing beyond what is drawn from it.
        """
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return
        scope = self._scope(statement)
        occurrences = self._occurrences(scope)
        due: list[tuple[float, int, Operator | None, Site | None]] = sorted(
            (
                (least, index, function, site)
                for index, site in enumerate(
                    Site(self._source, node, scope, self._words, self._vocabulary) for node in self._own(statement)
                )
                for least, function in REGISTRY[type(site.node)]
            ),
            key=lambda entry: entry[:2],
        )
        seen: set[tuple[int, int, str]] = set()
        ready: list[tuple[float, int, Edit]] = []
        drawn = 0
        for least, _, function, site in [*due, (math.inf, 0, None, None)]:
            while ready and ready[0][0] <= least:
                edit = heapq.heappop(ready)[2]
                if edit[:3] in seen:
                    continue
                seen.add(edit[:3])
                yield edit
                for more in occurrences.everywhere(edit, statement):
                    heapq.heappush(ready, (more.cost, drawn, more))
                    drawn += 1
            if function is not None and site is not None:
                for edit in function(site):
                    heapq.heappush(ready, (edit.cost, drawn, edit))
                    drawn += 1

    def _scope(self, statement: ast.stmt) -> Scope:
        owner = self._source.outermost_function(statement) or self._source.tree
        if owner not in self._scopes:
            self._scopes[owner] = Scope(self._source, owner)
        return self._scopes[owner]

    def _occurrences(self, scope: Scope) -> Occurrences:
        if scope not in self._repeated:
            self._repeated[scope] = Occurrences(self._source, scope)
        return self._repeated[scope]

    def _own(self, statement: ast.stmt) -> Iterator[ast.AST]:
        """Yield the nodes of a statement that operators look at, without those of statements inside it."""
        todo: list[ast.AST] = [statement]
        while todo:
            node = todo.pop()
            if type(node) in REGISTRY:
                yield node
            children: list[ast.AST] = []
            for name, value in ast.iter_fields(node):
                if name not in _SKIPPED_FIELDS:
                    inner = value if isinstance(value, list) else (value,)
                    children += [
                        child for child in inner if isinstance(child, ast.AST) and not isinstance(child, ast.stmt)
                    ]
            if isinstance(node, ast.JoinedStr):
                children = [child for child in children if self._is_where_it_says(child)]
            todo += reversed(children)

    def _is_where_it_says(self, node: ast.AST) -> bool:
        """Return whether a piece of an f-string can be edited: before Python 3.12 the tree has its place wrong."""
        if not isinstance(node, ast.FormattedValue):
            return False
        try:
            there = ast.parse(f"({self._source.segment(node.value)})", mode="eval").body
        except (SyntaxError, IndexError, ValueError):
            return False
        return ast.dump(there) == ast.dump(node.value)


def propose(source: SourceFile, vocabulary: Vocabulary, wanted: Callable[[ast.stmt], bool]) -> Iterator[Edit]:
    """Yield the edits of all statements for which `wanted` says yes, the likeliest first."""
    proposer = Proposer(source, vocabulary)
    chosen = [node for node in ast.walk(source.tree) if isinstance(node, ast.stmt) and wanted(node)]
    yield from heapq.merge(*(proposer.edits(node) for node in chosen), key=lambda edit: edit.cost)
