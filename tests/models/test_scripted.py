"""The scripted server itself: what goes over its sockets."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lathe.models.script import Call, Script, Step, Thought, Wire, Words, load_script
from lathe.models.scripted import RecordedRequest, ScriptedServer, command_calls
from lathe.protocol.codec import encode

PATHS: dict[Wire, str] = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}


class Line:
    """A raw connection, so that nothing of Lathe's own client stands between the test and the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, path: str, body: bytes = b'{"stream":true}', method: str = "POST") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        return await self.read()

    async def read(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        if "content-length" in head:
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            return status, await self.reader.readexactly(length)
        if "chunked" not in head:
            return status, await self.reader.read()
        text = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            text += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, text


@asynccontextmanager
async def line_to(server: ScriptedServer) -> AsyncIterator[Line]:
    port = int(server.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def event_names(text: bytes) -> list[str]:
    return [line[7:].decode() for line in text.split(b"\n") if line.startswith(b"event: ")]


async def test_one_connection_serves_many_requests_on_all_wires() -> None:
    async with ScriptedServer([Step(say=(Words("hello"),))], repeat=True) as server, line_to(server) as line:
        for wire, path in PATHS.items():
            for _ in range(2):
                status, text = await line.ask(path)
                assert status == 200
                assert b"hello" in text
            assert server.requests[-1].wire == wire
    assert [request.number for request in server.requests] == [0, 1, 2, 3, 4, 5]


async def test_an_answer_that_was_rendered_ahead_equals_one_that_was_not() -> None:
    steps = [Step(say=(Thought("hm", "enc"), Words("é" * 50), Call("f", '{"a": 1}'))), Step(say=(Words("end"),))]
    for path in PATHS.values():
        async with ScriptedServer(steps) as ahead, line_to(ahead) as line:
            first = [await line.ask(path) for _ in steps]
        async with ScriptedServer(lambda request: steps[request.number]) as late, line_to(late) as line:
            second = [await line.ask(path) for _ in steps]
        assert first == second


async def test_a_request_in_many_pieces_and_two_requests_in_one_are_both_read() -> None:
    request = b'POST /v1/messages HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"stream":true}'
    async with ScriptedServer([Step(say=(Words("w"),))], repeat=True) as server, line_to(server) as line:
        for byte in request:
            line.writer.write(bytes([byte]))
            await line.writer.drain()
        assert (await line.read())[0] == 200
        line.writer.write(request + request)
        assert (await line.read())[0] == 200
        assert (await line.read())[0] == 200
    assert [recorded.body for recorded in server.requests] == [b'{"stream":true}'] * 3
    assert all(recorded.first_byte <= recorded.received <= recorded.reply_last for recorded in server.requests)


async def test_a_request_that_asks_for_no_stream_gets_one_document() -> None:
    steps = [Step(say=(Words("hi"), Call("f", '{"a":1}')))]
    answers = {}
    for wire, path in PATHS.items():
        async with ScriptedServer(steps) as server, line_to(server) as line:
            answers[wire] = json.loads((await line.ask(path, b"{}"))[1])
    assert answers["responses"]["output"][1]["arguments"] == '{"a":1}'
    assert answers["chat"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert answers["messages"]["content"][1]["input"] == {"a": 1}


async def test_chat_reports_usage_only_to_those_who_ask() -> None:
    async with ScriptedServer([Step()], repeat=True) as server, line_to(server) as line:
        without = await line.ask(PATHS["chat"])
        with_it = await line.ask(PATHS["chat"], b'{"stream": true, "stream_options": {"include_usage": true}}')
    assert b"usage" not in without[1]
    assert b'"prompt_tokens":100' in with_it[1]


async def test_an_error_speaks_the_dialect_of_its_endpoint() -> None:
    async with ScriptedServer([Step(error="context_length")], repeat=True) as server, line_to(server) as line:
        for wire in ("responses", "chat"):
            status, body = await line.ask(PATHS[wire])
            assert (status, json.loads(body)["error"]["code"]) == (400, "context_length_exceeded")
        status, body = await line.ask(PATHS["messages"])
    assert status == 400
    assert "prompt is too long" in json.loads(body)["error"]["message"]


async def test_an_error_in_a_stream_is_its_last_event() -> None:
    async with (
        ScriptedServer([Step(say=(Words("half"),), error="server", in_stream=True)], repeat=True) as server,
        line_to(server) as line,
    ):
        assert event_names((await line.ask(PATHS["responses"]))[1])[-1] == "response.failed"
        assert event_names((await line.ask(PATHS["messages"]))[1])[-1] == "error"
        assert b'"error":{' in (await line.ask(PATHS["chat"]))[1].strip().rpartition(b"\n\n")[2]


async def test_a_cut_stream_ends_in_the_middle_of_the_text() -> None:
    async with ScriptedServer([Step(say=(Words("hello"),), cut_after_bytes=40)]) as server, line_to(server) as line:
        with pytest.raises(asyncio.IncompleteReadError):
            await line.ask(PATHS["chat"])
    async with (
        ScriptedServer([Step(say=(Words("hello"),), cut_after_events=3, until_close=True)]) as server,
        line_to(server) as line,
    ):
        _, text = await line.ask(PATHS["responses"])
    assert event_names(text) == ["response.created", "response.in_progress", "response.output_item.added"]


async def test_fragments_and_stalls_change_no_byte_of_the_text() -> None:
    whole = Step(say=(Words("naïve 🦀 text"),))
    strange = Step(say=whole.say, fragment_bytes=3, stall_s=0.001, stall_after_events=4, delay_s=0.001)
    texts = []
    for step in (whole, strange):
        async with ScriptedServer([step]) as server, line_to(server) as line:
            texts.append((await line.ask(PATHS["responses"]))[1])
    assert texts[0] == texts[1]


async def test_requests_without_tools_take_no_step_where_side_answers_are_on() -> None:
    calls = command_calls(1, tool="f", arguments="{}")
    async with ScriptedServer(calls, side_answers=True) as server, line_to(server) as line:
        _, title = await line.ask(PATHS["messages"])
        _, call = await line.ask(PATHS["messages"], b'{"stream":true,"tools":[{"name":"f"}]}')
        assert (await line.ask("/v1/messages/count_tokens", b"x" * 40))[1] == b'{"input_tokens":10}'
        stats = json.loads((await line.ask("/stats", b"", "GET"))[1])
    assert b"scripted session" in title
    assert b"tool_use" in call
    assert (stats["requests"], stats["side_requests"]) == (1, 1)


async def test_past_its_end_a_script_says_so() -> None:
    async with ScriptedServer([Step()]) as server, line_to(server) as line:
        await line.ask(PATHS["chat"])
        status, body = await line.ask(PATHS["chat"])
    assert (status, json.loads(body)["error"]["message"]) == (400, "The script has 1 steps, and this is request 2.")


async def test_models_are_listed_and_other_paths_are_not_there() -> None:
    async with ScriptedServer([], model="m-7") as server, line_to(server) as line:
        assert json.loads((await line.ask("/v1/models", b"", "GET"))[1])["data"][0]["id"] == "m-7"
        assert (await line.ask("/v1/embeddings"))[0] == 404


async def test_a_callable_script_sees_the_request() -> None:
    def choose(request: RecordedRequest) -> Step:
        return Step(say=(Words(request.json()["say"]),))

    async with ScriptedServer(choose) as server, line_to(server) as line:
        assert b"so be it" in (await line.ask(PATHS["chat"], b'{"stream":true,"say":"so be it"}'))[1]


def test_a_script_survives_its_file() -> None:
    script = Script(
        steps=(Step(say=(Thought("a", "b"), Words("c"), Call("d")), usage=None, error="auth"),), repeat=True
    )
    assert load_script(encode(script)) == script


async def test_the_command_line_serves_calls_records_bodies_and_ends_on_sigterm(tmp_path: Path) -> None:
    options = [
        "--calls",
        "2",
        "--command",
        "true",
        "--tool",
        "Bash",
        "--argument",
        "command",
        "--record",
        str(tmp_path),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lathe.models.scripted", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    url = (await process.stdout.readline()).decode().strip()
    port = int(url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = Line(reader, writer)
    answers = [(await line.ask("/v1/responses", b'{"stream":true,"n":%d}' % n))[1] for n in range(3)]
    stats = json.loads((await line.ask("/stats", b"", "GET"))[1])
    writer.close()
    process.terminate()
    assert await process.wait() == 0
    assert ["Bash" in answer.decode() and '{\\"command\\":\\"true\\"}' in answer.decode() for answer in answers] == [
        True,
        True,
        False,
    ]
    assert stats["requests"] == 3
    assert len(stats["rows"]) == 3
    assert [path.read_bytes()[-2:-1] for path in sorted(tmp_path.iterdir())] == [b"0", b"1", b"2"]
