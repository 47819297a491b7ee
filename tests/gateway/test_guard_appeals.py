"""Appeals over the real administration: who may, by when, and that a reversal puts everything right, once."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import msgspec
import pytest
from court import REASON, Court
from rulings import DEVELOPS, MAKES, OTHERS
from sqlalchemy import select
from starlette.applications import Starlette

from lathe.gateway.admin.routes import routes
from lathe.gateway.directory import Directory
from lathe.gateway.guarding.state import salted
from lathe.gateway.settings import GuardTable
from lathe.guard.appeals import Regression
from lathe.guard.policy import shipped
from lathe.guard.quarantine import identity
from lathe.guard.trial import tried
from lathe.protocol.items import user_message
from lathe.store.gateway import guard_schema, schema
from lathe.store.gateway.database import Database
from lathe.store.gateway.ledger import periods

DAY_MS = 86_400_000


@pytest.fixture
async def court(database: Database, tmp_path: Path) -> Court:
    return await Court.open(database, tmp_path)


async def test_a_reversal_puts_everything_right_and_a_second_one_nothing(court: Court) -> None:
    text = "What is wrong with my own parser?"
    decision = await court.refuse("member_a", text=text, cost=700)
    again = await court.refuse("member_a", text=text, cost=50)  # tried again: the same item
    other = await court.refuse("member_a", MAKES, text="something else", cost=5)
    key, month = court.ids["key_member_a"], periods(court.clock())[0]
    spent = select(schema.spend.c.cost).where(schema.spend.c.scope == f"key:{key}", schema.spend.c.period == month)
    assert await court.column(spent) == [755]
    shown = await court.done("member_a", "GET", f"/v1/decisions/{decision}")
    assert shown["appealable"] and "lathe access appeal" in shown["text"] and shown["notice"]["clause"]
    made = await court.appeal("member_a", decision, "It is my own.")
    assert [one["id"] for one in (await court.done("reviewer", "GET", "/v1/appeals?state=waiting"))["data"]] == [
        made["id"]
    ]
    file = await court.done("reviewer", "GET", f"/admin/v1/appeals/{made['id']}")
    assert file["may_decide"] and file["situation"]["targets"] == [{"name": "shop.example", "relation": "third"}]
    corrected = {"targets": {"shop.example": "own"}}
    said = await court.decide("reviewer", made["id"], verdict="reverse", fault="facts", corrected=corrected)
    assert said.status == 200 and said.json["state"] == "reversed" and said.json["case"], said.body
    repair = said.json["repair"]
    assert (repair["cost"], repair["tokens"], repair["items"]) == (700, 120, 1)
    assert set(repair["no_longer_counts"]) == {decision, again}
    assert await court.column(spent) == [55]
    day = select(schema.spend.c.tokens, schema.spend.c.period).where(schema.spend.c.scope.like("project:%"))
    async with court.services.database.begin() as connection:
        assert {row.tokens for row in await connection.execute(day)} == {240}
    reversed_by = guard_schema.decisions.c.reversed_by
    found = await court.column(select(guard_schema.decisions.c.id).where(reversed_by == made["id"]))
    assert set(found) == {decision, again}
    # the item is let in on every replica, and the other one stays out
    who, secret = court.principal("member_a"), court.services.secret
    known = court.services.directory.guard.known
    item = known(who.project, salted(secret, who.project, identity(user_message(text))))
    assert item is not None and item.blocked is None
    item = known(who.project, salted(secret, who.project, identity(user_message("something else"))))
    assert item is not None and item.blocked is not None and item.blocked.decision == other
    # the case holds: with the facts as they were, the policy serves it
    case = (await court.done("reviewer", "GET", f"/admin/v1/appeals/{made['id']}/case"))["case"]
    assert tried(shipped(), [msgspec.convert(case, Regression)]).failures == ()
    [told] = (await court.done("member_a", "GET", "/v1/notices"))["data"]
    assert REASON in told["text"] and "back in your quota" in told["text"] and told["kind"] == "appeal"
    await court.done("member_a", "POST", f"/v1/notices/{told['id']}/read")
    assert (await court.done("member_a", "GET", "/v1/notices"))["data"][0]["seen"]
    # nothing is given back twice
    assert (await court.ask("member_a", "POST", f"/v1/decisions/{again}/appeal", {})).code == "appeal_reversed"
    assert (await court.decide("reviewer", made["id"], verdict="reverse", fault="policy")).status == 409
    assert (await court.ask("member_a", "POST", f"/v1/decisions/{decision}/appeal", {})).code == "appeal_reversed"
    assert await court.column(spent) == [55]
    actions = {one["action"] for one in (await court.done("auditor", "GET", "/admin/v1/audit"))["data"]}
    assert {"appeal.opened", "appeal.decided", "decision.reversed", "quarantine.released", "quota.returned"} <= actions
    assert {"ledger.corrected", "case.written", "notice.given"} <= actions


async def test_only_whose_it_is_appeals_and_only_a_person_without_a_part_in_it_decides(court: Court) -> None:
    person = await court.refuse("member_a")
    machine = await court.refuse("unscoped", text="another")
    own = await court.refuse("reviewer", text="a third")
    appeals = {}
    for decision, may in ((person, {"member_a"}), (machine, {"unscoped", "member_a", "admin_a"}), (own, {"reviewer"})):
        for name in ("operator", "auditor", "admin_a", "admin_b", "member_b", "nobody", "member_a", "unscoped"):
            if name not in may:
                said = await court.ask(name, "POST", f"/v1/decisions/{decision}/appeal", {"text": "x"})
                assert said.status == (401 if name == "nobody" else 404), (name, decision, said.body)
        appeals[decision] = (await court.appeal(sorted(may)[-1], decision))["id"]
    second = await court.ask("member_a", "POST", f"/v1/decisions/{person}/appeal", {})
    assert (second.status, second.code) == (409, "appeal_waits")
    for name in ("auditor", "admin_a", "member_a", "member_b"):
        assert (await court.decide(name, appeals[person], verdict="uphold")).status == 403
    said = await court.decide("reviewer", appeals[own], verdict="reverse", fault="policy")
    assert (said.status, said.code) == (403, "appeal_own")
    await court.done("reviewer", "POST", f"/admin/v1/appeals/{appeals[person]}/take")
    said = await court.decide("second_reviewer", appeals[person], verdict="uphold")
    assert (said.status, said.code) == (409, "appeal_taken")
    short = await court.decide("reviewer", appeals[person], verdict="uphold", reason="no")
    unsaid = await court.decide("reviewer", appeals[person], verdict="reverse")
    same = await court.decide("reviewer", appeals[person], verdict="reverse", fault="facts",
                              corrected={"targets": {"shop.example": "unclear"}})  # fmt: skip
    assert [one.status for one in (short, unsaid, same)] == [400, 400, 400]
    assert (await court.decide("reviewer", appeals[person], verdict="uphold")).status == 200
    told = (await court.done("member_a", "GET", "/v1/notices"))["data"][0]
    assert REASON in told["text"] and "stands" in told["title"] and "exploit.develop" in told["text"]
    # once more, by somebody else; after that it stands
    again = (await court.appeal("member_a", person))["id"]
    assert (await court.decide("reviewer", again, verdict="uphold")).code == "appeal_same_person"
    assert (await court.decide("second_reviewer", again, verdict="uphold")).status == 200
    said = await court.ask("member_a", "POST", f"/v1/decisions/{person}/appeal", {})
    assert (said.status, said.code) == (409, "appeal_exhausted")
    shown = await court.done("member_a", "GET", f"/v1/decisions/{person}")
    assert not shown["appealable"] and "lathe access appeal" not in shown["text"] and shown["notice"]["appeal"] is None
    # what a colleague has appealed before is seen by who looks after the same machine
    await court.done(
        "reviewer", "POST", f"/admin/v1/appeals/{appeals[machine]}/decide", {"verdict": "uphold", "reason": REASON}
    )
    mine = (await court.appeal("member_a", machine))["id"]
    earlier = (await court.done("member_a", "GET", f"/v1/appeals/{mine}"))["earlier"]
    assert [one["id"] for one in earlier] == [appeals[machine]]


async def test_the_queue_is_in_the_order_of_its_clock_and_says_what_is_late(court: Court) -> None:
    friday = datetime.datetime(2026, 12, 4, 15, tzinfo=datetime.UTC)
    holiday = GuardTable(holidays=(datetime.date(2026, 12, 7),))
    court.services = court.services._replace(settings=msgspec.structs.replace(court.services.settings, guard=holiday))
    court.app = Starlette(routes=routes(court.services))
    court.clock.ahead_ms += int(friday.timestamp() * 1000) - court.clock()
    first = await court.appeal("member_a", await court.refuse("member_a"))
    assert first["due"] // 60_000 == int(datetime.datetime(2026, 12, 9, 15, tzinfo=datetime.UTC).timestamp()) // 60
    court.clock.ahead_ms += 4 * DAY_MS
    second = await court.appeal("member_b", await court.refuse("member_b"))
    court.clock.ahead_ms += 3 * DAY_MS // 2
    queue = await court.done("reviewer", "GET", "/admin/v1/appeals?state=waiting&limit=1")
    rest = await court.done("reviewer", "GET", f"/admin/v1/appeals?state=waiting&limit=1&cursor={queue['next']}")
    [late], [soon] = queue["data"], rest["data"]
    assert (late["id"], late["overdue"], soon["id"], soon["overdue"]) == (first["id"], True, second["id"], False)
    gone = await court.done("member_a", "POST", f"/v1/appeals/{first['id']}/withdraw")
    assert gone["state"] == "withdrawn"
    assert (await court.ask("member_a", "POST", f"/v1/appeals/{second['id']}/withdraw")).status == 404
    mine = (await court.done("member_b", "GET", "/v1/appeals"))["data"]
    assert [one["id"] for one in mine] == [second["id"]]
    assert (await court.ask("member_b", "GET", f"/v1/appeals/{first['id']}")).status == 404


async def test_a_monitor_that_was_wrong_makes_a_case_of_what_is_kept_or_given(court: Court) -> None:
    for keeps, given in ((True, ""), (False, "what was asked, as the person gave it"), (False, "")):
        decision = await court.refuse("member_a", text=f"{keeps} {given}", keeps=keeps)
        appeal = (await court.appeal("member_a", decision))["id"]
        said = await court.decide("reviewer", appeal, verdict="reverse", fault="monitor", material=given)
        assert said.status == 200, said.body
        case = await court.ask("reviewer", "GET", f"/admin/v1/appeals/{appeal}/case")
        if not keeps and not given:
            assert case.code == "case_missing" and "ask who appealed" in case.json["error"]["message"]
            continue
        found = msgspec.convert(case.json["case"], Regression)
        assert found.never == ("exploit.develop",) and found.monitors == ("reasoner",) and found.material is not None
        assert found.material.parts[0].text == (given or f"{keeps} {given}")
        outcome = tried(shipped(), [found], lambda _: [DEVELOPS])
        assert [one.found for one in outcome.failures if one.case == found.name] == ["exploit.develop"]


async def test_facts_that_change_nothing_are_no_ground_for_a_reversal(court: Court) -> None:
    decision = await court.refuse("member_a", MAKES, targets=OTHERS)
    appeal = (await court.appeal("member_a", decision))["id"]
    facts = {"targets": {"shop.example": "own"}, "tier": "verified"}
    said = await court.decide("reviewer", appeal, verdict="reverse", fault="facts", corrected=facts)
    assert (said.status, said.code) == (400, "appeal_facts")
    assert await court.column(select(guard_schema.decisions.c.reversed_by)) == [""]
    assert (await court.done("reviewer", "GET", f"/v1/appeals/{appeal}"))["appeal"]["state"] == "open"


async def test_whatever_comes_at_once_is_done_once(court: Court) -> None:
    decision = await court.refuse("member_a", cost=700)
    path = f"/v1/decisions/{decision}/appeal"
    said = await asyncio.gather(*(court.ask("member_a", "POST", path, {}) for _ in range(4)))
    assert sorted(one.status for one in said) == [201, 409, 409, 409], [one.body for one in said]
    appeal = next(one.json["id"] for one in said if one.status == 201)
    body = {"verdict": "reverse", "fault": "policy"}
    names = ("reviewer", "second_reviewer", "operator", "reviewer")
    said = await asyncio.gather(*(court.decide(name, appeal, **body) for name in names))
    assert sorted(one.status for one in said) == [200, 409, 409, 409], [one.body for one in said]
    key, month = court.ids["key_member_a"], periods(court.clock())[0]
    spent = select(schema.spend.c.cost).where(schema.spend.c.scope == f"key:{key}", schema.spend.c.period == month)
    assert await court.column(spent) == [0]
    assert len((await court.done("member_a", "GET", "/v1/notices"))["data"]) == 1
    other = await Directory.open(court.services.database)
    who, secret = court.principal("member_a"), court.services.secret
    item = other.guard.known(who.project, salted(secret, who.project, identity(user_message("a neutral text"))))
    assert item is not None and item.blocked is None, "another replica lets it in too"
