"""Runs of checks in what an agent did: which commands are tests, builds and linters, and how they came out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from lathe.guard.history import Act, History
from lathe.guard.straying.deeds import Deed

Check: TypeAlias = Literal["tests", "build", "lint"]

_WORDS: dict[Check, re.Pattern[str]] = {
    "tests": re.compile(
        r"^(?:pytest|py\.test|tox|nox|nosetests?|unittest|jest|vitest|mocha|ava|karma"
        r"|cypress|playwright|ctest|bats|rspec"
        r"|phpunit|pest|ginkgo|gotestsum|trial|stestr|behave|cucumber|busted|prove|hypothesis|mutmut|lathe\.mend)$"
    ),
    "build": re.compile(
        r"^(?:make|cmake|ninja|tsc|webpack|vite|rollup|esbuild|meson|bazel|msbuild"
        r"|xcodebuild|gcc|g\+\+|clang|javac|rustc)$"
    ),
    "lint": re.compile(
        r"^(?:ruff|flake8|pylint|mypy|pyright|black|isort|eslint|prettier|stylelint"
        r"|clippy|golangci-lint|rubocop|shellcheck"
        r"|hadolint|ktlint|checkstyle|biome|oxlint|standard|pre-commit)$"
    ),
}
_PACKAGE: dict[str, Check] = {"test": "tests", "t": "tests", "build": "build", "lint": "lint"}
_MAVEN: dict[str, Check] = {"test": "tests", "verify": "tests", "package": "build", "compile": "build"}
_GRADLE: dict[str, Check] = {"test": "tests", "check": "tests", "build": "tests", "assemble": "build"}
_TEST_BUILD: dict[str, Check] = {"test": "tests", "build": "build", "compile": "build"}
_VERBS: dict[str, dict[str, Check]] = {
    **dict.fromkeys(("npm", "yarn", "pnpm", "bun", "deno"), _PACKAGE),
    **dict.fromkeys(("mvn", "mvnw"), _MAVEN),
    **dict.fromkeys(("gradle", "gradlew"), _GRADLE),
    **dict.fromkeys(("dotnet", "mix", "swift", "sbt", "bazel"), _TEST_BUILD),
    "go": {"test": "tests", "build": "build", "vet": "lint"},
    "cargo": {"test": "tests", "nextest": "tests", "build": "build", "check": "build", "clippy": "lint"},
    "rake": {"test": "tests", "spec": "tests"},
    "make": {"test": "tests", "tests": "tests", "check": "tests", "lint": "lint"},
    "just": {"test": "tests", "check": "tests", "lint": "lint"},
}
_SCRIPT = re.compile(
    r"(?:^|[/_.-])(?:run[_-]?)?(tests?|specs?|checks?|verify|ci|lint|build)(?:[_-]\w+)?(?:\.(?:sh|py|js|ts|rb|pl))?$"
)
_BY_SCRIPT: dict[str, Check] = {"lint": "lint", "build": "build"}
_FAILED = re.compile(
    r"\b[1-9]\d* (?:failed|failures?|errors?)\b|\bFAILED\b|^FAIL\b|\bFAIL:"
    r"|Tests:.*\b[1-9]\d* failed|\bnot ok \d|test result: FAILED"
    r"|\bBUILD FAILED\b|\bAssertionError\b|failures=[1-9]|errors=[1-9]|✗|✕|\bError: "
    r"Process completed with exit code [1-9]",
    re.MULTILINE,
)
_OPAQUE_END = re.compile(
    r"\|\|\s*(?:true|:|echo|exit 0)|;\s*(?:true|echo\b[^;]*|exit 0)\s*$|\|\s*(?:tail"
    r"|head|tee|cat|grep|less|sed|awk)\b"
)


class Ran(NamedTuple):
    """One run of checks: of which kind, by which act, and whether it failed; None where that does not show."""

    check: Check
    act: Act
    failed: bool | None


def checks_in(deed: Deed) -> list[Check]:
    """Return the kinds of checks that an act runs."""
    kinds = [_kind(words) for words in deed.runs]
    # a script of the project's own: there is also a program `test`, which tests something else
    own = [_SCRIPT.search(run.words[0]) for run in deed.here if run.words and "/" in run.words[0]]
    kinds += [_BY_SCRIPT.get(found[1], "tests") for found in own if found is not None]
    return list(dict.fromkeys(kind for kind in kinds if kind is not None))


def runs_of(history: History) -> Iterator[Ran]:
    """Yield the runs of checks in a history, the newest first."""
    for act in reversed(history.acts):
        if not act.refused and act.kind == "command":
            for check in reversed(_checks(act.text)):
                yield Ran(check, act, _outcome(act))


def failed_checks(history: History) -> bool:
    """Tell whether the last run of tests in a history failed."""
    last = next((ran for ran in runs_of(history) if ran.check == "tests"), None)
    return last is not None and last.failed is True


@lru_cache(4096)
def _checks(text: str) -> tuple[Check, ...]:
    """Return the kinds of checks that a line of shell runs: of a long thread each line is read once."""
    return tuple(checks_in(Deed(Act(id="", text=text), History()))) if _worth(text) else ()


def _outcome(act: Act) -> bool | None:
    if _FAILED.search(act.output):
        return True
    if act.exit is None:
        return None
    if act.exit:
        return True
    return None if _OPAQUE_END.search(act.text) and not act.output else False


def _worth(text: str) -> bool:
    return bool(
        re.search(
            r"test|spec|check|verify|tox|nox|jest|mocha|rake|ci\b|build|make|lint|ruff|mypy"
            r"|tsc|gcc|compile|mend|clippy|eslint|cargo|go |mvn|gradle|vet|pre-commit|black"
            r"|prettier|bats|prove|pyright|flake8",
            text,
        )
    )


def _kind(words: tuple[str, ...]) -> Check | None:
    name = words[0]
    verbs = [word for word in words[1:] if not word.startswith("-")]
    if name in ("python", "python3") and "-m" in words[:-1]:
        name = words[words.index("-m") + 1]
        verbs = [word for word in words[words.index("-m") + 2 :] if not word.startswith("-")]
    if name in ("npx", "uv", "poetry", "pipenv", "bundle", "hatch", "rye", "pdm", "bunx", "dlx") and verbs:
        inner = verbs[1:] if verbs[0] in ("run", "exec") else verbs
        return _kind(tuple(inner)) if inner else None
    if name in _VERBS:
        for verb in verbs[:3]:
            known = _VERBS[name].items()
            found = next((kind for key, kind in known if verb == key or re.match(rf"{key}[:_-]", verb)), None)
            if found is not None:
                return found
        if name != "make":
            return None
    for check, pattern in _WORDS.items():
        if pattern.match(name):
            return check
    operands = [name, *(verbs[:1] if name in ("bash", "sh", "python", "python3", "node") else [])]
    for operand in operands:
        found_script = _SCRIPT.search(operand)
        if found_script is not None and ("." in operand or operand != name):
            return _BY_SCRIPT.get(found_script[1], "tests")
    return None
