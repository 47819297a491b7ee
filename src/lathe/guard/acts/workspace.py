"""Which files of the workspace a command installs from, and what these name.

A lock file says which version is installed; what a manifest beside it asks for counts where the lock does not name it
yet. Reading is bounded, and stays below the roots of the workspace.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, TypeAlias

from lathe.guard.acts.installs import Package, tool_of
from lathe.guard.acts.manifests import included, read_manifest
from lathe.guard.targets import Ground
from lathe.sandbox.mounts import is_below

FileAt: TypeAlias = Callable[[str], str | None]
"""Returns the text of a file by its absolute path, None where it is none to be read."""
LARGEST = 16 * 1024 * 1024
_MOST_FILES = 20
_MOST_PARENTS = 8
_NPM = ("package-lock.json", "npm-shrinkwrap.json", "package.json")
_BUILDS = ("build", "b", "run", "r", "test", "t", "check", "c", "fetch", "bench", "clippy", "doc", "install", "update")
_IMPLIED: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "uv": (frozenset({"sync", "run", "lock", "add", "export"}), ("uv.lock", "pyproject.toml")),
    "poetry": (frozenset({"install", "sync", "update", "lock", "add", "run"}), ("poetry.lock", "pyproject.toml")),
    "pdm": (frozenset({"install", "sync", "update", "lock", "add"}), ("pdm.lock", "pyproject.toml")),
    "pipenv": (frozenset({"install", "sync", "update"}), ("Pipfile.lock",)),
    "npm": (frozenset({"install", "i", "ci", "add", "in", "ins", "update", "up", "clean-install"}), _NPM),
    "pnpm": (frozenset({"install", "i", "add", "update", "up"}), ("pnpm-lock.yaml", "package.json")),
    "yarn": (frozenset({"", "install", "add", "up", "upgrade"}), ("yarn.lock", "package.json")),
    "bun": (frozenset({"install", "i", "add", "update"}), ("bun.lock", "package.json")),
    "cargo": (frozenset(_BUILDS), ("Cargo.lock", "Cargo.toml")),
    "bundle": (frozenset({"", "install", "update"}), ("Gemfile.lock",)),
    "go": (frozenset({"build", "test", "run", "get", "install", "mod", "generate"}), ("go.mod",)),
}
"""By tool: the verbs that install, and the files that say what, a lock file first."""
_FOLDER = frozenset({"--prefix", "-C", "--cwd", "--dir", "--directory", "--project", "--path"})


class Named(NamedTuple):
    """A package, and the file that names it."""

    package: Package
    path: str


def workspace_reader(ground: Ground) -> FileAt:
    """Return what reads regular files of at most `LARGEST` bytes below the roots of the workspace."""
    tops = [os.path.realpath(root) for root in ground.roots]

    def file_at(path: str) -> str | None:
        try:
            real = os.path.realpath(path)
            if not any(is_below(real, top) for top in tops):
                return None
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (OSError, ValueError):  # a name may hold what no name can
            return None
        try:
            at = os.fstat(descriptor)
            if not stat.S_ISREG(at.st_mode) or at.st_size > LARGEST:
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(LARGEST).decode("utf-8", "replace")
        except OSError:
            return None
        finally:
            os.close(descriptor)

    return file_at


def named_in_files(words: Sequence[str], cwd: str, file_at: FileAt) -> list[Named]:
    """Return the packages that files name which a simple command in `cwd` installs from."""
    tool = tool_of(words)
    if tool is None:
        return []
    if tool.name == "pip":
        return list(_by_requirements(tool.rest, cwd, file_at))
    verbs, names = _IMPLIED.get(tool.name, (frozenset(), ()))
    operands = [word for word in tool.rest if not word.startswith("-")]
    if (operands[0] if operands else "") not in verbs:
        return []
    return list(_by_project(_folder(tool.rest, cwd), names, file_at))


def _by_requirements(rest: Sequence[str], cwd: str, file_at: FileAt) -> Iterator[Named]:
    todo, seen = list(_requirement_files(rest, cwd)), set[str]()
    while todo and len(seen) < _MOST_FILES:
        path = todo.pop(0)
        if path in seen:
            continue
        seen.add(path)
        text = file_at(path)
        if text is not None:
            at = PurePosixPath(path)
            yield from (Named(one, path) for one in read_manifest(at.name, text))
            if at.suffix != ".toml":
                todo += [_joined(str(at.parent), one) for one in included(text)]


def _requirement_files(rest: Sequence[str], cwd: str) -> Iterator[str]:
    verb = next((word for word in rest if not word.startswith("-")), "")
    if verb not in ("install", "download", "wheel", "sync", "compile"):
        return
    following = ""
    for word in rest[rest.index(verb) + 1 :]:
        path = ""
        if following in ("-r", "--requirement") or (verb == "sync" and not word.startswith("-") and not following):
            path = word
        elif word.startswith("--requirement="):
            path = word.partition("=")[2]
        elif word.startswith("-r") and len(word) > 2:
            path = word[2:]
        elif word.startswith((".", "/")) and following in ("", "-e", "--editable"):  # a project of one's own
            path = f"{word.partition('[')[0]}/pyproject.toml"
        following = word if word in ("-r", "--requirement", "-e", "--editable", "-c", "--constraint") else ""
        if path:
            yield _joined(cwd, path)


def _folder(rest: Sequence[str], cwd: str) -> str:
    for at, word in enumerate(rest):
        option, equals, value = word.partition("=")
        if option in _FOLDER or option == "--manifest-path":
            value = value if equals else next(iter(rest[at + 1 : at + 2]), "")
            found = _joined(cwd, value)
            return str(PurePosixPath(found).parent) if option == "--manifest-path" else found
    return cwd


def _joined(folder: str, path: str) -> str:
    return os.path.normpath(PurePosixPath(folder) / path)


def _by_project(folder: str, names: Sequence[str], file_at: FileAt) -> Iterator[Named]:
    """Yield what the files of the nearest project name: in the folder, or above it as these tools look for them."""
    for _ in range(_MOST_PARENTS):
        texts = [(name, text) for name in names if (text := file_at(f"{folder}/{name}")) is not None]
        if texts:
            break
        folder = str(PurePosixPath(folder).parent)
    else:
        return
    locked = set[str]()
    for name, text in texts:
        packages = read_manifest(name, text)
        yield from (Named(one, f"{folder}/{name}") for one in packages if one.key not in locked)
        locked |= {one.key for one in packages}
