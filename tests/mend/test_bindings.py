"""What an edit leaves without any use, and what it uses out of its place."""

from __future__ import annotations

import ast

import pytest

from lathe.mend.bindings import ORPHAN_COST, STRAY_COST, Bindings
from lathe.mend.operators.registry import Edit
from lathe.mend.source import SourceFile

TEXT = """\
def count(items, limit, _spare):
    total = 0
    for item in items:
        total += item.size
        last = item.name
    print(last)
    return [limit for limit in items if limit > total]


def nested(goal):
    def walk(node):
        return any(walk(one) for one in node.next)

    return walk(goal)
"""


def _cost(function: str, old: str, new: str, *, nth: int = 0) -> float:
    source = SourceFile("m.py", TEXT)
    found = next(node for node in ast.walk(source.tree) if getattr(node, "name", "") == function)
    assert isinstance(found, ast.FunctionDef)
    start = -1
    for _ in range(nth + 1):
        start = TEXT.index(old, start + 1)
    return Bindings(source, found).cost(Edit(start, start + len(old), new, "kind", 1.0, 1))


@pytest.mark.parametrize(
    ("function", "old", "new", "cost"),
    [
        ("count", "items:", "range(3):", 0.0),  # `items` is read again further down
        ("count", "item.size", "1", 0.0),
        ("count", "    print(last)\n", "", ORPHAN_COST),  # then nothing reads `last`
        ("count", "print(last)", "print(item)", ORPHAN_COST),
        ("count", "print(last)", "print(last, item)", STRAY_COST),  # the loop is over
        ("count", "        last = item.name\n", "        last = item.kind\n", 0.0),
        ("walk", "walk(one)", "walk(node)", ORPHAN_COST),
        ("walk", "walk(one)", "one", 0.0),
    ],
)
def test_what_is_at_odds_with_the_names_of_a_function_costs_more(
    function: str, old: str, new: str, cost: float
) -> None:
    assert _cost(function, old, new) == cost


def test_a_line_put_in_at_the_end_of_a_loop_is_inside() -> None:
    source = SourceFile("m.py", TEXT)
    function = source.tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    bindings = Bindings(source, function)
    end = TEXT.index("    print(last)")
    inside = Edit(end, end, "        print(item)\n", "kind", 1.0, 1)
    behind = Edit(end, end, "    print(item)\n", "kind", 1.0, 1)
    assert (bindings.cost(inside), bindings.cost(behind)) == (0.0, STRAY_COST)
