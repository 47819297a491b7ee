"""A browser for the whole run, and one run to report on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from browser import chromium
from playwright.sync_api import Browser
from sample_runs import Thread, threads


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Thread]:
    """Two threads of a scripted model. The browser's driver has a loop in this thread, so they are made in another."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, threads(tmp_path_factory.mktemp("threads"))).result()
