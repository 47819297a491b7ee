"""The seeder of the benchmark on libraries: what its faults look like, and what the judge holds for the same."""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import faults  # noqa: E402  (the path above is where they are)
import judging  # noqa: E402
import libraries  # noqa: E402
import replay  # noqa: E402
import seeding  # noqa: E402
from program import Program  # noqa: E402

SAMPLE = '''
def helper(items, limit=10, *, strict=False):
    """Text for people: 1 < 2."""
    if limit is None:
        return []
    found = []
    total = 0
    for at, item in enumerate(items):
        if not item:
            continue
        if item.size > limit and not strict:
            raise ValueError("too large")
        elif item.size == 0:
            break
        total += item.size
        found.append(str(item.name).strip())
        seen = at
    print(total, seen, sep=" ")
    mark = -total
    if mark or found:
        found = sorted(found)
    rest = helper(found, limit, strict=strict)
    return rest[1:], {"a": total, "b": found}, [total, mark, 7]


def method(one, other):
    try:
        return other.get(one, None) if one else max(one, other)
    except KeyError:
        return True
'''


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(SAMPLE)


def made(program: Program, kind: str) -> list[str]:
    """Return the sample with each fault of a kind."""
    found = []
    for function in program.functions():
        for fault in seeding.faults_of(program, function, kind):
            found.append(program.with_text(fault.start, fault.end, fault.text))
    return found


@pytest.mark.parametrize("kind", faults.KINDS)
def test_every_kind_makes_faults_that_are_python_and_change_the_program(program: Program, kind: str) -> None:
    texts = made(program, kind)
    assert texts
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert ast.dump(ast.parse(text)) != ast.dump(program.tree)


@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_fault_stays_inside_one_function(program: Program, kind: str) -> None:
    for text in made(program, kind):
        assert len([name for name in judging.differing(SAMPLE, text) if name]) == 1


def test_docstrings_and_annotations_are_no_places_for_faults() -> None:
    program = Program('def f(x: "int" = 3) -> "str":\n    """One."""\n    return f"{x} {1}"\n')
    (function,) = program.functions()
    assert not seeding.faults_of(program, function, "wrong string")
    assert [fault.text for fault in seeding.faults_of(program, function, "wrong number")] == ["4", "2"]


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("missing part of an and", "if (a or b) and c: pass", "if (a or b): pass"),
        ("missing part of an and", "if a and (b or c) and d: pass", "if a and (b or c): pass"),
        ("wrong operator", "x = a * (b + c)", "x = a ** (b + c)"),
        ("missing call around", "x = -abs(a + b)", "x = -(a + b)"),
        ("wrong operand", "x = a.b - c\n    y = c", "x = c - c\n    y = c"),
        ("missing statement", "a += 1\n    return a", "return a"),
        ("missing guard", "if a:\n        return b\n    return a", "return a"),
        ("misplaced statement", "b = 1\n    c = 2", "c = 2\n    b = 1"),
        ("misplaced statement", "for x in a:\n        b = x\n        c = b", "for x in a:\n        b = x\n    c = b"),
        ("misplaced statement", "for x in a:\n        b = x\n    c = b", "for x in a:\n        b = x\n        c = b"),
        ("missing branch", "if a:\n        x = 1\n    elif b:\n        x = 2", "if a:\n        x = 1"),
        ("swapped arguments", "divmod(a, b, k=1)", "divmod(b, a, k=1)"),
        ("wrong slice", "return a[1:b]", "return a[1:b - 1]"),
        ("assignment for update", "a += b", "a = b"),
        ("negated", "while not a: pass", "while a: pass"),
        ("wrong exception", "raise KeyError(a)", "raise IndexError(a)"),
        ("wrong keyword", "f(a, b=a)", "f(a, c=a)"),
    ],
)
def test_faults_look_as_people_make_them(kind: str, before: str, after: str) -> None:
    start = "def f(a, b, c):\n    "
    program = Program(start + before + "\n")
    texts = [program.with_text(fault.start, fault.end, fault.text) for fault in faults_in(program, kind)]
    assert start + after + "\n" in texts


def faults_in(program: Program, kind: str) -> list[seeding.Fault]:
    return [fault for function in program.functions() for fault in seeding.faults_of(program, function, kind)]


def test_a_fault_keeps_the_rest_of_a_line_of_other_alphabets() -> None:
    program = Program('def f(a, b):\n    return "é→" + a[1:], b  # ünder\n')
    (fault, *_) = faults_in(program, "wrong slice")
    assert program.with_text(fault.start, fault.end, fault.text) == (
        'def f(a, b):\n    return "é→" + a[:], b  # ünder\n'
    )


def test_kinds_are_dealt_by_weight_and_alike_for_one_seed() -> None:
    kinds = seeding.dealt(1)
    assert len(kinds) == seeding.TOTAL >= 60
    assert len(set(kinds)) >= 12
    assert kinds == seeding.dealt(1) != seeding.dealt(2)
    assert kinds.count("wrong variable") > kinds.count("wrong attribute") > kinds.count("wrong return")


def test_the_seeder_shares_no_code_with_the_engine() -> None:
    for name in ("program.py", "faults.py", "seeding.py", "libraries.py"):
        for node in ast.walk(ast.parse((BENCHMARKS / name).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [each for each in names if each.partition(".")[0] == "lathe"]


def test_every_library_is_pinned_by_a_hash() -> None:
    assert len(libraries.LIBRARIES) >= 6
    for library in libraries.LIBRARIES:
        assert len(library.sha256) == 64
        assert library.tree.is_relative_to(libraries.ROOT / ".bench")


# --- the judge


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("if not a == b: c()", "if a != b: c()"),
        ("x = a > b", "x = b < a"),
        ("x = a[0:n]", "x = a[:n]"),
        ("for x in range(0, n): pass", "for x in range(n): pass"),
        ("if not a: b()\nelse: c()", "if a: c()\nelse: b()"),
        ("if a:\n  if b: c()", "if a and b: c()"),
        ("def f():\n  if a: return 1\n  else: return 2", "def f():\n  if a: return 1\n  return 2"),
        ("def f():\n  a()\n  return", "def f():\n  a()"),
        ("x = -1", "x = (-1)  # so"),
    ],
)
def test_ways_of_writing_the_same_are_the_same_to_the_judge(one: str, other: str) -> None:
    assert judging.canonical(one) == judging.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = a < b", "x = b < a"),
        ("x = a is None", "x = not a"),
        ("x = a[1:]", "x = a[:1]"),
        ("x = a - b", "x = b - a"),
    ],
)
def test_what_differs_differs_to_the_judge(one: str, other: str) -> None:
    assert judging.canonical(one) != judging.canonical(other)


def test_the_judge_names_the_functions_that_differ() -> None:
    one = "class A:\n    def f(self): return 1\ndef g(a=1): return a\n"
    assert judging.differing(one, one.replace("return 1", "return 2")) == ["A.f"]
    assert "" in judging.differing(one, one.replace("a=1", "a=2"))
    assert judging.differing(one, one.replace("return a", "return (a)")) == []


def replayed(text: str, calls: list[dict[str, object]]) -> list[tuple[str, str, str]]:
    import pickle

    space: dict[str, object] = {}
    exec(compile(textwrap.dedent(text), "replayed", "exec"), space)
    function = space["f"]
    assert callable(function)
    return list(replay._replayed(function, [pickle.dumps(each) for each in calls]))  # type: ignore[arg-type]


def test_replayed_calls_tell_two_functions_apart_that_the_noted_calls_do_not() -> None:
    calls: list[dict[str, object]] = [{"a": [1, 2, 3], "n": 2}, {"a": [4], "n": 1}]
    one = replayed("def f(a, n): return a[:n] if n >= 0 else []", calls)
    other = replayed("def f(a, n): return a[:n]", calls)
    assert [each for each in one if each[0] == "observed"] == [each for each in other if each[0] == "observed"]
    assert [each[1] for each in one] == [each[1] for each in other]
    assert one != other


def test_replayed_calls_see_iterators_and_what_is_left_in_the_arguments() -> None:
    calls: list[dict[str, object]] = [{"a": [3, 1, 2]}]
    assert replayed("def f(a): return iter(a)", calls) != replayed("def f(a): return iter(a[::-1])", calls)
    assert replayed("def f(a): a.sort()", calls) != replayed("def f(a): return None", calls)
