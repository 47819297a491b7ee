"""What is asked and answered about access, rollouts and records, as it stands in JSON.

Times are milliseconds since the epoch, money is millionths of a US dollar.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from lathe.gateway.admin.shapes import (
    Asking,
    Day,
    Id,
    Listing,
    ModelName,
    Name,
    Note,
    OptionalId,
    Prose,
    Time,
)
from lathe.gateway.principals import SURFACES, Surface, Tier

ScopeWord: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$", max_length=64)]
Trust: TypeAlias = Literal["verified", "organisation", "specialist"]
Verdict: TypeAlias = Literal["approve", "decline"]
Hash: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}$")]
Target: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,300}$")]
Targets: TypeAlias = Annotated[tuple[Target, ...], msgspec.Meta(max_length=500)]
MAX_DAYS = 730

# --- applications and entitlements


class Evidence(Asking, frozen=True, kw_only=True):
    """Something that speaks for an application: a link, the hash of a document, an identity, words."""

    kind: Literal["link", "document", "identity", "statement"]
    text: Note = ""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-fA-F]{64})?$")] = ""


class Wanted(Asking, frozen=True, kw_only=True):
    """What an entitlement is to cover; a `project` of "" is any of the organisation."""

    models: Annotated[tuple[ModelName, ...], msgspec.Meta(min_length=1, max_length=50)] = ("*",)
    surfaces: Annotated[tuple[Surface, ...], msgspec.Meta(min_length=1)] = SURFACES
    project: OptionalId = ""
    scope: Annotated[tuple[ScopeWord, ...], msgspec.Meta(max_length=20)] = ()
    days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS)] = 365


class NewApplication(Asking, frozen=True, kw_only=True):
    """An application. `subject` is who is to be trusted, "" for the user who asks; `renews` an entitlement's id."""

    tier: Trust
    why: Prose
    subject: Annotated[str, msgspec.Meta(pattern=r"^((user|project|organisation):[A-Za-z0-9_.-]{1,64})?$")] = ""
    wanted: Wanted = Wanted()
    evidence: Annotated[tuple[Evidence, ...], msgspec.Meta(max_length=20)] = ()
    renews: OptionalId = ""


class Applications(Listing, frozen=True, kw_only=True):
    state: Literal["submitted", "approved", "declined", "withdrawn", ""] = ""
    organisation: OptionalId = ""


class Review(msgspec.Struct, frozen=True):
    """What one reviewer said."""

    reviewer: str
    verdict: str
    note: str
    at: int


class Application(msgspec.Struct, frozen=True):
    """An application with its reviews; `needs` is how many more approvals it takes."""

    id: str
    organisation: str
    subject: str
    tier: str
    why: str
    evidence: list[dict[str, Any]]
    wanted: dict[str, Any]
    state: str
    renews: str
    entitlement: str
    author: str
    created: int
    decided: int | None
    needs: int
    reviews: list[Review]


class Judgement(Asking, frozen=True, kw_only=True):
    """A reviewer's word; a decline gives its reason in `note`."""

    verdict: Verdict
    note: Note = ""


class Entitlements(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    subject: Annotated[str, msgspec.Meta(max_length=100)] = ""
    live: bool = False


class Entitlement(msgspec.Struct, frozen=True):
    """An entitlement; `document` is the text that was signed, `state` live, not_begun, expired, revoked or invalid."""

    id: str
    organisation: str
    subject: str
    tier: str
    project: str
    models: list[str]
    surfaces: list[str]
    scope: list[str]
    starts: int
    expires: int
    state: str
    revoked: int | None
    revoked_why: str
    document: str
    signature: str
    signer: str


class Revocation(Asking, frozen=True, kw_only=True):
    """Why something is taken back."""

    why: Prose


# --- engagements


class NewEngagement(Asking, frozen=True, kw_only=True):
    """Authorised security work: targets, window, and the SHA-256 of the document that gives the authority."""

    project: Id
    name: Name
    authority: Hash
    expires: Time
    starts: Time | None = None
    domains: Targets = ()
    networks: Targets = ()
    repositories: Targets = ()


class Engagements(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    project: OptionalId = ""
    live: bool = False


class Engagement(msgspec.Struct, frozen=True):
    """An engagement; `document` is the text that was signed."""

    id: str
    organisation: str
    project: str
    name: str
    authority: str
    domains: list[str]
    networks: list[str]
    repositories: list[str]
    starts: int
    expires: int
    state: str
    revoked: int | None
    document: str
    signature: str
    signer: str


# --- rollouts


class NewRollout(Asking, frozen=True, kw_only=True):
    """A schedule that is to replace the model's: when it opens, on which surface, to whom."""

    model: ModelName
    schedule: dict[str, Any]
    why: Prose


class Rollouts(Asking, frozen=True, kw_only=True):
    model: Annotated[str, msgspec.Meta(max_length=200)] = ""
    state: Literal["proposed", "active", "replaced", "declined", ""] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Rollout(msgspec.Struct, frozen=True):
    """One version of a model's schedule, with its reviews; `active` is when it took effect."""

    version: int
    model: str
    schedule: dict[str, Any]
    why: str
    author: str
    state: str
    created: int
    active: int | None
    reviews: list[Review]


class Trial(Asking, frozen=True, kw_only=True):
    """What to rehearse: a proposed version, or a schedule that is not proposed yet, on the requests of a `day` (UTC).

    With `at`, each request is judged as if it came then.
    """

    day: Day
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    model: Annotated[str, msgspec.Meta(max_length=200)] = ""
    schedule: dict[str, Any] | None = None
    at: Time | None = None


# --- what is live now


class Question(Asking, frozen=True, kw_only=True):
    """A request that is only decided, not served."""

    model: ModelName
    surface: Surface = "api"
    region: Annotated[str, msgspec.Meta(max_length=20)] = ""
    program: Annotated[str, msgspec.Meta(max_length=200)] = ""
    engagement: Annotated[str, msgspec.Meta(max_length=200)] = ""
    no_fallback: bool = False


class Within(msgspec.Struct, frozen=True):
    """The targets of an engagement."""

    domains: list[str]
    networks: list[str]
    repositories: list[str]


class Answer(msgspec.Struct, frozen=True):
    """What would be decided; `policy` is the hash of the rules that say so.

    `scope` is of the entitlement, `targets` are of the engagement, None without one.
    """

    outcome: str
    requested: str
    served: str
    tier: str
    entitlement: str
    engagement: str
    substitution: str
    clause: str
    code: str
    message: str
    hint: str
    details: dict[str, Any]
    status: int
    policy: str
    replica: str
    revision: int
    scope: list[str]
    targets: Within | None = None


class Access(msgspec.Struct, frozen=True):
    """What a replica knows of the caller now. `models` says for each surface what would be decided."""

    replica: str
    revision: int
    policy: str
    at: int
    age_ms: int
    principal: dict[str, Any]
    tier: Tier
    entitlements: list[dict[str, Any]]
    engagements: list[dict[str, Any]]
    models: list[dict[str, Any]]
    limits: dict[str, Any]
    replicas: list[dict[str, Any]]


# --- records


class UsageQuestion(Asking, frozen=True, kw_only=True):
    """Whose spend: of a month (2026-11) or a day (2026-11-28); "" is this month."""

    by: Literal["project", "key", "organisation"] = "project"
    period: Annotated[str, msgspec.Meta(pattern=r"^([0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$")] = ""
    organisation: OptionalId = ""


class UsageRow(msgspec.Struct, frozen=True):
    """What one scope has used."""

    scope: str
    name: str
    period: str
    cost: int
    tokens: int
    requests: int


class Usage(msgspec.Struct, frozen=True):
    """What was used in a period, the most expensive first."""

    period: str
    data: list[UsageRow]
    cost: int


class Requests(Listing, frozen=True, kw_only=True):
    organisation: OptionalId = ""
    project: OptionalId = ""
    key: OptionalId = ""
    model: Annotated[str, msgspec.Meta(max_length=200)] = ""
    state: Annotated[str, msgspec.Meta(max_length=20)] = ""


class RequestRow(msgspec.Struct, frozen=True):
    """A request on record, without its contents."""

    id: str
    at: int
    organisation: str
    project: str
    user: str
    key: str
    surface: str
    region: str
    wire: str
    requested: str
    served: str
    tier: str
    state: str
    status: int
    code: str
    cost: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ended: int | None


class Receipt(msgspec.Struct, frozen=True):
    """A receipt and its signature by the key with the id `key`."""

    key: str
    receipt: dict[str, Any]
    signature: str


class AuditQuestion(Asking, frozen=True, kw_only=True):
    """Which records: of a chain, an actor, an action or its beginning, a subject, an organisation, from a time on."""

    chain: Annotated[str, msgspec.Meta(max_length=64)] = ""
    actor: Annotated[str, msgspec.Meta(max_length=100)] = ""
    action: Annotated[str, msgspec.Meta(max_length=64)] = ""
    subject: Annotated[str, msgspec.Meta(max_length=100)] = ""
    organisation: OptionalId = ""
    since: Time = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, msgspec.Meta(max_length=200)] = ""


class AuditRow(msgspec.Struct, frozen=True):
    """A record of the audit, with its place in its chain."""

    chain: str
    seq: int
    hash: str
    at: int
    actor: str
    action: str
    subject: str
    body: dict[str, Any]


class Replica(msgspec.Struct, frozen=True):
    """A replica that has been heard of in the last 15 seconds."""

    id: str
    address: str
    started: int
    seen: int
