"""Clearing lint findings, layout and imports with the project's own ruff and its own configuration."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.mend.chores.commands import Finished, find_program, finish
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Suite, Trial, open_trial, some
from lathe.protocol.errors import UsageError

Task: TypeAlias = Literal["lint", "format", "imports", "unused-imports"]
TASKS: tuple[Task, ...] = ("lint", "format", "imports", "unused-imports")
_SELECT: dict[Task, list[str]] = {"lint": [], "imports": ["--select", "I"], "unused-imports": ["--select", "F401"]}
_MOST_RULES = 24


class _Spot(msgspec.Struct, frozen=True):
    row: int


class _Finding(msgspec.Struct, frozen=True):
    """A finding as ruff prints it in JSON."""

    filename: str
    message: str
    location: _Spot | None = None
    code: str | None = None


def lint(path: Path, task: Task, seconds: float) -> ChoreReport:
    """Return the outcome of `task` in the project at `path`, whose files are not touched.

    Raises `UsageError` where there is no ruff, or it refuses its configuration.
    """
    with open_trial(path, seconds) as trial:
        here = trial.workspace.original / trial.workspace.inside
        ruff = find_program("ruff", here, trial.python)
        if not ruff:
            raise UsageError(
                "ruff is not installed in this project's environment, nor anywhere on PATH.",
                hint="Install it with `pip install ruff` and ask again.",
                code="no_ruff",
            )
        return _Lint(trial, ruff, task).run()


class _Lint:
    def __init__(self, trial: Trial, ruff: str, task: Task) -> None:
        self._trial = trial
        self._ruff = ruff
        self._task = task

    def run(self) -> ChoreReport:
        trial = self._trial
        texts = trial.texts()
        findings = self._check() if self._task != "format" else []
        self._change()
        changed = trial.adopt(texts)
        if not changed:
            return self._nothing(findings)
        if self._task == "format" and self._same_programs(changed, texts):
            before = after = Suite({}, {})
        else:
            now = {path: source.text for path in changed if (source := trial.read(path)) is not None}
            self._put(texts)
            before = trial.suite()
            self._put(now)
            after = trial.suite() if before.outcomes else before
        rejected: list[str] = []
        if after.worse_than(before):
            rejected = self._rule_by_rule(findings, texts, before)
            after = trial.suite()
            if not trial.changed():
                summary = "What ruff can fix would break tests that pass now, so nothing was kept."
                return trial.report("lint", "rejected", summary, left=rejected, before=before)
        return self._done(findings, before, after, rejected)

    def _done(self, findings: list[_Finding], before: Suite, after: Suite, rejected: list[str]) -> ChoreReport:
        trial = self._trial
        files = list(trial.changed())
        if self._task == "format":
            evidence = [f"{len(files)} files: {some([trial.inside(path) for path in files])}"]
            evidence.append("the syntax trees are the same as before: only layout has changed")
            summary = f"ruff format has laid out {len(files)} file{'s' if len(files) > 1 else ''}."
            return trial.report("lint", "done", summary, evidence=evidence)
        remaining = self._check()
        fixed = _counts(findings) - _counts(remaining)
        summary = f"{len(findings) - len(remaining)} of {len(findings)} findings of ruff are cleared."
        evidence = [f"{code}: {count} cleared" for code, count in fixed.most_common()]
        tests = f"tests before: {before}; after: {after}" if before.outcomes else "there are no tests to judge it"
        left = [*rejected, *self._lines(remaining)]
        return trial.report("lint", "done", summary, evidence=[*evidence, tests], left=left, before=before)

    def _nothing(self, findings: list[_Finding]) -> ChoreReport:
        if not findings:
            said = {"format": "The code is laid out as ruff format would.", "imports": "The imports are sorted."}
            summary = said.get(self._task, "ruff finds nothing to clear.")
            return self._trial.report("lint", "nothing", summary)
        count = len(findings)
        summary = f"ruff can fix none of its {count} finding{'s' if count > 1 else ''} by itself."
        return self._trial.report("lint", "rejected", summary, left=self._lines(findings))

    def _rule_by_rule(self, findings: list[_Finding], texts: dict[str, str], before: Suite) -> list[str]:
        """Fix one rule after the other, and keep what breaks nothing; return a line for each that does not."""
        trial = self._trial
        lines = []
        self._put(texts)
        kept = texts
        codes = [code for code, _ in _counts(findings).most_common(_MOST_RULES)]
        for code in codes:
            self._run("check", "--fix", "--exit-zero", "--quiet", "--select", code)
            if not trial.adopt(kept):
                continue
            worse = trial.suite().worse_than(before)
            if worse:
                lines.append(f"{code} was left, because fixing it breaks {some(worse, 3)}")
                self._put(kept)
            else:
                kept = trial.texts()
        return lines

    def _put(self, texts: dict[str, str]) -> None:
        for path, text in texts.items():
            self._trial.write(path, text)

    def _change(self) -> None:
        if self._task == "format":
            self._run("format", *self._layout())
        else:
            self._run("check", "--fix", "--exit-zero", "--quiet", *_SELECT[self._task])

    def _check(self) -> list[_Finding]:
        done = self._run("check", "--exit-zero", "--output-format", "json", *_SELECT.get(self._task, []))
        return msgspec.json.decode(done.out, type=list[_Finding])

    def _run(self, command: str, *arguments: str) -> Finished:
        cwd = self._trial.workspace.cwd
        done = finish([self._ruff, command, "--no-cache", *arguments, "."], cwd, seconds=self._trial.seconds)
        if done.code is None or (done.code != 0 and command == "check") or done.code not in (0, 1, 2):
            said = next((line.strip() for line in done.err.splitlines() if line.strip()), "it said nothing")
            raise UsageError(
                f"ruff {command} could not run: {said}", hint="Make it work by hand first.", code="ruff_failed"
            )
        return done

    def _layout(self) -> list[str]:
        """Return the line length that black is told, for a project that configures black and not ruff."""
        import tomllib

        for folder in (self._trial.workspace.cwd, self._trial.root):
            if (folder / "ruff.toml").exists() or (folder / ".ruff.toml").exists():
                return []
            file = folder / "pyproject.toml"
            if file.is_file():
                try:
                    tools = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
                except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                    return []
                length = tools.get("black", {}).get("line-length")
                return ["--line-length", str(length)] if length and "ruff" not in tools else []
        return []

    def _same_programs(self, changed: Sequence[str], texts: dict[str, str]) -> bool:
        for path in changed:
            source = self._trial.read(path)
            if source is None or ast.dump(source.tree) != ast.dump(ast.parse(texts[path])):
                return False
        return True

    def _lines(self, findings: Sequence[_Finding]) -> list[str]:
        lines = []
        for one in findings:
            file = Path(one.filename)
            name = str(file.relative_to(self._trial.workspace.cwd)) if file.is_absolute() else one.filename
            at = f":{one.location.row}" if one.location else ""
            lines.append(f"{name}{at}: {one.code or 'syntax'} {one.message}")
        return lines


def _counts(findings: Sequence[_Finding]) -> Counter[str]:
    return Counter(one.code or "syntax" for one in findings)
