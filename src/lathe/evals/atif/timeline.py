"""When the steps of a trajectory were, by clocks that may have been set meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from lathe.evals.atif.format import Step


def seconds_of(steps: Iterable[Step], within_s: float = 0.0) -> list[float | None]:
    """Return for each step the seconds since the first that says when it was; None where a step does not say.

    Time never goes back, and no step is more than `within_s` after the one before (0 where that is not known): where
    the clock was set, as much time passed as makes the steps follow at once.
    """
    found: list[float | None] = []
    base: float | None = None
    last = 0.0
    for step in steps:
        at = _at(step.timestamp)
        if at is None:
            found.append(None)
            continue
        base = at if base is None else base
        passed = at - base - last
        if passed < 0 or 0 < within_s < passed:
            base += passed
        last = at - base
        found.append(last)
    return found


def _at(timestamp: str | None) -> float | None:
    try:
        return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None
    except (ValueError, OverflowError):
        return None
