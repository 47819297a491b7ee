"""`lathe mend`: search for edits that make the failing tests pass, and show them with the evidence."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lathe.protocol.errors import ExitCode, LatheError

if TYPE_CHECKING:
    from lathe.mend.report import RepairReport
    from lathe.mend.search import Options

_BAR_WIDTH, _REDRAW_S = 24, 0.1


def main(argv: list[str]) -> int:
    """Return 0 where the suite is repaired or was green, 1 where not, 2 for what cannot be searched."""
    from argparse import ArgumentParser

    parser = ArgumentParser(
        prog="lathe mend",
        description="Repair failing tests by search, without a model. Nothing is changed without --apply.",
        allow_abbrev=False,
    )
    parser.add_argument("path", nargs="?", default=".", help="the project's folder")
    parser.add_argument("--tests", nargs="+", default=[], metavar="ARG", help="arguments for pytest: files, -k, -m ...")
    parser.add_argument(
        "--test-command", metavar="CMD", help="the command that runs the tests, with pytest or unittest in it"
    )
    parser.add_argument("--time", type=float, default=60.0, metavar="SECONDS", help="the whole budget (default 60)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="candidates tried at the same time")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--apply", action="store_true", help="write the repair into the project")
    options = parser.parse_args(argv)
    if options.time <= 0 or options.jobs < 0:
        parser.error("--time must be more than 0, --jobs not less")
    if options.test_command and options.tests:
        parser.error("--test-command and --tests say the same; give one")
    from lathe.mend.search import Options
    from lathe.mend.testcommand import pytest_arguments

    if options.test_command:
        options.tests = pytest_arguments(options.test_command)
    return _repair(Path(options.path), Options(tuple(options.tests), options.time, options.jobs), options)


def _repair(path: Path, search: Options, flags: object) -> int:
    from lathe.mend.search import repair
    from lathe.protocol.codec import encode

    as_json, apply = getattr(flags, "json", False), getattr(flags, "apply", False)
    try:
        with _Bar(search.seconds) as bar:
            report = repair(path, search, bar.say)
    except LatheError as error:
        if as_json:
            failure = {"status": "error", "code": error.code, "message": error.message, "hint": error.hint}
            sys.stdout.write(encode(failure).decode() + "\n")
            return int(error.exit_code)
        raise
    if apply and report.patch:
        from lathe.tools.patch_apply import apply_patch

        apply_patch(report.patch, path.resolve(), protected=(".git",))
    sys.stdout.write(encode(report).decode() + "\n" if as_json else _shown(report, apply))
    return ExitCode.DONE if report.status in ("repaired", "already_green") else ExitCode.TURN_FAILED


def _shown(report: RepairReport, applied: bool) -> str:
    from lathe.mend.wording import describe

    if report.status == "already_green":
        return f"Every test passes already, so there is nothing to repair ({report.before}).\n"
    if not report.patch:
        return f"No edit was found that makes a failing test pass and breaks none.\n{describe(report)}\n"
    last = "The repair is written." if applied else "Nothing was changed; --apply writes the repair."
    return f"{report.diff}\n{describe(report)}\n{last}\n"


class _Bar:
    """One line on a terminal, and on nothing else: how much of the time is over, and what was said last.

    Use as a context manager; the line is gone afterwards.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._text = "collecting the tests"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """Show `text` beside the bar from now on."""
        self._text = text

    def _draw(self) -> None:
        started = time.monotonic()
        while not self._over.wait(_REDRAW_S):
            passed = time.monotonic() - started
            done = min(_BAR_WIDTH, int(_BAR_WIDTH * passed / self._seconds))
            line = f"[{'#' * done:-<{_BAR_WIDTH}}] {passed:.0f} of {self._seconds:g} s, {self._text}"
            sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()
