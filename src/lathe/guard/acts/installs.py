"""Packages that a command would install, by name and version, from its words.

Facts: the manuals of pip, uv, pipx, poetry, npm, pnpm, yarn, bun, cargo, gem and go; names normalised as in PEP 503.
What stands in requirement files, manifests and lock files is read by `workspace`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lathe.guard.wrappers import program_name


class Package(NamedTuple):
    """`ecosystem` as OSV names it; `version` is "" where the command leaves it open."""

    ecosystem: str
    name: str
    version: str = ""

    @property
    def key(self) -> str:
        """The name by which indicators know it."""
        return package_key(self.ecosystem, self.name)


def package_key(ecosystem: str, name: str) -> str:
    """Return `ecosystem/name` in the form that compares: PyPI knows no case, and no difference of `-`, `_`, `.`."""
    if ecosystem == "PyPI":
        name = re.sub(r"[-_.]+", "-", name).lower()
    return f"{ecosystem}/{name}"


class _Tool(NamedTuple):
    ecosystem: str
    verbs: frozenset[str]
    valued: frozenset[str] = frozenset()


_PIP = frozenset(
    {
        *("-r", "-c", "-e", "-i", "-t", "-f", "--requirement", "--constraint", "--editable", "--index-url", "--target"),
        *("--extra-index-url", "--find-links", "--prefix", "--root", "--python", "--platform", "--python-version"),
        *(
            "-p",
            "--trusted-host",
            "--cache-dir",
            "--progress-bar",
            "--group",
            "--extra",
            "--index",
            "--upgrade-package",
        ),
    }
)
_NODE = frozenset({"--registry", "--prefix", "--workspace", "-w", "--filter", "--cwd", "-C", "--dir", "--tag"})
_NODE_VERBS = frozenset({"install", "i", "add", "in", "ins", "exec", "dlx", "x"})
_TOOLS = {
    **dict.fromkeys(("pip", "pip3", "pipx"), _Tool("PyPI", frozenset({"install", "download", "run", "inject"}), _PIP)),
    **dict.fromkeys(("uv", "poetry", "pdm", "rye"), _Tool("PyPI", frozenset({"add", "install"}), _PIP)),
    **dict.fromkeys(("npm", "pnpm", "yarn", "bun"), _Tool("npm", _NODE_VERBS, _NODE)),
    "cargo": _Tool(
        "crates.io",
        frozenset({"add", "install"}),
        frozenset(
            {
                *("--features", "-F", "--git", "--path", "--registry", "--version", "--vers", "--rename", "--root"),
                *("--branch", "--tag", "--rev", "-p", "--package", "--manifest-path", "--index", "-j", "--target"),
            }
        ),
    ),
    "gem": _Tool("RubyGems", frozenset({"install", "i"}), frozenset({"-v", "--version", "-s", "--source", "-i", "-n"})),
    "go": _Tool("Go", frozenset({"get", "install", "run"}), frozenset({"-C", "-tags", "-ldflags", "-modfile"})),
}
_RUNNERS = {"npx": "npm", "bunx": "npm", "uvx": "PyPI"}
_BY_FILES = frozenset({"pipenv", "bundle"})
PROGRAMS = frozenset({*_TOOLS, *_RUNNERS, *_BY_FILES, "python", "python3"})
_PYPI = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:(?:===?|@)\s*([\w.!+*-]+))?(?=$|[\s<>=!~;,@])")
_NPM = re.compile(r"((?:@[\w.~-]+/)?[A-Za-z0-9_][\w.~-]*)(?:@(.*))?")
_PLAIN = re.compile(r"([\w./~-]+?)(?:@v?(.+))?")
_EXACT = re.compile(r"\d[\w.+!-]*")
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*|pip[\d.]+")


class Tool(NamedTuple):
    """A program that installs packages, by one name for all its forms, and the words behind it."""

    name: str
    rest: list[str]


def tool_of(words: Sequence[str]) -> Tool | None:
    """Return what a simple command installs with: `python -m pip`, `pip3.12` and `uv pip` are all `pip`."""
    name = program_name(words[0]) if words else ""
    rest = list(words[1:])
    if _PYTHON.fullmatch(name):
        if name.startswith("p") and rest[:1] == ["-m"] and len(rest) > 1:
            name, rest = rest[1], rest[2:]
        elif name.startswith("pip"):
            name = "pip"
    if name == "uv" and rest[:1] == ["pip"]:
        name, rest = "pip", rest[1:]
    elif name == "uv" and rest[:1] == ["tool"]:
        rest = rest[1:]
    name = "pip" if name == "pip3" else name
    return Tool(name, rest) if name in _TOOLS or name in _RUNNERS or name in _BY_FILES else None


def installed(words: Sequence[str]) -> list[Package]:
    """Return the packages that a simple command names to be installed or fetched and run."""
    found = tool_of(words)
    if found is None:
        return []
    name, rest = found
    if name in _RUNNERS:
        operands = list(_operands(rest, frozenset({"-p", "--package", "--with", "--from", "--python"})))
        return _named(_RUNNERS[name], operands[:1], "")
    tool = _TOOLS.get(name)
    if tool is None:
        return []
    operands = list(_operands(rest, tool.valued))
    if name == "yarn" and operands[:1] == ["global"]:
        operands = operands[1:]
    if not operands or operands[0] not in tool.verbs:
        return []
    run_one = operands[0] in ("exec", "dlx", "x", "run")
    version = next((rest[at + 1] for at, word in enumerate(rest[:-1]) if word in ("-v", "--version", "--vers")), "")
    names = operands[1:2] if run_one else operands[1:]
    return _named(tool.ecosystem, names, version if tool.ecosystem in ("crates.io", "RubyGems") else "")


def _operands(words: Sequence[str], valued: frozenset[str]) -> Iterator[str]:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in valued
        else:
            yield word


def exact(version: str) -> str:
    """Return a version where it is one, "" for a range or a name."""
    return version if _EXACT.fullmatch(version) else ""


def named_pypi(requirement: str) -> list[Package]:
    """Return the package that a requirement as in PEP 508 names, none for a path, a URL or an option."""
    return _named("PyPI", [requirement], "")


def named_npm(requirement: str) -> list[Package]:
    """Return the package that `name@version` names."""
    return _named("npm", [requirement], "")


def _named(ecosystem: str, words: Sequence[str], version: str) -> list[Package]:
    found = []
    for word in words:
        if "://" in word.partition(";")[0] or word.startswith((".", "/", "~", "-")):
            continue
        form = _NPM if ecosystem == "npm" else _PLAIN
        match = _PYPI.match(word) if ecosystem == "PyPI" else form.fullmatch(word)
        if match is None:
            continue
        said = (match[2] or version or "").removeprefix("v" if ecosystem == "Go" else "").strip()
        found.append(Package(ecosystem, match[1], exact(said)))
    return found
