"""Every dialect in front of every wire, and in front of the embedded engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateways import running, table, upstream
from test_relay import PATHS, WIRES, body, events

from lathe.gateway.settings import GatewaySettings
from lathe.models.script import Call, Step, Tokens, Words
from lathe.models.scripted import ScriptedServer

SAID = Step(say=(Words("Hello there."), Call("look", '{"at":"it"}')), usage=Tokens(1000, 100, 50))
TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
TOOLS: dict[str, Any] = {
    "responses": [{"type": "function", **TOOL}],
    "chat": [{"type": "function", "function": TOOL}],
    "messages": [{"name": "look", "description": "Looks.", "input_schema": TOOL["parameters"]}],
}


@pytest.mark.parametrize("inbound", WIRES)
@pytest.mark.parametrize("wire", WIRES)
async def test_any_dialect_stands_before_any_wire(inbound: str, wire: str, tmp_path: Path) -> None:
    async with ScriptedServer([SAID], repeat=True) as server:
        settings = GatewaySettings(
            upstreams={"up": upstream(server.base_url, wire)}, models={"m": table("up")}, mend=False
        )
        async with running(settings, tmp_path) as gateway:
            for stream in (False, True):
                asked = body(inbound, stream=stream, tools=TOOLS[inbound])
                answer = await gateway.client.post(PATHS[inbound], json=asked)
                assert answer.status_code == 200, answer.text
                assert "Hello there." in answer.text.replace('"}', "") or stream
                assert "look" in answer.text
                assert answer.headers["lathe-served-model"] == "m"
                found = events(answer.text) if stream else [answer.json()]
                assert any("lathe" in str(event) for event in found)
            assert server.requests[0].wire == wire
            for record in await gateway.settled(2):
                assert (record["state"], record["wire"], record["cost"]) == ("done", inbound, 1100)


async def test_what_another_wire_cannot_do_is_said(tmp_path: Path) -> None:
    async with ScriptedServer([SAID], repeat=True) as server:
        settings = GatewaySettings(
            upstreams={"up": upstream(server.base_url, "messages")}, models={"m": table("up")}, mend=False
        )
        async with running(settings, tmp_path) as gateway:
            answer = await gateway.client.post(PATHS["chat"], json=body("chat", n=2))
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "n"
            (record,) = await gateway.settled(1)
            assert (record["state"], record["cost"]) == ("failed", 0)


@pytest.mark.parametrize("cut", [False, True])
async def test_a_stream_that_breaks_is_told_in_the_callers_dialect(cut: bool, tmp_path: Path) -> None:
    step = Step(
        say=(Words("word " * 100),), **({"cut_after_events": 6} if cut else {"error": "server", "in_stream": True})
    )
    async with ScriptedServer([step], repeat=True) as server:
        settings = GatewaySettings(
            upstreams={"up": upstream(server.base_url, "chat")}, models={"m": table("up")}, mend=False
        )
        async with running(settings, tmp_path) as gateway:
            for inbound, kind in (("messages", "error"), ("responses", "response.failed")):
                answer = await gateway.client.post(PATHS[inbound], json=body(inbound, stream=True))
                assert events(answer.text)[-1]["type"] == kind
            assert {record["state"] for record in await gateway.settled(2)} == {"failed"}


async def test_the_embedded_engine_is_served(tmp_path: Path) -> None:
    async with running(GatewaySettings(), tmp_path) as gateway:
        for inbound in WIRES:
            answer = await gateway.client.post(
                PATHS[inbound], json=body(inbound, model="mend", stream=True, tools=TOOLS[inbound])
            )
            assert answer.status_code == 200, answer.text
        assert [record["state"] for record in await gateway.settled(3)] == ["done"] * 3
