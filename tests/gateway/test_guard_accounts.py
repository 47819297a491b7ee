"""Measures about accounts: proposed by what decisions add up to, held by two people or not at all, and explained."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from court import REASON, Court
from mailing import mailbox
from rulings import MAKES, judge, situation
from sqlalchemy import select, update

from lathe.gateway.audit_log import AuditLog
from lathe.gateway.guarding.accounts import Accounts
from lathe.gateway.guarding.telling import Post
from lathe.gateway.identity.settings import SmtpTable
from lathe.guard.findings import Finding
from lathe.guard.ladder import Target
from lathe.guard.ledger import mark, marks_of
from lathe.store.gateway import guard_schema, schema
from lathe.store.gateway.database import Database

WEEK_MS = 7 * 86_400_000


class Board(Court):
    """A court with a look at actors after each decision, as the relay has it."""

    async def misuse(self, name: str, count: int, **more: Any) -> list[str]:
        made = []
        for number in range(count):
            text = f"something ready to run, {number} of {name} at {self.clock()}"
            made.append(await self.refuse(name, MAKES, text=text, **more))
            marks = await self.column(
                select(guard_schema.decision_marks.c.mark).where(guard_schema.decision_marks.c.decision == made[-1])
            )
            accounts = Accounts(self.services.database, self.services.audit)
            await accounts.after(marks, self.clock(), decision=made[-1])
        return made

    async def proposals(self, state: str = "open") -> list[Any]:
        return (await self.done("auditor", "GET", f"/admin/v1/accounts?state={state}"))["data"]

    async def review(self, name: str, proposal: str, verdict: str = "approve") -> Any:
        body = {"verdict": verdict, "reason": "Each of the decisions is right."}
        return await self.ask(name, "POST", f"/admin/v1/accounts/{proposal}/review", body)

    def standing(self, name: str) -> str:
        who = self.principal(name)
        return self.services.directory.guard.standing(
            marks_of(self.services.secret, user=who.user, key=who.key)
        ).in_force


@pytest.fixture
async def board(database: Database, tmp_path: Path) -> Board:
    return await Board.open(database, tmp_path)


async def test_two_people_restrict_and_an_appeal_to_a_third_ends_it(board: Board) -> None:
    made = await board.misuse("member_a", 6)
    [proposed] = await board.proposals()
    assert proposed["wanted"] == "restricted" and proposed["users"] == [board.ids["user_member_a"]]
    shown = await board.done("reviewer", "GET", f"/admin/v1/accounts/{proposed['id']}")
    assert "restricted begins at 20" in shown["proposal"]["why"] and "malware.create (refuse)" in proposed["why"]
    assert {one["id"] for one in shown["decisions"]} <= set(made) and shown["account"]["score"] > 30
    assert (await board.review("auditor", proposed["id"])).status == 403
    assert (await board.review("reviewer", proposed["id"])).json["proposal"]["state"] == "open"
    assert (await board.review("reviewer", proposed["id"])).code == "reviewed_already"
    assert board.standing("member_a") == "clear", "one is not enough"
    ended = await board.review("second_reviewer", proposed["id"])
    assert ended.json["proposal"]["state"] == "in_force" and board.standing("member_a") == "restricted"
    assert board.standing("member_b") == "clear"
    [told] = (await board.done("member_a", "GET", "/v1/notices"))["data"]
    for word in (proposed["id"], made[0], "malware.create (refuse)", "Why: The score rose to", "lathe access appeal"):
        assert word in told["text"], word
    assert {*told["about"]["decided_by"]} == {board.ids["user_reviewer"], board.ids["user_second_reviewer"]}
    seen = await board.done("member_a", "GET", f"/v1/decisions/{proposed['id']}")
    assert seen["kind"] == "account" and seen["appealable"]
    assert (await board.ask("member_b", "GET", f"/v1/decisions/{proposed['id']}")).status == 404
    assert (await board.ask("member_b", "POST", f"/v1/decisions/{proposed['id']}/appeal", {})).status == 404
    appeal = (await board.appeal("member_a", proposed["id"], "It was all my own test."))["id"]
    for name in ("reviewer", "second_reviewer"):
        assert (await board.decide(name, appeal, verdict="uphold")).code == "appeal_same_person"
    lifted = await board.decide("operator", appeal, verdict="reverse", fault="facts")
    assert lifted.status == 200 and lifted.json["repair"]["lifted"] and board.standing("member_a") == "clear"
    assert [one["state"] for one in await board.proposals("")] == ["lifted"]
    assert REASON in (await board.done("member_a", "GET", "/v1/notices"))["data"][0]["text"]
    actions = {one["action"] for one in (await board.done("auditor", "GET", "/admin/v1/audit"))["data"]}
    assert {"proposal.opened", "account.approved", "account.in_force", "account.lifted", "notice.given"} <= actions


async def test_a_score_that_fades_is_put_before_two_people_too(board: Board) -> None:
    await board.misuse("member_a", 4)
    [first] = await board.proposals()
    for name in ("reviewer", "second_reviewer"):
        await board.review(name, first["id"])
    accounts = Accounts(board.services.database, board.services.audit)
    assert await accounts.look_again(board.clock()) == [] and board.standing("member_a") == "restricted"
    board.clock.ahead_ms += 2 * WEEK_MS
    [change] = await accounts.look_again(board.clock())
    assert change.action == "proposal.opened" and "fell to 6.0, below 10" in change.facts["why"]
    assert board.standing("member_a") == "restricted", "nobody has said so yet"
    [lift] = await board.proposals()
    await board.review("reviewer", lift["id"], "object")
    assert await accounts.look_again(board.clock()) == [], "not every hour"
    board.clock.ahead_ms += WEEK_MS + 1
    assert len(await accounts.look_again(board.clock())) == 1
    [lift] = await board.proposals()
    assert lift["wanted"] == "clear" and await accounts.look_again(board.clock()) == []
    for name in ("reviewer", "operator"):
        assert (await board.review(name, lift["id"])).status == 200
    assert board.standing("member_a") == "clear"
    assert [one["id"] for one in await board.proposals("lifted")] == [first["id"]]
    assert "free again" in (await board.done("member_a", "GET", "/v1/notices"))["data"][0]["title"]
    # by hand it takes two as well
    await board.misuse("member_b", 4)
    [second] = await board.proposals()
    for name in ("reviewer", "second_reviewer"):
        await board.review(name, second["id"])
    body = {"reason": "They have shown who they are."}
    asked = await board.done("reviewer", "POST", f"/admin/v1/accounts/{second['id']}/lift", body)
    assert board.standing("member_b") == "restricted" and asked["proposal"]["approvals"] == 1
    again = await board.ask("operator", "POST", f"/admin/v1/accounts/{second['id']}/lift", body)
    assert again.code == "proposal_waits"
    assert await accounts.look_again(board.clock()) == [], "what a person proposes is not for the ledger to take back"
    assert (await board.review("reviewer", asked["proposal"]["id"])).code == "reviewed_already"
    await board.review("operator", asked["proposal"]["id"])
    assert board.standing("member_b") == "clear"


async def test_what_is_proposed_follows_the_decisions_and_an_objection_ends_it(board: Board) -> None:
    made = await board.misuse("member_a", 4)
    [proposed] = await board.proposals()
    await board.review("reviewer", proposed["id"])
    await board.misuse("member_a", 4)
    [changed] = await board.proposals()
    body = {"verdict": "approve", "reason": "As I have read it.", "version": proposed["version"]}
    stale = await board.ask("operator", "POST", f"/admin/v1/accounts/{proposed['id']}/review", body)
    assert (stale.status, stale.code) == (409, "proposal_changed")
    assert (changed["id"], changed["wanted"], changed["approvals"]) == (proposed["id"], "suspended", 0)
    # one decision is reversed: too few are left for it, and what was said is asked for anew
    appeal = (await board.appeal("member_a", made[0]))["id"]
    said = await board.decide("second_reviewer", appeal, verdict="reverse", fault="policy")
    assert said.json["repair"]["proposals"] == [proposed["id"]]
    [changed] = await board.proposals()
    assert changed["wanted"] == "restricted"
    assert (await board.review("reviewer", proposed["id"], "object")).json["proposal"]["state"] == "declined"
    accounts = Accounts(board.services.database, board.services.audit)
    marks = marks_of(board.services.secret, user=board.ids["user_member_a"])
    assert await accounts.after(marks, board.clock()) == [], "people have turned that down"
    await board.misuse("member_a", 1)
    assert [one["wanted"] for one in await board.proposals()] == ["suspended"]
    for decision in made[1:]:
        appeal = (await board.appeal("member_a", decision))["id"]
        await board.decide("operator", appeal, verdict="reverse", fault="policy")
    [left] = await board.proposals()
    assert left["wanted"] == "restricted" and board.standing("member_a") == "clear"


async def test_an_attack_in_pieces_is_one_whatever_the_key_and_a_new_key_does_not_hide(board: Board) -> None:
    scans = Finding("reasoner", "scan.wide", 0.95)
    clauses = ("scan.wide", "vuln.research", "credential.audit")
    for number, clause in enumerate(clauses):
        finding = msgspec.structs.replace(scans, clause=clause)
        more = {"text": f"a piece {number}", "thread": "root", "targets": (Target("shop.example", "third"),)}
        who = board.principal("unscoped")
        decision, measure = await judge(
            board.services, who._replace(key=f"key_{number}"), situation(finding), text=more["text"], thread="root",
        )  # fmt: skip
        assert measure.ground in ("outside", "allowed"), measure
    accounts = Accounts(board.services.database, board.services.audit)
    root = mark(board.services.secret, "thread", "root")
    await accounts.after([root], board.clock())
    made = await board.misuse("unscoped", 8, thread="root")
    [proposed] = await board.proposals()
    assert proposed["wanted"] == "suspended" and board.ids["user_admin_a"] in proposed["users"]
    for name in ("reviewer", "second_reviewer"):
        assert (await board.review(name, proposed["id"])).status == 200
    held = await board.column(select(guard_schema.standings.c.mark))
    assert mark(board.services.secret, "key", "key_1") in held and root in held and made
    # somebody comes with another key and works in a thread of the one who is suspended
    who = board.principal("unscoped")._replace(key="key_new")
    decision, _ = await judge(board.services, who, situation(MAKES), text="once more", thread="root")
    marks = marks_of(board.services.secret, key="key_new", root_thread="root")
    [change] = await accounts.after(marks, board.clock(), decision=decision)
    assert change.action == "proposal.opened" and "marks with the actor suspended" in change.facts["why"]


async def test_a_notice_goes_out_by_mail_once_and_waits_while_it_cannot(board: Board) -> None:
    decision = await board.refuse("member_a")
    appeal = (await board.appeal("member_a", decision))["id"]
    await board.decide("reviewer", appeal, verdict="uphold")
    database, now = board.services.database, board.clock()
    async with mailbox() as box:
        smtp = SmtpTable(host="127.0.0.1", port=box.port, tls="off", sender="gateway@example.org")
        assert await Post(database, smtp, "https://lathe.example.org").hand_in(now) == 1
        assert await Post(database, smtp, "https://lathe.example.org").hand_in(now) == 0
        [mail] = box.mails
        assert "To: member_a@example.org" in mail and "stands" in mail and "lathe.example.org/console" in mail
    async with database.begin() as connection:
        await connection.execute(update(guard_schema.notices).values(mailed=None))
    assert await Post(database, smtp, "https://lathe.example.org").hand_in(now) == 0
    assert await board.column(select(guard_schema.notices.c.mailed)) == [None]
    async with database.begin() as connection:
        await connection.execute(update(schema.users).values(active=False))
    assert await Post(database, smtp, "https://lathe.example.org").hand_in(now) == 0


async def test_looks_from_several_replicas_at_once_open_one_proposal(board: Board) -> None:
    for number in range(5):
        await board.refuse("member_a", MAKES, text=f"ready to run, {number}")
    replicas = [Accounts(board.services.database, AuditLog(board.services.database, f"gw_{one}")) for one in range(4)]
    marks = marks_of(board.services.secret, user=board.ids["user_member_a"])
    await asyncio.gather(*(one.after(marks, board.clock()) for one in replicas))
    assert [one["wanted"] for one in await board.proposals()] == ["restricted"]
    [proposed] = await board.proposals()
    names = ("reviewer", "second_reviewer", "reviewer", "second_reviewer")
    said = await asyncio.gather(*(board.review(name, proposed["id"]) for name in names))
    assert sorted(one.status for one in said) == [200, 200, 409, 409], [one.body for one in said]
    assert board.standing("member_a") == "restricted"
