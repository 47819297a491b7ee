"""QuixBugs: 40 short programs in Python, each with one faulty line, from https://github.com/jkoppel/QuixBugs (MIT).

A folder in its form has `python_programs/NAME.py`, `correct_python_programs/NAME.py`, `python_testcases/test_NAME.py`
and, for some, `json_testcases/NAME.json`. A program whose tests or right version are missing is no task.
"""

from __future__ import annotations

from pathlib import Path

from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import Unreadable, checked, gathered, licence_of
from lathe.evals.formats.repair import Repair, repair_task
from lathe.evals.task import Dataset, Task

PROGRAMS, CORRECT, TESTS, CASES = (
    "python_programs",
    "correct_python_programs",
    "python_testcases",
    "json_testcases",
)
_SHARED = ("conftest.py", f"{PROGRAMS}/node.py", f"{TESTS}/node.py", f"{TESTS}/load_testdata.py")


def is_quixbugs(path: Path) -> bool:
    """Return whether a folder has QuixBugs' form."""
    return all((path / name).is_dir() for name in (PROGRAMS, CORRECT, TESTS))


def read_dataset(path: Path, *, made: Maker | None = None) -> Dataset:
    """Return the programs of a clone as tasks; raise `Unreadable` where it is none."""
    made = made or Maker()
    if not is_quixbugs(path):
        raise Unreadable(f"{path} has no folders {PROGRAMS}, {CORRECT} and {TESTS}.")
    tests = (each.stem.removeprefix("test_") for each in sorted((path / TESTS).glob("test_*.py")))
    names = [name for name in tests if (path / PROGRAMS / f"{name}.py").is_file()]

    def read(name: str) -> Task:
        return repair_task(_repair(path, name), "quixbugs", made)

    return gathered("quixbugs", [(name, name) for name in names], read, licence=licence_of(path))


def _repair(suite: Path, name: str) -> Repair:
    program, tests = f"{PROGRAMS}/{name}.py", f"{TESTS}/test_{name}.py"
    correct = suite / CORRECT / f"{name}.py"
    if not correct.is_file():
        raise Unreadable(f"{CORRECT}/{name}.py is not there.")
    wanted = [program, tests, f"{CASES}/{name}.json", *_SHARED]
    files = [(each, checked(suite / each, within=suite)) for each in wanted if (suite / each).is_file()]
    return Repair(
        name=name,
        program=files,
        correct=[(program, checked(correct, within=suite))],
        sources=(program,),
        tests=(tests,),
        source=suite / program,
    )
