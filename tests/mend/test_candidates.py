"""What candidates there are, in which order, and which of them only take something away."""

from __future__ import annotations

import ast

import pytest

from lathe.mend.candidates import Candidate, Candidates
from lathe.mend.localise import Spectrum
from lathe.mend.operators.registry import Edit
from lathe.mend.project import Plan
from lathe.mend.project import TestRun as Run
from lathe.mend.source import SourceFile

CODE = "def f(a, b):\n    if a:\n        raise ValueError(a)\n    c = g(a)\n    return c.x + b\n"


def _candidate(old: str, new: str, kind: str = "test") -> Candidate:
    source = SourceFile("m.py", CODE)
    start = CODE.index(old)
    edit = Edit(start, start + len(old), new, kind, 2.0, CODE[:start].count("\n") + 1)
    return Candidate(((source, edit),), 2.0, Plan([0], []))


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("raise ValueError(a)", "pass", "exception form"),
        ("    c = g(a)\n", "", "surplus statement"),
        ("return c.x + b", "return True", "wrong result"),
        ("g(a)", "None", "wrong result"),
        ("    c = g(a)\n", "    try:\n        c = g(a)\n    except KeyError:\n        pass\n", "missing handler"),
    ],
)
def test_what_only_takes_something_away_is_blunt(old: str, new: str, kind: str) -> None:
    assert _candidate(old, new, kind).is_blunt


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("c.x + b", "c.x - b", "arithmetic"),
        ("c.x + b", "c.x", "surplus operand"),
        (", b", "", "surplus argument"),
        ("if a:", "if not a:", "negation"),
        ("raise ValueError(a)", "return a", "exception form"),
    ],
)
def test_what_says_something_else_is_not_blunt(old: str, new: str, kind: str) -> None:
    assert not _candidate(old, new, kind).is_blunt


def test_leaving_early_with_nothing_is_blunt_and_with_an_answer_is_not() -> None:
    source = SourceFile("m.py", CODE)
    at = CODE.index("    c = g(a)")
    for text, blunt in (
        ("    if b:\n        return None\n", True),
        ("    if not a:\n        continue\n", True),
        ("    return\n", True),
        ("    if b:\n        return b.x\n", False),
        ("    a = b\n", False),
    ):
        one = Candidate(((source, Edit(at, at, text, "missing guard", 2.0, 4)),), 2.0, Plan([0], []))
        assert one.is_blunt is blunt, text


ERRING = "def f(a):\n    b = a.x\n    c = b.y\n    if not c:\n        raise ValueError(c)\n    return c\n"


def _spectrum(lines: list[int], end: int) -> tuple[Spectrum, list[Run]]:
    """Return what is known of a test that ran `lines` and came to an error in line `end`, and of one that passed."""
    runs = [
        Run("test_m.py::test_a", "failed", 0.01, {"m.py": lines}, "X: no", [("test_m.py", 3), ("m.py", end)]),
        Run("test_m.py::test_b", "passed", 0.01, {"m.py": [1, 2, 3, 4, 6]}),
    ]
    return Spectrum(runs, ["m.py"]), runs


def test_the_line_at_which_tests_came_to_an_error_comes_first() -> None:
    source = SourceFile("m.py", ERRING)
    spectrum, runs = _spectrum([1, 2, 3], 3)
    first = next(iter(Candidates([source], runs, spectrum, 0.1)))
    assert first.changes[0][1].line == 3


def test_a_line_that_raises_by_its_own_words_is_no_crash() -> None:
    source = SourceFile("m.py", ERRING)
    spectrum, _ = _spectrum([1, 2, 3, 4, 5], 5)
    raising = next(node for node in ast.walk(source.tree) if isinstance(node, ast.Raise))
    assert spectrum.crashes == {("m.py", 5)}
    assert not spectrum.is_crash(source, raising)
