from __future__ import annotations

from pathlib import Path

import pytest
from asking import HELLO, QUICK, WIRES, a_request, ask
from loopback import in_turn, loopback, plain, sse, whole

from lathe.models.base import ModelClient
from lathe.models.catalogue import ModelInfo
from lathe.models.provider import Provider, WireName, open_client
from lathe.models.tape import TapeMismatch, difference
from lathe.protocol.errors import ConfigError, StorageError
from lathe.protocol.items import assistant_message, user_message

KEY = "sk-very-secret-0123456789"


def client_of(url: str, wire: WireName, **paths: Path) -> ModelClient:
    provider = Provider("p", url, wire, key_env="K", headers={"x-more": "env:K"}, query={"key": KEY})
    return open_client(provider, ModelInfo("m"), environ={"K": KEY}, retry=QUICK, **paths)  # type: ignore[arg-type]


@pytest.mark.parametrize("wire", WIRES)
async def test_a_tape_plays_back_what_was_recorded_without_the_endpoint(wire: WireName, tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    requests = [a_request(), a_request(user_message("Hi."), assistant_message("Hello"), user_message("Again."))]
    busy = plain(429, {"error": {"message": "Busy."}}, extra="retry-after-ms: 1\r\nset-cookie: secret-cookie\r\n")
    async with loopback(in_turn(busy, whole(HELLO[wire]), whole(HELLO[wire]))) as place:
        client = client_of(place.base_url, wire, record=tape)
        live = [await ask(client, request) for request in requests]
        await client.aclose()
    client = client_of(place.base_url, wire, replay=tape)
    assert [await ask(client, request) for request in requests] == live
    assert [len(outcome.retries) for outcome in live] == [1, 0]
    text = tape.read_text()
    assert KEY not in text and "secret-cookie" not in text
    assert len(text.splitlines()) == 3


async def test_a_changed_request_is_told_by_its_place(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    async with loopback(in_turn(whole(HELLO["chat"]))) as place:
        client = client_of(place.base_url, "chat", record=tape)
        await ask(client)
        await client.aclose()
    with pytest.raises(TapeMismatch, match=r'Request 1 .*request\.messages\[1\]\.content is "Ho\.", not "Hi\."'):
        await ask(client_of(place.base_url, "chat", replay=tape), a_request(user_message("Ho.")))
    with pytest.raises(TapeMismatch, match="path is '/v1/messages'"):
        await ask(client_of(place.base_url, "messages", replay=tape))
    client = client_of(place.base_url, "chat", replay=tape)
    await ask(client)
    with pytest.raises(TapeMismatch, match="ends after 1 request"):
        await ask(client)


async def test_a_cut_stream_is_recorded_as_far_as_it_came(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    half = whole(sse({"choices": [{"delta": {"content": "Hel"}}]}))
    async with loopback(in_turn(half, whole(HELLO["chat"]))) as place:
        client = client_of(place.base_url, "chat", record=tape)
        live = await ask(client)
        await client.aclose()
    again = await ask(client_of(place.base_url, "chat", replay=tape))
    assert (again.items, len(again.retries)) == (live.items, 1)


async def test_an_answer_that_is_no_text_is_kept_byte_for_byte(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    noise = b"data: {\xff\xfe}\n\n"
    async with loopback(in_turn(whole(noise), whole(HELLO["chat"]))) as place:
        client = client_of(place.base_url, "chat", record=tape)
        await ask(client)
        await client.aclose()
    assert len((await ask(client_of(place.base_url, "chat", replay=tape))).retries) == 1


async def test_a_tape_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        client_of("http://127.0.0.1:1", "chat", replay=tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="no tape"):
        client_of("http://127.0.0.1:1", "chat", replay=tmp_path / "bad.jsonl")
    async with loopback(in_turn(whole(HELLO["chat"]))) as place:
        client = client_of(place.base_url, "chat", record=tmp_path / "no" / "folder.jsonl")
        with pytest.raises(StorageError, match="can't be written"):
            await ask(client)
        await client.aclose()


@pytest.mark.parametrize(
    ("wanted", "given", "words"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, ""),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "request.a[1].b is 3, not 2"),
        ({"a": 1}, {}, "request.a is missing"),
        ({}, {"a": "x" * 200}, 'request.a is new ("' + "x" * 76 + "...)"),
        ([1], [1, 2], "request has 2 entries, not 1"),
        (1, True, "request is true, not 1"),
        ({"a": 1}, [1], 'request is [1], not {"a":1}'),
    ],
)
def test_a_difference_is_found_at_its_place(wanted: object, given: object, words: str) -> None:
    assert difference(wanted, given, "request") == words
