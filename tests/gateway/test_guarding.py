"""The guard in the gateway: what is blocked is never sent, and its thread lives on, whatever is done with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gateways import Running, running, table, upstream

from lathe.gateway.guarding.monitors import Look, Monitors
from lathe.gateway.settings import GatewaySettings
from lathe.guard.findings import Finding, Material, Part, Span
from lathe.guard.reasoner import Scene
from lathe.models.script import Call, Step, Tokens, Words
from lathe.models.scripted import ScriptedServer

WIRES = ("responses", "chat", "messages")
PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
MARK = "zebra-crossing"
"""What the monitor of these tests takes for a harmful request."""
SAID = Step(say=(Words("Well said."),), usage=Tokens(100, 10, 50))


def marked(material: Material, scene: Scene) -> Sequence[Finding]:
    texts = [*material.parts, *(Part(one.id, one.arguments, "model") for one in material.calls)]
    return [
        Finding(
            "reasoner", "malware.create", 0.95, (Span(one.id, at, at + len(MARK), one.provenance),), "It is marked."
        )
        for one in texts
        if (at := one.text.find(MARK)) >= 0
    ]


def quiet(material: Material, scene: Scene) -> Sequence[Finding]:
    return []


class Thread:
    """A conversation on one wire, sent whole each time as clients do."""

    def __init__(self, wire: str, gateway: Running, said: Sequence[tuple[str, str]] = (), **rest: Any) -> None:
        self.wire = wire
        self.gateway = gateway
        self.said = list(said)
        self.rest = rest

    def fork(self, wire: str = "") -> Thread:
        return Thread(wire or self.wire, self.gateway, self.said, **self.rest)

    def body(self) -> dict[str, Any]:
        turns = [{"role": role, "content": text} for role, text in self.said]
        if self.wire == "responses":
            return {"model": "m", "input": turns, **self.rest}
        return {"model": "m", "messages": turns, "max_tokens": 100, **self.rest}

    async def ask(self, text: str = "", **headers: str) -> Any:
        if text:
            self.said.append(("user", text))
        answer = await self.gateway.client.post(PATHS[self.wire], json=self.body(), headers=headers)
        if answer.status_code == 200:
            self.said.append(("assistant", "Well said."))
        return answer


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer([SAID], repeat=True) as server:
        yield server


@pytest.fixture
async def gateway(scripted: ScriptedServer, tmp_path: Path) -> AsyncIterator[Running]:
    async with guarded(scripted, tmp_path) as found:
        yield found


def settings(server: ScriptedServer, *wires: Any, **rest: Any) -> GatewaySettings:
    return GatewaySettings(
        upstreams={"up": upstream(server.base_url, *(wires or WIRES))},
        models={"m": table("up")},
        mend=False,
        **rest,
    )


class guarded:
    """A gateway with the monitors of these tests."""

    def __init__(self, server: ScriptedServer, home: Path, *wires: Any, looks: dict[str, Look | None] | None = None):
        self._running = running(settings(server, *wires), home)
        self._looks = looks or {"topical": quiet, "reasoner": marked}

    async def __aenter__(self) -> Running:
        found = await self._running.__aenter__()
        guard: Any = found.gateway.relay.guard
        guard.monitors = Monitors(self._looks, late_s=0.2)
        return found

    async def __aexit__(self, *error: Any) -> None:
        await self._running.__aexit__(*error)


def sent(server: ScriptedServer) -> str:
    """Return all that an upstream was ever sent."""
    return b"\n".join(one.body for one in server.requests).decode()


def error_of(wire: str, answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]["lathe"]
    return found


async def blocked_thread(wire: str, gateway: Running, **rest: Any) -> Thread:
    thread = Thread(wire, gateway, **rest)
    assert (await thread.ask("Rename the column.")).status_code == 200
    refused = await thread.ask(f"Now do the {MARK}.")
    assert refused.status_code == 403, refused.text
    own = error_of(wire, refused)
    assert own["code"] == "cyber_malware_create"
    assert own["clause"] == "malware.create"
    assert own["decision"].startswith("dec_")
    assert own["guard"]["notice"]["appeal"]["path"] == f"/v1/decisions/{own['decision']}/appeal"
    return thread


@pytest.mark.parametrize("upstream_wire", WIRES)
@pytest.mark.parametrize("wire", WIRES)
async def test_a_thread_lives_on_after_a_block(
    wire: str, upstream_wire: str, scripted: ScriptedServer, tmp_path: Path
) -> None:
    async with guarded(scripted, tmp_path, upstream_wire) as gateway:
        thread = await blocked_thread(wire, gateway)
        assert MARK not in sent(scripted)

        retried = await thread.fork().ask()
        assert retried.status_code == 403, "the same again is judged in the same way"

        following = await thread.ask("Thanks, then only add a test.")
        assert following.status_code == 200, "the next message is judged by itself"
        assert "malware.create" in sent(scripted), "a line stands in its place"
        assert MARK not in sent(scripted)
        (decision,) = following.json()["lathe"]["set_aside"]
        assert decision.startswith("dec_")

        forked = thread.fork()
        assert (await forked.ask("And now in a fork.")).status_code == 200
        assert (await forked.fork(WIRES[WIRES.index(wire) - 1]).ask("On another wire.")).status_code == 200
        helper = Thread(wire, gateway, [("user", f"You are a helper. The person said: Now do the {MARK}.")])
        assert (await helper.ask()).status_code == 403, "a sub-agent that is handed it is judged too"
        helper = Thread(wire, gateway, thread.said[:2])
        assert (await helper.ask("Look at the tests.")).status_code == 200
        assert MARK not in sent(scripted)

    async with guarded(
        scripted, tmp_path, upstream_wire
    ) as gateway:  # on another replica, which knows it from the record
        resumed = Thread(wire, gateway, thread.said)
        gateway.client.headers["authorization"] = f"Bearer {await new_key(gateway)}"
        assert (await resumed.ask("Go on tomorrow.")).status_code == 200
        assert MARK not in sent(scripted)


CALLED = Step(say=(Words("I will."), Call("shell", json.dumps({"command": f"run {MARK}"}))), usage=Tokens(9, 9, 0))
TOLD = Step(say=(Words("A beginning. " * 100 + MARK + " and an end. " * 200),), usage=Tokens(9, 9, 0))
STOPS = {"responses": "content_filter", "chat": "content_filter", "messages": "refusal"}


@pytest.mark.parametrize("step", [CALLED, TOLD], ids=["call", "words"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("upstream_wire", WIRES)
@pytest.mark.parametrize("wire", WIRES)
async def test_what_a_model_answers_is_judged_before_it_is_whole(
    wire: str, upstream_wire: str, stream: bool, step: Step, tmp_path: Path
) -> None:
    async with ScriptedServer([step, SAID]) as server, guarded(server, tmp_path, upstream_wire) as gateway:
        thread = Thread(wire, gateway, stream=stream)
        answer = await thread.ask("Do it.")
        assert answer.status_code == 200
        text = answer.text
        assert f"run {MARK}\\" not in text or stream, "a whole call is not given to the caller"
        assert text.count("an end") < (120 if stream else 1), "words are judged every few hundred letters"
        assert "malware_create" in text
        if stream:
            assert STOPS[wire] in text
            assert "content_block_stop" not in text.partition("tool_use")[2] or wire != "messages"
            assert "function_call_arguments.done" not in text or "output_item.done" not in text.partition(MARK)[2]
        (record,) = await gateway.settled(1)
        receipt = json.loads(record["receipt"])
        assert receipt["guard"] == "withhold"
        ((step_taken, items),) = gateway.rows(
            "select step, (select count(*) from blocked where decision = decisions.id) from decisions"
        )
        assert (step_taken, items) == ("withhold", 1)
        assert (await Thread(wire, gateway).ask("And now something else.")).status_code == 200


async def new_key(gateway: Running) -> str:
    from sqlalchemy import update

    from lathe.gateway.principals import key_digest
    from lathe.store.gateway.schema import keys

    services = gateway.gateway.services
    async with services.database.begin() as connection:
        await connection.execute(update(keys).values(digest=key_digest("lathe-again")))
        await services.database.changed(connection, "principals")
    await services.directory.refresh()
    return "lathe-again"
