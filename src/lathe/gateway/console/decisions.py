"""Decisions about oneself and what one has been told; appeals, and measures about accounts for those who decide."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from lathe.gateway.admin import accounts, appeals
from lathe.gateway.admin import decisions as operations
from lathe.gateway.admin.faults import AdminError
from lathe.gateway.admin.shapes import Listing
from lathe.gateway.admin.shapes_guard import (
    Account,
    AccountReview,
    Accounts,
    AppealDecision,
    AppealFile,
    Appeals,
    Decisions,
    Lifting,
    NewAppeal,
)
from lathe.gateway.console.forms import lines, shaped
from lathe.gateway.console.gate import Visit
from lathe.gateway.principals import TIERS

_HERE = "/console/decisions"
_APPEALS = "/console/appeals"
_ACCOUNTS = "/console/accounts"
APPEAL_STATES = ("waiting", "upheld", "reversed", "withdrawn", "all")
ACCOUNT_STATES = ("open", "in_force", "declined", "lifted", "replaced", "withdrawn", "all")


async def index(visit: Visit) -> Response:
    """List what one has been told, and the decisions about oneself."""
    asked = shaped(Decisions, visit.asking(mine="true"))
    found = await visit.do(operations.list_decisions, asked)
    told = await visit.do(operations.list_notices, Listing(limit=20))
    return visit.page("decisions.html", page=found, notices_of=told.data)


async def one(visit: Visit) -> Response:
    """Show a decision as it was told, with the form to appeal."""
    found = await visit.do(operations.show_decision, visit.request.path_params["decision"])
    before = await visit.do(appeals.list_appeals, Appeals(decision=found.id, limit=20))
    return visit.page("decision.html", decision=found, appeals=before.data)


async def appeal(visit: Visit) -> Response:
    """Appeal."""
    decision = visit.request.path_params["decision"]
    made = await visit.do(appeals.make_appeal, decision, shaped(NewAppeal, {"text": visit.field("text")}))
    return visit.back(f"{_APPEALS}/{made.id}", "appealed")


async def read(visit: Visit) -> Response:
    """Mark a notice as read."""
    await visit.do(operations.read_notice, visit.request.path_params["notice"])
    return visit.back(_HERE)


async def queue(visit: Visit) -> Response:
    """List appeals, those that are due first at the top."""
    state = visit.request.query_params.get("state", "waiting")
    found = await visit.do(appeals.list_appeals, shaped(Appeals, visit.asking(state="" if state == "all" else state)))
    return visit.page("appeals.html", page=found, state=state, states=APPEAL_STATES)


async def appeal_one(visit: Visit) -> Response:
    """Show an appeal, with the form to decide it for who may."""
    return _appeal(visit, await visit.do(appeals.show_appeal, visit.request.path_params["appeal"]))


def _appeal(visit: Visit, found: AppealFile, fault: AdminError | None = None) -> Response:
    assert visit.principal is not None
    waiting = found.appeal.state in ("open", "taken")
    return visit.page(
        "appeal.html",
        status=400 if fault else 200,
        appeal=found.appeal,
        decision=found.decision,
        situation=found.situation,
        material=found.material,
        earlier=found.earlier,
        tiers=TIERS,
        may_decide=found.may_decide,
        may_withdraw=waiting and found.appeal.by == visit.principal.user,
        why_not=found.why_not if waiting and visit.may(appeals.decide_appeal) else "",
        fault=fault,
    )


async def take(visit: Visit) -> Response:
    """Take an appeal in hand."""
    id = visit.request.path_params["appeal"]
    await visit.do(appeals.take_appeal, id)
    return visit.back(f"{_APPEALS}/{id}", "taken")


async def decide(visit: Visit) -> Response:
    """Uphold or reverse; what was written is kept where something is missing."""
    id = visit.request.path_params["appeal"]
    verdict = visit.field("verdict", 20)
    values: dict[str, Any] = {"verdict": verdict, "reason": visit.field("reason")}
    if verdict == "reverse":
        values |= {"fault": visit.field("fault", 20), "material": visit.field("material", 100_000)}
        if values["fault"] == "facts":
            values["corrected"] = _facts(visit)
    try:
        await visit.do(appeals.decide_appeal, id, shaped(AppealDecision, values))
    except AdminError as error:
        if error.status != 400:
            raise
        return _appeal(visit, await visit.do(appeals.show_appeal, id), error)
    return visit.back(f"{_APPEALS}/{id}", "reversed" if verdict == "reverse" else "upheld")


def _facts(visit: Visit) -> dict[str, Any]:
    """Return the facts as the form has them: each target with what it is to the person."""
    names = visit.chosen("target")
    relations = {name: visit.field(f"relation-{number}", 20) for number, name in enumerate(names)}
    return {"tier": visit.field("tier", 20), "scope": lines(visit.field("scope", 500)), "targets": relations}


async def withdraw(visit: Visit) -> Response:
    """Take one's own appeal back."""
    id = visit.request.path_params["appeal"]
    await visit.do(appeals.withdraw_appeal, id)
    return visit.back(f"{_APPEALS}/{id}", "appeal-withdrawn")


async def account_index(visit: Visit) -> Response:
    """List proposals about accounts."""
    state = visit.request.query_params.get("state", "open")
    asked = shaped(Accounts, visit.asking(state="" if state == "all" else state))
    found = await visit.do(accounts.list_accounts, asked)
    return visit.page("accounts.html", page=found, state=state, states=ACCOUNT_STATES)


async def account(visit: Visit) -> Response:
    """Show a proposal, with the form to review it for who may."""
    return _account(visit, await visit.do(accounts.show_account, visit.request.path_params["proposal"]))


def _account(visit: Visit, found: Account, fault: AdminError | None = None) -> Response:
    judges = visit.may(accounts.review_account)
    in_force = found.proposal.state == "in_force" and found.proposal.wanted != "clear"
    return visit.page(
        "account_measure.html",
        status=400 if fault else 200,
        found=found,
        proposal=found.proposal,
        may_lift=judges and in_force and found.why_not != "Nobody judges their own account.",
        judges=judges,
        fault=fault,
    )


async def account_review(visit: Visit) -> Response:
    """Approve or object."""
    verdict = visit.field("verdict", 20)
    values = {"verdict": verdict, "reason": visit.field("reason"), "version": visit.field("version", 20)}
    id = visit.request.path_params["proposal"]
    try:
        await visit.do(accounts.review_account, id, shaped(AccountReview, values))
    except AdminError as error:
        if error.status != 400:
            raise
        return _account(visit, await visit.do(accounts.show_account, id), error)
    return visit.back(f"{_ACCOUNTS}/{id}", "approved" if verdict == "approve" else "objected")


async def account_lift(visit: Visit) -> Response:
    """Propose that a measure be lifted."""
    id = visit.request.path_params["proposal"]
    try:
        made = await visit.do(accounts.lift_account, id, shaped(Lifting, {"reason": visit.field("reason")}))
    except AdminError as error:
        if error.status != 400:
            raise
        return _account(visit, await visit.do(accounts.show_account, id), error)
    return visit.back(f"{_ACCOUNTS}/{made.proposal.id}", "lift-proposed")
