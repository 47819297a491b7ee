"""The client: one wire over one HTTP connection, with retries."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from lathe.models.base import Completed, ItemDone, ModelPart, ModelRequest, RetryScheduled
from lathe.models.catalogue import ModelInfo, cost, quirks_of
from lathe.models.endpoint import header_lines, parse_endpoint
from lathe.models.http import HttpAnswer, HttpClient, HttpPost, TransportError, read_body
from lathe.models.provider import Provider, WireName
from lathe.models.retry import (
    BrokenStream,
    EndpointError,
    Failure,
    Naming,
    RetryBudget,
    RetryPolicy,
    as_error,
    error_from_body,
    judge,
    reason,
)
from lathe.models.sse import SseOverflow, SseParser
from lathe.models.wire import CallIds, Wire, WireSetup
from lathe.protocol.errors import ConfigError

ERROR_LIMIT = 256 * 1024
"""Bytes of an error's body that are read."""


def open_http(
    provider: Provider,
    environ: Mapping[str, str],
    connect_timeout_s: float,
    idle_timeout_s: float,
    *,
    record: Path | None = None,
    replay: Path | None = None,
) -> HttpPost:
    """Return what posts to `provider`: its endpoint, one that is recorded, or a tape."""
    endpoint = parse_endpoint(provider.base_url)
    if replay is not None:
        from lathe.models.tape import TapePlayer

        return TapePlayer(replay)
    http = HttpClient(endpoint, environ, connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s)
    if record is None:
        return http
    from lathe.models.tape import TapeRecorder

    return TapeRecorder(http, record)


def make_wire(name: WireName, setup: WireSetup) -> Wire:
    """Return the wire `name`; only its own modules are imported."""
    if name == "responses":
        from lathe.models.responses import ResponsesWire

        return ResponsesWire(setup)
    if name == "chat":
        from lathe.models.chat import ChatWire

        return ChatWire(setup)
    from lathe.models.messages import MessagesWire

    return MessagesWire(setup)


class WireClient:
    """A `ModelClient`; see `provider.open_client`."""

    def __init__(
        self,
        provider: Provider,
        model: ModelInfo,
        *,
        key: str,
        environ: Mapping[str, str],
        http: HttpPost,
        retry: RetryPolicy,
    ) -> None:
        self._quirks = quirks_of(provider.quirks, model.quirks)
        self._setup = WireSetup(model, self._quirks, key)
        self._provider = provider
        self._model = model
        self._http = http
        self._policy = retry
        self._answered = False
        endpoint = parse_endpoint(provider.base_url)
        self._base_path = endpoint.path
        self._who = Naming(
            provider.name,
            f"http{'s' if endpoint.tls else ''}://{endpoint.authority}{endpoint.path}",
            model.name,
            provider.key_env,
        )
        self._own_headers = own_headers(provider.headers, environ)
        self._secrets = [value for value in (key, *_secret_values(provider.headers, environ)) if len(value) >= 4]
        self._call_ids = CallIds()
        self._take_wire(provider.wire)

    def _take_wire(self, name: WireName) -> None:
        self._wire_name = name
        self._wire = make_wire(name, self._setup)
        self._target = target_of(self._base_path, self._wire.path, self._provider.query)
        own = {header for header, _ in self._own_headers}
        auth = [(header, value) for header, value in self._wire.auth() if header not in own]
        common = [("content-type", "application/json"), ("accept", "text/event-stream"), ("user-agent", "lathe")]
        self._headers = header_lines([*common, *auth, *self._own_headers])

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelPart, None]:
        """See `base.ModelClient.stream`."""
        budget = RetryBudget(self._policy, answered_before=self._answered)
        while True:
            began, fruitful = time.monotonic(), False
            try:
                async with contextlib.aclosing(self.attempt(request)) as parts:
                    async for part in parts:
                        fruitful = True
                        yield part
                return
            except (EndpointError, BrokenStream, TransportError) as raised:
                failure = self._redacted(raised)
            scheduled = self._next_try(failure, budget, 0.0 if fruitful else time.monotonic() - began)
            yield scheduled
            await asyncio.sleep(scheduled.delay_s)

    async def aclose(self) -> None:
        """See `base.ModelClient.aclose`."""
        await self._http.aclose()

    def _next_try(self, failure: Failure, budget: RetryBudget, fruitless_s: float) -> RetryScheduled:
        """Return when to send the request again, or raise what ends it."""
        verdict = judge(failure)
        if verdict == "missing_path" and self._quirks.fallback and self._wire_name != self._quirks.fallback:
            why = f"{self._who.address} has no {self._wire.path}; Chat Completions from now on"
            self._take_wire(self._quirks.fallback)
            return RetryScheduled(attempt=1, limit=self._policy.attempts, delay_s=0.0, reason=why)
        if verdict != "retry":
            raise as_error(failure, verdict, self._who)
        wait = budget.next(failure, fruitless_s, self._who)
        return RetryScheduled(
            attempt=wait.attempt, limit=self._policy.attempts, delay_s=wait.delay_s, reason=reason(failure)
        )

    async def attempt(self, request: ModelRequest) -> AsyncGenerator[ModelPart, None]:
        """Send `request` once and yield its parts; raise a `Failure`."""
        answer = await self._http.post(self._target, self._headers, self._wire.encode(request))
        self._answered = True
        try:
            await _check(answer)
            async with contextlib.aclosing(self._decode(answer, request)) as parts:
                async for part in parts:
                    yield part
        finally:
            answer.abort()

    async def _decode(self, answer: HttpAnswer, request: ModelRequest) -> AsyncGenerator[ModelPart, None]:
        parser, decoder = SseParser(), self._wire.decoder(request)
        self._call_ids.begin(request.transcript)
        async with contextlib.aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                try:
                    events = parser.feed(chunk)
                except SseOverflow as error:
                    raise BrokenStream(str(error)) from None
                for event in events:
                    parts = decoder.feed(event)
                    if decoder.finished:
                        # Given back before `Completed` is seen: its listener need not come for more.
                        answer.release()
                    for part in parts:
                        yield self._finished(part, answer)
                    if decoder.finished:
                        return
        parts = decoder.close()
        for part in parts:
            yield self._finished(part, answer)

    def _finished(self, part: ModelPart, answer: HttpAnswer) -> ModelPart:
        """Return `part` with what no wire can know: which ids of calls are taken, what it cost, and who served it."""
        if isinstance(part, ItemDone):
            return ItemDone(self._call_ids.settle(part.item))
        if not isinstance(part, Completed):
            return part
        usage = part.usage
        if usage.cost_usd is None:
            usage = msgspec.structs.replace(usage, cost_usd=cost(usage, self._model))
        headers = answer.headers
        # An upstream behind a gateway repeats the name it was asked by: what the gateway says goes before that.
        served = headers.get("lathe-served-model") or headers.get("openai-model") or part.model
        return msgspec.structs.replace(
            part,
            usage=usage,
            model=served,
            requested=self._model.name,
            substitution=headers.get("lathe-substitution", ""),
        )

    def _redacted(self, failure: Failure) -> Failure:
        """Return `failure` without the key, which some endpoints repeat in their errors."""
        if isinstance(failure, EndpointError):
            for secret in self._secrets:
                failure.message = failure.message.replace(secret, "***")
                failure.code = failure.code.replace(secret, "***")
        return failure


async def _check(answer: HttpAnswer) -> None:
    """Raise an `EndpointError` or `BrokenStream` unless `answer` is a stream of events."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status == 200 and kind not in ("application/json", "text/html"):
        return
    body = await read_body(answer, ERROR_LIMIT)
    if answer.status >= 400:
        raise error_from_body(answer.status, answer.headers, body)
    if answer.status != 200:
        raise EndpointError(f"answered with a redirect or an odd status ({answer.status})", status=answer.status)
    error = error_from_body(answer.status, answer.headers, body)
    if kind == "application/json" and b'"error"' in body and error.message:
        raise EndpointError(error.message, code=error.code, headers=answer.headers)
    raise BrokenStream(f"the endpoint answered with {kind} where a stream of events was asked for")


def target_of(base_path: str, path: str, query: Mapping[str, str]) -> str:
    """Return where to post: `path` of a wire under the path of a base URL, whether or not that ends in `/v1`."""
    whole = base_path + path
    if base_path.endswith("/v1"):
        whole = whole.replace("/v1/v1/", "/v1/")
    return f"{whole}?{urlencode(query)}" if query else whole


def own_headers(headers: Mapping[str, str], environ: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Return a provider's headers with the values that `env:NAME` stands for; raise `ConfigError`."""
    resolved = []
    for name, value in headers.items():
        if value.startswith("env:"):
            variable = value[4:]
            if not environ.get(variable):
                raise ConfigError(f"The header {name!r} wants {variable}, which is not set.", hint=f"Set {variable}.")
            value = environ[variable]
        resolved.append((name.lower(), value))
    return resolved


def _secret_values(headers: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    return [environ.get(value[4:], "") for value in headers.values() if value.startswith("env:")]
