"""What is kept of what was asked and answered: responses that can be gone on with, and whole exchanges.

A stored response is a link of a chain: its own new input, its output, and the response before. Whoever goes on with
one sends new input only; the gateway puts the whole conversation before it, so that any upstream will do and none has
to remember anything. How much is kept is the project's choice: `full` keeps every exchange, `metadata` only responses
that a caller asks to have stored, `zero` nothing but what a WebSocket's own connection remembers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import delete, select

from lathe.gateway.compacting import SEALED, Sealer
from lathe.gateway.dialects import DIALECTS, BadRequest, Head
from lathe.gateway.dialects.fields import rewritten
from lathe.gateway.exchange import Exchange, Request, now_ms
from lathe.gateway.principals import Principal
from lathe.protocol.trust import Retention as Retention
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import Content
from lathe.store.gateway.schema import contents

Memory: TypeAlias = dict[str, "Stored"]
"""Responses that one connection remembers, by their ids."""
_LONGEST = 500
_DAY_MS = 86_400_000
_items = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder()
_ENCRYPTED = "reasoning.encrypted_content"


class Stored(msgspec.Struct, frozen=True):
    """A response: what was new in its input, what it put out, and which response it goes on with.

    `answer` is the response as the caller got it.
    """

    input: list[msgspec.Raw]
    output: list[msgspec.Raw]
    previous: str
    answer: msgspec.Raw


class Wish(NamedTuple):
    """What is to be kept of a request once it is answered: its own new input, whether to store, what to remember in."""

    input: list[msgspec.Raw]
    previous: str
    store: bool
    memory: Memory | None


class Remembering:
    """Reads and makes what is kept, for one replica."""

    def __init__(self, database: Database, days: int, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._lasts_ms = days * _DAY_MS

    async def prepare(
        self, request: Request, head: Head, retention: Retention, memory: Memory | None = None
    ) -> tuple[Request, Head, Wish | None]:
        """Return a Responses request that stands for itself, its head, and what to keep of it.

        Raises `BadRequest` where the response before is not there, and `StorageError`.
        """
        store = retention != "zero" and (head.store if head.store is not None else retention == "full")
        sealed = SEALED in request.body
        private = retention == "zero" and head.store is not False  # the upstream is to keep nothing either
        if not (store or sealed or private or memory is not None or head.previous_response_id):
            return request, head, None
        new = new_input = _input(head)
        changes: dict[str, bytes | None] = {}
        if head.previous_response_id:
            before = await self._conversation(request.who, head.previous_response_id, retention, memory)
            changes["previous_response_id"] = None
            new_input = [*before, *new]
        if new_input is not new or sealed:
            changes["input"] = msgspec.json.encode(self._sealer.opened(request.who.project, new_input))
        if (store or private or memory is not None) and (included := _included(head)) is not None:
            changes["include"] = included
        changes["store"] = b"false"
        body = rewritten(request.body, head.fields, changes)
        wish = Wish(new, head.previous_response_id, store, memory)
        return request._replace(body=body), DIALECTS[request.wire].head(body), wish

    async def _conversation(
        self, who: Principal, id: str, retention: Retention, memory: Memory | None
    ) -> list[msgspec.Raw]:
        links: list[Stored] = []
        while id and len(links) < _LONGEST:
            found = (memory or {}).get(id) or await self.find(who.project, id)
            if found is None:
                why = {
                    "zero": "this project keeps nothing",
                    "metadata": "ask for `store: true` to have one kept",
                    "full": "it has been deleted, has expired, or is another project's",
                }[retention]
                raise BadRequest(
                    "previous_response_not_found",
                    f"There is no response {id!r} to go on with: {why}.",
                    param="previous_response_id",
                    status=404 if retention == "full" else 400,
                )
            links.append(found)
            id = found.previous
        return [item for link in reversed(links) for item in (*link.input, *link.output)]

    async def find(self, project: str, id: str) -> Stored | None:
        """Return a stored response of a project; None where there is none. Raises `StorageError`."""
        async with self._database.begin() as connection:
            row = (
                await connection.execute(
                    select(contents.c.body, contents.c.expires).where(
                        contents.c.id == _name(project, id), contents.c.project == project
                    )
                )
            ).one_or_none()
        if row is None or (row.expires is not None and row.expires < now_ms()):
            return None
        return msgspec.json.decode(row.body, type=Stored)

    async def forget(self, project: str, id: str) -> bool:
        """Delete a stored response; return whether there was one. Raises `StorageError`."""
        async with self._database.begin() as connection:
            done = await connection.execute(
                delete(contents).where(contents.c.id == _name(project, id), contents.c.project == project)
            )
        return done.rowcount > 0

    def response(self, exchange: Exchange, wish: Wish, answer: bytes) -> list[Content]:
        """Return what is written of a Responses answer (its JSON); it is remembered where a connection does."""
        try:
            raw = msgspec.json.decode(answer, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
        output = [item for item in raw.output if _type(item) is not None]
        stored = Stored(wish.input, output, wish.previous, msgspec.Raw(answer))
        if wish.memory is not None:
            wish.memory[raw.id] = stored
        if not wish.store:
            return []
        now = now_ms()
        body = msgspec.json.encode(stored).decode()
        name, previous = (
            _name(exchange.project, raw.id),
            _name(exchange.project, wish.previous) if wish.previous else "",
        )
        return [Content(name, exchange.project, "response", body, previous, now, now + self._lasts_ms)]

    def whole(self, exchange: Exchange, answer: bytes) -> Content:
        """Return what is written of a whole exchange."""
        body = {
            "request": exchange.request.body.decode("utf-8", "replace"),
            "answer": answer.decode("utf-8", "replace"),
        }
        now = now_ms()
        text = msgspec.json.encode(body).decode()
        return Content(exchange.id, exchange.project, "request", text, "", now, now + self._lasts_ms)


def remember(memory: Memory, head: Head, response: Mapping[str, Any]) -> None:
    """Have a connection remember the input of a request that was answered with the empty `response`."""
    answer = msgspec.Raw(msgspec.json.encode(response))
    memory[response["id"]] = Stored(_input(head), [], head.previous_response_id, answer)


class _Answer(msgspec.Struct):
    id: str
    output: list[msgspec.Raw] = []


class _Item(msgspec.Struct):
    type: str | None = None


def _type(item: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(item, type=_Item).type
    except msgspec.DecodeError:
        return None


def _name(project: str, id: str) -> str:
    """Return under which id a response is kept: upstreams may give the same one twice."""
    return hashlib.sha256(f"{project}/{id}".encode("utf-8", "replace")).hexdigest()


def _input(head: Head) -> list[msgspec.Raw]:
    field = head.fields.get("input")
    if field is None:
        return []
    try:
        given: Any = _anything.decode(field.raw)
        if isinstance(given, str):
            message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}
            return [msgspec.Raw(msgspec.json.encode(message))]
        return _items.decode(field.raw)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise BadRequest("invalid_type", "The field `input` must be a string or a list.", param="input") from None


def _included(head: Head) -> bytes | None:
    """Return the field `include` with encrypted reasoning in it: what is gone on with must hold the reasoning."""
    field = head.fields.get("include")
    given: Any = _anything.decode(field.raw) if field is not None else []
    if given is None:
        given = []
    if not isinstance(given, list):
        raise BadRequest("invalid_type", "The field `include` must be a list.", param="include")
    return msgspec.json.encode([*given, _ENCRYPTED]) if _ENCRYPTED not in given else None


def retention_of(settings: Mapping[str, Any], otherwise: Retention) -> Retention:
    """Return how much a project keeps."""
    stated: Any = settings.get("retention")
    return stated if stated in ("full", "metadata", "zero") else otherwise
