"""One mistake made at every place: an expression that stands several times, replaced everywhere at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lathe.mend.operators.registry import Edit, binding_needed, binding_of
from lathe.mend.operators.vocabulary import Scope
from lathe.mend.source import SourceFile

# Kinds of edits of a whole expression that people get wrong alike wherever they write it (copied code, a wrong belief).
_KINDS = frozenset((
    "wrong variable", "wrong name", "unknown name", "number", "off by one", "missing self", "missing index",
    "missing attribute", "surplus attribute", "swapped indices", "other expression", "flag", "missing operand",
    "missing call", "surplus index", "wrong function", "missing method", "lookup",
))  # fmt: skip
_CERTAIN = frozenset(("unknown name", "missing self"))
_MOST = 6
_IN_STATEMENT, _IN_FUNCTION = 0.7, 1.0


class Occurrences:
    """Where each expression stands that occurs more than once in a function."""

    def __init__(self, source: SourceFile, scope: Scope) -> None:
        self._source = source
        spans: dict[str, dict[tuple[int, int], int]] = {}
        if not isinstance(scope.owner, ast.Module):
            for node in ast.walk(scope.owner):
                if isinstance(node, (ast.JoinedStr, ast.FormattedValue)) or not isinstance(node, ast.expr):
                    continue
                if isinstance(getattr(node, "ctx", _LOAD), ast.Load):
                    needed = binding_needed(source, node)
                    spans.setdefault(source.segment(node), {})[source.span(node)] = needed
        self._spans = {text: dict(sorted(found.items())) for text, found in spans.items() if len(found) > 1}

    def everywhere(self, edit: Edit, statement: ast.stmt) -> Iterator[Edit]:
        """Yield the edit done at all places of its statement where the expression stands, and of its function."""
        if edit.kind not in _KINDS:
            return
        text = self._source.text[edit.start : edit.end]
        spans = self._spans.get(text, {})
        if not 2 <= len(spans) <= _MOST or (edit.start, edit.end) not in spans:
            return
        low, high = self._source.span(statement)
        inside = {span: needed for span, needed in spans.items() if low <= span[0] and span[1] <= high}
        extra = 0.1 if edit.kind in _CERTAIN else 0.0
        if len(inside) > 1:
            yield self._joined(edit, inside, extra or _IN_STATEMENT)
        if len(spans) > len(inside):
            yield self._joined(edit, spans, extra or _IN_FUNCTION)

    def _joined(self, edit: Edit, spans: dict[tuple[int, int], int], extra: float) -> Edit:
        tight = binding_of(edit.text)
        parts = []
        first = at = next(iter(spans))[0]
        for (start, end), needed in spans.items():
            is_safe = start == edit.start or tight >= needed
            parts += [self._source.text[at:start], edit.text if is_safe else f"({edit.text})"]
            at = end
        return Edit(first, at, "".join(parts), edit.kind, edit.cost + extra, edit.line)


_LOAD = ast.Load()
