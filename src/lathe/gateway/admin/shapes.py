"""What is asked of the administration and what it answers, as it stands in JSON.

Times are milliseconds since the epoch, money is millionths of a US dollar.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from lathe.gateway.limits import Allowance
from lathe.gateway.principals import Surface

_T = TypeVar("_T")

Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
OptionalId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Prose: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Note: TypeAlias = Annotated[str, msgspec.Meta(max_length=4000)]
Email: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[^@\s]{1,64}@[^@\s]{1,255}$")]
Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
Role: TypeAlias = Literal["operator", "reviewer", "auditor", "admin", "member"]
ProjectRole: TypeAlias = Literal["member", "admin"]
Scope: TypeAlias = Literal["relay", "admin", "batch", "scim", "metrics"]
Retention: TypeAlias = Literal["full", "metadata", "zero"]
Subject: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(user|project|organisation):[A-Za-z0-9_.-]{1,64}$")]
ModelName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,200}$")]
Day: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Period: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$")]


class Asking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked: a field that is not known is refused."""


class Listing(Asking, frozen=True, kw_only=True):
    """Which part of a list: `cursor` is what the page before gave as `next`."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Page(msgspec.Struct, Generic[_T], frozen=True):
    """A part of a list; `next` is None at its end."""

    data: list[_T]
    next: str | None = None


class Nothing(msgspec.Struct, frozen=True):
    """It is done."""


# --- principals


class OrganisationSettings(Asking, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for all projects of an organisation."""

    limits: Allowance | None = None
    retention: Retention | None = None


class ProjectSettings(OrganisationSettings, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for a project. `fallback` names, for a model or `*`, what may be served in its place, in order."""

    fallback: dict[ModelName, Annotated[list[ModelName], msgspec.Meta(max_length=10)]] | None = None
    region: Annotated[str, msgspec.Meta(max_length=20)] | None = None


class KeySettings(Asking, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for a key alone."""

    limits: Allowance | None = None


class NewOrganisation(Asking, frozen=True, kw_only=True):
    name: Name
    settings: OrganisationSettings = OrganisationSettings()


class OrganisationChange(Asking, frozen=True, kw_only=True):
    """What is None stays as it is."""

    name: Name | None = None
    settings: OrganisationSettings | None = None


class Organisation(msgspec.Struct, frozen=True):
    """An organisation."""

    id: str
    name: str
    created: int
    settings: dict[str, Any]


class Projects(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    archived: bool = False


class NewProject(Asking, frozen=True, kw_only=True):
    """A project; `organisation` is "" for the caller's own."""

    name: Name
    organisation: OptionalId = ""
    settings: ProjectSettings = ProjectSettings()


class ProjectChange(Asking, frozen=True, kw_only=True):
    """What is None stays as it is. The keys of an archived project count no longer."""

    name: Name | None = None
    archived: bool | None = None
    settings: ProjectSettings | None = None


class Project(msgspec.Struct, frozen=True):
    """A project; `archived` is when it was closed."""

    id: str
    organisation: str
    name: str
    created: int
    archived: int | None
    settings: dict[str, Any]


class Member(msgspec.Struct, frozen=True):
    """A user of a project."""

    user: str
    email: str
    name: str
    role: str


class MemberRole(Asking, frozen=True, kw_only=True):
    role: ProjectRole = "member"


class Users(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    email: Annotated[str, msgspec.Meta(max_length=320)] = ""


class NewUser(Asking, frozen=True, kw_only=True):
    """A user; `organisation` is "" for the caller's own."""

    email: Email
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    organisation: OptionalId = ""
    roles: tuple[Role, ...] = ("member",)
    projects: Annotated[tuple[Id, ...], msgspec.Meta(max_length=100)] = ()


class UserChange(Asking, frozen=True, kw_only=True):
    """What is None stays as it is. The keys and sessions of an inactive user count no longer."""

    name: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    roles: tuple[Role, ...] | None = None
    active: bool | None = None


class Identified(Asking, frozen=True, kw_only=True):
    """How a person was identified: by a document, a signed letter, in person; `note` says who saw what."""

    note: Prose
    method: Literal["manual", "letter"] = "manual"
    level: Literal["basic", "document", "in_person"] = "document"


class User(msgspec.Struct, frozen=True):
    """A user; `identity` is how far the person has been identified."""

    id: str
    organisation: str
    email: str
    name: str
    roles: list[str]
    active: bool
    identity: dict[str, Any]
    created: int


class Grants(Asking, frozen=True, kw_only=True):
    """What members of a group get: a role by project, and roles."""

    projects: dict[Id, ProjectRole] = {}
    roles: tuple[Role, ...] = ()


class Groups(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""


class NewGroup(Asking, frozen=True, kw_only=True):
    name: Name
    organisation: OptionalId = ""
    grants: Grants = Grants()


class GroupChange(Asking, frozen=True, kw_only=True):
    name: Name | None = None
    grants: Grants | None = None


class Group(msgspec.Struct, frozen=True):
    """A group with the ids of its members."""

    id: str
    organisation: str
    name: str
    grants: dict[str, Any]
    members: list[str]
    created: int


class Keys(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    project: OptionalId = ""
    user: OptionalId = ""
    live: bool = False


class NewKey(Asking, frozen=True, kw_only=True):
    """A key. `owner` is `me`, `machine` or the id of a user; `organisation` is "" for the caller's own."""

    name: Annotated[str, msgspec.Meta(max_length=200)] = ""
    owner: Id = "me"
    organisation: OptionalId = ""
    project: OptionalId = ""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)] = ("relay",)
    surface: Surface | Literal[""] = ""
    expires: Time | None = None
    settings: KeySettings = KeySettings()


class SettledKey(msgspec.Struct, frozen=True):
    """How many requests of a key are under way still; 0 where all that it asked is on record."""

    key: str
    under_way: int


class KeyChange(Asking, frozen=True, kw_only=True):
    """What is None stays as it is; `expires` can only come nearer."""

    name: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    expires: Time | None = None
    settings: KeySettings | None = None


class Rotation(Asking, frozen=True, kw_only=True):
    """For how long the old key goes on to work, in seconds."""

    overlap_s: Annotated[int, msgspec.Meta(ge=0, le=30 * 86_400)] = 86_400


class Key(msgspec.Struct, frozen=True):
    """A key without its secret; `hint` is its last letters, `replaces` the key that it took over from."""

    id: str
    organisation: str
    project: str | None
    user: str | None
    name: str
    hint: str
    scopes: list[str]
    surface: str
    settings: dict[str, Any]
    created: int
    expires: int | None
    revoked: int | None
    replaces: str


class FreshKey(msgspec.Struct, frozen=True):
    """A key with its secret, which is shown this once."""

    key: Key
    secret: str
