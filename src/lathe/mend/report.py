"""What the search for a repair found, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Status: TypeAlias = Literal["repaired", "improved", "not_repaired", "already_green"]


class TestCounts(msgspec.Struct, frozen=True):
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.failed} failed, {self.passed} passed{skipped}"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """An edit that was chosen; `before` and `after` are the lines it changed, `line` counts from 1 in the original."""

    file: str
    line: int
    kind: str
    before: str
    after: str
    fixed: tuple[str, ...]


class Alternative(msgspec.Struct, frozen=True):
    """An edit that passed the tests as well as the one chosen at the same time (`instead_of`, an index)."""

    instead_of: int
    file: str
    line: int
    kind: str
    before: str
    after: str


class RepairReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one search.

    `status` is "repaired" (every test passes), "improved" (some more do, none less), "not_repaired" or
    "already_green". `patch` is in the `*** Begin Patch` format with paths relative to the project's folder, `diff`
    the same as a unified diff. `confirmed` says that a fresh `python -m pytest` agreed.
    """

    status: Status
    before: TestCounts
    after: TestCounts
    tried: int
    seconds: float
    changes: tuple[Change, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    failing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    patch: str = ""
    diff: str = ""
    confirmed: bool = False
    python: str = ""
