"""Each kind of mistake, and that its repair is among the edits proposed."""

from __future__ import annotations

import ast
import textwrap

import pytest

from lathe.mend.operators.propose import OPERATOR_MODULES, propose
from lathe.mend.operators.registry import REGISTRY
from lathe.mend.operators.vocabulary import Vocabulary
from lathe.mend.source import SourceFile

MISTAKES = {
    "boundary": ("def f(a, b):\n    return a < b", "return a <= b"),
    "chained comparison": ("def f(a, b, c):\n    return a < b < c", "return a < b <= c"),
    "identity": ("def f(a):\n    return a is None", "return a is not None"),
    "membership": ("def f(a, b):\n    return a in b", "return a not in b"),
    "comparison sides": ("def f(a, b):\n    return a < b", "return b < a"),
    "arithmetic": ("def f(a, b):\n    return a / b", "return a // b"),
    "operand order": ("def f(a, b):\n    return a - b", "return b - a"),
    "surplus operand": ("def f(a, b):\n    return a + b", "return a"),
    "missing operand": ("def f(a, b):\n    return a", "return a + b"),
    "grouping right": ("def f(a, b, c):\n    return a + b * c", "return (a + b) * c"),
    "grouping left": ("def f(a, b, c):\n    return (a + b) * c", "return a + (b * c)"),
    "accumulate wrongly": ("def f(a):\n    t = 0\n    t -= a\n    return t", "t += a"),
    "assign for accumulate": ("def f(a):\n    t = 0\n    for x in a:\n        t = x\n    return t", "t += x"),
    "accumulate for assign": ("def f(a):\n    t = 0\n    t += a\n    return t", "t = a"),
    "running maximum": ("def f(a, x):\n    best = 0\n    best = x\n    return best", "best = max(best, x)"),
    "connective": ("def f(a, b):\n    return a and b", "return a or b"),
    "surplus condition": ("def f(a, b):\n    return a and b", "return b"),
    "surplus not": ("def f(a):\n    return not a", "return a"),
    "sign": ("def f(a):\n    return -a", "return a"),
    "off by one": ("def f(a, n):\n    return a[n]", "return a[n - 1]"),
    "range bound": ("def f(n):\n    return range(n)", "return range(n + 1)"),
    "missing not": ("def f(a):\n    if a:\n        return 1\n    return 2", "if not a:"),
    "missing guard": ("def f(a):\n    if a.b:\n        return 1\n    return 2", "if a is not None and a.b:"),
    "missing guard or": ("def f(a):\n    if a.b:\n        return 1\n    return 2", "if not a or a.b:"),
    "swapped choice": ("def f(a, b, c):\n    return a if c else b", "return b if c else a"),
    "surplus filter": ("def f(a):\n    return [x for x in a if x > 1]", "return [x for x in a]"),
    "missing filter": ("def f(a):\n    return [x for x in a]", "return [x for x in a if x]"),
    "flag": ("def f(a):\n    return sorted(a, reverse=True)", "return sorted(a, reverse=False)"),
    "number": ("def f(a):\n    return a + 2", "return a + 1"),
    "default number": ("def f(a, n=0):\n    return a[n]", "def f(a, n=1):"),
    "separator": ("def f(a):\n    return a.split(';')", "return a.split(',')"),
    "wrong text": ("def f(a):\n    return a == 'Open' or a == 'shut'", "return a == 'shut' or a == 'shut'"),
    "missing f prefix": ("def f(name):\n    return 'hello {name}'", "return f'hello {name}'"),
    "missing value": ("def f(a):\n    return a.get('x', None)", "return a.get('x', [])"),
    "mutable default": ("def f(a, seen=[]):\n    seen.append(a)\n    return seen", "def f(a, seen=None):"),
    "wrong variable": ("def f(first, second):\n    return first", "return second"),
    "wrong attribute": ("class A:\n    x: int\n    y: int\n    def f(self):\n        return self.x", "return self.y"),
    "confused method": ("def f(a):\n    return a.startswith('x')", "return a.endswith('x')"),
    "confused builtin": ("def f(a):\n    return any(a)", "return all(a)"),
    "missing self": ("class A:\n    n = 1\n    def f(self):\n        return n", "return self.n"),
    "wrong global": ("LOW = 1\nHIGH = 2\ndef f():\n    return LOW", "return HIGH"),
    "wrong target": ("def f(a):\n    x = y = 0\n    x = a\n    return x + y", "y = a"),
    "argument order": ("def f(a, b):\n    return g(a, b)", "return g(b, a)"),
    "keyword values": ("def f(a, b):\n    return g(x=a, y=b)", "return g(x=b, y=a)"),
    "surplus argument": ("def f(a, b):\n    return g(a, b)", "return g(a)"),
    "missing argument": ("def g(a, b=0):\n    return a + b\ndef f(a, b):\n    return g(a)", "return g(a, b=b)"),
    "order": ("def f(a):\n    return sorted(a)", "return sorted(a, reverse=True)"),
    "sort key": ("def f(a):\n    return max(a)", "return max(a, key=len)"),
    "surplus call": ("def f(a):\n    return list(a)", "return a"),
    "missing call": ("def f(a):\n    return a", "return len(a)"),
    "missing limit": ("def f(a):\n    return a", "return max(0, a)"),
    "call of a method": ("class A:\n    def n(self): ...\ndef f(a):\n    return a.n", "return a.n()"),
    "helper not called": ("def key(a):\n    return a.lower()\ndef f(b):\n    return b", "return key(b)"),
    "missing await": ("async def g(): ...\nasync def f():\n    return g()", "return await g()"),
    "first for last": ("def f(a):\n    return a[0]", "return a[-1]"),
    "swapped indices": ("def f(a, i, j):\n    return a[i][j]", "return a[j][i]"),
    "slice bound": ("def f(a):\n    return a[1:]", "return a[2:]"),
    "slice end": ("def f(a):\n    return a[1:]", "return a[1:-1]"),
    "missing index": ("def f(a):\n    return a", "return a[0]"),
    "iteration": ("def f(a):\n    for x in a:\n        yield x", "for x in reversed(a):"),
    "missing element": ("def f(a):\n    return []", "return [a]"),
    "missing brackets": ("def f(a):\n    return a", "return [a]"),
    "delegation": ("def f(a):\n    yield a", "yield from a"),
    "wrong jump": ("def f(a):\n    for x in a:\n        break", "continue"),
    "wrong result": ("def f(a):\n    b = a + 1\n    return None", "return b"),
    "missing return": ("def f(a):\n    f(a - 1)", "return f(a - 1)"),
    "lost result": ("def f(a):\n    a.strip()\n    return a", "a = a.strip()"),
    "no last return": ("def f(a):\n    b = a + 1", "return b"),
    "wrong exception": ("def f(a):\n    try:\n        g()\n    except KeyError:\n        pass", "except IndexError:"),
    "if for elif": ("def f(a):\n    if a:\n        g()\n    if h():\n        g()", "elif h():"),
    "if for while": ("def f(a):\n    if a:\n        a -= 1\n    return a", "while a:"),
}


def _repairs(text: str) -> list[str]:
    source = SourceFile("m.py", text)
    edits = propose(source, Vocabulary([source]), lambda node: True)
    return [text[: edit.start] + edit.text + text[edit.end :] for edit in edits]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_its_repair_among_the_edits(name: str) -> None:
    text, wanted = MISTAKES[name]
    found = [
        repaired for repaired in _repairs(text + "\n") if wanted in [line.strip() for line in repaired.splitlines()]
    ]
    assert found, f"{wanted!r} is not proposed"


def _statement_repairs(text: str) -> set[str]:
    return set(_repairs(textwrap.dedent(text).lstrip("\n")))


def test_a_surplus_statement_can_go() -> None:
    assert "def f(a):\n    return a\n" in _statement_repairs("def f(a):\n    a += 1\n    return a\n")


def test_neighbours_can_change_places_with_the_comments_between_them_kept() -> None:
    before = "def f(a):\n    b = a\n    # why\n    a = 2\n    return b\n"
    assert "def f(a):\n    a = 2\n    # why\n    b = a\n    return b\n" in _statement_repairs(before)


def test_the_last_statement_of_a_loop_can_move_behind_it() -> None:
    before = "def f(a):\n    for x in a:\n        g(x)\n        return x\n"
    assert "def f(a):\n    for x in a:\n        g(x)\n    return x\n" in _statement_repairs(before)


def test_a_statement_behind_a_loop_can_move_into_it() -> None:
    before = "def f(a):\n    for x in a:\n        g(x)\n    h(x)\n"
    assert "def f(a):\n    for x in a:\n        g(x)\n        h(x)\n" in _statement_repairs(before)


def test_a_base_case_can_be_inserted() -> None:
    after = "def f(a):\n    if not a:\n        return []\n    return f(a[1:])\n"
    assert after in _statement_repairs("def f(a):\n    return f(a[1:])\n")


def test_a_step_of_a_loop_can_be_inserted() -> None:
    before = "def f(n):\n    while n < 3:\n        g(n)\n    return n\n"
    assert "def f(n):\n    while n < 3:\n        g(n)\n        n += 1\n    return n\n" in _statement_repairs(before)


def test_a_mutable_default_is_made_in_the_body() -> None:
    after = "def f(a, seen=None):\n    if seen is None:\n        seen = []\n    seen.append(a)\n"
    assert after in _statement_repairs("def f(a, seen=[]):\n    seen.append(a)\n")


def test_comments_and_odd_formatting_survive_beside_an_edit() -> None:
    text = "def f( a,b ):  # keep\n    return ( a\n             <  b )  # and this\n"
    assert "def f( a,b ):  # keep\n    return ( a\n             <=  b )  # and this\n" in _repairs(text)


def test_annotations_docstrings_and_imports_are_left_alone() -> None:
    text = 'import a\n\n\ndef f(x: "int" = 1) -> "list":\n    """Say 1."""\n    return x\n'
    for repaired in _repairs(text):
        assert repaired.startswith("import a\n")
        assert 'x: "int"' in repaired
        assert '-> "list"' in repaired
        assert '"""Say 1."""' in repaired


def test_names_beyond_ascii_do_not_shift_an_edit() -> None:
    assert "def f(größe, b):\n    return 'äöü', größe >= b\n" in _repairs(
        "def f(größe, b):\n    return 'äöü', größe > b\n"
    )


def test_nearly_every_edit_is_python() -> None:
    text = textwrap.dedent(
        """
        class Box:
            limit = 3

            def put(self, items, more=None):
                for index, item in enumerate(items):
                    if item in self.seen and not more:
                        continue
                    self.seen.append((index, item))
                return [entry[0] for entry in self.seen if entry][: self.limit]
        """
    )
    edits = _repairs(text)
    broken = []
    for repaired in edits:
        try:
            ast.parse(repaired)
        except SyntaxError:
            broken.append(repaired)
    assert len(edits) > 300
    assert len(broken) <= len(edits) // 50


def test_every_operator_says_what_it_does_and_is_registered() -> None:
    registered = {operator for operators in REGISTRY.values() for _, operator in operators}
    assert len(registered) >= 100
    assert all(operator.__doc__ for operator in registered)
    assert {operator.__module__ for operator in registered} == {module.__name__ for module in OPERATOR_MODULES}
