"""All edits of a file that touch given lines."""

from __future__ import annotations

import ast
from collections.abc import Callable

from lathe.mend.operators import arithmetic, calls, conditions, constants, names, sequences, statements
from lathe.mend.operators.registry import REGISTRY, Edit, Site
from lathe.mend.operators.vocabulary import FileWords, Scope, Vocabulary
from lathe.mend.source import SourceFile

OPERATOR_MODULES = (arithmetic, conditions, constants, names, calls, sequences, statements)
_SKIPPED_FIELDS = ("annotation", "returns", "decorator_list", "type_comment")


class Proposer:
    """The edits of one file, a statement at a time: where the search is likely to end soon, most are never made."""

    def __init__(self, source: SourceFile, vocabulary: Vocabulary) -> None:
        self._source = source
        self._vocabulary = vocabulary
        self._words = FileWords(source)
        self._scopes: dict[ast.AST, Scope] = {}

    def edits(self, statement: ast.stmt) -> list[Edit]:
        """Return the edits of `statement` itself, not of those inside it; each text once, the likeliest first."""
        best: dict[tuple[int, int, str], Edit] = {}
        self._visit(statement, best)
        return sorted(best.values(), key=lambda edit: edit.cost)

    def _visit(self, node: ast.AST, best: dict[tuple[int, int, str], Edit]) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return
        if type(node) in REGISTRY:
            for operator in REGISTRY[type(node)]:
                for edit in operator(self._site(node)):
                    known = best.get(edit[:3])
                    if known is None or known.cost > edit.cost:
                        best[edit[:3]] = edit
        for name, value in ast.iter_fields(node):
            if name not in _SKIPPED_FIELDS:
                for child in value if isinstance(value, list) else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, ast.stmt):
                        self._visit(child, best)

    def _site(self, node: ast.AST) -> Site:
        owner = self._source.outermost_function(node) or self._source.tree
        if owner not in self._scopes:
            self._scopes[owner] = Scope(self._source, owner)
        return Site(self._source, node, self._scopes[owner], self._words, self._vocabulary)


def propose(source: SourceFile, vocabulary: Vocabulary, wanted: Callable[[ast.stmt], bool]) -> list[Edit]:
    """Return the edits of all statements for which `wanted` says yes, the likeliest first, each text once."""
    proposer = Proposer(source, vocabulary)
    best: dict[tuple[int, int, str], Edit] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.stmt) and wanted(node):
            for edit in proposer.edits(node):
                known = best.get(edit[:3])
                if known is None or known.cost > edit.cost:
                    best[edit[:3]] = edit
    return sorted(best.values(), key=lambda edit: edit.cost)
