"""Figures as people read them, the same in every form of the report."""

from __future__ import annotations

from lathe.evals.stats.intervals import Interval


def share(value: float | None) -> str:
    """Return a reward or a share as a percentage with one decimal; `-` for None."""
    return "-" if value is None else f"{value * 100:.1f} %"


def spread(interval: Interval) -> str:
    """Return an interval as two percentages."""
    return f"{interval.low * 100:.1f} to {interval.high * 100:.1f} %"


def seconds(value: float) -> str:
    """Return a duration, as coarse as its size."""
    if value == 0:
        return "0 s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def dollars(value: float | None) -> str:
    """Return a cost in US dollars; `-` where no price is known."""
    if value is None:
        return "-"
    return f"${value:.4f}" if 0 < value < 0.1 else f"${value:,.2f}"


def tokens(value: float) -> str:
    """Return a number of tokens with a unit."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"
