"""What is hidden and protected in a workspace: by the settings, and by itself."""

from __future__ import annotations

import os
from pathlib import Path

from lathe.agent.instructions import NAMES
from lathe.agent.skills import PLACES
from lathe.config.settings import Settings
from lathe.protocol.errors import ConfigError
from lathe.sandbox.paths import has_wildcard
from lathe.sandbox.policy import PathRules

VEILED = (".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist")
"""Files that hold keys as a rule; those behind `!` show how such a file is to look."""
GUARDED = (*NAMES, *(place for place in PLACES if not place.startswith(".lathe/")))
"""What a later thread is told to do: instructions, and the folders of skills. `.lathe` is protected in any case."""


def path_rules(settings: Settings, root: Path) -> PathRules:
    """Return the rules for the workspace at `root`; raise `ConfigError` where they would hide all of it."""
    stated = settings.paths
    home = os.path.realpath(root)
    hide = _absolute(stated.hide, root)
    for given, pattern in zip(stated.hide, hide, strict=True):
        if os.path.realpath(pattern.removesuffix("/**")) == home:
            raise ConfigError(f"paths.hide: {given!r} is the whole workspace.", hint="Name what in it is to be hidden.")
    return PathRules(
        read=_absolute(stated.read, root),
        write=_absolute(stated.write, root),
        protect=_absolute(stated.protect, root),
        hide=hide,
        veiled=VEILED,
        guarded=GUARDED,
    )


def missing(settings: Settings, rules: PathRules) -> list[str]:
    """Return a sentence for each rule that names a path which is not there: it holds for nothing yet."""
    found = []
    for key in ("read", "write", "protect", "hide"):
        for given, pattern in zip(getattr(settings.paths, key), getattr(rules, key), strict=True):
            if not has_wildcard(pattern) and not os.path.lexists(pattern):
                found.append(f"paths.{key}: {given} is not there, so the rule holds for nothing in this session.")
    return found


def _absolute(patterns: tuple[str, ...], root: Path) -> tuple[str, ...]:
    return tuple(os.path.normpath(root / os.path.expanduser(pattern)) for pattern in patterns)  # noqa: PTH111
