"""Where failing tests point to: what they say, where they ended, and the statements that only they run.

This is evidence, not an explanation: mend has no words for what the code was meant to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import is_test_path
from lathe.mend.localise import Spectrum
from lathe.mend.project import Project, TestRun
from lathe.mend.source import SourceFile
from lathe.mend.workspace import Workspace, find_python, scratch_copy

_FRAMES = 4
_LINES = 8
_TESTS = 5


def why(path: Path, tests: Sequence[str], seconds: float) -> ChoreReport:
    """Return where the failing ones of `tests` (arguments for pytest; none: all) of the project at `path` point to.

    Raises `UsageError` for what cannot be run, `TurnError` where the project's process ends by itself.
    """
    python = find_python(path)
    with scratch_copy(path) as workspace:
        with Project(workspace, python, [], jobs=1) as project:
            deadline = time.monotonic() + seconds
            project.collect(timeout=seconds)
            runs = project.baseline(min(5.0, seconds), deadline)
        return _report(workspace, runs, tests)


def _report(workspace: Workspace, runs: Sequence[TestRun], tests: Sequence[str]) -> ChoreReport:
    asked = [run for run in runs if run.is_failure and (not tests or any(_is_named(run.name, test) for test in tests))]
    if not asked:
        named = f" of {', '.join(tests)}" if tests else ""
        return ChoreReport("why", "nothing", f"No test{named} fails here, so there is nothing to explain.")
    evidence = []
    for run in asked[:_TESTS]:
        evidence.append(f"{run.name}: {run.error.partition(chr(10))[0] or run.outcome}")
        evidence += [f"  at {file}:{line}: {_line(workspace, file, line)}" for file, line in run.frames[-_FRAMES:]]
    chosen = [run for run in runs if not run.is_failure or run in asked]
    files = {file for run in chosen for file in run.lines if not is_test_path(file)}
    spectrum = Spectrum(chosen, files)
    ranked = sorted(spectrum.suspicion.items(), key=lambda one: (-one[1], one[0]))
    if ranked:
        evidence.append(
            "Lines that failing tests run and passing ones do not, the most suspicious first (Ochiai, 0 to 1):"
        )
    for (file, line), score in ranked[:_LINES]:
        evidence.append(f"  {score:.2f} {file}:{line}: {_line(workspace, file, line)}")
    count = len(asked)
    summary = (
        f"{count} failing test{'s' if count > 1 else ''} looked at. This is where they point to, not an explanation."
    )
    return ChoreReport("why", "done", summary, evidence=tuple(evidence))


def _is_named(name: str, words: str) -> bool:
    plain = name.partition("[")[0]
    return words in (name, plain) or plain.endswith(f"::{words}") or plain.partition("::")[0].endswith(words)


def _line(workspace: Workspace, file: str, line: int) -> str:
    try:
        source = SourceFile.read(workspace.root, file)
    except (SyntaxError, UnicodeDecodeError, OSError):
        return ""
    return source.lines[line - 1].strip() if 0 < line <= len(source.lines) else ""
