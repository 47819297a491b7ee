"""Judges one SWE-bench run inside the environment: reads what the tests printed, writes the reward.

usage: grade.py SPEC.json OUTPUT.txt FOLDER

This file is put beside the tests as it is, so it needs Python 3.7 and nothing else. The rule is SWE-bench's
(`swebench/harness/grading.py`, 5.0): every test of FAIL_TO_PASS must pass, every one of PASS_TO_PASS must pass or be
skipped, and a run that exits non-zero without one reported failure describes nothing.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
BROKEN = (">>>>> Patch Apply Failed", ">>>>> Reset Failed", ">>>>> Tests Errored", ">>>>> Tests Timed Out")
EXIT = re.compile(r">>>>> Test Exit Code:\s*(-?\d+)")
PASSED, FAILED, ERROR, SKIPPED, XFAIL = "PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL"
STATES = (FAILED, PASSED, SKIPPED, ERROR, XFAIL)


def pytest_words(output: str) -> dict[str, str]:
    """Results of `pytest -rA` by the first word after the state."""
    results = {}
    for line in output.split("\n"):
        if line.startswith(STATES):
            words = (line.replace(" - ", " ") if line.startswith(FAILED) else line).split()
            if len(words) > 1 and not _counts_skips(words[0], words[1]):
                results[words[1]] = words[0]
    return results


def pytest_paths(output: str) -> dict[str, str]:
    """Results of `pytest -rA`, of parameters that are paths the last part only."""
    results = {}
    for name, state in pytest_words(output).items():
        found = re.search(r"(.*?)\[(.*)\]", name)
        if found:
            main, option = found.groups()
            if option.startswith("/") and not option.startswith("//") and "*" not in option:
                option = "/" + option.split("/")[-1]
            name = f"{main}[{option}]"
        results[name] = state
    return results


def pytest_lines(output: str) -> dict[str, str]:
    """Results of newer and of very old pytests: the whole rest of the line, the state before or behind it."""
    results = {}
    for raw in output.split("\n"):
        line = re.sub(r"[\x01-\x1f]", "", re.sub(r"\[(\d+)m", "", raw))
        if line.startswith(STATES):
            words = (line.split(" - ", 1)[0] if line.startswith(FAILED) else line).split()
            if len(words) > 1 and not _counts_skips(words[0], words[1]):
                results[" ".join(words[1:])] = words[0]
        elif line.endswith(STATES):
            words = line.split()
            if len(words) > 1:
                results[" ".join(words[:-1])] = words[-1]
    return results


def matplotlib(output: str) -> dict[str, str]:
    """Results of `pytest -rA` where a mouse button's name depends on the Python version."""
    return pytest_words(output.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def seaborn(output: str) -> dict[str, str]:
    """Results of `pytest`, the state before the name or behind it."""
    results = {}
    for line in output.split("\n"):
        words = line.split()
        if len(words) < 2:
            continue
        if line.startswith(FAILED):
            results[words[1]] = FAILED
        elif " PASSED " in line:
            if words[1] == PASSED:
                results[words[0]] = PASSED
        elif line.startswith(PASSED):
            results[words[1]] = PASSED
    return results


def unittest(output: str) -> dict[str, str]:
    """Results of unittest and Django's runner, verbose: `test_name (module.Class) ... ok`."""
    results = {}
    before = None
    for raw in output.split("\n"):
        line = raw.strip()
        if "--version is equivalent to version" in line:
            results["--version is equivalent to version"] = PASSED
        if " ... " in line:
            before = line.split(" ... ")[0]
        for suffix in (" ... ok", " ... OK", " ...  OK"):
            if line.endswith(suffix):
                # Output of a migration on the same line (django__django-7188).
                if line.startswith("Applying sites.0002_alter_domain_unique...test_no_migrations"):
                    line = line.split("...", 1)[-1].strip()
                results[line.rsplit(suffix, 1)[0]] = PASSED
                break
        for mark, state in ((" ... skipped", SKIPPED), (" ... FAIL", FAILED), (" ... ERROR", ERROR)):
            if line.endswith(mark) or (state == SKIPPED and mark in line):
                results[line.split(mark)[0]] = state
        for mark, state in (("FAIL:", FAILED), ("ERROR:", ERROR)):
            if line.startswith(mark) and len(line.split()) > 1:
                results[line.split()[1]] = state
        if line.startswith("ok") and before is not None:
            results[before] = PASSED  # what the test printed stood between
    return results


def sympy(output: str) -> dict[str, str]:
    """Results of `bin/test -C --verbose`."""
    results = {}
    for _, path, name, _ in re.findall(r"(_*) (.*)\.py:(.*) (_*)", output):
        results[f"{path}.py:{name}"] = FAILED
    for raw in output.split("\n"):
        line = raw.strip()
        for mark, state in ((" E", ERROR), (" F", FAILED), (" ok", PASSED)):
            if line.startswith("test_") and line.endswith(mark):
                results[line.split()[0]] = state
    return results


def _counts_skips(state: str, word: str) -> bool:
    return state == SKIPPED and re.fullmatch(r"\[\d+\]", word) is not None


PARSERS: dict[str, Callable[[str], dict[str, str]]] = {
    "pytest": pytest_words,
    "pytest_options": pytest_paths,
    "pytest_v2": pytest_lines,
    "matplotlib": matplotlib,
    "seaborn": seaborn,
    "unittest": unittest,
    "django": unittest,
    "sympy": sympy,
}


def results_of(output: str, parser: str) -> dict[str, str] | None:
    """Return what became of each test; None where the output describes no run of the tests."""
    if any(mark in output for mark in BROKEN) or START not in output or END not in output:
        return None
    parse = PARSERS[parser]
    results = parse(output.split(START, 1)[1].split(END, 1)[0]) or parse(output)
    code = EXIT.search(output)
    failed = any(state in (FAILED, ERROR) for state in results.values())
    if not results or (code is not None and code.group(1) != "0" and not failed):
        return None
    return results


def state_of(test: str, results: dict[str, str]) -> str | None:
    """Return a test's state. Some names of SWE-bench Verified are cut off in their parameters; those match a prefix."""
    if test in results or test.count("[") <= test.count("]"):
        return results.get(test)
    states = {state for name, state in results.items() if name.startswith(test)}
    return states.pop() if len({state in (PASSED, XFAIL) for state in states}) == 1 else None


def unresolved(results: dict[str, str], fail_to_pass: list[str], pass_to_pass: list[str]) -> list[str]:
    """Return the tests that keep the instance from being resolved, each with its state."""
    wrong = []
    for tests, good in ((fail_to_pass, (PASSED, XFAIL)), (pass_to_pass, (PASSED, XFAIL, SKIPPED))):
        for test in tests:
            state = state_of(test, results)
            if state not in good:
                wrong.append(f"{test}: {state or 'not run'}")
    return wrong


def main() -> int:
    """Write `reward.txt` and `report.json` to the folder; return 0."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    output = Path(sys.argv[2]).read_text(encoding="utf-8", errors="replace")
    folder = Path(sys.argv[3])
    results = results_of(output, spec["parser"])
    wrong = unresolved(results or {}, spec["FAIL_TO_PASS"], spec["PASS_TO_PASS"])
    resolved = results is not None and not wrong
    report = {"resolved": resolved, "ran": results is not None, "unresolved": wrong}
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (folder / "reward.txt").write_text("1\n" if resolved else "0\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
