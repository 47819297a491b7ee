"""Two organisations with people who are refused, and reviewers who decide on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from administration import World
from installation import Clock
from rulings import DEVELOPS, judge, situation
from starlette.applications import Starlette

from lathe.gateway.admin.routes import routes
from lathe.gateway.settings import GuardTable
from lathe.store.gateway.database import Database

REASON = "The product is the caller's own, as their contract shows."


class Court(World):
    """A world with decisions, and a clock that a test can put forward."""

    clock: Clock

    @classmethod
    async def open(cls, database: Database, home: Path) -> Court:
        court = await cls.make(database, home)
        court.clock = Clock()
        settings = msgspec.structs.replace(court.services.settings, guard=GuardTable())
        court.services = court.services._replace(clock=court.clock, settings=settings)
        court.app = Starlette(routes=routes(court.services))
        return court

    async def refuse(self, name: str, *findings: Any, **more: Any) -> str:
        """Have somebody refused; return the decision."""
        facts = {one: more.pop(one) for one in ("tier", "scope", "targets") if one in more}
        rests_on = situation(*(findings or (DEVELOPS,)), **facts)
        decision, measure = await judge(self.services, self.principal(name), rests_on, **more)
        assert measure.blocks
        return decision

    async def appeal(self, name: str, decision: str, text: str = "") -> Any:
        return await self.done(name, "POST", f"/v1/decisions/{decision}/appeal", {"text": text})

    async def decide(self, name: str, appeal: str, **body: Any) -> Any:
        return await self.ask(name, "POST", f"/admin/v1/appeals/{appeal}/decide", {"reason": REASON, **body})

    async def column(self, query: Any) -> Any:
        async with self.services.database.begin() as connection:
            return (await connection.execute(query)).scalars().all()
