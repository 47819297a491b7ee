"""Operations: each within one transaction, together with its record in the audit, for a caller with a role.

What a caller sees is decided here and nowhere else: a role of the installation sees all organisations, an
administrator the own one, everyone else what is their own. What is not seen is not there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Row, Table, false, literal, or_, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.admin.faults import conflict, forbidden, invalid, not_found, stale
from lathe.gateway.admin.shapes import Listing
from lathe.gateway.members import INSTALLATION_ROLES
from lathe.gateway.principals import Principal
from lathe.gateway.services import Services
from lathe.protocol.errors import StorageError
from lathe.store.gateway import guard_schema, schema
from lathe.store.gateway.database import Section

ANYONE = "anyone"
"""The role of everyone with a key or a session."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Desk:
    """One operation under way. `at` is its time, `actor` who is responsible for it, as `user:ID` or `key:ID`."""

    def __init__(
        self,
        services: Services,
        principal: Principal,
        roles: frozenset[str],
        connection: AsyncConnection,
        *,
        reads: bool,
    ) -> None:
        self.services = services
        self.principal = principal
        self.connection = connection
        self.reads = reads
        self.at = services.clock()
        self.actor = f"user:{principal.user}" if principal.user else f"key:{principal.key}"
        self.everywhere = bool(roles & set(INSTALLATION_ROLES))
        self.whole_organisation = "admin" in roles
        user = services.directory.user(principal.user)
        own = set(user.projects) if user is not None else {principal.project}
        self.projects = frozenset(own - {""})
        self._records: list[tuple[str, str, dict[str, Any]]] = []
        self._changed: set[Section] = set()

    @property
    def is_operator(self) -> bool:
        """Whether the caller may do everything to everyone."""
        return "operator" in self.principal.roles

    def sees(self, table: Table) -> ColumnElement[bool]:
        """Return the condition for the rows of a table that the caller sees."""
        if self.everywhere:
            return true()
        mine = table.c.id if table is schema.organisations else table.c.organisation
        tenant = mine == self.principal.organisation
        return tenant if self.whole_organisation else tenant & self._own(table)

    def _own(self, table: Table) -> ColumnElement[bool]:
        """Return the condition for the rows of the organisation that are the caller's without any role in it."""
        who = self.principal
        if table is schema.organisations:
            return true()
        if table is schema.projects:
            return table.c.id.in_(self.projects)
        if table is schema.engagements:
            return table.c.project.in_(self.projects)
        if table is schema.entitlements:
            return table.c.subject.in_(self.subjects)
        if table is schema.applications:
            return or_(table.c.author == self.actor, table.c.subject.in_(self.subjects))
        if table is guard_schema.decisions:
            return self.judged()
        if table is guard_schema.appeals:
            return table.c.by == (who.user or who.key)
        column, mine = {
            schema.users: (schema.users.c.id, who.user),
            schema.keys: (schema.keys.c.user, who.user) if who.user else (schema.keys.c.id, who.key),
            schema.requests: (schema.requests.c.user, who.user) if who.user else (schema.requests.c.key, who.key),
        }.get(table, (None, ""))
        return column == mine if column is not None and mine else false()

    def judged(self) -> ColumnElement[bool]:
        """Return the condition for decisions that the caller can appeal: the own ones, and those of own machines."""
        who, table = self.principal, guard_schema.decisions
        machine = table.c.user == ""
        if "admin" not in who.roles:
            machine = machine & (table.c.key.in_({who.key} - {""}) | table.c.project.in_(self.projects))
        mine = or_(table.c.user == who.user, machine) if who.user else machine
        return (table.c.organisation == who.organisation) & mine

    @property
    def subjects(self) -> tuple[str, ...]:
        """As whom the caller holds entitlements, in any of the own projects."""
        projects = (f"project:{one}" for one in sorted(self.projects))
        return tuple(dict.fromkeys((*self.principal.subjects, *projects)))

    async def one(self, table: Table, id: str, what: str = "") -> Row[Any]:
        """Return a row that the caller sees, locked until the end; raise `AdminError` where there is none."""
        query = select(table).where(table.c.id == id, self.sees(table))
        row = (await self.connection.execute(query if self.reads else query.with_for_update())).one_or_none()
        if row is None:
            raise not_found(what or table.name.removesuffix("s"))
        return row

    async def page(
        self, table: Table, asked: Listing, *conditions: ColumnElement[bool], by: ColumnElement[int] | None = None
    ) -> tuple[list[Row[Any]], str | None]:
        """Return the rows of a page that the caller sees, and the cursor of the next page.

        They are in the order of `by` (a number) and their ids, the last ones first.
        """
        order = literal(0) if by is None else by
        query = select(table, order.label("_by")).where(self.sees(table), *conditions)
        if asked.cursor:
            number, id = cursor_read(asked.cursor, 2)
            query = query.where(tuple_(order, table.c.id) < tuple_(literal(_number(number)), literal(id)))
        query = query.order_by(order.desc(), table.c.id.desc()) if by is not None else query.order_by(table.c.id.desc())
        rows = list(await self.connection.execute(query.limit(asked.limit + 1)))
        if len(rows) <= asked.limit:
            return rows, None
        rows.pop()
        return rows, cursor_of(str(rows[-1]._mapping["_by"]), rows[-1].id)

    async def put(self, table: Table, id: str, values: Mapping[str, Any]) -> None:
        """Change a row that the caller has seen."""
        if not values:
            raise invalid("Nothing is to be changed.", "Name at least one field.")
        await self.connection.execute(update(table).where(table.c.id == id).values(values))

    def organisation(self, wanted: str) -> str:
        """Return the organisation to make something in: the own one, unless the caller's role reaches further."""
        if not wanted or wanted == self.principal.organisation:
            return self.principal.organisation
        if self.everywhere and self.services.directory.organisation(wanted) is not None:
            return wanted
        raise not_found("organisation")

    def record(self, action: str, subject: str, *, organisation: str, **facts: Any) -> None:
        """Have a record of the audit written with this transaction."""
        self._records.append((action, subject, {"organisation": organisation, **facts}))

    def changed(self, *sections: Section) -> None:
        """Have every replica learn of what this transaction changes."""
        self._changed.update(sections)

    async def close(self) -> bool:
        """Write what was recorded, at the end of the transaction; return whether something has changed."""
        # always in this order, so that no two transactions wait for each other
        for action, subject, facts in self._records:
            await self.services.audit.append(self.connection, self.actor, action, subject, facts)
        if self._changed:
            await self.services.database.changed(self.connection, *sorted(self._changed))
        return bool(self._changed)


class Operation(Generic[_P, _R]):
    """Something that may be done by those who have one of `roles`; calling it does it, as a principal."""

    def __init__(
        self, roles: Iterable[str], act: Callable[Concatenate[Desk, _P], Awaitable[_R]], *, reads: bool
    ) -> None:
        self.name = act.__name__
        self.reads = reads
        self.roles = frozenset(roles)
        self.act = act
        self.__doc__ = act.__doc__

    async def __call__(self, services: Services, principal: Principal, /, *args: _P.args, **more: _P.kwargs) -> _R:
        """Do it; raise `AdminError` for what is not done, with nothing changed, and `StorageError`."""
        held = self.roles & principal.roles
        if not held and ANYONE not in self.roles:
            needed = " or ".join(sorted(self.roles))
            raise forbidden(f"This needs the role {needed}.", "Ask an administrator for it.")
        if not await services.directory.assure():
            raise stale()
        try:
            async with services.database.begin() as connection:
                if services.database.is_sqlite and not self.reads:  # what is looked at first must stay so
                    await services.database.lock(connection, self.name)
                desk = Desk(services, principal, frozenset(held), connection, reads=self.reads)
                answer = await self.act(desk, *args, **more)
                changed = await desk.close()
        except StorageError as error:
            if error.code == "conflict":
                raise conflict("exists", "There is one like that already.", "Choose another name.") from None
            raise
        if changed:
            with contextlib.suppress(StorageError):  # it is done; this replica learns of it a moment later
                await services.directory.refresh()
        return answer


def operation(
    *roles: str, reads: bool = False
) -> Callable[[Callable[Concatenate[Desk, _P], Awaitable[_R]]], Operation[_P, _R]]:
    """Make an operation of a function, for those who have one of `roles`; one that `reads` changes nothing."""
    return lambda act: Operation(roles, act, reads=reads)


def cursor_of(*words: str) -> str:
    """Return where a next page begins, as one opaque word."""
    return base64.urlsafe_b64encode("\n".join(words).encode()).decode().rstrip("=")


def cursor_read(cursor: str, count: int) -> list[str]:
    """Return the words that `cursor_of` was given; raise `AdminError`."""
    try:
        words = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").split("\n")
    except (ValueError, binascii.Error):
        words = []
    if len(words) != count or not all(word.isprintable() for word in words):
        raise invalid("The cursor is none that was given out.", "Begin again without one.")
    return words


def _number(word: str) -> int:
    if not word.isdecimal() or len(word) > 15:
        raise invalid("The cursor is none that was given out.", "Begin again without one.")
    return int(word)
