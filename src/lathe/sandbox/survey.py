"""What is to be hidden or protected in a workspace by its name: a look at its folders, once per sandbox."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lathe.sandbox.paths import fits_name, segment
from lathe.sandbox.policy import PathRules

MOST_ENTRIES = 20_000
"""How many names are looked at, the upper folders first."""

_NOT_ENTERED = frozenset(
    {
        *(".git", ".hg", ".svn", "node_modules", "bower_components", "__pycache__", "site-packages"),
        *(".venv", "venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".cache"),
        *("target", "dist", "build", ".next", ".nuxt", ".gradle", ".terraform"),
    }
)
_GIT = (
    *("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    # only the index is read, and whose it is does not matter for that
    *("-c", "safe.directory=*", "ls-files", "-z", "--"),
)
_GIT_SECONDS = 10.0


class Survey(NamedTuple):
    """The files to hide, and the files and folders to protect; `cut` where there was more than is looked at."""

    veiled: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    cut: bool = False


def survey(roots: Iterable[str], rules: PathRules) -> Survey:
    """Return what the names in `rules` mean below the roots (absolute, without links); what git tracks stays seen."""
    if not (rules.veiled or rules.guarded):
        return Survey()
    veiled: list[str] = []
    guarded: list[str] = []
    suffixes = tuple(f"/{name}" for name in rules.guarded)
    left = MOST_ENTRIES
    folders = deque(dict.fromkeys(roots))
    while folders and left > 0:
        folder = folders.popleft()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:
            continue
        left -= len(entries)
        for entry in entries:
            if entry.path.endswith(suffixes):
                guarded.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_ENTERED:
                    folders.append(entry.path)
            elif is_veiled_name(entry.name, rules.veiled) and not entry.is_symlink():
                veiled.append(entry.path)
    known = tracked(veiled)
    return Survey(tuple(path for path in veiled if path not in known), tuple(guarded), left <= 0 and bool(folders))


def is_veiled_name(name: str, patterns: Sequence[str]) -> bool:
    """Return whether files of this name are hidden, by patterns of which the last that fits decides."""
    verdict = False
    # hardly a name is one of them, and a large tree has many
    if not _any_of(tuple(patterns)).match(name):
        return False
    for pattern in patterns:
        if fits_name(name, pattern.removeprefix("!")):
            verdict = not pattern.startswith("!")
    return verdict


@functools.cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(segment(pattern).pattern for pattern in patterns if not pattern.startswith("!")) or "$^")


def tracked(paths: Sequence[str]) -> set[str]:
    """Return which of these files the repository around them tracks; none where git can't say."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        top = _top(os.path.dirname(path))  # noqa: PTH120
        if top is not None:
            by_folder.setdefault(top, []).append(os.path.relpath(path, top))
    known: set[str] = set()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    for top, names in by_folder.items():
        try:
            done = subprocess.run(
                [*_GIT, *names], cwd=top, env=environment, capture_output=True, timeout=_GIT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        known.update(f"{top}/{os.fsdecode(name)}" for name in done.stdout.split(b"\0") if name)
    return known


def _top(folder: str) -> str | None:
    while not os.path.lexists(f"{folder}/.git"):
        if folder in ("", "/"):
            return None
        folder = folder.rpartition("/")[0]
    return folder
