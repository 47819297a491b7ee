"""What the guard decided of one exchange, and how it is put on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from lathe.gateway.guarding.state import salted
from lathe.gateway.policy import Policy as AccessPolicy
from lathe.gateway.principals import Principal
from lathe.guard.findings import Finding, Material
from lathe.guard.ladder import Measure, Situation, Target
from lathe.guard.ledger import entry_of, mark, marks_of
from lathe.guard.notices import Notice, notice
from lathe.guard.policy import SEVERITY, Policy
from lathe.guard.quarantine import Blocked
from lathe.guard.reasoner_signs import relation_of
from lathe.guard.trial import keepable
from lathe.guard.wording import judged_by
from lathe.guard.working_days import Clock
from lathe.protocol.trust import Retention, Surface
from lathe.store.gateway.ledger import BlockedItem, Judged, LetIn

if TYPE_CHECKING:
    from lathe.gateway.guarding.answers import AnswerWatch


class Asker(NamedTuple):
    """Who asks, and by what right: all that a decision on the words of a request rests on besides."""

    who: Principal
    request: str
    replica: str
    end_user: str
    thread: str
    surface: Surface
    retention: Retention
    at: int
    marks: tuple[str, ...]


class Guarded:
    """One exchange: `step` is the strictest of what followed, `decision` the id of it.

    `judged` and `let_in` are what is written: decisions, and what was set aside before and is served now. `set_aside`
    are the decisions by which something in the conversation is left out, `answer` judges what comes back,
    `pending` is a second look that the answer waits for.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.step = "allow"
        self.decision = ""
        self.judged: list[Judged] = []
        self.let_in: list[LetIn] = []
        self.set_aside: tuple[str, ...] = ()
        self.notice: Notice | None = None
        self.answer: AnswerWatch | None = None
        self.pending: asyncio.Task[None] | None = None

    @property
    def on_receipt(self) -> dict[str, str]:
        """The fields of a receipt that say it."""
        return {"guard": self.step, "guard_policy": self.policy, "guard_decision": self.decision}

    @property
    def said(self) -> dict[str, Any]:
        """What an answer's field `lathe` says of it; nothing where nothing followed."""
        said: dict[str, Any] = {}
        if self.decision and self.step != "log":
            said["guard"] = {"step": self.step, "decision": self.decision}
            if self.notice is not None:
                said["guard"]["notice"] = msgspec.to_builtins(self.notice)
        if self.set_aside:
            said["set_aside"] = list(self.set_aside)
        return said

    def drop(self) -> None:
        """Wait for no second look any more."""
        if self.pending is not None:
            self.pending.cancel()
            self.pending = None

    def add(self, judged: Judged, measure: Measure, told: Notice) -> None:
        """Take over a decision."""
        self.judged.append(judged)
        if SEVERITY[measure.step] >= SEVERITY[self.step]:
            self.step, self.decision, self.notice = measure.step, judged.id, told


def asker(
    secret: bytes,
    who: Principal,
    *,
    request: str,
    replica: str,
    end_user: str,
    thread: bytes,
    surface: Surface,
    retention: Retention,
    at: int,
) -> Asker:
    """Return who asks; `thread` is anything that is the same for all of a conversation."""
    name, marks = _names(secret, who, end_user, thread)
    return Asker(who, request, replica, end_user, name, surface, retention, at, marks)


@lru_cache(maxsize=4096)
def _names(secret: bytes, who: Principal, end_user: str, thread: bytes) -> tuple[str, tuple[str, ...]]:
    """Return by what a conversation, and who has it, are known again."""
    name = mark(secret, "thread", f"{who.project}/{thread.hex()}")
    return name, marks_of(secret, user=who.user, end_user=end_user, key=who.key, root_thread=name)


def targets_of(access: AccessPolicy, engagement: str, findings: Sequence[Finding]) -> tuple[Target, ...]:
    """Return what the targets that findings name are: within the engagement, one's own by nature, or not to be told."""
    names = dict.fromkeys(name for finding in findings for name in finding.targets)
    within = access.targets(engagement) if engagement else None
    return tuple(
        Target(name, "engaged" if within is not None and within.cover(name) else relation_of(name)) for name in names
    )


def recorded(
    policy: Policy,
    situation: Situation,
    measure: Measure,
    by: Asker,
    *,
    secret: bytes,
    clock: Clock,
    id: str,
    items: Sequence[Blocked] = (),
    material: Material | None = None,
) -> tuple[Judged, Notice]:
    """Return the row of a decision, and its notice; `items` are what it sets aside.

    With retention `zero` nothing is kept that reaches beyond the request: no item, no actor, no words.
    """
    right = judged_by(situation.tier, situation.scope, situation.engagement)
    told = notice(measure, policy, decision=id, at=by.at, clock=clock, judged_by=right)
    lasting = by.retention != "zero"
    first = items[0].identity if items else ""
    aimed = tuple(mark(secret, "target", one.name) for one in situation.targets if one.relation in ("third", "unclear"))
    entry = (
        entry_of(
            measure,
            decision=id,
            at=by.at,
            marks=by.marks,
            item=salted(secret, by.who.project, first) if first else "",
            thread=by.thread,
            targets=aimed,
        )
        if lasting
        else None
    )
    body = {"situation": keepable(situation), "measure": measure, "notice": told}
    row = Judged(
        id=id,
        at=by.at,
        request=by.request,
        replica=by.replica,
        organisation=by.who.organisation,
        project=by.who.project,
        user=by.who.user,
        key=by.who.key,
        thread=by.thread,
        surface=by.surface,
        step=measure.step,
        scope=measure.scope,
        clause=measure.clause,
        code=measure.code,
        concern=measure.concern,
        policy=measure.policy,
        body=msgspec.json.encode(body).decode(),
        entry=msgspec.json.encode(entry).decode() if entry is not None else "",
        material=msgspec.json.encode(material).decode() if material is not None and by.retention == "full" else "",
        marks=by.marks if entry is not None else (),
        items=tuple(
            BlockedItem(salted(secret, by.who.project, one.identity), one.code, one.clause, one.id[:200], "blocked")
            for one in items
        )
        if lasting
        else (),
    )
    return row, told
