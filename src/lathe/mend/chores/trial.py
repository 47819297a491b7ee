"""A scratch copy of the project in which a chore is tried, and the tests that judge it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from lathe.mend.chores.commands import finish
from lathe.mend.chores.outcome import ChoreReport, Result
from lathe.mend.patch import render_patch
from lathe.mend.project import command, environment
from lathe.mend.source import SourceFile
from lathe.mend.workspace import Workspace, find_python, scratch_copy
from lathe.protocol.errors import TurnError, UsageError

PATCH_LIMIT = 2 << 20
_NO_TESTS = 5
_NAMES = 6


class Suite(msgspec.Struct, frozen=True):
    """What each test did: passed, failed, error or skipped, by name; `said` holds the first line of each failure."""

    outcomes: dict[str, str]
    said: dict[str, str]

    @property
    def failing(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, outcome in self.outcomes.items() if outcome in ("failed", "error")))

    def worse_than(self, before: Suite) -> list[str]:
        """Return the tests that passed before and do not now, those that are gone included."""
        passed = [name for name, outcome in before.outcomes.items() if outcome == "passed"]
        worse = [name for name in passed if self.outcomes.get(name) not in ("passed", "skipped")]
        known = before.outcomes.keys()
        return sorted(worse + [name for name in self.failing if name not in known])

    def __str__(self) -> str:
        counts = list(self.outcomes.values())
        failed = len(self.failing)
        skipped = f", {counts.count('skipped')} skipped" if "skipped" in counts else ""
        return f"{failed} failed, {counts.count('passed')} passed{skipped}" if counts else "no tests"


class Trial:
    """The copy, as the chore changes it, beside what it was. Paths are relative to the top of the repository."""

    def __init__(self, workspace: Workspace, python: str, seconds: float) -> None:
        self.workspace = workspace
        self.python = python
        self.seconds = seconds
        self.notes: list[str] = []
        self._originals: dict[str, SourceFile | None] = {}
        self._sources: dict[str, SourceFile] = {}

    @property
    def root(self) -> Path:
        return self.workspace.root

    def paths(self) -> list[str]:
        """Return every Python file of the project's folder."""
        found = []
        for folder, folders, files in os.walk(self.workspace.cwd):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            at = Path(folder).relative_to(self.root)
            found += [str(at / name) for name in sorted(files) if name.endswith((".py", ".pyi"))]
        return found

    def read(self, path: str) -> SourceFile | None:
        """Return the file as it is in the copy; None, and a note, for one that is no Python."""
        if path not in self._sources:
            try:
                self._sources[path] = SourceFile.read(self.root, path)
            except (SyntaxError, UnicodeDecodeError, OSError, ValueError) as error:
                note = f"{self.inside(path)} cannot be read and was left alone: {error}"
                self.notes += [note] if note not in self.notes else []
                return None
        return self._sources[path]

    def write(self, path: str, text: str) -> None:
        """Put `text` in place of the file's; a new file is made."""
        target = self.root / path
        if path not in self._originals:
            self._originals[path] = SourceFile.read(self.root, path) if target.exists() else None
        encoding = (self._originals[path] or SourceFile(path, "")).encoding
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode(encoding))
        self._sources.pop(path, None)

    def adopt(self, before: dict[str, str]) -> list[str]:
        """Take note of files that a tool has written, given their texts before; return those it changed."""
        changed = []
        for path, text in before.items():
            source = SourceFile.read(self.root, path)
            if source.text != text:
                self._originals.setdefault(path, SourceFile(path, text, source.encoding))
                self._sources.pop(path, None)
                changed.append(path)
        return changed

    def texts(self) -> dict[str, str]:
        """Return the text of every file that can be read."""
        return {path: source.text for path in self.paths() if (source := self.read(path)) is not None}

    def inside(self, path: str) -> str:
        """Return a path from the project's folder."""
        return os.path.relpath(path, self.workspace.inside)

    def changed(self) -> dict[str, tuple[str | None, str]]:
        """Return each file that differs from what it was, with both texts; None for a file that is new."""
        found: dict[str, tuple[str | None, str]] = {}
        for path, original in sorted(self._originals.items()):
            now = SourceFile.read(self.root, path)
            before = original.text if original is not None else None
            if before != now.text:
                found[path] = (before, now.text)
        return found

    def suite(self, args: Sequence[str] = (), extra: dict[str, str] | None = None) -> Suite:
        """Run the tests in a fresh process; raises `TurnError` when they do not end in time."""
        return run_suite(self.workspace, self.python, args, self.seconds, extra)

    def report(
        self,
        chore: str,
        status: Result,
        summary: str,
        *,
        evidence: Sequence[str] = (),
        left: Sequence[str] = (),
        before: Suite | None = None,
    ) -> ChoreReport:
        """Return the outcome with the patch of what was changed; raises `UsageError` for what no patch can say."""
        changed = self.changed() if status == "done" else {}
        for path, (old, new) in changed.items():
            original = self._originals[path]
            if original is not None and not original.is_utf8 and not (old or "").isascii() and not new.isascii():
                raise UsageError(
                    f"{self.inside(path)} is in {original.encoding}, which a patch cannot hold.",
                    hint="Convert it to UTF-8 first.",
                    code="encoding",
                )
        forth = {self.inside(path): texts for path, texts in changed.items()}
        odd = {self.inside(path) for path, one in self._originals.items() if one is not None and not one.is_utf8}
        back = {path: (new, old) for path, (old, new) in forth.items()}
        patch, undo = write_patch(forth, odd), write_patch(back, odd)
        if len(patch) > PATCH_LIMIT:
            raise UsageError(
                f"That would change {len(forth)} files, too many for one patch.", hint="Name a folder and go in steps."
            )
        tested = before is not None and bool(before.outcomes)
        return ChoreReport(
            chore=chore,
            status=status,
            summary=summary,
            evidence=(*evidence, *self.notes),
            left=tuple(left),
            patch=patch,
            undo=undo,
            failing=before.failing if before is not None else (),
            tested=tested,
        )


@contextlib.contextmanager
def open_trial(path: Path, seconds: float) -> Iterator[Trial]:
    """Copy the project around `path`; what the copy was used for is gone afterwards.

    Without pytest the project still gets a trial, with this interpreter and no tests.
    """
    try:
        python, note = find_python(path), ""
    except UsageError as error:
        python, note = "", f"no tests were run: {error.message}"
    with scratch_copy(path) as workspace:
        trial = Trial(workspace, python, seconds)
        trial.notes += [note] if note else []
        yield trial


def run_suite(
    workspace: Workspace, python: str, args: Sequence[str], seconds: float, extra: dict[str, str] | None = None
) -> Suite:
    """Run the tests of a copy as `python -m pytest ARGS` would; `extra` is added to the environment.

    Raises `TurnError` when they do not end within `seconds`, `UsageError` when pytest cannot begin.
    """
    from xml.etree import ElementTree

    if not python:
        return Suite({}, {})
    junit = workspace.temporary / "junit.xml"
    junit.unlink(missing_ok=True)
    done = finish(
        command(workspace, python, {"mode": "confirm", "args": list(args), "junit": str(junit)}),
        workspace.cwd,
        env={**environment(workspace), **(extra or {})},
        seconds=seconds,
    )
    if done.code is None:
        raise TurnError(
            f"The tests did not end within {seconds:.0f} s, so nothing can be judged by them.",
            hint="Give more time (--time, or `in 5 minutes`), or make the suite faster.",
            code="slow_suite",
        )
    if done.code == _NO_TESTS:
        return Suite({}, {})
    try:
        cases = list(ElementTree.parse(junit).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        raise UsageError(
            f"pytest could not begin: {_last_line(done.out + done.err)}",
            hint="Make `python -m pytest --collect-only` work first.",
            code="collection",
        ) from None
    outcomes: dict[str, str] = {}
    said: dict[str, str] = {}
    for case in cases:
        module, name = case.get("classname") or "", case.get("name") or ""
        test = "::".join(part for part in (module, name) if part)
        outcome = _outcome({child.tag for child in case})
        if outcomes.get(test) not in ("failed", "error"):
            outcomes[test] = outcome
        for child in case:
            if child.tag in ("failure", "error"):
                said.setdefault(test, " ".join((child.get("message") or "").split())[:300])
    return Suite(outcomes, said)


def write_patch(changes: Mapping[str, tuple[str | None, str | None]], ascii_only: Collection[str] = ()) -> str:
    """Return a patch from each first text to the second; None stands for "no such file".

    The files of `ascii_only` are in an encoding that is not the patch's.
    """
    parts = []
    for path, (before, after) in sorted(changes.items(), key=lambda one: one[0]):
        if before is None and after is not None:
            parts.append(f"*** Add File: {path}\n" + "".join(f"+{line}\n" for line in after.splitlines()))
        elif after is None:
            parts.append(f"*** Delete File: {path}\n")
        elif before is not None:
            body = render_patch({path: (before, after)}, ascii_only)
            parts.append(body.removeprefix("*** Begin Patch\n").removesuffix("*** End Patch\n"))
    return "*** Begin Patch\n" + "".join(parts) + "*** End Patch\n" if any(parts) else ""


def some(names: Sequence[str], most: int = _NAMES) -> str:
    """Return a few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def is_test_path(path: str) -> bool:
    """Return whether a file is one of the tests by its name."""
    name = PurePosixPath(path).name
    return name == "conftest.py" or name.startswith("test_") or name.endswith("_test.py")


def _outcome(tags: set[str]) -> str:
    for tag, outcome in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        if tag in tags:
            return outcome
    return "passed"


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
