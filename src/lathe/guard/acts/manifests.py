"""Packages by name and version in requirement files, manifests and lock files.

Facts: pip's requirements file format; the specifications of pyproject.toml (PEP 621, 735) and of package.json; the
lock files of npm (1 to 3), pnpm, Yarn (1 and later), Bun, Poetry, uv, PDM, Pipenv, Cargo and Bundler; the reference of
go.mod. Of a lock file only names and versions are read, by lines where that is all it takes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from lathe.guard.acts.installs import Package, exact, named_npm, named_pypi

MOST = 50_000
"""Packages of one file that are read. Patterns go through a file once: it may have been made to hold them up."""
_DEEPEST = 40
_LARGEST_TOML, _LONGEST_LINE = 256 * 1024, 4_000
"""Characters. A long dotted key costs the reader of TOML the square of its length."""


def read_manifest(name: str, text: str) -> list[Package]:
    """Return the packages that a file called `name` asks for, as it names them; [] for a file that can't be read."""
    reader = _READERS.get(name, _requirements)
    found: list[Package] = []
    try:
        for package in reader(text):
            found.append(package)
            if len(found) >= MOST:
                break
    except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON or TOML, or of another shape
        return found
    return found


def included(text: str) -> list[str]:
    """Return the files that a requirement file includes."""
    return [found[1] for line in _lines(text) if (found := _INCLUDE.match(line))]


# Python.

_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_BLOCK = re.compile(r"^\[\[package\]\]\s*$", re.MULTILINE)
_NAME = re.compile(r'^name = "([^"]+)"', re.MULTILINE)
_VERSION = re.compile(r'^version = "([^"]+)"', re.MULTILINE)
_LOCAL = re.compile(r"^source = \{ *(?:editable|virtual|directory|path) ", re.MULTILINE)


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        if plain := _COMMENT.sub("", line).strip():
            yield plain


def _requirements(text: str) -> Iterator[Package]:
    for line in _lines(text):
        yield from named_pypi(line)


def _pyproject(text: str) -> Iterator[Package]:
    plain = _toml(text)
    project, tool = plain.get("project", {}), plain.get("tool", {})
    groups = [project.get("dependencies", []), plain.get("build-system", {}).get("requires", [])]
    groups += [*project.get("optional-dependencies", {}).values(), *plain.get("dependency-groups", {}).values()]
    for line in (line for group in groups for line in group if isinstance(line, str)):
        yield from named_pypi(line)
    poetry = tool.get("poetry", {})
    tables = [poetry.get("dependencies", {}), poetry.get("dev-dependencies", {})]
    tables += [group.get("dependencies", {}) for group in poetry.get("group", {}).values()]
    for name, said in ((name, said) for table in tables for name, said in table.items()):
        if name != "python":
            yield Package("PyPI", name, exact(_version_in(said)))


def _toml(text: str) -> dict[str, Any]:
    if len(text) > _LARGEST_TOML or max(map(len, text.splitlines()), default=0) > _LONGEST_LINE:
        return {}
    return tomllib.loads(text)


def _version_in(said: Any) -> str:
    version = said.get("version", "") if isinstance(said, dict) else said
    return version.lstrip("=v ") if isinstance(version, str) else ""


def _locked(ecosystem: str) -> Callable[[str], Iterator[Package]]:
    def read(text: str) -> Iterator[Package]:
        for block in _BLOCK.split(text)[1:]:
            name, version = _NAME.search(block), _VERSION.search(block)
            here = _LOCAL.search(block) is not None or (ecosystem == "crates.io" and "\nsource = " not in block)
            if name is not None and not here:
                yield Package(ecosystem, name[1], version[1] if version else "")

    return read


def _pipfile_lock(text: str) -> Iterator[Package]:
    plain = msgspec.json.decode(text)
    for group in ("default", "develop"):
        for name, said in plain.get(group, {}).items():
            yield Package("PyPI", name, exact(_version_in(said)))


# JavaScript.

_PNPM = re.compile(r"^  ['\"]?/?((?:@[^@/\s'\"]+/)?[^@/\s'\"]+)[@/](\d[^('\":_\s]*)", re.MULTILINE)
_YARN = re.compile(
    r"^\"?((?:@[^@/\s\"]+/)?[^@\s\"/]+)@(?:npm:)?[^\n]*:\n(?:  [^\n]*\n)*?  version:? \"?([^\"\n]+)", re.MULTILINE
)
_BUN = re.compile(r'^[ \t]++"[^"]+": \["((?:@[^@/"]+/)?[^@"]+)@(\d[^"]*)"', re.MULTILINE)
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")


def _package_json(text: str) -> Iterator[Package]:
    plain = msgspec.json.decode(text)
    for name, said in (item for group in _DEPENDENCIES for item in plain.get(group, {}).items()):
        if not isinstance(said, str):
            continue
        if said.startswith("npm:"):  # another package under this name
            yield from named_npm(said.removeprefix("npm:"))
        elif not re.match(r"[a-z+]+:|[./~]|[\w-]+/", said):  # a folder, a repository, a workspace
            yield Package("npm", name, exact(_version_in(said)))


def _package_lock(text: str) -> Iterator[Package]:
    plain = msgspec.json.decode(text)
    for path, said in plain.get("packages", {}).items():
        name = said.get("name") or path.rpartition("node_modules/")[2]
        if "node_modules/" in path and not said.get("link"):
            yield Package("npm", name, str(said.get("version") or ""))
    if "packages" not in plain:
        yield from _nested(plain.get("dependencies", {}))


def _nested(table: Mapping[str, Any], depth: int = 0) -> Iterator[Package]:
    for name, said in table.items():
        version = str(said.get("version") or "")
        if version.startswith("npm:"):
            yield from named_npm(version.removeprefix("npm:"))
        else:
            yield Package("npm", name, exact(version))
        if depth < _DEEPEST:
            yield from _nested(said.get("dependencies", {}), depth + 1)


def _by_lines(ecosystem: str, pattern: re.Pattern[str]) -> Callable[[str], Iterable[Package]]:
    def read(text: str) -> Iterator[Package]:
        for found in pattern.finditer(text):
            yield Package(ecosystem, found[1], found[2])

    return read


# Rust, Ruby, Go.

_GEM = re.compile(r"^    ([\w.-]+) \((\d[^)]*)\)$", re.MULTILINE)
_GO = re.compile(r"^(?:require[ \t]++|[ \t]++)([^\s()\"]++)[ \t]++v(\d[\w.+-]*)", re.MULTILINE)
_CARGO = ("dependencies", "dev-dependencies", "build-dependencies")


def _cargo_toml(text: str) -> Iterator[Package]:
    plain = _toml(text)
    places = [plain, plain.get("workspace", {}), *plain.get("target", {}).values()]
    for name, said in (item for place in places for group in _CARGO for item in place.get(group, {}).items()):
        if isinstance(said, dict) and {"path", "git"} & said.keys():
            continue
        version = said.get("version", "") if isinstance(said, dict) else said
        real = said.get("package", name) if isinstance(said, dict) else name
        pinned = isinstance(version, str) and version.startswith("=")  # "1.2" is a range to Cargo
        yield Package("crates.io", real, exact(_version_in(said)) if pinned else "")


_READERS: Mapping[str, Callable[[str], Iterable[Package]]] = {
    "pyproject.toml": _pyproject,
    "poetry.lock": _locked("PyPI"),
    "uv.lock": _locked("PyPI"),
    "pdm.lock": _locked("PyPI"),
    "Pipfile.lock": _pipfile_lock,
    "package.json": _package_json,
    "package-lock.json": _package_lock,
    "npm-shrinkwrap.json": _package_lock,
    "pnpm-lock.yaml": _by_lines("npm", _PNPM),
    "yarn.lock": _by_lines("npm", _YARN),
    "bun.lock": _by_lines("npm", _BUN),
    "Cargo.lock": _locked("crates.io"),
    "Cargo.toml": _cargo_toml,
    "Gemfile.lock": _by_lines("RubyGems", _GEM),
    "go.mod": _by_lines("Go", _GO),
}
