"""What is wrong with a request is said in its own dialect, in one sentence, and does no harm."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Models, Served, ask, scripted_settings, serving

from lathe.models.script import Step, Words

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
CHAT: dict[str, Any] = {"model": "scripted-chat", "messages": [{"role": "user", "content": "Hi"}]}
HI = Step(say=(Words("Hello"),))
DEEP = b'{"model": "scripted-chat", "messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"

BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "invalid_json"),
    "no JSON": (b"model=scripted-chat", 400, "invalid_json"),
    "JSON that is cut": (json.dumps(CHAT).encode()[:-4], 400, "invalid_json"),
    "something behind it": (json.dumps(CHAT).encode() + b"{}", 400, "invalid_json"),
    "a list": (b"[]", 400, "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(CHAT).encode(), 400, "invalid_json"),
    "UTF-16": (json.dumps(CHAT).encode("utf-16"), 400, "invalid_json"),
    "no model": (b'{"messages": []}', 400, "model_missing"),
    "a model that is a number": (b'{"model": 5}', 400, "invalid_type"),
    "a model that nobody knows": (b'{"model": "other"}', 404, "model_unknown"),
    "a model with a line break": (b'{"model": "scripted-chat\\r\\nx: y"}', 404, "model_unknown"),
    "a model that is no text": (b'{"model": "\\ud800"}', 400, "invalid_json"),
    "a model with bytes that are none": (b'{"model": "\xff"}', 400, "invalid_utf8"),
    "two models": (b'{"model": "scripted-chat", "model": "other"}', 400, "duplicate_field"),
    "two models, one disguised": (b'{"model": "scripted-chat", "m\\u006fdel": "other"}', 400, "duplicate_field"),
    "a stream that is a word": (b'{"model": "scripted-chat", "stream": "yes"}', 400, "invalid_type"),
    "a limit beyond all numbers": (b'{"model": "scripted-chat", "max_tokens": 1e999}', 400, "invalid_type"),
    "options that there are not": (b'{"model": "scripted-chat", "lathe": {"tier": "specialist"}}', 400, "invalid_type"),
}


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_wrong_is_refused_by_name(what: str, wire: str, gateway: Served, models: Models) -> None:
    body, status, code = BODIES[what]
    told = ask(gateway, PATHS[wire], body)
    assert (told.status, told.code) == (status, code), told.body
    error = json.loads(told.body)["error"]
    assert error["message"].count(". ") == 0 and "Traceback" not in error["message"]
    assert ("type" in json.loads(told.body)) == (wire == "messages")
    assert not models.requests


@pytest.mark.parametrize("limit", [-(10**30), -1, 0, 10**18, 10**30])
def test_a_limit_beyond_reason_is_the_upstreams_to_judge(limit: int, gateway: Served, models: Models) -> None:
    models.play([HI])
    mark = gateway.mark()
    assert ask(gateway, PATHS["chat"], {**CHAT, "max_tokens": limit}).status == 200
    assert models.requests[0].json()["max_tokens"] == limit
    assert [row["state"] for row in gateway.settled(mark)] == ["done"]


def test_depth_is_passed_on_or_refused_but_breaks_nothing(gateway: Served, models: Models) -> None:
    models.play([HI])
    assert ask(gateway, PATHS["chat"], DEEP).status in (200, 400)
    models.play([HI])
    assert ask(gateway, PATHS["chat"], CHAT).status == 200


KEYS: dict[str, tuple[dict[str, str], int, str]] = {
    "none": ({"authorization": ""}, 401, "key_missing"),
    "another scheme": ({"authorization": "Basic eDp5"}, 401, "key_missing"),
    "an unknown one": ({"authorization": "Bearer lathe-0123456789"}, 401, "key_unknown"),
    "an unknown one as Anthropic's": ({"authorization": "", "x_api_key": "lathe-0"}, 401, "key_unknown"),
}


@pytest.mark.parametrize("what", KEYS)
@pytest.mark.parametrize("wire", PATHS)
def test_a_key_that_opens_nothing_is_refused_before_the_body_is_read(what: str, wire: str, gateway: Served) -> None:
    lines, status, code = KEYS[what]
    told = ask(gateway, PATHS[wire], b"no JSON at all", **lines)
    assert (told.status, told.code) == (status, code)
    kind = json.loads(told.body)["error"]["type"]
    assert kind == "authentication_error"


TYPES = {"text/plain": 415, "application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415}
TYPES |= {"application/json; charset=utf-8": 200, "application/vnd.api+json": 200, "": 200, "APPLICATION/JSON": 200}


@pytest.mark.parametrize("kind", TYPES)
def test_a_body_of_another_type_is_refused(kind: str, gateway: Served, models: Models) -> None:
    models.play([HI])
    told = ask(gateway, PATHS["chat"], CHAT, content_type=kind)
    assert told.status == TYPES[kind], told.body


def test_a_compressed_body_is_refused_by_name(gateway: Served) -> None:
    told = ask(gateway, PATHS["responses"], b"\x28\xb5\x2f\xfd", content_encoding="zstd")
    assert (told.status, told.code) == (415, "unsupported_encoding")


def test_unknown_fields_go_on_and_the_gateways_own_and_its_callers_key_do_not(gateway: Served, models: Models) -> None:
    models.play([HI])
    extra = {"colour": {"a": [1, 2.50, "é"]}, "lathe": {"no_fallback": True}, "no_fallback": True}
    assert ask(gateway, PATHS["chat"], {**CHAT, **extra}, x_api_key="k", cookie="a=b").status == 200
    [sent] = models.requests
    assert sent.json() == {**CHAT, "colour": extra["colour"]}
    assert gateway.key not in str(sent.headers) and "cookie" not in sent.headers


def test_what_callers_say_comes_back_in_headers_without_control_characters(gateway: Served) -> None:
    named = {"engagement": "a\x1b\x00\r\nset-cookie: b=c" + "é" * 10_000}
    told = ask(gateway, PATHS["chat"], {**CHAT, "stream": True, "lathe": named})
    assert (told.status, told.code) == (403, "engagement_mismatch")
    assert "set-cookie" not in told.headers and told.headers["lathe-decision"].startswith("engagement:a    set-cookie")


def test_paths_and_methods_that_there_are_not_are_told_in_json(gateway: Served) -> None:
    for method, path, status in (
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/messages", 405),
        ("POST", "/v1/chat/completionz", 404),
        ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/v1/receipts/none", 404),
    ):
        told = ask(gateway, path, method=method)
        assert told.status == status, path
        assert told.headers["content-type"].startswith("application/json") and told.code


# What is below JSON: bytes on a connection.


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, scripted_models: Models) -> Iterator[Served]:
    """A gateway that takes a megabyte, within a second."""
    settings = scripted_settings(scripted_models, "body_mb = 1\nbody_timeout_s = 1.0")
    with serving(tmp_path_factory.mktemp("strict"), settings) as served:
        yield served


def connected(served: Served) -> socket.socket:
    host, _, port = served.url.partition("://")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def head(served: Served, *lines: str, path: str = PATHS["chat"]) -> bytes:
    own = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {served.key}", "content-type: application/json"]
    return "\r\n".join([*own, *lines, "", ""]).encode()


def until_closed(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def first_line(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n" not in data and (chunk := connection.recv(65536)):
        data += chunk
    return data.partition(b"\r\n")[0]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def test_a_body_that_is_too_large_is_refused_without_being_read(strict: Served) -> None:
    with connected(strict) as announced:
        announced.sendall(head(strict, "content-length: 50000000") + b"{" + b" " * 1000)
        assert status_of(first_line(announced)) == 413
    with connected(strict) as unannounced:
        unannounced.sendall(head(strict, "transfer-encoding: chunked"))
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                unannounced.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert status_of(first_line(unannounced)) == 413


def test_a_body_that_does_not_come_is_refused_in_time(strict: Served) -> None:
    for begun in (b"", b'{"model": '):
        with connected(strict) as slow:
            slow.sendall(head(strict, "content-length: 500") + begun)
            assert status_of(first_line(slow)) == 408


def test_a_body_that_drips_is_refused_in_time(strict: Served) -> None:
    began = time.monotonic()
    with connected(strict) as slow, contextlib.suppress(ConnectionError):
        slow.sendall(head(strict, "content-length: 5000"))
        slow.setblocking(False)
        while time.monotonic() - began < 30:
            slow.send(b" ")
            time.sleep(0.05)
            try:
                said = slow.recv(100)
            except BlockingIOError:
                continue
            assert status_of(said) == 408
            return
    pytest.fail("the gateway went on waiting")


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n{}"])
def test_broken_chunks_are_refused(body: bytes, strict: Served, models: Models) -> None:
    with connected(strict) as broken, contextlib.suppress(ConnectionError):
        broken.sendall(head(strict, "transfer-encoding: chunked") + body)
        broken.shutdown(socket.SHUT_WR)
        answer = until_closed(broken)
        assert not answer or status_of(answer) in (400, 408, 413), answer
    assert not models.requests


def test_two_lengths_that_contradict_each_other_are_refused(strict: Served, models: Models) -> None:
    body = json.dumps(CHAT).encode()
    for lines in (
        (f"content-length: {len(body)}", "transfer-encoding: chunked"),
        (f"content-length: {len(body)}", "content-length: 3"),
    ):
        with connected(strict) as smuggled, contextlib.suppress(ConnectionError):
            smuggled.sendall(head(strict, *lines) + body)
            smuggled.shutdown(socket.SHUT_WR)
            assert status_of(until_closed(smuggled)) == 400
    assert not models.requests


def test_requests_sent_one_after_the_other_without_waiting_are_answered_in_turn(
    gateway: Served, models: Models
) -> None:
    models.play(lambda request: Step(say=(Words(request.json()["messages"][0]["content"]),)))
    asked = [json.dumps({**CHAT, "messages": [{"role": "user", "content": f"word{n}"}]}).encode() for n in range(5)]
    sent = [head(gateway, f"content-length: {len(each)}") + each for each in asked[:-1]]
    last = head(gateway, f"content-length: {len(asked[-1])}", "connection: close") + asked[-1]
    with connected(gateway) as pipelined:
        pipelined.sendall(b"".join([*sent, last]))
        answer = until_closed(pipelined).decode()
    assert answer.count("HTTP/1.1 200") == 5
    places = [answer.index(f'"word{number}"') for number in range(5)]
    assert places == sorted(places)


# A caller that goes away.


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wire", PATHS)
def test_a_caller_that_goes_away_takes_its_request_with_it(
    wire: str, stream: bool, gateway: Served, models: Models
) -> None:
    long = Words("word " * 200)
    models.play([Step(say=(long,), stall_s=50, stall_after_events=20) if stream else Step(say=(long,), delay_s=50)])
    mark = gateway.mark()
    asked: dict[str, Any] = {"model": f"scripted-{wire}", "stream": stream, "max_tokens": 1000, "input": "Hi"}
    body = json.dumps({**CHAT, **asked}).encode()
    with connected(gateway) as leaving:
        leaving.sendall(head(gateway, f"content-length: {len(body)}", path=PATHS[wire]) + body)
        if stream:
            seen = b""
            while b"word" not in seen:
                seen += leaving.recv(65536)
        while not models.requests or not gateway.requests(mark):
            time.sleep(0.01)
    while not models.requests[0].cut:
        time.sleep(0.01)
    [row] = gateway.settled(mark)
    assert (row["state"], row["status"]) == ("cancelled", 499)
    # What came until then is owed for; how much that was is said at the end alone, so it is reckoned.
    assert (row["input_tokens"] > 0, row["output_tokens"] > 0, row["cost"] > 0) == (stream, stream, stream)
