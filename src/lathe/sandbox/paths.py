"""Rules about single paths: which of them holds for a path, and which paths that are there they mean.

A rule on a deeper path holds against one further up. On one path a rule that names it holds against a pattern, a
pattern against what is built in, and of equal ones that which hides.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from typing import Literal, NamedTuple, TypeAlias

from lathe.protocol.errors import ConfigError
from lathe.sandbox.policy import SandboxPolicy

RuleKind: TypeAlias = Literal["write", "read", "protect", "hide"]
SEEING: frozenset[RuleKind] = frozenset({"hide", "read", "write"})
"""What decides whether a path is seen."""
WRITING: frozenset[RuleKind] = frozenset({"write", "read", "protect"})
"""What decides whether a path that is seen may be written."""

MOST_ENTRIES = 200_000
"""How many names are looked at for the patterns of one policy."""
MOST_FOUND = 2_000
"""How many paths the rules of one policy may mean: each becomes a mount."""

_WILD = re.compile(r"[*?]")
_WEIGHT: dict[RuleKind, int] = {"write": 0, "read": 1, "protect": 1, "hide": 2}


class Rule(NamedTuple):
    """A rule: `base` is the part without wildcards, links resolved, `rest` the parts from the first wildcard on.

    `stated` is False for what is built in.
    """

    kind: RuleKind
    base: str
    rest: tuple[str, ...] = ()
    stated: bool = True

    def holds_for(self, path: str) -> bool:
        """Tell whether the rule names this very path (absolute, without links)."""
        if not self.rest:
            return path == self.base
        below = path.removeprefix(self.base.rstrip("/") + "/")
        return below != path and _fits(tuple(below.split("/")), self.rest)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """What decides between rules on one path; the greater holds."""
        return self.stated, not self.rest, _WEIGHT[self.kind]


def rules_of(policy: SandboxPolicy) -> tuple[Rule, ...]:
    """Return the rules that a policy states, its writable roots among them; read-only, `write` lets read."""
    confined: RuleKind = "write" if policy.mode == "workspace-write" else "read"
    roots = policy.writable_roots if policy.mode == "workspace-write" else ()
    paths = policy.paths
    stated: tuple[tuple[RuleKind, tuple[str, ...]], ...] = (
        ("write", roots),
        (confined, paths.write),
        ("read", paths.read),
        ("protect", paths.protect),
        ("hide", paths.hide),
    )
    return tuple(_rule(kind, pattern) for kind, patterns in stated for pattern in patterns)


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern means more than the path that it spells."""
    return _WILD.search(pattern) is not None


def _rule(kind: RuleKind, pattern: str) -> Rule:
    parts = pattern.split("/")
    while len(parts) > 1 and parts[-1] in ("**", ""):
        parts.pop()  # all that lies in a folder is the folder
    wild = next((index for index, part in enumerate(parts) if has_wildcard(part)), len(parts))
    return Rule(kind, os.path.realpath("/".join(parts[:wild]) or "/"), tuple(parts[wild:]))


@functools.lru_cache(maxsize=256)
def segment(pattern: str) -> re.Pattern[str]:
    """Return what matches the names that a pattern without `/` means."""
    # a bracket is a letter like others here
    return re.compile(translate(pattern.replace("[", "[[]")))


def fits_name(name: str, pattern: str) -> bool:
    """Return whether a file's name is one that a pattern without `/` means."""
    return segment(pattern).match(name) is not None


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[skipped:], pattern[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fits_name(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def strongest(rules: Iterable[Rule], path: str, kinds: frozenset[RuleKind]) -> Rule | None:
    """Return which rule of these kinds decides on a path (absolute, without links): the deepest, then by rank."""
    wanted = [rule for rule in rules if rule.kind in kinds]
    while wanted:
        hits = [rule for rule in wanted if rule.holds_for(path)]
        if hits:
            return max(hits, key=lambda rule: rule.rank)
        above = os.path.dirname(path)  # noqa: PTH120 - called for every file of a patch, for each folder above it
        if above == path:
            break
        path = above
    return None


def found(rules: Iterable[Rule]) -> list[str]:
    """Return the paths that are there and that a rule names, each once; links are neither followed nor named.

    Raises `ConfigError` where that is too much: what is left out would be open.
    """
    left = [MOST_ENTRIES]
    paths: dict[str, None] = {}
    for rule in rules:
        if not rule.rest:
            if os.path.lexists(rule.base):
                paths[rule.base] = None
        else:
            paths.update(dict.fromkeys(_expand(rule.base, rule.rest, left)))
    if left[0] < 0 or len(paths) > MOST_FOUND:
        much = f"{len(paths)} paths" if left[0] >= 0 else f"more than {MOST_ENTRIES} names to look at"
        raise ConfigError(f"The patterns in [paths] mean {much}.", hint="Name folders, or begin patterns deeper.")
    return list(paths)


def _expand(folder: str, rest: tuple[str, ...], left: list[int]) -> Iterator[str]:
    """Yield what `rest` means below a folder; `.git` is entered only by its name."""
    if not has_wildcard(rest[0]):
        path = f"{folder.rstrip('/')}/{rest[0]}"
        if os.path.islink(path) or not os.path.lexists(path):  # noqa: PTH114
            return
        yield from _expand(path, rest[1:], left) if rest[1:] else [path]
        return
    if rest[0] == "**":
        yield from _expand(folder, rest[1:], left)
    for entry in _entries(folder, left):
        if entry.name == ".git" or entry.is_symlink():
            continue
        if rest[0] == "**":
            if entry.is_dir(follow_symlinks=False):
                yield from _expand(entry.path, rest, left)
        elif fits_name(entry.name, rest[0]):
            if not rest[1:]:
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                yield from _expand(entry.path, rest[1:], left)


def _entries(folder: str, left: list[int]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError:
        return []
    left[0] -= len(entries)
    return entries if left[0] >= 0 else []
