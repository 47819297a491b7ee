"""`lathe serve` as a process of its own, with scripted models behind it, asked as its callers would."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from replica import Replica

from lathe.gateway.receipts import Receipt, document, verify_receipt
from lathe.gateway.signing import KeyRing
from lathe.models.script import WIRES, Step, Words
from lathe.models.scripted import RecordedRequest, ScriptedServer

UPSTREAM_KEY = "sk-upstream-1234567890"
PRICE = "{ input = 2.0, output = 10.0 }"
Steps: TypeAlias = Iterable[Step] | Callable[[RecordedRequest], Step]
T = TypeVar("T")


class Models:
    """A scripted model server on a thread of its own, which plays what the test at hand gives it.

    A request that offers no tools (a title, a warm-up) is answered beside the script, where `beside` is set.
    """

    def __init__(self) -> None:
        self.server = ScriptedServer(self._next)
        self.requests: list[RecordedRequest] = []
        self._steps: list[Step] = []
        self._choose: Callable[[RecordedRequest], Step] | None = None
        self._beside = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self.server.start())

    def play(self, steps: Steps, *, beside: bool = False) -> None:
        """Begin a new script: answers in order, or a function that is given each request."""
        self._choose = steps if callable(steps) else None
        self._steps = [] if callable(steps) else list(steps)
        self._beside = beside
        self.requests = []

    @property
    def root(self) -> str:
        """The base URL without `/v1`."""
        return self.server.base_url.removesuffix("/v1")

    def close(self) -> None:
        self._do(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _next(self, request: RecordedRequest) -> Step:
        if self._beside and not request.json().get("tools"):
            return Step(say=(Words("A title"),))
        self.requests.append(request)
        if self._choose is not None:
            return self._choose(request)
        number = len(self.requests)
        if number > len(self._steps):
            return Step(error="bad_request", body=f"the script has {len(self._steps)} steps, this is request {number}")
        return self._steps[number - 1]


class Served(Replica):
    """A gateway that runs, and what its SQLite database has on record."""

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Ask its database."""
        path = self.home / "gateway" / "gateway.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def mark(self) -> int:
        """How many requests are on record."""
        count: int = self.rows("select coalesce(max(rowid), 0) as count from requests")[0]["count"]
        return count

    def requests(self, after: int = 0) -> list[dict[str, Any]]:
        """The requests on record past a mark, the oldest first."""
        return self.rows("select * from requests where rowid > ? order by rowid", after)

    def receipts(self, after: int = 0) -> list[Receipt]:
        """The receipts of the same, each verified with nothing but the public keys."""
        ring = KeyRing(row["public_key"] for row in self.rows("select distinct public_key from replicas"))
        rows = self.requests(after)
        return [verify_receipt(document(row["receipt"], row["signature"], row["signer"]), ring) for row in rows]

    def settled(self, after: int = 0) -> list[dict[str, Any]]:
        """The requests on record past a mark, as soon as none of them is open."""
        while any(row["state"] == "open" for row in self.requests(after)):
            time.sleep(0.01)
        return self.requests(after)


class Told(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The stable code of an error in any dialect, "" where it is none."""
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            said: Any = json.loads(self.body)
            found: str = said["error"].get("lathe", said["error"]).get("code", "")
            return found
        return ""


def ask(served: Served, path: str, body: Any = None, key: str | None = None, method: str = "", **headers: str) -> Told:
    """Ask a gateway over a connection of its own; a body that is no bytes is sent as JSON."""
    host, _, port = served.url.partition("://")[2].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"authorization": f"Bearer {served.key if key is None else key}", "content-type": "application/json"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, lines)
        answer = connection.getresponse()
        return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@contextlib.contextmanager
def serving(folder: Path, settings: str, *args: str, database: str = "", key: str = "") -> Iterator[Served]:
    """Run a gateway with its own LATHE_HOME below `folder`; `key` where its database knows one already."""
    served = Served(folder, settings, *args, database=database, key=key)
    try:
        served.start({"UPSTREAM_KEY": UPSTREAM_KEY})
        yield served
    finally:
        if served.process is not None:
            served.stop()


def scripted_settings(models: Models, extra: str = "", upstream: str = "") -> str:
    """Settings with one model for each wire, `scripted-WIRE`, which is asked in that wire alone."""
    lines = ["mend = false", extra]
    for wire in WIRES:
        lines += [f"[upstreams.{wire}]", f'base_url = "{models.server.base_url}"', f'wires = ["{wire}"]', upstream]
        lines += ['key_env = "UPSTREAM_KEY"']
        lines += [f"[models.scripted-{wire}]", f'routes = ["{wire}"]', f"price = {PRICE}"]
    return "\n".join(lines) + "\n"
