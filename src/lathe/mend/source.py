"""A source file: its text, its tree, and the way from one to the other."""

from __future__ import annotations

import ast
import bisect
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Unit = tuple[int, int, int, int, str]  # start, end, line and first decorator's line of a function; headers around it


class SourceFile:
    """One Python file of the project; offsets count characters of `text`. `path` is relative to the project's top."""

    def __init__(self, path: str, text: str, encoding: str = "utf-8") -> None:
        """Raise `SyntaxError` for what does not parse."""
        self.path = path
        self.text = text
        self.encoding = encoding
        self.tree = ast.parse(text)
        self.lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
        self._outer: list[ast.FunctionDef | ast.AsyncFunctionDef] | None = None
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))
        self._spans: dict[ast.AST, tuple[int, int]] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.fields: dict[ast.AST, str] = {}
        for node in ast.walk(self.tree):
            for name, value in ast.iter_fields(node):
                for child in value if isinstance(value, list) else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, (ast.expr_context, ast.operator)):
                        self.parents[child] = node
                        self.fields[child] = name

    @classmethod
    def read(cls, root: Path, path: str) -> SourceFile:
        """Return the file at `root/path`; raise `SyntaxError`, `UnicodeDecodeError` or `OSError`."""
        data = (root / path).read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return cls(path, data.decode(encoding), encoding)

    @functools.cached_property
    def newline(self) -> str:
        """The line end of the file: that of its first line."""
        return re.findall(r"\r\n|\n|\r|\Z", self.text)[0] or "\n"

    @functools.cached_property
    def step(self) -> str:
        """What one level of indentation is written as: that of the first block, four spaces where there is none."""
        found = next((node.body[0] for node in self.tree.body if isinstance(node, Definition)), None)
        if found is None:
            return "    "
        line = self.lines[found.lineno - 1]
        return line[: len(line) - len(line.lstrip())] or "    "

    @property
    def is_utf8(self) -> bool:
        """Whether the file is in the encoding that patches are in."""
        return self.encoding in ("utf-8", "utf-8-sig")

    def write(self, root: Path, text: str) -> None:
        """Put `text` in the file's place, in the file's encoding."""
        (root / self.path).write_bytes(text.encode(self.encoding))

    def offset(self, line: int, column: int) -> int:
        """Return the offset of `column` (bytes of UTF-8, as the tree counts) in `line` (from 1)."""
        text = self.lines[line - 1]
        if not text.isascii():
            column = len(text.encode("utf-8")[:column].decode("utf-8"))
        return self._starts[line - 1] + column

    def line_start(self, line: int) -> int:
        """Return the offset of the first character of `line`; the end of the text for the line after the last."""
        return self._starts[min(line - 1, len(self.lines))]

    def span(self, node: ast.expr | ast.stmt | ast.keyword | ast.arg | ast.ExceptHandler) -> tuple[int, int]:
        """Return where `node` begins and ends."""
        known = self._spans.get(node)
        if known is None:
            end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
            known = self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)
            self._spans[node] = known
        return known

    def segment(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of `node` as it is written."""
        start, end = self.span(node)
        return self.text[start:end]

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """Return the innermost statement around `node`, itself included."""
        current: ast.AST | None = node
        while current is not None and not isinstance(current, ast.stmt):
            current = self.parents.get(current)
        return current

    def function(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return the innermost function whose body or header `node` is in."""
        current: ast.AST | None = node
        while current is not None and not isinstance(current, Function):
            current = self.parents.get(current)
        return current

    def outermost_function(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return the outermost function around `node`: what a local name can belong to."""
        found = None
        current: ast.AST | None = node
        while current is not None:
            if isinstance(current, Function):
                found = current
            current = self.parents.get(current)
        return found

    def first_line(self, node: ast.stmt) -> int:
        """Return the line where `node` begins, its decorators included."""
        decorators = node.decorator_list if isinstance(node, Definition) else []
        return min([node.lineno, *(decorator.lineno for decorator in decorators)])

    def block(self, node: ast.stmt) -> tuple[int, int]:
        """Return the offsets of the whole lines of `node`, the last line break included."""
        return self.line_start(self.first_line(node)), self.line_start((node.end_lineno or node.lineno) + 1)

    def owns_its_lines(self, node: ast.stmt) -> bool:
        """Return whether nothing else stands on the lines of `node` (a `;` or a one-line `if`)."""
        start, end = self.span(node)
        before, after = self.text[self.line_start(node.lineno) : start], self.text[end : self.block(node)[1]]
        rest = after.strip()
        return not before.strip() and (not rest or rest.startswith("#"))

    def owns_line_start(self, node: ast.stmt) -> bool:
        """Return whether nothing stands before `node` on its first line."""
        return not self.text[self.line_start(node.lineno) : self.span(node)[0]].strip()

    def unit(self, start: int, end: int) -> Unit | None:
        """Return the outermost function, without its decorators, that holds the span; None if none does.

        Together with the headers it can be compiled without the rest of the file, and is named and mangled alike.
        """
        if self._outer is None:
            self._outer = sorted(self._functions(), key=lambda one: one.lineno)
        at = bisect.bisect_right(self._outer, start, key=lambda one: self.line_start(one.lineno)) - 1
        node = self._outer[at] if at >= 0 else None
        if node is None or end > self.block(node)[1] or not self._is_alone(node):
            return None
        headers = ""
        current = self.parents.get(node)
        while current is not None and not isinstance(current, ast.Module):
            if isinstance(current, ast.stmt):
                margin = self.lines[current.lineno - 1]
                margin = margin[: len(margin) - len(margin.lstrip())]
                word = f"class {current.name}:" if isinstance(current, ast.ClassDef) else "if True:"
                headers = f"{margin}{word}\n{headers}"
            current = self.parents.get(current)
        return self.line_start(node.lineno), self.block(node)[1], node.lineno, self.first_line(node), headers

    def _functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Yield the functions that are in no other function."""
        todo: list[ast.AST] = [self.tree]
        while todo:
            node = todo.pop()
            if isinstance(node, Function):
                yield node
            elif isinstance(node, (ast.stmt, ast.Module, ast.ExceptHandler)):
                todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]

    def _is_alone(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Return whether the lines of `node` hold nothing else, neither before it nor after."""
        before = self.text[self.line_start(node.lineno) : self.span(node)[0]]
        return not before.strip() and self.owns_its_lines(node)

    def header_lines(self, node: ast.stmt) -> range:
        """Return the lines that belong to `node` itself and not to statements inside it."""
        first, last = self.first_line(node), node.end_lineno or node.lineno
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            last = max(node.lineno, self.first_line(body[0]) - 1)
        return range(first, last + 1)
