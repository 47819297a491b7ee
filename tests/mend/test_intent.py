"""Which words ask for what."""

from __future__ import annotations

import pytest

from lathe.mend.intent import SEARCH_S, Beyond, Chore, Repair, Unclear, read

REPAIRS = {
    "Make the failing tests pass": (),
    "make the tests pass": (),
    "Please fix the failing tests.": (),
    "The test suite is broken, can you repair it?": (),
    "get pytest green again": (),
    "Fix the bugs so that all tests pass": (),
    "Repair the code until the suite is green, and don't change the tests": (),
    "fix it": (),
    "Mend this project": (),
    "Some tests fail. Please fix the code.": (),
    "make everything green": (),
    "Could you fix the build please?": (),
    "fix tests/test_x.py": ("tests/test_x.py",),
    "fix the failing test test_y": ("test_y",),
    "make tests/test_x.py::test_y pass": ("tests/test_x.py::test_y",),
    "fix `test_a` and `test_b`": ("test_a", "test_b"),
    "fix the tests in tests/test_x.py, but don't touch the tests": ("tests/test_x.py",),
    "make TestOrders pass": ("TestOrders",),
    "test_a and test_b fail. Mend the code so that all tests pass": (),
}
CHORES = {
    "rename function foo to bar": "rename foo bar --kind function",
    "rename class pkg.mod.Foo to Bar": "rename pkg.mod.Foo Bar --kind class",
    "rename parameter x of foo to y": "rename x y --kind parameter --of foo",
    "rename the x parameter of foo() to y": "rename x y --kind parameter --of foo",
    "Rename Foo to Bar everywhere": "rename Foo Bar",
    "Could you please rename the method `Stock.weight` to `mass` across the project?": (
        "rename Stock.weight mass --kind method"
    ),
    "rename foo in src/a.py to bar": "rename foo bar --file src/a.py",
    "rename foo to bar, also in strings and comments": "rename foo bar --words",
    "change the name of variable LIMIT to MAX_LIMIT": "rename LIMIT MAX_LIMIT --kind variable",
    "rename symbol foo to bar throughout the code base": "rename foo bar",
    "move foo from a.py to b.py": "move foo b.py --from a.py",
    "move class Foo to pkg/models.py": "move Foo pkg/models.py",
    "move the function foo out of src/a.py into src/b.py please": "move foo src/b.py --from src/a.py",
    "fix the lint errors": "lint",
    "Clear all ruff findings": "lint",
    "lint the code": "lint",
    "run ruff --fix": "lint",
    "make ruff happy": "lint",
    "clean up the linter warnings in this project": "lint",
    "format the code": "lint format",
    "reformat the whole project": "lint format",
    "fix the formatting": "lint format",
    "sort imports": "lint imports",
    "organize the imports in this project": "lint imports",
    "remove unused imports": "lint unused-imports",
    "please remove all the unused imports from the project": "lint unused-imports",
    "fix the type errors": "types",
    "make mypy happy": "types",
    "clear the mypy findings": "types",
    "fix all pyright issues in the project": "types",
    "upgrade deprecated calls": "upgrade",
    "replace all deprecated APIs": "upgrade",
    "fix the deprecation warnings": "upgrade",
    "upgrade datetime.utcnow calls": "upgrade datetime.utcnow",
    "replace deprecated pkg_resources": "upgrade pkg_resources",
    "find the commit that broke test_x": "bisect test_x",
    "which commit broke tests/test_x.py::test_y?": "bisect tests/test_x.py::test_y",
    "when did test_x start failing since v1.2": "bisect test_x --good v1.2",
    "bisect test_x since v1.2": "bisect test_x --good v1.2",
    "what commit made test_area fail, it worked in v1.0": "bisect test_area --good v1.0",
    "why does test_area fail?": "why test_area",
    "why does this test fail?": "why",
    "Why do the tests fail?": "why",
    "explain why test_x fails": "why test_x",
    "where is the bug?": "why",
}
UNCLEAR = [
    "rename everything nicely",
    "rename foo",
    "rename foo to bar but don't touch the tests",
    "fix the failing tests without changing the API",
    "move foo to the other module",
    "format the date as ISO",
    "fix the imports",
    "find the commit that broke the tests",
    "fix the tests and format the code",
    "sort imports and then remove unused imports",
    "fix the bug in orders.py",
    "make it work with mypy 2",
    "tell me what is deprecated",
]
BEYOND = [
    "",
    "hello",
    "write a poem",
    "add a feature",
    "Write a web server",
    "explain this code",
    "Explain what this project does",
    "Add tests for the loader",
    "Make the failing tests pass and add a changelog entry",
    "delete the failing tests so that the suite passes",
    "make the tests pass by mocking the database",
    "skip test_x",
    "fix the lint errors and explain them",
    "make it faster",
    "refactor the loader",
    "commit everything",
    "delete the database",
    "upgrade to Django 5",
    "replace foo with bar",
    "what can you do?",
    "fix the typo in the README",
    "fix the race condition in the scheduler",
    "improve test coverage",
    "add type hints to the project",
    "translate the comments",
    "move fast",
]


@pytest.mark.parametrize(("words", "tests"), REPAIRS.items())
def test_a_repair_is_understood_with_the_tests_it_names(words: str, tests: tuple[str, ...]) -> None:
    assert read(words) == Repair(tests)


@pytest.mark.parametrize(("words", "command"), CHORES.items())
def test_a_chore_is_understood_with_its_arguments(words: str, command: str) -> None:
    assert read(words) == Chore(tuple(command.split()))


@pytest.mark.parametrize("words", UNCLEAR)
def test_what_nearly_fits_is_answered_with_how_to_ask(words: str) -> None:
    intent = read(words)
    assert isinstance(intent, Unclear)
    assert intent.hint


@pytest.mark.parametrize("words", BEYOND)
def test_the_rest_is_beyond_mend(words: str) -> None:
    assert isinstance(read(words), Beyond)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("fix the tests in 5 minutes", 300),
        ("fix test_a within 90 seconds", 90),
        ("make the tests pass in at most 2 min", 120),
        ("upgrade deprecated calls in 1 hour", 3600),
        ("fix the tests", SEARCH_S),
    ],
)
def test_a_limit_of_time_is_taken_from_the_words(words: str, seconds: int) -> None:
    intent = read(words)
    assert isinstance(intent, (Repair, Chore))
    assert intent.seconds == seconds


def test_there_are_enough_examples() -> None:
    assert len(REPAIRS) + len(CHORES) + len(UNCLEAR) + len(BEYOND) >= 80
