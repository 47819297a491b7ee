"""Acts that destroy: what a line of shell would delete, overwrite, discard, rewrite or take down.

The answer is advice for whoever decides. It looks at every part of the line (`shell_run.follow`) and at what the
part is done to (`targets.reach`): the same `rm -rf` is everyday work in a build folder and a catastrophe at home.
Each family of programs has a reader of its own, which turns one simple command into dangers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lathe.guard import (
    destructive_code,
    destructive_files,
    destructive_git,
    destructive_machine,
    destructive_services,
)
from lathe.guard.danger import Danger, Site
from lathe.guard.destructive_code import scripts_in
from lathe.guard.destructive_files import emptied, unnamed
from lathe.guard.shell_run import Context, Run, follow
from lathe.guard.targets import Ground, absolute
from lathe.guard.wrappers import program_name
from lathe.sandbox.mounts import is_below


class Dangers(NamedTuple):
    """What was found. `unread`: a text runs that nobody can know. `broken`: the line could not be read for sure."""

    found: tuple[Danger, ...]
    unread: bool = False
    broken: bool = False


def examine(
    command: str,
    ground: Ground,
    cwd: str,
    variables: Mapping[str, str],
    script_at: Callable[[str], str | None] = lambda path: None,
) -> Dangers:
    """Return every destructive act in a line of shell that would run in `cwd` with `variables`; never raises."""
    top = next((root for root in ground.roots if is_below(cwd, root)), cwd)
    seen = {"HOME": ground.home, "PWD": cwd, **variables}
    reading = follow(command, Context(cwd, seen, top, script_at))
    found: dict[Danger, None] = {}
    for run in reading.runs:
        found.update(dict.fromkeys(dangers_of(run, ground, script_at)))
    if reading.runaway:
        found[Danger("starts itself again without end", "processes", "machine")] = None
    return Dangers(tuple(found), reading.unread, reading.broken)


def dangers_of(run: Run, ground: Ground, script_at: Callable[[str], str | None]) -> list[Danger]:
    """Return the destructive acts of one simple command, those of the code it is given too."""
    site = Site(run, ground)
    words = (program_name(run.words[0]), *run.words[1:]) if run.words else ()
    found = emptied(site)
    for read in _READERS if words else ():
        found += read(words, site)
    found = [danger._replace(path=absolute(danger.target, run.cwd, ground) or "") for danger in found]
    for script in scripts_in(words, run.given.text) if words else ():
        reading = follow(script, Context(run.cwd, {"HOME": ground.home}, run.cwd, script_at))
        for inner in reading.runs:
            found += dangers_of(inner, ground, script_at)
    return found


_READERS = (
    unnamed,
    destructive_files.read,
    destructive_git.read,
    destructive_machine.read,
    destructive_services.read,
    destructive_code.read,
)
