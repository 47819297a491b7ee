"""Real libraries with the tests that their source packages carry: fetched from PyPI by hash, and run.

Everything lies below `.bench/`: the packages and their trees in `libraries/`, pytest and what the tests import in
`venv-libraries/`. The libraries themselves are not installed there, so that a tree is the only copy its tests can see.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench" / "libraries"
VENV = ROOT / ".bench" / "venv-libraries"
TOOLS = ("pytest==9.2.0", "coverage==7.17.3", "freezegun==1.5.5", "simplejson==4.3.0")


class Library(NamedTuple):
    """A pinned source package. `package` is where its code lies, `skip` what of it no fault is put into."""

    name: str
    version: str
    sha256: str
    package: str
    skip: tuple[str, ...] = ()

    @property
    def tree(self) -> Path:
        return HOME / f"{self.name}-{self.version}"

    @property
    def path(self) -> str:
        """What the tests need on `PYTHONPATH`, relative to the tree."""
        return "src" if self.package.startswith("src/") else ""

    def sources(self) -> list[str]:
        """Return the files that faults may be put into, relative to the tree."""
        top = self.tree / self.package
        files = [top] if top.is_file() else sorted(top.rglob("*.py"))
        names = [str(file.relative_to(self.tree)) for file in files]
        return [name for name in names if not any(fnmatch.fnmatch(name, each) for each in (*self.skip, "*/tests/*"))]


_ACT_ON_THE_MACHINE = ("*/fileutils.py", "*/ecoutils.py", "*/pathutils.py", "*/debugutils.py", "*/gcutils.py")
_PINS = """
boltons 26.2.0 boltons d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c
cachetools 8.0.1 src/cachetools deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95
itsdangerous 2.2.0 src/itsdangerous e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173
marshmallow 4.4.0 src/marshmallow 9e6ffa8511012ca89732324c1c253efd7b4d35632dcbdf80aa793fe01804af3e
schema 0.7.8 schema e86cc08edd6fe6e2522648f4e47e3a31920a76e82cce8937535422e310862ab5
simpleeval 1.0.8 simpleeval.py b417f869c11f2de034eb919820a825f35d12ce99f63a43971947ce73679eb9ba
sqlparse 0.6.1 sqlparse ca722573f848ff2d30e40ea30f53a104b7dea7635ea9285891263eb2c58fb6e7
tabulate 0.10.0 tabulate e2cfde8f79420f6deeffdeda9aaec3b6bc5abce947655d17ac662b126e48a60d
tinydb 4.9.0 tinydb 6928b1fa785186bda7952a0ba05aaeedc883ede565ca9c7d608de44e5e75de70
toolz 1.0.0 toolz 2c86e3d9a04798ac556793bced838816296a2f085017664e4995cb40a1047a02
unidiff 1.0.1 unidiff d9425bc516390c54743a1045b2c1c97f02d245a913a241dd499f958adb2df998
voluptuous 0.16.0 voluptuous 006535e22fed944aec17bef6e8725472476194743c87bd233e912eb463f8ff05
xmltodict 1.0.4 xmltodict.py 6d94c9f834dd9e44514162799d344d815a3a4faec913717a9ecbfa5be1bb8e61
"""  # BSD or MIT, each of them; name, version, where the code lies, SHA-256 of the source package


def _pinned(line: str) -> Library:
    name, version, package, digest = line.split()
    return Library(name, version, digest, package, _ACT_ON_THE_MACHINE)


LIBRARIES = [_pinned(line) for line in _PINS.strip().splitlines()]


class FetchError(Exception):
    """A package or a tool could not be had; the text says which and why."""


def python() -> str:
    return str(VENV / "bin" / "python")


def prepare(wanted: list[Library]) -> None:
    """Make the environment and the trees that are not there yet. Raises `FetchError`."""
    HOME.mkdir(parents=True, exist_ok=True)
    mark = VENV / "tools"
    if not mark.is_file() or mark.read_text() != repr(TOOLS):
        _run([sys.executable, "-m", "venv", "--clear", str(VENV)], "the virtual environment")
        _run([python(), "-m", "pip", "install", "-q", "setuptools", *TOOLS], "pytest and coverage")
        mark.write_text(repr(TOOLS))
    for library in wanted:
        if not library.tree.is_dir():
            _unpack(library, _package(library))


def _package(library: Library) -> Path:
    known = [path for path in HOME.glob("*.tar.gz") if _digest(path) == library.sha256]
    if known:
        return known[0]
    requirement = f"{library.name}=={library.version}"
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=HOME) as folder:
        options = ["-q", "--no-deps", "--no-binary", library.name, "-d", folder]
        _run([python(), "-m", "pip", "download", *options, requirement], requirement)
        for path in Path(folder).glob("*.tar.gz"):
            if _digest(path) == library.sha256:
                return path.rename(HOME / path.name)
            raise FetchError(f"{path.name} is not the package that was pinned: its SHA-256 is {_digest(path)}.")
    raise FetchError(f"pip left no source package of {requirement}.")


def _unpack(library: Library, package: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=HOME) as folder:
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
        (top,) = Path(folder).iterdir()
        top.rename(library.tree)


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise FetchError(f"{what} could not be had; the network is needed once. pip said: {' '.join(said[-3:])[:400]}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- trees and suites


@contextlib.contextmanager
def copy(library: Library, changed: dict[str, str] | None = None) -> Iterator[Path]:
    """Give a copy of a library's tree, some files with other text, that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="library-") as folder:
        tree = Path(folder).resolve() / library.name
        shutil.copytree(library.tree, tree, symlinks=True)
        for name, text in (changed or {}).items():
            (tree / name).write_text(text, encoding="utf-8")
        yield tree


def environment(library: Library, tree: Path) -> dict[str, str]:
    """Return the environment of somebody who works on the library: its virtual environment is the active one."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TERM") if name in os.environ}
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    more = {"PYTHONPATH": str(tree / library.path)} if library.path else {}
    home = {"HOME": str(tree.parent), "TMPDIR": str(tree.parent)}
    fixed = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "VIRTUAL_ENV": str(VENV)}
    return {**kept, **more, **home, **fixed, "PATH": path}


class Outcome(NamedTuple):
    """One run of a suite: what became of each test, by name; seconds of wall; None for one that did not end well."""

    tests: dict[str, str] | None
    seconds: float

    @property
    def failed(self) -> set[str]:
        return {name for name, outcome in (self.tests or {}).items() if outcome == "failed"}


def boxed(command: list[str], tree: Path) -> list[str]:
    """Return a command that can write beside `tree` only, where bubblewrap works: seeded code may do anything."""
    return [*_bubblewrap(), "--bind", str(tree.parent), str(tree.parent), "--", *command] if _bubblewrap() else command


@functools.cache
def _bubblewrap() -> tuple[str, ...]:
    program = shutil.which("bwrap")
    if program is None:
        return ()
    words = (program, "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/tmp", "--unshare-net", "--die-with-parent")
    return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else ()


def suite(library: Library, tree: Path, *, limit_s: float, options: tuple[str, ...] = ()) -> Outcome:
    """Run the whole suite in `tree`, for at most `limit_s` seconds."""
    report = tree.parent / "junit.xml"
    report.unlink(missing_ok=True)
    words = ["-B", "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}", *options]
    began = time.perf_counter()
    try:
        subprocess.run(
            boxed([python(), *words], tree), cwd=tree, env=environment(library, tree), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(None, time.perf_counter() - began)
    seconds = time.perf_counter() - began
    try:
        return Outcome(_tests(report), seconds)
    except (OSError, ElementTree.ParseError):
        return Outcome(None, seconds)


def _tests(report: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        test = f"{case.get('classname')}::{(case.get('name') or '').partition('[')[0]}"
        counts[test] += 1
        name = f"{test}[{counts[test]}]"  # a case by its place: its parameters may be times and addresses
        kinds = {child.tag for child in case}
        found[name] = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
    return found
