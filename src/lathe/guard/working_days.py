"""The clock of appeals: working days, with weekends and holidays left out."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

import msgspec

from lathe.protocol.errors import ConfigError

_LONGEST_PAUSE = 60


class Calendar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which days are worked. `weekend` counts from Monday, 0, to Sunday, 6; `holidays` are dates (`2026-12-25`)."""

    weekend: tuple[int, ...] = (5, 6)
    holidays: tuple[date, ...] = ()
    zone: str = "UTC"


class Clock(NamedTuple):
    """A calendar that is ready for use."""

    calendar: Calendar
    zone: tzinfo

    @classmethod
    def of(cls, calendar: Calendar) -> Clock:
        """Return the clock of a calendar; raise `ConfigError` for a zone that there is not, or one without work."""
        if not set(range(7)) - set(calendar.weekend):
            raise ConfigError("The calendar of appeals has no working day in its week.", code="guard_calendar")
        if calendar.zone == "UTC":
            return cls(calendar, UTC)
        from zoneinfo import ZoneInfo

        try:
            return cls(calendar, ZoneInfo(calendar.zone))
        except (KeyError, ValueError, OSError):
            raise ConfigError(f"{calendar.zone!r} is no time zone.", code="guard_calendar") from None

    def after(self, at: int, days: int) -> int:
        """Return the time `days` working days after `at`; both are milliseconds since the epoch.

        The clock stands still on days that are not worked: from Friday noon two days lead to Tuesday noon.
        """
        now = datetime.fromtimestamp(at / 1000, self.zone)
        if not self._worked(now.date()):
            now = self._next(datetime.combine(now.date(), time(0), self.zone))
        for _ in range(days):
            now = self._next(now)
        return round(now.timestamp() * 1000)

    def _next(self, now: datetime) -> datetime:
        for _ in range(_LONGEST_PAUSE):
            now += timedelta(days=1)
            if self._worked(now.date()):
                return now
        raise ConfigError(f"The calendar of appeals has no working day for {_LONGEST_PAUSE} days after {now:%F}.")

    def _worked(self, day: date) -> bool:
        return day.weekday() not in self.calendar.weekend and day not in self.calendar.holidays
