"""A statement among its neighbours: what is needed to move, put in and take out whole lines."""

from __future__ import annotations

import ast

from lathe.mend.source import SourceFile


class Place:
    """Where a statement stands: its block, its index in it, its lines, its indentation."""

    def __init__(self, source: SourceFile, node: ast.stmt, body: list[ast.stmt]) -> None:
        self.node = node
        self.body = body
        self.index = body.index(node)
        self.start, self.end = source.block(node)
        self.indent = source.text[self.start : self.start + node.col_offset]
        self.step = source.step
        self.raw = source.text[self.start : self.end]
        self.is_cut_off = not self.raw.endswith(("\n", "\r"))  # the last line of a file that has no last line break
        if self.is_cut_off:
            self.raw += source.newline

    @classmethod
    def of(cls, source: SourceFile, node: ast.stmt, parent: ast.AST | None, field: str) -> Place | None:
        """Return the place of a statement; None outside functions, for docstrings, and on a line that is shared."""
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        body = getattr(parent, field, None)
        if docstring or not isinstance(body, list) or isinstance(parent, ast.ClassDef):
            return None
        if source.function(parent or node) is None or not source.owns_its_lines(node):
            return None
        return cls(source, node, body)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows in the block."""
        return self.index == len(self.body) - 1

    @property
    def before(self) -> ast.stmt | None:
        """The statement before, None for the first."""
        return self.body[self.index - 1] if self.index else None

    @property
    def after(self) -> ast.stmt | None:
        """The statement after, None for the last."""
        return None if self.is_last else self.body[self.index + 1]

    def moved(self, to: ast.stmt | None = None, *, deeper: bool = False) -> str:
        """Return the lines as they stand beside `to`, or a level deeper."""
        if deeper:
            return indented(self.raw, self.step)
        assert to is not None
        return shifted(self.raw, to.col_offset - self.node.col_offset, self.step)


def indented(text: str, step: str) -> str:
    """Return `text` with every line that is not blank one `step` deeper."""
    return "".join(step + line if line.strip() else line for line in text.splitlines(keepends=True))


def shifted(text: str, by: int, step: str) -> str:
    """Return `text` with every line that is not blank moved `by` columns to the right."""
    pad = ("\t" if step.startswith("\t") else " ") * max(0, by)
    return "".join(
        line if not line.strip() else pad + line if by > 0 else line[-by:] if not line[:-by].strip() else line.lstrip()
        for line in text.splitlines(keepends=True)
    )
