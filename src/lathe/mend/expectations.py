"""What failing tests say of what they want: their messages, and the texts that stand in them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lathe.mend.operators.clues import Clues
from lathe.mend.project import TestRun
from lathe.mend.source import Function

_MOST_TESTS, _MOST_TEXTS = 40, 400
_SHORTEST, _LONGEST = 3, 200


def clues_of(folder: Path, runs: Sequence[TestRun]) -> Clues:
    """Return what the failing of `runs` say; the tests are read from `folder`, which their names begin from."""
    failing = [run for run in runs if run.is_failure]
    return Clues.of((run.error for run in failing), texts_of(folder, [run.name for run in failing]))


def texts_of(folder: Path, tests: Sequence[str]) -> list[str]:
    """Return the texts in the functions of `tests`, named as pytest does, a few hundred at most."""
    wanted: dict[str, set[str]] = {}
    for name in tests[:_MOST_TESTS]:
        path, _, inside = name.partition("::")
        wanted.setdefault(path, set()).add(inside.rpartition("::")[2].partition("[")[0])
    found: dict[str, None] = {}
    for path, functions in wanted.items():
        try:
            tree = ast.parse((folder / path).read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        found.update(dict.fromkeys(_texts(tree, functions)))
    return list(found)[:_MOST_TEXTS]


def _texts(tree: ast.Module, functions: Iterable[str]) -> Iterator[str]:
    names = set(functions)
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.name in names:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield from (line for line in inner.value.split("\n") if _SHORTEST <= len(line) <= _LONGEST)
