"""The scratch copy that the search works in, and the interpreter that the project runs under."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lathe.protocol.errors import UsageError

MAX_FILES = 20_000
MAX_BYTES = 512 << 20
_SKIPPED = {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", ".mypy_cache"}
_SKIPPED |= {".pytest_cache", ".ruff_cache", "build", "dist", ".eggs"}
_GENERATED = ("*_version.py", "*.so", "*.pyd")
_VENVS = (".venv", "venv", "env")


class Workspace:
    """A copy of the project. `original` and `root` are the two trees' tops; `inside` leads to the project's folder."""

    def __init__(self, original: Path, root: Path, inside: Path, temporary: Path) -> None:
        self.original = original
        self.root = root
        self.inside = inside
        self.temporary = temporary
        self.cwd = root / inside
        self.cwd.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, bytes] = {}
        self.touched: set[str] = set()  # what the unchanged tests write to, and the folders they put files into
        self._state = self._look()

    def keep(self, path: str, data: bytes) -> None:
        """Change a file of the copy for good."""
        self._kept[path] = data
        (self.root / path).write_bytes(data)
        self._state[path] = _identity(self.root / path)

    def restore(self) -> bool:
        """Undo what tests did to the copy, and return whether they did anything."""
        return bool(self._undo(set()))

    def restore_after_tests(self) -> None:
        """Undo what the unchanged tests did to the copy, and remember that they do it."""
        changed = self._undo(set())
        self.touched |= changed | {str(Path(path).parent) for path in changed - self._state.keys()}

    def undo_damage(self) -> bool:
        """Undo what candidates did to the copy beyond what the unchanged tests do; return whether it was anything.

        A candidate that empties a file which tests read would make all that come after it fail.
        """
        return bool(self._undo(self.touched))

    def _undo(self, spared: set[str]) -> set[str]:
        """Put files back, without those that are `spared` or new in folders that are, and return their paths."""
        now = self._look()
        if now == self._state:
            return set()
        changed = {path for path in now.keys() - self._state.keys() if str(Path(path).parent) not in spared}
        changed |= {path for path, identity in self._state.items() if now.get(path) != identity}
        changed -= spared
        for path in changed:
            target = self.root / path
            target.unlink(missing_ok=True)
            if path in self._state:
                target.parent.mkdir(parents=True, exist_ok=True)
                if path in self._kept:
                    target.write_bytes(self._kept[path])
                else:
                    shutil.copy2(self.original / path, target, follow_symlinks=False)
                self._state[path] = _identity(target)
        return changed

    def _look(self) -> dict[str, object]:
        """Return what can be seen of every file without reading it."""
        found: dict[str, object] = {}
        todo = [str(self.root)]
        skip = len(todo[0]) + 1
        while todo:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo += [entry.path] if entry.name != "__pycache__" else []
                    else:
                        found[entry.path[skip:]] = _identity(entry)
        return found


def _identity(file: os.DirEntry[str] | Path) -> object:
    status = file.lstat() if isinstance(file, Path) else file.stat(follow_symlinks=False)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


@contextlib.contextmanager
def scratch_copy(path: Path) -> Iterator[Workspace]:
    """Copy the repository around `path` (what git tracks or would track; without git the folder) and clean up after.

    Raises `UsageError` for what is no folder or is too large.
    """
    folder = path.resolve()
    if not folder.is_dir():
        raise UsageError(f"{path} is not a folder.", hint="Name the folder of the project that is to be repaired.")
    top, names = _files(folder)
    temporary = Path(tempfile.mkdtemp(prefix="lathe-mend-")).resolve()
    try:
        root = temporary / "tree" / (top.name or "project")
        root.mkdir(parents=True)
        for name in ("home", "tmp"):
            (temporary / name).mkdir()
        _copy(top, root, names)
        yield Workspace(top, root, folder.relative_to(top), temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_python(folder: Path) -> str:
    """Return the first interpreter that can import pytest: the project's own, the active one, any, this one.

    Raises `UsageError` where there is none.
    """
    folder = folder.resolve()
    candidates = [parent / name / "bin" / "python" for parent in (folder, *_up_to_git(folder)) for name in _VENVS]
    if os.environ.get("VIRTUAL_ENV"):
        candidates.append(Path(os.environ["VIRTUAL_ENV"]) / "bin" / "python")
    found = shutil.which("python3")
    if found:
        candidates.append(Path(found))
    candidates.append(Path(sys.executable))
    tried: list[str] = []
    for candidate in candidates:
        text = str(candidate)
        if text not in tried and candidate.is_file():
            tried.append(text)
            real = _with_pytest(text)
            if real:
                return real
    raise UsageError(
        "No Python interpreter of this project has pytest.",
        hint=f"Install pytest in one of these: {', '.join(tried)}.",
        code="no_pytest",
    )


def _up_to_git(folder: Path) -> Iterator[Path]:
    while not (folder / ".git").exists() and folder.parent != folder:
        folder = folder.parent
        if (folder / ".git").exists():
            yield folder


def _with_pytest(python: str) -> str:
    """Return the path by which this interpreter knows itself, if it is recent and has pytest; else ""."""
    import subprocess

    question = (
        "import sys, importlib.util as u; "
        "print(sys.executable if sys.version_info >= (3, 10) and u.find_spec('pytest') else '')"
    )
    try:
        done = subprocess.run([python, "-c", question], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""
    if not found:
        return ""
    # a link on the way to an environment leads nowhere in a sandbox; python itself is a link that says which it is
    return str(Path(found).parent.resolve() / Path(found).name)


def _files(folder: Path) -> tuple[Path, list[str]]:
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top:
        root = Path(os.fsdecode(top).rstrip("\n")).resolve()
        listed = _git(root, "ls-files", "-co", "--exclude-standard", "-z")
        generated = _git(root, "ls-files", "-oi", "--exclude-standard", "-z", "--", *_GENERATED) or b""
        if listed is not None and folder.is_relative_to(root):
            names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
            extra = [os.fsdecode(name) for name in generated.split(b"\0") if name]
            names += [name for name in extra if not set(Path(name).parts) & _SKIPPED]
            here = str(folder.relative_to(root))
            if here == "." or any(name.startswith(here + "/") for name in names):
                return root, sorted(set(names))
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        names += [os.path.relpath(os.path.join(parent, name), folder) for name in files]  # noqa: PTH118 (os.walk's)
        if len(names) > MAX_FILES:
            break
    return folder, sorted(names)


def _git(folder: Path, *arguments: str) -> bytes | None:
    import subprocess

    try:
        done = subprocess.run(
            [
                "git",
                "-c",
                "safe.directory=*",
                "-c",
                "core.fsmonitor=false",
                "-c",
                "core.hooksPath=/dev/null",
                "-C",
                str(folder),
                *arguments,
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _copy(top: Path, root: Path, names: list[str]) -> None:
    total = 0
    if len(names) > MAX_FILES:
        raise UsageError(
            f"{top} has more than {MAX_FILES} files, too many for a scratch copy.", hint="Name a subfolder."
        )
    for name in names:
        source, target = top / name, root / name
        if source.is_symlink():
            destination = source.resolve()
            if source.readlink().is_absolute() or not destination.is_relative_to(top):
                continue  # a link out of the copy would lead candidates to the person's own files
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_file():
            total += source.stat().st_size
            if total > MAX_BYTES:
                raise UsageError(f"{top} is larger than {MAX_BYTES >> 20} MB, too much for a scratch copy.")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
