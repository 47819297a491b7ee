"""Judges one repair inside the environment: the tests as they were given, on the code as the agent left it.

usage: grade.py SPEC.json WORKDIR FOLDER

This file is put beside the tests as it is, so it needs Python 3.8 and nothing else. The tree of the task is laid out
afresh, only the files that may be mended come from the agent, and the reward is 1 where pytest reports, in a file that
it writes at its end, that tests ran and none failed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree


def laid_out(tree: Path, sources: list[str], work: Path, target: Path) -> None:
    """Copy the task's tree to `target`, with the agent's `sources` in the place of the given ones."""
    shutil.copytree(tree, target, symlinks=True)
    for name in sources:
        own, place = work / name, target / name
        if place.is_dir():
            shutil.rmtree(place)
        elif place.exists():
            place.unlink()
        if own.is_dir() and not own.is_symlink():
            shutil.copytree(own, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif own.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own, place)


def ran(tree: Path, spec: dict[str, object], report: Path, log: Path) -> str:
    """Run the tests, and return why they give no reward; "" where all passed."""
    paths = [str(Path(__file__).parent / "python"), *(str(tree / each) for each in spec["path"])]  # type: ignore[attr-defined]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONHASHSEED"] = "0"
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += spec["tests"]  # type: ignore[arg-type]
    with log.open("wb") as output, subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            code = process.wait(timeout=float(spec["seconds"]))  # type: ignore[arg-type]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"the tests did not end within {spec['seconds']} s"
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return f"pytest ended with code {code} and left no report"
    counts = {name: sum(int(suite.get(name) or 0) for suite in suites) for name in ("tests", "failures", "errors")}
    if code or counts["failures"] or counts["errors"]:
        return f"{counts['failures']} of {counts['tests']} tests failed, {counts['errors']} had errors"
    return "" if counts["tests"] else "no test ran"


def can_judge() -> bool:
    """Say whether pytest runs at all, with none of the task's code near: if not, nobody is to blame but this place."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-B", "-c", "import pytest"]
    with tempfile.TemporaryDirectory(prefix="repair-") as place:
        return subprocess.run(command, cwd=place, env=environment, stdin=subprocess.DEVNULL).returncode == 0


def main() -> int:
    """Write `reward.txt`, `report.json` and `pytest.txt` to the folder; return 0, or 2 where nothing can be judged."""
    if not can_judge():
        return 2
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work, folder = Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="repair-") as place:
        tree = Path(place) / "tree"
        laid_out(Path(__file__).parent / "tree", spec["sources"], work, tree)
        why = ran(tree, spec, Path(place) / "report.xml", folder / "pytest.txt")
    (folder / "report.json").write_text(json.dumps({"passed": not why, "why": why}), encoding="utf-8")
    (folder / "reward.txt").write_text("0\n" if why else "1\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
