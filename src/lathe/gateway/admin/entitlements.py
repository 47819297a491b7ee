"""Entitlements and engagements: what is held, and how it is opened and taken back."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Table, insert

from lathe.gateway import engagements as works
from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import conflict, invalid
from lathe.gateway.admin.shapes import Page
from lathe.gateway.admin.shapes_access import (
    Engagement,
    Engagements,
    Entitlement,
    Entitlements,
    NewEngagement,
    Revocation,
)
from lathe.gateway.documents import Held
from lathe.gateway.entitlements import Entitlement as Grant
from lathe.protocol.errors import UsageError
from lathe.store.gateway.schema import engagements, entitlements, projects


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_entitlements(desk: Desk, asked: Entitlements) -> Page[Entitlement]:
    """List entitlements, those that last longest first."""
    conditions = _conditions(desk, entitlements, {"organisation": asked.organisation, "subject": asked.subject}, asked)
    found, after = await desk.page(entitlements, asked, *conditions, by=entitlements.c.expires)
    return Page([_entitlement(desk, row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_entitlement(desk: Desk, entitlement: str) -> Entitlement:
    """Show an entitlement as it was signed."""
    return _entitlement(desk, await desk.one(entitlements, entitlement))


@operation("operator", "reviewer", "admin")
async def revoke_entitlement(desk: Desk, entitlement: str, asked: Revocation) -> Entitlement:
    """Take an entitlement back, at once."""
    found = await desk.one(entitlements, entitlement)
    if found.revoked is not None:
        raise conflict("revoked_already", "The entitlement has been revoked already.")
    await desk.put(entitlements, entitlement, {"revoked": desk.at, "revoked_why": asked.why})
    facts = {"holder": found.subject, "why": asked.why}
    desk.record("entitlement.revoked", f"entitlement:{entitlement}", organisation=found.organisation, **facts)
    desk.changed("access")
    return _entitlement(desk, await desk.one(entitlements, entitlement))


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_engagements(desk: Desk, asked: Engagements) -> Page[Engagement]:
    """List engagements, those that last longest first."""
    conditions = _conditions(desk, engagements, {"organisation": asked.organisation, "project": asked.project}, asked)
    found, after = await desk.page(engagements, asked, *conditions, by=engagements.c.expires)
    return Page([_engagement(desk, row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_engagement(desk: Desk, engagement: str) -> Engagement:
    """Show an engagement as it was signed."""
    return _engagement(desk, await desk.one(engagements, engagement))


@operation("operator", "reviewer", "admin")
async def create_engagement(desk: Desk, asked: NewEngagement) -> Engagement:
    """Open an engagement for a project."""
    project = await desk.one(projects, asked.project)
    try:
        made, sealed = works.engage(
            desk.services.signer,
            organisation=project.organisation,
            project=project.id,
            name=asked.name,
            authority=asked.authority,
            expires=asked.expires,
            starts=asked.starts,
            now=desk.at,
            domains=asked.domains,
            networks=asked.networks,
            repositories=asked.repositories,
        )
    except UsageError as error:
        raise invalid(error.message, error.hint, error.code) from None
    if made.expires <= desk.at:
        raise invalid("The engagement would be over already.", code="engagement_invalid")
    values = {
        "id": made.id,
        "organisation": made.organisation,
        "project": made.project,
        "name": made.name,
        "body": sealed.text,
        "signature": sealed.signature,
        "signer": sealed.key,
        "expires": made.expires,
    }
    await desk.connection.execute(insert(engagements).values(values))
    targets = [*made.domains, *made.networks, *made.repositories]
    facts = {"project": made.project, "authority": made.authority, "targets": targets, "expires": made.expires}
    desk.record("engagement.created", f"engagement:{made.id}", organisation=made.organisation, **facts)
    desk.changed("access")
    return _engagement(desk, await desk.one(engagements, made.id))


@operation("operator", "reviewer", "admin")
async def revoke_engagement(desk: Desk, engagement: str, asked: Revocation) -> Engagement:
    """End an engagement, at once."""
    found = await desk.one(engagements, engagement)
    if found.revoked is not None:
        raise conflict("revoked_already", "The engagement has been revoked already.")
    await desk.put(engagements, engagement, {"revoked": desk.at})
    desk.record("engagement.revoked", f"engagement:{engagement}", organisation=found.organisation, why=asked.why)
    desk.changed("access")
    return _engagement(desk, await desk.one(engagements, engagement))


def _conditions(
    desk: Desk, table: Table, equal: dict[str, str], asked: Entitlements | Engagements
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [table.c[name] == value for name, value in equal.items() if value]
    if asked.live:
        conditions += [table.c.revoked.is_(None), table.c.expires > desk.at]
    return conditions


def _entitlement(desk: Desk, row: Row[Any]) -> Entitlement:
    one = msgspec.json.decode(row.body, type=Grant)
    return Entitlement(
        id=row.id,
        organisation=row.organisation,
        subject=row.subject,
        tier=one.tier,
        project=one.project,
        models=list(one.models),
        surfaces=list(one.surfaces),
        scope=list(one.scope),
        starts=one.starts,
        expires=one.expires,
        state=Held(one, row.signature, row.revoked).state(desk.at),
        revoked=row.revoked,
        revoked_why=row.revoked_why,
        document=row.body,
        signature=row.signature,
        signer=row.signer,
    )


def _engagement(desk: Desk, row: Row[Any]) -> Engagement:
    one = msgspec.json.decode(row.body, type=works.Engagement)
    return Engagement(
        id=row.id,
        organisation=row.organisation,
        project=row.project,
        name=row.name,
        authority=one.authority,
        domains=list(one.domains),
        networks=list(one.networks),
        repositories=list(one.repositories),
        starts=one.starts,
        expires=one.expires,
        state=Held(one, row.signature, row.revoked).state(desk.at),
        revoked=row.revoked,
        document=row.body,
        signature=row.signature,
        signer=row.signer,
    )
