"""People: who is there, their roles, how far they are identified, invitations, groups."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from lathe.gateway.admin import people as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.organisations import list_organisations, list_projects
from lathe.gateway.admin.shapes import (
    GroupChange,
    Groups,
    Listing,
    NewGroup,
    NewUser,
    Projects,
    UserChange,
    Users,
)
from lathe.gateway.console.forms import shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.identity.addresses import confirm, send_address_link
from lathe.gateway.identity.invitations import invite_user
from lathe.gateway.identity.proof import methods
from lathe.gateway.identity.proofs import bring_proof, list_proofs
from lathe.gateway.identity.site import Refused
from lathe.gateway.identity.tickets import peek
from lathe.gateway.members import INSTALLATION_ROLES, ORGANISATION_ROLES

_HERE = "/console/people"
_FILE_LIMIT = 10 << 20


async def index(visit: Visit) -> Response:
    """List users and groups."""
    email = visit.field("email", 320)
    found = await visit.do(operations.list_users, shaped(Users, visit.asking(email=email)))
    groups: list[Any] = []
    if visit.may(operations.list_groups):
        groups = (await visit.do(operations.list_groups, Groups(limit=200))).data
    return visit.page("people.html", page=found, email=email, groups=groups, may_make=visit.may(operations.create_user))


async def one(visit: Visit) -> Response:
    """Show a user."""
    return await _one(visit)


async def _one(visit: Visit, link: str = "", fault: AdminError | None = None) -> Response:
    assert visit.principal is not None
    id = visit.request.path_params["user"]
    found = await visit.do(operations.show_user, id)
    proofs: list[Any] = []
    if visit.may(list_proofs):
        proofs = await visit.do(list_proofs, f"user:{id}")
    return visit.page(
        "person.html",
        400 if fault else 200,
        person=found,
        proofs=proofs,
        methods=[method for method in methods().values() if not method.for_organisations],
        link=link,
        roles_there=_roles(visit),
        may_change=visit.may(operations.change_user),
        may_invite=visit.may(invite_user) and found.active,
        may_prove=visit.may(bring_proof) and id != visit.principal.user,
        sends_mail=bool(visit.entrance.services.settings.smtp.host),
        fault=fault,
    )


def _roles(visit: Visit) -> tuple[str, ...]:
    """Return the roles that the visitor may give."""
    everything = visit.principal is not None and "operator" in visit.principal.roles
    return (*ORGANISATION_ROLES, *INSTALLATION_ROLES) if everything else ORGANISATION_ROLES


async def change(visit: Visit) -> Response:
    """Change a user's name, roles, or whether they may come in."""
    id = visit.request.path_params["user"]
    values: dict[str, Any] = {"name": visit.field("name", 200), "roles": visit.chosen("roles")}
    if active := visit.field("active", 5):
        values["active"] = active == "true"
    await visit.do(operations.change_user, id, shaped(UserChange, values))
    return visit.back(f"{_HERE}/{id}", "saved")


async def invite(visit: Visit) -> Response:
    """Make an invitation and show its link, this once."""
    link = await visit.do(invite_user, visit.request.path_params["user"], visit.site)
    return await _one(visit, link)


async def prove(visit: Visit) -> Response:
    """Keep a proof of identity that a reviewer brings forward."""
    id = visit.request.path_params["user"]
    await _prove(visit, f"user:{id}")
    return visit.back(f"{_HERE}/{id}", "proof-kept")


async def prove_organisation(visit: Visit) -> Response:
    """Keep a proof of an organisation."""
    id = visit.request.path_params["organisation"]
    await _prove(visit, f"organisation:{id}")
    return visit.back(f"/console/organisations/{id}", "proof-kept")


async def _prove(visit: Visit, subject: str) -> None:
    name = visit.field("method", 40)
    method = methods().get(name)
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for field, label in method.fields if method is not None else ():
        if label.endswith("*"):
            files[field] = await visit.file(f"{name}-{field}", _FILE_LIMIT)
        else:
            fields[field] = visit.field(f"{name}-{field}")
    await visit.do(bring_proof, name, subject, fields, files)


async def ask_address(visit: Visit) -> Response:
    """Send a user a link that shows that the address is theirs."""
    id = visit.request.path_params["user"]
    link = await visit.do(send_address_link, f"user:{id}", "", visit.site)
    return await _one(visit, link) if link else visit.back(f"{_HERE}/{id}", "mail-sent")


async def address(visit: Visit) -> Response:
    """Show the page that such a link leads to; programs that look into mails follow links, so it only asks."""
    secret = visit.field("ticket", 100)
    async with visit.entrance.database.begin() as connection:
        ticket = await peek(connection, "email", secret, visit.now)
    if ticket is None:
        raise Refused("The link has been used or is too old.", hint="Ask for a new one.", code="ticket")
    return visit.page("address.html", address=ticket.body["address"], secret=secret, done=False)


async def address_confirm(visit: Visit) -> Response:
    """Take the link."""
    services = visit.entrance.services
    async with visit.entrance.database.begin() as connection:
        subject, organisation = await confirm(connection, visit.field("ticket", 100), visit.now)
        await services.database.changed(connection, "principals")
        facts = {"organisation": organisation, "method": "email", "level": "address"}
        await services.audit.append(connection, subject, "proof.kept", subject, facts)
    return visit.page("address.html", address="", secret="", done=True)


async def form(visit: Visit) -> Response:
    """Show the form for a new user."""
    return await _form(visit)


async def _form(visit: Visit, fault: AdminError | None = None) -> Response:
    organisations = await visit.do(list_organisations, Listing(limit=200))
    projects = await visit.do(list_projects, Projects(limit=200))
    return visit.page(
        "person_new.html",
        400 if fault else 200,
        organisations=organisations.data,
        projects=projects.data,
        roles_there=_roles(visit),
        fault=fault,
    )


async def create(visit: Visit) -> Response:
    """Make a user."""
    values = {
        "email": visit.field("email", 320),
        "name": visit.field("name", 200),
        "organisation": visit.field("organisation", 64),
        "roles": visit.chosen("roles"),
        "projects": visit.chosen("projects"),
    }
    try:
        made = await visit.do(operations.create_user, shaped(NewUser, values))
    except AdminError as error:
        return await _form(visit, error)
    return visit.back(f"{_HERE}/{made.id}", "saved")


async def group(visit: Visit) -> Response:
    """Show a group: its members, and what they get by it."""
    found = await visit.do(operations.show_group, visit.request.path_params["group"])
    projects = await visit.do(list_projects, Projects(limit=200, organisation=found.organisation))
    people = await visit.do(operations.list_users, Users(limit=200, organisation=found.organisation))
    return visit.page(
        "group.html",
        group=found,
        projects=projects.data,
        people=[one for one in people.data if one.active and one.id not in found.members],
        roles_there=_roles(visit),
        may_change=visit.may(operations.change_group),
    )


async def group_create(visit: Visit) -> Response:
    """Make a group."""
    made = await visit.do(operations.create_group, shaped(NewGroup, {"name": visit.field("name", 200)}))
    return visit.back(f"/console/groups/{made.id}", "saved")


async def group_change(visit: Visit) -> Response:
    """Change what a group gives."""
    id = visit.request.path_params["group"]
    grants = {"projects": dict.fromkeys(visit.chosen("projects"), "member"), "roles": visit.chosen("roles")}
    asked = shaped(GroupChange, {"name": visit.field("name", 200), "grants": grants})
    await visit.do(operations.change_group, id, asked)
    return visit.back(f"/console/groups/{id}", "saved")


async def group_member(visit: Visit) -> Response:
    """Put a user into a group, or take one out."""
    id, user = visit.request.path_params["group"], visit.field("user", 64)
    act = operations.put_group_member if visit.field("act", 10) == "add" else operations.remove_group_member
    await visit.do(act, id, user)
    return visit.back(f"/console/groups/{id}", "saved")


async def group_delete(visit: Visit) -> Response:
    """Delete a group."""
    await visit.do(operations.delete_group, visit.request.path_params["group"])
    return visit.back(_HERE, "group-deleted")
