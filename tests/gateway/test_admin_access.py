"""Trusted access as people go through it: apply, be reviewed, hold, lose; keys; rollouts; the audit of it all."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from administration import World, call
from postgresql import Cluster
from sqlalchemy import update

from lathe.gateway.audit import Record, SignedCheckpoint, verify_log
from lathe.gateway.audit_log import write_checkpoint
from lathe.gateway.directory import Directory, now_ms
from lathe.gateway.principals import key_digest
from lathe.gateway.signing import KeyRing
from lathe.store.gateway import schema
from lathe.store.gateway.database import Database


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> World:
    return await World.make(database, tmp_path)


async def tier(world: World, who: str) -> str:
    return str((await world.done(who, "GET", "/v1/access/me"))["tier"])


async def applied(world: World, tier: str, **more: Any) -> str:
    body = {"tier": tier, "why": "research", **more}
    return str((await world.done("member_a", "POST", "/v1/access/applications", body))["id"])


async def reviewed(world: World, who: str, application: str, verdict: str = "approve", note: str = "") -> Any:
    path = f"/admin/v1/applications/{application}/review"
    return await world.ask(who, "POST", path, {"verdict": verdict, "note": note})


async def identified(world: World) -> None:
    path = f"/admin/v1/users/{world.ids['user_member_a']}/identity"
    await world.done("reviewer", "POST", path, {"note": "passport seen"})


async def test_an_entitlement_is_live_from_its_approval_to_its_revocation_whatever_a_renewal_does(world: World) -> None:
    application = await applied(world, "verified")
    assert (await reviewed(world, "reviewer", application)).code == "identity_missing"
    await identified(world)
    assert (await reviewed(world, "reviewer", application, "decline")).code == "reason_missing"
    granted = (await reviewed(world, "reviewer", application)).json
    assert granted["state"] == "approved" and await tier(world, "member_a") == "verified"
    assert (await reviewed(world, "second_reviewer", application)).code == "decided_already"
    renewal = await applied(world, "verified", renews=granted["entitlement"])
    assert await tier(world, "member_a") == "verified"
    assert (await reviewed(world, "reviewer", renewal, "decline", "not yet")).json["reviews"][0]["note"] == "not yet"
    assert await tier(world, "member_a") == "verified"
    path = f"/admin/v1/entitlements/{granted['entitlement']}/revoke"
    revoked = await world.done("admin_a", "POST", path, {"why": "left the team"})
    assert revoked["state"] == "revoked" and await tier(world, "member_a") == "default"


async def test_a_specialist_takes_two_reviewers_and_nobody_reviews_what_is_their_own(world: World) -> None:
    await identified(world)
    application = await applied(world, "specialist", wanted={"scope": ["cyber.offensive"], "models": ["mend"]})
    first = (await reviewed(world, "reviewer", application)).json
    assert (first["state"], first["needs"]) == ("submitted", 1)
    assert (await reviewed(world, "reviewer", application)).code == "reviewed_already"
    assert (await reviewed(world, "second_reviewer", application)).json["state"] == "approved"
    assert await tier(world, "member_a") == "specialist"
    body = {"tier": "organisation", "why": "x", "subject": f"organisation:{world.ids['org_a']}"}
    own = (await world.done("operator", "POST", "/v1/access/applications", body))["id"]
    assert (await reviewed(world, "operator", own)).code == "own_thing"
    path = f"/admin/v1/users/{world.ids['user_reviewer']}/identity"
    assert (await world.ask("reviewer", "POST", path, {"note": "it is me"})).code == "own_thing"


async def test_an_entitlement_that_was_changed_in_the_database_does_not_count(world: World) -> None:
    await identified(world)
    entitlement = (await reviewed(world, "reviewer", await applied(world, "verified"))).json["entitlement"]
    shown = await world.done("member_a", "GET", f"/admin/v1/entitlements/{entitlement}")
    async with world.services.database.begin() as connection:
        body = shown["document"].replace('"verified"', '"specialist"')
        await connection.execute(update(schema.entitlements).values(body=body))
        await world.services.database.changed(connection, "access")
    await world.services.directory.refresh()
    assert await tier(world, "member_a") == "default" and world.services.directory.refused == 1


async def test_a_rotated_key_works_for_its_overlap_and_a_secret_is_shown_once(world: World) -> None:
    fresh = await world.done("member_a", "POST", "/admin/v1/keys", {"project": world.ids["proj_a"]})
    secret, id = fresh["secret"], fresh["key"]["id"]
    listed = await world.ask("operator", "GET", "/admin/v1/keys?limit=200")
    assert secret not in listed.body.decode() and secret[-4:] in listed.body.decode()
    successor = await world.done("member_a", "POST", f"/admin/v1/keys/{id}/rotate", {"overlap_s": 3600})
    for one, live in ((secret, True), (successor["secret"], True)):
        world.keys["one"] = one
        assert ((await world.ask("one", "GET", "/v1/access/me")).status == 200) == live
    assert successor["key"]["replaces"] == id
    await world.done("member_a", "POST", f"/admin/v1/keys/{successor['key']['id']}/rotate", {"overlap_s": 0})
    assert (await world.ask("one", "GET", "/v1/access/me")).code == "key_unknown"
    past = {"expires": int(time.time() * 1000) - 1}
    assert (await world.ask("member_a", "POST", "/admin/v1/keys", past)).status == 400


ESCALATIONS = [
    ("admin_a", "POST", "/admin/v1/users", {"email": "x@y", "roles": ["operator"]}, 403),
    ("admin_a", "PATCH", "/admin/v1/users/{user_admin_a}", {"roles": ["admin", "reviewer"]}, 403),
    ("admin_a", "POST", "/admin/v1/groups", {"name": "g", "grants": {"roles": ["auditor"]}}, 403),
    ("admin_a", "POST", "/admin/v1/groups", {"name": "g", "grants": {"projects": {"{proj_b}": "admin"}}}, 404),
    ("admin_a", "POST", "/admin/v1/keys", {"owner": "{user_member_a}"}, 403),
    ("admin_a", "POST", "/admin/v1/keys", {"owner": "{user_admin_b}"}, 404),
    ("member_a", "POST", "/admin/v1/keys", {"owner": "machine"}, 403),
    ("member_a", "POST", "/admin/v1/keys", {"project": "{proj_b}"}, 404),
    ("admin_a", "PUT", "/admin/v1/projects/{proj_a}/members/{user_member_b}", {}, 404),
    ("operator", "PUT", "/admin/v1/projects/{proj_a}/members/{user_member_b}", {}, 409),
    ("member_a", "POST", "/v1/access/applications",
     {"tier": "organisation", "why": "x", "subject": "organisation:{org_a}"}, 403),
    ("member_a", "POST", "/v1/access/applications",
     {"tier": "specialist", "why": "x", "subject": "user:{user_admin_a}"}, 404),
    ("member_a", "POST", "/v1/access/applications", {"tier": "organisation", "why": "x"}, 400),
    ("operator", "PATCH", "/admin/v1/users/{user_operator}", {"active": False}, 409),
]  # fmt: skip


async def test_nobody_gives_more_than_they_have(world: World) -> None:
    await identified(world)
    world.ids["user_operator"] = (await world.done("operator", "GET", "/v1/access/me"))["principal"]["user"]
    found = []
    for who, method, path, body, status in ESCALATIONS:
        filled = json.dumps([path, body])
        for name, id in world.ids.items():
            filled = filled.replace("{" + name + "}", id)
        target, sent = json.loads(filled)
        said = await world.ask(who, method, target, sent)
        if said.status != status:
            found.append((who, method, path, body, said.status, said.body))
    assert not found


async def test_a_rollout_takes_effect_when_another_person_has_approved_it(world: World) -> None:
    await world.furnish()
    closed = {"model": "mend", "schedule": {"entries": [{"from": "2099-01-01"}]}, "why": "later"}
    day = {"day": "1970-01-01", "model": "mend", "schedule": closed["schedule"]}
    rehearsed = await world.done("reviewer", "POST", "/admin/v1/rollouts/rehearse", day)
    assert (rehearsed["requests"], rehearsed["changed"]) == (1, 1)
    version = (await world.done("reviewer", "POST", "/admin/v1/rollouts", closed))["version"]
    path = f"/admin/v1/rollouts/{version}/review"
    assert (await world.ask("reviewer", "POST", path, {"verdict": "approve"})).code == "own_thing"
    question = {"model": "mend"}
    assert (await world.done("member_a", "POST", "/v1/access/check", question))["outcome"] == "serve"
    assert (await world.done("second_reviewer", "POST", path, {"verdict": "approve"}))["state"] == "active"
    answer = await world.done("member_a", "POST", "/v1/access/check", question)
    assert (answer["outcome"], answer["code"]) == ("refuse", "model_not_open") and "2099" in answer["message"]
    opened = {**closed, "schedule": {"entries": [{"from": "2020-01-01"}]}}
    version = (await world.done("reviewer", "POST", "/admin/v1/rollouts", opened))["version"]
    await world.done("operator", "POST", f"/admin/v1/rollouts/{version}/review", {"verdict": "approve"})
    assert (await world.done("member_a", "POST", "/v1/access/check", question))["outcome"] == "serve"
    states = [one["state"] for one in (await world.done("auditor", "GET", "/admin/v1/rollouts?model=mend"))["data"]]
    assert states == ["active", "replaced"]


async def test_the_export_of_the_audit_is_whole_and_lists_page_without_loss(world: World) -> None:
    await write_checkpoint(world.services.database, world.services.signer)
    lines = (await world.ask("auditor", "GET", "/admin/v1/audit/export")).body.splitlines()
    head, *rest = [json.loads(line) for line in lines]
    found = verify_log(
        [Record(*one["record"]) for one in rest if "record" in one],
        [SignedCheckpoint(*one["checkpoint"]) for one in rest if "checkpoint" in one],
        KeyRing.from_json(json.dumps(head["keys"]).encode()),
    )
    assert not found.faults and found.records > 20 and found.unsigned == 1
    for path, size in (("/admin/v1/audit?", 7), ("/admin/v1/keys?", 3), ("/admin/v1/users?", 2)):
        whole = (await world.done("operator", "GET", f"{path}limit=200"))["data"]
        parts, cursor = [], ""
        while cursor is not None:
            page = await world.done("operator", "GET", f"{path}limit={size}&cursor={cursor}")
            parts += page["data"]
            cursor = page["next"]
        assert parts == whole


BAD = [
    ("POST", "/admin/v1/users", b"{", {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "a@b", "email": "c@d"}', {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "a@b", "nonsense": 1}', {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "a@b", "name": "\\u0000"}', {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "a@b", "name": "\\ud800"}', {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "\xff@b"}', {}, 400),
    ("POST", "/admin/v1/users", b"[" * 100_000, {}, 400),
    ("POST", "/admin/v1/users", b'{"email": "a@b"}', {"content-type": "text/plain"}, 415),
    ("POST", "/admin/v1/users", b'{"name": "' + b"x" * 300_000 + b'"}', {}, 413),
    ("POST", "/admin/v1/keys", b'{"expires": 1e400}', {}, 400),
    ("POST", "/admin/v1/keys", b'{"expires": 99999999999999999999}', {}, 400),
    ("PATCH", "/admin/v1/keys/key_x", b"{}", {}, 404),
    ("PATCH", "/admin/v1/projects/{proj_a}", b"{}", {}, 400),
    ("GET", "/admin/v1/keys?limit=0", b"", {}, 400),
    ("GET", "/admin/v1/keys?limit=1&limit=2", b"", {}, 400),
    ("GET", "/admin/v1/keys?cursor=%00", b"", {}, 400),
    ("GET", "/admin/v1/audit?cursor=YQ", b"", {}, 400),
    ("GET", "/admin/v1/keys/%00", b"", {}, 404),
    ("GET", "/admin/v1/rollouts/99999999999", b"", {}, 404),
    ("GET", "/admin/v1/nothing", b"", {}, 404),
    ("PUT", "/admin/v1/keys", b"", {}, 405),
    ("POST", "/admin/v1/rollouts/rehearse", b'{"day": "2026-02-31", "model": "m", "schedule": {}}', {}, 400),
]


async def test_bad_input_is_told_in_one_form_and_changes_nothing(world: World) -> None:
    revision = await world.services.database.revision()
    wrong = []
    for method, path, body, headers, status in BAD:
        target = path.replace("{proj_a}", world.ids["proj_a"]).replace("%00", "\0")
        given = {"content-type": "application/json", **headers}
        said = await call(world.app, method, target, key=world.keys["operator"], body=body, headers=given)
        if said.status != status or set(said.json["error"]) != {"type", "code", "message", "hint"}:
            wrong.append((method, path, body[:60], said.status, said.body[:300]))
    assert not wrong
    assert await world.services.database.revision() == revision


async def test_a_grant_and_its_revocation_reach_another_replica(world: World, database_url: str) -> None:
    other = Database(database_url)
    directory = await Directory.open(other)
    watching = asyncio.create_task(directory.watch())
    who = directory.principal(key_digest(world.keys["member_a"]))
    assert who
    await identified(world)
    entitlement = ""
    for live in (True, False):
        if live:
            entitlement = (await reviewed(world, "reviewer", await applied(world, "verified"))).json["entitlement"]
        else:
            await world.done("reviewer", "POST", f"/admin/v1/entitlements/{entitlement}/revoke", {"why": "over"})
        began = time.monotonic()
        while [one["state"] for one in directory.policy.standing(who, now_ms())] != ["live" if live else "revoked"]:
            await asyncio.sleep(0.001)
        print(f"{'granted' if live else 'revoked'}: live elsewhere {time.monotonic() - began:.3f} s after the answer")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await other.aclose()


async def test_a_directory_that_may_be_old_is_not_believed(
    postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgresql.url(postgresql.new_database()))
    world = await World.make(database, tmp_path)
    monkeypatch.setattr("lathe.gateway.directory.STALE_S", 0.5)
    await asyncio.sleep(0.6)
    assert (await call(world.app, "GET", "/v1/access/me", key=world.keys["operator"])).status == 200
    postgresql.stop()
    await asyncio.sleep(0.6)
    said = await call(world.app, "GET", "/v1/access/me", key=world.keys["operator"])
    assert said.status == 503 and said.code == "directory_stale"
    postgresql.start()
    assert (await call(world.app, "GET", "/v1/access/me", key=world.keys["operator"])).status == 200
    await database.aclose()
