"""The gateway's database: opened, brought to the newest form, and asked whether something has changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import BigInteger, event, func, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from lathe.protocol.errors import ConfigError, StorageError
from lathe.store.gateway.schema import make, revision

CHANNEL = "lathe_gateway"
"""Where PostgreSQL tells every replica that something has changed."""
Section: TypeAlias = Literal["principals", "access", "rollouts", "guard"]
SECTIONS: tuple[Section, ...] = ("principals", "access", "rollouts", "guard")
"""What a replica keeps in memory, each part read anew when it changes."""
_NEWEST = "0001"
_BUSY_MS = 10_000
_JSON: dict[str, Any] = {
    "json_serializer": lambda value: msgspec.json.encode(value).decode(),
    "json_deserializer": msgspec.json.decode,
}


class server_ms(FunctionElement[int]):
    """Milliseconds since the epoch by the database's own clock: the one that all replicas share."""

    type = BigInteger()
    inherit_cache = True


@compiles(server_ms, "sqlite")
def _sqlite_ms(element: Any, compiler: Any, **rest: Any) -> str:
    return "cast((julianday('now') - 2440587.5) * 86400000 as integer)"


@compiles(server_ms, "postgresql")
def _postgresql_ms(element: Any, compiler: Any, **rest: Any) -> str:
    return "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"


class Database:
    """One database. `url` is SQLAlchemy's: `sqlite+aiosqlite:///PATH` or `postgresql+asyncpg://…`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection within a transaction, which is committed at the end.

        Raises `StorageError`, with the code `conflict` where a row is not unique or refers to nothing.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise StorageError(
                "There is one like that already, or what it belongs to is gone.", code="conflict"
            ) from error
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _unreachable(error) from error

    async def migrate(self) -> None:
        """Bring the tables to the newest form; raise `StorageError`."""
        try:
            async with self.engine.connect() as connection:
                if await connection.run_sync(_form) == _NEWEST:
                    return
            async with self.engine.begin() as connection:
                if not self.is_sqlite:  # several replicas may start at once
                    await self.lock(connection, "migrate")
                await connection.run_sync(_bring_up)
        except (SQLAlchemyError, OSError) as error:
            raise _unreachable(error) from error

    async def revision(self) -> int:
        """Return a number that grows with every change that replicas must learn of; raise `StorageError`."""
        async with self.begin() as connection:
            return sum(await revisions(connection))

    async def changed(self, connection: AsyncConnection, *sections: Section) -> None:
        """Have every replica learn, when the transaction of `connection` is committed, that something is new.

        `sections` are what of it is new, all where none is named.
        """
        counts = {name: revision.c[name] + 1 for name in sections or SECTIONS}
        await connection.execute(update(revision).values(counts))
        if not self.is_sqlite:
            await connection.execute(text(f"notify {CHANNEL}"))

    async def lock(self, connection: AsyncConnection, name: str) -> None:
        """Wait until no other transaction holds the lock `name`, and hold it to the end of this one."""
        if self.is_sqlite:  # has one writer at a time; a write makes this the one
            await connection.execute(update(revision).values(id=revision.c.id))
        else:
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            await connection.execute(select(func.pg_advisory_xact_lock(number)))

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


async def revisions(connection: AsyncConnection) -> tuple[int, ...]:
    """Return how many changes there have been of each of `SECTIONS`."""
    row = (await connection.execute(select(*(revision.c[name] for name in SECTIONS)))).one()
    return tuple(row)


def sqlite_url(path: Path) -> str:
    """Return the URL of a database in a file."""
    return f"sqlite+aiosqlite:///{path}"


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+asyncpg")
        if parsed.drivername == "sqlite":
            parsed = parsed.set(drivername="sqlite+aiosqlite")
        if parsed.drivername.startswith("sqlite") and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = create_async_engine(parsed, **_JSON)
            event.listen(engine.sync_engine, "connect", _tune_sqlite)
            return engine
        return create_async_engine(parsed, pool_size=8, max_overflow=8, pool_pre_ping=True, pool_timeout=10, **_JSON)
    except (ArgumentError, ImportError, OSError) as error:
        raise ConfigError(
            f"The database can't be opened: {error}.", hint="Give sqlite:///PATH or postgresql://HOST/NAME."
        ) from None


def _tune_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"pragma {pragma}")
    cursor.close()


def _form(connection: Any) -> str:
    from sqlalchemy import inspect

    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("select version_num from alembic_version")).scalar() or "")


def _bring_up(connection: Any) -> None:
    form = _form(connection)
    if form == "":
        make(connection)  # as all migrations would, without the time that it takes to import what runs them
        connection.execute(text("create table alembic_version (version_num varchar(32) not null primary key)"))
        connection.execute(text(f"insert into alembic_version values ('{_NEWEST}')"))
    elif form != _NEWEST:
        _upgrade(connection)


def _upgrade(connection: Any) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _unreachable(error: BaseException) -> StorageError:
    why = str(getattr(error, "orig", None) or error).split("\n", 1)[0]
    return StorageError(f"The gateway's database does not answer: {why[:300]}.", code="records_unavailable")


def default_url(home: Path) -> str:
    """Return LATHE_GATEWAY_DATABASE, or the SQLite file below `home` ($LATHE_HOME)."""
    return os.environ.get("LATHE_GATEWAY_DATABASE") or sqlite_url(home / "gateway" / "gateway.sqlite")
