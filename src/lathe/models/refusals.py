"""Refusals by policy: how endpoints say that they won't serve what they were sent, and what they say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lathe.protocol.blocks import PolicyRefusal
from lathe.protocol.ids import short_id

if TYPE_CHECKING:
    from lathe.models.retry import EndpointError

# Patterns stay strings, compiled when an error needs them.
# Codes of Azure, OpenAI and Google; words of Azure, OpenAI, Anthropic and OpenRouter.
_POLICY_CODE = (
    r"^(content_policy|content_filter|cyber_policy|bio_policy|misalignment_policy|prohibited_content$|moderation_blocked)"
    r"|policy_violation|responsible_?ai_?policy"
)
_POLICY_WORDS = (
    r"content management policy|blocked by content filter|flagged as potentially violating|your input was flagged"
)


def refusal_of(failure: EndpointError) -> PolicyRefusal | None:
    """Return the refusal by policy that an error is, None where it is another error.

    A gateway of Lathe's names the clause of the taxonomy and the decision; a rule about access is no such clause.
    """
    if failure.status not in (None, 400, 403, 406, 422, 451):
        return None
    own = failure.lathe
    clause, decision = own.get("clause"), own.get("decision")
    if isinstance(clause, str) and isinstance(decision, str) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", clause):
        guard = _table(own.get("guard"))
        return PolicyRefusal(
            code=_text(own.get("code")) or failure.code,
            clause=clause,
            decision=decision,
            message=failure.message,
            step=_text(guard.get("step")) or "refuse",
            items=_strings(own.get("items")),
            notes=_notes(_table(guard.get("notice"))),
        )
    by_code = _says(_POLICY_CODE, failure.code)
    if not by_code and not _says(_POLICY_WORDS, failure.message):
        return None
    return PolicyRefusal(
        code=failure.code if by_code else "content_policy",
        clause="endpoint.policy",
        decision=failure.headers.get("x-request-id") or failure.headers.get("request-id") or short_id("dec"),
        message=failure.message,
    )


def withheld_by(lathe: Mapping[str, Any] | None) -> PolicyRefusal | None:
    """Return why a gateway of Lathe's withheld an answer, by the answer's own field `lathe`; None where it did not."""
    guard = _table((lathe or {}).get("guard"))
    notice, decision = _table(guard.get("notice")), _text(guard.get("decision"))
    if not decision or not notice:
        return None
    return PolicyRefusal(
        code=_text(notice.get("code")),
        clause=_text(notice.get("clause")),
        decision=decision,
        message=_text(notice.get("sentence")),
        step=_text(guard.get("step")) or "withhold",
        notes=_notes(notice),
    )


def _notes(notice: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a gateway's notice says besides its sentence: why, what would allow it, and what can be done."""
    allowed = _strings(notice.get("allowed_by"))
    return (
        *(f"Why: {one}" for one in _strings(notice.get("why"))),
        *([f"It would be allowed by {'; or by '.join(allowed)}."] if allowed else ()),
        *_strings(notice.get("next_steps")),
    )


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _says(pattern: str, words: str) -> bool:
    return re.search(pattern, words, re.IGNORECASE) is not None
