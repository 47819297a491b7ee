"""Requests as they are opened and settled: many of them in one transaction, by the database's own driver.

SQLAlchemy says what the tables are and is used where people wait; here it would cost more than all the rest of a
request. A row is settled once: what comes a second time changes nothing and is charged to nobody. One that was given up
as lost, while its replica only could not be heard, is settled all the same, but for lines of batches: others have taken
those up.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import make_url

from lathe.protocol.errors import StorageError

_BUSY_S = 0.005
_PATIENCE_S = 5.0
_CHECKPOINT_ROWS = 2000
_DAY_MS = 86_400_000


class Opened(NamedTuple):
    """A request that begins; the fields are columns of the table `requests`."""

    id: str
    at: int
    replica: str
    organisation: str
    project: str
    user: str
    key: str
    end_user: str
    surface: str
    region: str
    wire: str
    requested: str
    served: str
    tier: str
    reserved: int


class Settled(NamedTuple):
    """How a request ended; the first four fields find it and say to whom it is charged, the rest are columns."""

    id: str
    key: str
    project: str
    organisation: str
    state: str
    status: int
    code: str
    served: str
    cost: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    ended: int
    receipt: str
    signature: str
    signer: str


class Content(NamedTuple):
    """What was asked or answered, where it is kept; the fields are columns of the table `contents`."""

    id: str
    project: str
    kind: str
    body: str
    previous: str
    created: int
    expires: int | None


class LineAnswer(NamedTuple):
    """How a line of a batch ended; the first two fields find it, the rest are columns of the table `batch_lines`."""

    batch: str
    number: int
    state: str
    asked: str
    status: int
    answer: str


class BlockedItem(NamedTuple):
    """An item that a decision is about; the fields are columns of the table `blocked`."""

    item: str
    code: str
    clause: str
    item_id: str
    state: str


class Judged(NamedTuple):
    """A decision of the guard; the fields are columns of the table `decisions`, but for `marks` and `items`.

    `marks` are whom its entry is about, `items` rows of `blocked` without project, decision and time.
    """

    id: str
    at: int
    request: str
    replica: str
    organisation: str
    project: str
    user: str
    key: str
    thread: str
    surface: str
    step: str
    scope: str
    clause: str
    code: str
    concern: str
    policy: str
    body: str
    entry: str
    material: str
    marks: tuple[str, ...] = ()
    items: tuple[BlockedItem, ...] = ()


class LetIn(NamedTuple):
    """That an item which was set aside was judged anew and is served; the first two fields find it."""

    project: str
    item: str
    at: int


class Link(NamedTuple):
    """A record of a chain of the audit; the fields are columns of the table `audit`."""

    chain: str
    seq: int
    body: str
    hash: str


class Entries(NamedTuple):
    """What one transaction writes; `whole` are requests that were opened and settled since the one before."""

    whole: Sequence[tuple[Opened, Settled]] = ()
    opened: Sequence[Opened] = ()
    settled: Sequence[Settled] = ()
    links: Sequence[Link] = ()
    contents: Sequence[Content] = ()
    answers: Sequence[LineAnswer] = ()
    judged: Sequence[Judged] = ()
    let_in: Sequence[LetIn] = ()


class Unwritable(Exception):
    """Entries that no database would take, however well it is: a value of theirs fits no column."""


class Ledger(Protocol):
    """Writes entries, all or none."""

    async def write(self, entries: Entries) -> None:
        """Write and commit; raise `StorageError` and `Unwritable` with nothing written."""
        ...

    async def aclose(self) -> None: ...


def open_ledger(url: str) -> Ledger:
    """Return the ledger of the database at SQLAlchemy's `url`, whose tables are there."""
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite"):
        return SqliteLedger(parsed.database or ":memory:")
    return PostgresLedger(parsed.set(drivername="postgresql").render_as_string(hide_password=False))


def periods(at: int) -> tuple[str, str]:
    """Return the month and the day (UTC) of a time in milliseconds."""
    day = _day(at // _DAY_MS)
    return day[:7], day


@functools.lru_cache(maxsize=8)
def _day(number: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=number)).isoformat()


def charged_to(key: str, project: str, organisation: str, at: int) -> tuple[tuple[str, str], ...]:
    """Return the scopes and periods of the table `spend` that a request which ended at a time is charged to."""
    month, day = periods(at)
    return (
        (f"key:{key}", month),
        (f"project:{project}", month),
        (f"project:{project}", day),
        (f"organisation:{organisation}", month),
    )


def charges(settled: Iterable[Settled]) -> list[tuple[str, str, int, int, int]]:
    """Return rows for the table `spend`: scope, period, cost, tokens, requests, each scope and period once."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in settled:
        for scope, period in charged_to(one.key, one.project, one.organisation, one.ended):
            entry = sums[scope, period]
            entry[0] += one.cost
            entry[1] += one.input_tokens + one.output_tokens
            entry[2] += 1
    # in one order everywhere, so that two replicas never wait for each other's rows
    return [(scope, period, *entry) for (scope, period), entry in sorted(sums.items())]  # type: ignore[misc]


def _marks(fields: Sequence[str], mark: str = "?") -> str:
    return ",".join(f"${number}" if mark == "$" else mark for number, _ in enumerate(fields, 1))


_QUOTED = tuple(f'"{name}"' for name in Opened._fields)
_AGAIN = " on conflict do nothing"  # a commit whose answer was lost is made once more
_UNSETTLED = "(requests.state='open' or (requests.state='lost' and requests.surface<>'batch'))"
_NOTHING_YET = ("open", 0, "", "", 0, 0, 0, 0, None, "", "", "")
_COLUMNS = Settled._fields[4:]
_ROW = (*(name for name in _QUOTED if name != '"served"'), *_COLUMNS)
_AT = Opened._fields.index("served")
_CONTENT = f"insert into contents ({','.join(Content._fields)}) values ("
_LINK = f"insert into audit ({','.join(Link._fields)}) values ("
_ANSWER = "update batch_lines set state=?3,asked=?4,status=?5,answer=?6 where batch=?1 and number=?2 "
_ANSWER += "and state in ('waiting','running')"  # the first answer is the line's
_DECISION = tuple('"' + name + '"' for name in Judged._fields[:-2])
_JUDGED = f"insert into decisions ({','.join(_DECISION)},tokens,cost,reversed_by) values ("
_MARKED = "insert into decision_marks (mark,decision) values ("
_SET_ASIDE = "insert into blocked (project,item,decision,code,clause,item_id,state,at) values ("
# that an item was released by a reversal is not undone by one who judges it anew
_AGAIN_ASIDE = ") on conflict (project,item) do update set decision=excluded.decision,code=excluded.code,"
_AGAIN_ASIDE += "clause=excluded.clause,item_id=excluded.item_id,state=excluded.state,at=excluded.at "
_AGAIN_ASIDE += "where blocked.state<>'released'"
_LET_IN = "update blocked set state='served',at=?3 where project=?1 and item=?2 and state='blocked'"
_CHANGED = "update revision set guard=guard+1"
_SPEND = "insert into spend (scope,period,cost,tokens,requests) values ("
_ADD = ") on conflict (scope,period) do update set cost=spend.cost+excluded.cost,"
_ADD += "tokens=spend.tokens+excluded.tokens,requests=spend.requests+excluded.requests"


def _aside(judged: Judged) -> list[tuple[object, ...]]:
    """Return the rows of `blocked` that a decision makes."""
    return [(judged.project, one.item, judged.id, *one[1:], judged.at) for one in judged.items]


def _row(opened: Opened, settled: tuple[object, ...]) -> tuple[object, ...]:
    """Return a row of `requests`: as it was opened, but for what its end says."""
    return (*opened[:_AT], *opened[_AT + 1 :], *settled)


_SQLITE_VALUES = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class SqliteLedger:
    """On SQLite: in the loop's own thread, for a commit takes less time than handing it to another one."""

    _INSERT = f"insert into requests ({','.join(_ROW)}) values ({_marks(_ROW)}){_AGAIN}"
    _SETTLE = f"update requests set {','.join(f'{name}=?' for name in _COLUMNS)} where id=? and {_UNSETTLED}"

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=0", "foreign_keys=OFF"):
            self._connection.execute(f"pragma {pragma}")
        self._path = path
        self._rows = 0
        self._checkpoint: asyncio.Task[None] | None = None

    async def write(self, entries: Entries) -> None:
        """See `Ledger.write`."""
        until = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                self._write(entries)
                break
            except sqlite3.OperationalError as error:
                busy = "locked" in str(error) or "busy" in str(error)
                if not busy or asyncio.get_running_loop().time() > until:
                    raise _failed(error) from None
            except (*_SQLITE_VALUES, OverflowError, UnicodeEncodeError) as error:
                raise Unwritable(str(error)) from None
            except sqlite3.Error as error:
                raise _failed(error) from None
            await asyncio.sleep(_BUSY_S)
        self._rows += len(entries.whole) + len(entries.opened) + len(entries.settled)
        if self._rows > _CHECKPOINT_ROWS and (self._checkpoint is None or self._checkpoint.done()):
            self._rows = 0
            self._checkpoint = asyncio.create_task(asyncio.to_thread(self._shorten))

    def _write(self, entries: Entries) -> None:
        execute = self._connection.execute
        execute("begin immediate")
        try:
            for opened in entries.opened:
                execute(self._INSERT, _row(opened, _NOTHING_YET))
            done = [one for one in entries.settled if execute(self._SETTLE, (*one[4:], one.id)).rowcount == 1]
            done += [two for one, two in entries.whole if execute(self._INSERT, _row(one, two[4:])).rowcount == 1]
            for row in charges(done):
                execute(f"{_SPEND}?,?,?,?,?{_ADD}", row)
            for content in entries.contents:
                execute(f"{_CONTENT}?,?,?,?,?,?,?){_AGAIN}", content)
            for answer in entries.answers:
                execute(_ANSWER, answer)
            self._judge(entries.judged, entries.let_in)
            for link in entries.links:
                execute(f"{_LINK}?,?,?,?){_AGAIN}", link)
            execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                execute("rollback")
            raise

    def _judge(self, judged: Sequence[Judged], let_in: Sequence[LetIn]) -> None:
        execute = self._connection.execute
        for one in judged:
            if execute(f"{_JUDGED}{_marks(_DECISION)},0,0,''){_AGAIN}", one[:-2]).rowcount == 1:
                for mark in one.marks:
                    execute(f"{_MARKED}?,?){_AGAIN}", (mark, one.id))
                for row in _aside(one):
                    execute(f"{_SET_ASIDE}?,?,?,?,?,?,?,?{_AGAIN_ASIDE}", row)
        for row in let_in:
            execute(_LET_IN, row)
        if let_in or any(one.items for one in judged):
            execute(_CHANGED)

    def _shorten(self) -> None:
        """Bring the write-ahead log into the database, on a connection that nobody waits for."""
        connection = sqlite3.connect(self._path, timeout=1)
        try:
            connection.execute("pragma wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            pass  # the next one will do it
        finally:
            connection.close()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._checkpoint is not None:
            await self._checkpoint
        self._connection.close()


class PostgresLedger:
    """On PostgreSQL, with asyncpg."""

    _INSERT = f"insert into requests ({','.join(_ROW)}) values ({_marks(_ROW, '$')}){_AGAIN}"
    _TYPES = {"status": "int", "cost": "bigint", "ended": "bigint"} | dict.fromkeys(
        ("input_tokens", "cached_tokens", "output_tokens"), "bigint"
    )

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None
        names = ("id", *_COLUMNS)
        arrays = ",".join(f"${at}::{self._TYPES.get(name, 'text')}[]" for at, name in enumerate(names, 1))
        sets = ",".join(f"{name}=new.{name}" for name in _COLUMNS)
        self._settle = (
            f"update requests set {sets} from unnest({arrays}) as new({','.join(names)}) "
            f"where requests.id=new.id and {_UNSETTLED} returning requests.id"
        )

    async def write(self, entries: Entries) -> None:
        """See `Ledger.write`."""
        import asyncpg

        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._dsn, timeout=_PATIENCE_S, command_timeout=_PATIENCE_S)
            async with self._connection.transaction():
                await self._write(entries)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise Unwritable(str(error)) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()
            raise _failed(error) from None

    async def _write(self, entries: Entries) -> None:
        connection = self._connection
        done: list[Settled] = []
        if entries.opened:
            await connection.executemany(self._INSERT, [_row(one, _NOTHING_YET) for one in entries.opened])
        for opened, settled in entries.whole:
            if await connection.execute(self._INSERT, *_row(opened, settled[4:])) == "INSERT 0 1":
                done.append(settled)
        if entries.settled:
            columns = [[getattr(one, name) for one in entries.settled] for name in ("id", *_COLUMNS)]
            rows = await connection.fetch(self._settle, *columns)
            found = {row[0] for row in rows}
            done += [one for one in entries.settled if one.id in found]
        if done:
            await connection.executemany(f"{_SPEND}$1,$2,$3,$4,$5{_ADD}", charges(done))
        if entries.contents:
            await connection.executemany(f"{_CONTENT}$1,$2,$3,$4,$5,$6,$7){_AGAIN}", entries.contents)
        if entries.answers:
            await connection.executemany(_ANSWER.replace("?", "$"), entries.answers)
        await self._judge(entries.judged, entries.let_in)
        if entries.links:
            await connection.executemany(f"{_LINK}$1,$2,$3,$4){_AGAIN}", entries.links)

    async def _judge(self, judged: Sequence[Judged], let_in: Sequence[LetIn]) -> None:
        connection = self._connection
        for one in judged:
            done = await connection.execute(f"{_JUDGED}{_marks(_DECISION, '$')},0,0,''){_AGAIN}", *one[:-2])
            if done == "INSERT 0 1":
                await connection.executemany(f"{_MARKED}$1,$2){_AGAIN}", [(mark, one.id) for mark in one.marks])
                await connection.executemany(f"{_SET_ASIDE}$1,$2,$3,$4,$5,$6,$7,$8{_AGAIN_ASIDE}", _aside(one))
        if let_in:
            await connection.executemany(_LET_IN.replace("?", "$"), let_in)
        if let_in or any(one.items for one in judged):
            await connection.execute(_CHANGED)
            await connection.execute(
                "notify lathe_gateway"
            )  # database.CHANNEL, which this file does not import for its speed

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close(timeout=_PATIENCE_S)


def _failed(error: BaseException) -> StorageError:
    why = str(error).split("\n", 1)[0] or type(error).__name__
    return StorageError(f"The gateway's records can't be written: {why[:300]}.", code="records_unavailable")
