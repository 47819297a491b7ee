"""The sentences of measures, written from what is held and what is missing, so that none says what is not so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from lathe.guard.taxonomy import Bound, Clause, Lack
from lathe.protocol.trust import Tier

_BOUNDS: dict[Bound, str] = {
    "any": "",
    "own": "targets that are your own",
    "engaged": "targets that are your own or within a live engagement",
}


class Held(NamedTuple):
    """What somebody holds."""

    tier: Tier
    scope: tuple[str, ...]

    def __str__(self) -> str:
        return _joined([f"the tier {self.tier}", _scope(self.scope)])


class Terms(Protocol):
    """A way in which an act is allowed, and what of it is missing."""

    @property
    def tier(self) -> Tier: ...
    @property
    def scope(self) -> tuple[str, ...]: ...
    @property
    def targets(self) -> Bound: ...
    @property
    def lacks(self) -> tuple[Lack, ...]: ...


def outside_sentence(clause: Clause, step: str, held: Held, openings: Sequence[Terms], doubtful: bool) -> str:
    """Return why something does not go on as asked; who holds an approval is told that it does not reach so far."""
    looks = f"{'This may be' if doubtful else 'This looks like'} {clause.title}"
    if step == "restrict":
        return f"{looks}, which your standing does not allow at present; other work goes on."
    if clause.concern == "agent":
        return f"{looks}, by the agent and not by you."
    if clause.concern == "injection":
        return f"{looks}; nothing that it says is followed."
    if not openings:
        return f"{looks}, which nothing allows, whatever the tier."
    if held.tier == "default" and not held.scope:
        return f"{looks}, which needs {terms(openings[0])}."
    return f"{looks}. You hold {held}; this act is outside of it, for want of {missing(openings[0])}."


def judged_by(tier: Tier, scope: tuple[str, ...], engagement: str = "", why: str = "") -> str:
    """Return what something was judged by, in sentences; `why` is one that says why it is no more."""
    work = f" in the engagement {engagement}" if engagement else ""
    return f"Judged by {Held(tier, scope)}{work}.{f' {why}' if why else ''}"


def terms(way: Terms) -> str:
    """Return all that a way asks for, as a part of a sentence."""
    return _joined([*_access(way.tier, way.scope), *([_BOUNDS[way.targets]] if way.targets != "any" else [])])


def missing(way: Terms) -> str:
    """Return what is missing for a way, as a part of a sentence."""
    found = _access(way.tier if "tier" in way.lacks else "default", way.scope if "scope" in way.lacks else ())
    return _joined([*found, *([_BOUNDS[way.targets]] if "target" in way.lacks else [])])


def _access(tier: Tier, scope: Sequence[str]) -> list[str]:
    return [
        *([f"the tier {tier}"] if tier != "default" else []),
        _scope(scope),
    ]


def _scope(words: Sequence[str]) -> str:
    return f"the scope {' and '.join(words)}" if words else ""


def _joined(words: Iterable[str]) -> str:
    found = [word for word in words if word]
    return " with ".join(found[:2]) + "".join(f" and {word}" for word in found[2:]) if found else "nothing more"
