"""What a trial took of a gateway, by the gateway's own record and not by the agent's words.

Each trial asks with a key of its own that is good for models and nothing else; when the agent has ended, the key is
revoked, what is under way comes to its end, and the requests that were made with it are summed up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from lathe.evals.access import Access
from lathe.evals.agents.base import Cost, Served
from lathe.models.endpoint import parse_endpoint
from lathe.models.http import HttpClient, TransportError, read_body
from lathe.store.journal import now_ms

_ANSWER_S = 60.0
_TOO_MANY, _HELD_UP = 429, 503
_PAUSES_S = (0.1, 0.2, 0.5, *(1.0 for _ in range(30)))
_BODY_LIMIT = 16 * 2**20
_MICRO = 1_000_000
_LIVE_S = 2.0
"""After that a key is known to every replica of a gateway (docs/administration.md)."""
_LASTS_MS = 7 * 86_400_000
"""How long the key of a trial lives at a gateway of the person's: a run that is killed leaves it behind."""


class Taken(NamedTuple):
    """What a trial took, and who served it; `failed` counts requests that failed besides whoever asked."""

    cost: Cost
    served: tuple[Served, ...]
    failed: int


class _Row(msgspec.Struct, frozen=True):
    """A request on record."""

    id: str
    requested: str
    served: str
    state: str
    status: int
    cost: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class _Page(msgspec.Struct, frozen=True):
    data: list[_Row]
    next: str | None


class Unmetered(Exception):
    """A gateway that keeps a record of trials gives none of this one; the message says why, in a sentence."""


class _Refused(Exception):
    """The gateway does not do what was asked."""


class Lease:
    """A trial's key."""

    def __init__(self, access: Access, id: str, meter: Meter) -> None:
        self.access = access
        self._id = id
        self._meter = meter

    async def taken(self) -> Taken:
        """End the key and return what was taken with it; raise `Unmetered`."""
        with _a_fault():
            return await self._meter.taken(self._id)


class Meter:
    """Gives out keys of one gateway. Where its own key may not make any, there is no record of single trials."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._me: dict[str, Any] | None = None
        self._priced: dict[str, bool] = {}

    @contextlib.asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Lease | None]:
        """Give a key for a trial, None where this gateway's own has to do; raise `Unmetered`."""
        with _a_fault():
            made = await self._made(name)
        if made is None:
            yield None
            return
        id, secret = made
        try:
            yield Lease(self._access._replace(key=secret), id, self)
        except BaseException:
            if not self._access.own:  # else it ends with its gateway
                with contextlib.suppress(_Refused, TransportError, OSError):
                    await self._ask("POST", f"/admin/v1/keys/{quote(id)}/revoke")
            raise

    async def _made(self, name: str) -> tuple[str, str] | None:
        """Return a new key's id and secret, None where none can be made."""
        if self._me is None:
            try:
                self._me = msgspec.json.decode(await self._ask("GET", "/v1/access/me"), type=dict[str, Any])
            except (_Refused, msgspec.DecodeError):
                if self._access.own:
                    raise
                self._me = {}  # what answers there is no gateway of Lathe's
        me, who = self._me, self._me.get("principal") or {}
        if not self._access.own and ("admin" not in who.get("scopes", ()) or (me.get("limits") or {}).get("key")):
            return None  # a key with limits of its own is to be held to them
        asked = {
            "name": f"lathe eval {name}"[:200],
            "owner": "me" if who.get("user") else "machine",
            "project": who.get("project", ""),
            "surface": who.get("surface", ""),
            "expires": None if self._access.own else now_ms() + _LASTS_MS,
        }
        try:
            found = msgspec.json.decode(await self._ask("POST", "/admin/v1/keys", asked), type=dict[str, Any])
        except _Refused:
            if self._access.own:
                raise
            return None
        if len(me.get("replicas", ())) > 1:
            await asyncio.sleep(_LIVE_S)
        return found["key"]["id"], found["secret"]

    async def taken(self, key: str) -> Taken:
        """Revoke a key and return what was taken with it."""
        path = f"/admin/v1/keys/{quote(key)}"
        await self._ask("POST", f"{path}/revoke")
        await self._ask("POST", f"{path}/settle")
        every = [one async for one in self._rows(key)]
        rows = [one for one in every if one.served]
        failed = sum(one.state == "failed" and (one.status >= 500 or one.status == _TOO_MANY) for one in every)
        counts: dict[tuple[str, str, str], int] = {}
        for one in rows:
            swap = (one.requested, one.served, await self._substitution(one))
            counts[swap] = counts.get(swap, 0) + 1
        cost = Cost(
            sum(one.input_tokens for one in rows),
            sum(one.cached_tokens for one in rows),
            sum(one.output_tokens for one in rows),
            len(rows),
            sum(one.cost for one in rows) / _MICRO if await self._known(rows) else None,
        )
        order = sorted(counts.items(), key=lambda one: (one[0][2] != "", -one[1], one[0]))
        return Taken(cost, tuple(Served(asked, model, count, why) for (asked, model, why), count in order), failed)

    async def _rows(self, key: str) -> AsyncIterator[_Row]:
        cursor: str | None = ""
        while cursor is not None:
            query = {"key": key, "limit": 200} | ({"cursor": cursor} if cursor else {})
            data = await self._ask("GET", f"/admin/v1/requests?{urlencode(query)}")
            page = msgspec.json.decode(data, type=_Page)
            for one in page.data:
                yield one
            cursor = page.next

    async def _substitution(self, row: _Row) -> str:
        """Return why another model served than was asked for, as the request's receipt says; "" for another name."""
        if row.requested == row.served:
            return ""
        told = msgspec.json.decode(await self._ask("GET", f"/v1/receipts/{quote(row.id)}"), type=dict[str, Any])
        why = str(told["receipt"].get("substitution", ""))
        return "" if why.startswith("alias:") else why

    async def _known(self, rows: list[_Row]) -> bool:
        """Say whether the prices of all models that served are known: where one is not, its requests cost nothing."""
        served = {one.served for one in rows}
        if served - self._priced.keys():
            told = msgspec.json.decode(await self._ask("GET", "/v1/models"), type=dict[str, Any])
            self._priced |= {one["id"]: "usd_per_million_tokens" in one["lathe"] for one in told["data"]}
        return bool(served) and all(self._priced.get(one, False) for one in served)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return an answer; a gateway that is held up is asked again a number of times."""
        status, told = await self._asked(method, path, body)
        for pause_s in _PAUSES_S:
            if status != _HELD_UP:
                break
            await asyncio.sleep(pause_s)
            status, told = await self._asked(method, path, body)
        if status >= 300:
            asked = f"{method} {path.partition('?')[0]}"
            raise _Refused(f"{asked} gave {status}: {told[:300].decode(errors='replace')}")
        return told

    async def _asked(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        endpoint = parse_endpoint(self._access.url)
        headers = [(b"authorization", f"Bearer {self._access.key}".encode())]
        data = [msgspec.json.encode(body)] if body is not None else []
        if data:
            headers.append((b"content-type", b"application/json"))
        client = HttpClient(endpoint, {}, connect_timeout_s=_ANSWER_S, idle_timeout_s=_ANSWER_S)
        try:
            answer = await client.request(method, endpoint.path + path, headers, data)
            return answer.status, await read_body(answer, _BODY_LIMIT)
        finally:
            await client.aclose()


@contextlib.contextmanager
def _a_fault() -> Iterator[None]:
    try:
        yield
    except (_Refused, TransportError, OSError, msgspec.DecodeError, KeyError) as error:
        raise Unmetered(f"The gateway does not keep count of the trial: {error}.") from None
