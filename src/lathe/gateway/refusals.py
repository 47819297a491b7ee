"""Why the gateway says no: every code with its HTTP status and its sentence, in one table that pages can list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A cause of refusals. `sentence` is filled with facts, `may_fall_back` where a project's fallback may help."""

    status: int
    sentence: str
    hint: str = ""
    may_fall_back: bool = False


class Refusal(NamedTuple):
    """One refusal: a stable `code`, a sentence for people, `details` for machines, the HTTP status, the next step."""

    code: str
    message: str
    details: dict[str, Any]
    status: int
    hint: str = ""


REFUSALS: dict[str, Kind] = {
    "model_unknown": Kind(
        404,
        "There is no model {model!r} here.",
        "GET /v1/models lists those that there are.",
    ),
    "model_unavailable": Kind(
        503,
        "The model {model} does not answer at the moment.",
        "Try again later, or name another model.",
        may_fall_back=True,
    ),
    "model_not_open": Kind(
        403,
        "{model} is not open to this request yet: {opening}.",
        "Ask again when it opens, or name a model that is open.",
        may_fall_back=True,
    ),
    "model_needs_access": Kind(
        403,
        "{model} needs {needed}; {held}.",
        "Apply for it with lathe access.",
    ),
    "model_needs_records": Kind(
        403,
        "{model} is served only where at least {needed} is kept of a request, and this project keeps {kept}.",
        "Have the project's retention changed, or name another model.",
        may_fall_back=True,
    ),
    "safeguards_expired": Kind(
        503,
        "The safeguards of {model} held until {when}, and nothing newer is known, so it is not served.",
        "Tell whoever runs the gateway, or name another model.",
        may_fall_back=True,
    ),
    "access_mismatch": Kind(
        403,
        "The request asks to be judged by {program!r}, which does not fit it: {why}; it would need {needed}.",
        "Leave the field out to be judged by the strongest access that fits, or name one that is held.",
    ),
    "access_not_held": Kind(
        403,
        "The request asks to be judged by {program!r}, which is not held; {held}.",
        "Leave the field out, or apply for it with lathe access.",
    ),
    "entitlement_expired": Kind(
        403,
        "The entitlement {entitlement} ({tier}) expired on {when}; {needed} is needed.",
        "Apply for its renewal with lathe access.",
    ),
    "entitlement_revoked": Kind(
        403,
        "The entitlement {entitlement} ({tier}) was revoked on {when}: {why}; {needed} is needed.",
        "Ask a reviewer of the gateway, or apply anew with lathe access.",
    ),
    "entitlement_not_begun": Kind(
        403,
        "The entitlement {entitlement} ({tier}) begins on {when}; {needed} is needed.",
        "Ask again when it has begun.",
    ),
    "engagement_mismatch": Kind(
        403,
        "The request names the engagement {engagement!r}, which this project does not hold; {held}.",
        "Name one that the project holds, or leave the field out.",
    ),
    "engagement_expired": Kind(
        403,
        "The engagement {engagement} ended on {when}.",
        "Have it renewed with a new window and authority.",
    ),
    "engagement_revoked": Kind(
        403,
        "The engagement {engagement} was revoked on {when}.",
        "Ask a reviewer of the gateway.",
    ),
    "engagement_not_begun": Kind(
        403,
        "The engagement {engagement} begins on {when}.",
        "Ask again when it has begun.",
    ),
}


def refusal(code: str, *, details: dict[str, Any], **facts: str) -> Refusal:
    """Return the refusal of a code of the table; `facts` fill its sentence."""
    kind = REFUSALS[code]
    return Refusal(code, kind.sentence.format_map(facts), details, kind.status, kind.hint)


def moment(at: int) -> str:
    """Return milliseconds since the epoch as people read them, in UTC to the minute."""
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{at} ms after 1970"


def listed(words: list[str], nothing: str = "nothing", most: int = 5) -> str:
    """Return words as a list in a sentence, the rest counted."""
    if not words:
        return nothing
    shown = words[:most] + ([f"{len(words) - most} more"] if len(words) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
