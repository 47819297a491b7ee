"""The whole way through a real gateway: refused, appealed with the key that was refused, reversed, served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
from gateways import Running
from test_guarding import MARK, SAID, Thread, error_of, guarded

from lathe.models.script import Step, Tokens, Words
from lathe.models.scripted import ScriptedServer


async def person(gateway: Running, name: str, role: str, *scopes: str) -> httpx2.AsyncClient:
    """Make a user with a key, and return a client that asks with it."""
    [project] = [row[0] for row in gateway.rows("select id from projects")]
    body = {"email": f"{name}@example.org", "name": name.title(), "roles": [role], "projects": [project]}
    user = (await gateway.client.post("/admin/v1/users", json=body)).json()["id"]
    body = {"owner": user, "project": project, "scopes": list(scopes)}
    made = (await gateway.client.post("/admin/v1/keys", json=body)).json()
    headers = {"authorization": f"Bearer {made['secret']}"}
    return httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30, trust_env=False)


async def done(answer: Any) -> Any:
    found = await answer
    assert found.status_code < 300, found.text
    return found.json()


async def until(client: httpx2.AsyncClient, path: str) -> list[Any]:
    """Return a list once there is something in it."""
    for _ in range(500):
        if found := (await done(client.get(path)))["data"]:
            return list(found)
        await asyncio.sleep(0.01)
    raise AssertionError(path)


async def test_a_refusal_is_appealed_with_the_same_key_reversed_and_then_served(tmp_path: Path) -> None:
    async with (
        ScriptedServer([SAID], repeat=True) as scripted,
        guarded(scripted, tmp_path) as gateway,
        await person(gateway, "ada", "member", "relay") as ada,
        await person(gateway, "rita", "reviewer", "relay", "admin") as rita,
    ):
        admin, gateway.client = gateway.client, ada
        thread = Thread("responses", gateway)
        assert (await thread.ask("Rename the column.")).status_code == 200
        told = error_of("responses", await thread.ask(f"Now do the {MARK}."))
        appeal = told["guard"]["notice"]["appeal"]
        shown = await done(ada.get(f"/v1/decisions/{told['decision']}"))
        assert shown["appealable"] and shown["request"] == told["request_id"]
        made = await done(ada.post(appeal["path"], json={"text": "It is my own crossing."}))
        [waiting] = (await done(rita.get("/admin/v1/appeals?state=waiting")))["data"]
        assert waiting["id"] == made["id"] and waiting["text"] == "It is my own crossing."
        assert (await thread.ask("Something else.")).status_code == 200, "the thread goes on meanwhile"
        body = {"verdict": "reverse", "fault": "policy", "reason": "The rule reaches too far here."}
        ended = await done(rita.post(f"/admin/v1/appeals/{made['id']}/decide", json=body))
        assert ended["state"] == "reversed" and ended["repair"]["items"] == 1 and ended["case"]
        assert (await thread.ask(f"Now do the {MARK}.")).status_code == 200, "it is served, word for word"
        assert MARK in scripted.requests[-1].body.decode()
        fork = thread.fork("chat")
        assert (await fork.ask("And on another wire?")).status_code == 200
        assert MARK in scripted.requests[-1].body.decode()
        [notice] = (await done(ada.get("/v1/notices")))["data"]
        assert "The rule reaches too far here." in notice["text"]
        await admin.aclose()


async def test_decisions_add_up_to_a_proposal_and_a_restriction_of_two_holds_at_once(tmp_path: Path) -> None:
    async with (
        ScriptedServer([SAID], repeat=True) as scripted,
        guarded(scripted, tmp_path) as gateway,
        await person(gateway, "ada", "member", "relay") as ada,
        await person(gateway, "rita", "reviewer", "admin") as rita,
        await person(gateway, "rolf", "reviewer", "admin") as rolf,
    ):
        admin, gateway.client = gateway.client, ada
        for number in range(8):
            thread = Thread("chat", gateway)
            assert (await thread.ask(f"{MARK}, the number {number}")).status_code == 403
        proposals = await until(rita, "/admin/v1/accounts?state=open")
        for _ in range(200):
            if proposals[0]["wanted"] == "suspended":
                break
            await asyncio.sleep(0.02)
            proposals = await until(rita, "/admin/v1/accounts?state=open")
        assert len(proposals) == 1 and proposals[0]["wanted"] == "suspended"
        path = f"/admin/v1/accounts/{proposals[0]['id']}/review"
        body = {"verdict": "approve", "reason": "Each of the decisions is right."}
        await done(rita.post(path, json=body))
        assert (await Thread("chat", gateway).ask("Good day.")).status_code == 200, "one is not enough"
        await done(rolf.post(path, json=body))
        refused = await Thread("chat", gateway).ask("Good day.")
        told = error_of("chat", refused)
        assert refused.status_code == 403 and told["code"] == "actor_suspended"
        # an appeal against that refusal is one against the measure, and its reversal ends it
        made = await done(ada.post(f"/v1/decisions/{told['decision']}/appeal", json={}))
        assert made["decision"] == proposals[0]["id"]
        body = {"verdict": "reverse", "fault": "facts", "reason": "All of it was a test of ours."}
        assert (await rita.post(f"/admin/v1/appeals/{made['id']}/decide", json=body)).status_code == 403
        await done(admin.post(f"/admin/v1/appeals/{made['id']}/decide", json=body))
        assert (await Thread("chat", gateway).ask("Good day.")).status_code == 200
        await admin.aclose()


async def test_what_a_withheld_answer_cost_is_back_in_the_budget(tmp_path: Path) -> None:
    bad = Step(say=(Words(f"Here is the {MARK}."),), usage=Tokens(100, 0, 50))
    async with ScriptedServer([bad], repeat=True) as scripted, guarded(scripted, tmp_path) as gateway:
        limits = {"budget": {"monthly_usd": 0.0005}}
        await gateway.set_project(limits=limits)
        async with (
            await person(gateway, "ada", "member", "relay") as ada,
            await person(gateway, "rita", "reviewer", "admin") as rita,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 100}
            withheld = await ada.post("/v1/chat/completions", json=body)
            decision = withheld.json()["lathe"]["guard"]["decision"]
            spent = "select cost from spend where scope like 'project:%' and length(period) = 7"
            [[cost]] = gateway.rows(spent)
            assert cost > 0
            second = await ada.post("/v1/chat/completions", json=body)
            assert second.status_code == 200
            exhausted = await ada.post("/v1/chat/completions", json=body)
            assert exhausted.status_code == 429 and "budget" in exhausted.text
            appeal = await done(ada.post(f"/v1/decisions/{decision}/appeal", json={}))
            verdict = {"verdict": "reverse", "fault": "policy", "reason": "The rule reaches too far here."}
            ended = await done(rita.post(f"/admin/v1/appeals/{appeal['id']}/decide", json=verdict))
            assert ended["repair"]["cost"] == cost
            assert gateway.rows(spent)[0][0] < 2 * cost
            for _ in range(100):  # each replica reads the sums again within a moment
                if (answer := await ada.post("/v1/chat/completions", json=body)).status_code == 200:
                    break
                await asyncio.sleep(0.1)
            assert answer.status_code == 200
