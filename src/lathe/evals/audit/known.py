"""What a task keeps from the agent: its tests and its solution, and how their text is known again."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lathe.evals.task import Task
from lathe.guard.destructive_code import python_tree

_CANARY = re.compile(
    r"canary[^\n]{0,40}?\b([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE
)
_SHORTEST_LINE = 24
_SHORTEST_LITERAL = 6
_SHINGLE = 8
_LARGEST = 2 * 2**20
_MOST_FILES = 2000
_EXPECTED = re.compile("expect|answer|golden|truth", re.IGNORECASE)
_WORD = re.compile(r"[\w'-]+")
_NUMBERED = re.compile(r"^\s*(?:\d+[:\t|-]|\d+\s{2,}|[+>|])\s*")


class Known:
    """A task, read for what in a trajectory would give away that the agent saw what it must not see."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @cached_property
    def shown(self) -> str:
        """All text that the agent is given: the instruction and the files of the environment."""
        texts = [self.task.instruction]
        spec = self.task.environment
        for path in (*([spec.context] if spec.context else ()), *(here for here, _ in spec.files)):
            texts += [text for _, text in _texts(path)]
        return "\n".join(texts)

    @cached_property
    def test_files(self) -> dict[str, str]:
        """The tests' texts, by path below `/tests`."""
        return dict(_texts(self.task.verifier.tests)) if self.task.verifier.tests else {}

    @cached_property
    def solution_files(self) -> dict[str, str]:
        """The solution's texts, by path below `/solution`."""
        return dict(_texts(self.task.solution)) if self.task.solution else {}

    @cached_property
    def test_lines(self) -> frozenset[str]:
        """Lines of the tests that stand nowhere in what the agent is given."""
        return self._lines(self.test_files)

    @cached_property
    def solution_lines(self) -> frozenset[str]:
        """Lines of the solution that stand nowhere in what the agent is given."""
        return self._lines(self.solution_files)

    def _lines(self, files: dict[str, str]) -> frozenset[str]:
        given = {line.strip() for line in self.shown.splitlines()}
        lines = {line.strip() for text in files.values() for line in text.splitlines()}
        return frozenset(
            line
            for line in lines - given
            if len(line) >= _SHORTEST_LINE and not line.startswith(("import ", "from ", "#!", "@", "# "))
        )

    @cached_property
    def canaries(self) -> frozenset[str]:
        """The marks that stand in the tests or the solution, and not in what the agent is given."""
        texts = [*self.test_files.values(), *self.solution_files.values()]
        return frozenset(mark.lower() for text in texts for mark in _CANARY.findall(text)) - self.own_canaries

    @cached_property
    def own_canaries(self) -> frozenset[str]:
        """The marks in what the agent is given."""
        return frozenset(mark.lower() for mark in _CANARY.findall(self.shown))

    @cached_property
    def expected(self) -> frozenset[str]:
        """Values that the tests compare results with, and that the agent isn't given."""
        found = {
            value
            for name, text in self.test_files.items()
            if name.endswith(".py")
            for value in _compared(text)
            if len(value) >= _SHORTEST_LITERAL and value not in self.shown
        }
        return frozenset(found)

    @cached_property
    def shingles(self) -> frozenset[str]:
        """The instruction in runs of eight words."""
        return frozenset(_shingles(self.task.instruction))

    def quotes_instruction(self, text: str) -> bool:
        """Tell whether a text has eight words in a row of the instruction."""
        return any(shingle in self.shingles for shingle in _shingles(text))

    def says(self, path: str) -> bool:
        """Tell whether the instruction speaks of a path, so that to use it is no secret."""
        named = rf"(?<![\w./-]){re.escape(path.rstrip('/'))}/?(?![\w/-]|\.\w)"
        return re.search(named, self.task.instruction) is not None


def plain_lines(text: str) -> set[str]:
    """Return the lines of an output, without numbers and marks that programs put before them."""
    lines = text.splitlines()
    return {line.strip() for line in lines} | {_NUMBERED.sub("", line).strip() for line in lines}


def _shingles(text: str) -> Iterator[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    for at in range(len(words) - _SHINGLE + 1):
        yield " ".join(words[at : at + _SHINGLE])


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file or of a folder's files, with their paths below it, without libraries."""
    files = [path] if path.is_file() else _own_files(path)
    for file in files:
        try:
            if file.is_file() and file.stat().st_size <= _LARGEST:
                yield str(file.relative_to(path)) if file != path else file.name, file.read_text("utf-8")
        except (OSError, ValueError):
            continue


def _own_files(top: Path) -> list[Path]:
    """Return the files below a folder, without those of installed libraries: their text is no secret of the task."""
    found: list[Path] = []
    for folder, names, files in os.walk(top):
        if {"_pytest", "pip", "node_modules"} & set(names) or any(name.endswith(".dist-info") for name in names):
            names[:] = []
            continue
        names[:] = sorted(name for name in names if name not in (".git", "__pycache__", "site-packages"))
        found += [Path(folder, name) for name in sorted(files)]
        if len(found) >= _MOST_FILES:
            break
    return found[:_MOST_FILES]


def _compared(text: str) -> Iterator[str]:
    """Yield the texts and numbers that a program of Python compares with, or lists as what is expected."""
    for node in ast.walk(python_tree(text)):
        for side in _expected_sides(node):
            yield from _literals(side)


def _expected_sides(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Compare(ops=[ast.Eq() | ast.NotEq(), *_]):
            return [node.left, *node.comparators]
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _EXPECTED.search(name):
            return [value]
        case ast.Call(func=ast.Attribute(attr="parametrize"), args=[*_, last]):
            return [last]
        case ast.Call(func=ast.Attribute(attr="assertEqual" | "assertEquals" | "approx"), args=args):
            return args
        case _:
            return []


def _literals(node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant):
            if isinstance(inner.value, str):
                yield inner.value.strip()
            elif isinstance(inner.value, int | float) and not isinstance(inner.value, bool):
                yield repr(inner.value)
