"""A destructive act, and how a simple command is read to find one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lathe.guard.shell_run import Run
from lathe.guard.targets import LASTING, Ground, Reach, absolute, reach


class Danger(NamedTuple):
    """One destructive act: what the command does, as a sentence's end ("deletes build and all below it"), to what."""

    act: str
    target: str
    reach: Reach
    path: str = ""
    """The absolute path or pattern of what is done away with, "" where there is none or it can't be told."""
    brings_back: bool = False
    """Whether files there that were deleted come back with it."""

    @property
    def lasting(self) -> bool:
        """Whether no snapshot of the workspace could put it right."""
        return self.reach in LASTING


class Site(NamedTuple):
    """Where a simple command does its work."""

    run: Run
    ground: Ground

    def reach(self, path: str) -> Reach:
        """Return how far `path` reaches, of a command that may run on another machine or in a container."""
        found = reach(path, self.run.cwd, self.ground)
        if not self.run.elsewhere:
            return found
        return found if found in ("scratch", "unknown") else "service"

    def is_root(self, path: str) -> bool:
        """Tell whether `path` is a root of the workspace: what goes with it is git's store, too."""
        whole = absolute(path, self.run.cwd, self.ground)
        if whole is None or self.run.elsewhere:
            return False
        real = os.path.realpath(whole)
        return any(real == os.path.realpath(root) for root in self.ground.roots)


Reader = Callable[[tuple[str, ...], Site], list[Danger]]
"""Turns the words of a command (its program's bare name first) into dangers."""


class Options(NamedTuple):
    """A command line as getopt sees it: letters and long names, operands, and the values of long options."""

    flags: frozenset[str]
    operands: tuple[str, ...]
    values: dict[str, str]

    def has(self, *names: str) -> bool:
        """Tell whether any of these options is there; a long one also by an unambiguous beginning of four letters."""
        return any(
            name in self.flags or (len(name) > 4 and any(len(f) > 3 and name.startswith(f) for f in self.flags))
            for name in names
        )


def options(words: Sequence[str], valued: str = "") -> Options:
    """Read `words[1:]`; `valued` are the letters that take the next word."""
    flags: set[str] = set()
    operands: list[str] = []
    values: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            operands += rest
        elif word.startswith("--"):
            name, _, value = word[2:].partition("=")
            flags.add(name)
            values[name] = value
        elif word.startswith("-") and len(word) > 1:
            for at, letter in enumerate(word[1:], 2):
                flags.add(letter)
                if letter in valued:
                    values[letter] = word[at:] or next(rest, "")
                    break
        else:
            operands.append(word)
    return Options(frozenset(flags), tuple(operands), values)
