"""What the search for a repair found, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lathe.protocol.errors import LatheError

Status: TypeAlias = Literal["repaired", "improved", "not_repaired", "already_green"]


class TestCounts(msgspec.Struct, frozen=True):
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.failed} failed, {self.passed} passed{skipped}"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """An edit that was chosen; `before` and `after` are the lines it changed, `line` counts from 1 in the original.

    `why` says what put it before the others that the tests allow.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str
    fixed: tuple[str, ...]
    why: str = ""


class Alternative(msgspec.Struct, frozen=True):
    """An edit that passed the tests as well as the one chosen at the same time (`instead_of`, an index)."""

    instead_of: int
    file: str
    line: int
    kind: str
    before: str
    after: str


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call by which the edit chosen (`about`, an index) and another that passes the tests differ.

    `chosen` and `other` say what it comes to; `test` is ready to be put into the suite: it holds for the edit chosen
    or, with `test_for_other`, for the other, and decides between them. It is "" where the call cannot be written down.
    """

    about: int
    call: str
    other_after: str
    chosen: str
    other: str
    test: str = ""
    test_for_other: bool = False


class RepairReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one search.

    `status` is "repaired" (every test passes), "improved" (some more do, none less), "not_repaired" or
    "already_green". `patch` is in the `*** Begin Patch` format with paths relative to the project's folder, `diff`
    the same as a unified diff. `confirmed` says that a fresh `python -m pytest` agreed. `seconds` is all of it,
    `search_seconds` without starting pytest and without the confirmation, `trial_seconds` the trials of candidates,
    `first_seconds` what of the search was over when the first repair was there.
    """

    status: Status
    before: TestCounts
    after: TestCounts
    tried: int
    seconds: float
    changes: tuple[Change, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    questions: tuple[Question, ...] = ()
    failing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    patch: str = ""
    diff: str = ""
    confirmed: bool = False
    python: str = ""
    search_seconds: float = 0.0
    trial_seconds: float = 0.0
    first_seconds: float = 0.0


class Failure(msgspec.Struct, frozen=True):
    """Why there was no search: the error's code, sentence and hint."""

    code: str
    message: str
    hint: str = ""


MARKER = "lathe-mend-report: "
_MAX_NAMES = 12


def report_line(result: RepairReport | LatheError) -> str:
    """Return the result as one line behind `MARKER`, short enough that no tool cuts it: long lists are shortened."""
    if isinstance(result, LatheError):
        return MARKER + msgspec.json.encode(Failure(result.code, result.message, result.hint)).decode()
    changes = tuple(msgspec.structs.replace(change, fixed=_few(change.fixed)) for change in result.changes)
    short = msgspec.structs.replace(
        result,
        changes=changes,
        diff="",
        failing=_few(result.failing),
        alternatives=result.alternatives[:_MAX_NAMES],
        questions=result.questions[: _MAX_NAMES // 2],
    )
    return MARKER + msgspec.json.encode(short).decode()


def find_report(output: str) -> RepairReport | Failure | None:
    """Return the result that the last marked line of a command's output holds; None where there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith(MARKER):
            text = line.removeprefix(MARKER)
            try:
                return msgspec.json.decode(text, type=RepairReport)
            except msgspec.DecodeError:
                pass
            try:
                return msgspec.json.decode(text, type=Failure)
            except msgspec.DecodeError:
                return None
    return None


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names[:_MAX_NAMES], f"and {len(names) - _MAX_NAMES} more") if len(names) > _MAX_NAMES else names
