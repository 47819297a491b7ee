"""What a replica keeps in memory of decisions: which items are set aside, and what holds for which actor."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.members import rows
from lathe.guard.ladder import Restriction, Standing
from lathe.guard.quarantine import Blocked
from lathe.store.gateway import guard_schema as schema

DAYS = 30
"""How long it is kept in memory that an item was set aside; one that is older is judged anew when it comes again."""
_MOST = 100_000
_SEVERITY: dict[Restriction, int] = {"clear": 0, "restricted": 1, "suspended": 2}


class Known(NamedTuple):
    """What is on record of an item: that it is set aside, or None where it was let in again."""

    blocked: Blocked | None


class GuardState:
    """One state of it; `load` reads it anew."""

    def __init__(self) -> None:
        self._items: Mapping[str, Mapping[str, Known]] = {}
        self._standings: Mapping[str, Standing] = {}

    async def load(self, connection: AsyncConnection, now: int) -> None:
        """Read it from the database; raise `StorageError`."""
        table = schema.blocked
        newest = (
            select(*(table.c[name] for name in ("project", "item", "decision", "code", "clause", "item_id", "state")))
            .where(table.c.at >= now - DAYS * 86_400_000)
            .order_by(table.c.at.desc())
            .limit(_MOST)
        )
        items: dict[str, dict[str, Known]] = {}
        async for project, item, decision, code, clause, item_id, state in rows(connection, newest):
            found = Blocked(identity=item, code=code, clause=clause, decision=decision, id=item_id)
            items.setdefault(project, {})[item] = Known(found if state == "blocked" else None)
        table = schema.standings
        standings: dict[str, Standing] = {}
        async for mark, state, reviewers, proposal in rows(
            connection, select(table.c.mark, table.c.state, table.c.reviewers, table.c.proposal)
        ):
            standings[mark] = Standing(state, tuple(reviewers), proposal)
        self._items, self._standings = items, standings

    def known(self, project: str, item: str) -> Known | None:
        """Return what is on record of an item of a project's conversations by its salted hash, None for nothing."""
        return self._items.get(project, {}).get(item)

    def has_items(self, project: str) -> bool:
        """Say whether anything is on record of items of a project's conversations."""
        return project in self._items

    def add(self, project: str, found: Iterable[tuple[str, Known]]) -> None:
        """Have it known here at once, before it is read back from the database."""
        self._items = {**self._items, project: {**self._items.get(project, {}), **dict(found)}}

    def standing(self, marks: Iterable[str]) -> Standing:
        """Return the strictest of what holds for any of an actor's marks."""
        held = [self._standings[one] for one in marks if one in self._standings]
        return max(held, key=lambda one: _SEVERITY[one.in_force], default=Standing())


def salted(secret: bytes, project: str, identity: str) -> str:
    """Return what is kept of an item's identity: an HMAC, so that nobody can look up what was said."""
    return hmac.digest(secret, f"item\0{project}\0{identity}".encode(), hashlib.sha256).hex()
