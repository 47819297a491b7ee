"""Keys: made and shown once, rotated with an overlap, revoked at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, insert, or_, select

from lathe.gateway.admin.desk import ANYONE, Desk, operation
from lathe.gateway.admin.faults import conflict, forbidden, invalid, not_found
from lathe.gateway.admin.organisations import given
from lathe.gateway.admin.people import may_act_for
from lathe.gateway.admin.shapes import FreshKey, Key, KeyChange, Keys, NewKey, Page, Rotation, SettledKey
from lathe.gateway.principals import key_digest, key_hint, new_key
from lathe.protocol.ids import ordered_id
from lathe.store.gateway.schema import entitlements, keys, memberships, passkeys, projects, users

_FIELDS = Key.__struct_fields__
_SETTLE_S = 10.0


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def list_keys(desk: Desk, asked: Keys) -> Page[Key]:
    """List keys, without their secrets."""
    conditions = [
        keys.c[name] == value for name in ("organisation", "project", "user") if (value := getattr(asked, name))
    ]
    if asked.live:
        conditions += [keys.c.revoked.is_(None), or_(keys.c.expires.is_(None), keys.c.expires > desk.at)]
    found, after = await desk.page(keys, asked, *conditions)
    return Page([_key(row) for row in found], after)


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def show_key(desk: Desk, key: str) -> Key:
    """Show a key, without its secret."""
    return _key(await desk.one(keys, key))


@operation("operator", "admin", ANYONE)
async def create_key(desk: Desk, asked: NewKey) -> FreshKey:
    """Make a key; its secret is in the answer and nowhere else."""
    if asked.expires is not None and asked.expires <= desk.at:
        raise invalid("The key would have expired already.", "Give a time to come, in milliseconds since 1970.")
    owner = await _owner(desk, asked)
    if asked.project:
        await _is_of(desk, asked.project, owner)
    elif not owner.user and {"relay", "batch"} & set(asked.scopes):
        raise invalid("A machine that asks models needs a project.", "Name one.")
    if "metrics" in asked.scopes and not desk.is_operator:
        raise forbidden("Only an operator may make keys with the scope metrics: they concern all organisations.")
    if "scim" in asked.scopes and (owner.user or asked.project):
        raise invalid("The scope scim is for a machine of a whole organisation.")
    return await _write(
        desk,
        organisation=owner.organisation,
        project=asked.project or None,
        user=owner.user or None,
        name=asked.name,
        scopes=sorted(set(asked.scopes)),
        surface=asked.surface,
        settings=msgspec.to_builtins(asked.settings),
        expires=asked.expires,
        replaces="",
    )


@operation("operator", "admin")
async def change_key(desk: Desk, key: str, asked: KeyChange) -> Key:
    """Rename a key, set its limits, or have it expire sooner."""
    found = await _live(desk, key)
    if asked.expires is not None and found.expires is not None and asked.expires > found.expires:
        raise conflict("key_expires", "A key can't be made to live longer.", "Rotate it instead.")
    values = given(asked)
    await desk.put(keys, key, values)
    desk.record("key.changed", f"key:{key}", organisation=found.organisation, changes=values)
    desk.changed("principals")
    return _key(await desk.one(keys, key))


@operation("operator", "admin", ANYONE)
async def rotate_key(desk: Desk, key: str, asked: Rotation) -> FreshKey:
    """Make a key in place of another, which goes on to work for a stated time."""
    old = await _live(desk, key)
    await _may_hold(desk, old)
    ends = desk.at + asked.overlap_s * 1000
    ends = ends if old.expires is None else min(ends, old.expires)
    # a key that was to live for a time has a successor that lives as long
    lifetime = None if old.expires is None else desk.at + old.expires - old.created
    fresh = await _write(
        desk,
        organisation=old.organisation,
        project=old.project,
        user=old.user,
        name=old.name,
        scopes=old.scopes,
        surface=old.surface,
        settings=old.settings,
        expires=lifetime,
        replaces=old.id,
    )
    await desk.put(keys, key, {"expires": ends} if asked.overlap_s else {"revoked": desk.at})
    facts = {"successor": fresh.key.id, "until": ends}
    desk.record("key.rotated", f"key:{key}", organisation=old.organisation, **facts)
    return fresh


@operation("operator", "admin", ANYONE)
async def revoke_key(desk: Desk, key: str) -> Key:
    """Revoke a key: it counts no longer, on any replica."""
    found = await desk.one(keys, key)
    if found.revoked is None:
        await desk.put(keys, key, {"revoked": desk.at})
        desk.record("key.revoked", f"key:{key}", organisation=found.organisation)
        desk.changed("principals")
    return _key(await desk.one(keys, key))


@operation("operator", "admin", ANYONE, reads=True)
async def settle_key(desk: Desk, key: str) -> SettledKey:
    """Wait, for 10 seconds at most, until no request of a key is under way on this replica and all are on record."""
    found = await desk.one(keys, key)
    return SettledKey(found.id, await desk.services.settle(found.id, _SETTLE_S))


class _Owner(NamedTuple):
    organisation: str
    user: str
    sees_all: bool


async def _owner(desk: Desk, asked: NewKey) -> _Owner:
    """Return for whom a key is to be made; raise `AdminError`."""
    me = desk.principal
    manages = desk.everywhere or desk.whole_organisation
    if asked.owner == "machine":
        if not manages:
            raise forbidden("Only an administrator may make keys for machines.")
        return _Owner(desk.organisation(asked.organisation), "", True)
    name = me.user if asked.owner == "me" else asked.owner
    if not name:
        raise invalid("The caller is a machine, and no user.", "Say who the key is for: machine, or a user's id.")
    person = await desk.one(users, name, "user")
    if not person.active:
        raise conflict("user_inactive", "The user is inactive.", "Activate the user first.")
    if person.id != me.user:
        if not manages:
            raise forbidden("Only an administrator may make keys for others.")
        may_act_for(desk, person)
        await _may_hold_for(desk, person)
    known = desk.services.directory.user(person.id)
    return _Owner(person.organisation, person.id, known is not None and known.sees_all_projects)


async def _may_hold(desk: Desk, key: Row[Any]) -> None:
    """Raise `AdminError` where the caller may not be given the secret of a successor."""
    if key.user is not None and key.user != desk.principal.user:
        person = await desk.one(users, key.user, "user")
        may_act_for(desk, person)
        await _may_hold_for(desk, person)


async def _may_hold_for(desk: Desk, person: Row[Any]) -> None:
    """Raise `AdminError` where a key would let an administrator pass for a person who has been trusted.

    A person who has signed in makes keys alone; before that, somebody must make the first one.
    """
    if desk.is_operator:
        return
    mine, table = f"user:{person.id}", entitlements.c
    query = select(table.id).where(table.subject == mine, table.revoked.is_(None), table.expires > desk.at)
    held = (await desk.connection.execute(query.limit(1))).first()
    query = select(passkeys.c.id).where(passkeys.c.user == person.id)
    enrolled = (await desk.connection.execute(query.limit(1))).first()
    if person.subject or held or enrolled or person.identity:
        raise forbidden(
            "The user has signed in or been identified, and makes keys alone.", "Make a key for a machine instead."
        )


async def _is_of(desk: Desk, project: str, owner: _Owner) -> None:
    """Raise `AdminError` unless the owner may use the project."""
    query = select(projects.c.archived).where(projects.c.id == project, projects.c.organisation == owner.organisation)
    row = (await desk.connection.execute(query)).one_or_none()
    if row is None or (owner.user and not owner.sees_all and not await _is_member(desk, project, owner.user)):
        raise not_found("project")
    if row.archived is not None:
        raise conflict("project_archived", "The project is archived.", "Bring it back first.")


async def _is_member(desk: Desk, project: str, user: str) -> bool:
    known = desk.services.directory.user(user)
    if known is not None and project in known.projects:
        return True
    query = select(memberships.c.role).where(memberships.c.project == project, memberships.c.user == user)
    return (await desk.connection.execute(query)).first() is not None


async def _live(desk: Desk, key: str) -> Row[Any]:
    found = await desk.one(keys, key)
    if found.revoked is not None or (found.expires is not None and found.expires <= desk.at):
        raise conflict("key_dead", "The key has expired or was revoked.", "Make a new one.")
    return found


async def _write(desk: Desk, **values: Any) -> FreshKey:
    secret = new_key()
    made = Key(id=ordered_id("key"), hint=key_hint(secret), created=desk.at, revoked=None, **values)
    row = msgspec.structs.asdict(made) | {"digest": key_digest(secret)}
    await desk.connection.execute(insert(keys).values(row))
    facts = {name: values[name] for name in ("project", "user", "name", "scopes", "surface", "expires", "replaces")}
    desk.record("key.created", f"key:{made.id}", organisation=made.organisation, **facts)
    desk.changed("principals")
    return FreshKey(made, secret)


def _key(row: Row[Any]) -> Key:
    return Key(**{name: getattr(row, name) for name in _FIELDS})
