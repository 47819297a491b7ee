"""Receipts, verified in the page, and the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import func, select
from starlette.responses import Response

from lathe.gateway.admin.desk import Desk, operation
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.records import list_audit, list_requests, show_receipt
from lathe.gateway.admin.shapes_access import AuditQuestion, Requests
from lathe.gateway.audit import Record, SignedCheckpoint, Verified, verify_log
from lathe.gateway.console.forms import shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.receipts import verify_receipt
from lathe.gateway.standing import key_ring
from lathe.protocol.errors import UsageError
from lathe.store.gateway.schema import audit, checkpoints

_MOST_RECORDS = 100_000


async def receipts(visit: Visit) -> Response:
    """Find a receipt by its id, or among the last requests."""
    if id := visit.field("id", 64):
        return visit.back(f"/console/receipts/{id}") if id.replace("_", "").replace("-", "").isalnum() else _none(visit)
    state = visit.request.query_params.get("state", "")
    found = await visit.do(list_requests, shaped(Requests, visit.asking(state=state)))
    return visit.page("receipts.html", page=found, state=state)


def _none(visit: Visit) -> Response:
    raise AdminError(404, "not_found", "There is no such receipt that you can see.")


async def receipt(visit: Visit) -> Response:
    """Show a receipt, and whether it is genuine."""
    found = await visit.do(show_receipt, visit.request.path_params["receipt"])
    document = msgspec.json.encode({"key": found.key, "receipt": found.receipt, "signature": found.signature})
    async with visit.entrance.database.begin() as connection:
        ring = await key_ring(connection)
    fault = ""
    try:
        verify_receipt(document, ring)
    except UsageError as error:
        fault = error.message
    shown = msgspec.json.format(document, indent=2).decode()
    return visit.page("receipt.html", receipt=found.receipt, key=found.key, document=shown, wrong=fault)


async def audit_index(visit: Visit) -> Response:
    """List records of the audit."""
    return await _audit(visit)


async def audit_verify(visit: Visit) -> Response:
    """Verify the whole audit, and list records beside what was found."""
    verified = await visit.do(verify_audit)
    return await _audit(visit, verified)


async def _audit(visit: Visit, verified: Verified | None = None) -> Response:
    fields = {name: visit.field(name, 100) for name in ("chain", "actor", "action", "subject", "organisation")}
    asked = shaped(AuditQuestion, visit.asking(**fields, since=visit.time("since"), limit=50))
    found = await visit.do(list_audit, asked)
    return visit.page("audit.html", page=found, fields=fields, since=visit.field("since", 40), verified=verified)


@operation("operator", "auditor", reads=True)
async def verify_audit(desk: Desk) -> Verified:
    """Verify all chains and checkpoints as they are in the database now."""
    connection = desk.connection
    count = (await connection.execute(select(func.count()).select_from(audit))).scalar_one()
    if count > _MOST_RECORDS:
        raise AdminError(
            409,
            "audit_large",
            f"The audit has {count:,} records, which are too many for a page.",
            "Export it, and verify it on another machine.",
        )
    ring = await key_ring(connection)
    columns = [checkpoints.c[name] for name in SignedCheckpoint._fields]
    signed = [SignedCheckpoint(*row) for row in await connection.execute(select(*columns).order_by(checkpoints.c.seq))]
    names = [audit.c[name] for name in Record._fields]
    query = select(*names).order_by(audit.c.chain, audit.c.seq)
    rows = list(await connection.execute(query))

    def records() -> Iterator[Record]:
        for row in rows:
            yield Record(*row)

    return await asyncio.to_thread(verify_log, records(), signed, ring)


def body_of(row: Any) -> str:
    """Return the rest of an audit record, laid out for reading."""
    return msgspec.json.format(msgspec.json.encode(row.body), indent=2).decode()
