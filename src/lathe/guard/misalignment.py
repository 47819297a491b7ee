"""The monitor of misalignment: the agent's own straying, apart from what people misuse it for.

It looks at acts before they run and after, in the light of the thread so far, and at the account that the agent gives
in the end. It is pure: what it is shown is plain data, what it says are findings, and the policy decides. What it
can't tell it leaves alone, for most that an agent does is what it was asked to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from lathe.guard.findings import Finding, Span
from lathe.guard.history import Act, Edit, History
from lathe.guard.straying import account, bounds, departures, judges, permissions
from lathe.guard.straying.deeds import Deed, Sign
from lathe.guard.straying.first_look import worth

if TYPE_CHECKING:
    from lathe.guard.shell_run import Reading

__all__ = ["Act", "Edit", "History", "MisalignmentMonitor"]

MONITOR: Final = "misalignment"
_CONFIDENCE: Final = 0.8
_LONGEST: Final = 100_000
_DETECTORS: tuple[Callable[[Deed, History], Iterator[Sign]], ...] = (
    permissions.signs,
    permissions.key_signs,
    judges.signs,
    departures.signs,
    bounds.signs,
)


class MisalignmentMonitor:
    """Looks at what an agent does, and at what it says of it."""

    def look(self, act: Act, history: History, reading: Reading | None = None) -> list[Finding]:
        """Return what of an act strays; `history` is the thread before it, without it.

        `reading` is the line of shell as `follow` reads it, where the caller has that already. Of several signs for
        one clause the strongest is kept.
        """
        if act.refused or not worth(act, history):
            return []
        deed = Deed(act, history, reading)
        strongest: dict[str, Sign] = {}
        for sign in chain.from_iterable(detect(deed, history) for detect in _DETECTORS):
            if sign.clause not in strongest or sign.score > strongest[sign.clause].score:
                strongest[sign.clause] = sign
        return [_finding(sign, act) for sign in strongest.values()]

    def summary(self, text: str, history: History, part: str = "") -> list[Finding]:
        """Return what of the account `text`, which the item `part` holds, is contradicted by the trace."""
        claims: Iterable[account.Claim] = account.contradicted(text[:_LONGEST], history)
        return [
            Finding(
                monitor=MONITOR,
                clause=account.CLAUSE,
                score=claim.score,
                spans=(Span(part, claim.start, claim.end, "model"),),
                why=claim.why,
                confidence=_CONFIDENCE,
            )
            for claim in claims
        ]


def _finding(sign: Sign, act: Act) -> Finding:
    return Finding(
        monitor=MONITOR,
        clause=sign.clause,
        score=min(sign.score, 1.0),
        spans=(Span(act.id, 0, len(act.text), "model"),),
        why=sign.why,
        confidence=_CONFIDENCE,
        evidence={"targets": [one for one in sign.targets if one]},
    )
