"""Metrics as Prometheus reads them, and spans as a collector gets them."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from gateways import running, table, upstream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from sqlalchemy import insert, select, update

from lathe.gateway.principals import key_digest, new_key
from lathe.gateway.settings import GatewaySettings, MetricsTable
from lathe.models.script import Step, Tokens, Words
from lathe.models.scripted import ScriptedServer
from lathe.store.gateway import schema

SAID = Step(say=(Words("the secret answer"),), usage=Tokens(1000, 100, 50))
CHAT = {"model": "m", "messages": [{"role": "user", "content": "the secret question"}]}


def settings(server: ScriptedServer, **rest: Any) -> GatewaySettings:
    up = upstream(server.base_url, "chat", "responses", concurrent=4)
    return GatewaySettings(upstreams={"up": up}, models={"m": table("up")}, mend=False, **rest)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer([SAID], repeat=True) as server:
        yield server


async def samples(client: httpx2.AsyncClient, **headers: str) -> dict[tuple[str, frozenset[str]], float]:
    """Return what /metrics says, by name and the values of its labels."""
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    read = openmetrics if "openmetrics" in answer.headers["content-type"] else prometheus
    families = list(read(answer.text))
    assert all(family.documentation for family in families if family.name.startswith("lathe_"))
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value for one in families for sample in one.samples
    }


async def test_metrics_count_what_was_asked_and_what_it_came_to(scripted: ScriptedServer, tmp_path: Path) -> None:
    async with running(settings(scripted), tmp_path) as gateway:
        for stream in (False, True):
            assert (await gateway.client.post("/v1/chat/completions", json={**CHAT, "stream": stream})).is_success
        await gateway.client.post("/v1/responses", json={"model": "nothing", "input": "x"})
        await gateway.client.post("/v1/chat/completions", content=b"{")
        await gateway.set_project(limits={"requests_per_minute": 1})
        for _ in range(2):
            await gateway.client.post("/v1/responses", json={"model": "m", "input": "x"})
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
            found = await samples(gateway.client, accept=accept)

            def value(name: str, *labels: str, found: Any = found) -> float:
                return float(found[f"lathe_gateway_{name}", frozenset(labels)])

            assert value("requests_total", "chat", "m", "done", "") == 2
            assert value("requests_total", "responses", "m", "done", "") == 1
            assert value("requests_total", "responses", "", "refused", "model_unknown") == 1
            assert value("requests_total", "chat", "", "turned_away", "invalid_json") == 1
            assert value("requests_total", "responses", "", "turned_away", "rate_limit") == 1
            assert value("limits_reached_total", "rate_limit") == 1
            assert value("limits_reached_total", "budget_exhausted") == 0
            assert value("tokens_total", "chat", "m", "input") == 2000
            assert value("tokens_total", "chat", "m", "cached_input") == 200
            assert value("tokens_total", "chat", "m", "output") == 100
            assert value("cost_usd_total", "chat", "m") == pytest.approx(2 * (1000 * 1 + 50 * 2) / 1e6)
            for histogram in ("first_byte_seconds", "request_seconds"):
                assert value(f"{histogram}_count", "chat", "m") == 2
                assert value(f"{histogram}_bucket", "chat", "m", "+Inf") == 2
                assert 0 < value(f"{histogram}_sum", "chat", "m") < 60
            assert value("upstream_state", "up", "closed") == 1
            assert value("upstream_state", "up", "open") == 0
            assert value("upstream_running", "up") == value("upstream_waiting", "up", "idle") == 0
            assert (value("records_healthy"), value("records_waiting"), value("replicas_alive")) == (1, 0, 1)
            assert 0 <= value("directory_age_seconds") < 2
            assert any(name.startswith("process_resident_memory_bytes") for name, _ in found)


async def test_metrics_are_for_those_who_may_see_the_whole_installation(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    async with running(settings(scripted), tmp_path) as gateway:
        services = gateway.gateway.services
        made: dict[str, str] = {}
        async with services.database.begin() as connection:
            organisation = (await connection.execute(select(schema.organisations.c.id))).scalar_one()
            for scope in ("relay", "admin", "metrics"):
                made[scope] = new_key()
                row = {"organisation": organisation, "name": scope, "digest": key_digest(made[scope]), "hint": ""}
                await connection.execute(insert(schema.keys).values(id=scope, scopes=[scope], created=1, **row))
            await services.database.changed(connection)
        await services.directory.refresh()
        async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client:
            assert (await client.get("/metrics")).status_code == 401
            for scope, status in {"relay": 403, "admin": 403, "metrics": 200}.items():
                answer = await client.get("/metrics", headers={"authorization": f"Bearer {made[scope]}"})
                assert answer.status_code == status, scope
        key = {"owner": "machine", "name": "scraper", "scopes": ["metrics"]}
        assert (await gateway.client.post("/admin/v1/keys", json=key)).status_code == 201
        async with services.database.begin() as connection:
            await connection.execute(update(schema.users).values(roles=["admin"]))
            await services.database.changed(connection)
        await services.directory.refresh()
        assert (await gateway.client.post("/admin/v1/keys", json=key)).status_code == 403
        assert (await gateway.client.get("/metrics")).status_code == 403
    async with (
        running(settings(scripted, metrics=MetricsTable(open=True)), tmp_path / "open") as gateway,
        httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        assert (await client.get("/metrics")).status_code == 200


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.url = ""

    @property
    def spans(self) -> list[Any]:
        found = [ExportTraceServiceRequest.FromString(payload) for payload in self.payloads]
        return [
            span
            for request in found
            for one in request.resource_spans
            for scope in one.scope_spans
            for span in scope.spans
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert (scope["method"], scope["path"]) == ("POST", "/v1/traces")
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = dict(scope["headers"])
        assert headers[b"content-type"] == b"application/x-protobuf"
        self.payloads.append(gzip.decompress(body) if headers.get(b"content-encoding") == b"gzip" else body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    found = Collector()
    server = uvicorn.Server(uvicorn.Config(found, port=0, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield found
    server.should_exit = True
    await serving


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_request_is_a_span_of_the_callers_trace(
    scripted: ScriptedServer, tmp_path: Path, collector: Collector
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with running(settings(scripted), tmp_path) as gateway:
        asked = {**CHAT, "stream": True, "max_completion_tokens": 77, "metadata": {"user_id": "the secret person"}}
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        answer = await gateway.client.post("/v1/chat/completions", json=asked, headers=headers)
        id = answer.headers["x-request-id"]
        await gateway.client.post("/v1/chat/completions", json={**CHAT, "model": "nothing"})
        await gateway.client.post("/v1/chat/completions", json=CHAT, headers={"traceparent": f"00-{trace}-{parent}-00"})
        port = int(scripted.base_url.split(":")[2].split("/")[0])
        (record,) = (one for one in gateway.requests() if one["id"] == id)
    spans = {span.name: span for span in collector.spans}  # closing sent what waited
    assert set(spans) == {"chat m", "chat nothing"}
    assert len(collector.spans) == 2  # the caller's third trace is not recorded, so neither is its part here
    span = spans["chat m"]
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (trace, parent, 3)
    assert span.start_time_unix_nano == record["at"] * 1_000_000
    assert span.end_time_unix_nano == record["ended"] * 1_000_000
    said = attributes(span)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "up",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "gen_ai.request.max_tokens": 77,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "server.address": "127.0.0.1",
        "server.port": port,
        "lathe.receipt": f"/v1/receipts/{id}",
        "lathe.decision": json.loads(record["receipt"])["clause"],
        "lathe.policy": json.loads(record["receipt"])["policy"],
        "lathe.cost": pytest.approx(record["cost"] / 1e6),
    }
    assert {name: said.get(name) for name in expected} == expected
    assert said["gen_ai.response.time_to_first_chunk"] > 0
    assert "error.type" not in said
    refused = spans["chat nothing"]
    assert refused.status.code == 2
    assert not refused.parent_span_id
    assert attributes(refused)["error.type"] == "model_unknown"
    resource = ExportTraceServiceRequest.FromString(collector.payloads[0]).resource_spans[0].resource
    assert attributes(resource)["service.name"] == "lathe-gateway"
    assert not any(b"secret" in payload for payload in collector.payloads)


def test_nothing_of_it_is_imported_unasked() -> None:
    code = (
        "import sys, lathe.gateway.application; from lathe.gateway.tracing import open_spans\n"
        "assert open_spans({}, 'gw') is None\n"
        "late = {'opentelemetry', 'prometheus_client', 'google.protobuf', 'requests'}\n"
        "sys.exit(', '.join(late & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_every_metric_is_on_its_page(scripted: ScriptedServer, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway-operations.md").read_text("utf-8")
    async with running(settings(scripted), tmp_path) as gateway:
        await gateway.client.post("/v1/chat/completions", json=CHAT)
        text = (await gateway.client.get("/metrics")).text
    made = {family.name: family for family in prometheus(text) if family.name.startswith("lathe_")}
    told = dict(re.findall(r"^\| `(lathe_gateway_\w+?)(?:_total)?` \| (\w+)", page, re.MULTILINE))
    assert told == {name: family.type for name, family in made.items()}
