"""Entitlements and engagements: what is held, as it was signed, and taking it back."""

from __future__ import annotations

import hashlib

from starlette.responses import Response

from lathe.gateway.admin import entitlements as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.organisations import list_projects
from lathe.gateway.admin.shapes import Projects
from lathe.gateway.admin.shapes_access import Engagements, Entitlements, NewEngagement, Revocation
from lathe.gateway.console.forms import lines, shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.standing import key_ring

_HERE = "/console/entitlements"
_WORK = "/console/engagements"
_DOCUMENT_LIMIT = 10 << 20


async def index(visit: Visit) -> Response:
    """List entitlements."""
    state = visit.request.query_params.get("state", "live")
    asked = shaped(Entitlements, visit.asking(live=state == "live", subject=visit.field("subject", 100)))
    found = await visit.do(operations.list_entitlements, asked)
    return visit.page("entitlements.html", page=found, state=state)


async def one(visit: Visit) -> Response:
    """Show an entitlement as it was signed, and whether the signature is genuine."""
    found = await visit.do(operations.show_entitlement, visit.request.path_params["entitlement"])
    genuine = await _genuine(visit, found.document, found.signature, found.signer)
    may_revoke = visit.may(operations.revoke_entitlement) and found.revoked is None
    return visit.page("entitlement.html", entitlement=found, genuine=genuine, may_revoke=may_revoke)


async def revoke(visit: Visit) -> Response:
    """Take an entitlement back."""
    id = visit.request.path_params["entitlement"]
    await visit.do(operations.revoke_entitlement, id, shaped(Revocation, {"why": visit.field("why")}))
    return visit.back(f"{_HERE}/{id}", "revoked")


async def work_index(visit: Visit) -> Response:
    """List engagements."""
    state = visit.request.query_params.get("state", "live")
    found = await visit.do(operations.list_engagements, shaped(Engagements, visit.asking(live=state == "live")))
    may_open = visit.may(operations.create_engagement)
    return visit.page("engagements.html", page=found, state=state, may_open=may_open)


async def work(visit: Visit) -> Response:
    """Show an engagement."""
    found = await visit.do(operations.show_engagement, visit.request.path_params["engagement"])
    genuine = await _genuine(visit, found.document, found.signature, found.signer)
    may_revoke = visit.may(operations.revoke_engagement) and found.revoked is None
    return visit.page("engagement.html", engagement=found, genuine=genuine, may_revoke=may_revoke)


async def work_form(visit: Visit) -> Response:
    """Show the form for a new engagement."""
    return await _work_form(visit)


async def _work_form(visit: Visit, fault: AdminError | None = None) -> Response:
    projects = await visit.do(list_projects, Projects(limit=200))
    return visit.page("engagement_new.html", 400 if fault else 200, projects=projects.data, fault=fault)


async def work_create(visit: Visit) -> Response:
    """Open an engagement; of the document that gives the authority only its SHA-256 is kept."""
    document = await visit.file("document", _DOCUMENT_LIMIT)
    values = {
        "project": visit.field("project", 64),
        "name": visit.field("name", 200),
        "authority": hashlib.sha256(document).hexdigest() if document else visit.field("authority", 64),
        "starts": visit.time("starts"),
        "expires": visit.time("expires"),
        "domains": lines(visit.field("domains", 20_000)),
        "networks": lines(visit.field("networks", 20_000)),
        "repositories": lines(visit.field("repositories", 20_000)),
    }
    try:
        made = await visit.do(operations.create_engagement, shaped(NewEngagement, values))
    except AdminError as error:
        return await _work_form(visit, error)
    return visit.back(f"{_WORK}/{made.id}", "opened")


async def work_revoke(visit: Visit) -> Response:
    """End an engagement."""
    id = visit.request.path_params["engagement"]
    await visit.do(operations.revoke_engagement, id, shaped(Revocation, {"why": visit.field("why")}))
    return visit.back(f"{_WORK}/{id}", "revoked")


async def _genuine(visit: Visit, text: str, signature: str, signer: str) -> bool:
    async with visit.entrance.database.begin() as connection:
        ring = await key_ring(connection)
    return ring.verify(signer, text.encode("utf-8"), signature)
