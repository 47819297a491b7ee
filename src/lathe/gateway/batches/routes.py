"""`/v1/files`, `/v1/batches` and `/v1/messages/batches`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Annotated, Any, Literal

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lathe.gateway.batches.batch import ACTIVE, ENDPOINTS, SCOPES, WINDOW_MS, Api, Batch, Body
from lathe.gateway.batches.files import File, Files, FileTooLarge
from lathe.gateway.batches.shapes import show_batch, show_file, show_message_batch
from lathe.gateway.batches.store import BatchStore, entered
from lathe.gateway.dialects import BadRequest
from lathe.gateway.exchange import now_ms
from lathe.gateway.model_routes import Handler, guarded
from lathe.gateway.principals import Principal
from lathe.gateway.relay import Refused, Relay
from lathe.gateway.services import Services
from lathe.models.provider import WireName
from lathe.protocol.ids import ordered_id

_DAY_MS = 86_400_000
_PURPOSES = ("batch", "batch_output")
_KEPT_HEADERS = (b"lathe-", b"anthropic-version", b"anthropic-beta", b"openai-beta")
"""Beginnings of headers of the request that makes a batch which go with each of its lines."""
_CHUNK = 256 << 10

_Name = Annotated[str, msgspec.Meta(max_length=64)]
_Value = Annotated[str, msgspec.Meta(max_length=512)]


class _Lasts(msgspec.Struct):
    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=3600, le=2_592_000)]


class _NewBatch(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Annotated[dict[_Name, _Value], msgspec.Meta(max_length=16)] | None = None
    output_expires_after: _Lasts | None = None


class _NewRequest(msgspec.Struct):
    custom_id: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    params: msgspec.Raw


class _NewMessageBatch(msgspec.Struct):
    requests: Annotated[list[_NewRequest], msgspec.Meta(min_length=1)]


def batch_routes(relay: Relay, services: Services, news: Callable[[], None]) -> list[BaseRoute]:
    """Return the routes; `news` is called where there is something new to work on."""
    desk = _Desk(relay, services, news)
    table: list[tuple[str, str, WireName, Handler]] = [
        ("POST", "/files", "chat", desk.upload),
        ("GET", "/files", "chat", desk.list_files),
        ("GET", "/files/{id}", "chat", desk.file),
        ("DELETE", "/files/{id}", "chat", desk.delete_file),
        ("GET", "/files/{id}/content", "chat", desk.content),
        ("POST", "/batches", "chat", desk.create),
        ("GET", "/batches", "chat", desk.list_batches),
        ("GET", "/batches/{id}", "chat", desk.batch),
        ("POST", "/batches/{id}/cancel", "chat", desk.cancel),
        ("POST", "/messages/batches", "messages", desk.create_messages),
        ("GET", "/messages/batches", "messages", desk.list_messages),
        ("GET", "/messages/batches/{id}", "messages", desk.messages),
        ("DELETE", "/messages/batches/{id}", "messages", desk.delete_messages),
        ("POST", "/messages/batches/{id}/cancel", "messages", desk.cancel_messages),
        ("GET", "/messages/batches/{id}/results", "messages", desk.results),
    ]
    return [
        Route(prefix + path, guarded(relay, wire, handler, SCOPES), methods=[method])
        for method, path, wire, handler in table
        for prefix in ("/v1", "")
    ]


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


class _Desk:
    def __init__(self, relay: Relay, services: Services, news: Callable[[], None]) -> None:
        self._relay = relay
        self._settings = services.settings.batches
        self._patience_s = services.settings.body_timeout_s
        self._public_url = services.settings.public_url
        self._database = services.database
        self._files = Files(services.database)
        self._store = BatchStore(services.database)
        self._news = news

    # Files.

    async def upload(self, request: Request, who: Principal) -> Response:
        self._may_keep(who)
        form = await self._form(request)
        try:
            file = await self._write(who, form)
        finally:
            await form.close()
        return _json(show_file(file))

    async def _form(self, request: Request) -> FormData:
        kind = request.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            raise BadRequest("invalid_content_type", "Send a file as multipart/form-data.")
        body = _bounded(request, (self._settings.file_mb << 20) + (1 << 20), self._patience_s)
        try:
            return await MultiPartParser(request.headers, body, max_files=1, max_fields=16).parse()
        except (MultiPartException, ValueError, KeyError) as error:
            raise BadRequest("invalid_form", f"The form can't be read: {error}") from None

    async def _write(self, who: Principal, form: FormData) -> File:
        upload, purpose = form.get("file"), form.get("purpose")
        if not isinstance(upload, UploadFile):
            raise BadRequest("file_missing", "The form has no `file`.", param="file")
        if purpose != "batch":
            raise BadRequest(
                "invalid_purpose", "The `purpose` must be `batch`: no other files are kept.", param="purpose"
            )
        lasts_ms = self._settings.days * _DAY_MS
        given = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
        if any(given.values()):
            lasts_ms = min(lasts_ms, 1000 * _read(given, _Lasts, strict=False).seconds)
        now = now_ms()
        name = (upload.filename or "file").replace("\0", "")[-500:]
        file = File(ordered_id("file"), who.project, name, "batch", 0, now, now + lasts_ms)
        return await self._keep(file, _chunks(upload))

    async def _keep(self, file: File, chunks: AsyncIterator[bytes], batch: Batch | None = None) -> File:
        """Write a file, with the batch that it is for; raise `Refused`."""
        left = (self._settings.project_mb << 20) - await self._files.used(file.project)
        most = self._settings.file_mb << 20
        try:
            file = await self._files.write(file, chunks, min(most, max(0, left)))
        except FileTooLarge as error:
            if left < most:
                message = f"The project's files may have {self._settings.project_mb} MB in all: delete some."
                raise Refused(413, "file_space", message) from None
            raise Refused(413, "file_too_large", str(error)) from None
        if file.bytes == 0:
            await self._files.delete(file.project, file.id)
            raise BadRequest("empty_file", "The file is empty.", param="file")
        async with self._database.begin() as connection:
            await self._files.show(connection, file.id)
            if batch is not None:
                await self._store.add(connection, batch)
        return file

    def _may_keep(self, who: Principal) -> None:
        if self._relay.retention(who) == "zero":
            message = "This project keeps nothing (zero retention), and a batch must keep its files: ask one by one."
            raise Refused(403, "zero_retention", message)

    async def list_files(self, request: Request, who: Principal) -> Response:
        query = request.query_params
        purposes = (query["purpose"],) if query.get("purpose") in _PURPOSES else () if "purpose" in query else _PURPOSES
        limit = _number(request, "limit", 10_000, 10_000)
        found = await self._files.page(
            who.project, purposes, after=query.get("after", ""), limit=limit + 1, ascending=query.get("order") == "asc"
        )
        return _json(_listed([show_file(file) for file in found[:limit]], len(found) > limit))

    async def _file(self, request: Request, who: Principal) -> File:
        id = request.path_params["id"]
        found = await self._files.find(who.project, id)
        if found is None or found.purpose not in _PURPOSES:
            raise Refused(404, "not_found", f"There is no file {id!r} here.", param="id")
        return found

    async def file(self, request: Request, who: Principal) -> Response:
        return _json(show_file(await self._file(request, who)))

    async def content(self, request: Request, who: Principal) -> Response:
        return self._sent(await self._file(request, who), "application/octet-stream")

    def _sent(self, file: File, kind: str) -> Response:
        return StreamingResponse(self._files.parts(file.id), 200, {"content-length": str(file.bytes)}, kind)

    async def delete_file(self, request: Request, who: Principal) -> Response:
        file = await self._file(request, who)
        await self._files.delete(who.project, file.id)
        return _json({"id": file.id, "object": "file", "deleted": True})

    # OpenAI's batches.

    async def create(self, request: Request, who: Principal) -> Response:
        self._may_keep(who)
        asked = _read(await self._relay.body_of(request.scope, request.receive), _NewBatch)
        if asked.endpoint not in ENDPOINTS:
            listed = ", ".join(ENDPOINTS)
            raise BadRequest("invalid_endpoint", f"The `endpoint` must be one of {listed}.", param="endpoint")
        if asked.completion_window != "24h":
            raise BadRequest("invalid_window", "The `completion_window` must be `24h`.", param="completion_window")
        file = await self._files.find(who.project, asked.input_file_id)
        if file is None or file.purpose != "batch":
            message = f"There is no file {asked.input_file_id[:80]!r} with the purpose `batch` here."
            raise BadRequest("invalid_input_file", message, param="input_file_id")
        body = Body(
            asked.endpoint,
            file.id,
            metadata=asked.metadata,
            headers=_kept(request),
            lasts_s=asked.output_expires_after.seconds if asked.output_expires_after else None,
        )
        batch = self._new("batch", "openai", who, body)
        async with self._database.begin() as connection:
            await self._store.add(connection, batch)
        self._news()
        return _json(show_batch(batch, {}))

    def _new(self, prefix: str, api: Api, who: Principal, body: Body) -> Batch:
        now = now_ms()
        lasts_ms = max(WINDOW_MS, self._settings.days * _DAY_MS)
        id = ordered_id(prefix)
        return Batch(
            id,
            who.organisation,
            who.project,
            who.key,
            api,
            "validating",
            body,
            "",
            "",
            now,
            now + WINDOW_MS,
            now + lasts_ms,
        )

    async def _batch(self, request: Request, who: Principal, api: Api) -> Batch:
        id = request.path_params["id"]
        found = await self._store.find(who.project, api, id)
        if found is None:
            raise Refused(404, "not_found", f"There is no batch {id!r} here.", param="id")
        return found

    async def _counts(self, batch: Batch) -> dict[str, int]:
        return await self._store.counts(batch.id) if batch.state in ACTIVE else batch.body.counts

    async def batch(self, request: Request, who: Principal) -> Response:
        batch = await self._batch(request, who, "openai")
        return _json(show_batch(batch, await self._counts(batch)))

    async def list_batches(self, request: Request, who: Principal) -> Response:
        limit = _number(request, "limit", 20, 100)
        after = request.query_params.get("after", "")
        found = await self._store.page(who.project, "openai", after=after, limit=limit + 1)
        shown = [show_batch(batch, await self._counts(batch)) for batch in found[:limit]]
        return _json(_listed(shown, len(found) > limit))

    async def cancel(self, request: Request, who: Principal) -> Response:
        batch = await self._cancelled(await self._batch(request, who, "openai"))
        return _json(show_batch(batch, await self._counts(batch)))

    async def _cancelled(self, batch: Batch) -> Batch:
        """Cancel a batch: what has not begun never does. Raises `Refused` where it has ended already."""

        def how(found: Batch) -> Batch | None:
            if found.state not in ("validating", "in_progress"):
                return None
            found.body.outcome = "cancelled"
            return entered(found, "cancelling", "cancelling_at", now_ms())

        changed = await self._store.change(batch.id, how, end_as="cancelled")
        if changed.state not in ACTIVE:
            raise Refused(409, "batch_ended", f"The batch has ended already: it is {changed.state}.")
        self._news()
        return changed

    # Anthropic's batches.

    async def create_messages(self, request: Request, who: Principal) -> Response:
        self._may_keep(who)
        asked = _read(await self._relay.body_of(request.scope, request.receive), _NewMessageBatch).requests
        if len(asked) > self._settings.lines:
            raise BadRequest(
                "too_many_requests", f"A batch has at most {self._settings.lines} requests.", param="requests"
            )
        seen: set[str] = set()
        for one in asked:
            if one.custom_id in seen:
                raise BadRequest(
                    "duplicate_custom_id", f"The custom_id {one.custom_id!r} stands twice.", param="requests"
                )
            seen.add(one.custom_id)
        now = now_ms()
        purpose = "message_batch"
        file = File(ordered_id("file"), who.project, purpose, purpose, 0, now, now + self._settings.days * _DAY_MS)
        body = Body("/v1/messages", file.id, total=len(asked), headers=_kept(request))
        batch = self._new("msgbatch", "anthropic", who, body)
        await self._keep(file, _as_lines(asked), batch)
        self._news()
        return self._shown(request, batch, {})

    def _shown(self, request: Request, batch: Batch, counts: dict[str, int]) -> Response:
        return _json(show_message_batch(batch, counts, self._base(request)))

    def _base(self, request: Request) -> str:
        return (self._public_url or str(request.base_url)).rstrip("/").removesuffix("/v1")

    async def messages(self, request: Request, who: Principal) -> Response:
        batch = await self._batch(request, who, "anthropic")
        return self._shown(request, batch, batch.body.counts)

    async def list_messages(self, request: Request, who: Principal) -> Response:
        limit = _number(request, "limit", 20, 1000)
        query = request.query_params
        after, before = query.get("after_id", ""), query.get("before_id", "")
        found = await self._store.page(who.project, "anthropic", after=after, before=before, limit=limit + 1)
        more = len(found) > limit
        found = found[-limit:] if before else found[:limit]
        shown = [show_message_batch(batch, batch.body.counts, self._base(request)) for batch in found]
        ends = {"first_id": found[0].id, "last_id": found[-1].id} if found else {"first_id": None, "last_id": None}
        return _json({"data": shown, "has_more": more, **ends})

    async def cancel_messages(self, request: Request, who: Principal) -> Response:
        batch = await self._cancelled(await self._batch(request, who, "anthropic"))
        return self._shown(request, batch, batch.body.counts)

    async def results(self, request: Request, who: Principal) -> Response:
        batch = await self._batch(request, who, "anthropic")
        if batch.state in ACTIVE:
            raise BadRequest("batch_not_ended", "The batch has no results until it has ended.", status=404)
        file = await self._files.find(who.project, batch.body.output_file)
        if file is None:
            raise Refused(404, "not_found", "The results of the batch are gone.")
        return self._sent(file, "application/x-jsonl")

    async def delete_messages(self, request: Request, who: Principal) -> Response:
        batch = await self._batch(request, who, "anthropic")
        if batch.state in ACTIVE:
            raise BadRequest("batch_not_ended", "The batch has not ended: cancel it, and delete it then.")
        await self._store.delete(batch.id)
        for file in (batch.body.input_file, batch.body.output_file):
            if file:
                await self._files.delete(who.project, file)
        return _json({"id": batch.id, "type": "message_batch_deleted"})


def _read(given: Any, kind: type[Any], *, strict: bool = True) -> Any:
    """Return what a caller sends as a `kind`; raise `BadRequest`."""
    try:
        if isinstance(given, bytes):
            return msgspec.json.decode(given.decode(), type=kind)
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        where = re.search(r"`\$\.([\w.\[\]]+)`|field `(\w+)`", str(error))
        param = (where[1] or where[2]) if where else None
        raise BadRequest("invalid_request", f"{error}.", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("invalid_json", "The body is no JSON.") from None


def _number(request: Request, name: str, otherwise: int, most: int) -> int:
    given = request.query_params.get(name, str(otherwise))
    if not (given.isascii() and given.isdigit() and len(given) < 9 and 1 <= int(given) <= most):
        raise BadRequest("invalid_limit", f"The `{name}` must be a number from 1 to {most}.", param=name)
    return int(given)


def _listed(shown: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {"first_id": None, "last_id": None}
    return {"object": "list", "data": shown, "has_more": more, **ends}


def _kept(request: Request) -> dict[str, str]:
    kept = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in request.headers.raw
        if name.startswith(_KEPT_HEADERS)
    }
    return {name: value for name, value in kept.items() if "\0" not in value}


async def _bounded(request: Request, most: int, patience_s: float) -> AsyncGenerator[bytes, None]:
    size = 0
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(patience_s):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise Refused(408, "request_timeout", f"Nothing of the file came for {patience_s:g} s.") from None
        except ClientDisconnect:
            raise Refused(499, "cancelled", "The caller has gone away.") from None
        if chunk is None:
            return
        size += len(chunk)
        if size > most:
            raise Refused(413, "file_too_large", f"The file is larger than {most >> 20} MB.")
        yield chunk


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK):
        yield chunk


async def _as_lines(asked: Iterable[_NewRequest]) -> AsyncIterator[bytes]:
    for one in asked:
        body = msgspec.Raw(msgspec.json.format(bytes(one.params), indent=-1))
        line = {"custom_id": one.custom_id, "method": "POST", "url": "/v1/messages", "body": body}
        yield msgspec.json.encode(line) + b"\n"
