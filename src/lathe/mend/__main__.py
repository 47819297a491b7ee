"""`python -m lathe.mend`: the commands that the embedded engine gives to `exec_command`.

`--run-tests` becomes pytest under the project's interpreter; without it the search runs and its report is the last
line of the output, behind `MARKER`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lathe.mend.report import report_line
from lathe.protocol.errors import ExitCode, LatheError


def main(argv: list[str]) -> int:
    """Return 0 where the suite is or was repaired, 1 where not, 2 where nothing could be searched."""
    parser = argparse.ArgumentParser(prog="python -m lathe.mend", allow_abbrev=False)
    parser.add_argument("--run-tests", action="store_true")
    parser.add_argument("--time", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("path", nargs="?", default=".")
    options = parser.parse_args(argv)
    try:
        if options.run_tests:
            _become_pytest(Path(options.path))
        from lathe.mend.search import Options, repair

        report = repair(Path(options.path), Options(seconds=options.time, jobs=options.jobs), _say)
    except LatheError as error:
        _say(str(error))
        sys.stdout.write(report_line(error) + "\n")
        return int(error.exit_code)
    sys.stdout.write(report_line(report) + "\n")
    return ExitCode.DONE if report.status in ("repaired", "already_green") else ExitCode.TURN_FAILED


def _become_pytest(path: Path) -> None:
    from lathe.mend.workspace import find_python

    python = find_python(path)
    command = [python, "-B", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    _say(" ".join(command))
    os.chdir(path)
    os.execv(python, command)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
