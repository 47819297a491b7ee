"""Applications for trust: those that wait, one with its evidence, a new one."""

from __future__ import annotations

from starlette.responses import Response

from lathe.gateway.admin import applications as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.shapes_access import Application, Applications, Judgement, NewApplication
from lathe.gateway.console.forms import lines, shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.identity.proof import held, needs_of, wanting
from lathe.gateway.principals import SURFACES

_HERE = "/console/applications"
STATES = ("submitted", "approved", "declined", "withdrawn")


async def index(visit: Visit) -> Response:
    """List applications of one state."""
    state = visit.request.query_params.get("state", "submitted")
    asked = shaped(Applications, visit.asking(state="" if state == "all" else state))
    found = await visit.do(operations.list_applications, asked)
    return visit.page("applications.html", page=found, state=state, states=(*STATES, "all"))


async def one(visit: Visit) -> Response:
    """Show an application, with the form to review it for who may."""
    found = await visit.do(operations.show_application, visit.request.path_params["application"])
    return await _one(visit, found)


async def _one(visit: Visit, found: Application, fault: AdminError | None = None) -> Response:
    assert visit.principal is not None
    me = f"user:{visit.principal.user}"
    async with visit.entrance.database.begin() as connection:
        proofs = await held(connection, {found.subject, f"organisation:{found.organisation}"}, visit.now)
    needs = needs_of(found.tier, visit.entrance.services.settings.proof)
    may = bool(visit.principal.roles & operations.review_application.roles)
    own = me in (found.author, found.subject)
    done = any(review.reviewer == visit.principal.user for review in found.reviews)
    return visit.page(
        "application.html",
        application=found,
        proofs=proofs,
        missing=wanting(needs, proofs),
        may_review=may and found.state == "submitted" and not own and not done,
        why_not="It is your own." if own else "You have reviewed it already." if done else "",
        may_withdraw=found.state == "submitted" and found.author == me,
        is_reviewer=may,
        fault=fault,
    )


async def review(visit: Visit) -> Response:
    """Approve or decline."""
    id = visit.request.path_params["application"]
    asked = shaped(Judgement, {"verdict": visit.field("verdict", 20), "note": visit.field("note")})
    await visit.do(operations.review_application, id, asked)
    return visit.back(f"{_HERE}/{id}", "approved" if asked.verdict == "approve" else "declined")


async def withdraw(visit: Visit) -> Response:
    """Take one's own back."""
    id = visit.request.path_params["application"]
    await visit.do(operations.withdraw_application, id)
    return visit.back(f"{_HERE}/{id}", "withdrawn")


async def form(visit: Visit) -> Response:
    """Show an empty application."""
    return _form(visit)


def _form(visit: Visit, **more: object) -> Response:
    assert visit.user is not None and visit.principal is not None
    directory = visit.entrance.services.directory
    projects = [project for id in sorted(visit.user.projects) if (project := directory.project(id)) is not None]
    subjects = [
        (f"user:{visit.user.id}", "Myself"),
        *((f"project:{one.id}", f"Project {one.name}") for one in projects),
    ]
    if visit.user.roles & {"admin", "operator"}:
        organisation = directory.organisation(visit.user.organisation)
        subjects.append((f"organisation:{visit.user.organisation}", organisation.name if organisation else ""))
    return visit.page(
        "application_new.html",
        status=400 if more else 200,
        subjects=subjects,
        projects=projects,
        surfaces=SURFACES,
        renews=visit.field("renews", 64),
        **more,
    )


async def create(visit: Visit) -> Response:
    """Submit an application."""
    link, statement = visit.field("link", 2_000), visit.field("statement")
    evidence = [{"kind": "link", "text": link}] if link else []
    evidence += [{"kind": "statement", "text": statement}] if statement else []
    evidence += [{"kind": "document", "sha256": visit.field("sha256", 64)}] if visit.field("sha256", 64) else []
    wanted = {
        "models": lines(visit.field("models")) or ["*"],
        "surfaces": visit.chosen("surfaces") or SURFACES,
        "project": visit.field("project", 64),
        "scope": lines(visit.field("scope", 500)),
        "days": visit.field("days", 6) or 365,
    }
    values = {
        "tier": visit.field("tier", 20),
        "why": visit.field("why"),
        "subject": visit.field("subject", 100),
        "renews": visit.field("renews", 64),
        "wanted": wanted,
        "evidence": evidence,
    }
    try:
        made = await visit.do(operations.submit_application, shaped(NewApplication, values))
    except AdminError as error:
        return _form(visit, fault=error)
    return visit.back(f"{_HERE}/{made.id}", "submitted")
