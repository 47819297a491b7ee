"""What the gateway decides of a request: whether a model is served, which one, by which right, and if not, why not.

A policy is one state of all rules. Nothing in it changes and nothing in it waits, so every request of one moment is
judged by the same rules; its hash names that state in receipts.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from lathe.gateway.access import Access, Needs
from lathe.gateway.canonical import canonical
from lathe.gateway.documents import Held
from lathe.gateway.engagements import Engagement, Targets
from lathe.gateway.entitlements import Entitlement
from lathe.gateway.principals import Asked, Principal, Tier
from lathe.gateway.receipts import Outcome
from lathe.gateway.refusals import REFUSALS, Refusal, listed, moment, refusal
from lathe.gateway.rollout import Opening, Schedule, gates, said
from lathe.gateway.safeguards import KEEPS, Safeguards

Fallbacks: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""What a project agreed to be served in place of a model: project → model, or `*` for any other → models in order."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that is served. `tier` and `scope` are what a request needs to hold, by its `safeguards` too."""

    name: str
    aliases: tuple[str, ...] = ()
    tier: Tier = "default"
    scope: tuple[str, ...] = ()
    safeguards: Safeguards | None = None


class Decision(NamedTuple):
    """What was decided of one request.

    `model` is the one to serve, "" for a refusal; where it is another than `requested`, `substitution` says why
    (`alias:NAME`, `fallback:CODE`). `clause` is the rule that said so, `policy` the hash of the policy that it is in.
    A refusal has a stable `code`, one sentence for people, `details` for machines, an HTTP `status` and a next step.
    A fallback keeps the code and the sentence of what it stands in for.
    """

    outcome: Outcome
    requested: str
    clause: str
    policy: str
    model: str = ""
    tier: Tier = "default"
    entitlement: str = ""
    engagement: str = ""
    substitution: str = ""
    code: str = ""
    message: str = ""
    details: Mapping[str, Any] = {}
    status: int = 200
    hint: str = ""


class Policy:
    """One state of all rules. `models` are those that there are, by name; `hash` is SHA-256, in hexadecimal."""

    def __init__(
        self,
        entitlements: Iterable[Held[Entitlement]] = (),
        engagements: Iterable[Held[Engagement]] = (),
        rollouts: Iterable[Schedule] = (),
        *,
        models: Iterable[Model] = (),
        fallbacks: Fallbacks | None = None,
    ) -> None:
        self.models: dict[str, Model] = {one.name: one for one in models}
        names = {alias: one for one in self.models.values() for alias in one.aliases} | self.models
        self._needs = {
            name: Needs(one.name, one.tier, frozenset(one.scope), "" if name == one.name else f"alias:{name}")
            for name, one in names.items()
        }
        self._safe = {
            one.name: (one.safeguards, one.safeguards.gate())
            for one in self.models.values()
            if one.safeguards is not None
        }
        held = list(entitlements)
        self._entitlements = {one.document.id: one for one in held}
        self._engagements = {one.document.id: one for one in engagements}
        self._access = Access(held, self.models)
        self._fallbacks = fallbacks or {}
        self._rights = _digest([*map(_line, held), *map(_line, self._engagements.values())])
        self._open(rollouts)

    def _open(self, rollouts: Iterable[Schedule]) -> None:
        self.rollouts = {one.model: one for one in rollouts}
        self._gates = gates(self.rollouts.values())
        parts = [self._rights, *(list(map(msgspec.to_builtins, self.models.values()))), _plain(self._fallbacks)]
        parts += [msgspec.to_builtins(self.rollouts[name]) for name in sorted(self.rollouts)]
        self.hash = hashlib.sha256(canonical(parts)).hexdigest()

    def with_rollouts(self, rollouts: Iterable[Schedule]) -> Policy:
        """Return the same policy with other schedules in place of those of the same models."""
        other = copy.copy(self)
        other._open((self.rollouts | {one.model: one for one in rollouts}).values())
        return other

    def decide(self, who: Principal, asked: Asked, *, down: Container[str] = ()) -> Decision:
        """Return the decision on a request; `down` are the models that can't be reached at the moment."""
        first = self._judge(who, asked, asked.model, down)
        if first.outcome == "serve" or not REFUSALS[first.code].may_fall_back:
            return first
        agreed = self._fallbacks.get(who.project)
        if not agreed:
            return first
        name = self._needs[asked.model].model
        for fallback in agreed.get(name) or agreed.get("*") or ():
            other = self._judge(who, asked, fallback, down)
            if other.outcome == "serve" and other.model != name and self._may_replace(name, other.model):
                return _kept(first, other) if asked.no_fallback else _replaced(first, other)
        return first

    def standing(self, who: Principal, at: int) -> list[dict[str, Any]]:
        """Return the entitlements of a principal with the state of each at `at`, the live ones first."""
        return self._access.standing(who, at)

    def engagements(self, who: Principal) -> list[Held[Engagement]]:
        """Return the engagements of the principal's project."""
        return [one for one in self._engagements.values() if _is_of(one, who)]

    def scope(self, decision: Decision) -> tuple[str, ...]:
        """Return the words of the scope of the entitlement that a decision names that count with its model."""
        held = self._entitlements.get(decision.entitlement)
        if held is None:
            return ()
        safe = self._safe.get(decision.model)
        return held.document.scope if safe is None else safe[0].counted(held.document.scope, decision.tier)

    def targets(self, engagement: str) -> Targets | None:
        """Return the targets of the engagement that a decision names, None where there is none."""
        held = self._engagements.get(engagement)
        return Targets(held.document) if held is not None else None

    def _judge(self, who: Principal, asked: Asked, name: str, down: Container[str]) -> Decision:
        needs = self._needs.get(name)
        if needs is None:
            unknown = refusal("model_unknown", details={"model": name[:200]}, model=name[:200])
            return self._refused(asked, "models", unknown)
        if asked.engagement and (wrong := self._wrong_engagement(who, asked)) is not None:
            return self._refused(asked, f"engagement:{asked.engagement[:64]}", wrong)
        chosen = self._access.choose(who, asked, needs)
        if isinstance(chosen, Refusal):
            program = f"program:{asked.program[:64]}" if asked.program else f"model:{needs.model}"
            return self._refused(asked, program, chosen)
        tier, entitlement = chosen
        if needs.model in self._safe and (unsafe := self._unsafe(who, asked, needs, tier)) is not None:
            return self._refused(asked, f"safeguards:{needs.model}", unsafe, tier, entitlement)
        clause = f"entitlement:{entitlement}" if entitlement else f"model:{needs.model}"
        gate = self._gates.get(needs.model)
        if gate is not None:
            opening = gate.opens(who, tier, asked)
            if not opening.open:
                return self._refused(
                    asked, f"rollout:{needs.model}", self._not_open(who, asked, needs, tier, opening), tier, entitlement
                )
            clause = f"rollout:{needs.model}:{opening.entry}"
        if needs.model in down:
            away = refusal("model_unavailable", details={"model": needs.model}, model=needs.model)
            return self._refused(asked, f"model:{needs.model}", away, tier, entitlement)
        return Decision(
            "serve",
            asked.model,
            clause,
            self.hash,
            needs.model,
            tier,
            entitlement,
            asked.engagement,
            needs.alias,
        )

    def _may_replace(self, name: str, other: str) -> bool:
        """Say whether safeguards let one model be served in place of another."""
        gives_way, stands_in = self._safe.get(name), self._safe.get(other)
        return (gives_way is None or gives_way[0].may_give_way_to(other)) and (
            stands_in is None or stands_in[0].stands_in
        )

    def _unsafe(self, who: Principal, asked: Asked, needs: Needs, tier: Tier) -> Refusal | None:
        """Return why the model's safeguards keep it from a request, None where they don't."""
        safeguards, gate = self._safe[needs.model]
        facts = {"model": needs.model, "safeguards": safeguards.digest}
        if asked.at >= safeguards.expires:
            when = moment(safeguards.expires)
            return refusal("safeguards_expired", details=facts, model=needs.model, when=when)
        if KEEPS[asked.keeps] < KEEPS[safeguards.retention]:
            details = {**facts, "needed": safeguards.retention, "kept": asked.keeps}
            kept = "nothing" if asked.keeps == "zero" else asked.keeps
            return refusal(
                "model_needs_records", details=details, model=needs.model, needed=safeguards.retention, kept=kept
            )
        opening = gate.opens(who, tier, asked)
        return None if opening.open else self._not_open(who, asked, needs, tier, opening)

    def _refused(
        self, asked: Asked, clause: str, why: Refusal, tier: Tier = "default", entitlement: str = ""
    ) -> Decision:
        return Decision(
            "refuse",
            asked.model,
            clause,
            self.hash,
            tier=tier,
            entitlement=entitlement,
            code=why.code,
            message=why.message,
            details=why.details,
            status=why.status,
            hint=why.hint,
        )

    def _not_open(self, who: Principal, asked: Asked, needs: Needs, tier: Tier, opening: Opening) -> Refusal:
        return refusal(
            "model_not_open",
            details={
                "model": needs.model,
                "surface": asked.surface,
                "tier": tier,
                "region": asked.region,
                "opens_at": opening.at,
                "open_now": [way._asdict() for way in opening.now],
                "open_later": [way._asdict() for way in opening.later],
                "held": self._access.standing(who, asked.at),
            },
            model=needs.model,
            opening=said(opening, who, tier, asked) + self._access.lapsed(who, asked, needs, tier),
        )

    def _wrong_engagement(self, who: Principal, asked: Asked) -> Refusal | None:
        """Return why the engagement that the request names does not count, None where it does.

        One of another project is not told from one that is not there.
        """
        held = self._engagements.get(asked.engagement)
        if held is None or not _is_of(held, who):
            own = [one.document.id for one in self.engagements(who) if one.state(asked.at) == "live"]
            return refusal(
                "engagement_mismatch",
                details={"engagement": asked.engagement[:100], "held": own[:20]},
                engagement=asked.engagement[:100],
                held=f"it holds {listed(own)}" if own else "it holds none",
            )
        state = held.state(asked.at)
        if state == "live":
            return None
        one = held.document
        when = {"expired": one.expires, "not_begun": one.starts}.get(state, held.revoked or 0)
        details = {"engagement": one.id, "state": state, "at": when}
        return refusal(f"engagement_{state}", details=details, engagement=one.id, when=moment(when))


def _replaced(first: Decision, other: Decision) -> Decision:
    """Return the decision to serve a fallback, with what was in the way of the model that was asked for."""
    return other._replace(
        substitution=f"fallback:{first.code}",
        code=first.code,
        message=f"{first.message} The project's fallback {other.model} is served.",
        details={**first.details, "fallback": other.model, "instead_of": first.clause},
    )


def _kept(first: Decision, other: Decision) -> Decision:
    """Return the refusal of a request that takes no fallback."""
    return first._replace(
        message=f"{first.message} The request says no_fallback, so the project's fallback {other.model} is not served.",
        details={**first.details, "fallback": other.model, "no_fallback": True},
    )


def _is_of(held: Held[Engagement], who: Principal) -> bool:
    one = held.document
    return one.organisation == who.organisation and one.project == who.project


def _line(held: Held[Entitlement] | Held[Engagement]) -> str:
    return f"{held.document.id} {held.signature} {held.revoked}\n"


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line.encode())
    return digest.hexdigest()


def _plain(fallbacks: Fallbacks) -> dict[str, dict[str, list[str]]]:
    return {project: {model: list(names) for model, names in agreed.items()} for project, agreed in fallbacks.items()}
