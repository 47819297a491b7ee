"""The relay: a model request from its key to its receipt.

key → principal → head of the body → decision → limits → record → guard → upstream → answer → settled record. No byte
of an answer goes out before the request is on record, and not its end before it is settled.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

import msgspec

from lathe.gateway.compacting import Sealer
from lathe.gateway.dialects import DIALECTS, BadRequest, Head, Options, estimate_tokens
from lathe.gateway.dialects.head import NO_OPTIONS
from lathe.gateway.directory import STALE_S, Directory
from lathe.gateway.exchange import MOST_TOKENS, Exchange, Request, now_ms
from lathe.gateway.front import JSON, Gone, Lines, Receive, Scope, Sink, Unreadable, read_body
from lathe.gateway.limits import MICRO, Allowance, LimitReached, Limits
from lathe.gateway.limits import Scope as Limited
from lathe.gateway.policy import Decision
from lathe.gateway.principals import Asked, Principal, key_digest
from lathe.gateway.queueing import QueueTimeout
from lathe.gateway.records import Records
from lathe.gateway.remembering import Memory, Remembering, Retention, Wish, retention_of
from lathe.gateway.safeguards import Safeguards
from lathe.gateway.serving import Answered, Failed, serve
from lathe.gateway.settings import GatewaySettings
from lathe.gateway.signing import Signer
from lathe.gateway.telemetry import Telemetry
from lathe.gateway.under_way import UnderWay
from lathe.gateway.upstreams import Served, Upstream, Upstreams
from lathe.models.provider import WireName
from lathe.protocol.errors import StorageError
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import Content, Judged, LineAnswer

_log = logging.getLogger(__name__)
_OUTPUT_TOKENS = 4096
"""Output that is set aside for a request that names no limit."""
RELAY = frozenset({"relay"})
_HEADER_CHARS = 250
_PRINTABLE = bytes(code if 32 <= code < 127 else 32 for code in range(256))
"""What callers say comes back in headers, where HTTP has no control characters."""
_RECORD_S = 5.0
"""How long a request waits for the database before it is refused, and an answer's end to be settled."""


class Refused(Exception):
    """A request that is not served; `extra` is what machines are told besides, `state` how it is on record."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        extra: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.extra = extra or {}
        self.retry_after_s = retry_after_s
        self.state = "failed"
        self.lines: Lines = ()
        self.response_id = ""


Follow: TypeAlias = Callable[[Sequence[Judged], "asyncio.Future[None]"], None]
"""What is done with decisions that are being written: see `Accounts.follow`."""


class Guard(Protocol):
    """Where monitors are plugged in."""

    async def before(self, exchange: Exchange, retention: Retention) -> None:
        """Look at a request before it is sent; raise `Refused` and `BadRequest`."""
        ...

    def cleaned(self, project: str, wire: WireName, body: bytes) -> bytes:
        """Return a body whose conversation is to be compacted, without what is set aside; raise `BadRequest`."""
        ...


class Relay:
    """Serves the model endpoints. `secret` is the installation's, for hashes of callers' own end-users."""

    def __init__(
        self,
        *,
        settings: GatewaySettings,
        upstreams: Upstreams,
        directory: Directory,
        database: Database,
        limits: Limits,
        records: Records,
        signer: Signer,
        secret: bytes,
        replica: str,
        telemetry: Telemetry,
        guard: Guard | None = None,
        follow: Follow | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.records = records
        self.telemetry = telemetry
        self._settings = settings
        self._directory = directory
        self.sealer = Sealer(secret)
        self.remembering = Remembering(database, settings.response_days, self.sealer)
        self._limits = limits
        self._signer = signer
        self._secret = secret
        self._replica = replica
        self.guard = guard
        self._follow = follow
        self.under_way = UnderWay(records)

    async def answer(self, wire: WireName, scope: Scope, receive: Receive, sink: Sink) -> None:
        """Answer one HTTP request in the words of `wire`."""
        headers = dict(scope["headers"])
        try:
            who = await self.principal(headers)
            body = await read_body(scope, receive, self._settings.body_mb << 20, self._settings.body_timeout_s)
        except Refused as refused:
            await self.refuse(wire, sink, refused)
            return
        except Unreadable as error:
            await self.refuse(wire, sink, Refused(error.status, error.code, error.message))
            return
        except Gone:
            return
        task = asyncio.current_task()
        assert task is not None
        away = asyncio.ensure_future(_gone(receive))
        away.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
        try:
            await self.relay(Request(who, wire, headers, body), sink)
        except asyncio.CancelledError:
            if not away.done() or away.cancelled():
                raise
            task.uncancel()  # the caller has gone away: that is the end of it
        finally:
            away.cancel()

    async def relay(self, request: Request, sink: Sink, memory: Memory | None = None) -> None:
        """Serve a request whose caller is known; whatever goes wrong is told in the caller's dialect.

        `memory` is what the caller's connection remembers of responses.
        """
        try:
            with self.under_way.one(request.who.key):
                await self._relay(request, sink, memory)
        except Refused as refused:
            await self.refuse(request.wire, sink, refused)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("A request failed within the gateway.")
            await self.refuse(request.wire, sink, Refused(500, "gateway_error", "The gateway itself failed."))

    async def principal(self, headers: Mapping[bytes, bytes], scopes: frozenset[str] = RELAY) -> Principal:
        """Return whose key a request has; raise `Refused`, also where the key has none of `scopes`."""
        who = await self.holder(headers)
        if not who.scopes & scopes:
            lacked = " or ".join(f"`{scope}`" for scope in sorted(scopes))
            raise Refused(403, "key_scope", f"The key may not be used to ask models: it lacks the scope {lacked}.")
        if not who.project:
            raise Refused(403, "key_without_project", "The key belongs to no project, so nobody could be charged.")
        return who

    async def holder(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Return whose key a request has, whatever it may be used for; raise `Refused`."""
        key = headers.get(b"authorization", b"")
        scheme, _, token = key.partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        if not given:
            raise Refused(401, "key_missing", "Give a key: `Authorization: Bearer KEY`, or `x-api-key: KEY`.")
        if self._directory.age_s > STALE_S and not await self._directory.assure():
            raise Refused(
                503,
                "directory_stale",
                f"The gateway has not heard from its database for {self._directory.age_s:.0f} s, "
                "so it cannot know who may do what.",
                retry_after_s=1,
            )
        who = self._directory.principal(key_digest(given.decode("latin-1")))
        if who is None:
            raise Refused(401, "key_unknown", "The key is not known here, has expired, or was revoked.")
        return who

    async def body_of(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body of a request; raise `Refused`."""
        try:
            return await read_body(scope, receive, self._settings.body_mb << 20, self._settings.body_timeout_s)
        except Unreadable as error:
            raise Refused(error.status, error.code, error.message) from None
        except Gone:
            raise Refused(499, "cancelled", "The caller has gone away.") from None

    def decide(self, who: Principal, asked: Asked) -> Decision:
        """Return what is decided of a request."""
        return self._directory.policy.decide(who, asked, down=self.upstreams.down())

    def safeguards(self, model: str) -> Safeguards | None:
        """Return the safeguards of a model, None where it has none."""
        found = self._directory.policy.models.get(model)
        return found.safeguards if found is not None else None

    def asked_of(self, who: Principal, headers: Mapping[bytes, bytes], model: str) -> Asked:
        """Return what a request for `model` asks for that has nothing but headers."""
        return self._asked(who, headers, model, NO_OPTIONS)

    def ask(self, who: Principal, headers: Mapping[bytes, bytes], head: Head) -> Asked:
        """Return what a request asks for."""
        asked = self._asked(who, headers, head.model, head.options)
        return asked._replace(end_user=self._hashed(who, head.end_user)) if head.end_user else asked

    def _asked(self, who: Principal, headers: Mapping[bytes, bytes], model: str, options: Options) -> Asked:
        no_fallback = options.no_fallback or headers.get(b"lathe-no-fallback", b"0").lower() in (b"1", b"true")
        return Asked(
            model,
            who.surface or "api",  # as the key says: a request that named its surface would open it to itself
            now_ms(),
            self._directory.region(who.project) or self._settings.region,
            options.program or headers.get(b"lathe-program", b"").decode("latin-1"),
            options.engagement or headers.get(b"lathe-engagement", b"").decode("latin-1"),
            no_fallback,
            keeps=self.retention(who),
        )

    def _hashed(self, who: Principal, end_user: str) -> str:
        text = f"{who.organisation}/{end_user}".encode("utf-8", "replace")
        return hmac.digest(self._secret, text, hashlib.sha256).hex()[:32]

    async def _relay(self, request: Request, sink: Sink, memory: Memory | None) -> None:
        retention = self.retention(request.who)
        wish: Wish | None = None
        try:
            head = DIALECTS[request.wire].head(request.body)
            if request.wire == "responses":
                request, head, wish = await self.remembering.prepare(request, head, retention, memory)
        except BadRequest as error:
            raise Refused(error.status, error.code, error.message, param=error.param) from None
        except StorageError as error:
            raise _unrecorded(error) from None
        asked = self.ask(request.who, request.headers, head)
        decision = self.decide(request.who, asked)
        exchange = Exchange(request, head, asked, decision, self._replica)
        exchange.wish, exchange.whole = wish, retention == "full"
        if decision.outcome == "refuse":
            await self._refuse_on_record(exchange, sink)
            return
        served = self.upstreams.models[decision.model]
        exchange.info = served.info
        exchange.written = self._set_aside(exchange, served)
        try:
            answered = await self._serve(exchange, sink)
        except BaseException as error:
            state, status, code = "cancelled", 499, "cancelled"
            if isinstance(error, Refused):
                state, status, code = error.state, error.status, error.code
                error.lines = self.lines(exchange)
                error.response_id = exchange.response_id
            elif not isinstance(error, asyncio.CancelledError):
                state, status, code = "failed", 500, "gateway_error"
            elif sink.started:  # what was sent is owed for
                exchange.estimate()
            done = self._settle(exchange, state, status, code)
            if state == "refused":  # whoever is told of a decision can look it up
                await self._on_record(done)
            raise
        await self._end(exchange, answered, sink)

    async def _refuse_on_record(self, exchange: Exchange, sink: Sink) -> None:
        decision = exchange.decision
        settled = exchange.settled("refused", decision.status, decision.code, self._signer)
        self.telemetry.ended(exchange, settled)
        await self._on_record(self.records.write(exchange.opened(0), settled))
        extra = {**decision.details, "hint": decision.hint, "clause": decision.clause, **self.extension(exchange)}
        refused = Refused(decision.status, decision.code, decision.message, extra=extra)
        refused.lines = self.lines(exchange)
        await self.refuse(exchange.wire, sink, refused)

    def _set_aside(self, exchange: Exchange, served: Served) -> asyncio.Future[None]:
        """Hold what the request may take of its limits, and put it on record; raise `Refused`."""
        tokens = estimate_tokens(exchange.request.body, exchange.head.fields)
        output = min(served.info.max_output_tokens or _OUTPUT_TOKENS, _OUTPUT_TOKENS)
        if (asked := exchange.head.max_output_tokens or 0) > 0:  # less than nothing means no limit to some upstreams
            output = min(asked, served.info.max_output_tokens or MOST_TOKENS)
        price = served.info.price
        reserved = round((tokens * price.input + output * price.output) * MICRO / 1e6) if price is not None else 0
        try:
            idle = exchange.asked.surface == "batch"
            exchange.hold = self._limits.hold(self._scopes(exchange.who), tokens + output, reserved, idle=idle)
        except LimitReached as reached:
            extra = {"scope": reached.scope, **self.extension(exchange)}
            raise Refused(
                429, reached.code, reached.message, extra=extra, retry_after_s=reached.retry_after_s
            ) from None
        try:
            return self.records.write(exchange.opened(reserved), soon=False)
        except StorageError as error:
            exchange.hold.settle(0, 0)
            raise _unrecorded(error) from None

    def _scopes(self, who: Principal) -> list[Limited]:
        directory = self._directory
        project, organisation = directory.project(who.project), directory.organisation(who.organisation)
        found = []
        for name, settings in (
            (f"key:{who.key}", directory.key_settings(who.key)),
            (f"project:{who.project}", project.settings if project is not None else {}),
            (f"organisation:{who.organisation}", organisation.settings if organisation is not None else {}),
        ):
            limits = settings.get("limits")
            if limits:
                found.append(Limited(name, msgspec.convert(limits, Allowance)))
        return found

    async def _serve(self, exchange: Exchange, sink: Sink) -> Answered:
        try:
            await self._look(exchange)
            try:
                return await serve(self, exchange, sink)
            except Failed:
                if sink.started or not self._fall_back(exchange):
                    raise
                await self._look(exchange)  # the other model may take an access that the first did not
                return await serve(self, exchange, sink)
        except Failed as failure:
            raise Refused(
                failure.status,
                failure.code,
                failure.message,
                extra=self.extension(exchange),
                retry_after_s=failure.retry_after_s,
            ) from None
        except BadRequest as error:
            raise Refused(error.status, error.code, error.message, param=error.param) from None
        except QueueTimeout:
            message = f"No turn at {exchange.decision.model} came within {self._settings.queue_timeout_s:g} s."
            raise Refused(429, "queue_timeout", message, extra=self.extension(exchange), retry_after_s=5) from None

    async def _look(self, exchange: Exchange) -> None:
        if self.guard is not None:
            await self.guard.before(exchange, self.retention(exchange.who))

    def _fall_back(self, exchange: Exchange) -> bool:
        """Go over to the model that the project agreed to have when the one it asked for does not answer."""
        down = self.upstreams.down() | {exchange.decision.model}
        decision = self._directory.policy.decide(exchange.who, exchange.asked, down=down)
        if decision.outcome == "refuse":
            return False
        exchange.decision = decision
        exchange.info = self.upstreams.models[decision.model].info
        return True

    async def _end(self, exchange: Exchange, answered: Answered, sink: Sink) -> None:
        """Settle, and only then let the end of the answer go."""
        kept: list[Content | LineAnswer] = []
        if exchange.wish is not None and answered.response:
            kept += self.remembering.response(exchange, exchange.wish, answered.response)
        if exchange.whole:
            kept.append(self.remembering.whole(exchange, answered.response))
        if exchange.request.line is not None:
            answer = answered.rest.decode("utf-8", "replace").replace("\0", "")  # which PostgreSQL would refuse
            kept.append(LineAnswer(*exchange.request.line, "done", exchange.id, answered.status, answer))
        done = self._settle(exchange, answered.state, answered.status, answered.code, *kept)
        await asyncio.wait((done,), timeout=_RECORD_S)  # past that, it is written when the database is back
        if not sink.started:
            length = (b"content-length", str(len(answered.rest)).encode())
            await sink.start(answered.status, [*answered.lines, length, *self.lines(exchange)])
        await sink.end(answered.rest)

    def _settle(
        self, exchange: Exchange, state: str, status: int, code: str, *kept: Content | LineAnswer
    ) -> asyncio.Future[None]:
        settled = exchange.settled(state, status, code, self._signer)
        self.telemetry.ended(exchange, settled)
        guarded = exchange.guarded
        if guarded is None:
            return self.records.write(settled, *kept)
        guarded.drop()
        written = self.records.write(settled, *kept, *guarded.judged, *(guarded.let_in if state == "done" else ()))
        if self._follow is not None and guarded.judged:
            self._follow(guarded.judged, written)
        return written

    def retention(self, who: Principal) -> Retention:
        """Return how much the caller's project keeps."""
        project = self._directory.project(who.project)
        return retention_of(project.settings if project is not None else {}, self._settings.retention)

    async def on_record(self, exchange: Exchange) -> None:
        """Wait until a request is on record, right before the first byte of its answer goes out.

        Raises `Refused` where the database does not answer.
        """
        await self._on_record(exchange.written)
        exchange.first_byte = time.perf_counter()

    async def _on_record(self, written: asyncio.Future[None] | None) -> None:
        if written is None:
            return
        if not written.done():
            self.records.hurry()
            await asyncio.wait((written,), timeout=_RECORD_S)
        if not written.done():
            raise _unrecorded(StorageError(self.records.trouble or "The database does not answer."))
        if isinstance(error := written.exception(), StorageError):
            raise _unrecorded(error)

    def turn(self, upstream: Upstream, exchange: Exchange) -> AbstractAsyncContextManager[None]:
        """Return a turn at an upstream to hold, which raises `QueueTimeout`."""
        exchange.upstream = upstream
        idle = exchange.asked.surface == "batch"
        return upstream.turns.turn(exchange.project, self._settings.queue_timeout_s, idle=idle)

    def extension(self, exchange: Exchange) -> dict[str, object]:
        """Return what an answer's field `lathe` says."""
        decision = exchange.decision
        said: dict[str, object] = {
            "request_id": exchange.id,
            "requested_model": exchange.asked.model,
            "served_model": exchange.served or decision.model,
            "decision": decision.clause,
            "policy": decision.policy,
            "receipt": f"/v1/receipts/{exchange.id}",
        }
        if decision.substitution:
            said["substitution"] = decision.substitution
        if exchange.left_out:
            said["left_out"] = exchange.left_out
        if exchange.guarded is not None:
            said |= exchange.guarded.said
        if exchange.hold is not None and exchange.hold.warnings:
            said["warnings"] = exchange.hold.warnings
        return said

    def lines(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        """Return the headers that every answer has."""
        decision = exchange.decision
        lines = [
            (b"x-request-id", exchange.id.encode()),
            (b"lathe-requested-model", _header(exchange.asked.model)),
            (b"lathe-served-model", _header(exchange.served or decision.model)),
            (b"lathe-decision", _header(decision.clause)),
            (b"lathe-policy", decision.policy.encode()),
            (b"lathe-receipt", f"/v1/receipts/{exchange.id}".encode()),
        ]
        if decision.substitution:
            lines.append((b"lathe-substitution", _header(decision.substitution)))
        if exchange.left_out:
            lines.append((b"lathe-left-out", _header(", ".join(exchange.left_out))))
        return lines

    async def refuse(self, wire: WireName, sink: Sink, refused: Refused) -> None:
        """Tell of an error in the words of `wire`: as the answer, or as the last event of one that has begun."""
        if not refused.lines:  # else it is on record
            self.telemetry.turned_away(wire, refused.code)
        if sink.started:
            event = DIALECTS[wire].error_event(
                refused.status, refused.code, refused.message, extra=refused.extra, response_id=refused.response_id
            )
            await sink.end(event)
            return
        more = list(refused.lines)
        if refused.retry_after_s is not None:
            more.append((b"retry-after", str(max(1, round(refused.retry_after_s))).encode()))
        body = DIALECTS[wire].error(
            refused.status, refused.code, refused.message, param=refused.param, extra=refused.extra
        )
        await sink.start(refused.status, [JSON, (b"content-length", str(len(body)).encode()), *more])
        await sink.end(body)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _header(text: str) -> bytes:
    return text[:_HEADER_CHARS].encode("ascii", "backslashreplace").translate(_PRINTABLE)


def _unrecorded(error: StorageError) -> Refused:
    return Refused(503, "records_unavailable", str(error), retry_after_s=2)
