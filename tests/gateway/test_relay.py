"""The relay over real HTTP: what passes through, what is charged, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from gateways import Running, running, table, upstream

from lathe.gateway.principals import key_digest
from lathe.gateway.settings import GatewaySettings, UpstreamTable
from lathe.models.script import Call, Step, Thought, Tokens, Words
from lathe.models.scripted import ScriptedServer
from lathe.store.gateway.database import Database

WIRES = ("responses", "chat", "messages")
PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
SAID = Step(say=(Thought("hm"), Words("Hello there."), Call("look", '{"at":"it"}')), usage=Tokens(1000, 100, 50))


def body(wire: str, *, stream: bool = False, model: str = "m", **rest: Any) -> dict[str, Any]:
    if wire == "responses":
        return {"model": model, "input": "hi", "stream": stream, **rest}
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream, **rest}
    return {**asked, "max_tokens": 100} if wire == "messages" else asked


def events(text: str) -> list[Any]:
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer([SAID], repeat=True) as server:
        yield server


def settings(*servers: ScriptedServer, wires: Iterable[str] = WIRES, **rest: Any) -> GatewaySettings:
    names = [f"up{number}" for number, _ in enumerate(servers)]
    ups: dict[str, UpstreamTable] = {
        name: upstream(server.base_url, *wires, idle_timeout_s=2.0) for name, server in zip(names, servers, strict=True)
    }
    return GatewaySettings(upstreams=ups, models={"m": table(*names, aliases=("also",))}, mend=False, **rest)


@pytest.fixture
async def gateway(scripted: ScriptedServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings(scripted), tmp_path) as found:
        yield found


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_passes_through_and_says_what_served_it(
    gateway: Running, scripted: ScriptedServer, wire: str, stream: bool
) -> None:
    answer = await gateway.client.post(PATHS[wire], json=body(wire, stream=stream, odd={"kept": 1}, lathe={}))
    assert answer.status_code == 200
    sent = scripted.requests[0].json()
    assert sent["odd"] == {"kept": 1}
    assert "lathe" not in sent
    last = events(answer.text)[-2 if wire == "messages" else -1] if stream else answer.json()
    own = (last["response"] if stream and wire == "responses" else last)["lathe"]
    assert (own["requested_model"], own["served_model"]) == ("m", "m")
    assert answer.headers["lathe-served-model"] == "m"
    assert answer.headers["lathe-receipt"] == own["receipt"] == f"/v1/receipts/{answer.headers['x-request-id']}"
    (record,) = gateway.requests()  # before the answer had ended
    assert (record["state"], record["status"], record["id"]) == ("done", 200, answer.headers["x-request-id"])
    assert (record["input_tokens"], record["cached_tokens"], record["output_tokens"]) == (1000, 100, 50)
    assert record["cost"] == 1000 * 1 + 50 * 2
    assert json.loads(record["receipt"])["usage"] == {"cached": 100, "input": 1000, "output": 50}
    assert {row[0] for row in gateway.rows("select cost from spend")} == {record["cost"]}
    if stream and wire == "chat":  # the caller did not ask for usage
        assert all(not event.get("usage") for event in events(answer.text))


@pytest.mark.parametrize("wire", WIRES)
async def test_who_may_not_ask_is_told_in_the_dialect(gateway: Running, wire: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as stranger:
        for headers, code in (({}, "key_missing"), ({"authorization": "Bearer lathe-x"}, "key_unknown")):
            answer = await stranger.post(PATHS[wire], json=body(wire), headers=headers)
            assert answer.status_code == 401
            error = answer.json()["error"]
            assert error["type"] == "authentication_error"
            assert error["lathe"]["code"] == code
    answer = await gateway.client.post(PATHS[wire], json=body(wire, model="nothing"))
    assert answer.status_code == 404
    assert "There is no model 'nothing' here." in answer.json()["error"]["message"]
    assert answer.headers["lathe-receipt"]
    (record,) = gateway.requests()
    assert (record["state"], record["code"], record["cost"]) == ("refused", "model_unknown", 0)


async def test_another_upstream_is_asked_before_the_first_byte_and_never_after(tmp_path: Path) -> None:
    broken = Step(status=503, body='{"error":{"message":"no","type":"server_error"}}')
    cut = Step(say=(Words("word " * 100),), cut_after_events=4)
    async with (
        ScriptedServer([broken, cut], repeat=True) as first,
        ScriptedServer([SAID], repeat=True) as second,
        running(settings(first, second), tmp_path) as gateway,
    ):
        answer = await gateway.client.post(PATHS["chat"], json=body("chat", stream=True))
        assert answer.status_code == 200
        assert "Hello there" in "".join(str(event) for event in events(answer.text))
        answer = await gateway.client.post(PATHS["chat"], json=body("chat", stream=True))
        assert events(answer.text)[-1]["error"]["code"] == "upstream_unavailable"
        assert len(second.requests) == 1
        done, failed = await gateway.settled(2)
        assert (done["state"], failed["state"], failed["cost"]) == ("done", "failed", 0)


async def test_an_upstream_that_fails_is_left_alone_until_it_is_well(tmp_path: Path) -> None:
    async with ScriptedServer([SAID], repeat=True) as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        async with running(settings(server), tmp_path) as gateway:
            await server.stop()
            for _ in range(2):
                answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
                assert answer.status_code == 502
            answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
            await server.start(port)
            breaker = gateway.gateway.relay.upstreams.all["up0"].breaker
            for _ in range(1500):
                if breaker.state == "closed":
                    break
                await asyncio.sleep(0.01)
            answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
            assert answer.status_code == 200


async def test_a_silent_upstream_is_given_up_and_the_caller_told(tmp_path: Path) -> None:
    silent = Step(say=(Words("word " * 100),), stall_s=30, stall_after_events=3)
    async with ScriptedServer([silent], repeat=True) as server:
        quick = GatewaySettings(
            upstreams={"up": upstream(server.base_url, "messages", idle_timeout_s=0.3)},
            models={"m": table("up")},
            mend=False,
        )
        async with running(quick, tmp_path) as gateway:
            answer = await gateway.client.post(PATHS["messages"], json=body("messages", stream=True))
            assert events(answer.text)[-1]["type"] == "error"
            assert events(answer.text)[-1]["error"]["lathe"]["code"] == "upstream_timeout"


async def test_a_caller_who_goes_away_ends_the_work(tmp_path: Path) -> None:
    slow = Step(say=(Words("word " * 100),), stall_s=30, stall_after_events=3)
    async with ScriptedServer([slow], repeat=True) as server, running(settings(server), tmp_path) as gateway:
        async with gateway.client.stream("POST", PATHS["chat"], json=body("chat", stream=True)) as answer:
            await anext(answer.aiter_bytes())
        (record,) = await gateway.settled(1)
        assert (record["state"], record["cost"] > 0) == ("cancelled", True)  # what was sent is owed for
        for _ in range(300):
            if not server._connections:
                break
            await asyncio.sleep(0.01)
        assert not server._connections


async def test_limits_hold_and_say_when_to_come_again(gateway: Running) -> None:
    await gateway.set_project(limits={"requests_per_minute": 2})
    for wire in ("chat", "messages"):
        assert (await gateway.client.post(PATHS[wire], json=body(wire))).status_code == 200
    for wire, kind in (("chat", "rate_limit_error"), ("messages", "rate_limit_error")):
        answer = await gateway.client.post(PATHS[wire], json=body(wire))
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, kind)
        assert 0 < int(answer.headers["retry-after"]) <= 60
    await gateway.set_project(limits={"budget": {"monthly_usd": 0.003}})
    answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
    assert answer.json()["error"]["code"] == "budget_exhausted"
    await gateway.set_project(limits={"budget": {"monthly_usd": 0.02, "soft": 0.1}})
    answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
    assert "of its budget" in answer.json()["lathe"]["warnings"][0]


async def test_responses_are_gone_on_with(gateway: Running, scripted: ScriptedServer) -> None:
    first = await gateway.client.post("/v1/responses", json=body("responses", store=True))
    id = first.json()["id"]
    asked = {"model": "m", "previous_response_id": id, "input": [{"role": "user", "content": "and now?"}]}
    second = await gateway.client.post("/v1/responses", json={**asked, "store": True, "stream": True})
    assert second.status_code == 200
    sent = scripted.requests[1].json()
    assert sent["store"] is False
    assert "previous_response_id" not in sent
    assert [item.get("type") or item.get("role") for item in sent["input"]] == [
        "message",
        "reasoning",
        "message",
        "function_call",
        "user",
    ]
    third = {**asked, "previous_response_id": events(second.text)[-1]["response"]["id"]}
    assert (await gateway.client.post("/v1/responses", json=third)).status_code == 200
    assert len(scripted.requests[2].json()["input"]) == 9
    assert (await gateway.client.get(f"/v1/responses/{id}")).json()["id"] == id
    items = (await gateway.client.get(f"/v1/responses/{id}/input_items")).json()["data"]
    assert items[0]["content"][0]["text"] == "hi"
    assert (await gateway.client.delete(f"/v1/responses/{id}")).json()["deleted"] is True
    gone = await gateway.client.post("/v1/responses", json=asked)
    assert gone.json()["error"]["code"] == "previous_response_not_found"


async def test_how_much_is_kept_is_the_projects_choice(gateway: Running) -> None:
    async def asked(**rest: Any) -> int:
        await gateway.client.post("/v1/responses", json=body("responses", **rest))
        return int(gateway.rows("select count(*) from contents")[0][0])

    assert await asked() == 0  # `metadata` keeps what the caller asks to have stored
    assert await asked(store=True) == 1
    await gateway.set_project(retention="zero")
    assert await asked(store=True) == 1
    await gateway.set_project(retention="full")
    assert await asked(store=False) == 2  # the exchange
    (kept,) = gateway.rows("select body from contents where kind = 'request'")
    assert "Hello there." in json.loads(kept[0])["answer"]


async def test_a_socket_remembers_what_nothing_stores(gateway: Running, scripted: ScriptedServer) -> None:
    await gateway.set_project(retention="zero")
    url = gateway.url.replace("http:", "ws:") + "/v1/responses"
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with websockets.connect(url, additional_headers=headers, proxy=None) as socket:

        async def turn(**rest: Any) -> list[dict[str, Any]]:
            await socket.send(json.dumps({"type": "response.create", "model": "m", **rest}))
            seen = []
            while not seen or seen[-1]["type"] not in ("response.completed", "error"):
                seen.append(json.loads(await socket.recv()))
            return seen

        first = await turn(input="hi")
        assert [event["type"] for event in first][:2] == ["response.created", "response.in_progress"]
        id = first[-1]["response"]["id"]
        assert first[-1]["response"]["lathe"]["served_model"] == "m"
        await turn(input=[{"role": "user", "content": "more"}], previous_response_id=id)
        assert len(scripted.requests[1].json()["input"]) == 5
        begun = await turn(input="before", generate=False, previous_response_id=id)
        assert begun[-1]["response"]["output"] == [] and begun[-1]["response"]["usage"]["total_tokens"] == 0
        assert len(scripted.requests) == 2
        await turn(input="now", previous_response_id=begun[-1]["response"]["id"])
        asked = scripted.requests[2].json()
        assert len(asked["input"]) == 6 and "generate" not in asked
        wrong = await turn(input="x", model="nothing")
        assert (wrong[-1]["type"], wrong[-1]["status"]) == ("error", 404)
        await socket.send("what")
        assert json.loads(await socket.recv())["error"]["code"] == "invalid_event"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url, proxy=None)
    assert refused.value.response.status_code == 401


async def test_a_conversation_is_compacted_and_gone_on_with(gateway: Running, scripted: ScriptedServer) -> None:
    items = [{"role": "user", "content": "mend it"}, {"role": "assistant", "content": "Yes."}]
    answer = await gateway.client.post("/v1/responses/compact", json={"model": "m", "input": items})
    assert answer.status_code == 200, answer.text
    compaction = answer.json()
    assert compaction["object"] == "response.compaction"
    assert [item.get("type", item.get("role")) for item in compaction["output"]] == ["user", "compaction"]
    assert "Hello" not in answer.text
    await gateway.client.post("/v1/responses", json={"model": "m", "input": compaction["output"]})
    sent = scripted.requests[-1].json()["input"]
    assert sent[1]["role"] == "developer"
    assert "Hello there." in sent[1]["content"][0]["text"]
    assert len(gateway.requests()) == 2


async def test_models_are_listed_for_both_kinds_of_client(gateway: Running) -> None:
    listed = (await gateway.client.get("/v1/models")).json()
    assert listed["data"][0]["id"] == "m"
    assert listed["data"][0]["lathe"]["open"] is True
    listed = (await gateway.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert (listed["data"][0]["type"], listed["has_more"]) == ("model", False)
    assert (await gateway.client.get("/v1/models/also")).json()["id"] == "m"
    assert (await gateway.client.get("/v1/models/nothing")).status_code == 404
    counted = await gateway.client.post("/v1/messages/count_tokens", json=body("messages"))
    assert counted.json()["input_tokens"] > 10


async def test_what_is_not_known_for_sure_lets_nobody_in(gateway: Running) -> None:
    directory = gateway.gateway.services.directory
    await gateway.gateway._stop_tasks()
    directory._fresh -= 10
    answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
    assert answer.status_code == 200  # the database was asked once more
    alive, directory._database = directory._database, Database("postgresql://nobody@127.0.0.1:9/nothing")
    directory._fresh -= 10
    answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "directory_stale")
    assert directory.principal(key_digest(gateway.key)) is not None
    await directory._database.aclose()
    directory._database = alive


async def test_a_fallback_is_agreed_shown_and_refused_on_request(scripted: ScriptedServer, tmp_path: Path) -> None:
    dead = UpstreamTable(base_url="http://127.0.0.1:9", wires=("chat",))
    settings = GatewaySettings(
        upstreams={"dead": dead, "up": upstream(scripted.base_url, *WIRES)},
        models={"m": table("dead"), "other": table("up")},
        mend=False,
    )
    async with running(settings, tmp_path) as gateway:
        assert (await gateway.client.post(PATHS["chat"], json=body("chat"))).status_code == 502  # nobody agreed to any
        await gateway.set_project(fallback={"m": ["other"]})
        answer = await gateway.client.post(PATHS["chat"], json=body("chat"))
        assert answer.status_code == 200
        assert answer.headers["lathe-requested-model"] == "m"
        assert answer.headers["lathe-served-model"] == "other"
        assert answer.json()["lathe"]["substitution"] == "fallback:model_unavailable"
        receipt = (await gateway.client.get(answer.headers["lathe-receipt"])).json()["receipt"]
        assert (receipt["requested"], receipt["served"], receipt["substitution"]) == (
            "m",
            "other",
            "fallback:model_unavailable",
        )
        answer = await gateway.client.post(PATHS["chat"], json=body("chat", lathe={"no_fallback": True}))
        assert answer.status_code in (502, 503)
        assert "substitution" not in answer.json()["error"]["lathe"]
        assert len(scripted.requests) == 1
