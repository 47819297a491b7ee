"""Clearing the findings of a type checker that have one sensible answer, each kept only if it is really gone."""

from __future__ import annotations

import ast
import time
from collections.abc import Sequence
from pathlib import Path

from lathe.mend.chores.annotations import Fix, fix_for
from lathe.mend.chores.checkers import Checker, Finding, counted
from lathe.mend.chores.deprecated import project_python
from lathe.mend.chores.imports import add_import
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Trial, open_trial
from lathe.protocol.errors import UsageError

_ROUNDS = 5


def fix_types(path: Path, seconds: float) -> ChoreReport:
    """Return the outcome for the project at `path`, whose files are not touched.

    Raises `UsageError` where there is no type checker or it cannot run.
    """
    with open_trial(path, seconds) as trial:
        return _Types(trial).run()


class _Types:
    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._checker = Checker(trial)
        self._python = project_python(trial)
        self._deadline = time.monotonic() + trial.seconds
        self._runs = 0

    def run(self) -> ChoreReport:
        trial, name = self._trial, self._checker.name
        first = now = self._findings()
        if not first:
            return trial.report("types", "nothing", f"{name} finds nothing.")
        before = trial.suite()
        accepted: list[Fix] = []
        refused: set[tuple[str, str, str]] = set()
        for _ in range(_ROUNDS):
            fixes = [fix for one in now if one.key not in refused and (fix := self._fix(one)) is not None]
            taken, now = self._accept(_apart(fixes), now)
            accepted += taken
            refused |= {fix.finding.key for fix in fixes if fix not in taken}
            if not taken or not now or time.monotonic() > self._deadline:
                break
        left = [f"{one.file}:{one.line}: {one.text} [{one.code}]" for one in now]
        if not accepted:
            summary = f"None of the {len(first)} findings of {name} has one answer that can be given by rule."
            return trial.report("types", "rejected", summary, left=left, before=before)
        after = trial.suite() if before.outcomes else before
        if worse := after.worse_than(before):
            left = [f"{test}: {after.said.get(test, 'no longer runs')}" for test in worse]
            summary = f"The annotations would break {len(worse)} tests that pass now, so nothing was kept."
            return trial.report("types", "rejected", summary, left=left, before=before)
        evidence = [f"{fix.finding.file}:{fix.finding.line}: {fix.finding.text}" for fix in accepted]
        evidence.append(
            f"{name} ran {self._runs} times: each fix is kept because its finding is gone and no new one came"
        )
        evidence.append(
            f"tests before: {before}; after: {after}" if before.outcomes else "there are no tests to judge it"
        )
        summary = f"{len(first) - len(now)} of {len(first)} findings of {name} are cleared."
        return trial.report("types", "done", summary, evidence=evidence, left=left, before=before)

    def _findings(self) -> list[Finding]:
        self._runs += 1
        return self._checker.findings()

    def _fix(self, finding: Finding) -> Fix | None:
        path = str(self._trial.workspace.inside / finding.file)
        source = self._trial.read(path) if finding.file.endswith((".py", ".pyi")) else None
        return fix_for(finding, source, self._python) if source is not None else None

    def _accept(self, fixes: Sequence[Fix], now: list[Finding]) -> tuple[list[Fix], list[Finding]]:
        """Apply as many of `fixes` as hold, halving a group that does not; return those, and what is found then."""
        original = {fix.path: self._text(fix.path) for fix in fixes}
        taken: list[Fix] = []
        found = now
        waiting = [list(fixes)] if fixes else []
        while waiting and time.monotonic() < self._deadline:
            group = waiting.pop(0)
            after = self._findings_with(original, [*taken, *group])
            if after is not None and _holds(group, found, after):
                taken += group
                found = after
            elif len(group) > 1:
                half = len(group) // 2
                waiting = [group[:half], group[half:], *waiting]
        self._put(original, taken)
        return taken, found

    def _findings_with(self, original: dict[str, str], fixes: Sequence[Fix]) -> list[Finding] | None:
        """Return what is found with these fixes; None where they make no program."""
        try:
            self._put(original, fixes)
            return self._findings()
        except (SyntaxError, UsageError):
            return None

    def _put(self, original: dict[str, str], fixes: Sequence[Fix]) -> None:
        for path, text in original.items():
            own = [fix for fix in fixes if fix.path == path]
            for start, end, new in sorted((edit for fix in own for edit in fix.edits), reverse=True):
                text = text[:start] + new + text[end:]
            for module, name in sorted({need for fix in own for need in fix.imports}):
                text = add_import(text, module, name)
            ast.parse(text)
            self._trial.write(path, text)

    def _text(self, path: str) -> str:
        source = self._trial.read(path)
        return source.text if source is not None else ""


def _apart(fixes: Sequence[Fix]) -> list[Fix]:
    """Return the fixes without those that write where another one does."""
    found: list[Fix] = []
    taken: set[tuple[str, str]] = set()
    for fix in fixes:
        places = [str(start) for start, _, _ in fix.edits] or [f"{module}:{name}" for module, name in fix.imports]
        spots = {(fix.path, place) for place in places}
        if not spots & taken:
            found.append(fix)
            taken |= spots
    return found


def _holds(group: Sequence[Fix], before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Return whether every finding of the group is gone and no other has come."""
    old, new = counted(before), counted(after)
    return not new - old and all(new[fix.finding.key] < old[fix.finding.key] for fix in group)
