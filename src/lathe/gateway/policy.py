"""What the gateway decides of a request: whether a model is served, which one, by which right, and if not, why not."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from lathe.gateway.canonical import canonical
from lathe.gateway.principals import Asked, Principal, Tier
from lathe.gateway.receipts import Outcome
from lathe.gateway.refusals import REFUSALS, refusal


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that is served. `tier` and `scope` are what a request needs to hold for it."""

    name: str
    aliases: tuple[str, ...] = ()
    tier: Tier = "default"
    scope: tuple[str, ...] = ()


class Decision(NamedTuple):
    """What was decided of one request.

    `model` is the one to serve, "" for a refusal; where it is another than `requested`, `substitution` says why
    (`alias:NAME`, `fallback:CODE`). `clause` is the rule that said so, `policy` the hash of the policy that it is in.
    A refusal has a stable `code`, one sentence for people, `details` for machines, an HTTP `status` and a next step.
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
    """One state of all rules, which never changes; a change makes another policy."""

    def __init__(
        self, *, models: Iterable[Model] = (), fallbacks: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None
    ) -> None:
        self._fallbacks = dict(fallbacks or {})
        self.models = {one.name: one for one in models}
        self._names = {alias: one for one in self.models.values() for alias in one.aliases} | self.models
        self.hash = hashlib.sha256(canonical([sorted(self.models), len(self._fallbacks)])).hexdigest()

    def decide(self, who: Principal, asked: Asked, *, down: Container[str] = ()) -> Decision:
        """Return the decision on a request; `down` are the models that can't be reached at the moment."""
        first = self._judge(asked, asked.model, down)
        if first.outcome == "serve" or not REFUSALS[first.code].may_fall_back or asked.no_fallback:
            return first
        chain = self._fallbacks.get(who.project, {})
        for name in chain.get(asked.model) or chain.get("*") or ():
            other = self._judge(asked, name, down)
            if other.outcome == "serve":
                return other._replace(requested=asked.model, substitution=f"fallback:{first.code}")
        return first

    def _judge(self, asked: Asked, name: str, down: Container[str]) -> Decision:
        model = self._names.get(name)
        if model is None:
            return self._refuse(asked, "models", "model_unknown", model=name)
        if model.name in down:
            return self._refuse(asked, f"model:{model.name}", "model_unavailable", model=model.name)
        alias = "" if model.name == name else f"alias:{name}"
        return Decision("serve", asked.model, f"open:{model.name}", self.hash, model.name, substitution=alias)

    def _refuse(self, asked: Asked, clause: str, code: str, **facts: str) -> Decision:
        found = refusal(code, details=dict(facts), **facts)
        return Decision(
            "refuse",
            asked.model,
            clause,
            self.hash,
            code=found.code,
            message=found.message,
            details=found.details,
            status=found.status,
            hint=found.hint,
        )
