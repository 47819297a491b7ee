"""What is asked and answered about decisions, appeals and measures about accounts, as it stands in JSON.

Times are milliseconds since the epoch, money is millionths of a US dollar.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from lathe.gateway.admin.shapes import Asking, Listing, Note, OptionalId
from lathe.gateway.admin.shapes_access import Review
from lathe.guard.policy import Step

Standing: TypeAlias = Literal["stands", "appealed", "upheld", "reversed"]
"""What became of a decision."""
Reason: TypeAlias = Annotated[str, msgspec.Meta(min_length=10, max_length=4000)]

# --- decisions and notices


class Decisions(Listing, frozen=True, kw_only=True):
    """Which decisions; `mine` are those that the caller can appeal."""

    mine: bool = False
    step: Step | Literal[""] = ""
    clause: Annotated[str, msgspec.Meta(max_length=64)] = ""
    project: OptionalId = ""


class DecisionRow(msgspec.Struct, frozen=True):
    """A decision in a list."""

    id: str
    at: int
    request: str
    organisation: str
    project: str
    user: str
    key: str
    surface: str
    step: str
    scope: str
    clause: str
    code: str
    policy: str
    state: Standing


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, or a measure about an account (`kind` says which), with what is told of it.

    `appealable` says whether the caller can appeal now, and `decided_by` by when it would be decided. `appeal` is the
    last one that there was, "" for none.
    """

    id: str
    kind: Literal["decision", "account"]
    at: int
    organisation: str
    state: Standing
    appealable: bool
    decided_by: int
    appeal: str
    text: str
    notice: dict[str, Any]
    request: str = ""
    project: str = ""
    user: str = ""
    key: str = ""


class NoticeRow(msgspec.Struct, frozen=True):
    """Something that somebody is told; `about` is what it is about: a decision, an account or an appeal."""

    id: str
    kind: str
    of: str
    title: str
    text: str
    about: dict[str, Any]
    at: int
    seen: int | None
    mailed: int | None


# --- appeals


class NewAppeal(Asking, frozen=True, kw_only=True):
    """Why a decision was wrong, in one's own words; none are needed."""

    text: Note = ""


class Appeals(Listing, frozen=True, kw_only=True):
    """Which appeals; those that wait come in the order in which they are due, all others the newest first."""

    state: Literal["waiting", "open", "taken", "upheld", "reversed", "withdrawn", ""] = ""
    decision: OptionalId = ""
    mine: bool = False


class Appeal(msgspec.Struct, frozen=True, kw_only=True):
    """An appeal; `due` is by when it is decided, and `overdue` whether that has passed.

    `repair` is what a reversal has put right, and `case` whether it became a case that later policies are tried on.
    """

    id: str
    decision: str
    clause: str
    organisation: str
    project: str
    by: str
    at: int
    due: int
    overdue: bool
    state: str
    text: str
    reviewer: str
    decided: int | None
    reason: str
    fault: str
    repair: dict[str, Any] | None
    case: bool


class AppealFile(msgspec.Struct, frozen=True, kw_only=True):
    """An appeal with what is known of the decision; `may_decide` says whether the caller can, and `why_not` why not.

    `situation` is what the decision rested on, for those who decide; `material` is what was judged, where it is kept.
    """

    appeal: Appeal
    decision: Decision
    may_decide: bool
    why_not: str
    situation: dict[str, Any] | None = None
    material: dict[str, Any] | None = None
    earlier: list[Appeal] = []


class Corrected(Asking, frozen=True, kw_only=True):
    """Facts as they were in truth; what is left out was as the decision took it."""

    tier: Literal["default", "verified", "organisation", "specialist"] | None = None
    scope: Annotated[tuple[str, ...], msgspec.Meta(max_length=50)] | None = None
    engagement: OptionalId | None = None
    targets: dict[str, Literal["own", "engaged", "third", "unclear"]] | None = None


class AppealDecision(Asking, frozen=True, kw_only=True):
    """A decision on an appeal. A reversal says what was at fault.

    For a fault of facts, `corrected` says how they were. For one of a monitor, `material` is the text that it was
    wrong about, where none was kept and who appealed has given it.
    """

    verdict: Literal["uphold", "reverse"]
    reason: Reason
    fault: Literal["policy", "monitor", "facts", ""] = ""
    corrected: Corrected | None = None
    material: Annotated[str, msgspec.Meta(max_length=100_000)] = ""


# --- accounts


class Accounts(Listing, frozen=True, kw_only=True):
    state: Literal["open", "in_force", "declined", "lifted", "replaced", "withdrawn", ""] = ""


class AccountRow(msgspec.Struct, frozen=True):
    """A proposal about an account in a list; `holds` is what is in force for it now, `version` names what it says."""

    id: str
    state: str
    wanted: str
    holds: str
    organisation: str
    users: list[str]
    why: str
    at: int
    decided: int | None
    approvals: int
    version: str


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal about an account with all that it rests on.

    `account` is how the ledger sees it now: state, score, and each change with its sentence. `decisions` are those
    that the proposal names, reversed ones included.
    """

    proposal: AccountRow
    account: dict[str, Any]
    decisions: list[DecisionRow]
    reviews: list[Review]
    may_review: bool
    why_not: str


class AccountReview(Asking, frozen=True, kw_only=True):
    """What a reviewer says of a proposal; one objection ends it.

    With `version` it counts only for what the proposal said when it was read.
    """

    verdict: Literal["approve", "object"]
    reason: Reason
    version: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{12})?$")] = ""


class Lifting(Asking, frozen=True, kw_only=True):
    """Why a measure is to be lifted; another reviewer must approve it."""

    reason: Reason
