"""What a trial took: the gateway's record of its key says it, whatever the agent says of itself."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from test_agents_under_test import DO, USAGE, tried

from lathe.evals.access import Access, RunGateway
from lathe.evals.agents.base import Cost, Served
from lathe.evals.metering import Meter, Unmetered
from lathe.models.script import Step, Words
from lathe.models.scripted import ScriptedServer

pytestmark = pytest.mark.timeout(120, func_only=True)

LIAR = f"""#!/usr/bin/python3
import json, os, subprocess, urllib.request
def ask(words):
    body = json.dumps({{"model": "model-1", "input": words}}).encode()
    headers = {{"authorization": "Bearer " + os.environ["LATHE_EVAL_KEY"], "content-type": "application/json"}}
    asked = urllib.request.Request("http://127.0.0.1:18484/v1/responses", body, headers)
    urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(asked).read()
for words in ("How is a number doubled?", "And how is it written down?", "Is that all?"):
    ask(words)
subprocess.run(["sh", "-c", {DO!r}], check=True)
print(json.dumps({{"type": "item.completed", "item": {{"type": "agent_message", "text": "Done for nothing."}}}}))
print(json.dumps({{"type": "turn.completed", "usage": {{"input_tokens": 1, "output_tokens": 1}}}}))
"""


async def test_an_agent_that_lies_about_its_tokens_is_told_right(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(LIAR)
    program.chmod(0o755)
    script = [Step(say=(Words("So."),), usage=USAGE)] * 3
    _, trial = await tried("codex", script, tmp_path, {"LATHE_EVAL_CODEX": str(program)})
    assert (trial.reward, trial.ended, trial.answer) == (1.0, "done", "Done for nothing."), trial.why
    assert trial.cost == Cost(3600, 600, 240, 3, None), "and no price is known of this model"
    assert trial.served == (Served("model-1", "model-1", 3),)


async def test_an_agent_that_no_model_answers_has_not_failed(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(LIAR)
    program.chmod(0o755)
    down = [Step(error="overloaded")] * 50
    _, trial = await tried("codex", down, tmp_path, {"LATHE_EVAL_CODEX": str(program)})
    assert (trial.verdict, trial.reward, trial.faults[0].stage) == ("fault", None, "model")
    assert trial.why.startswith("No model answered:"), trial.why


@asynccontextmanager
async def gateway(*steps: Step, environ: Mapping[str, str] | None = None) -> AsyncIterator[Access]:
    """A gateway with a dear model, a cheap one, and one that does not answer, for which the cheap one serves."""
    async with ScriptedServer(list(steps)) as server:
        upstreams = {
            "scripted": {"base_url": server.base_url, "wires": ["responses"], "key_env": ""},
            "gone": {"base_url": "http://127.0.0.1:9/v1", "wires": ["responses"], "key_env": ""},
        }
        price = {"input": 10.0, "cached_input": 1.0, "output": 100.0}
        models = {
            "dear": {"routes": [{"upstream": "scripted", "model": "dear-1"}], "aliases": ["best"], "price": price},
            "cheap": {"routes": [{"upstream": "scripted", "model": "cheap-1"}], "price": {"input": 1.0, "output": 2.0}},
            "lost": {"routes": [{"upstream": "gone", "model": "lost-1"}]},
        }
        running = RunGateway(upstreams, models, {"PATH": "/usr/bin:/bin", **(environ or {})})
        try:
            access = await running.start()
            async with Meter(access).lease("first"):  # which waits until the administration answers
                pass
            me: Any = await asked(access, "GET", "/v1/access/me")
            settings = {"settings": {"fallback": {"lost": ["cheap"]}}}
            await asked(access, "PATCH", f"/admin/v1/projects/{me['principal']['project']}", settings)
            yield access
        finally:
            await running.close()


async def asked(access: Access, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Ask a gateway, as anyone would; raise `HTTPError`."""

    def ask() -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"authorization": f"Bearer {access.key}", "content-type": "application/json"}
        request = urllib.request.Request(access.url + path, data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return dict(json.load(answer))

    return await asyncio.to_thread(ask)


async def test_cost_and_who_served_are_the_gateways() -> None:
    async with gateway(*[Step(say=(Words("So."),), usage=USAGE)] * 3) as access:
        async with Meter(access).lease("double-1.1") as lease, Meter(access).lease("double-2.1") as other:
            assert lease is not None and other is not None
            for model in ("dear", "best", "lost"):
                await asked(lease.access, "POST", "/v1/responses", {"model": model, "input": "Hi"})
            taken = await lease.taken()
            assert (await other.taken()).cost == Cost()
        assert taken.cost == Cost(3600, 600, 240, 3, pytest.approx(0.0364 + 0.00136))
        assert taken.served == (
            Served("best", "dear", 1),
            Served("dear", "dear", 1),
            Served("lost", "cheap", 1, taken.served[-1].substitution),
        )
        assert taken.served[-1].substitution.startswith("fallback:")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asked(lease.access, "POST", "/v1/responses", {"model": "dear", "input": "Hi"})


async def test_the_key_of_a_trial_is_good_for_models_only() -> None:
    async with gateway() as access, Meter(access).lease("double-1.1") as lease:
        assert lease is not None
        for method, path in (("GET", "/admin/v1/keys"), ("POST", "/admin/v1/keys"), ("GET", "/admin/v1/requests")):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                await asked(lease.access, method, path, {} if method == "POST" else None)
    with pytest.raises(Unmetered, match="keep count"):
        async with Meter(access).lease("double-1.2"):
            pass


async def test_a_gateway_of_the_persons_keeps_count_where_their_key_may_make_keys() -> None:
    async with gateway(Step(say=(Words("So."),), usage=USAGE)) as access:
        theirs = Access(access.url, access.key)
        async with Meter(theirs).lease("double-1.1") as lease:
            assert lease is not None
            await asked(lease.access, "POST", "/v1/responses", {"model": "cheap", "input": "Hi"})
            assert (await lease.taken()).served == (Served("cheap", "cheap", 1),)
        keys = (await asked(access, "GET", "/admin/v1/keys"))["data"]
        (mine,) = [one for one in keys if one["name"] == "lathe eval double-1.1"]
        assert mine["expires"] and mine["revoked"], "a run that is killed leaves no key for good"
        relay = {"scopes": ["relay"], "project": mine["project"]}
        limited = {
            "scopes": ["relay", "admin"],
            "project": mine["project"],
            "settings": {"limits": {"requests_per_minute": 9}},
        }
        for kind in (relay, limited):
            secret = (await asked(access, "POST", "/admin/v1/keys", kind))["secret"]
            async with Meter(Access(access.url, secret)).lease("double-1.2") as none:
                assert none is None, "such a key is used itself, and the agent's own words count"
    async with ScriptedServer([]) as other, Meter(Access(other.base_url.removesuffix("/v1"), "key")).lease("x") as none:
        assert none is None, "and so it is with a gateway that is not Lathe's"


async def test_what_was_under_way_when_an_agent_was_killed_is_counted() -> None:
    stalled = Step(say=(Words("word " * 200),), stall_s=100, stall_after_events=20)
    async with gateway(stalled) as access, Meter(access).lease("double-1.1") as lease:
        assert lease is not None
        where = urlsplit(access.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        body = json.dumps({"model": "dear", "input": "Hi", "stream": True}).encode()
        head = f"host: x\r\nauthorization: Bearer {lease.access.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(b"POST /v1/responses HTTP/1.1\r\n" + head.encode() + body)
        await reader.readuntil(b"word")
        writer.transport.abort()
        cost = (await lease.taken()).cost
    assert cost.requests == 1 and cost.output_tokens > 0 and cost.usd
