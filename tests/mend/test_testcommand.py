"""What `--test-command` makes of the commands that projects run their tests with."""

from __future__ import annotations

import pytest
from seeded import MakeProject

from lathe.cli.main import main
from lathe.mend.testcommand import pytest_arguments
from lathe.protocol.errors import UsageError


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("pytest", ()),
        ("pytest -k 'one or two' tests", ("-k", "one or two", "tests")),
        ("python3 -m pytest tests/test_a.py::test_b", ("tests/test_a.py::test_b",)),
        ("uv run --group dev pytest -m slow", ("-m", "slow")),
        ("PYTHONPATH=src .venv/bin/pytest tests", ("tests",)),
        ("python -m unittest tests.test_a.Area.test_b", ("tests/test_a.py::Area::test_b",)),
        ("python -m unittest -v tests/test_a.py", ("tests/test_a.py",)),
        ("python -m unittest -k '*area*' tests.test_a", ("tests/test_a.py", "-k", "area")),
        ("python -m unittest", ("-o", "python_files=test*.py", ".")),
        ("python -m unittest discover -s tests -p 'check_*.py'", ("-o", "python_files=check_*.py", "tests")),
        ("python -m unittest discover tests", ("-o", "python_files=test*.py", "tests")),
    ],
)
def test_a_test_command_is_read(command: str, arguments: tuple[str, ...]) -> None:
    assert pytest_arguments(command) == arguments


@pytest.mark.parametrize("command", ["make test", "tox -e py311", "python run_tests.py", "", "pytest 'open"])
def test_a_command_that_hides_its_tests_is_refused(command: str) -> None:
    with pytest.raises(UsageError) as raised:
        pytest_arguments(command)
    assert raised.value.hint


def test_a_unittest_project_is_repaired_by_its_own_command(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(
        {
            "area.py": "def area(width, height):\n    return width + height\n",
            "checks/check_area.py": """
                import unittest

                from area import area


                class Area(unittest.TestCase):
                    def test_of_a_field(self):
                        self.assertEqual(area(2, 3), 6)
                """,
        }
    )
    command = "python -m unittest discover -s checks -p 'check_*.py'"
    assert main(["mend", str(project), "--test-command", command]) == 0
    assert "return width * height" in capsys.readouterr().out
