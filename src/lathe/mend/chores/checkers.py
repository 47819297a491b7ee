"""What mypy or pyright finds in a copy of the project."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lathe.mend.chores.commands import find_program, finish
from lathe.mend.chores.trial import Trial
from lathe.protocol.errors import UsageError

_MYPY = ["--no-error-summary", "--no-pretty", "--no-color-output", "--hide-error-context", "--show-error-codes"]
_LINE = re.compile(r"(?P<file>[^\n:]+):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<kind>error|note): (?P<text>.*)")
_CODE = re.compile(r"(.*?)\s+\[([\w-]+)\]$")
_CONFIGS = {"mypy": ("mypy.ini", ".mypy.ini"), "pyright": ("pyrightconfig.json",)}


class Finding(msgspec.Struct, frozen=True):
    """An error of a type checker; `file` is relative to the project's folder, `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    code: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same when lines move."""
        return self.file, self.code, self.text


class Checker:
    """A type checker as the project uses it. Raises `UsageError` where there is none."""

    def __init__(self, trial: Trial) -> None:
        here = trial.workspace.original / trial.workspace.inside
        self._trial = trial
        wanted = sorted(_CONFIGS, key=lambda name: not _is_configured(trial.workspace.cwd, name))
        found = {name: find_program(name, here, trial.python) for name in wanted}
        self.name = next((name for name in wanted if found[name]), "")
        self._program = found.get(self.name, "")
        if not self.name:
            raise UsageError(
                "Neither mypy nor pyright is installed in this project's environment, or on PATH.",
                hint="Install one, for example with `pip install mypy`, and ask again.",
                code="no_type_checker",
            )

    def findings(self) -> list[Finding]:
        """Return the errors in the copy as it is; raises `UsageError` where the checker cannot run."""
        return self._mypy() if self.name == "mypy" else self._pyright()

    def _mypy(self) -> list[Finding]:
        trial = self._trial
        cache = str(trial.workspace.temporary / "mypy")
        command = [self._program, *_MYPY, "--show-column-numbers", "--cache-dir", cache]
        if trial.python:
            command += ["--python-executable", trial.python]
        if not _names_files(trial.workspace.cwd):
            command.append(".")
        done = finish(command, trial.workspace.cwd, seconds=trial.seconds)
        found = []
        for line in done.out.splitlines():
            match = _LINE.fullmatch(line)
            if match and match["kind"] == "error":
                with_code = _CODE.fullmatch(match["text"])
                text, code = with_code.groups() if with_code else (match["text"], "")
                found.append(Finding(match["file"], int(match["line"]), int(match["column"] or 1), code, text))
        if done.code not in (0, 1) and not (found and done.code == 2):
            raise _failed("mypy", done.err or done.out)
        if any(one.code == "syntax" for one in found):
            raise _failed("mypy", f"{found[0].file}:{found[0].line}: {found[0].text}")
        return found

    def _pyright(self) -> list[Finding]:
        trial = self._trial
        python = ["--pythonpath", trial.python] if trial.python else []
        done = finish([self._program, "--outputjson", *python], trial.workspace.cwd, seconds=trial.seconds)
        try:
            report: dict[str, Any] = msgspec.json.decode(done.out)
        except msgspec.DecodeError:
            raise _failed("pyright", done.err or done.out) from None
        found = []
        for one in report.get("generalDiagnostics", ()):
            if one.get("severity") == "error":
                start = one["range"]["start"]
                file = Path(one["file"])
                name = str(file.relative_to(trial.workspace.cwd)) if file.is_relative_to(trial.workspace.cwd) else ""
                text = one["message"].partition("\n")[0]
                found.append(Finding(name, start["line"] + 1, start["character"] + 1, one.get("rule", ""), text))
        return found


def counted(findings: Sequence[Finding]) -> Counter[tuple[str, str, str]]:
    """Return how often each finding occurs, whatever its line."""
    return Counter(one.key for one in findings)


def _failed(name: str, said: str) -> UsageError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return UsageError(
        f"{name} could not check the project: {lines[-1] if lines else 'it said nothing'}",
        hint=f"Make `{name}` work by hand first.",
        code="type_checker_failed",
    )


def _is_configured(folder: Path, name: str) -> bool:
    if any((folder / file).exists() for file in _CONFIGS[name]):
        return True
    return bool(_table(folder, name)) or f"[{name}]" in _text(folder / "setup.cfg")


def _names_files(folder: Path) -> bool:
    """Return whether mypy's configuration says what to check."""
    table = _table(folder, "mypy")
    if any(key in table for key in ("files", "packages", "modules")):
        return True
    ini = "".join(_text(folder / name) for name in ("mypy.ini", ".mypy.ini", "setup.cfg"))
    return bool(re.search(r"\[mypy\][^\[]*^\s*(?:files|packages|modules)\s*=", ini, re.MULTILINE | re.DOTALL))


def _table(folder: Path, name: str) -> dict[str, Any]:
    import tomllib

    try:
        table: dict[str, Any] = tomllib.loads(_text(folder / "pyproject.toml")).get("tool", {}).get(name, {})
    except tomllib.TOMLDecodeError:
        return {}
    return table


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
