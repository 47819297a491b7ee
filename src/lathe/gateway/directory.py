"""What a replica knows of who may do what: in memory, no older than two seconds, or not believed at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.guarding.state import GuardState
from lathe.gateway.members import NOBODY, Organisation, Project, User, load_members
from lathe.gateway.policy import Model, Policy
from lathe.gateway.principals import Principal
from lathe.gateway.rollout import Schedule
from lathe.gateway.standing import Standing, fallbacks_of, load_schedules
from lathe.protocol.errors import StorageError
from lathe.store.gateway.database import CHANNEL, Database, revisions

STALE_S = 2.0
"""Age past which nothing in memory may be relied on."""
_POLL_S = 0.25
_ANSWER_S = 2.0
_PATIENCE_S = 1.0
_LOAD_S = 30.0
_log = logging.getLogger(__name__)


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Directory:
    """The snapshot of a replica, which `watch` keeps up to date; asking it costs no I/O.

    `looking` is held while the database is asked.
    """

    def __init__(self, database: Database, models: Iterable[Model], clock: Callable[[], int]) -> None:
        self.policy = Policy()
        self.guard = GuardState()
        self._models = tuple(models)
        self._standing = Standing()
        self._schedules: list[Schedule] = []
        self._database = database
        self._clock = clock
        self._members = NOBODY
        self._known: tuple[int, ...] = ()
        self._fresh = float("-inf")
        self._news = asyncio.Event()
        self.looking = asyncio.Lock()
        self._assuring = asyncio.Lock()

    @classmethod
    async def open(
        cls, database: Database, *, models: Iterable[Model] = (), clock: Callable[[], int] = now_ms
    ) -> Directory:
        """Return a directory that has been read once; `models` are those that are served. Raises `StorageError`."""
        directory = cls(database, models, clock)
        await directory.refresh()
        return directory

    def principal(self, digest: str) -> Principal | None:
        """Return whose key it is by the key's digest; None where it is unknown or of no more use."""
        found = self._members.principals.get(digest)
        if found is None or (found.expires is not None and found.expires <= self._clock()):
            return None
        return found

    def principal_of(self, user: str) -> Principal | None:
        """Return the principal of a user who has signed in without a key; None where there is no active one."""
        found = self._members.users.get(user)
        if found is None:
            return None
        scopes = frozenset({"admin", "relay"})
        return Principal("", found.organisation, "", found.id, scopes, found.roles)

    def project(self, id: str) -> Project | None:
        """Return a project, None where there is no such one or it is archived."""
        return self._members.projects.get(id)

    def region(self, project: str) -> str:
        """Return the region that a project says its requests are from, "" where it says none."""
        found = self.project(project)
        stated = found.settings.get("region") if found is not None else None
        return stated if isinstance(stated, str) else ""

    def organisation(self, id: str) -> Organisation | None:
        """Return an organisation."""
        return self._members.organisations.get(id)

    def user(self, id: str) -> User | None:
        """Return a user, None where there is no such one or it is inactive."""
        return self._members.users.get(id)

    def key_settings(self, id: str) -> Mapping[str, Any]:
        """Return the settings of a key: its own limits and budgets."""
        return self._members.settings.get(id, {})

    @property
    def refused(self) -> int:
        """How many entitlements and engagements are left out because their signatures do not fit."""
        return self._standing.refused

    @property
    def age_s(self) -> float:
        """Seconds since what is known here was known to be all; past `STALE_S` a request is to be refused."""
        return time.monotonic() - self._fresh

    @property
    def revision(self) -> int:
        """The revision of the database that is known here."""
        return sum(self._known)

    async def assure(self) -> bool:
        """Say whether what is known here may be relied on; where it may be old, the database is asked first."""
        if self.age_s <= STALE_S:
            return True
        # not only a database that has gone makes it old: the loop may have been kept from looking
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S), self._assuring:
                if self.age_s > STALE_S:
                    await self.refresh()
        return self.age_s <= STALE_S

    async def watch(self) -> None:
        """Follow the database until cancelled; a connection that is lost is opened anew."""
        lost = False
        while True:
            try:
                async with self._line() as connection:
                    while True:
                        self._news.clear()
                        await self._look(connection)
                        if lost:
                            _log.warning("The gateway's database answers again.")
                            lost = False
                        with contextlib.suppress(TimeoutError):  # wait_for could swallow the cancel, before Python 3.12
                            async with asyncio.timeout(_POLL_S):
                                await self._news.wait()
            except Exception as error:  # whatever it is: without this loop nothing would ever be known again
                if not lost:
                    _log.warning("The gateway's database does not answer: %s", str(error).split("\n", 1)[0])
                lost = True
                await asyncio.sleep(_POLL_S)

    async def refresh(self) -> None:
        """Have all known here that is committed now, for one who has just changed something; raise `StorageError`."""
        async with self._database.begin() as connection:
            await self._look(connection)

    @contextlib.asynccontextmanager
    async def _line(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection of this directory's own, on which PostgreSQL says that something has changed."""
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        async with asyncio.timeout(_ANSWER_S) as limit, engine.connect() as connection:
            if not self._database.is_sqlite:
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                await driver.add_listener(CHANNEL, lambda *_: self._news.set())
                driver.add_termination_listener(lambda _: self._news.set())
            limit.reschedule(None)
            try:
                yield connection
            finally:
                # Not for the pool: it would go on to listen.
                await connection.invalidate()

    async def _look(self, connection: AsyncConnection) -> None:
        """Read what has changed since the last look."""
        async with self.looking:
            began = time.monotonic()
            async with asyncio.timeout(_ANSWER_S) as limit:
                found = await revisions(connection)
                if found != self._known:
                    limit.reschedule(asyncio.get_running_loop().time() + _LOAD_S)
                    old = self._known or (-1,) * len(found)
                    await self._load(connection, [old[at] != found[at] for at in range(len(found))])
                    self._known = found
            self._fresh = began

    async def _load(self, connection: AsyncConnection, moved: list[bool]) -> None:
        principals, access, rollouts, guard = moved
        agreed = fallbacks_of(self._members.projects)
        if guard:
            await self.guard.load(connection, self._clock())
        if principals:
            members = await load_members(connection)
        if access:
            await self._standing.load(connection)
        if rollouts:
            self._schedules = await load_schedules(connection)
        if principals:
            self._members = members
        now_agreed = fallbacks_of(self._members.projects)
        if access or rollouts or agreed != now_agreed:
            standing = self._standing
            self.policy = Policy(
                standing.entitlements,
                standing.engagements,
                self._schedules,
                models=self._models,
                fallbacks=now_agreed,
            )
