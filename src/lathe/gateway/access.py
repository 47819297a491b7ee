"""Access: which of the entitlements that a principal holds a request is judged by.

The strongest that fits is used, unless the request names one (its id, a tier, or a word of a scope): then that one is
used or the request is refused. What a request names chooses among what is held, and grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from lathe.gateway.documents import LEEWAY_MS, Held
from lathe.gateway.entitlements import RANK, Entitlement, matching
from lathe.gateway.principals import Asked, Principal, Tier
from lathe.gateway.refusals import Refusal, listed, moment, refusal

_SHOWN = 20


class Needs(NamedTuple):
    """What a model asks of those who use it; `alias` says so where it was named by another name."""

    model: str
    tier: Tier = "default"
    scope: frozenset[str] = frozenset()
    alias: str = ""


class Chosen(NamedTuple):
    """What a request is judged by; `entitlement` is "" for the default, which everyone has."""

    tier: Tier
    entitlement: str


_DEFAULT = Chosen("default", "")


class _Right:
    """One entitlement, ready to be asked."""

    __slots__ = (
        "begins",
        "chosen",
        "ends",
        "held",
        "models",
        "one",
        "organisation",
        "project",
        "rank",
        "scope",
        "surfaces",
    )

    def __init__(self, held: Held[Entitlement], models: frozenset[str]) -> None:
        one = held.document
        self.held = held
        self.one = one
        self.rank = RANK[one.tier]
        self.organisation = one.organisation
        self.project = one.project
        self.models = models
        self.surfaces = frozenset(one.surfaces)
        self.scope = frozenset(one.scope)
        self.begins = one.starts - LEEWAY_MS
        self.ends = one.expires if held.revoked is None else -1
        self.chosen = Chosen(one.tier, one.id)

    def fits(self, who: Principal, asked: Asked, needs: Needs) -> bool:
        """Say whether it covers the place of a request and what the model needs; of its time, `is_live` says."""
        return (
            needs.model in self.models
            and asked.surface in self.surfaces
            and self.rank >= RANK[needs.tier]
            and self.project in ("", who.project)
            and needs.scope <= self.scope
        )

    def is_live(self, at: int) -> bool:
        return self.begins <= at < self.ends

    def is_named(self, program: str) -> bool:
        return program in (self.one.id, self.one.tier) or program in self.scope

    def why_not(self, who: Principal, asked: Asked, needs: Needs) -> str:
        """Return why it does not fit, as the middle of a sentence."""
        one = self.one
        if self.project not in ("", who.project):
            return f"{one.id} holds for another project"
        if asked.surface not in self.surfaces:
            return f"{one.id} holds on {listed(list(one.surfaces))}, not on {asked.surface}"
        if needs.model not in self.models:
            return f"{one.id} holds for {listed(list(one.models))}, not for {needs.model}"
        if self.rank < RANK[needs.tier]:
            return f"{one.id} is of the tier {one.tier}"
        return f"{one.id} has the scope {listed(list(one.scope), 'of no word')}"


class Access:
    """All entitlements, by who holds them. `models` are the names that there are."""

    def __init__(self, held: Iterable[Held[Entitlement]], models: Iterable[str]) -> None:
        names = frozenset(models)
        globs: dict[tuple[str, ...], frozenset[str]] = {}
        self._rights: dict[str, list[_Right]] = {}
        for one in held:
            wanted = one.document.models
            if wanted not in globs:
                globs[wanted] = names if "*" in wanted else matching(wanted, names)
            self._rights.setdefault(one.document.subject, []).append(_Right(one, globs[wanted]))
        for rights in self._rights.values():
            rights.sort(key=lambda right: (-right.rank, -right.one.expires, right.one.id))

    def choose(self, who: Principal, asked: Asked, needs: Needs) -> Chosen | Refusal:
        """Return what the request is judged by, or why it can't be."""
        rights = self._of(who)
        program = asked.program
        best: _Right | None = None
        for right in rights:
            if (
                (best is None or right.rank > best.rank)
                and right.is_live(asked.at)
                and right.fits(who, asked, needs)
                and (not program or right.is_named(program))
            ):
                best = right
        if best is not None:
            return best.chosen
        demands = needs.tier != "default" or bool(needs.scope)
        if not demands and program in ("", "default"):
            return _DEFAULT
        if not program:
            return self._insufficient(rights, who, asked, needs)
        return self._mismatch(rights, who, asked, needs)

    def standing(self, who: Principal, at: int) -> list[dict[str, Any]]:
        """Return what a principal holds, also what does not count: for people and machines to read, live ones first."""
        return [_shown(right, at) for right in sorted(self._of(who), key=lambda right: not right.is_live(at))]

    def lapsed(self, who: Principal, asked: Asked, needs: Needs, above: Tier) -> str:
        """Return the end of a sentence on an entitlement that would be stronger than `above` if it counted; else ""."""
        for right in self._of(who):
            if right.rank > RANK[above] and right.fits(who, asked, needs):
                return f"; {_state(right, asked.at)}"
        return ""

    def _of(self, who: Principal) -> list[_Right]:
        found: list[_Right] = []
        for subject in who.subjects:
            rights = self._rights.get(subject)
            if rights:
                found += [right for right in rights if right.organisation == who.organisation]
        return found

    def _insufficient(self, rights: list[_Right], who: Principal, asked: Asked, needs: Needs) -> Refusal:
        details = self._details(who, asked, needs)
        dead = [right for right in rights if not right.is_live(asked.at) and right.fits(who, asked, needs)]
        if dead:
            return _not_live(dead, asked.at, details, needed=_needed(needs, asked))
        held = _held(rights, asked.at)
        return refusal("model_needs_access", details=details, model=needs.model, needed=_terms(needs), held=held)

    def _mismatch(self, rights: list[_Right], who: Principal, asked: Asked, needs: Needs) -> Refusal:
        details = self._details(who, asked, needs)
        needed = _needed(needs, asked)
        facts = {"program": asked.program[:100], "needed": needed}
        if asked.program == "default":
            return refusal("access_mismatch", details=details, why=f"{needs.model} is not for everyone", **facts)
        named = [right for right in rights if right.is_named(asked.program)]
        if not named:
            return refusal("access_not_held", details=details, held=_held(rights, asked.at), **facts)
        live = [right for right in named if right.is_live(asked.at)]
        if not live:
            return _not_live(named, asked.at, details, needed=needed)
        why = " and ".join(right.why_not(who, asked, needs) for right in live[:3])
        return refusal("access_mismatch", details=details, why=why, **facts)

    def _details(self, who: Principal, asked: Asked, needs: Needs) -> dict[str, Any]:
        return {
            "model": needs.model,
            "surface": asked.surface,
            "program": asked.program,
            "held": self.standing(who, asked.at)[:_SHOWN],
            "needed": {
                "model": needs.model,
                "surface": asked.surface,
                "project": who.project,
                "tier": needs.tier,
                "scope": sorted(needs.scope),
            },
        }


def _not_live(rights: list[_Right], at: int, details: dict[str, Any], *, needed: str) -> Refusal:
    """Return the refusal for entitlements that would do, but are over, revoked or not begun: of the best of them."""
    order = {"not_begun": 0, "expired": 1, "revoked": 2}
    right = min(rights, key=lambda one: (order.get(one.held.state(at), 3), -one.one.expires))
    state = right.held.state(at)
    when = {"not_begun": right.one.starts, "expired": right.one.expires}.get(state, right.held.revoked or 0)
    return refusal(
        f"entitlement_{state}",
        details=details | {"entitlement": right.one.id, "at": when},
        entitlement=right.one.id,
        tier=right.one.tier,
        when=moment(when),
        why=right.held.why or "no reason was given",
        needed=needed,
    )


def _terms(needs: Needs) -> str:
    scope = f" with the scope {listed(sorted(needs.scope))}" if needs.scope else ""
    return f"the tier {needs.tier}{scope}"


def _needed(needs: Needs, asked: Asked) -> str:
    at_least = f" of {_terms(needs)}" if needs.tier != "default" or needs.scope else ""
    return f"an entitlement{at_least} for {needs.model} on {asked.surface}"


def _held(rights: list[_Right], at: int) -> str:
    if not rights:
        return "nothing beyond the default is held"
    return listed([_state(right, at) for right in rights], most=3)


def _state(right: _Right, at: int) -> str:
    one, state = right.one, right.held.state(at)
    scope = f", {listed(list(one.scope))}" if one.scope else ""
    name = f"{one.id} ({one.tier}{scope}, for {listed(list(one.models))} on {listed(list(one.surfaces))})"
    match state:
        case "live":
            return f"{name} is held until {moment(one.expires)}"
        case "expired":
            return f"{name} expired on {moment(one.expires)}"
        case "not_begun":
            return f"{name} begins on {moment(one.starts)}"
        case _:
            return f"{name} was revoked on {moment(right.held.revoked or 0)}"


def _shown(right: _Right, at: int) -> dict[str, Any]:
    one = right.one
    shown: dict[str, Any] = {
        "id": one.id,
        "subject": one.subject,
        "tier": one.tier,
        "scope": list(one.scope),
        "models": list(one.models),
        "surfaces": list(one.surfaces),
        "project": one.project,
        "starts": one.starts,
        "expires": one.expires,
        "state": right.held.state(at),
    }
    if right.held.revoked is not None:
        shown |= {"revoked": right.held.revoked, "why": right.held.why}
    return shown
