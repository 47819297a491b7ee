"""Which keys have requests under way on a replica, and the end of that: for those who sum up what a key has used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from lathe.gateway.records import Records


class UnderWay:
    """Counts requests by their keys."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._counts: dict[str, int] = {}
        self._ends: dict[str, asyncio.Event] = {}

    @contextlib.contextmanager
    def one(self, key: str) -> Iterator[None]:
        """Count a request while it lasts."""
        self._counts[key] = self._counts.get(key, 0) + 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
                if (end := self._ends.pop(key, None)) is not None:
                    end.set()

    async def settle(self, key: str, patience_s: float) -> int:
        """Wait until no request of a key is under way here and all of them are on record, for at most `patience_s`.

        Return how many are under way still.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while key in self._counts:
                    await self._ends.setdefault(key, asyncio.Event()).wait()
                await self._records.written()
        return self._counts.get(key, 0)
