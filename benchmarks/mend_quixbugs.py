"""Repairs of the 40 QuixBugs programs in Python: how many, how fast, how right.

usage: mend_quixbugs.py [--check] [--json] [--suite CLONE] [--only NAME ...] [--seconds S] [--jobs N]

Each buggy program stands alone with the suite's own pytest tests, as given. `mend` runs in this process (its children
run the tests); importing it is counted apart. A repair is right when it cannot be told from the suite's correct version
with generated inputs (`differential.py`). Without --suite the suite is cloned into `.bench/`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from measuring import median, table

HERE = Path(__file__).parent
HOME = "https://github.com/jkoppel/QuixBugs"
INPUTS, SEED = 400, 11
SAMPLE = 5
BARS = {"plausible": 39, "equal": 37, "median_s": 0.5, "candidate_ms": 1.5}


class Outcome(NamedTuple):
    """One program. Times are in seconds: everything, the search alone, to its first repair, trials of candidates."""

    name: str
    status: str
    seconds: float
    search_s: float
    first_s: float
    trial_s: float
    tried: int
    edits: int
    compared: int
    different: list[str] | None
    diff: str


def fetch(given: str | None) -> Path | None:
    """The suite's folder; None, with a word on stderr, where it cannot be had."""
    folder = Path(given) if given else HERE.parent / ".bench" / "QuixBugs"
    if not given and not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        done = subprocess.run(["git", "clone", "-q", "--depth", "1", HOME, str(folder)], capture_output=True, text=True)
        if done.returncode:
            print(f"QuixBugs could not be fetched from {HOME}: {done.stderr.strip()[-300:]}", file=sys.stderr)
            print("Give a clone of it with --suite.", file=sys.stderr)
            return None
    if not (folder / "python_testcases").is_dir():
        print(f"{folder} is no clone of QuixBugs: it has no folder python_testcases.", file=sys.stderr)
        return None
    return folder


def names(suite: Path) -> list[str]:
    tests = (path.stem.removeprefix("test_") for path in (suite / "python_testcases").glob("test_*.py"))
    return sorted(name for name in tests if (suite / "correct_python_programs" / f"{name}.py").exists())


def lay_out(suite: Path, name: str, root: Path) -> None:
    """Put one buggy program and what its tests need into `root`."""
    wanted = [f"python_programs/{name}.py", f"python_testcases/test_{name}.py", f"json_testcases/{name}.json"]
    wanted += [
        "conftest.py",
        "python_programs/node.py",
        "python_testcases/node.py",
        "python_testcases/load_testdata.py",
    ]
    for relative in wanted:
        if (suite / relative).exists():
            (root / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(suite / relative, root / relative)


def run(suite: Path, name: str, seconds: float, jobs: int) -> Outcome:
    from lathe.mend.search import Options, repair
    from lathe.protocol.errors import LatheError
    from lathe.tools.patch_apply import apply_patch

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / name
        lay_out(suite, name, root)
        began = time.perf_counter()
        try:
            report = repair(root, Options(tests=(f"python_testcases/test_{name}.py",), seconds=seconds, jobs=jobs))
        except LatheError as error:
            return Outcome(name, f"error: {error}", time.perf_counter() - began, 0, 0, 0, 0, 0, 0, None, "")
        took = time.perf_counter() - began
        compared, different = 0, None
        if report.status == "repaired":
            apply_patch(report.patch, root)
            compared, different = compare(suite, name, root)
        times = (took, report.search_seconds, report.first_seconds, report.trial_seconds)
        return Outcome(name, report.status, *times, report.tried, len(report.changes), compared, different, report.diff)


def compare(suite: Path, name: str, root: Path) -> tuple[int, list[str] | None]:
    """How many inputs were compared, and the first on which the repaired program differs from the correct one."""
    data = suite / "json_testcases" / f"{name}.json"
    command = [sys.executable, str(HERE / "differential.py"), name]
    command += [str(suite / "correct_python_programs" / f"{name}.py"), str(root / "python_programs" / f"{name}.py")]
    command += [str(data) if data.exists() else "-", str(SEED), str(INPUTS)]
    done = subprocess.run(command, cwd=root / "python_programs", capture_output=True, text=True, timeout=600)
    if done.returncode:
        return 0, ["the comparison failed", "", done.stderr[-300:]]
    answer = json.loads(done.stdout)
    return answer["compared"], answer["different"]


def afresh(suite: Path, chosen: list[str]) -> list[float]:
    """Seconds that pytest takes, started afresh as for one candidate, to the first failure of each program."""
    taken = []
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / name
            lay_out(suite, name, root)
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
            command.append(f"python_testcases/test_{name}.py")
            began = time.perf_counter()
            subprocess.run(command, cwd=root, capture_output=True, timeout=300)
            taken.append(time.perf_counter() - began)
    return taken


def figures(outcomes: list[Outcome], fresh: list[float], import_s: float) -> dict[str, Any]:
    done = [one for one in outcomes if one.status == "repaired"]
    costs = [1000 * one.trial_s / one.tried for one in outcomes if one.tried]
    return {
        "programs": len(outcomes),
        "plausible": len(done),
        "equal": sum(one.different is None and one.compared > 0 for one in done),
        "median_s": round(median([one.first_s for one in done]), 3),
        "median_search_s": round(median([one.search_s for one in done]), 3),
        "median_all_s": round(median([one.seconds for one in done]), 3),
        "import_s": round(import_s, 3),
        "candidate_ms": round(median(costs), 3),
        "pytest_afresh_ms": round(1000 * median(fresh), 1) if fresh else None,
        "candidates": sum(one.tried for one in outcomes),
        "bars": BARS,
    }


def missed(result: dict[str, Any]) -> list[str]:
    short = [name for name in ("plausible", "equal") if result[name] < BARS[name]]
    return short + [name for name in ("median_s", "candidate_ms") if not result[name] <= BARS[name]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--suite", help="a clone of QuixBugs")
    parser.add_argument("--only", nargs="+", default=[], help="these programs")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    suite = fetch(options.suite)
    if suite is None:
        return 1
    os.environ["VIRTUAL_ENV"] = sys.prefix  # the programs have no environment of their own
    began = time.perf_counter()
    import lathe.mend.search  # noqa: F401 (its cost is a figure)

    import_s = time.perf_counter() - began
    outcomes = []
    for name in options.only or names(suite):
        outcome = run(suite.resolve(), name, options.seconds, options.jobs)
        outcomes.append(outcome)
        right = "equal" if outcome.different is None and outcome.compared else "differs" if outcome.different else ""
        line = f"{name:28} {outcome.status:12} {right:8} first {outcome.first_s:6.2f}, all {outcome.seconds:6.2f} s"
        print(f"{line}, {outcome.tried} candidates", file=sys.stderr)
    fresh = afresh(suite.resolve(), [one.name for one in outcomes if one.search_s < 1][:SAMPLE])
    result = figures(outcomes, fresh, import_s)
    if options.json:
        print(json.dumps({**result, "outcomes": [one._asdict() for one in outcomes]}))
    else:
        print(_shown(result))
    return 1 if options.check and missed(result) else 0


def _shown(result: dict[str, Any]) -> str:
    rows = [
        ["plausible repairs", f"{result['plausible']} of {result['programs']}", f"at least {BARS['plausible']}"],
        ["equal to the reference, first answer", str(result["equal"]), f"at least {BARS['equal']}"],
        ["the first repair after, median s", str(result["median_s"]), f"under {BARS['median_s']}"],
        ["... with looking for better ones and comparing", str(result["median_search_s"]), ""],
        ["... with starting pytest and the confirmation", str(result["median_all_s"]), ""],
        ["a candidate, median ms", str(result["candidate_ms"]), f"at most {BARS['candidate_ms']}"],
        ["baseline: pytest afresh, ms", str(result["pytest_afresh_ms"]), ""],
        ["importing mend, once, s", str(result["import_s"]), ""],
    ]
    return table(["figure", "measured", "bar"], rows)


if __name__ == "__main__":
    sys.exit(main())
