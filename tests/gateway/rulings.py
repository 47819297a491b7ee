"""Decisions put on record as the relay does it: by the ledger of the gateway, with the request that they were of."""

from __future__ import annotations

from typing import Any

from lathe.gateway.admin.accounts import review_account
from lathe.gateway.admin.appeals import decide_appeal, make_appeal
from lathe.gateway.admin.decisions import list_notices
from lathe.gateway.admin.shapes import Listing
from lathe.gateway.admin.shapes_guard import AccountReview, AppealDecision, NewAppeal
from lathe.gateway.guarding.accounts import Accounts
from lathe.gateway.guarding.deciding import Asker, recorded
from lathe.gateway.principals import Principal
from lathe.gateway.services import Services
from lathe.guard.findings import Finding, Material, Part, Span
from lathe.guard.ladder import Measure, Situation, Target, decide
from lathe.guard.ledger import marks_of
from lathe.guard.policy import shipped
from lathe.guard.quarantine import set_aside
from lathe.protocol.ids import ordered_id
from lathe.protocol.items import user_message
from lathe.protocol.trust import Retention
from lathe.store.gateway.ledger import Entries, Opened, Settled, open_ledger

WELL: dict[str, Any] = {"topical": "ok", "reasoner": "ok", "acts": "ok"}
DEVELOPS = Finding("reasoner", "exploit.develop", 0.95, (Span("asked", 0, 9, "person"),), "It names a product.")
MAKES = Finding("reasoner", "malware.create", 0.95, (Span("asked", 0, 9, "person"),), "It is ready to run.")
OTHERS = (Target("shop.example", "third"),)


def situation(*findings: Finding, **more: Any) -> Situation:
    return Situation(findings=findings, **{"monitors": WELL, "targets": OTHERS, **more})


async def judge(
    services: Services,
    who: Principal,
    rests_on: Situation,
    *,
    text: str = "a neutral text",
    at: int = 0,
    thread: str = "thread_1",
    end_user: str = "",
    keeps: bool = False,
    cost: int = 700,
) -> tuple[str, Measure]:
    """Decide a situation and put all of it on record; return the decision's id and the measure."""
    at = at or services.clock()
    measure = decide(shipped(), rests_on)
    decision, request = ordered_id("dec"), ordered_id("req")
    marks = marks_of(services.secret, user=who.user, end_user=end_user, key=who.key, root_thread=thread)
    retention: Retention = "full" if keeps else "metadata"
    by = Asker(who, request, services.replica, end_user, thread, "api", retention, at, marks)
    items = {"asked": user_message(text)}
    row, _ = recorded(
        shipped(),
        rests_on,
        measure,
        by,
        secret=services.secret,
        clock=services.working_days,
        id=decision,
        items=set_aside(measure, items, newest="asked", decision=decision),
        material=Material(parts=(Part("asked", text, "person"),)),
    )
    places = (who.organisation, who.project, who.user, who.key)
    opened = Opened(request, at, services.replica, *places, "", "api", "", "chat", "mend", "mend", "default", cost)
    state, status = ("refused", 403) if measure.blocks else ("done", 200)
    settled = Settled(request, who.key, who.project, who.organisation, state, status, measure.code, "mend", cost,
                      100, 0, 20, at, "", "", "")  # fmt: skip
    ledger = open_ledger(services.database.url)
    try:
        await ledger.write(Entries(whole=[(opened, settled)], judged=[row]))
    finally:
        await ledger.aclose()
    return decision, measure


async def furnish_decisions(services: Services, key: str) -> dict[str, str]:
    """Give Mary of Acme decisions, an appeal that waits, one that was decided, and a measure; return ids by kind."""
    directory = services.directory
    mary, rita, rolf = (directory.principal_of(f"user_{name}") for name in ("mary", "rita", "rolf"))
    assert mary and rita and rolf
    hers = mary._replace(key=key, project="proj_acme")
    made = [(await judge(services, hers, situation(DEVELOPS), text="the login page", keeps=True))[0]]
    made += [(await judge(services, hers, situation(MAKES), text=f"no. {number}"))[0] for number in range(5)]
    said = NewAppeal(text="The shop is ours: we test it before each release.")
    upheld = await make_appeal(services, mary, made[1], NewAppeal())
    why = AppealDecision(verdict="uphold", reason="It is ready to run, and aimed at others.")
    await decide_appeal(services, rita, upheld.id, why)
    [notice_row] = (await list_notices(services, mary, Listing())).data
    ids = {"decision": made[0], "upheld": made[1], "notice": notice_row.id}
    ids["appeal"] = (await make_appeal(services, mary, made[0], said)).id
    accounts = Accounts(services.database, services.audit)
    [proposed] = await accounts.after(marks_of(services.secret, user="user_mary"), services.clock())
    await review_account(services, rita, proposed.proposal, AccountReview(verdict="approve", reason="All are right."))
    await directory.refresh()
    return {**ids, "proposal": proposed.proposal}
