"""The whole search, on real projects with real pytest runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from seeded import MakeProject, fingerprint, suite

from lathe.mend.search import Options, repair
from lathe.tools.patch_apply import apply_patch

QUICK = Options(seconds=40, jobs=2)
EXPECTED = """
from decimal import Decimal
from pathlib import Path
from inventory import *
from inventory.tabular import read_rows

prices = PriceList([QuantityBreak(10, Decimal(5)), QuantityBreak(20, Decimal(9))])
assert [prices.discount_percent(n) for n in (9, 10, 11, 19, 20, 21)] == [0, 5, 5, 5, 9, 9]

warehouse = Warehouse()
warehouse.receive("A", 20)
book = OrderBook(Catalogue([Product("A", "a", Decimal(3), Decimal(1))]), warehouse, prices)
order = book.place("Ada", [("A", 7)])
book.place("Grace", [("A", 4)])
book.ship(order.number, {"A": 5})
book.cancel(order.number)
assert (warehouse.level("A").on_hand, warehouse.level("A").reserved) == (15, 4)

path = Path("rows.csv")
path.write_text("a, b\\n1, 2\\n")
assert list(read_rows(path)) == [(2, {"a": "1", "b": "2"})]
"""


def test_all_three_faults_of_the_example_are_repaired_as_a_person_would(inventory: Path, tmp_path: Path) -> None:
    before = fingerprint(inventory)
    report = repair(inventory, Options(seconds=60, jobs=2))
    assert report.status == "repaired"
    assert report.confirmed
    assert (report.before.failed, report.before.passed) == (10, 48)
    assert (report.after.failed, report.after.passed) == (0, 58)
    assert {change.file for change in report.changes} == {
        "src/inventory/orders.py",
        "src/inventory/pricing.py",
        "src/inventory/tabular.py",
    }
    assert fingerprint(inventory) == before, "the search may not touch the project"

    apply_patch(report.patch, inventory)
    assert suite(inventory) == 0
    path = {"PYTHONPATH": str(inventory / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EXPECTED], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _repaired(project: Path, *wanted: str) -> None:
    report = repair(project, QUICK)
    assert report.status == "repaired", report
    assert [change.after for change in report.changes] == list(wanted)
    apply_patch(report.patch, project)
    assert suite(project) == 0


def test_a_loop_that_does_not_end_is_a_failure_with_a_place(make_project: MakeProject) -> None:
    project = make_project(
        {
            "gcd.py": """
                def gcd(a, b):
                    while b:
                        a, b = b, a
                    return a
                """,
            "test_gcd.py": """
                from gcd import gcd

                def test_gcd():
                    assert gcd(12, 18) == 6

                def test_gcd_of_nothing():
                    assert gcd(5, 0) == 5
                """,
        }
    )
    report = repair(project, QUICK)
    assert report.status == "repaired"
    assert any("did not end in time" in note for note in report.notes)
    apply_patch(report.patch, project)
    assert suite(project) == 0


def test_constants_of_a_module_and_fields_of_a_class_are_searched_too(make_project: MakeProject) -> None:
    project = make_project(
        {
            "shop/__init__.py": "",
            "shop/rates.py": "STANDARD = 2\n",
            "shop/basket.py": """
                from dataclasses import dataclass, field
                from shop.rates import STANDARD

                @dataclass
                class Basket:
                    limit: int = 2
                    items: list = field(default_factory=list)

                    def add(self, price):
                        if len(self.items) >= self.limit:
                            raise ValueError("full")
                        self.items.append(price)

                    def total(self):
                        return sum(self.items) * STANDARD
                """,
            "tests/test_basket.py": """
                import pytest
                from shop.basket import Basket

                def test_three_fit():
                    basket = Basket()
                    for price in (1, 2, 3):
                        basket.add(price)
                    with pytest.raises(ValueError):
                        basket.add(4)

                def test_total():
                    basket = Basket()
                    basket.add(4)
                    assert basket.total() == 12
                """,
            "conftest.py": "",
        }
    )
    report = repair(project, QUICK)
    assert report.status == "repaired"
    assert "shop/basket.py" in {change.file for change in report.changes}
    apply_patch(report.patch, project)
    assert suite(project) == 0


def test_unittest_suites_files_with_crlf_and_other_encodings_are_fine(make_project: MakeProject) -> None:
    module = (
        "# -*- coding: latin-1 -*-\r\n"
        "def grüße(namen):\r\n"
        "    gruppe = namen[1:]\r\n"
        '    return ["Grüß " + name for name in gruppe]\r\n'
    )
    project = make_project(
        {
            "gruss.py": module.encode("latin-1"),
            "test_gruss.py": """
                import unittest
                import gruss

                class Grüße(unittest.TestCase):
                    def test_alle(self):
                        self.assertEqual(gruss.grüße(["A", "B"]), ["Grüß A", "Grüß B"])

                    @unittest.skip("later")
                    def test_später(self):
                        self.fail()
                """,
        },
        git=False,
    )
    report = repair(project, QUICK)
    assert report.status == "repaired"
    assert report.after.skipped == 1
    apply_patch(report.patch, project)
    assert suite(project) == 0
    written = (project / "gruss.py").read_bytes()
    assert written.count(b"\r\n") == 4
    assert "Grüß".encode("latin-1") in written


def test_a_repair_may_not_turn_a_test_into_a_skipped_one(make_project: MakeProject) -> None:
    project = make_project(
        {
            "flags.py": "def ready():\n    return True\n\n\ndef size(a):\n    return a - a\n",
            "test_flags.py": """
                import pytest
                import flags

                def test_size():
                    if not flags.ready():
                        pytest.skip("not ready")
                    assert flags.size(3) == 6
                """,
        }
    )
    _repaired(project, "return a + a")


def test_what_cannot_be_repaired_says_so_and_offers_nothing(make_project: MakeProject) -> None:
    project = make_project(
        {
            "oracle.py": "def answer(question):\n    return 1\n",
            "test_oracle.py": """
                import hashlib
                import oracle

                def test_answer():
                    assert oracle.answer("life") == hashlib.sha256(b"life").hexdigest()
                """,
        }
    )
    report = repair(project, QUICK)
    assert report.status == "not_repaired"
    assert report.patch == ""
    assert report.failing == ("test_oracle.py::test_answer",)
    assert report.tried > 10


def test_part_of_a_repair_is_offered_as_part(make_project: MakeProject) -> None:
    project = make_project(
        {
            "two.py": "def less(a, b):\n    return a > b\n\n\ndef answer(question):\n    return 1\n",
            "test_two.py": """
                import two

                def test_less():
                    assert two.less(1, 2) and not two.less(2, 2)

                def test_answer():
                    assert two.answer("x") == {"x": ["y", "z"]}
                """,
        }
    )
    report = repair(project, QUICK)
    assert report.status == "improved"
    assert (report.before.failed, report.after.failed) == (2, 1)
    assert report.failing == ("test_two.py::test_answer",)
    assert [change.after for change in report.changes] == ["return a < b"]


def test_tests_that_end_the_process_or_write_files_do_no_harm(make_project: MakeProject) -> None:
    project = make_project(
        {
            "calc.py": "def double(n):\n    return n * 3\n",
            "test_calc.py": """
                import os
                from pathlib import Path
                import calc

                HERE = Path(__file__).parent

                def test_leaves():
                    os._exit(0)

                def test_writes():
                    Path("left-behind.txt").write_text("x")
                    (HERE / "calc.py").write_text("overwritten")
                    print("noise" * 10_000)
                    assert Path("left-behind.txt").exists()

                def test_double():
                    assert calc.double(4) == 8
                """,
        }
    )
    before = fingerprint(project)
    report = repair(project, QUICK)
    assert fingerprint(project) == before
    assert any("test_leaves" in note for note in report.notes)


def test_a_project_installed_in_place_is_searched_in_its_copy(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(
        {
            "lib/area.py": "def area(w, h):\n    return w + h\n",
            "tests/test_area.py": "from area import area\n\n\ndef test_area():\n    assert area(3, 4) == 12\n",
        }
    )
    monkeypatch.setenv("PYTHONPATH", str(project / "lib"))
    before = fingerprint(project)
    report = repair(project, QUICK)
    assert [change.after for change in report.changes] == ["return w * h"]
    assert fingerprint(project) == before


def test_a_subfolder_of_a_repository_is_repaired_with_paths_of_its_own(make_project: MakeProject) -> None:
    project = make_project(
        {
            "README": "top\n",
            "pkg/pytest.ini": "[pytest]\n",
            "pkg/half.py": textwrap.dedent("def half(n):\n    return n / 2\n"),
            "pkg/test_half.py": "from half import half\n\n\ndef test_half():\n    assert repr(half(5)) == '2'\n",
        }
    )
    report = repair(project / "pkg", QUICK)
    assert report.changes[0].file == "half.py"
    apply_patch(report.patch, project / "pkg")
    assert suite(project / "pkg") == 0
