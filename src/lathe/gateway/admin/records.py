"""Records: receipts, what was used, requests, replicas, and the audit with its export."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from sqlalchemy import JSON, BigInteger, ColumnElement, Row, Text, cast, func, literal, select, tuple_

from lathe.gateway.admin.desk import ANYONE, Desk, cursor_of, cursor_read, operation
from lathe.gateway.admin.faults import AdminError, invalid
from lathe.gateway.admin.live import REPLICA_MS
from lathe.gateway.admin.shapes import Listing, Nothing, Page
from lathe.gateway.admin.shapes_access import (
    AuditQuestion,
    AuditRow,
    Receipt,
    Replica,
    RequestRow,
    Requests,
    Usage,
    UsageQuestion,
    UsageRow,
)
from lathe.gateway.directory import now_ms
from lathe.gateway.principals import Principal
from lathe.gateway.services import Services
from lathe.gateway.standing import key_ring
from lathe.store.gateway.database import Database, server_ms
from lathe.store.gateway.ledger import periods
from lathe.store.gateway.schema import audit, checkpoints, keys, organisations, projects, replicas, requests, spend

_EXPORTED = 500
_REQUEST = RequestRow.__struct_fields__
_MOST_ROWS = 1000


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def show_receipt(desk: Desk, receipt: str) -> Receipt:
    """Show the receipt of a request: what `lathe access verify` verifies."""
    row = await desk.one(requests, receipt, "receipt")
    if not row.receipt:
        state = "has not ended yet" if row.state == "open" else f"has none: its state is {row.state}"
        raise AdminError(404, "receipt_missing", f"The request {row.id} {state}.", "Ask again when it has ended.")
    return Receipt(row.signer, msgspec.json.decode(row.receipt), row.signature)


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def list_requests(desk: Desk, asked: Requests) -> Page[RequestRow]:
    """List requests on record, without contents, the newest first."""
    equal = {"organisation": asked.organisation, "project": asked.project, "key": asked.key, "state": asked.state}
    conditions: list[ColumnElement[bool]] = [requests.c[name] == value for name, value in equal.items() if value]
    if asked.model:
        conditions.append(requests.c.requested == asked.model)
    found, after = await desk.page(requests, asked, *conditions, by=requests.c.at)
    return Page([RequestRow(*(getattr(row, name) for name in _REQUEST)) for row in found], after)


@operation("operator", "auditor", "admin", ANYONE, reads=True)
async def show_usage(desk: Desk, asked: UsageQuestion) -> Usage:
    """Say what keys, projects or organisations have used in a month or on a day (UTC)."""
    period = asked.period or periods(desk.at)[0]
    table = {"project": projects, "key": keys, "organisation": organisations}[asked.by]
    owner = table.c.id if table is organisations else table.c.organisation
    mine = [owner == asked.organisation] if asked.organisation else []
    query = (
        select(spend.c.scope, table.c.name, spend.c.period, spend.c.cost, spend.c.tokens, spend.c.requests)
        .join_from(spend, table, spend.c.scope == literal(f"{asked.by}:") + table.c.id)
        .where(spend.c.period == period, desk.sees(table), *mine)
        .order_by(spend.c.cost.desc(), spend.c.scope)
        .limit(_MOST_ROWS)
    )
    found = [UsageRow(*row) for row in await desk.connection.execute(query)]
    return Usage(period, found, sum(one.cost for one in found))


@operation("operator", "auditor", "reviewer", reads=True)
async def list_replicas(desk: Desk, asked: Listing) -> Page[Replica]:
    """List the replicas that have been heard of in the last 15 seconds."""
    query = select(replicas.c.id, replicas.c.address, replicas.c.started, replicas.c.seen)
    query = query.where(replicas.c.seen > server_ms() - REPLICA_MS).order_by(replicas.c.id).limit(asked.limit)
    return Page([Replica(*row) for row in await desk.connection.execute(query)])


@operation("operator", "auditor", reads=True)
async def list_audit(desk: Desk, asked: AuditQuestion) -> Page[AuditRow]:
    """List records of the audit, the newest first; those of requests only by the name of their chain."""
    at = _said(desk, "at")
    equal = {"actor": asked.actor, "subject": asked.subject, "organisation": asked.organisation}
    conditions = [_said(desk, name) == value for name, value in equal.items() if value]
    if asked.chain:
        conditions.append(audit.c.chain == asked.chain)
    else:
        conditions.append(audit.c.chain.not_like("%/requests%"))
    if asked.action:
        conditions.append(_said(desk, "action").startswith(asked.action, autoescape=True))
    if asked.since:
        conditions.append(at >= asked.since)
    place = tuple_(at, audit.c.chain, audit.c.seq)
    if asked.cursor:
        when, chain, seq = cursor_read(asked.cursor, 3)
        if not (when.isdecimal() and seq.isdecimal() and len(when) < 16 and len(seq) < 16):
            raise invalid("The cursor is none that was given out.", "Begin again without one.")
        conditions.append(place < tuple_(literal(int(when)), literal(chain), literal(int(seq))))
    query = select(audit).where(*conditions).order_by(at.desc(), audit.c.chain.desc(), audit.c.seq.desc())
    found = [_audit(row) for row in await desk.connection.execute(query.limit(asked.limit + 1))]
    if len(found) <= asked.limit:
        return Page(found)
    last = found[asked.limit - 1]
    return Page(found[: asked.limit], cursor_of(str(last.at), last.chain, str(last.seq)))


@operation("operator", "auditor")
async def begin_export(desk: Desk) -> Nothing:
    """Record that the audit is exported."""
    desk.record("audit.exported", "audit", organisation="")
    return Nothing()


async def export_audit(services: Services, principal: Principal) -> AsyncIterator[bytes]:
    """Yield what `audit_lines` does, on record; raise `AdminError` before the first line, `StorageError`."""
    await begin_export(services, principal)
    async for line in audit_lines(services.database):
        yield line


async def audit_lines(database: Database) -> AsyncIterator[bytes]:
    """Yield the whole audit as lines of JSON: public keys, checkpoints, then records chain by chain.

    Raises `StorageError`.
    """
    async with database.begin() as connection:
        ring = await key_ring(connection)
        yield _line({"type": "lathe.audit.v1", "at": now_ms(), "keys": msgspec.json.decode(ring.to_json())})
        found = await connection.execute(select(checkpoints).order_by(checkpoints.c.seq))
        for row in found:
            yield _line({"checkpoint": list(row)})
    place: tuple[str, int] = ("", 0)
    while True:
        async with database.begin() as connection:
            after = tuple_(audit.c.chain, audit.c.seq) > tuple_(*map(literal, place))
            query = select(audit).where(after).order_by(audit.c.chain, audit.c.seq).limit(_EXPORTED)
            rows = list(await connection.execute(query))
        if not rows:
            return
        yield b"".join(_line({"record": list(row)}) for row in rows)
        place = (rows[-1].chain, rows[-1].seq)


async def public_keys(services: Services) -> bytes:
    """Return the JSON Web Key Set with which receipts, entitlements and checkpoints are verified."""
    async with services.database.begin() as connection:
        return (await key_ring(connection)).to_json()


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _said(desk: Desk, name: str) -> Any:
    """Return the expression for a field of a record's body."""
    if desk.services.database.is_sqlite:
        return func.json_extract(audit.c.body, f"$.{name}")
    value = cast(audit.c.body, JSON)[name].as_string()
    return cast(value, BigInteger) if name == "at" else cast(value, Text)


def _audit(row: Row[Any]) -> AuditRow:
    body = msgspec.json.decode(row.body)
    at, actor, action, subject = (body.pop(name, default) for name, default in _AUDIT)
    return AuditRow(row.chain, row.seq, row.hash, at, actor, action or body.get("kind", ""), subject, body)


_AUDIT: tuple[tuple[str, Any], ...] = (("at", 0), ("actor", ""), ("action", ""), ("subject", ""))
