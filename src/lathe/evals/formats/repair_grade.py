"""Judges one repair inside the environment: the tests as they were given, on the code as the agent left it.

usage: grade.py SPEC.json WORKDIR FOLDER

This file is put beside the tests as it is, so it needs Python 3.8 and nothing else. The tree of the task is laid out
afresh, only the files that may be mended come from the agent, and the reward is 1 where pytest reports, in a file that
it writes at its end, that tests ran and none failed. Where this is root, the tests run as nobody, who cannot write the
reward.

Of a folder that may be mended, files that rule how tests are run are the task's own, or none: pytest's settings and
hooks, test files, start-up files, descriptions of packages, and what would be imported for a module of Python's or
pytest's. Such a file is the agent's only where the task names it as one to be mended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

NOBODY = 65534
RULING = ("conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg",
          "pyproject.toml", "sitecustomize.py", "usercustomize.py", "test_*.py", "*_test.py", "*.pth", "*.dist-info",
          "*.egg-info", "__pycache__")  # fmt: skip
OF_PYTEST = {"pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "exceptiongroup", "tomli",
             "colorama", "sitecustomize", "usercustomize"}  # fmt: skip
SHADOWED = OF_PYTEST.union(getattr(sys, "stdlib_module_names", sys.builtin_module_names))


def rules(name: str) -> bool:
    """Say whether a file or folder of this name rules how tests are run."""
    return any(fnmatch(name, each) for each in RULING)


def laid_out(tree: Path, sources: list[str], paths: list[str], work: Path, target: Path) -> None:
    """Copy the task's tree to `target`, with the agent's `sources` in the place of the given ones.

    `paths` are folders that modules are imported from, besides the tree itself.
    """
    shutil.copytree(tree, target, symlinks=True)
    imported = [target, *(target / each for each in paths)]
    for name in sources:
        own, place, given = work / name, target / name, tree / name
        _remove(place)
        if own.is_dir() and not own.is_symlink():
            shutil.copytree(own, place, symlinks=True)
            _put_back(given, place, imported)
        elif own.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own, place)


def _put_back(given: Path, place: Path, imported: list[Path]) -> None:
    """Have what rules the tests in a folder be what the task gives, and nothing where it gives nothing."""
    for folder, folders, files in os.walk(place):
        here = Path(folder)
        for name in [*folders, *files]:
            new = not (given / here.relative_to(place) / name).exists()
            if rules(name) or (new and here in imported and name.split(".")[0] in SHADOWED):
                _remove(here / name)
        folders[:] = [name for name in folders if (here / name).is_dir()]
    for folder, _, files in os.walk(given):
        there = place / Path(folder).relative_to(given)
        for name in files:
            if rules(name):
                _restore(Path(folder, name), there / name, place)


def _restore(given: Path, target: Path, top: Path) -> None:
    """Put a file back, whatever its folders have become below `top`."""
    for above in reversed(target.parents):
        if top in above.parents and (above.is_symlink() or above.is_file()):
            above.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(target)
    shutil.copyfile(given, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def can_be_nobody() -> bool:
    """Say whether this is root of more than itself: a namespace may know no other user."""
    try:
        users = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        users = []
    return os.geteuid() == 0 and any(int(first) <= NOBODY < int(first) + int(count) for first, _, count in users)


def be_nobody() -> None:
    """Become the user that owns nothing but the tree."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def give_away(folder: Path) -> None:
    """Have a folder and all that is in it belong to nobody."""
    os.chown(folder, NOBODY, NOBODY)
    for at, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(Path(at, name), NOBODY, NOBODY, follow_symlinks=False)


def let_read(folder: Path) -> None:
    """Have everybody read a folder and all that is in it, whatever it was made with."""
    for at, _, files in os.walk(folder):
        for path, wanted in [(Path(at), 0o555), *((Path(at, name), 0o444) for name in files)]:
            mode = path.stat().st_mode
            if mode & wanted != wanted:
                path.chmod(mode | wanted)


def ran(tree: Path, spec: dict[str, Any], report: Path, log: Path) -> str:
    """Run the tests, and return why they give no reward; "" where all passed."""
    paths = [spec["pytest"], *(str(tree / each) for each in spec["path"])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.update(PYTHONHASHSEED="0", PYTHONNOUSERSITE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    command = [sys.executable, "-s", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += spec["tests"]
    becomes = None
    if can_be_nobody():
        becomes, environment["HOME"] = be_nobody, str(tree.parent)
        give_away(tree.parent)
    with log.open("wb") as output, subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True, preexec_fn=becomes,
    ) as process:  # fmt: skip
        try:
            code = process.wait(timeout=float(spec["seconds"]))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"the tests did not end within {spec['seconds']} s"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if report.is_symlink() or not report.is_file():
        return f"pytest ended with code {code} and left no report"
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ValueError, ElementTree.ParseError):
        return f"pytest ended with code {code} and left no report that can be read"
    counts = {name: sum(int(suite.get(name) or 0) for suite in suites) for name in ("tests", "failures", "errors")}
    if code or counts["failures"] or counts["errors"]:
        return f"{counts['failures']} of {counts['tests']} tests failed, {counts['errors']} had errors"
    return "" if counts["tests"] else "no test ran"


def can_judge(pytest: str) -> bool:
    """Say whether pytest runs at all, with none of the task's code near: if not, nobody is to blame but this place."""
    environment = {**os.environ, "PYTHONPATH": pytest, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-s", "-B", "-c", "import pytest"]
    becomes = be_nobody if can_be_nobody() else None
    done = subprocess.run(command, cwd="/", env=environment, stdin=subprocess.DEVNULL, preexec_fn=becomes)
    return done.returncode == 0


def main() -> int:
    """Write `reward.txt`, `report.json` and `pytest.txt` to the folder; return 0, or 2 where nothing can be judged."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work, folder = Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if can_be_nobody():
        let_read(Path(spec["pytest"]))
    with tempfile.TemporaryDirectory(prefix="repair-") as place:
        tree = Path(place) / "tree"
        laid_out(Path(__file__).parent / "tree", spec["sources"], spec["path"], work, tree)
        why = ran(tree, spec, Path(place) / "report.xml", folder / "pytest.txt")
        if why and not can_judge(spec["pytest"]):
            return 2
        (folder / "report.json").write_text(json.dumps({"passed": not why, "why": why}), encoding="utf-8")
        (folder / "reward.txt").write_text("0\n" if why else "1\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
