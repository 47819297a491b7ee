"""Complaints of the public that take the whole gateway, as cases: verification that fails, measures about accounts.

The numbers are those of tests/guard/test_complaints.py, which says what each is about.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from court import Court
from mailing import mailbox
from rulings import MAKES, judge, situation
from sqlalchemy import select
from starlette.applications import Starlette

from lathe.gateway.admin.routes import routes
from lathe.gateway.console import routes as console
from lathe.gateway.guarding.accounts import Accounts
from lathe.gateway.guarding.telling import Post
from lathe.gateway.identity.entrance import open_entrance
from lathe.gateway.identity.sessions import open_session
from lathe.gateway.identity.settings import SmtpTable
from lathe.gateway.services import Services
from lathe.guard.findings import Finding
from lathe.guard.ladder import Target
from lathe.guard.ledger import marks_of
from lathe.store.gateway import guard_schema
from lathe.store.gateway.database import Database

DAY_MS = 86_400_000
APPLY = {"tier": "verified", "why": "We test our own pages before each release."}
APPROVE = {"verdict": "approve", "note": "Fits."}
OWN = (Target("what it is about", "own"),)


@pytest.fixture
async def court(database: Database, tmp_path: Path) -> Court:
    return await Court.open(database, tmp_path)


async def page(court: Court, name: str, path: str) -> str:
    """Return a page of the console as somebody sees it, without its tags."""
    async with court.services.database.begin() as connection:
        user = court.ids[f"user_{name}"]
        cookie = await open_session(connection, user, "passkey", "passkey", court.clock())
    await court.services.directory.refresh()
    transport = httpx2.ASGITransport(app=Starlette(routes=console.routes(open_entrance(court.services))))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", cookies={"lathe": cookie}) as http:
        answer = await http.get(path)
        assert answer.status_code == 200, answer.text
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


async def identify(court: Court, name: str) -> None:
    path = f"/admin/v1/users/{court.ids[f'user_{name}']}/identity"
    await court.done("reviewer", "POST", path, {"note": "passport seen"})


async def apply(court: Court, **more: Any) -> str:
    return (await court.done("member_a", "POST", "/v1/access/applications", {**APPLY, **more}))["id"]


async def review(court: Court, name: str, application: str, **body: Any) -> Any:
    return await court.ask(name, "POST", f"/admin/v1/applications/{application}/review", {**APPROVE, **body})


async def restrict(court: Court, name: str) -> tuple[str, list[str]]:
    """Have an account restricted by what it was refused for; return the measure and the decisions."""
    made = [await court.refuse(name, MAKES, text=f"ready to run, {number}") for number in range(5)]
    accounts = Accounts(court.services.database, court.services.audit)
    marks = marks_of(court.services.secret, user=court.principal(name).user)
    [proposed] = await accounts.after(marks, court.clock(), decision=made[-1])
    body = {"verdict": "approve", "reason": "Each of the decisions is right."}
    for reviewer in ("reviewer", "second_reviewer"):
        await court.done(reviewer, "POST", f"/admin/v1/accounts/{proposed.proposal}/review", body)
    return proposed.proposal, made


async def test_11883_one_check_that_fails_for_one_account_leaves_another_way(court: Court) -> None:
    application = await apply(court)
    said = await review(court, "reviewer", application)
    assert (said.status, said.code) == (409, "identity_missing")
    assert "documents that a reviewer has seen" in said.json["error"]["message"]  # or a sign-in: either will do
    assert "missing" in await page(court, "reviewer", f"/console/applications/{application}")
    assert (await court.done("member_a", "POST", "/v1/access/check", {"model": "mend"}))["outcome"] == "serve"
    await identify(court, "member_a")
    assert (await review(court, "reviewer", application)).json["state"] == "approved"


async def test_12172_every_page_says_the_same_of_a_verification(court: Court) -> None:
    await identify(court, "member_a")
    application, user = await apply(court), court.ids["user_member_a"]
    granted = (await review(court, "reviewer", application)).json["entitlement"]
    assert (await court.done("operator", "GET", f"/admin/v1/users/{user}"))["identity"]["note"] == "passport seen"
    shown = await page(court, "reviewer", f"/console/applications/{application}")
    assert "What the tier verified needs is there." in shown
    assert "manual seen" in await page(court, "member_a", "/console/account")
    me = await court.done("member_a", "GET", "/v1/access/me")
    assert me["tier"] == "verified" and [one["id"] for one in me["entitlements"]] == [granted]
    assert (await court.done("member_a", "POST", "/v1/access/check", {"model": "mend"}))["entitlement"] == granted
    assert "verified" in await page(court, "member_a", "/console/entitlements")


async def test_29360_the_way_in_is_open_to_everyone_before_any_check(court: Court) -> None:
    for name in ("member_a", "admin_a", "member_b", "reviewer"):
        assert "Why" in await page(court, name, "/console/applications/new")
    application = await apply(court)
    shown = await court.done("member_a", "GET", f"/v1/access/applications/{application}")
    assert shown["state"] == "submitted" and shown["needs"] == 1


async def test_39570_each_check_is_kept_and_none_too_many_locks_anyone_out(court: Court) -> None:
    for _ in range(5):
        await identify(court, "member_a")
    old = court.services
    court.services = (
        await Services.open(
            database=old.database, signer=old.signer, home=old.home, settings=old.settings, replica="gw_other"
        )
    )._replace(clock=court.clock)
    court.app = Starlette(routes=routes(court.services))
    user = court.services.directory.user(court.ids["user_member_a"])
    assert user is not None and user.identity["note"] == "passport seen"
    for _ in range(3):  # declined as often as it may be, it can be applied for again
        declined = await review(court, "reviewer", await apply(court), verdict="decline", note="The link is dead.")
        assert declined.json["state"] == "declined" and declined.json["reviews"][0]["note"] == "The link is dead."
    assert (await review(court, "reviewer", await apply(court))).json["state"] == "approved"


async def test_59604_a_renewal_that_is_declined_takes_nothing_and_has_a_way_on(court: Court) -> None:
    await identify(court, "member_a")
    granted = (await review(court, "reviewer", await apply(court))).json["entitlement"]
    renewal = await apply(court, renews=granted)
    declined = await review(court, "reviewer", renewal, verdict="decline", note="The evidence names somebody else.")
    assert declined.json["state"] == "declined"
    me = await court.done("member_a", "GET", "/v1/access/me")
    assert me["tier"] == "verified" and me["entitlements"][0]["state"] == "live"
    shown = await court.done("member_a", "GET", f"/v1/access/applications/{renewal}")
    assert shown["reviews"][0]["note"] == "The evidence names somebody else."
    again = await apply(court, renews=granted, evidence=[{"kind": "statement", "text": "The contract is attached."}])
    assert (await review(court, "second_reviewer", again)).json["state"] == "approved"


async def test_43185_a_warning_by_mail_names_each_decision_its_time_and_its_clause(court: Court) -> None:
    proposal, made = await restrict(court, "member_a")
    async with mailbox() as box:
        smtp = SmtpTable(host="127.0.0.1", port=box.port, tls="off", sender="gateway@example.org")
        assert await Post(court.services.database, smtp, "https://lathe.example.org").hand_in(court.clock()) == 1
        [mail] = box.mails
    mail = mail.replace("=\r\n", "").replace("=3D", "=")
    [told] = (await court.done("member_a", "GET", "/v1/notices"))["data"]
    named = re.findall(r"dec_\w+", mail)
    assert set(named) <= set(made) and len(set(named)) >= 4
    assert mail.count("malware.create (refuse)") >= 4 and mail.count(" UTC: ") >= 4
    assert f"lathe access appeal {proposal}" in mail and "by somebody else" in mail and told["text"].split("\n")[0]
    for decision in set(named):  # and each leads to the request, and to what was found where in it
        shown = await court.done("member_a", "GET", f"/v1/decisions/{decision}")
        assert shown["request"].startswith("req_") and shown["notice"]["spans"] and shown["notice"]["why"]


async def test_30271_an_appeal_is_never_closed_without_a_name_and_a_reason(court: Court) -> None:
    proposal, _ = await restrict(court, "member_a")
    appeal = (await court.appeal("member_a", proposal, "I take programs apart for a living."))["id"]
    assert (await court.decide("operator", appeal, verdict="uphold", reason="")).status == 400
    assert (await court.decide("operator", appeal, verdict="uphold", reason="No. Five of them.")).status == 200
    told = (await court.done("member_a", "GET", "/v1/notices"))["data"][0]
    assert "Operator looked at it anew" in told["text"] and "Five of them." in told["text"]
    seen = await court.done("member_a", "GET", f"/v1/decisions/{proposal}")
    assert seen["state"] == "upheld" and seen["appealable"], "once more, and somebody else decides"
    again = (await court.appeal("member_a", proposal))["id"]
    assert (await court.decide("operator", again, verdict="reverse", fault="facts")).code == "appeal_same_person"


async def test_31032_automation_that_is_no_attack_never_adds_up_to_an_account(court: Court) -> None:
    finding = Finding("reasoner", "automate.own", 0.9)
    who = court.principal("member_a")
    for number in range(60):
        targets = (Target(f"jobs-{number}.example", "third"),)
        rests_on = situation(finding, targets=targets)
        _, measure = await judge(
            court.services,
            who,
            rests_on,
            text=f"application {number}",
        )
        assert not measure.blocks
    accounts = Accounts(court.services.database, court.services.audit)
    marks = marks_of(court.services.secret, user=who.user)
    assert await accounts.after(marks, court.clock()) == []
    assert await court.column(select(guard_schema.proposals.c.id)) == []
    held = court.services.directory.guard.standing(marks)
    assert held.in_force == "clear" and msgspec.to_builtins(held)["reviewers"] == ()
