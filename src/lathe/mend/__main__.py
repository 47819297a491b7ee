"""`python -m lathe.mend`: the commands that the embedded engine gives to `exec_command`.

`--run-tests` becomes pytest under the project's interpreter; a chore's name as the first word runs that chore; else
the search runs. A report is the last line of the output, behind `MARKER`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lathe.mend.chores import CHORE_NAMES
from lathe.mend.report import report_line
from lathe.protocol.errors import ExitCode, LatheError

_PYTEST = """
import sys
folder = sys.argv.pop(1)
sys.path.append(folder)
import endless
sys.path.remove(folder)
import pytest
sys.exit(pytest.main(sys.argv[1:], plugins=[endless]))
"""


def main(argv: list[str]) -> int:
    """Return 0 where the suite is or was repaired, 1 where not, 2 where nothing could be searched."""
    if argv and argv[0] in CHORE_NAMES:
        from lathe.mend.chores.command import main as run_chore

        return run_chore(argv)
    parser = argparse.ArgumentParser(prog="python -m lathe.mend", allow_abbrev=False)
    parser.add_argument("--run-tests", action="store_true")
    parser.add_argument("--time", type=float, default=60.0)
    parser.add_argument("--test", action="append", default=[], help="a file, a node id or a name; may be repeated")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("path", nargs="?", default=".")
    options = parser.parse_args(argv)
    try:
        if options.run_tests:
            _become_pytest(Path(options.path))
        from lathe.mend.search import Options, repair

        tests = _pytest_arguments(Path(options.path), options.test)
        report = repair(Path(options.path), Options(tests, options.time, options.jobs), _say)
    except LatheError as error:
        _say(str(error))
        sys.stdout.write(report_line(error) + "\n")
        return int(error.exit_code)
    sys.stdout.write(report_line(report) + "\n")
    return ExitCode.DONE if report.status in ("repaired", "already_green") else ExitCode.TURN_FAILED


def _pytest_arguments(path: Path, named: list[str]) -> tuple[str, ...]:
    """Return what pytest is told for tests that are named by file, node id or name."""
    files = []
    for name in named:
        file, colons, rest = name.partition("::")
        if file.endswith(".py"):
            found = [file] if (path / file).exists() else sorted(str(one.relative_to(path)) for one in path.rglob(file))
            files.append((found[0] if len(found) == 1 else file) + colons + rest)
    names = [name for name in named if not name.partition("::")[0].endswith(".py")]
    return (*files, *(["-k", " or ".join(name.partition("[")[0] for name in names)] if names else []))


def _become_pytest(path: Path) -> None:
    from lathe.mend.workspace import find_python

    python = find_python(path)
    told = ["-q", "--tb=short", "-p", "no:cacheprovider"]
    _say(" ".join([python, "-B", "-m", "pytest", *told]))
    os.chdir(path)
    os.execv(python, [python, "-B", "-c", _PYTEST, str(Path(__file__).parent), *told])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
