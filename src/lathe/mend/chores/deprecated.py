"""Putting the successors of deprecated names in their place, rule by rule, as far as the tests agree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lathe.mend.chores import warnings_plugin
from lathe.mend.chores.codemods import Rule, chosen, least_python, load_rules, rewrite, version
from lathe.mend.chores.commands import finish
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Suite, Trial, open_trial, some
from lathe.protocol.errors import UsageError

_SETTINGS = ["-o", "filterwarnings=default", "-W", "default"]


class Warned(msgspec.Struct, frozen=True):
    """A deprecation that the tests met; `file` is relative to the top where it is the project's, else absolute."""

    kind: str
    text: str
    file: str
    line: int


def upgrade(path: Path, words: Sequence[str], seconds: float) -> ChoreReport:
    """Return the outcome of replacing deprecated names in the project at `path`, whose files are not touched.

    `words` narrow the rules to those that name one of them. Raises `UsageError` where no rule does.
    """
    rules = chosen(load_rules(), words)
    if not rules:
        known = sorted(rule.id for rule in load_rules())
        raise UsageError(
            f"No rule is known for {some(list(words))}.",
            hint=f"Rules: {', '.join(known)}.",
            code="no_rule",
        )
    with open_trial(path, seconds) as trial:
        return _Upgrade(trial, rules, bool(words)).run()


class _Upgrade:
    def __init__(self, trial: Trial, rules: Sequence[Rule], narrowed: bool) -> None:
        self._trial = trial
        self._python = project_python(trial)
        self._rules = [rule for rule in rules if self._is_open(rule)]
        self._narrowed = narrowed

    def run(self) -> ChoreReport:
        trial = self._trial
        before, warned = self._judge()
        original = trial.texts()
        kept: list[Rule] = []
        rejected: list[tuple[Rule, list[str]]] = []
        wanted = [rule for rule in self._rules if self._apply([rule], original) != original]
        texts = self._apply(wanted, original)
        self._write(texts)
        after, still = self._judge() if texts != original else (before, warned)
        if after.worse_than(before):
            kept, rejected, after, still = self._one_by_one(wanted, original, before, warned)
        else:
            kept = wanted
        left = [f"{rule.id} was left as it is, because it breaks {some(tests, 3)}" for rule, tests in rejected]
        if not self._narrowed:
            left += self._lines(still)
        if not kept:
            return self._nothing(left, before, bool(rejected))
        evidence = self._evidence(kept, original)
        if warned:
            own, rest = len(_places(self._own(warned))), len(_places(self._own(still)))
            evidence.append(f"places of the project that warn while the tests run: {own} before, {rest} after")
        tests = f"tests before: {before}; after: {after}" if before.outcomes else "there are no tests to judge it"
        summary = (
            f"{len(kept)} deprecated {'name has its successor' if len(kept) == 1 else 'names have successors'} now."
        )
        evidence.append(tests)
        return trial.report("upgrade", "done", summary, evidence=evidence, left=left, before=before)

    def _nothing(self, left: list[str], before: Suite, rejected: bool) -> ChoreReport:
        if rejected:
            summary = "What is deprecated here cannot be replaced without breaking a test, so nothing was kept."
            return self._trial.report("upgrade", "rejected", summary, left=left, before=before)
        summary = "Nothing is deprecated here that a rule is known for."
        return self._trial.report("upgrade", "nothing", summary, left=left, before=before)

    def _one_by_one(
        self, wanted: Sequence[Rule], original: dict[str, str], before: Suite, warned: list[Warned]
    ) -> tuple[list[Rule], list[tuple[Rule, list[str]]], Suite, list[Warned]]:
        kept: list[Rule] = []
        rejected: list[tuple[Rule, list[str]]] = []
        suite, still = before, warned
        for rule in wanted:
            self._write(self._apply([*kept, rule], original))
            after, left = self._judge()
            worse = after.worse_than(before)
            if worse:
                rejected.append((rule, worse))
            else:
                kept.append(rule)
                suite, still = after, left
        self._write(self._apply(kept, original))
        return kept, rejected, suite, still

    def _is_open(self, rule: Rule) -> bool:
        if version(rule.python) > self._python:
            return False
        return not rule.needs or _has_module(self._trial, rule.needs)

    def _apply(self, rules: Sequence[Rule], texts: dict[str, str]) -> dict[str, str]:
        changed = dict(texts)
        for path, text in texts.items():
            for rule in rules:
                text = rewrite(text, rule)
            changed[path] = text
        return changed

    def _write(self, texts: dict[str, str]) -> None:
        now = self._trial.texts()
        for path, text in texts.items():
            if now.get(path) != text:
                self._trial.write(path, text)

    def _judge(self) -> tuple[Suite, list[Warned]]:
        """Run the tests with every deprecation shown."""
        trial = self._trial
        folder = trial.workspace.temporary / "plugins"
        folder.mkdir(exist_ok=True)
        name = "lathe_mend_warnings"
        shutil.copyfile(warnings_plugin.__file__, folder / f"{name}.py")
        output = trial.workspace.temporary / "warnings.json"
        output.unlink(missing_ok=True)
        search = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        suite = trial.suite([*_SETTINGS, "-p", name], {"PYTHONPATH": search, warnings_plugin.OUTPUT: str(output)})
        if not output.exists():
            return suite, []
        top = f"{trial.root}{os.sep}"
        found = msgspec.json.decode(output.read_bytes(), type=list[Warned])
        return suite, [msgspec.structs.replace(one, file=one.file.removeprefix(top)) for one in found]

    def _evidence(self, kept: Sequence[Rule], original: dict[str, str]) -> list[str]:
        lines = []
        for rule in kept:
            files = [path for path, text in original.items() if rewrite(text, rule) != text]
            names = [self._trial.inside(path) for path in files]
            lines.append(f"{rule.id} ({rule.since}): {some(names)}")
        return lines

    def _own(self, warned: Sequence[Warned]) -> list[Warned]:
        return [one for one in warned if not Path(one.file).is_absolute()]

    def _lines(self, warned: Sequence[Warned]) -> list[str]:
        """Return the warnings that remain, the project's own places first and each once."""
        found: dict[str, None] = {}
        for one in self._own(warned):
            found[f"{self._trial.inside(one.file)}:{one.line}: {one.text.partition(chr(10))[0][:200]}"] = None
        others = {one.text for one in warned} - {one.text for one in self._own(warned)}
        if others:
            found[f"{len(others)} more inside installed packages"] = None
        return list(found)


def _places(warned: Sequence[Warned]) -> set[tuple[str, int, str]]:
    return {(one.file, one.line, one.text) for one in warned}


def project_python(trial: Trial) -> tuple[int, int]:
    """Return the oldest Python that the project says it runs on; where it does not say, the one it runs on here."""
    import tomllib

    for folder in (trial.workspace.cwd, trial.root):
        file = folder / "pyproject.toml"
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue
            project, poetry = table.get("project", {}), table.get("tool", {}).get("poetry", {})
            said = project.get("requires-python") or poetry.get("dependencies", {}).get("python")
            if isinstance(said, str):
                return least_python(said.replace("^", ">="))
        setup = folder / "setup.cfg"
        if setup.is_file():
            for line in setup.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.replace(" ", "").startswith("python_requires="):
                    return least_python(line.partition("=")[2])
    if not trial.python:
        return (3, 8)
    done = finish([trial.python, "-c", "import sys; print(*sys.version_info[:2])"], trial.root, seconds=20)
    major, minor = map(int, done.out.split())
    return (major, minor)


def _has_module(trial: Trial, name: str) -> bool:
    if not trial.python:
        return False
    question = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return finish([trial.python, "-c", question], trial.root, seconds=20).code == 0
