"""The way in which robfig/cron v3 walks from an instant to the next slot, step by step.

PURE. The CronJob controller fires what this walk finds. Nearly always that is just the next local time that
the cron text names, and `schedule` computes it without walking. Near some changes of a zone's offset it is
not: where midnight does not exist, or the clock is turned by something else than one hour, the walk steps
over matching times or stops at others, depending on where it started. There only going the same way gives
the same slots, so this follows SpecSchedule.Next in spec.go, and time.Date of Go for local times that don't
exist or exist twice.

All instants are whole seconds since 1970-01-01T00:00Z.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from crontabber_operator.zone_offsets import DAY_SECONDS, LAST_INSTANT

if TYPE_CHECKING:
    from crontabber_operator.wall_clock import WallClock
    from crontabber_operator.zone_offsets import ZoneOffsets

GIVE_UP_YEARS = 5
"""A slot must come by the end of the fifth calendar year after the start's, or there is none."""

_MINUTE_SECONDS = 60
_HOUR_SECONDS = 3_600
_NOON_HOUR = 12
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

# More days than the walk can visit before it gives up; beyond, it is going round in a circle.
_MOST_STEPS = 3_000


class EndlessWalkError(Exception):
    """robfig/cron would never return: a zone skipped a whole day, and the walk can't get over it."""


def next_slot(wall: WallClock, offsets: ZoneOffsets, instant: int) -> int | None:
    """Return what robfig/cron's Next gives for an instant; None where it gives up.

    `wall` must have a matching minute (not `wall.never`). Raises EndlessWalkError where robfig/cron hangs.
    """
    return _Walk(wall, offsets, instant + 1).run()


class _Walk:
    """Where the walk is, as an instant and as local time; each method moves one unit of it."""

    __slots__ = ("_date", "_instant", "_moved", "_offsets", "_second", "_steps", "_wall")

    def __init__(self, wall: WallClock, offsets: ZoneOffsets, start: int) -> None:
        self._wall = wall
        self._offsets = offsets
        self._moved = False  # the first move goes to the start of its unit
        self._steps = 0
        self._go(start)

    def run(self) -> int | None:
        last_year = self._date.year + GIVE_UP_YEARS
        while self._date.year <= last_year and self._instant < LAST_INSTANT:
            # A unit that comes round (a new year, month, day, hour or minute) has the larger ones looked at
            # anew.
            if (
                self._settle_month()
                and self._settle_day()
                and self._settle_hour()
                and self._settle_minute()
                and self._settle_second()
            ):
                return self._instant
        return None

    def _settle_month(self) -> bool:
        while not self._wall.months >> self._date.month & 1:
            if not self._moved:
                self._moved = True
                self._go_local(self._date.replace(day=1).toordinal(), 0)
            # Counted from the next month's first, as the month may have no such day: then it runs over.
            months = self._date.year * 12 + self._date.month
            first = date(months // 12, months % 12 + 1, 1).toordinal()
            self._go_local(first + self._date.day - 1, self._second)
            if self._date.month == 1:
                return False
        return True

    def _settle_day(self) -> bool:
        while not self._wall.matches_day(self._date):
            if not self._moved:
                self._moved = True
                self._go_local(self._date.toordinal(), 0)
            self._go_local(self._date.toordinal() + 1, self._second)
            # Where midnight does not exist this was meant to mend it; it may end on the day before.
            hour = self._second // _HOUR_SECONDS
            if hour > _NOON_HOUR:
                self._go(self._instant + (24 - hour) * _HOUR_SECONDS)
            elif hour:
                self._go(self._instant - hour * _HOUR_SECONDS)
            if self._date.day == 1:
                return False
        return True

    def _settle_hour(self) -> bool:
        while not self._wall.hours >> (self._second // _HOUR_SECONDS) & 1:
            if not self._moved:
                self._moved = True
                self._go_local(self._date.toordinal(), self._second // _HOUR_SECONDS * _HOUR_SECONDS)
            self._go(self._instant + _HOUR_SECONDS)
            if self._second < _HOUR_SECONDS:
                return False
        return True

    def _settle_minute(self) -> bool:
        while not self._wall.minutes >> (self._second % _HOUR_SECONDS // _MINUTE_SECONDS) & 1:
            if not self._moved:
                self._moved = True
                self._go(self._instant - self._instant % _MINUTE_SECONDS)
            self._go(self._instant + _MINUTE_SECONDS)
            if self._second % _HOUR_SECONDS < _MINUTE_SECONDS:
                return False
        return True

    def _settle_second(self) -> bool:
        if self._second % _MINUTE_SECONDS == 0:
            return True
        self._moved = True
        while rest := -self._second % _MINUTE_SECONDS:
            # By the second where the offset changes before the minute is full.
            same_offset = self._offsets.at(self._instant) == self._offsets.at(self._instant + rest)
            self._go(self._instant + (rest if same_offset else 1))
        return False

    def _go(self, instant: int) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise EndlessWalkError
        self._instant = instant
        day, self._second = divmod(instant + self._offsets.at(instant), DAY_SECONDS)
        self._date = date.fromordinal(day + _EPOCH_ORDINAL)

    def _go_local(self, ordinal: int, second: int) -> None:
        """Go to a local time, as Go's time.Date does."""
        self._go(self._offsets.instant_of((ordinal - _EPOCH_ORDINAL) * DAY_SECONDS + second))
