"""What the messages and the texts of failing tests say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lathe.mend import project
from lathe.mend.expectations import clues_of, texts_of
from lathe.mend.operators.asked import alike
from lathe.mend.operators.clues import Clues


def _message(code: str) -> str:
    """Return what this Python says of an error, as the engine keeps it."""
    script = f"try:\n    {code}\nexcept BaseException as error:\n    print(f'{{type(error).__name__}}: {{error}}')"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("(lambda a, b: 0)(1)", {"<lambda>": ["b"]}),
        ("import fractions; fractions.Fraction.limit_denominator()", {"limit_denominator": ["self"]}),
        ("import textwrap; textwrap.indent('a')", {"indent": ["prefix"]}),
        ("import html.parser; html.parser.HTMLParser().handle_data()", {"handle_data": ["data"]}),
    ],
)
def test_the_parameter_that_a_call_left_out_is_read_from_the_message(code: str, missing: dict[str, list[str]]) -> None:
    assert Clues.of([_message(code)]).missing == missing


@pytest.mark.parametrize("code", ["len()", "isinstance(1)", "iter()", "[].append()", "getattr(1)"])
def test_a_function_of_the_language_that_lacks_arguments_is_named(code: str) -> None:
    name = code.partition("(")[0].rpartition(".")[2]
    assert Clues.of([_message(code)]).short == {name}


def test_the_class_is_named_where_its_constructor_lacks_an_argument() -> None:
    assert Clues.of(["TypeError: A.__init__() missing 2 required keyword-only arguments: 'x' and 'y'"]).missing == {
        "A": ["x", "y"]
    }


def test_errors_that_tests_wait_for_are_read_from_pytest_and_unittest() -> None:
    clues = Clues.of(
        [
            "Failed: DID NOT RAISE <class 'shop.errors.Sold'>",
            "Failed: DID NOT RAISE any of (<class 'KeyError'>, <class 'OSError'>)",
            "AssertionError: ValueError not raised by f",
        ]
    )
    assert clues.expected == ("Sold", "KeyError", "OSError", "ValueError")
    assert clues.raised == ()


def test_what_was_raised_is_not_what_only_says_that_a_test_failed() -> None:
    clues = Clues.of(["AssertionError: 1 != 2", "it did not end in time", "json.decoder.JSONDecodeError: no", ""])
    assert clues.raised == ("JSONDecodeError",)
    assert Clues.of([_message("{}['a']"), _message("{}[3]"), _message("{}[(1, 2)]")]).keys == ("'a'", "3")
    assert Clues.of([_message("(1).b")]).unset == ("b",)


def test_the_texts_of_the_failing_tests_are_read_and_of_no_others(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        'class TestA:\n    def test_one(self):\n        assert f() == "first\\nsecond"\n'
        'def test_two():\n    assert f() == "third"\n'
    )
    assert texts_of(tmp_path, ["test_a.py::TestA::test_one[x-1]"]) == ["first", "second"]
    assert texts_of(tmp_path, ["test_b.py::test_gone", "test_a.py::test_two"]) == ["third"]
    runs = [
        project.TestRun("test_a.py::test_two", "failed", 0.1, {}, "KeyError: 'k'"),
        project.TestRun("test_a.py::TestA::test_one", "passed", 0.1, {}),
    ]
    clues = clues_of(tmp_path, runs)
    assert (clues.texts, clues.keys) == (("third",), ("'k'",))


def test_a_text_is_alike_only_up_to_a_slip_of_the_pen() -> None:
    assert "Query has no path" in alike("Qery has no path", "Query has no path")
    assert "no path" in alike("no pth", "Query has no path here")
    assert alike("precision", "Query has no path") == ()
    assert alike("path", "path") == ()
