"""Users and groups as SCIM shows them, and what a directory may do to them: operations on one organisation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Table, and_, delete, func, insert, or_, select, update

from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.identity.people import shut_out
from lathe.gateway.identity.scim_paths import ScimError, Term, get, parse_filter, patch
from lathe.gateway.identity.scim_schemas import GROUP, LIST, MOST_RESULTS, USER
from lathe.gateway.members import INSTALLATION_ROLES
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import group_members, groups, memberships, passkeys, users

_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_MOST_MEMBERS = 10_000


class Asked(NamedTuple):
    """A question for a list: a filter, a page (`start` counts from 1, `most` resources), and what is to be left out."""

    filter: str = ""
    start: int = 1
    most: int = 100
    without_members: bool = False


@operation("admin", "operator")
async def list_users(desk: Desk, base: str, asked: Asked) -> dict[str, Any]:
    """Return users as a ListResponse; raise `ScimError`."""
    where = [users.c.organisation == desk.principal.organisation, users.c.removed.is_(None)]
    where += [_user_term(term) for term in (parse_filter(asked.filter) if asked.filter else [])]
    rows, total = await _page(desk, users, where, asked)
    held = await _groups_of(desk, [row.id for row in rows])
    return _listed([_user(row, base, held.get(row.id, [])) for row in rows], total, asked)


@operation("admin", "operator")
async def read_user(desk: Desk, base: str, id: str) -> dict[str, Any]:
    """Return one user; raise `ScimError`."""
    row = await _one(desk, users, id)
    return _user(row, base, (await _groups_of(desk, [id])).get(id, []))


@operation("admin", "operator")
async def create_user(desk: Desk, base: str, document: Any) -> dict[str, Any]:
    """Make a user of the organisation; raise `ScimError`."""
    values = _user_values(document)
    await _check_free(desk, values, "")
    id = ordered_id("user")
    made = {"id": id, "organisation": desk.principal.organisation, "roles": ["member"], "created": desk.at, **values}
    await desk.connection.execute(insert(users).values(made))
    desk.record(
        "user.created", f"user:{id}", organisation=desk.principal.organisation, by="scim", email=values["email"]
    )
    desk.changed("principals")
    return _user(await _one(desk, users, id), base, [])


@operation("admin", "operator")
async def replace_user(desk: Desk, base: str, id: str, document: Any) -> dict[str, Any]:
    """Have a user be as `document` says; raise `ScimError`."""
    return await _write_user(desk, base, await _one(desk, users, id), _user_values(document))


@operation("admin", "operator")
async def patch_user(desk: Desk, base: str, id: str, document: Any) -> dict[str, Any]:
    """Change a user; raise `ScimError`."""
    row = await _one(desk, users, id)
    shown = _user(row, base, [])
    patch(shown, document)
    before = row.email
    # Who has one address and changes the user name alone goes by the new one, as Okta and Entra ID mean it.
    if get(shown, "userName") != (row.user_name or before) and shown.get("emails") == _emails(before):
        shown.pop("emails")
    return await _write_user(desk, base, row, _user_values(shown, fallback=before))


@operation("admin", "operator")
async def delete_user(desk: Desk, id: str) -> None:
    """Remove a user: keys, sessions, passkeys and memberships end now, the address is free for another."""
    row = await _one(desk, users, id)
    _check_may_close(row)
    connection = desk.connection
    await shut_out(connection, id, desk.at)
    for table in (memberships, group_members, passkeys):
        await connection.execute(delete(table).where(table.c.user == id))
    gone = {"active": False, "removed": desk.at, "email": f"{id}@removed.invalid", "roles": [], "subject": ""}
    await connection.execute(update(users).where(users.c.id == id).values(**gone, user_name="", external_id=""))
    desk.record("user.removed", f"user:{id}", organisation=row.organisation, by="scim", email=row.email)
    desk.changed("principals")


@operation("admin", "operator")
async def list_groups(desk: Desk, base: str, asked: Asked) -> dict[str, Any]:
    """Return groups as a ListResponse; raise `ScimError`."""
    where = [groups.c.organisation == desk.principal.organisation]
    where += [_group_term(term) for term in (parse_filter(asked.filter) if asked.filter else [])]
    rows, total = await _page(desk, groups, where, asked)
    held = {} if asked.without_members else await _members_of(desk, [row.id for row in rows])
    return _listed([_group(row, base, held.get(row.id, [])) for row in rows], total, asked)


@operation("admin", "operator")
async def read_group(desk: Desk, base: str, id: str) -> dict[str, Any]:
    """Return one group with its members; raise `ScimError`."""
    return _group(await _one(desk, groups, id), base, (await _members_of(desk, [id])).get(id, []))


@operation("admin", "operator")
async def create_group(desk: Desk, base: str, document: Any) -> dict[str, Any]:
    """Make a group, which gives its members nothing until an administrator says what; raise `ScimError`."""
    values, members = _group_values(document)
    id = ordered_id("group")
    made = {"id": id, "organisation": desk.principal.organisation, "grants": {}, "created": desk.at, **values}
    await desk.connection.execute(insert(groups).values(made))
    await _set_members(desk, id, members)
    desk.record("group.created", f"group:{id}", organisation=desk.principal.organisation, by="scim", **values)
    return _group(await _one(desk, groups, id), base, (await _members_of(desk, [id])).get(id, []))


@operation("admin", "operator")
async def replace_group(desk: Desk, base: str, id: str, document: Any) -> dict[str, Any]:
    """Have a group be as `document` says; raise `ScimError`."""
    return await _write_group(desk, base, await _one(desk, groups, id), document)


@operation("admin", "operator")
async def patch_group(desk: Desk, base: str, id: str, document: Any) -> dict[str, Any]:
    """Change a group; raise `ScimError`."""
    row = await _one(desk, groups, id)
    shown = _group(row, base, (await _members_of(desk, [id])).get(id, []))
    shown.setdefault("members", [])
    patch(shown, document)
    return await _write_group(desk, base, row, shown)


@operation("admin", "operator")
async def delete_group(desk: Desk, id: str) -> None:
    """Remove a group, and with it what it gave; raise `ScimError`."""
    row = await _one(desk, groups, id)
    await desk.connection.execute(delete(group_members).where(group_members.c.group == id))
    await desk.connection.execute(delete(groups).where(groups.c.id == id))
    desk.record("group.removed", f"group:{id}", organisation=row.organisation, by="scim", name=row.name)
    desk.changed("principals")


# --- users


def _user(row: Row[Any], base: str, held: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {
        "schemas": [USER],
        "id": row.id,
        "userName": row.user_name or row.email,
        "emails": _emails(row.email),
        "active": row.active,
        "groups": held,
        "meta": _meta("User", f"{base}/Users/{row.id}", row.created),
    }
    if row.name:
        shown["displayName"] = row.name
    if row.external_id:
        shown["externalId"] = row.external_id
    return shown


def _emails(address: str) -> list[dict[str, Any]]:
    return [{"value": address, "type": "work", "primary": True}]


def _user_values(document: Any, fallback: str = "") -> dict[str, Any]:
    """Return the columns that a user's JSON means; raise `ScimError`."""
    if not isinstance(document, dict):
        raise ScimError(400, "A user is a JSON object.", "invalidSyntax")
    name = _string(document, "userName", 320)
    if not name:
        raise ScimError(400, "userName is missing.", "invalidValue")
    email = _address(get(document, "emails")) or (name if _ADDRESS.fullmatch(name) else fallback)
    if not _ADDRESS.fullmatch(email) or email.lower().endswith("@removed.invalid"):
        raise ScimError(400, "A user needs an e-mail address, in emails or as userName.", "invalidValue")
    active = get(document, "active")
    if isinstance(active, str) and active.lower() in ("true", "false"):  # as Entra ID sends it
        active = active.lower() == "true"
    if active is not None and not isinstance(active, bool):
        raise ScimError(400, "active is true or false.", "invalidValue")
    return {
        "email": email.lower(),
        "user_name": "" if name.lower() == email.lower() else name,
        "name": _full_name(document),
        "external_id": _string(document, "externalId", 200),
        "active": active is not False,
    }


def _address(emails: Any) -> str:
    listed = [one for one in emails if isinstance(one, dict)] if isinstance(emails, list) else []
    chosen = sorted(listed, key=lambda one: get(one, "primary") not in (True, "True", "true"))
    value = get(chosen[0], "value") if chosen else ""
    return value.strip() if isinstance(value, str) else ""


def _full_name(document: dict[str, Any]) -> str:
    name = get(document, "name")
    parts = name if isinstance(name, dict) else {}
    both = " ".join(_string(parts, part, 100) for part in ("givenName", "familyName")).strip()
    return _string(document, "displayName", 200) or both or _string(parts, "formatted", 200)


def _string(document: dict[str, Any], name: str, limit: int) -> str:
    value = get(document, name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise ScimError(400, f"{name} is a string of at most {limit} characters.", "invalidValue")
    return value.strip()


def _check_may_close(row: Row[Any]) -> None:
    if "operator" in row.roles:
        raise ScimError(403, "An operator of the gateway is not closed by a directory.")


async def _write_user(desk: Desk, base: str, row: Row[Any], values: dict[str, Any]) -> dict[str, Any]:
    if set(row.roles) & set(INSTALLATION_ROLES) and (
        values["email"] != row.email.lower() or (values["active"] and not row.active)
    ):
        # Else a directory of one organisation could make itself a reviewer of all of them.
        raise ScimError(403, "Who has a role of the installation is not renamed or let in again by a directory.")
    if row.active and not values["active"]:
        _check_may_close(row)
        await shut_out(desk.connection, row.id, desk.at)
    await _check_free(desk, values, row.id)
    await desk.connection.execute(update(users).where(users.c.id == row.id).values(**values))
    action = "user.changed" if row.active == values["active"] else "user.opened" if values["active"] else "user.closed"
    desk.record(action, f"user:{row.id}", organisation=row.organisation, by="scim", email=values["email"])
    desk.changed("principals")
    held = (await _groups_of(desk, [row.id])).get(row.id, [])
    return _user(await _one(desk, users, row.id), base, held)


async def _check_free(desk: Desk, values: dict[str, Any], own: str) -> None:
    """Raise `ScimError` where the address is another's, anywhere, or the user name another's in the organisation."""
    name = values["user_name"] or values["email"]
    same_name = and_(users.c.organisation == desk.principal.organisation, _named(name))
    taken = or_(func.lower(users.c.email) == values["email"], same_name)
    if (await desk.connection.execute(select(users.c.id).where(taken, users.c.id != own))).first():
        raise ScimError(409, "There is a user with this name or address.", "uniqueness")


def _named(name: str) -> ColumnElement[bool]:
    by_address = and_(users.c.user_name == "", func.lower(users.c.email) == name.lower())
    return or_(func.lower(users.c.user_name) == name.lower(), by_address)


def _user_term(term: Term) -> ColumnElement[bool]:
    match term:
        case Term("username", str(value), False):
            return _named(value)
        case Term("externalid", str(value), False):
            return users.c.external_id == value if value else users.c.id == ""
        case Term("id", str(value), False):
            return users.c.id == value
        case Term("displayname", str(value), False):
            return func.lower(users.c.name) == value.lower()
        case Term("emails" | "emails.value", str(value), False):
            return func.lower(users.c.email) == value.lower()
        case Term("active", bool(value), False):
            return users.c.active.is_(value)
    raise ScimError(400, f"Users are not filtered by {term.attribute} so.", "invalidFilter")


# --- groups


def _group(row: Row[Any], base: str, members: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {
        "schemas": [GROUP],
        "id": row.id,
        "displayName": row.name,
        "meta": _meta("Group", f"{base}/Groups/{row.id}", row.created),
    }
    if members:
        shown["members"] = [{**one, "$ref": f"{base}/Users/{one['value']}"} for one in members]
    if row.external_id:
        shown["externalId"] = row.external_id
    return shown


def _group_values(document: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the columns that a group's JSON means, and its members; raise `ScimError`."""
    if not isinstance(document, dict):
        raise ScimError(400, "A group is a JSON object.", "invalidSyntax")
    name = _string(document, "displayName", 200)
    if not name:
        raise ScimError(400, "displayName is missing.", "invalidValue")
    listed = get(document, "members") or []
    if not isinstance(listed, list) or len(listed) > _MOST_MEMBERS:
        raise ScimError(400, f"members is a list of at most {_MOST_MEMBERS}.", "invalidValue")
    members = [get(one, "value") if isinstance(one, dict) else one for one in listed]
    if not all(isinstance(one, str) for one in members):
        raise ScimError(400, "A member has the id of a user as its value.", "invalidValue")
    return {"name": name, "external_id": _string(document, "externalId", 200)}, list(dict.fromkeys(members))


async def _write_group(desk: Desk, base: str, row: Row[Any], document: Any) -> dict[str, Any]:
    values, members = _group_values(document)
    await desk.connection.execute(update(groups).where(groups.c.id == row.id).values(**values))
    added, removed = await _set_members(desk, row.id, members)
    desk.record(
        *("group.changed", f"group:{row.id}"),
        organisation=row.organisation,
        by="scim",
        name=values["name"],
        added=added[:100],
        removed=removed[:100],
    )
    return _group(await _one(desk, groups, row.id), base, (await _members_of(desk, [row.id])).get(row.id, []))


async def _set_members(desk: Desk, group: str, wanted: list[str]) -> tuple[list[str], list[str]]:
    """Have the group have these members; return who was added and who was removed; raise `ScimError`."""
    connection = desk.connection
    held = set((await connection.execute(_ids(group))).scalars())
    added, removed = [one for one in wanted if one not in held], sorted(held - set(wanted))
    known: set[str] = set()
    for some in _portions(added):
        own = and_(users.c.organisation == desk.principal.organisation, users.c.removed.is_(None))
        known |= set((await connection.execute(select(users.c.id).where(users.c.id.in_(some), own))).scalars())
    if unknown := [one for one in added if one not in known]:
        raise ScimError(400, f"There is no user {unknown[0][:80]!r}.", "invalidValue")
    for some in _portions(removed):
        await connection.execute(delete(group_members).where(_of(group), group_members.c.user.in_(some)))
    if added:
        await connection.execute(insert(group_members), [{"group": group, "user": one} for one in added])
    desk.changed("principals")
    return added, removed


def _of(group: str) -> ColumnElement[bool]:
    return group_members.c.group == group


def _ids(group: str) -> Any:
    return select(group_members.c.user).where(_of(group))


def _portions(ids: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]


async def _members_of(desk: Desk, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    joined = (
        select(group_members.c.group, users.c.id, users.c.email)
        .join(users, users.c.id == group_members.c.user)
        .where(group_members.c.group.in_(ids))
        .order_by(users.c.id)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for group, user, email in await desk.connection.execute(joined):
        found.setdefault(group, []).append({"value": user, "display": email, "type": "User"})
    return found


async def _groups_of(desk: Desk, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    joined = (
        select(group_members.c.user, groups.c.id, groups.c.name)
        .join(groups, groups.c.id == group_members.c.group)
        .where(group_members.c.user.in_(ids))
        .order_by(groups.c.id)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for user, group, name in await desk.connection.execute(joined):
        found.setdefault(user, []).append({"value": group, "display": name})
    return found


def _group_term(term: Term) -> ColumnElement[bool]:
    match term:
        case Term("displayname", str(value), False):
            return func.lower(groups.c.name) == value.lower()
        case Term("externalid", str(value), False):
            return groups.c.external_id == value if value else groups.c.id == ""
        case Term("id", str(value), False):
            return groups.c.id == value
        case Term("members" | "members.value", str(value), False):
            return groups.c.id.in_(select(group_members.c.group).where(group_members.c.user == value))
    raise ScimError(400, f"Groups are not filtered by {term.attribute} so.", "invalidFilter")


# --- both


async def _one(desk: Desk, table: Table, id: str) -> Row[Any]:
    """Return a row of the organisation, locked until the end; raise `ScimError`: another's is not there."""
    query = select(table).where(table.c.id == id, table.c.organisation == desk.principal.organisation)
    if table is users:
        query = query.where(users.c.removed.is_(None))
    row = (await desk.connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise ScimError(404, f"There is no {id[:80]!r}.")
    return row


async def _page(
    desk: Desk, table: Table, where: list[ColumnElement[bool]], asked: Asked
) -> tuple[Sequence[Row[Any]], int]:
    total = (await desk.connection.execute(select(func.count()).select_from(table).where(*where))).scalar_one()
    count = min(asked.most, MOST_RESULTS)
    if count <= 0 or asked.start > total:
        return [], total
    query = select(table).where(*where).order_by(table.c.id).offset(asked.start - 1).limit(count)
    return (await desk.connection.execute(query)).all(), total


def _listed(resources: list[dict[str, Any]], total: int, asked: Asked) -> dict[str, Any]:
    return {
        "schemas": [LIST],
        "totalResults": total,
        "startIndex": asked.start,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _meta(kind: str, location: str, created: int) -> dict[str, Any]:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(created / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"resourceType": kind, "created": at, "location": location}
