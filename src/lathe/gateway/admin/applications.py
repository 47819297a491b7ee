"""Applications for trust: submitted, reviewed by other people, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, insert, select

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import conflict, forbidden, invalid, not_found
from lathe.gateway.admin.shapes import Page
from lathe.gateway.admin.shapes_access import Application, Applications, Judgement, NewApplication, Review
from lathe.gateway.entitlements import Granted, grant
from lathe.gateway.identity.proof import held, needs_of, wanting
from lathe.protocol.errors import UsageError
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import applications, entitlements, projects, reviews, users

_DAY_MS = 86_400_000
_HOLDERS = {"verified": ("user",), "organisation": ("project", "organisation"), "specialist": ()}
"""Who may have a tier; nothing named means anyone."""


def approvals_needed(tier: str) -> int:
    """Return how many different reviewers must approve."""
    return 2 if tier == "specialist" else 1


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def list_applications(desk: Desk, asked: Applications) -> Page[Application]:
    """List applications, the newest first."""
    conditions: list[ColumnElement[bool]] = [applications.c.state == asked.state] if asked.state else []
    if asked.organisation:
        conditions.append(applications.c.organisation == asked.organisation)
    found, after = await desk.page(applications, asked, *conditions)
    return Page([await _shown(desk, row) for row in found], after)


@operation("operator", "reviewer", "auditor", "admin", ANYONE, reads=True)
async def show_application(desk: Desk, application: str) -> Application:
    """Show an application with its reviews."""
    return await _shown(desk, await desk.one(applications, application))


@operation(ANYONE, "operator", "admin")
async def submit_application(desk: Desk, asked: NewApplication) -> Application:
    """Apply for a tier; what is held already is not touched by it."""
    subject = asked.subject or (f"user:{desk.principal.user}" if desk.principal.user else "")
    if not subject:
        raise invalid("The caller is a machine.", "Say with subject who is to be trusted.")
    kind, _, id = subject.partition(":")
    if (holders := _HOLDERS[asked.tier]) and kind not in holders:
        raise invalid(f"The tier {asked.tier} is for a {' or an '.join(holders)}, not for a {kind}.")
    organisation = await _organisation_of(desk, kind, id)
    project = asked.wanted.project
    if project:
        await _is_of(desk, project, organisation)
    if asked.renews:
        query = select(entitlements.c.subject).where(entitlements.c.id == asked.renews, desk.sees(entitlements))
        if (await desk.connection.execute(query)).scalar_one_or_none() != subject:
            raise not_found("entitlement of the same subject")
    values = {
        "id": ordered_id("app"),
        "organisation": organisation,
        "project": project or None,
        "subject": subject,
        "tier": asked.tier,
        "why": asked.why,
        "evidence": msgspec.to_builtins(asked.evidence),
        "wanted": msgspec.to_builtins(asked.wanted),
        "state": "submitted",
        "renews": asked.renews,
        "entitlement": "",
        "author": desk.actor,
        "created": desk.at,
    }
    _try_grant(desk, values)
    await desk.connection.execute(insert(applications).values(values))
    facts = {"holder": subject, "tier": asked.tier, "renews": asked.renews}
    desk.record("application.submitted", f"application:{values['id']}", organisation=organisation, **facts)
    return await _shown(desk, await desk.one(applications, str(values["id"])))


@operation(ANYONE, "operator", "admin")
async def withdraw_application(desk: Desk, application: str) -> Application:
    """Withdraw an application that has not been decided."""
    found = await _open(desk, application)
    if found.author != desk.actor and not desk.everywhere and not desk.whole_organisation:
        raise forbidden("Only who submitted it withdraws an application.", code="not_own")
    await desk.put(applications, application, {"state": "withdrawn", "decided": desk.at})
    desk.record("application.withdrawn", f"application:{application}", organisation=found.organisation)
    return await _shown(desk, await desk.one(applications, application))


@operation("operator", "reviewer")
async def review_application(desk: Desk, application: str, asked: Judgement) -> Application:
    """Approve or decline an application of somebody else; enough approvals grant the entitlement."""
    found = await _open(desk, application)
    me = desk.principal.user
    if not me or desk.actor in (found.author, found.subject):
        raise forbidden("Nobody reviews what is their own.", "Another reviewer must do it.", "own_thing")
    facts: dict[str, Any] = {"holder": found.subject, "tier": found.tier, "note": asked.note}
    about = f"application:{application}"
    if asked.verdict == "decline":
        if not asked.note.strip():
            raise invalid("A decline needs its reason.", "Give it in note: the applicant reads it.", "reason_missing")
        await record_review(desk, application, asked)
        await desk.put(applications, application, {"state": "declined", "decided": desk.at})
        desk.record("application.declined", about, organisation=found.organisation, **facts)
        return await _shown(desk, await desk.one(applications, application))
    await _is_identified(desk, found)
    approvals = sum(one.verdict == "approve" for one in await reviews_of(desk, application))
    await record_review(desk, application, asked)
    desk.record("application.approved", about, organisation=found.organisation, **facts)
    if approvals + 1 >= approvals_needed(found.tier):
        entitlement = await _grant(desk, found)
        values = {"state": "approved", "decided": desk.at, "entitlement": entitlement}
        await desk.put(applications, application, values)
    return await _shown(desk, await desk.one(applications, application))


async def record_review(desk: Desk, of: str, asked: Judgement) -> None:
    """Keep what a reviewer said; raise `AdminError` where the same one has said something before."""
    query = select(reviews.c.verdict).where(reviews.c.of == of, reviews.c.reviewer == desk.principal.user)
    if (await desk.connection.execute(query)).first():
        raise conflict("reviewed_already", "You have reviewed this already.", "Another reviewer must do it.")
    values = {"of": of, "reviewer": desk.principal.user, "verdict": asked.verdict, "note": asked.note, "at": desk.at}
    await desk.connection.execute(insert(reviews).values(values))


async def reviews_of(desk: Desk, of: str) -> list[Review]:
    """Return what has been said so far."""
    columns = (reviews.c.reviewer, reviews.c.verdict, reviews.c.note, reviews.c.at)
    query = select(*columns).where(reviews.c.of == of).order_by(reviews.c.at, reviews.c.reviewer)
    return [Review(*row) for row in await desk.connection.execute(query)]


async def _open(desk: Desk, application: str) -> Row[Any]:
    found = await desk.one(applications, application)
    if found.state != "submitted":
        raise conflict("decided_already", f"The application is {found.state} already.", "Submit another one.")
    return found


async def _organisation_of(desk: Desk, kind: str, id: str) -> str:
    """Return the organisation of a subject for whom the caller may apply; raise `AdminError`."""
    if kind == "organisation":
        if not desk.everywhere and not desk.whole_organisation:
            raise forbidden("Only an administrator applies for the organisation.")
        return desk.organisation(id)
    row = await desk.one(users if kind == "user" else projects, id, kind)
    return str(row.organisation)


async def _is_of(desk: Desk, project: str, organisation: str) -> None:
    query = select(projects.c.id).where(projects.c.id == project, projects.c.organisation == organisation)
    if (await desk.connection.execute(query)).first() is None:
        raise not_found("project")


async def _is_identified(desk: Desk, found: Row[Any]) -> None:
    """Raise `AdminError` unless it has been shown who is to be trusted, as far as the tier needs it."""
    kind, _, id = found.subject.partition(":")
    if kind == "user":
        query = select(users.c.active).where(users.c.id == id)
        if not (await desk.connection.execute(query)).scalar_one():
            raise conflict("user_inactive", "The user is inactive.", "Decline the application.")
    shown = await held(desk.connection, {found.subject, f"organisation:{found.organisation}"}, desk.at)
    if missing := wanting(needs_of(found.tier, desk.services.settings.proof), shown):
        raise conflict(
            "identity_missing",
            f"For the tier {found.tier} this is missing: {missing}.",
            "Have them sign in, or record how they were identified.",
        )


def _try_grant(desk: Desk, values: Mapping[str, Any]) -> Granted:
    """Return the entitlement that an application is for, as it would be signed now; raise `AdminError`."""
    wanted = values["wanted"]
    try:
        return grant(
            desk.services.signer,
            subject=values["subject"],
            organisation=values["organisation"],
            tier=values["tier"],
            models=wanted["models"],
            surfaces=wanted["surfaces"],
            project=wanted["project"],
            scope=wanted["scope"],
            now=desk.at,
            expires=desk.at + wanted["days"] * _DAY_MS,
        )
    except UsageError as error:
        raise invalid(error.message, error.hint, error.code) from None


async def _grant(desk: Desk, found: Row[Any]) -> str:
    made, sealed = _try_grant(desk, found._asdict())
    values = {
        "id": made.id,
        "organisation": made.organisation,
        "subject": made.subject,
        "body": sealed.text,
        "signature": sealed.signature,
        "signer": sealed.key,
        "expires": made.expires,
    }
    await desk.connection.execute(insert(entitlements).values(values))
    facts = {"holder": made.subject, "tier": made.tier, "expires": made.expires, "application": found.id}
    desk.record("entitlement.granted", f"entitlement:{made.id}", organisation=made.organisation, **facts)
    desk.changed("access")
    return made.id


async def _shown(desk: Desk, row: Row[Any]) -> Application:
    said = await reviews_of(desk, row.id)
    approvals = sum(one.verdict == "approve" for one in said)
    needs = max(0, approvals_needed(row.tier) - approvals) if row.state == "submitted" else 0
    fields = {name: getattr(row, name) for name in Application.__struct_fields__ if name not in ("needs", "reviews")}
    return Application(**fields, needs=needs, reviews=said)
