"""What endpoints do wrong, byte by byte, and what becomes of it."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
from typing import Any

import pytest
from asking import HELLO, WIRES, a_request, ask, ask_once, client_of
from loopback import LAST, Peer, Request, always, chunk, in_turn, loopback, plain, sse, stream_head, whole

from lathe.models.base import RetryScheduled, TextDelta
from lathe.models.provider import WireName
from lathe.models.retry import EndpointError, RetryPolicy, retry_after
from lathe.protocol.errors import (
    ContextOverflow,
    ExitCode,
    LatheError,
    ModelFailed,
    ModelRejected,
    ModelUnreachable,
)
from lathe.protocol.items import assistant_message
from lathe.protocol.usage import Usage

every_wire = pytest.mark.parametrize("wire", WIRES)
HELLO_ITEM = assistant_message("Hello")


@every_wire
async def test_a_whole_stream_is_an_answer(wire: WireName) -> None:
    async with loopback(always(whole(HELLO[wire]))) as place:
        outcome = await ask_once(place.base_url, wire)
    assert outcome.items == [HELLO_ITEM]
    assert outcome.text == "Hello"
    assert outcome.retries == []
    assert outcome.completed.usage == Usage(input_tokens=7, output_tokens=2)
    assert (outcome.completed.model, outcome.completed.response_id, outcome.completed.stop) == ("m", "r1", "end")


@every_wire
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_stream_cut_at_any_byte_is_asked_for_again(wire: WireName, chunked: bool) -> None:
    text = HELLO[wire]
    size = 0

    async def handler(peer: Peer, _request: Request) -> bool:
        if len(place.requests) % 2:
            body = text[:size]
            await peer.send(stream_head(chunked=chunked) + (chunk(body) if chunked and body else body))
            return False
        await peer.send(whole(text))
        return True

    async with loopback(handler) as place:
        for size in range(0, len(text), 1 if chunked else 7):
            place.requests.clear()
            client = client_of(place.base_url, wire)
            outcome = await ask(client)
            await client.aclose()
            assert outcome.items == [HELLO_ITEM]
            # The last event, or the blank line after it, may be all that is missing.
            assert len(outcome.retries) == 1 or text[:size].count(b"\n\n") >= text.count(b"\n\n") - 2
            assert outcome.completed.usage.input_tokens in (0, 7)


@every_wire
async def test_a_stream_in_single_bytes_is_the_same_answer(wire: WireName) -> None:
    answer = stream_head() + b"".join(chunk(bytes([byte])) for byte in HELLO[wire]) + LAST
    async with loopback(always(answer)) as place:
        outcome = await ask_once(place.base_url, wire)
    assert (outcome.items, outcome.text, outcome.retries) == ([HELLO_ITEM], "Hello", [])


@every_wire
async def test_the_connection_outlives_its_answers(wire: WireName) -> None:
    async with loopback(always(whole(HELLO[wire]))) as place:
        client = client_of(place.base_url, wire)
        for _ in range(3):
            await ask(client)
        await client.aclose()
        assert len(place.peers) == 1


@every_wire
async def test_a_stream_that_stalls_is_asked_for_again_after_the_idle_limit(wire: WireName) -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        if len(place.requests) == 1:
            await peer.send(stream_head() + chunk(HELLO[wire][:120]))
            await peer.gone()
            return False
        await peer.send(whole(HELLO[wire]))
        return True

    async with loopback(handler) as place:
        outcome = await ask_once(place.base_url, wire, idle_timeout_s=0.03)
    assert outcome.items == [HELLO_ITEM]
    assert [retry.reason for retry in outcome.retries] == ["nothing arrived for 0.03 s"]


GARBAGE = {
    "no json": whole(b"data: <html>oops</html>\n\n"),
    "json that is no object": whole(b"data: [1, 2]\n\ndata: 7\n\n"),
    "a page": plain(200, b"<html>Please sign in</html>", kind="text/html"),
    "a document": plain(200, {"hello": "world"}),
    "nothing": whole(b""),
    "noise": whole(bytes(range(256)) * 20),
    "not http": b"\x15\x03\x01 nonsense \r\n\r\n",
    "a half head": b"HTTP/1.1 200 OK\r\ncontent-ty",
}


@every_wire
@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_ends_as_unreachable_after_the_retries(wire: WireName, kind: str) -> None:
    async with loopback(always(GARBAGE[kind], keep=False)) as place:
        with pytest.raises(ModelUnreachable) as caught:
            await ask_once(place.base_url, wire, retry=RetryPolicy(attempts=2, base_s=0.001))
        assert len(place.requests) == 3
    assert caught.value.exit_code == ExitCode.UNREACHABLE
    assert "asked 3 times" in caught.value.message


async def test_a_stream_that_never_ends_an_event_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head())
        while True:
            await peer.send(chunk(b"x" * (1 << 20)))

    async with loopback(handler) as place:
        with pytest.raises(ModelUnreachable, match="without the end of an event"):
            await ask_once(place.base_url, retry=RetryPolicy(attempts=0))


@every_wire
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_passing_error_is_retried_and_seen(wire: WireName, status: int) -> None:
    async with loopback(in_turn(plain(status, {"error": {"message": "Busy."}}), whole(HELLO[wire]))) as place:
        outcome = await ask_once(place.base_url, wire)
    assert outcome.items == [HELLO_ITEM]
    (retry,) = outcome.retries
    assert (retry.attempt, retry.limit, retry.reason) == (1, 4, f"HTTP {status}: Busy.")


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("retry-after: 7", 7, 7),
        ("retry-after-ms: 1500\r\nretry-after: 9", 1.5, 1.5),
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
        ("retry-after: soon", 0, 0.1),
        ("retry-after: -5", 0, 0.1),
        ("retry-after: nan", 0, 0.1),
    ],
)
async def test_the_endpoints_own_wish_to_wait_is_honoured(header: str, low: float, high: float) -> None:
    async with loopback(always(plain(429, {"error": {"message": "Slow."}}, extra=f"{header}\r\n"))) as place:
        client = client_of(place.base_url)
        stream = client.stream(a_request())
        part = await anext(aiter(stream))
        await stream.aclose()  # type: ignore[attr-defined]
        await client.aclose()
    assert isinstance(part, RetryScheduled)
    assert low <= part.delay_s <= high


def test_a_date_to_wait_for_is_counted_from_now() -> None:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=900)
    failure = EndpointError("Slow.", status=429, headers={"retry-after": email.utils.format_datetime(date)})
    wait = retry_after(failure)
    assert wait is not None and 800 < wait <= 900


async def test_a_wish_to_wait_longer_than_the_budget_ends_at_once() -> None:
    async with loopback(
        always(plain(429, {"error": {"message": "Tomorrow."}}, extra="retry-after: 86400\r\n"))
    ) as place:
        with pytest.raises(ModelUnreachable) as caught:
            await ask_once(place.base_url)
        assert len(place.requests) == 1
    assert "86400 s" in caught.value.hint


async def test_an_endpoint_that_is_down_ends_within_its_small_budget() -> None:
    async with loopback(always(b"")) as place:
        url = place.base_url
    with pytest.raises(ModelUnreachable) as caught:
        await ask_once(url, retry=RetryPolicy(attempts=50, base_s=0.01, first_budget_s=0.05))
    assert "refuses connections" in caught.value.message
    assert "running" in caught.value.hint
    assert caught.value.exit_code == 4


async def test_an_endpoint_that_goes_down_later_has_the_whole_budget() -> None:
    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(whole(HELLO["chat"]))
        return False

    async with loopback(handler) as place:
        client = client_of(place.base_url, retry=RetryPolicy(attempts=6, base_s=0.002, first_budget_s=0.0))
        await ask(client)
    with pytest.raises(ModelUnreachable, match="asked 7 times"):
        await ask(client)
    await client.aclose()


CAUSES: list[tuple[int, dict[str, Any], type[LatheError], str]] = [
    (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, ModelRejected, "model_key"),
    (403, {"error": {"message": "Not allowed"}}, ModelRejected, "model_key"),
    (
        404,
        {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}},
        ModelRejected,
        "no_such_model",
    ),
    (
        404,
        {"type": "error", "error": {"type": "not_found_error", "message": "model: m"}},
        ModelRejected,
        "no_such_model",
    ),
    (404, {"detail": "Not Found"}, ModelRejected, "model_rejected"),
    (400, {"error": {"message": "Unknown parameter: 'x'."}}, ModelRejected, "model_rejected"),
    (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, ModelRejected, "model_rejected"),
    (429, {"error": {"message": "Quota.", "type": "insufficient_quota"}}, ModelRejected, "quota"),
    (402, {"error": {"message": "Insufficient credits", "code": 402}}, ModelRejected, "quota"),
    (413, {"error": {"type": "request_too_large", "message": "too large"}}, ContextOverflow, "context_overflow"),
]
OVERFLOWS = [
    {"error": {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}},
    {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 200001 > 200000"}},
    {"error": {"message": "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000"}},
    {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5000"},
    {"error": {"code": 400, "message": "request (4476 tokens) exceeds the available context size (4096 tokens)",
               "type": "exceed_context_size_error"}},
    {"error": {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}},
    {"error": {"message": "Provider error", "metadata": {"raw": '{"error":"maximum context length is 8192"}'}}},
    {"error": "The number of tokens to keep from the initial prompt is greater than the context length."},
    {"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}},
    {"error": {"message": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."}},
    {"error": {"message": "Input is too long for requested model."}},
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "code"), CAUSES)
async def test_a_final_error_is_told_once_with_its_cause(
    status: int, body: dict[str, Any], kind: type[LatheError], code: str
) -> None:
    async with loopback(always(plain(status, body))) as place:
        with pytest.raises(kind) as caught:
            await ask_once(place.base_url)
        assert len(place.requests) == 1
    assert type(caught.value) is kind
    assert caught.value.code == code


@pytest.mark.parametrize("body", OVERFLOWS)
async def test_every_dialect_of_too_long_is_an_overflow(body: dict[str, Any]) -> None:
    async with loopback(always(plain(400, body))) as place:
        with pytest.raises(ContextOverflow):
            await ask_once(place.base_url)


async def test_a_wrong_key_names_its_variable_and_never_shows_itself() -> None:
    key = "sk-very-secret-0123456789"
    body = {"error": {"message": f"Incorrect API key provided: {key}.", "code": "invalid_api_key"}}
    async with loopback(always(plain(401, body))) as place:
        with pytest.raises(ModelRejected) as caught:
            await ask_once(place.base_url, key_env="MY_KEY", environ={"MY_KEY": key})
        assert place.requests[0].header("authorization") == f"Bearer {key}"
    assert "MY_KEY" in caught.value.hint
    assert key not in str(caught.value)
    assert key not in repr(caught.value.__cause__) + repr(caught.value.__context__)


async def test_a_key_in_the_words_of_a_retry_is_blotted_out() -> None:
    key = "sk-very-secret-0123456789"
    busy = plain(503, {"error": {"message": f"no room for {key}"}})
    async with loopback(in_turn(busy, whole(HELLO["chat"]))) as place:
        headers = {"x-token": "env:TOKEN"}
        outcome = await ask_once(place.base_url, headers=headers, environ={"TOKEN": key})
        assert place.requests[0].header("x-token") == key
    assert outcome.retries[0].reason == "HTTP 503: no room for ***"


def failed(code: str) -> dict[str, Any]:
    return {"type": "response.failed", "response": {"error": {"code": code, "message": "x"}}}


IN_STREAM: list[tuple[WireName, dict[str, Any], type[LatheError] | None]] = [
    ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, None),
    ("messages", {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9"}},
     ContextOverflow),
    ("messages", {"type": "error", "error": {"type": "invalid_request_error", "message": "bad block"}}, ModelFailed),
    ("responses", failed("rate_limit_exceeded"), None),
    ("responses", failed("server_error"), None),
    ("responses", failed("invalid_prompt"), ModelFailed),
    ("responses", {"type": "error", "code": "context_length_exceeded", "message": "too long"}, ContextOverflow),
    ("responses", {"type": "error", "error": {"code": "insufficient_quota", "message": "none left"}}, ModelRejected),
    ("chat", {"error": {"code": 502, "message": "Disconnected"}, "choices": [{"finish_reason": "error"}]}, None),
    ("chat", {"error": {"code": 400, "message": "maximum context length is 10 tokens"}}, ContextOverflow),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "event", "kind"), IN_STREAM)
async def test_an_error_in_a_stream_that_began_well(
    wire: WireName, event: dict[str, Any], kind: type[LatheError] | None
) -> None:
    begun = HELLO[wire].split(b"\n\n")
    broken = whole(b"\n\n".join(begun[:2]) + b"\n\n" + sse(event))
    async with loopback(in_turn(broken, whole(HELLO[wire]))) as place:
        if kind is None:
            outcome = await ask_once(place.base_url, wire)
            assert (outcome.items, len(outcome.retries)) == ([HELLO_ITEM], 1)
        else:
            with pytest.raises(kind) as caught:
                await ask_once(place.base_url, wire)
            assert type(caught.value) is kind


async def test_the_endpoint_may_forbid_or_order_a_retry() -> None:
    never = plain(500, {"error": {"message": "Hopeless."}}, extra="x-should-retry: false\r\n")
    async with loopback(always(never)) as place:
        with pytest.raises(ModelRejected, match="Hopeless"):
            await ask_once(place.base_url)
    again = plain(400, {"error": {"message": "Odd."}}, extra="x-should-retry: true\r\n")
    async with loopback(in_turn(again, whole(HELLO["chat"]))) as place:
        assert len((await ask_once(place.base_url)).retries) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with loopback(always(plain(302, b"", extra="location: http://elsewhere.example/\r\n"))) as place:
        with pytest.raises(ModelRejected, match="302"):
            await ask_once(place.base_url)


async def test_closing_the_stream_closes_the_socket() -> None:
    left = asyncio.Event()

    async def handler(peer: Peer, _request: Request) -> bool:
        await peer.send(stream_head() + chunk(b"\n\n".join(HELLO["chat"].split(b"\n\n")[:2]) + b"\n\n"))
        await peer.gone()
        left.set()
        return False

    async with loopback(handler) as place:
        client = client_of(place.base_url)
        stream = client.stream(a_request())
        assert await anext(aiter(stream)) == TextDelta("Hel")
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(left.wait(), 5)
        await client.aclose()


async def test_an_endpoint_without_responses_is_asked_by_chat_from_then_on() -> None:
    async def handler(peer: Peer, request: Request) -> bool:
        missing = plain(404, {"detail": "Not Found"})
        await peer.send(missing if "/responses" in request.line else whole(HELLO["chat"]))
        return True

    async with loopback(handler) as place:
        client = client_of(place.base_url, "responses", quirks={"fallback": "chat"})
        first, second = await ask(client), await ask(client)
        await client.aclose()
        paths = [request.line.split()[1] for request in place.requests]
    assert (first.items, second.items) == ([HELLO_ITEM], [HELLO_ITEM])
    assert len(first.retries) == 1 and "Chat Completions" in first.retries[0].reason
    assert second.retries == []
    assert paths == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]


async def test_a_model_that_is_missing_is_no_reason_to_change_the_wire() -> None:
    body = {"error": {"message": "The model `m` does not exist.", "code": 404}}
    async with loopback(always(plain(404, body))) as place:
        with pytest.raises(ModelRejected) as caught:
            await ask_once(place.base_url, "responses", quirks={"fallback": "chat"})
    assert caught.value.code == "no_such_model"


async def test_retries_stop_at_the_time_budget() -> None:
    policy = RetryPolicy(attempts=1000, base_s=0.02, most_s=0.02, budget_s=0.1)
    async with loopback(always(plain(500, {"error": {"message": "x"}}))) as place:
        with pytest.raises(ModelUnreachable):
            await ask_once(place.base_url, retry=policy)
        assert 2 <= len(place.requests) <= 8
