"""The tables of the gateway, the same on SQLite and PostgreSQL.

Times are integers, milliseconds since the epoch. Money is integers, millionths of a US dollar. Ids are short words
with their kind in front (`org_…`, `proj_…`). Documents that are signed are kept as the text that was signed.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    insert,
)

from lathe.store.gateway.columns import id_of, metadata, refers_to, text, time

# --- principals

organisations = Table(
    "organisations",
    metadata,
    id_of(),
    Column("name", String(200), nullable=False, unique=True),
    time("created"),
    # limits, budgets, retention: gateway/limits.py and gateway/records.py say which keys
    Column("settings", JSON, nullable=False, default=dict),
)

projects = Table(
    "projects",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    Column("name", String(200), nullable=False),
    time("created"),
    time("archived", null=True),
    # limits, budgets, retention, fallback, region
    Column("settings", JSON, nullable=False, default=dict),
    Index("uq_projects_name", "organisation", "name", unique=True),
)

users = Table(
    "users",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    Column("email", String(320), nullable=False, unique=True),
    text("name"),
    # issuer and subject of an OpenID provider, "" before the first sign-in
    Column("subject", String(500), nullable=False, default="", index=True),
    # of the installation: operator, reviewer, auditor; of the organisation: admin, member
    Column("roles", JSON, nullable=False, default=list),
    # how far the person has been identified: {"method": ..., "at": ..., "level": ...}
    Column("identity", JSON, nullable=False, default=dict),
    Column("active", Boolean, nullable=False, default=True),
    # what a directory calls the user by SCIM; "" where it is the e-mail address
    Column("user_name", String(320), nullable=False, default=""),
    Column("external_id", String(200), nullable=False, default=""),
    time("created"),
    # a directory has deleted the user: the row stays for the records that name it, and the address is free again
    time("removed", null=True),
)

memberships = Table(
    "memberships",
    metadata,
    Column("project", String(64), ForeignKey("projects.id"), primary_key=True),
    Column("user", String(64), ForeignKey("users.id"), primary_key=True, index=True),
    Column("role", String(20), nullable=False, default="member"),
)

groups = Table(
    "groups",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    Column("name", String(200), nullable=False),
    Column("external_id", String(200), nullable=False, default=""),
    # what membership gives: {"projects": {project: role}, "roles": [...]}
    Column("grants", JSON, nullable=False, default=dict),
    time("created"),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group", String(64), ForeignKey("groups.id"), primary_key=True),
    Column("user", String(64), ForeignKey("users.id"), primary_key=True, index=True),
)

keys = Table(
    "keys",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    refers_to("projects", "project", null=True),
    refers_to("users", "user", null=True),
    text("name"),
    # SHA-256 of the key, in hexadecimal; keys have 256 random bits, so no salt and no stretching
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    # relay, admin, scim, batch, ...; a key can do nothing that its owner can't
    Column("scopes", JSON, nullable=False, default=list),
    # the surface that requests with this key come from, "" where the request says it
    Column("surface", String(20), nullable=False, default=""),
    Column("settings", JSON, nullable=False, default=dict),
    time("created"),
    time("expires", null=True),
    time("revoked", null=True),
    Column("replaces", String(64), nullable=False, default=""),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("id", String(1400), primary_key=True),
    refers_to("users", "user"),
    text("public_key"),
    Column("sign_count", BigInteger, nullable=False, default=0),
    text("name"),
    time("created"),
    time("used", null=True),
)

sessions = Table(
    "sessions",
    metadata,
    # SHA-256 of the cookie's value
    Column("digest", String(64), primary_key=True),
    refers_to("users", "user"),
    Column("csrf", String(64), nullable=False),
    # how the person signed in: oidc, passkey
    Column("method", String(20), nullable=False),
    # how surely: account, mfa, passkey
    Column("level", String(20), nullable=False, default="account"),
    time("created"),
    time("seen"),
    time("expires"),
)

tickets = Table(
    "tickets",
    metadata,
    # SHA-256 of what its holder shows; a ticket is taken once
    Column("digest", String(64), primary_key=True),
    # oidc, passkey-sign-in, passkey-enrol, invitation, email
    Column("kind", String(20), nullable=False),
    Column("body", JSON, nullable=False),
    Column("user", String(64), nullable=False, default="", index=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

proofs = Table(
    "proofs",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    # whose identity: user:ID or organisation:ID
    Column("subject", String(100), nullable=False, index=True),
    Column("method", String(40), nullable=False),
    # gateway/identity/proof.py says what the levels are
    Column("level", String(20), nullable=False),
    Column("evidence", JSON, nullable=False, default=dict),
    # who states it: a user, or "" where the method itself does
    Column("author", String(64), nullable=False, default=""),
    time("at"),
    time("expires", null=True),
)

# --- trusted access

applications = Table(
    "applications",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    refers_to("projects", "project", null=True),
    # who is to be trusted: user:ID, project:ID or organisation:ID
    Column("subject", String(100), nullable=False, index=True),
    Column("tier", String(20), nullable=False),
    text("why"),
    Column("evidence", JSON, nullable=False, default=list),
    Column("wanted", JSON, nullable=False, default=dict),
    # submitted, approved, declined, withdrawn
    Column("state", String(20), nullable=False, index=True),
    Column("renews", String(64), nullable=False, default=""),
    Column("entitlement", String(64), nullable=False, default=""),
    Column("author", String(64), nullable=False),
    time("created"),
    time("decided", null=True),
)

reviews = Table(
    "reviews",
    metadata,
    # what was reviewed: an application, a rollout
    Column("of", String(64), primary_key=True),
    Column("reviewer", String(64), primary_key=True),
    Column("verdict", String(20), nullable=False),
    text("note"),
    time("at"),
)

entitlements = Table(
    "entitlements",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    Column("subject", String(100), nullable=False, index=True),
    text("body"),
    Column("signature", String(200), nullable=False),
    Column("signer", String(64), nullable=False),
    time("expires"),
    time("revoked", null=True),
    text("revoked_why"),
)

engagements = Table(
    "engagements",
    metadata,
    id_of(),
    refers_to("organisations", "organisation"),
    refers_to("projects", "project"),
    text("name"),
    text("body"),
    Column("signature", String(200), nullable=False),
    Column("signer", String(64), nullable=False),
    time("expires"),
    time("revoked", null=True),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("model", String(200), nullable=False, index=True),
    Column("schedule", JSON, nullable=False),
    text("why"),
    Column("author", String(64), nullable=False),
    # proposed, active, replaced, declined
    Column("state", String(20), nullable=False, index=True),
    time("created"),
    time("active", null=True),
)

# --- records

requests = Table(
    "requests",
    metadata,
    id_of(),
    time("at"),
    Column("replica", String(64), nullable=False),
    Column("organisation", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("user", String(64), nullable=False, default=""),
    Column("key", String(64), nullable=False),
    # a salted hash of the caller's own end-user
    Column("end_user", String(64), nullable=False, default=""),
    Column("surface", String(20), nullable=False),
    Column("region", String(20), nullable=False, default=""),
    Column("wire", String(20), nullable=False),
    Column("requested", String(200), nullable=False),
    Column("served", String(200), nullable=False, default=""),
    Column("tier", String(20), nullable=False, default="default"),
    # open until it is settled; then done, failed, refused, cancelled, lost
    Column("state", String(20), nullable=False),
    Column("status", Integer, nullable=False, default=0),
    Column("code", String(64), nullable=False, default=""),
    # micro-dollars: what was set aside before, and what it came to
    Column("reserved", BigInteger, nullable=False, default=0),
    Column("cost", BigInteger, nullable=False, default=0),
    Column("input_tokens", BigInteger, nullable=False, default=0),
    Column("cached_tokens", BigInteger, nullable=False, default=0),
    Column("output_tokens", BigInteger, nullable=False, default=0),
    Column("ended", BigInteger, nullable=True),
    # the receipt as it was signed
    text("receipt"),
    Column("signature", String(200), nullable=False, default=""),
    Column("signer", String(64), nullable=False, default=""),
    Index("ix_requests_project_at", "project", "at"),
    Index("ix_requests_organisation_at", "organisation", "at"),
    Index("ix_requests_replica_state", "replica", "state"),
)

spend = Table(
    "spend",
    metadata,
    # key:ID, project:ID, organisation:ID
    Column("scope", String(100), primary_key=True),
    # a month as 2026-11, a day as 2026-11-28
    Column("period", String(10), primary_key=True),
    Column("cost", BigInteger, nullable=False, default=0),
    Column("tokens", BigInteger, nullable=False, default=0),
    Column("requests", BigInteger, nullable=False, default=0),
)

contents = Table(
    "contents",
    metadata,
    # what was asked and answered, where the project's retention is `full`; stored responses too
    id_of(),
    Column("project", String(64), nullable=False, index=True),
    # request, response (that previous_response_id leads to)
    Column("kind", String(20), nullable=False),
    text("body"),
    Column("previous", String(64), nullable=False, default=""),
    time("created"),
    time("expires", null=True),
)

audit = Table(
    "audit",
    metadata,
    # each replica writes a chain of its own
    Column("chain", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    # the record as it was hashed: canonical JSON
    text("body"),
    Column("hash", String(64), nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    # the heads of all chains and the checkpoint before: canonical JSON
    text("body"),
    Column("signature", String(200), nullable=False),
    Column("signer", String(64), nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    id_of(),
    time("started"),
    time("seen"),
    text("address"),
    Column("signer", String(64), nullable=False, default=""),
    text("public_key"),
)

revision = Table(
    "revision",
    metadata,
    # one row, which counts every change that a replica must learn of, by what has changed
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("principals", BigInteger, nullable=False, default=0),
    Column("access", BigInteger, nullable=False, default=0),
    Column("rollouts", BigInteger, nullable=False, default=0),
    Column("guard", BigInteger, nullable=False, default=0),
)

installation = Table(
    "installation",
    metadata,
    Column("name", String(40), primary_key=True),
    text("value"),
)

# --- batches

files = Table(
    "files",
    metadata,
    id_of(),
    Column("project", String(64), nullable=False, index=True),
    Column("name", String(500), nullable=False),
    # batch, batch_output; of message batches: message_batch, message_batch_output
    Column("purpose", String(40), nullable=False),
    # what has been written so far, as long as it is not ready
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("ready", Boolean, nullable=False, default=False),
    time("created"),
    time("expires", null=True),
    Index("ix_files_expires", "expires"),
)

file_parts = Table(
    "file_parts",
    metadata,
    Column("file", String(64), ForeignKey("files.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    id_of(),
    Column("organisation", String(64), nullable=False),
    Column("project", String(64), nullable=False, index=True),
    # as whom the lines are asked
    Column("key", String(64), nullable=False),
    # whose API it was made by: openai, anthropic
    Column("api", String(20), nullable=False),
    # validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled
    Column("state", String(20), nullable=False, index=True),
    # the rest, as gateway/batches/batch.py has it
    Column("body", JSON, nullable=False),
    # who validates or finalizes it
    Column("replica", String(64), nullable=False, default=""),
    # why nothing of it runs at the moment, "" where something does
    text("note"),
    time("created"),
    time("deadline"),
    time("expires"),
    Index("ix_batches_expires", "expires"),
)

batch_lines = Table(
    "batch_lines",
    metadata,
    Column("batch", String(64), ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("custom_id", String(520), nullable=False),
    Column("model", String(200), nullable=False),
    text("request"),
    # waiting, running, done, failed, cancelled, expired
    Column("state", String(20), nullable=False),
    # who runs it
    Column("replica", String(64), nullable=False, default=""),
    # how often it was sent
    Column("tries", Integer, nullable=False, default=0),
    # the request that was answered, its status and its answer
    Column("asked", String(64), nullable=False, default=""),
    Column("status", Integer, nullable=False, default=0),
    text("answer"),
    Index("ix_batch_lines_state", "batch", "state", "model"),
)


def make(connection: Connection) -> None:
    """Make all tables, and the row that counts changes."""
    metadata.create_all(connection)
    connection.execute(insert(revision).values(id=1, principals=0, access=0, rollouts=0, guard=0))
