"""A schedule as a drawing: one bar for each of its entries, from the day on which it opens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from lathe.gateway.rollout import Schedule

WIDTH = 900
_LEFT = 250
_ROW = 30
_TOP = 26
_DAY_MS = 86_400_000


class Bar(NamedTuple):
    """An entry: its name and place, in the units of the drawing; `share` is that of projects."""

    name: str
    x: float
    y: int
    width: float
    share: float


class Mark(NamedTuple):
    """A day at the top."""

    x: float
    text: str


class Timeline(NamedTuple):
    """All of it; `today` is where now is."""

    bars: list[Bar]
    marks: list[Mark]
    today: float
    height: int
    left: int = _LEFT
    width: int = WIDTH


def draw(schedule: Schedule, now: int) -> Timeline:
    """Return the drawing of a schedule, with some time before its first date and after its last."""
    starts = [entry.starts for entry in schedule.entries] or [now]
    recent = [at for at in starts if at > now - 3650 * _DAY_MS] or [now]
    first, last = min([*recent, now]), max([*recent, now])
    span = max(last - first, 14 * _DAY_MS)
    first, last = first - span // 12, last + span // 4

    def place(at: int) -> float:
        return round(_LEFT + (min(max(at, first), last) - first) / (last - first) * (WIDTH - _LEFT), 1)

    bars = []
    for number, entry in enumerate(schedule.entries):
        who = (
            entry.tier + ("" if entry.tier == "specialist" else " and above") if entry.tier != "default" else "everyone"
        )
        where = ", ".join(entry.surfaces) or "every surface"
        name = f"{who}: {where}" + (f" ({', '.join(entry.regions)})" if entry.regions else "")
        x = place(entry.starts)
        bars.append(Bar(name, x, _TOP + number * _ROW, round(WIDTH - x, 1), entry.share))
    marks = [Mark(place(at), f"{datetime.fromtimestamp(at / 1000, UTC):%d %b}") for at in sorted(set(recent))]
    kept: list[Mark] = []
    for mark in marks:
        if not kept or mark.x - kept[-1].x > 60:
            kept.append(mark)
    return Timeline(bars, kept, place(now), _TOP + len(schedule.entries) * _ROW + 6)
