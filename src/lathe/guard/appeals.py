"""Appeals: a decision is looked at anew by a person who had no part in it, within two working days.

An appeal is data and goes through its states by functions. A reversal says what is to be repaired, and becomes a case
that no later policy or monitor may get wrong again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from lathe.guard.findings import Material
from lathe.guard.ladder import Situation
from lathe.guard.notices import APPEAL_DAYS
from lathe.guard.policy import Step
from lathe.guard.working_days import Clock
from lathe.protocol.errors import UsageError

State: TypeAlias = Literal["open", "taken", "upheld", "reversed", "withdrawn"]
Fault: TypeAlias = Literal["policy", "monitor", "facts"]
"""What was wrong with a decision that is reversed: the rules; what a monitor found; what was held to be so (the tier,
whose target it is)."""
_DECIDED: frozenset[str] = frozenset({"upheld", "reversed"})
_MOST = 2
_SHORTEST_REASON = 10
_HOUR_MS = 3_600_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Appeal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An appeal. Times are milliseconds since the epoch; `due` is by when it is to be decided.

    `not_by` are the people who had a part in the decision before, and who therefore can't decide again.
    """

    id: str
    decision: str
    by: str
    at: int
    due: int
    text: str = ""
    clause: str = ""
    not_by: tuple[str, ...] = ()
    state: State = "open"
    reviewer: str = ""
    decided: int = 0
    reason: str = ""
    fault: Fault | Literal[""] = ""


class Decided(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is on record of the decision that is appealed. `tokens` and `cost` (micro-dollars) were charged for it.

    `situation` is what it rested on; `material` is what was judged, where the project's retention lets it be kept.
    """

    decision: str
    thread: str
    situation: Situation
    policy: str
    marks: tuple[str, ...] = ()
    tokens: int = 0
    cost: int = 0
    reviewers: tuple[str, ...] = ()
    clause: str = ""
    material: Material | None = None


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done after a reversal; each part may be done twice without harm.

    `overturned` no longer counts in the ledger of `marks`; the items that `released` set aside come back into
    `thread`; `tokens` and `cost` go back to the quota. `reopen` are proposals about the account to be looked at anew.
    """

    decision: str
    appeal: str
    thread: str
    marks: tuple[str, ...]
    overturned: tuple[str, ...]
    released: tuple[str, ...]
    tokens: int
    cost: int
    reopen: tuple[str, ...]


class Regression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case that came of an appeal, as a file. With `situation`, a policy must come to `at_most` that step.

    With `material`, no monitor named in `monitors` may find a clause of `never` in it again.
    """

    name: str
    why: str
    at_most: Step = "log"
    situation: Situation | None = None
    material: Material | None = None
    monitors: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class Share(NamedTuple):
    """Decided appeals: how many, how many reversed, and the rate with its 95 % interval (Wilson)."""

    decided: int
    overturned: int
    rate: float
    low: float
    high: float


class Report(NamedTuple):
    """What is published of appeals. Hours are by the wall clock, weekends included."""

    opened: int
    waiting: int
    overdue: int
    withdrawn: int
    in_time: int
    overall: Share
    median_hours: float | None
    by_clause: dict[str, Share]


def opened(
    id: str, of: Decided, *, by: str, at: int, clock: Clock, text: str = "", before: Sequence[Appeal] = ()
) -> Appeal:
    """Return a new appeal against a decision; `before` are those there were against it.

    Raises `UsageError` where one waits already, where it was reversed, or where two people have upheld it.
    """
    mine = [one for one in before if one.decision == of.decision]
    if waiting := next((one for one in mine if one.state in ("open", "taken")), None):
        raise _wrong(f"The appeal {waiting.id} against {of.decision} waits for its decision.", "appeal_waits")
    if any(one.state == "reversed" for one in mine):
        raise _wrong(f"The decision {of.decision} is reversed already.", "appeal_reversed")
    if sum(one.state == "upheld" for one in mine) >= _MOST:
        raise _wrong(f"{_MOST} people have upheld the decision {of.decision}.", "appeal_exhausted")
    return Appeal(
        id=id,
        decision=of.decision,
        by=by,
        at=at,
        due=clock.after(at, APPEAL_DAYS),
        text=text,
        clause=of.clause,
        not_by=tuple(sorted({*of.reviewers, *(one.reviewer for one in mine if one.reviewer)})),
    )


def taken(appeal: Appeal, reviewer: str) -> Appeal:
    """Return the appeal in the hands of a reviewer; raise `UsageError` where they can't decide it."""
    _check_open(appeal)
    _check_reviewer(appeal, reviewer)
    return msgspec.structs.replace(appeal, state="taken", reviewer=reviewer)


def decided(
    appeal: Appeal, *, reviewer: str, at: int, reverses: bool, reason: str, fault: Fault | Literal[""] = ""
) -> Appeal:
    """Return the appeal as a person decided it; raise `UsageError` where they can't, or give no reason."""
    _check_open(appeal)
    _check_reviewer(appeal, reviewer)
    if len(reason.strip()) < _SHORTEST_REASON:
        raise _wrong("A decision on an appeal needs a reason that its reader can follow.", "appeal_reason")
    if reverses != bool(fault):
        raise _wrong("A reversal, and only that, says whether policy, monitor or facts were wrong.", "appeal_fault")
    return msgspec.structs.replace(
        appeal,
        state="reversed" if reverses else "upheld",
        reviewer=reviewer,
        decided=at,
        reason=reason.strip(),
        fault=fault,
    )


def withdrawn(appeal: Appeal, *, by: str, at: int) -> Appeal:
    """Return the appeal as taken back by who made it."""
    _check_open(appeal)
    if by != appeal.by:
        raise _wrong("Only who made an appeal can withdraw it.", "appeal_not_yours")
    return msgspec.structs.replace(appeal, state="withdrawn", decided=at)


def queue(appeals: Iterable[Appeal]) -> list[Appeal]:
    """Return the appeals that wait, in the order in which they are due."""
    return sorted((one for one in appeals if one.state in ("open", "taken")), key=lambda one: (one.due, one.id))


def repair(appeal: Appeal, of: Decided, proposals: Iterable[tuple[str, Sequence[str]]] = ()) -> Repair:
    """Return what a reversal is to put right; `proposals` are those about the account, with what each rests on."""
    if appeal.state != "reversed" or appeal.decision != of.decision:
        raise _wrong(f"The appeal {appeal.id} has not reversed the decision {of.decision}.", "appeal_not_reversed")
    return Repair(
        decision=of.decision,
        appeal=appeal.id,
        thread=of.thread,
        marks=of.marks,
        overturned=(of.decision,),
        released=(of.decision,),
        tokens=of.tokens,
        cost=of.cost,
        reopen=tuple(id for id, rests_on in proposals if of.decision in rests_on),
    )


def regression(appeal: Appeal, of: Decided, *, corrected: Situation | None = None) -> Regression:
    """Return the case that a reversal becomes; `corrected` is the situation as it was in truth, for a fault of facts.

    Raises `UsageError` where there is nothing to test: no corrected situation, or nothing kept of what was judged.
    """
    if appeal.state != "reversed" or appeal.decision != of.decision:
        raise _wrong(f"The appeal {appeal.id} has not reversed the decision {of.decision}.", "appeal_not_reversed")
    name = f"appeal {appeal.id}: {of.clause or of.decision}"
    if appeal.fault == "policy":
        return Regression(name=name, why=appeal.reason, situation=of.situation)
    if appeal.fault == "facts":
        if corrected is None or corrected == of.situation:
            raise _wrong("A fault of facts needs the situation as it was in truth.", "appeal_facts")
        return Regression(name=name, why=appeal.reason, situation=corrected)
    if of.material is None:
        raise _wrong(
            "Nothing is kept of what was judged, so no case can be made of it; ask who appealed for it.",
            "appeal_material",
        )
    wrong = [one for one in of.situation.findings if one.clause == of.clause]
    return Regression(
        name=name,
        why=appeal.reason,
        material=of.material,
        monitors=tuple(dict.fromkeys(one.monitor for one in wrong)),
        never=(of.clause,),
    )


def file_name(case: Regression) -> str:
    """Return the name of the JSON file of a case."""
    return re.sub(r"[^a-z0-9]+", "_", case.name.lower()).strip("_")[:80] + ".json"


def report(appeals: Iterable[Appeal], at: int) -> Report:
    """Return what is published of appeals as of a time."""
    known = [one for one in appeals if one.at <= at]
    done = [one for one in known if one.state in _DECIDED]
    waiting = queue(known)
    clauses = sorted({one.clause for one in done})
    return Report(
        opened=len(known),
        waiting=len(waiting),
        overdue=sum(one.due < at for one in waiting),
        withdrawn=sum(one.state == "withdrawn" for one in known),
        in_time=sum(one.decided <= one.due for one in done),
        overall=_share(done),
        median_hours=round(median((one.decided - one.at) / _HOUR_MS for one in done), 1) if done else None,
        by_clause={clause: _share([one for one in done if one.clause == clause]) for clause in clauses},
    )


def _share(done: Sequence[Appeal]) -> Share:
    return share(len(done), sum(one.state == "reversed" for one in done))


def share(count: int, hits: int) -> Share:
    """Return how many of `count` are `hits`, as a rate with its interval."""
    if not count:
        return Share(0, 0, 0.0, 0.0, 1.0)
    z, rate = 1.959964, hits / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return Share(count, hits, round(rate, 4), round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4))


def _check_open(appeal: Appeal) -> None:
    if appeal.state not in ("open", "taken"):
        raise _wrong(f"The appeal {appeal.id} is {appeal.state} already.", "appeal_closed")


def _check_reviewer(appeal: Appeal, reviewer: str) -> None:
    if not _NAME.fullmatch(reviewer):
        raise _wrong("An appeal is decided by a person with a name.", "appeal_reviewer")
    if reviewer == appeal.by:
        raise _wrong("Nobody decides their own appeal.", "appeal_own")
    if reviewer in appeal.not_by:
        raise _wrong(f"{reviewer} had a part in the decision, so somebody else decides.", "appeal_same_person")
    if appeal.state == "taken" and reviewer != appeal.reviewer:
        raise _wrong(f"The appeal {appeal.id} is in the hands of {appeal.reviewer}.", "appeal_taken")


def _wrong(sentence: str, code: str) -> UsageError:
    return UsageError(sentence, code=code)
