"""Small repair sets: one in QuixBugs' form, and one of one's own."""

from __future__ import annotations

import json
from pathlib import Path

WRONG = "def gcd(a, b):\n    if b == 0:\n        return a\n    return gcd(a % b, b)\n"
RIGHT = WRONG.replace("a % b, b", "b, a % b")
TESTS = """\
import pytest
from load_testdata import load_json_testcases
if pytest.use_correct:
    from correct_python_programs.gcd import gcd
else:
    from python_programs.gcd import gcd

@pytest.mark.parametrize("given,wanted", load_json_testcases(gcd.__name__))
def test_gcd(given, wanted):
    assert gcd(*given) == wanted
"""


def suite(folder: Path) -> Path:
    """A set in QuixBugs' form with one whole program, and two that lack something."""
    files = {
        "conftest.py": "import pytest\ndef pytest_configure(config):\n    pytest.use_correct = False\n",
        "python_programs/gcd.py": WRONG,
        "correct_python_programs/gcd.py": RIGHT,
        "python_testcases/test_gcd.py": TESTS,
        "python_testcases/load_testdata.py": "import json\nfrom pathlib import Path\n"
        "def load_json_testcases(name):\n"
        "    lines = (Path(__file__).parents[1] / 'json_testcases' / f'{name}.json').read_text().splitlines()\n"
        "    return [json.loads(line) for line in lines]\n",
        "json_testcases/gcd.json": "[[17, 0], 17]\n[[13, 13], 13]\n[[37, 600], 1]\n",
        "python_programs/half.py": "",
        "python_testcases/test_half.py": "",
        "python_programs/untested.py": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def one_set(folder: Path, more: dict[str, object] | None = None) -> Path:
    task = {"sources": ["src"], "tests": ["tests"], "path": ["src"], "failing": ["tests/test_double.py::test_double"]}
    files = {
        "set.json": json.dumps({"name": "own", "version": "7", "licence": "MIT", "how": "by hand"}),
        "tasks/double/task.json": json.dumps({**task, "cluster": "numbers", **(more or {})}),
        "tasks/double/program/src/double.py": "def double(n):\n    return n + 2\n",
        "tasks/double/program/tests/test_double.py": "from double import double\ndef test_double():\n"
        "    assert double(3) == 6\n",
        "tasks/double/correct/src/double.py": "def double(n):\n    return n * 2\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
