"""What a chore found, as data, and how it travels through a command's output."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from lathe.mend.report import MARKER, Failure
from lathe.protocol.errors import LatheError

Result: TypeAlias = Literal["done", "nothing", "rejected"]
PART = f"{MARKER}part "
_PART_CHARS = 12_000
_MOST_LINES = 40
_MOST_NAMES = 200


class ChoreReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of a chore.

    `status` is "done" (there is something to tell, and `patch` says what to change, if anything), "nothing" (there is
    nothing to do) or "rejected" (what could be done was not good enough, and nothing is kept). `summary` is one
    sentence, `evidence` and `left` are lines: what shows it, and what remains for a person. `patch` is in the
    `*** Begin Patch` format, `undo` its reverse. `failing` are the tests that failed before and may go on to.
    `tested` says that there are tests to run again afterwards.
    """

    chore: str
    status: Result
    summary: str
    evidence: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    patch: str = ""
    undo: str = ""
    failing: tuple[str, ...] = ()
    tested: bool = False


def chore_lines(result: ChoreReport | LatheError) -> list[str]:
    """Return the marked lines that carry `result`: one, or several parts where one would be cut by a tool.

    A part reads `MARKER part NUMBER/COUNT TEXT`; the texts together are the report.
    """
    if isinstance(result, LatheError):
        return [MARKER + msgspec.json.encode(Failure(result.code, result.message, result.hint)).decode()]
    short = msgspec.structs.replace(
        result,
        evidence=few(result.evidence),
        left=few(result.left),
        failing=result.failing[:_MOST_NAMES],
    )
    text = msgspec.json.encode(short).decode()
    if len(text) <= _PART_CHARS:
        return [MARKER + text]
    parts = [text[start : start + _PART_CHARS] for start in range(0, len(text), _PART_CHARS)]
    return [f"{PART}{number}/{len(parts)} {part}" for number, part in enumerate(parts, 1)]


def say_report(result: ChoreReport | LatheError) -> None:
    """Print `result`. Between parts wait for a line on standard input, so that each is read before the next comes."""
    lines = chore_lines(result)
    for number, line in enumerate(lines):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if number < len(lines) - 1:
            sys.stdin.readline()


def find_chore_report(outputs: Iterable[str]) -> ChoreReport | Failure | None:
    """Return the report that the outputs of one command hold, in order; None where there is none or a part lacks."""
    parts: dict[int, str] = {}
    for output in outputs:
        for line in output.splitlines():
            if line.startswith(PART):
                place, _, text = line.removeprefix(PART).partition(" ")
                number, _, count = place.partition("/")
                parts[int(number)] = text
                if int(number) == int(count) and len(parts) == int(count):
                    return _decoded("".join(parts[key] for key in sorted(parts)))
            elif line.startswith(MARKER):
                return _decoded(line.removeprefix(MARKER))
    return None


def few(lines: tuple[str, ...], most: int = _MOST_LINES) -> tuple[str, ...]:
    """Return at most `most` lines, the last saying how many there are beside."""
    return lines if len(lines) <= most else (*lines[: most - 1], f"and {len(lines) - most + 1} more")


def _decoded(text: str) -> ChoreReport | Failure | None:
    try:
        return msgspec.json.decode(text, type=ChoreReport)
    except msgspec.DecodeError:
        pass
    try:
        return msgspec.json.decode(text, type=Failure)
    except msgspec.DecodeError:
        return None
