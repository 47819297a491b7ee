"""What is live now, as this replica knows it: what the caller holds, and what would be decided."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import select

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.shapes_access import Access, Answer, Question, Within
from lathe.gateway.entitlements import RANK
from lathe.gateway.policy import Decision, Policy
from lathe.gateway.principals import SURFACES, Asked, Principal, Tier
from lathe.gateway.remembering import Retention, retention_of
from lathe.store.gateway.database import server_ms
from lathe.store.gateway.schema import replicas

REPLICA_MS = 15_000
"""Silence after which a replica is not listed."""
_SEE_ADDRESSES = frozenset({"operator", "reviewer", "auditor", "admin"})


@operation(ANYONE, reads=True)
async def show_access(desk: Desk) -> Access:
    """Say what is live for the caller now, on the replica that answers."""
    who, directory = desk.principal, desk.services.directory
    policy = directory.policy
    standing = policy.standing(who, desk.at)
    project, organisation = directory.project(who.project), directory.organisation(who.organisation)
    user = directory.user(who.user)
    names = {
        "organisation_name": organisation.name if organisation else "",
        "project_name": project.name if project else "",
        "email": user.email if user else "",
    }
    limits = {
        "key": directory.key_settings(who.key).get("limits"),
        "project": project.settings.get("limits") if project else None,
        "organisation": organisation.settings.get("limits") if organisation else None,
    }
    return Access(
        replica=desk.services.replica,
        revision=directory.revision,
        policy=policy.hash,
        at=desk.at,
        age_ms=round(directory.age_s * 1000),
        principal={**_plain(who), **names},
        tier=_tier(standing),
        entitlements=standing,
        engagements=[
            {**msgspec.to_builtins(one.document), "state": one.state(desk.at)} for one in policy.engagements(who)
        ],
        models=[_model(policy, who, name, desk) for name in sorted(policy.models)],
        limits={name: value for name, value in limits.items() if value},
        replicas=await _replicas(desk),
    )


@operation(ANYONE, reads=True)
async def check_access(desk: Desk, asked: Question) -> Answer:
    """Say what would be decided of a request, without serving it."""
    surface = desk.principal.surface or asked.surface
    question = Asked(
        asked.model,
        surface,
        desk.at,
        asked.region or _region(desk),
        asked.program,
        asked.engagement,
        asked.no_fallback,
        keeps=_keeps(desk),
    )
    directory = desk.services.directory
    return _answer(directory.policy.decide(desk.principal, question), desk)


def _answer(one: Decision, desk: Desk) -> Answer:
    policy = desk.services.directory.policy
    engaged = [held.document for held in policy.engagements(desk.principal) if held.document.id == one.engagement]
    targets = [Within([*work.domains], [*work.networks], [*work.repositories]) for work in engaged]
    return Answer(
        outcome=one.outcome,
        requested=one.requested,
        served=one.model,
        tier=one.tier,
        entitlement=one.entitlement,
        engagement=one.engagement,
        substitution=one.substitution,
        clause=one.clause,
        code=one.code,
        message=one.message,
        hint=one.hint,
        details=dict(one.details),
        status=one.status,
        policy=one.policy,
        replica=desk.services.replica,
        revision=desk.services.directory.revision,
        scope=list(policy.scope(one)),
        targets=targets[0] if targets else None,
    )


def _model(policy: Policy, who: Principal, name: str, desk: Desk) -> dict[str, Any]:
    """Return for each surface whether the model is open to the caller, and otherwise why not and from when on."""
    surfaces: dict[str, Any] = {}
    for surface in (who.surface,) if who.surface else SURFACES:
        decision = policy.decide(who, Asked(name, surface, desk.at, _region(desk), keeps=_keeps(desk)))
        if decision.outcome == "serve" and decision.model == name:
            surfaces[surface] = {"open": True, "tier": decision.tier}
        else:
            why = {"code": decision.code, "message": decision.message, "opens_at": decision.details.get("opens_at")}
            surfaces[surface] = {"open": False, **why}
    return {"model": name, "aliases": list(policy.models[name].aliases), "surfaces": surfaces}


def _region(desk: Desk) -> str:
    """Return the region that requests of the caller count as being from."""
    return desk.services.directory.region(desk.principal.project) or desk.services.settings.region


def _keeps(desk: Desk) -> Retention:
    """Return how much of the caller's requests is kept."""
    project = desk.services.directory.project(desk.principal.project)
    return retention_of(project.settings if project is not None else {}, desk.services.settings.retention)


def _tier(standing: list[dict[str, Any]]) -> Tier:
    live: list[Tier] = [one["tier"] for one in standing if one["state"] == "live"]
    return max(live, key=lambda tier: RANK[tier], default="default")


def _plain(who: Principal) -> dict[str, Any]:
    return {**who._asdict(), "scopes": sorted(who.scopes), "roles": sorted(who.roles)}


async def _replicas(desk: Desk) -> list[dict[str, Any]]:
    """Return the replicas that live; where they are is for those who look after the gateway."""
    columns = (replicas.c.id, replicas.c.address, replicas.c.seen)
    query = select(*columns).where(replicas.c.seen > server_ms() - REPLICA_MS).order_by(replicas.c.id)
    shown = bool(desk.principal.roles & _SEE_ADDRESSES)
    found = await desk.connection.execute(query)
    return [{"id": row.id, **({"address": row.address} if shown else {})} for row in found]
