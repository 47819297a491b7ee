"""The gateway's database, once on SQLite and once on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lathe.store.gateway.database import Database, sqlite_url

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from postgresql import Cluster

if TYPE_CHECKING:
    from browsing import House
    from playwright.sync_api import Browser
from serving import Models, Served, scripted_settings, serving


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server for this run, whose new databases have the gateway's tables."""
    cluster = Cluster()
    try:
        cluster.template = cluster.new_database()
        asyncio.run(_migrate(cluster.url(cluster.template)))
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database; each test that uses it runs on both kinds. PostgreSQL's has its tables already."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "gateway.sqlite")
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.url(cluster.new_database())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database with its tables, on both kinds."""
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.aclose()


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.aclose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh SQLite database with its tables."""
    database = Database(sqlite_url(tmp_path / "gateway.sqlite"))
    await database.migrate()
    yield database
    await database.aclose()


@pytest.fixture(scope="session")
def scripted_models() -> Iterator[Models]:
    """Scripted models on a thread of their own; `models` is how a test gets at them."""
    models = Models()
    yield models
    models.close()


@pytest.fixture
def models(scripted_models: Models) -> Iterator[Models]:
    """The scripted models behind `gateway`, with nothing to say yet."""
    scripted_models.play([])
    yield scripted_models
    scripted_models.play([])


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, scripted_models: Models) -> Iterator[Served]:
    """A gateway that many tests share, with the models `scripted-responses`, `scripted-chat`, `scripted-messages`."""
    with serving(tmp_path_factory.mktemp("gateway"), scripted_settings(scripted_models)) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    from browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A console that is being served."""
    from browsing import House

    house = House(tmp_path)
    yield house
    house.close()
