"""How the repositories of SWE-bench run their tests and print the results, for rows that don't say it themselves.

The facts are those of SWE-bench's harness (`MAP_REPO_VERSION_TO_SPECS` and its log parsers): rows since its version 5
carry `eval_script` and `log_parser` and need none of this.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PYTEST = "pytest -rA"


class Suite(NamedTuple):
    """The command that test files are appended to, and the parser of what it prints (see `swebench_grade.py`)."""

    command: str
    parser: str


_SUITES = {
    "astropy/astropy": Suite("pytest -rA -vv -o console_output_style=classic --tb=no", "pytest_v2"),
    "django/django": Suite("./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1", "django"),
    "matplotlib/matplotlib": Suite(PYTEST, "matplotlib"),
    "mwaskom/seaborn": Suite("pytest --no-header -rA", "seaborn"),
    "psf/requests": Suite(PYTEST, "pytest_options"),
    "pydicom/pydicom": Suite(PYTEST, "pytest_options"),
    "pylint-dev/pylint": Suite(PYTEST, "pytest_options"),
    "scikit-learn/scikit-learn": Suite(PYTEST, "pytest_v2"),
    "sphinx-doc/sphinx": Suite("tox --current-env -epy39 -v --", "pytest_v2"),
    "sympy/sympy": Suite("PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' bin/test -C --verbose", "sympy"),
}
_PARSERS = {
    **dict.fromkeys(("astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff", "xarray"), "pytest"),
    **dict.fromkeys(("pydicom", "requests", "pylint"), "pytest_options"),
    **dict.fromkeys(("astropy", "scikit", "sphinx"), "pytest_v2"),
    **{name: name for name in ("pytest", "pytest_options", "pytest_v2", "django", "seaborn", "sympy", "matplotlib")},
    "unittest": "unittest",
}
_DATA_SUFFIXES = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")


def suite_of(repo: str) -> Suite:
    """Return how a repository's tests are run; one that is not known uses pytest."""
    return _SUITES.get(repo, Suite(PYTEST, "pytest"))


def parser_of(name: str) -> str:
    """Return the parser that a row's `log_parser` means (`parse_log_` may stand before it), "" for an unknown one."""
    return _PARSERS.get(name.removeprefix("parse_log_"), "")


def files_of(patch: str) -> tuple[list[str], list[str]]:
    """Return the files that a patch changes or removes, and those it adds."""
    changed = re.findall(r"^--- a/(.*?)\t?$", patch, re.MULTILINE)
    targets = re.findall(r"^\+\+\+ b/(.*?)\t?$", patch, re.MULTILINE)
    return list(dict.fromkeys(changed)), [each for each in dict.fromkeys(targets) if each not in changed]


def named_tests(repo: str, test_patch: str) -> list[str]:
    """Return what is appended to the test command: the test files of the patch, as Django's runner names them there."""
    files = re.findall(r"^diff --git a/.* b/(.*)$", test_patch, re.MULTILINE)
    files = [each for each in files if not each.endswith(_DATA_SUFFIXES)]
    if repo == "django/django":
        return [each.removesuffix(".py").removeprefix("tests/").replace("/", ".") for each in files]
    return files
