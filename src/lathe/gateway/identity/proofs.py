"""Proofs of identity as operations: brought forward by a reviewer, or by a link that reached an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.admin.faults import forbidden, invalid
from lathe.gateway.identity.proof import Claim, Proof, held, keep, prove, record
from lathe.protocol.errors import UsageError
from lathe.store.gateway.schema import organisations, users


@operation("operator", "reviewer")
async def bring_proof(
    desk: Desk, method: str, subject: str, fields: Mapping[str, str], files: Mapping[str, bytes]
) -> Proof:
    """Keep a proof of a user or an organisation; nobody proves who they are themself."""
    kind, _, id = subject.partition(":")
    if kind not in ("user", "organisation"):
        raise invalid("A proof is of a user or an organisation.")
    if not desk.principal.user or subject == f"user:{desk.principal.user}":
        raise forbidden("Nobody can identify themself.", "Ask another reviewer.", "own_thing")
    row = await desk.one(users if kind == "user" else organisations, id, kind)
    try:
        proof = await prove(method, Claim(subject, fields, files, desk.actor, desk.at))
    except UsageError as error:
        raise invalid(error.message, error.hint, "proof_refused") from None
    organisation = row.organisation if kind == "user" else row.id
    if kind == "user":
        await record(desk.connection, row, proof)
        desk.changed("principals")
    else:
        await keep(desk.connection, organisation, proof)
    desk.record(
        "proof.kept",
        subject,
        organisation=organisation,
        method=method,
        level=proof.level,
        evidence=dict(proof.evidence),
    )
    return proof


@operation("operator", "reviewer", "auditor", "admin", reads=True)
async def list_proofs(desk: Desk, subject: str) -> list[Proof]:
    """Return the proofs of a user or an organisation that hold now."""
    kind, _, id = subject.partition(":")
    table: Any = users if kind == "user" else organisations
    await desk.one(table, id, kind)
    return await held(desk.connection, [subject], desk.at)
