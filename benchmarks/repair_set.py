"""A repair set for `lathe eval`: bugs seeded into real libraries, each a task of the form `functions:`.

    python benchmarks/repair_set.py --out DIR [--seed N] [--limit N] [--only LIBRARY ...] [--json] [--check]

The libraries are those of `mend_libraries.py` (BSD and MIT, pinned by hash) whose suites need pytest and nothing else;
the bugs come from `seeding.py`, which shares no code with the engine. The same seed gives the same set. Its default is
a seed that no other benchmark uses and nothing was developed against. Before a task is written it is run as its
verifier will run it: the tests must fail as it is, and pass with the files that mend it. The table gives both figures;
`--check` exits with 1 where a library gave no task.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import libraries
import seeding
from libraries import Library
from measuring import table
from seeding import Bug

from lathe.evals.formats.made import Maker
from lathe.evals.formats.plain_python import pytest_folder
from lathe.evals.formats.reading import digest_of

SEED = 2054
LIMIT = 39
SECONDS = 120.0  # for a suite here
TESTS_S = 240  # for one that is judged, on whatever machine
SHOWN = 5  # failing tests that a task names
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".git", "*.pyc", "*.egg-info", "docs", "doc")


def bare_python() -> str:
    """Return a Python without the packages of this environment, as a plain root file system has."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def run(tree: Path, library: Library, python: Path) -> tuple[bool, list[str]]:
    """Return whether all tests of a tree pass, and those that fail."""
    paths = os.pathsep.join([str(python), *([str(tree / library.path)] if library.path else [])])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONHASHSEED": "0", "HOME": str(tree.parent)}
    words = ["-s", "-B", "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        libraries.boxed([bare_python(), *words], tree), cwd=tree, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
    )  # fmt: skip
    failing = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return done.returncode == 0, failing


def suits(library: Library, python: Path) -> bool:
    """Return whether the library's suite passes with pytest alone."""
    with libraries.copy(library) as tree:
        try:
            return run(tree, library, python)[0]
        except subprocess.TimeoutExpired:
            return False


def write(bug: Bug, library: Library, number: int, out: Path, python: Path) -> str:
    """Write the task of a bug; return why it is none, "" where it was written."""
    original = (library.tree / bug.file).read_text(encoding="utf-8")
    name = f"{library.name}-{number}"
    with tempfile.TemporaryDirectory(prefix="repair-set-") as place:
        tree = Path(place) / library.name
        shutil.copytree(library.tree, tree, ignore=_LEFT_OUT)
        (tree / bug.file).write_text(bug.seeded(original), encoding="utf-8")
        try:
            passed, failing = run(tree, library, python)
        except subprocess.TimeoutExpired:
            return "its tests don't end"
        if passed or not failing:
            return "its tests don't notice"
        program = out / "tasks" / name / "program"
        shutil.copytree(tree, program, ignore=_LEFT_OUT)
        (tree / bug.file).write_text(original, encoding="utf-8")
        if not run(tree, library, python)[0]:
            shutil.rmtree(program.parent)
            return "its tests fail as it should be"
    correct = out / "tasks" / name / "correct" / bug.file
    correct.parent.mkdir(parents=True)
    correct.write_text(original, encoding="utf-8")
    about = {
        "sources": library.sources(),
        "tests": [],
        "path": [library.path] if library.path else [],
        "failing": failing[:SHOWN],
        "seconds": TESTS_S,
        "cluster": library.name,
    }
    (out / "tasks" / name / "task.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return ""


def main() -> int:
    """Write the set and print a row a library; return 1 where `--check` finds a library without a task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if (options.out / "tasks").exists():
        print(f"{options.out} holds a set already.", file=sys.stderr)
        return 2
    chosen = [each for each in libraries.LIBRARIES if not options.only or each.name in options.only]
    libraries.prepare(chosen)
    python = pytest_folder(Maker())
    fit = [library for library in chosen if suits(library, python)]
    rows = fill(fit, options, python)
    versions = {library.name: [library.version, library.sha256] for library in fit}
    about = {
        "name": f"seeded-libraries-{options.seed}",
        "version": digest_of([options.seed, options.limit, versions])[7:19],
        "licence": "BSD and MIT, each library its own",
        "how": f"benchmarks/repair_set.py --seed {options.seed} --limit {options.limit}",
        "libraries": versions,
    }
    (options.out / "set.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    figures = {"written": sum(row["written"] for row in rows), "libraries": rows, "left_out": [
        library.name for library in chosen if library not in fit
    ]}  # fmt: skip
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        heads = ("library", "bugs", "tasks", "no task")
        print(table(heads, [[str(row[key]) for key in ("library", "bugs", "written", "refused")] for row in rows]))
        print(f"\n{figures['written']} tasks in {options.out}; not fit for a plain place: {figures['left_out']}")
    return 1 if options.check and not all(row["written"] for row in rows) else 0


def fill(fit: list[Library], options: argparse.Namespace, python: Path) -> list[dict[str, Any]]:
    """Write the tasks of the libraries, as many of each; return a row for each."""
    kinds, count = seeding.dealt(options.seed), len(libraries.LIBRARIES)
    each = -(-options.limit // len(fit))
    rows = []
    for library in fit:
        at = libraries.LIBRARIES.index(library)
        row = {"library": library.name, "bugs": 0, "written": 0, "refused": 0}
        rows.append(row)
        try:
            bugs = seeding.Seeder(library, kinds[at::count], options.seed).bugs(each)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            continue
        for number, bug in enumerate(bugs, 1):
            why = write(bug, library, number, options.out, python)
            row["bugs"] += 1
            row["refused" if why else "written"] += 1
            print(f"{bug.name}: {why or 'written'}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    sys.exit(main())
