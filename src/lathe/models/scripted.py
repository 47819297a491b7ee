"""A model server with a script: real HTTP/1.1 and SSE on loopback, in the words of all three wires.

Tests drive the clients with it, benchmarks drive whole agents (`python -m lathe.models.scripted --calls 100`).
It is quick enough to be left out of a measurement: an answer is rendered while the client is busy with the one
before, and a request costs it about 0.1 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from lathe.models.script import WIRES, Call, Script, Step, Wire, Words, error_body, load_script
from lathe.models.script_wires import Answer, render

_ENDPOINTS: dict[str, Wire] = {"/responses": "responses", "/chat/completions": "chat", "/messages": "messages"}
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_INCLUDE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_HAS_TOOLS = re.compile(rb'"tools"\s*:\s*\[\s*\{')
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class RecordedRequest:
    """A request to a model endpoint, as it came.

    Times are seconds of `perf_counter`: `first_byte` and `received` (its first and last byte read),
    `reply_first` and `reply_last` (0.0 until that byte was handed to the kernel). `number` counts model
    requests from 0; a side answer has -1. `cut` says that the client went away before the reply was whole.
    """

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.wire: Wire = "responses"
        self.number = -1
        self.first_byte = 0.0
        self.received = 0.0
        self.reply_first = 0.0
        self.reply_last = 0.0
        self.cut = False
        self._json: Any = None

    def json(self) -> Any:
        """Return the body's JSON, decoded once; raise `msgspec.DecodeError`."""
        if self._json is None:
            self._json = msgspec.json.decode(self.body)
        return self._json


Steps: TypeAlias = Iterable[Step] | Callable[[RecordedRequest], Step]


class _Play(NamedTuple):
    """Bytes to send, each after a wait in seconds; `close` ends the connection after the last."""

    sends: list[tuple[float, bytes]]
    close: bool = False


class ScriptedServer:
    """Serves a script on 127.0.0.1; an asynchronous context manager.

    `steps` is the answers in order, or a function that is given each request and returns its answer. Past
    the end of the list the last step goes on with `repeat`, and otherwise the server answers 400. With
    `side_answers` a request that offers no tools (a title, a summary) gets a plain sentence and no step.
    With `record` each model request's body is written there as `NNNN.json`.
    """

    def __init__(
        self,
        steps: Steps = (),
        *,
        repeat: bool = False,
        model: str = "scripted-1",
        side_answers: bool = False,
        record: Path | None = None,
    ) -> None:
        self._choose = steps if callable(steps) else None
        self._steps = () if callable(steps) else tuple(steps)
        self._repeat = repeat
        self._model = model
        self._side_answers = side_answers
        self._record = record
        self._server: asyncio.Server | None = None
        self._ready: dict[tuple[int, Wire, bool], _Play] = {}
        self._connections: set[_Connection] = set()
        self._count = 0
        self.requests: list[RecordedRequest] = []
        self.base_url = ""

    async def start(self, port: int = 0) -> None:
        """Listen on `port` (0: a free one) and set `base_url`, which ends in `/v1`."""
        loop = asyncio.get_running_loop()
        if self._record:
            self._record.mkdir(parents=True, exist_ok=True)
        for wire in WIRES:
            self._prepare(0, wire, True)
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", port)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server:
            self._server.close()
        await self.drop()
        if self._server:
            await self._server.wait_closed()

    async def drop(self) -> None:
        """Reset every open connection, as a load balancer may do between two requests."""
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the transports' own closing callbacks

    async def __aenter__(self) -> ScriptedServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def stats(self) -> dict[str, Any]:
        """Return counts, wall time and, per request, its times in ms since the first byte of the first one.

        `gap_first_ms` is from the last byte of a reply to the first byte of the next request, `gap_last_ms` to
        that request's last byte; requests that overlap the reply before them have negative gaps.
        """
        rows: list[dict[str, Any]] = []
        steps = [request for request in self.requests if request.number >= 0]
        begin = steps[0].first_byte if steps else 0.0
        before: RecordedRequest | None = None
        for request in steps:
            row: dict[str, Any] = {"number": request.number, "wire": request.wire, "body_bytes": len(request.body)}
            for name in ("first_byte", "received", "reply_first", "reply_last"):
                row[f"{name}_ms"] = round((getattr(request, name) - begin) * 1000, 4)
            if before is not None:
                row["gap_first_ms"] = round((request.first_byte - before.reply_last) * 1000, 4)
                row["gap_last_ms"] = round((request.received - before.reply_last) * 1000, 4)
            rows.append(row)
            before = request
        return {
            "requests": len(steps),
            "side_requests": len(self.requests) - len(steps),
            "first_byte_at": begin,
            "wall_ms": rows[-1]["reply_last_ms"] if rows else 0.0,
            "gap_first_ms": _summary([row["gap_first_ms"] for row in rows[1:]]),
            "gap_last_ms": _summary([row["gap_last_ms"] for row in rows[1:]]),
            "server_ms": _summary([row["reply_last_ms"] - row["received_ms"] for row in rows]),
            "rows": rows,
        }

    def answer(self, request: RecordedRequest) -> _Play:
        """Return what to send for `request`, and keep the request if it is one to a model."""
        path = request.path.partition("?")[0].rstrip("/")
        wire = next((wire for suffix, wire in _ENDPOINTS.items() if path.endswith(suffix)), None)
        if wire is None or request.method != "POST":
            return self._other(request, path)
        request.wire = wire
        self.requests.append(request)
        if self._side_answers and not _HAS_TOOLS.search(request.body):
            return self._play(Step(say=(Words("A scripted session"),)), request, -1)
        number = request.number = self._count
        self._count += 1
        if self._record:
            asyncio.get_running_loop().call_soon(self._write, number, request.body)
        if self._choose is not None:
            return self._play(self._choose(request), request, number)
        step = self._step(number)
        if step is None:
            said = f"The script has {len(self._steps)} steps, and this is request {number + 1}."
            return _document(400, {"error": {"message": said, "type": "invalid_request_error", "code": "script_over"}})
        if not _STREAM.search(request.body):
            return self._play(step, request, number)
        with_usage = wire != "chat" or bool(_INCLUDE_USAGE.search(request.body))
        asyncio.get_running_loop().call_soon(self._prepare, number + 1, wire, with_usage)
        ready = self._ready.pop((number, wire, with_usage), None)
        return ready if ready is not None else self._play(step, request, number)

    def _step(self, number: int) -> Step | None:
        if number < len(self._steps):
            return self._steps[number]
        return self._steps[-1] if self._repeat and self._steps else None

    def _prepare(self, number: int, wire: Wire, with_usage: bool) -> None:
        """Render the next answer while the client is busy with this one."""
        step = self._step(number)
        if step is not None:
            answer = render(step, wire, number, self._model, with_usage)
            self._ready[number, wire, with_usage] = _plan(step, wire, answer, streams=True)

    def _play(self, step: Step, request: RecordedRequest, number: int) -> _Play:
        with_usage = request.wire != "chat" or bool(_INCLUDE_USAGE.search(request.body))
        answer = render(step, request.wire, number, self._model, with_usage)
        return _plan(step, request.wire, answer, streams=bool(_STREAM.search(request.body)))

    def _other(self, request: RecordedRequest, path: str) -> _Play:
        if path.endswith("/models") and request.method == "GET":
            entry: dict[str, Any] = {"id": self._model, "object": "model", "type": "model", "display_name": self._model}
            entry |= {"created": 1_760_000_000, "created_at": "2025-10-09T08:53:20Z", "owned_by": "lathe"}
            ends = {"has_more": False, "first_id": self._model, "last_id": self._model}
            return _document(200, {"object": "list", "data": [entry], **ends})
        if path.endswith("/messages/count_tokens"):
            return _document(200, {"input_tokens": len(request.body) // 4})
        if path.endswith("/stats"):
            return _document(200, self.stats())
        if not path:
            return _document(200, {"object": "scripted model server"})
        return _document(404, {"error": {"message": f"There is no {path} here.", "type": "invalid_request_error"}})

    def _write(self, number: int, body: bytes) -> None:
        if self._record:
            (self._record / f"{number:04}.json").write_bytes(body)


def _summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)

    def quantile(share: float) -> float:
        return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4)

    mean = round(sum(ordered) / len(ordered), 4)
    return {"mean": mean, "median": quantile(0.5), "p95": quantile(0.95), "max": round(ordered[-1], 4)}


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _document(status: int, payload: Any, headers: dict[str, str] | None = None) -> _Play:
    body = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
    every = {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))}
    return _Play([(0.0, _head(status, every) + body)])


def _plan(step: Step, wire: Wire, answer: Answer, *, streams: bool) -> _Play:
    """Return what `step` sends, faults and all."""
    if step.body is not None:
        play = _document(step.status or 200, step.body, step.headers)
    elif step.error and not step.in_stream:
        status, payload = error_body(step.error, wire)
        play = _document(step.status or status, payload, step.headers)
    elif streams:
        return _stream(step, answer)
    else:
        play = _document(step.status or 200, answer.whole, step.headers)
    return _Play([(step.delay_s, play.sends[0][1])])


def _stream(step: Step, answer: Answer) -> _Play:
    events = list(answer.events)
    if step.garbage:
        events.insert(step.garbage_after_events, step.garbage.encode())
    if step.crlf:
        events = [event.replace(b"\n", b"\r\n") for event in events]
    cut = step.cut_after_events is not None or step.cut_after_bytes is not None
    events = events[: step.cut_after_events]
    halves = [events[: step.stall_after_events], events[step.stall_after_events :]] if step.stall_s else [events]
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **step.headers}
    headers |= {"connection": "close"} if step.until_close else {"transfer-encoding": "chunked"}
    sends: list[tuple[float, bytes]] = [(step.delay_s, _head(step.status or 200, headers))]
    left = sys.maxsize if step.cut_after_bytes is None else step.cut_after_bytes
    for half in halves:
        if half is not halves[0]:
            sends.append((step.stall_s, b""))
        blocks = half
        if step.fragment_bytes:
            text = b"".join(half)
            blocks = [text[at : at + step.fragment_bytes] for at in range(0, len(text), step.fragment_bytes)]
        for block in blocks:
            kept = block[:left]
            left -= len(kept)
            if kept:
                sends.append((0.0, kept if step.until_close else b"%x\r\n%b\r\n" % (len(kept), kept)))
    if not cut and not step.until_close:
        sends.append((0.0, b"0\r\n\r\n"))
    if not step.fragment_bytes:
        sends = _joined(sends)
    return _Play(sends, close=cut or step.until_close)


def _joined(sends: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Return `sends` with what needs no wait in one piece with what stands before it."""
    groups: list[tuple[float, list[bytes]]] = []
    for wait, data in sends:
        if wait or not groups:
            groups.append((wait, []))
        groups[-1][1].append(data)
    return [(wait, b"".join(group)) for wait, group in groups]


class _Connection(asyncio.Protocol):
    """One connection: requests one after another, kept alive (RFC 9112, as much as agents use of it)."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._first_byte = 0.0
        self._last_byte = 0.0
        self._request: RecordedRequest | None = None
        self._replied_to: RecordedRequest | None = None
        self._length = 0
        self._playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio sets TCP_NODELAY on every TCP transport, so a small answer leaves at once.
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        if self._playing:
            self._playing.cancel()
            if self._replied_to is not None:
                self._replied_to.cut = True

    def abort(self) -> None:
        if self._playing:
            self._playing.cancel()
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        if not self._buffer and self._request is None:
            self._first_byte = now
        self._last_byte = now
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._playing is None and self._transport and not self._transport.is_closing():
            if self._request is None and not self._read_head():
                return
            request = self._request
            if request is None or len(self._buffer) < self._length:
                return
            request.body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            request.first_byte, request.received = self._first_byte, self._last_byte
            self._request = None
            self._first_byte = self._last_byte  # of a request that came along with this one
            self._reply(request)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, _, rest = lines[0].partition(" ")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._request = RecordedRequest(method, rest.partition(" ")[0], headers, b"")
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit():
            self._refuse_body()
            return False
        self._length = int(length)
        if headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _refuse_body(self) -> None:
        """Close: a body must come with its length here."""
        if self._transport:
            said = b"A request body needs a Content-Length."
            self._transport.write(_head(411, {"content-length": str(len(said)), "connection": "close"}) + said)
            self._transport.close()

    def _reply(self, request: RecordedRequest) -> None:
        play = self._server.answer(request)
        self._replied_to = request
        closes = play.close or request.headers.get("connection", "").lower() == "close"
        if len(play.sends) == 1 and not play.sends[0][0] and self._transport:
            self._transport.write(play.sends[0][1])
            request.reply_first = request.reply_last = perf_counter()
            if closes:
                self._transport.close()
            return
        self._playing = asyncio.get_running_loop().create_task(self._perform(play, request, closes))

    async def _perform(self, play: _Play, request: RecordedRequest, closes: bool) -> None:
        transport = self._transport
        assert transport is not None
        for wait, data in play.sends:
            await asyncio.sleep(wait)
            if transport.is_closing():
                break
            if data:
                transport.write(data)
            request.reply_first = request.reply_first or perf_counter()
        request.reply_last = perf_counter()
        if closes:
            transport.close()
        self._playing = None
        self._advance()


def command_calls(
    count: int, *, tool: str, arguments: str, parallel: bool = False, final: str = "Done."
) -> tuple[Step, ...]:
    """Return a script of `count` calls of `tool`, one a step or all in the first, and a last word."""
    call = Call(name=tool, arguments=arguments)
    steps = (Step(say=(call,) * count),) if parallel else (Step(say=(call,)),) * count
    return (*steps, Step(say=(Words(final),)))


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the base URL is the first line on stdout."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m lathe.models.scripted", description=__doc__)
    parser.add_argument("--script", type=Path, help="a script file (JSON: steps, repeat, model)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--calls", type=int, help="without a script: this many tool calls, then a last word")
    parser.add_argument("--command", default="true", help="what each call runs")
    parser.add_argument("--tool", default="exec_command", help="the name of the tool to call")
    parser.add_argument("--argument", default="cmd", help="the argument that holds the command")
    parser.add_argument("--arguments", help="all arguments as JSON, in place of --command and --argument")
    parser.add_argument("--parallel", action="store_true", help="all calls in one answer")
    parser.add_argument("--final", default="Done.", help="the last word")
    parser.add_argument("--repeat", action="store_true", help="go on with the last step for ever")
    parser.add_argument("--side-answers", action="store_true", help="requests without tools take no step")
    parser.add_argument("--record", type=Path, help="a folder for the bodies of the requests")
    options = parser.parse_args(argv)
    if options.script:
        try:
            script = load_script(options.script.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            parser.error(f"{options.script}: {error}")
    elif options.calls is not None:
        arguments = options.arguments or msgspec.json.encode({options.argument: options.command}).decode()
        steps = command_calls(
            options.calls, tool=options.tool, arguments=arguments, parallel=options.parallel, final=options.final
        )
        script = Script(steps=steps)
    else:
        parser.error("give --script or --calls")
    server = ScriptedServer(
        script.steps,
        repeat=script.repeat or options.repeat,
        model=script.model,
        side_answers=options.side_answers,
        record=options.record,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(server, options.port))


async def _serve(server: ScriptedServer, port: int) -> None:
    import signal

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await server.start(port)
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    main()
