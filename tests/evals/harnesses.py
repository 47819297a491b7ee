"""Inspect and Harbor with this Lathe in them: their environments are cached, Lathe is laid beside each time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from installing import installed, into_environment

from lathe.evals.environments.standins import find_python
from lathe.evals.harnesses.wheel import make_wheel

PYTHONS = {version: find_python(version) for version in ("3.12", "3.13")}  # tests have another home
INSPECT = "inspect-ai==0.3.285"
HARBOR = "harbor==0.26.0"
ROOT = Path(__file__).parents[2]
BROKEN = '''
def middle(values):
    """Return the greatest value that is not above 10."""
    best = 0
    for value in values:
        if value > best or value <= 10:
            best = value
    return best
'''
TESTS = """
import unittest

from middle import middle


class TestMiddle(unittest.TestCase):
    def test_greatest(self):
        self.assertEqual(middle([1, 9, 4]), 9)

    def test_limit(self):
        self.assertEqual(middle([3, 12, 7]), 7)

    def test_first(self):
        self.assertEqual(middle([8, 2, 1]), 8)
"""
INSTRUCTION = "The tests in test_middle.py fail. Mend middle.py, and leave the tests as they are."


def inspect_python() -> Path:
    """Return the Python of an environment with Inspect; skip the test where it can't be had."""
    return installed(INSPECT, "bin/python", _inspect)


def harbor_python() -> Path:
    """Return the Python of an environment with Harbor; skip the test where it can't be had."""
    return installed(HARBOR, "bin/python", _harbor)


def _needs() -> list[str]:
    """Return what Lathe needs to run, and the pytest that its engine works with."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*told["project"]["dependencies"], "pytest"]


def _inspect(folder: Path, what: str) -> str:
    return into_environment(folder, what, "openai>=2", *_needs())


def _harbor(folder: Path, what: str) -> str:
    python = next((found for version in PYTHONS if (found := _python(version))), "")
    return into_environment(folder, what, *_needs(), python=python) if python else "it needs Python 3.12"


def _python(version: str) -> str:
    """Return a Python that runs: pyenv has scripts on the path also for versions that it would not choose here."""
    name = f"python{version}"
    folder = PYTHONS[version]
    for program in filter(None, (shutil.which(name), folder and folder / "bin" / name)):
        said = subprocess.run([program, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if said.returncode == 0:
            return said.stdout.strip()
    return ""


def lay(tmp_path: Path) -> dict[str, str]:
    """Lay this Lathe, as a wheel, where both harnesses take it for an installed one; return the variables for that."""
    site = tmp_path / "site-packages"
    zipfile.ZipFile(make_wheel(tmp_path)).extractall(site)
    kept = {name: value for name, value in os.environ.items() if not re.match(r"PYTHON|INSPECT|COV", name)}
    return {**kept, "PYTHONPATH": str(site), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def run(python: Path, tmp_path: Path, *arguments: str, env: dict[str, str]) -> str:
    """Run a harness's Python to its end and return what it printed; fail the test with that where it fails."""
    log = tmp_path / "output"
    with log.open("wb") as output:
        done = subprocess.run(
            [str(python), *arguments], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    said = log.read_text(errors="replace")
    if done.returncode:
        pytest.fail(f"{' '.join(arguments)[:200]} ended with {done.returncode}:\n{said[-4000:]}")
    return said


if __name__ == "__main__":  # have both there before the tests are run
    sys.stdout.write(f"{inspect_python()}\n{harbor_python()}\n")
