"""`python -m lathe.mend CHORE ...`: one chore, its evidence on standard output, its report in the last lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lathe.mend.chores.outcome import ChoreReport, say_report
from lathe.protocol.errors import ExitCode, LatheError


def main(argv: list[str]) -> int:
    """Return 0 where the chore is done or there was nothing to do, 1 where nothing is kept, 2 where it cannot begin."""
    options = _parser().parse_args(argv)
    try:
        report = _CHORES[options.chore](options)
    except LatheError as error:
        _say(str(error))
        say_report(error)
        return int(error.exit_code)
    _say(report.summary)
    for line in report.evidence:
        _say(f"  {line}".rstrip())
    if report.left:
        _say("Left:")
        for line in report.left:
            _say(f"  {line}")
    say_report(report)
    return ExitCode.TURN_FAILED if report.status == "rejected" else ExitCode.DONE


def _rename(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.rename import Order, rename

    order = Order(options.old, options.new, options.kind, options.file, options.of, options.words)
    return rename(Path(options.path), order, options.time)


def _move(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.move import Order, move

    return move(Path(options.path), Order(options.name, options.target, options.origin), options.time)


def _lint(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.lint import lint

    return lint(Path(options.path), options.task, options.time)


def _types(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.typing_fixes import fix_types

    return fix_types(Path(options.path), options.time)


def _upgrade(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.deprecated import upgrade

    return upgrade(Path(options.path), options.name, options.time)


def _bisect(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.bisect import bisect

    return bisect(Path(options.path), options.test, options.good, options.time, _say)


def _why(options: argparse.Namespace) -> ChoreReport:
    from lathe.mend.chores.why import why

    return why(Path(options.path), options.test, options.time)


_CHORES: dict[str, Callable[[argparse.Namespace], ChoreReport]] = {
    "rename": _rename,
    "move": _move,
    "lint": _lint,
    "types": _types,
    "upgrade": _upgrade,
    "bisect": _bisect,
    "why": _why,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lathe.mend", allow_abbrev=False)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--time", type=float, default=60.0, metavar="SECONDS", help="for each run of the tests")
    shared.add_argument("--path", default=".", help="the project's folder")
    chores = parser.add_subparsers(dest="chore", required=True)
    rename = chores.add_parser("rename", parents=[shared], help="rename a symbol wherever it is meant")
    rename.add_argument("old")
    rename.add_argument("new")
    rename.add_argument("--kind", default="", help="function, class, method, variable, attribute, parameter")
    rename.add_argument("--file", default="", help="the file that defines it")
    rename.add_argument("--of", default="", help="the function of a parameter, or the class of a member")
    rename.add_argument("--words", action="store_true", help="also in strings and comments")
    move = chores.add_parser("move", parents=[shared], help="move a symbol to another module")
    move.add_argument("name")
    move.add_argument("target")
    move.add_argument("--from", dest="origin", default="", metavar="FILE")
    lint = chores.add_parser("lint", parents=[shared], help="clear findings of ruff, or lay out the code")
    lint.add_argument("task", nargs="?", default="lint", choices=("lint", "format", "imports", "unused-imports"))
    chores.add_parser("types", parents=[shared], help="clear findings of mypy or pyright that have one answer")
    upgrade = chores.add_parser("upgrade", parents=[shared], help="replace deprecated names")
    upgrade.add_argument("name", nargs="*", help="only these")
    bisect = chores.add_parser("bisect", parents=[shared], help="find the commit that broke a test")
    bisect.add_argument("test")
    bisect.add_argument("--good", default="", metavar="REF", help="where it passed")
    why = chores.add_parser("why", parents=[shared], help="show where failing tests point to")
    why.add_argument("test", nargs="*")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
