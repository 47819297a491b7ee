"""Renaming and moving: every place that means the symbol, no other, and nothing that breaks a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from seeded import MakeProject, fingerprint, suite

from lathe.mend.chores.move import Order as MoveOrder
from lathe.mend.chores.move import move
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.rename import Order, rename
from lathe.protocol.errors import UsageError
from lathe.tools.patch_apply import apply_patch

SHOP = {
    "src/shop/__init__.py": """
        from .stock import Stock, count as count_all
        from shop.stock import total

        __all__ = ["Stock", "total"]
        """,
    "src/shop/stock.py": '''
        from __future__ import annotations

        import math


        def total(items, rate=1):
            """The total of items."""
            return math.floor(sum(items) * rate)  # total


        class Base:
            def weight(self):
                return 1


        class Stock(Base):
            def __init__(self, n):
                self.n = n

            def weight(self):
                return self.n

            def show(self):
                weight = 5
                return total([self.weight()], rate=2) + 0 * weight


        def count(stock: "Stock"):
            return f"{stock.weight()} {total([1])}"
        ''',
    "src/shop/price.py": """
        def price(x):
            from shop.stock import total

            total_price = total(items=[x], rate=3)
            return total_price


        class Parcel:
            total = 3

            def weight(self):
                return self.total
        """,
    "tests/test_shop.py": """
        import pytest

        import shop
        import shop.stock as st
        from shop import *
        from shop.price import Parcel, price


        @pytest.fixture
        def box():
            return shop.Stock(3)


        def test_shop(box):
            assert shop.total([1]) == st.total([1]) == total([1]) == 1
            assert box.weight() == 3
            assert box.show() == 6
            assert shop.count_all(box) == "3 1"
            assert price(2) == 6
            assert Parcel().weight() == Parcel.total == 3
        """,
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["src"]\n',
    "README.md": "Call `total`.\n",
}


def _applied(project: Path, report: ChoreReport) -> None:
    assert report.status == "done", (report.summary, report.left)
    apply_patch(report.patch, project)


def _text(project: Path, name: str) -> str:
    return (project / "src" / "shop" / name).read_text()


def test_a_function_is_renamed_wherever_it_is_meant_and_nowhere_else(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    before = fingerprint(project)
    report = rename(project, Order("total", "grand_total", "function"), 30)
    assert fingerprint(project) == before, "the project itself is not touched"
    _applied(project, report)
    assert suite(project) == 0
    stock = _text(project, "stock.py")
    assert "def grand_total(items, rate=1):" in stock
    assert "{grand_total([1])}" in stock, "in an f-string, too"
    assert '"""The total of items."""' in stock
    assert "# total" in stock
    assert '__all__ = ["Stock", "grand_total"]' in _text(project, "__init__.py")
    assert "total_price = grand_total(items=[x], rate=3)" in _text(project, "price.py")
    assert "    total = 3\n" in _text(project, "price.py")
    assert any(line.startswith("README.md:1") for line in report.left)
    apply_patch(report.undo, project)
    assert fingerprint(project) == before


def test_a_method_is_renamed_with_what_overrides_it_and_not_with_its_namesakes(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    report = rename(project, Order("Stock.weight", "mass", "method"), 30)
    _applied(project, report)
    assert suite(project) == 0
    stock = _text(project, "stock.py")
    assert stock.count("def mass(self)") == 2, "in the base class, too"
    assert "weight = 5" in stock
    assert "def weight(self)" in _text(project, "price.py")
    assert "assert box.mass() == 3" in (project / "tests" / "test_shop.py").read_text()


def test_a_parameter_is_renamed_with_the_keywords_of_its_calls(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    _applied(project, rename(project, Order("rate", "factor", "parameter", of="total"), 30))
    assert suite(project) == 0
    assert "total(items=[x], factor=3)" in _text(project, "price.py")


def test_a_class_is_renamed_in_annotations_that_are_quoted(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    _applied(project, rename(project, Order("shop.stock.Stock", "Shelf"), 30))
    assert suite(project) == 0
    assert 'def count(stock: "Shelf")' in _text(project, "stock.py")


def test_a_field_of_a_dataclass_is_renamed_with_the_keyword_that_sets_it(make_project: MakeProject) -> None:
    project = make_project(
        {
            "box.py": """
                from dataclasses import dataclass


                @dataclass
                class Box:
                    width: int = 1


                def wide():
                    return Box(width=4).width
                """,
            "test_box.py": "from box import wide\n\n\ndef test_wide():\n    assert wide() == 4\n",
        }
    )
    _applied(project, rename(project, Order("Box.width", "breadth"), 30))
    assert suite(project) == 0
    assert "Box(breadth=4).breadth" in (project / "box.py").read_text()


def test_strings_and_comments_are_renamed_only_when_asked(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    _applied(project, rename(project, Order("total", "grand_total", "function", words=True), 30))
    stock = _text(project, "stock.py")
    assert "# grand_total" in stock
    assert '"""The grand_total of items."""' in stock


def test_a_rename_that_breaks_a_test_is_not_offered(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": "def foo():\n    return 1\n",
            "test_a.py": "import a\n\n\ndef test_a():\n    assert getattr(a, 'foo')() == 1\n",
        }
    )
    report = rename(project, Order("foo", "bar"), 30)
    assert (report.status, report.patch) == ("rejected", "")
    assert any("strings name it too: test_a.py:5" in line for line in report.left)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order("totl", "x"), "No symbol totl is defined here. Near to it: total."),
        (Order("weight", "x"), "weight means 3 things here"),
        (Order("total", "Stock", "function"), "has a class Stock already"),
        (Order("total", "sum", "function"), "sum already means something in src/shop/stock.py"),
        (Order("total", "2x", "function"), "2x cannot be a name"),
        (Order("total", "class", "function"), "class cannot be a name"),
        (Order("Stock.weight", "show"), "has a method show already"),
    ],
)
def test_what_cannot_be_renamed_is_said_in_one_sentence(make_project: MakeProject, order: Order, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        rename(make_project(SHOP), order, 30)
    assert said in str(caught.value)


def test_a_method_that_a_library_names_is_left_alone(make_project: MakeProject) -> None:
    files = {"a.py": "import threading\n\n\nclass Job(threading.Thread):\n    def run(self):\n        pass\n"}
    with pytest.raises(UsageError) as caught:
        rename(make_project(files), Order("Job.run", "go"), 30)
    assert "library" in str(caught.value)


def test_an_object_that_may_be_of_two_kinds_is_not_guessed(make_project: MakeProject) -> None:
    files = {
        "a.py": """
            class A:
                def go(self): ...


            class B:
                def go(self): ...


            def f(flag):
                x = A() if flag else B()
                x.go()
            """
    }
    with pytest.raises(UsageError) as caught:
        rename(make_project(files), Order("A.go", "walk"), 30)
    assert "a.py:11" in str(caught.value)


def test_a_function_is_moved_with_its_imports_and_its_users(make_project: MakeProject) -> None:
    project = make_project(SHOP)
    before = fingerprint(project)
    report = move(project, MoveOrder("total", "src/shop/sums.py", "src/shop/stock.py"), 30)
    _applied(project, report)
    assert suite(project) == 0
    sums = _text(project, "sums.py")
    assert sums.startswith("from __future__ import annotations\n")
    assert "import math" in sums
    assert "def total(items, rate=1):" in sums
    stock = _text(project, "stock.py")
    assert "import math" not in stock
    assert "from shop.sums import total" in stock
    assert "from shop.sums import total" in _text(project, "__init__.py")
    assert "    from shop.sums import total\n" in _text(project, "price.py")
    apply_patch(report.undo, project)
    assert fingerprint(project) == before


def test_a_move_that_makes_two_modules_import_each_other_is_refused(make_project: MakeProject) -> None:
    files = {
        "a.py": "def low():\n    return 1\n\n\ndef foo():\n    return low()\n\n\ndef bar():\n    return foo()\n",
        "b.py": "x = 1\n",
    }
    with pytest.raises(UsageError) as caught:
        move(make_project(files), MoveOrder("foo", "b.py"), 30)
    assert "import each other" in str(caught.value)
