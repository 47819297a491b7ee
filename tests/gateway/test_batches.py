"""Batches over real HTTP with the vendors' own SDKs: what becomes of lines, and what they leave to others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateways import Running, running, table, upstream
from sqlalchemy import insert, select, update

from lathe.gateway.principals import key_digest, new_key
from lathe.gateway.settings import BatchTable, GatewaySettings
from lathe.models.script import Step, Tokens, Words
from lathe.models.scripted import RecordedRequest, ScriptedServer
from lathe.store.gateway import schema

SAID = Step(say=(Words("Hello there."),), usage=Tokens(1000, 0, 50))
PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}

BAD: list[tuple[str, dict[str, Any]]] = [
    ("GET /v1/files/%00", {}),
    ("GET /v1/files/" + "x" * 300, {}),
    ("GET /v1/files?after=%00&limit=1", {}),
    ("GET /v1/files?limit=0", {}),
    ("GET /v1/batches?limit=" + "9" * 5000, {}),
    ("GET /v1/messages/batches?before_id=%FF&after_id=%00", {}),
    ("POST /v1/batches/%00/cancel", {}),
    ("DELETE /v1/messages/batches/%00", {}),
    ("GET /v1/messages/batches/x/results", {}),
    ("POST /v1/batches", {"content": b"{"}),
    ("POST /v1/batches", {"content": b'{"input_file_id":"\xff"}'}),
    ("POST /v1/batches", {"json": []}),
    ("POST /v1/batches", {"json": {"input_file_id": "a\0", "endpoint": "\0", "completion_window": "24h"}}),
    ("POST /v1/messages/batches", {"json": {"requests": []}}),
    ("POST /v1/messages/batches", {"json": {"requests": [{"custom_id": "a b", "params": {}}]}}),
    ("POST /v1/messages/batches", {"content": b'{"requests":[{"custom_id":"a","params":' + b"[" * 9999}),
    ("POST /v1/files", {"content": b"x"}),
    ("POST /v1/files", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
    ("POST /v1/files", {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}),
    ("POST /v1/files", {"files": {"file": b"x"}, "data": {"purpose": "\0"}}),
    ("POST /v1/files", {"files": {"file": b"x"}, "data": {"purpose": "batch", "expires_after[seconds]": "1"}}),
    ("POST /v1/files", {"data": {"purpose": "batch", "file": "x"}}),
]


def body(wire: str, **rest: Any) -> dict[str, Any]:
    if wire == "responses":
        return {"model": "m", "input": "hi", **rest}
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **rest}
    return {"max_tokens": 100, **asked} if wire == "messages" else asked


def jsonl(lines: Iterable[dict[str, Any] | str]) -> bytes:
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


def line(custom_id: str, wire: str = "chat", **rest: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": PATHS[wire], "body": body(wire, **rest)}


def settings(server: ScriptedServer, *, concurrent: int | None = None, **rest: Any) -> GatewaySettings:
    up = upstream(server.base_url, "responses", "chat", "messages", concurrent=concurrent)
    return GatewaySettings(upstreams={"up": up}, models={"m": table("up")}, mend=False, **rest)


def sdk(gateway: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def make(
    client: openai.AsyncOpenAI, lines: Iterable[dict[str, Any] | str], wire: str = "chat", **rest: Any
) -> Any:
    file = await client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=PATHS[wire], completion_window="24h", **rest)


async def ended(client: openai.AsyncOpenAI, id: str) -> Any:
    for _ in range(1500):
        batch = await client.batches.retrieve(id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        await asyncio.sleep(0.01)
    raise AssertionError(batch)


async def results(client: openai.AsyncOpenAI, id: str | None) -> dict[str, Any]:
    assert id is not None
    text = (await client.files.content(id)).text
    return {found["custom_id"]: found for found in map(json.loads, text.splitlines())}


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer([SAID], repeat=True) as server:
        yield server


@pytest.fixture
async def gateway(scripted: ScriptedServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings(scripted), tmp_path) as found:
        yield found


@pytest.mark.parametrize("wire", PATHS)
async def test_a_file_of_requests_comes_back_as_a_file_of_answers(gateway: Running, wire: str) -> None:
    async with sdk(gateway) as client:
        batch = await make(client, [line(f"r{n}", wire) for n in range(5)], wire, metadata={"of": "night"})
        assert batch.status in ("validating", "in_progress")
        batch = await ended(client, batch.id)
        assert (batch.status, batch.errors, batch.error_file_id, batch.model) == ("completed", None, None, "m")
        assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
        assert batch.metadata == {"of": "night"}
        answers = await results(client, batch.output_file_id)
        assert list(answers) == [f"r{n}" for n in range(5)]
        answer = answers["r3"]["response"]
        assert answer["status_code"] == 200
        assert "Hello there." in json.dumps(answer["body"])
        records = {record["id"]: record for record in gateway.requests()}
        record = records[answer["request_id"]]
        assert (record["state"], record["surface"], record["cost"]) == ("done", "batch", 1000 + 50 * 2)
        assert answer["body"]["lathe"]["receipt"] == f"/v1/receipts/{record['id']}"
        assert len(records) == 5
        listed = [file.purpose async for file in client.files.list()]
        assert listed == ["batch_output", "batch"]
        assert [found.id async for found in client.batches.list()] == [batch.id]
        assert (await client.files.delete(batch.input_file_id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(batch.input_file_id)
        assert gateway.rows("select count(*) from batch_lines") == [(0,)]


async def test_what_is_wrong_with_a_line_is_its_own_error(gateway: Running) -> None:
    lines = [line("good"), line("other", model="nothing"), line("flow", stream=True), line("unnamed", model="")]
    async with sdk(gateway) as client:
        batch = await ended(client, (await make(client, lines)).id)
        assert batch.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}
        assert list(await results(client, batch.output_file_id)) == ["good"]
        errors = await results(client, batch.error_file_id)
        found = {name: error["response"]["body"]["error"]["message"] for name, error in errors.items()}
        assert "There is no model 'nothing' here." in found["other"]
        assert "can't be streamed" in found["flow"]
        assert "names no model" in found["unnamed"]


async def test_what_is_wrong_with_a_file_fails_the_batch(gateway: Running) -> None:
    bad = [line("a"), "{oh", line("a"), {**line("b"), "url": "/v1/responses"}, {**line("c"), "method": "GET"}, {"x": 1}]
    async with sdk(gateway) as client:
        batch = await ended(client, (await make(client, bad)).id)
        assert batch.status == "failed"
        assert [(fault.line, fault.code) for fault in batch.errors.data] == [
            (2, "invalid_json_line"),
            (3, "duplicate_custom_id"),
            (4, "invalid_url"),
            (5, "invalid_method"),
            (6, "missing_required_parameter"),
        ]
        assert gateway.rows("select count(*) from requests") == [(0,)]
        for file, code in ((b"", "empty_file"), (b"\xff\n", "invalid_json_line")):
            batch_file = client.files.create(file=("in.jsonl", file), purpose="batch")
            if not file:
                with pytest.raises(openai.BadRequestError, match="empty"):
                    await batch_file
                continue
            made = await client.batches.create(
                input_file_id=(await batch_file).id, endpoint="/v1/responses", completion_window="24h"
            )
            assert (await ended(client, made.id)).errors.data[0].code == code


async def test_who_asks_wrongly_is_told_at_once(gateway: Running, scripted: ScriptedServer, tmp_path: Path) -> None:
    async with sdk(gateway) as client:
        with pytest.raises(openai.BadRequestError, match="purpose"):
            await client.files.create(file=("a", b"x"), purpose="user_data")
        with pytest.raises(openai.BadRequestError, match="no file"):
            await client.batches.create(input_file_id="file_x", endpoint="/v1/responses", completion_window="24h")
        file = await client.files.create(file=("in.jsonl", jsonl([line("a")])), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="endpoint"):
            await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        with pytest.raises(openai.BadRequestError, match="24h"):
            await client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="1h")  # type: ignore[arg-type]
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_x")
        await gateway.set_project(retention="zero")
        for refused in (
            client.files.create(file=("in.jsonl", b"{}"), purpose="batch"),
            client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="zero retention"):
                await refused
    small = settings(scripted, batches=BatchTable(file_mb=1, project_mb=1))
    async with running(small, tmp_path / "small") as tight, sdk(tight) as client:
        with pytest.raises(openai.APIStatusError, match="larger than 1 MB") as told:
            await client.files.create(file=("in.jsonl", b"x" * (1 << 20) + b"y"), purpose="batch")
        assert told.value.status_code == 413
        await client.files.create(file=("in.jsonl", b"x" * (1 << 19)), purpose="batch")
        with pytest.raises(openai.APIStatusError, match="1 MB in all"):
            await client.files.create(file=("in.jsonl", b"x" * (1 << 20)), purpose="batch")


async def test_bad_input_is_told_in_a_sentence(scripted: ScriptedServer, tmp_path: Path, database_url: str) -> None:
    async with running(settings(scripted, database=database_url), tmp_path) as gateway:
        for path, sent in BAD:
            method, _, target = path.partition(" ")
            answer = await gateway.client.request(method, target, **sent)
            if method == "GET" and answer.status_code == 200:
                assert answer.json()["data"] == []
                continue
            assert 400 <= answer.status_code < 500, (path, sent, answer.text)
            assert answer.json()["error"]["message"].endswith("."), answer.text


async def test_message_batches_are_anthropics(gateway: Running) -> None:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        batches = client.messages.batches
        good = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
        asked: list[Any] = [
            {"custom_id": "one", "params": good},
            {"custom_id": "two", "params": {**good, "model": "nothing"}},
        ]
        batch = await batches.create(requests=asked)
        assert batch.request_counts.processing == 2
        while (batch := await batches.retrieve(batch.id)).processing_status != "ended":
            assert batch.results_url is None
            await asyncio.sleep(0.01)
        assert (batch.request_counts.succeeded, batch.request_counts.errored) == (1, 1)
        assert batch.ended_at is not None
        found = {one.custom_id: one.result async for one in await batches.results(batch.id)}
        assert found["one"].type == "succeeded"
        assert found["one"].message.content[0].text == "Hello there."  # type: ignore[union-attr]
        assert found["two"].type == "errored"
        assert found["two"].error.error.type == "not_found_error"
        assert [one.id async for one in batches.list()] == [batch.id]
        assert (await batches.delete(batch.id)).id == batch.id
        with pytest.raises(anthropic.NotFoundError):
            await batches.retrieve(batch.id)
        assert gateway.rows("select count(*) from files") == [(0,)]
        with pytest.raises(anthropic.BadRequestError, match="stands twice"):
            await batches.create(requests=[asked[0], asked[0]])


async def test_a_cancel_stops_what_has_not_begun(tmp_path: Path) -> None:
    async with (
        ScriptedServer(lambda request: Step(say=(Words("late"),), delay_s=0.3)) as server,
        running(settings(server, concurrent=2), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        batch = await make(client, [line(f"r{n}") for n in range(20)])
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        batch = await ended(client, batch.id)
        assert batch.status == "cancelled"
        done, cancelled = await results(client, batch.output_file_id), await results(client, batch.error_file_id)
        assert len(done) == len(server.requests) < 5
        assert len(cancelled) == 20 - len(done)
        assert {one["error"]["code"] for one in cancelled.values()} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError, match="ended already"):
            await client.batches.cancel(batch.id)


async def test_files_and_batches_are_their_projects_alone(gateway: Running) -> None:
    database, directory = gateway.gateway.services.database, gateway.gateway.services.directory
    other = new_key()
    async with database.begin() as connection:
        organisation = (await connection.execute(select(schema.organisations.c.id))).scalar_one()
        rest = {"organisation": organisation, "name": "other", "created": 1}
        await connection.execute(insert(schema.projects).values(id="proj_other", **rest))
        await connection.execute(
            insert(schema.keys).values(
                id="key_other", project="proj_other", digest=key_digest(other), hint="", scopes=["batch"], **rest
            )
        )
        await database.changed(connection)
    await directory.refresh()
    async with sdk(gateway) as mine, openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=other) as theirs:
        batch = await ended(mine, (await make(mine, [line("a")])).id)
        for asked in (
            theirs.files.retrieve(batch.output_file_id),
            theirs.files.content(batch.output_file_id),
            theirs.files.delete(batch.output_file_id),
            theirs.batches.retrieve(batch.id),
            theirs.batches.cancel(batch.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await asked
        assert [file async for file in theirs.files.list()] == [batch async for batch in theirs.batches.list()] == []
        with pytest.raises(openai.BadRequestError, match="no file"):
            await theirs.batches.create(
                input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        done = await ended(theirs, (await make(theirs, [line("b")])).id)
        assert done.request_counts.completed == 1


async def test_a_key_that_is_revoked_asks_nothing_more(tmp_path: Path) -> None:
    slow = Step(say=(Words("late"),), delay_s=0.2)
    async with (
        ScriptedServer([slow], repeat=True) as server,
        running(settings(server, concurrent=1), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        services = gateway.gateway.services
        batch = await make(client, [line(f"r{n}") for n in range(20)])
        while not server.requests:
            await asyncio.sleep(0.01)
        fresh = new_key()
        async with services.database.begin() as connection:
            await connection.execute(update(schema.keys).values(revoked=1))
            await services.database.changed(connection)
        await services.directory.refresh()
        asked = len(server.requests)
        while gateway.rows("select state from batches") != [("completed",)]:
            await asyncio.sleep(0.01)
        assert len(server.requests) <= asked + 1
        async with services.database.begin() as connection:
            await connection.execute(update(schema.keys).values(revoked=None, digest=key_digest(fresh)))
            await services.database.changed(connection)
        await services.directory.refresh()
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=fresh) as again:
            errors = await results(again, (await again.batches.retrieve(batch.id)).error_file_id)
        assert {one["response"]["body"]["error"]["code"] for one in errors.values()} == {"key_unknown"}
        assert len(errors) == 20 - len(server.requests)


async def test_what_was_not_asked_in_a_day_expires(tmp_path: Path) -> None:
    async with (
        ScriptedServer(lambda request: Step(say=(Words("late"),), delay_s=0.3)) as server,
        running(settings(server, concurrent=1), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        batch = await make(client, [line(f"r{n}") for n in range(20)])
        while not server.requests:
            await asyncio.sleep(0.01)
        assert (await gateway.client.get("/v1/batches")).json()["data"][0]["status"] == "in_progress"
        async with gateway.gateway.services.database.begin() as connection:
            await connection.exec_driver_sql("update batches set deadline = 1")
        batch = await ended(client, batch.id)
        assert batch.status == "expired"
        errors = await results(client, batch.error_file_id)
        assert {one["error"]["code"] for one in errors.values()} == {"batch_expired"}
        assert len(errors) + len(await results(client, batch.output_file_id)) == 20


async def test_a_batch_waits_limits_out_and_leaves_some_to_others(tmp_path: Path) -> None:
    slow = Step(say=(Words("Hello there."),), delay_s=0.3)
    async with (
        ScriptedServer([slow], repeat=True) as server,
        running(settings(server), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        await gateway.set_project(limits={"concurrent": 5})
        batch = await make(client, [line(f"r{n}") for n in range(8)])
        while (batch := await client.batches.retrieve(batch.id)).model_extra.get("lathe") is None:
            await asyncio.sleep(0.01)
        assert "4 requests under way" in batch.model_extra["lathe"]["waits_for"]
        assert (await gateway.client.post(PATHS["chat"], json=body("chat"))).status_code == 200
        batch = await ended(client, batch.id)
        assert batch.request_counts.model_dump() == {"total": 8, "completed": 8, "failed": 0}
        assert "lathe" not in batch.model_extra
        assert [record["state"] for record in gateway.requests()] == ["done"] * 9


async def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    def choose(request: RecordedRequest) -> Step:
        return SAID if request.number > 4 else Step(error="overloaded")

    async with (
        ScriptedServer(choose) as server,
        running(settings(server), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        batch = await ended(client, (await make(client, [line("a")])).id)
        assert batch.status == "completed"
        answer = (await results(client, batch.output_file_id))["a"]
        assert answer["lathe"] == {"tries": 2}
        assert [record["state"] for record in gateway.requests()] == ["failed", "done"]


async def test_a_batch_gives_way_to_whoever_asks_meanwhile(tmp_path: Path) -> None:
    slow = Step(say=(Words("Hello there."),), delay_s=0.01)
    async with (
        ScriptedServer([slow], repeat=True) as server,
        running(settings(server, concurrent=1), tmp_path) as gateway,
        sdk(gateway) as client,
    ):
        batch = await make(client, [line(f"r{n}") for n in range(200)])
        for _ in range(10):
            begun = len(server.requests)
            while len(server.requests) < begun + 3:
                await asyncio.sleep(0.005)
            at = len(server.requests)
            answer = await gateway.client.post(PATHS["chat"], json=body("chat", user="person"))
            assert answer.status_code == 200
            mine = [n for n, asked in enumerate(server.requests) if b"person" in asked.body][-1]
            assert mine - at <= 1
        batch = await ended(client, batch.id)
        assert batch.request_counts.completed == 200
