"""Appeals as they are kept: made, taken, decided, and what becomes of a reversal."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import insert, update

from lathe.gateway.admin.faults import AdminError
from lathe.gateway.guarding import telling
from lathe.gateway.guarding.on_record import Subject, as_json, people_of
from lathe.gateway.guarding.repairing import Repaired
from lathe.guard import appeals as rules
from lathe.guard.appeals import Appeal, Regression
from lathe.guard.findings import Material, Part
from lathe.guard.ladder import Situation, Target, decide
from lathe.guard.policy import SEVERITY, Policy
from lathe.protocol.errors import UsageError
from lathe.store.gateway.guard_schema import appeals

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from lathe.gateway.admin.desk import Desk
    from lathe.gateway.admin.shapes_guard import AppealDecision, Corrected
    from lathe.gateway.settings import GuardTable

_T = TypeVar("_T")
_STATUS = {
    "appeal_own": 403,
    "appeal_same_person": 403,
    "appeal_reviewer": 403,
    "appeal_not_yours": 403,
    "appeal_waits": 409,
    "appeal_reversed": 409,
    "appeal_exhausted": 409,
    "appeal_closed": 409,
    "appeal_taken": 409,
}


def checked(step: Callable[[], _T]) -> _T:
    """Return what a step of the rules comes to; raise `AdminError` where they don't allow it."""
    try:
        return step()
    except UsageError as error:
        raise AdminError(_STATUS.get(error.code, 400), error.code, error.message, error.hint) from None


async def policy_in_force(settings: GuardTable) -> Policy:
    """Return the policy by which the gateway decides now."""
    # in a thread: what is imported and read takes long enough for what is known of the database to grow stale
    return await asyncio.to_thread(_policy, settings)


@functools.cache
def _policy(settings: GuardTable) -> Policy:
    from lathe.gateway.guarding.guard import policy_of

    return policy_of(settings)


async def keep(connection: AsyncConnection, appeal: Appeal, subject: Subject) -> None:
    """Keep a new appeal."""
    values: dict[str, Any] = {
        "id": appeal.id,
        "decision": appeal.decision,
        "organisation": subject.organisation,
        "by": appeal.by,
    }
    values |= {"project": subject.project, **_columns(appeal), "at": appeal.at, "due": appeal.due}
    await connection.execute(insert(appeals).values(values))


async def change(connection: AsyncConnection, appeal: Appeal, **more: str) -> None:
    """Keep what became of an appeal; `more` are further columns."""
    await connection.execute(update(appeals).where(appeals.c.id == appeal.id).values(**_columns(appeal), **more))


def _columns(appeal: Appeal) -> dict[str, Any]:
    return {"state": appeal.state, "decided": appeal.decided or None, "body": as_json(appeal)}


def case_of(policy: Policy, appeal: Appeal, subject: Subject, asked: AppealDecision) -> tuple[Regression | None, str]:
    """Return the case that a reversal becomes, or None and why there is none; raise `AdminError` for wrong facts."""
    if subject.kind == "account":
        return None, "A measure about an account makes no case; those of its decisions that are reversed do."
    of = subject.of
    if asked.material and of.material is None:
        part = next((span.part for one in of.situation.findings for span in one.spans), "asked")
        of = msgspec.structs.replace(of, material=Material(parts=(Part(part, asked.material, "person"),)))
    corrected = _corrected(of.situation, asked.corrected) if appeal.fault == "facts" else None
    if corrected is not None:
        step = decide(policy, corrected).step
        if SEVERITY[step] > SEVERITY["log"]:
            raise AdminError(
                400, "appeal_facts", f"With these facts {step} would follow all the same.", "Is the policy at fault?"
            )
    if appeal.fault == "monitor" and of.material is None:
        return None, "Nothing is kept of what was judged: ask who appealed for the text, and give it with `material`."
    return checked(lambda: rules.regression(appeal, of, corrected=corrected)), ""


def _corrected(before: Situation, facts: Corrected | None) -> Situation | None:
    """Return a situation as it was in truth."""
    if facts is None:
        return None
    named = facts.targets or {}
    known = {one.name: one.relation for one in before.targets} | named
    return msgspec.structs.replace(
        before,
        tier=facts.tier or before.tier,
        scope=before.scope if facts.scope is None else facts.scope,
        engagement=before.engagement if facts.engagement is None else facts.engagement,
        targets=tuple(Target(name, relation) for name, relation in known.items()),
    )


async def tell_outcome(desk: Desk, appeal: Appeal, subject: Subject, repaired: Repaired) -> None:
    """Tell who appealed, and whom the decision was about, how it was decided and what was put right."""
    what = "The measure about your account" if subject.kind == "account" else f"The decision {appeal.decision}"
    reviewer = desk.services.directory.user(appeal.reviewer)
    name = reviewer.name if reviewer is not None and reviewer.name else appeal.reviewer
    if appeal.state == "reversed":
        faults = {"policy": "the rules", "monitor": "a monitor", "facts": "what was taken to be so"}
        title = "Your appeal: the decision is reversed"
        lines = [
            f"{what} is reversed. {name} looked at it anew. What was wrong: {faults[appeal.fault]}.",
            *repaired.sentences,
        ]
    else:
        title = "Your appeal: the decision stands"
        lines = [f"{what} stands. {name} looked at it anew, and had no part in it before."]
    lines += [f"Reason: {appeal.reason}", f"Appeal {appeal.id}; clause {appeal.clause or 'none'}."]
    about = {"appeal": appeal.id, "decision": appeal.decision, "state": appeal.state, "reason": appeal.reason}
    people = {appeal.by} if desk.services.directory.user(appeal.by) is not None else set()
    people |= set(await people_of(desk.connection, user=subject.user, organisation=subject.organisation,
                                  project=subject.project) if subject.kind == "decision" else ())  # fmt: skip
    notice = telling.Notice("appeal", appeal.id, title, "\n".join(lines), about)
    told = await telling.tell(desk.connection, sorted(people), notice, organisation=subject.organisation, at=desk.at)
    desk.record("notice.given", f"appeal:{appeal.id}", organisation=subject.organisation, people=told)
