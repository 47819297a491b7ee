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


def propose(source: SourceFile, vocabulary: Vocabulary, wanted: Callable[[ast.stmt], bool]) -> list[Edit]:
    """Return the edits of all statements for which `wanted` says yes, the likeliest first, each text once."""
    words = FileWords(source)
    scopes: dict[ast.AST, Scope] = {}
    best: dict[tuple[int, int, str], Edit] = {}

    def visit(node: ast.AST, accepted: bool) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return
        if isinstance(node, ast.stmt):
            accepted = wanted(node)
        if accepted and type(node) in REGISTRY:
            owner = source.outermost_function(node) or source.tree
            if owner not in scopes:
                scopes[owner] = Scope(source, owner)
            site = Site(source, node, scopes[owner], words, vocabulary)
            for operator in REGISTRY[type(node)]:
                for edit in operator(site):
                    known = best.get(edit[:3])
                    if known is None or known.cost > edit.cost:
                        best[edit[:3]] = edit
        for name, value in ast.iter_fields(node):
            if name not in _SKIPPED_FIELDS:
                for child in value if isinstance(value, list) else (value,):
                    if isinstance(child, ast.AST):
                        visit(child, accepted)

    visit(source.tree, False)
    return sorted(best.values(), key=lambda edit: edit.cost)
