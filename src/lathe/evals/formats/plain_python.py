"""pytest for a plain environment: the one that is installed beside Lathe and what it imports, as a folder.

A plain root file system has the machine's Python and nothing else. All of it is Python code, so it runs there whatever
the version (3.10 or later).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

from lathe.evals.formats.made import Maker
from lathe.evals.formats.reading import Unreadable, digest_of

PLACE = "/opt/pytest"
"""Where it is put, and what `PYTHONPATH` says there."""

_PYTHON = "/usr/bin/python3"
_DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_WHOLE = ("_pytest", "pytest", "pluggy", "iniconfig", "packaging")
# Of Pygments only what pytest imports: its lexers are a hundred times the rest.
_PYGMENTS = (
    "*.py", "filters/__init__.py", "formatters/__init__.py", "formatters/_mapping.py", "formatters/terminal.py",
    "lexers/__init__.py", "lexers/_mapping.py", "lexers/diff.py", "lexers/python.py", "styles/__init__.py",
    "styles/_mapping.py", "styles/default.py",
)  # fmt: skip


def pytest_folder(made: Maker) -> Path:
    """Return the folder; raise `Unreadable` where pytest is not installed beside Lathe."""
    try:
        versions = {name: importlib.metadata.version(name) for name in _DISTRIBUTIONS}
    except importlib.metadata.PackageNotFoundError as error:
        raise Unreadable(f"It needs {error.name} beside Lathe: `pip install pytest` there.") from None
    return made.folder(digest_of({"format": "pytest 4", **versions}), _copy)


def _copy(folder: Path) -> None:
    for name in _WHOLE:
        shutil.copytree(_home(name), folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _DISTRIBUTIONS:  # pluggy asks for its own version
        about = importlib.metadata.distribution(name)
        place = folder / f"{name}-{about.version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(about.read_text("METADATA") or "", encoding="utf-8")
    shutil.copyfile(_home("pytest").with_name("py.py"), folder / "py.py")
    pygments = _home("pygments")
    for pattern in _PYGMENTS:
        for path in pygments.glob(pattern):
            target = folder / "pygments" / path.relative_to(pygments)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _compile(folder)


def _compile(folder: Path) -> None:
    """Compile it with the Python that a plain environment has, which saves a second each time that tests are run."""
    if Path(_PYTHON).exists():
        command = [_PYTHON, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder)]
        subprocess.run(command, capture_output=True, check=False)


def _home(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Unreadable(f"{name}, which pytest needs, is not installed beside Lathe.")
    return Path(spec.submodule_search_locations[0])
