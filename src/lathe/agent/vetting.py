"""Judging a line of shell that is not simply confined: by rules, by grants, and by what is known to be harmless."""

from __future__ import annotations

import os
import re
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.agent.known import family, harmless_variables, only_carries, only_reads
from lathe.agent.matching import first_match, matches
from lathe.agent.rules import Rules
from lathe.agent.verdict import NO_WORKAROUND, Allow, Family, Forbid, Grant, MustAsk, Place, Stance, Verdict
from lathe.config.paths import lathe_home
from lathe.config.settings import RuleSpec
from lathe.guard.shell import Analysis, Part, analyse
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.targets import covers
from lathe.sandbox.policy import RUNS_LATER
from lathe.sandbox.sight import is_guarded
from lathe.tools.base import RunCommand

if TYPE_CHECKING:
    from lathe.guard.danger import Danger
    from lathe.guard.destructive import Dangers

_LONGEST_SCRIPT = 64 * 1024
_MOST_SHOWN = 3
_SHELL_LINE = re.compile(r"#!\s*(?:/usr/bin/env\s+(?:-S\s+)?)?\S*\b(?:ba|da|z|k)?sh\b")
_DEVICES = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr"})


def vet(access: RunCommand, stance: Stance) -> Verdict:
    """Return what is to be done about a command that may leave the sandbox, that rules may speak of, or both."""
    approve, rules, granted = stance.approve, stance.rules, stance.granted
    free = stance.policy.mode == "danger-full-access"
    escalated = access.escalate and not free
    analysis = analyse(access.command)
    place = _place(access, stance, analysis)
    forbidden = first_match(rules.forbid, analysis, place)
    if forbidden is not None:
        return Forbid(
            f"A rule forbids {_shown(forbidden[1])}: {forbidden[0].reason or 'no reason given'}. {NO_WORKAROUND}"
        )
    if free and approve == "never":
        return Allow()
    exact = ("exact", access.cwd, access.command, "escalated" if escalated else "")
    if exact in granted:
        return Allow(escalated)
    asked = _asked(access, analysis, place, rules, free or escalated) or _destroys(access, stance, free or escalated)
    if asked is not None:
        return asked._replace(grants=(exact,), escalated=escalated)
    may_run = not escalated and approve != "untrusted"
    if may_run or vouched(analysis, place, rules, granted, escalated=escalated):
        return Allow(escalated)
    families = _families(analysis, place, rules, granted, escalated=escalated)
    grants = tuple(("family", *one) for one in families) or (exact,)
    where = "Run outside the sandbox" if escalated else "Run"
    return MustAsk(f"{where}: {access.command}", access.reason, families, grants, escalated)


def _place(access: RunCommand, stance: Stance, analysis: Analysis) -> Place:
    moved = any(part.words[:1] and part.words[0] in ("cd", "pushd", "popd") for part in analysis.parts)
    roots = stance.policy.writable_roots or (str(stance.cwd),)
    return Place(str(stance.cwd / access.cwd), roots, moved, (*RUNS_LATER, *stance.policy.paths.guarded))


def _asked(access: RunCommand, analysis: Analysis, place: Place, rules: Rules, unconfined: bool) -> MustAsk | None:
    """Return the question that a rule demands, or that a line demands which rules can't be tried on."""
    asked = first_match(rules.ask, analysis, place)
    if asked is not None:
        return MustAsk(f"Run: {access.command}", asked[0].reason or f"A rule asks about {_shown(asked[1])}.")
    unnamed = any(part.words and part.words[0] is None for part in analysis.parts)
    if analysis.broken and (unconfined or rules.ask or rules.forbid):
        return MustAsk(
            f"Run: {access.command}", "Lathe can't tell for sure what this line runs. Write it more plainly."
        )
    if unnamed and (rules.ask or rules.forbid):
        return MustAsk(f"Run: {access.command}", "It names a program by a variable, so no rule can be tried on it.")
    return None


def _destroys(access: RunCommand, stance: Stance, unconfined: bool) -> MustAsk | None:
    """Return the question about a line that would destroy what no snapshot brings back."""
    every = dangers(access, stance).found
    found = [danger for danger in every if _can(danger, stance, unconfined)]
    if found:
        return MustAsk(f"Run: {access.command}", f"{_acts(found)} {_LASTING[found[0].reach]}")
    restoring = [danger for danger in every if danger.brings_back]
    risk = stance.risk
    for files, acts, why in (
        (risk.edited, every, _EDITED),
        (risk.removed, restoring, _REMOVED),
        (risk.unkept, every, _UNKEPT),
    ):
        hit = [(danger, path) for path in files for danger in acts if danger.path and covers(danger.path, path)]
        if hit:
            names = ", ".join(dict.fromkeys(path for _, path in hit[:_MOST_SHOWN]))
            more = f" and {len(hit) - _MOST_SHOWN} more" if len(hit) > _MOST_SHOWN else ""
            return MustAsk(f"Run: {access.command}", f"{_acts([danger for danger, _ in hit])} {why} {names}{more}.")
    return None


def _acts(found: list[Danger]) -> str:
    """Return what is done, as a sentence or two."""
    acts = list(dict.fromkeys(f"it {danger.act} {_named(danger.target)}" for danger in found))
    text = "; ".join(acts[:_MOST_SHOWN]) + (f"; and {len(acts) - _MOST_SHOWN} more" if len(acts) > _MOST_SHOWN else "")
    return f"{text[0].upper()}{text[1:]}."


_EDITED = "The person has changed files there meanwhile:"
_REMOVED = "The person has removed files there meanwhile:"
_UNKEPT = "Files there are too large to be kept for undo:"


_LASTING = {
    "machine": "That lies outside the workspace, where Lathe can undo nothing.",
    "service": "That is beyond this machine's files, where Lathe can undo nothing.",
    "repository": "That is the store of git itself, which no snapshot holds.",
    "guard": "That is what protects you from mistakes.",
    "unknown": "What that is can't be told beforehand.",
}


def _named(target: str) -> str:
    return re.sub(f"[{UNKNOWN}{SOME}]+", "…", target) or "…"


def dangers(access: RunCommand, stance: Stance) -> Dangers:
    """Return what a command would destroy, read with the variables that Lathe was started with."""
    from lathe.guard.destructive import examine
    from lathe.guard.targets import Ground

    cwd = str(stance.cwd / access.cwd)
    roots = stance.policy.writable_roots or (str(stance.cwd),)
    ground = Ground(roots, os.path.expanduser("~"), (str(lathe_home(os.environ)),))  # noqa: PTH111
    return examine(access.command, ground, cwd, dict(os.environ), partial(_script_at, cwd=cwd))


def _script_at(path: str, cwd: str) -> str | None:
    """Return the text of the shell script at `path`, None where there is none, or one that is too long."""
    whole = Path(cwd, path)
    try:
        if not whole.is_file() or whole.stat().st_size > _LONGEST_SCRIPT:
            return None
        text = whole.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return text if not text.startswith("#!") or _SHELL_LINE.match(text) else None


def _can(danger: Danger, stance: Stance, unconfined: bool) -> bool:
    """Tell whether a lasting act is within reach of a command under the policy."""
    if unconfined:
        return danger.lasting
    writes = stance.policy.mode != "read-only"
    return (danger.reach == "repository" and writes) or (danger.reach == "service" and stance.policy.reaches_out)


def vouched(analysis: Analysis, place: Place, rules: Rules, granted: Set[Grant], *, escalated: bool) -> bool:
    """Tell whether every part of a line is allowed by a rule or a grant, or harmless.

    Harmless inside the sandbox is what only reads. Outside it (`escalated`) that would open files the sandbox hides:
    there, beside a part that is allowed, only what passes text on is.
    """
    if analysis.broken or analysis.opaque or not analysis.parts:
        return False
    if not all(_may_write(target, place) for target in analysis.writes):
        return False
    if escalated and not _is_home(place):
        return False
    allowed = [_is_allowed(part, rules, granted, place) for part in analysis.parts]
    if (escalated or any(target not in _DEVICES for target in analysis.writes)) and not any(allowed):
        return False
    started = {part.inside for part in analysis.parts if part.inside is not None}
    for index, part in enumerate(analysis.parts):
        if not harmless_variables(part.assigns):
            return False
        covered = allowed[index] or _inside_allowed(analysis.parts, index, allowed)
        harmless = only_carries(part, _target_inside(part, place)) if escalated else only_reads(part)
        if not (covered or harmless or (part.clear and index in started)):
            return False
    return True


def _is_home(place: Place) -> bool:
    return place.holds(os.path.join(place.cwd, "x"))  # noqa: PTH118


def _target_inside(part: Part, place: Place) -> bool:
    target = part.words[1] if len(part.words) == 2 else None
    return target is not None and place._replace(moved=False).holds(f"{target}/x")


def _may_write(target: str | None, place: Place) -> bool:
    if target is None or target in _DEVICES:
        return target is not None
    return place.holds(target) and not is_guarded(os.path.join(place.cwd, target), place.roots, place.guarded)  # noqa: PTH118


def _is_allowed(part: Part, rules: Rules, granted: Set[Grant], place: Place) -> bool:
    if any(matches(rule, part, place, literal=True) for rule in rules.allow):
        return True
    families = (*rules.remembered, *(grant[1:] for grant in granted if grant[0] == "family"))
    return any(matches(RuleSpec(prefix=one), part, place, literal=True) for one in families)


def _inside_allowed(parts: tuple[Part, ...], index: int, allowed: list[bool]) -> bool:
    above = parts[index].inside
    while above is not None:
        if allowed[above]:
            return True
        above = parts[above].inside
    return False


def _families(
    analysis: Analysis, place: Place, rules: Rules, granted: Set[Grant], *, escalated: bool
) -> tuple[Family, ...]:
    """Return the families that would allow this very line, () where no fair set of them would."""
    proposed: list[Family] = []
    for part in analysis.parts:
        harmless = only_carries(part, _target_inside(part, place)) if escalated else only_reads(part)
        if harmless or part.clear or _is_allowed(part, rules, granted, place):
            continue
        one = family(part)
        if one is None:
            return ()
        if one not in proposed:
            proposed.append(one)
    wished = granted | {("family", *one) for one in proposed}
    return tuple(proposed) if vouched(analysis, place, rules, wished, escalated=escalated) else ()


def _shown(part: Part) -> str:
    return "`" + " ".join("…" if word is None else word for word in part.words) + "`"
