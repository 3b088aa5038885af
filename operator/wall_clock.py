"""Which minutes on a clock on the wall a cron text names, whatever zone the wall is in.

PURE, and without any notion of UTC or daylight saving time: here every day has 1,440 minutes. `schedule` lays
this over the real days of a zone.

A wall minute is the number of minutes from 1970-01-01 00:00 to a local date and time as if no clock had
ever been turned. Nothing here goes through slots one by one: days are counted as bits of a month, minutes
as bits of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

DAY_MINUTES = 1_440
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LAST_ORDINAL = date.max.toordinal()

ALL_MINUTES = (1 << 60) - 1
ALL_HOURS = (1 << 24) - 1
ALL_MONTH_DAYS = (1 << 32) - 2
ALL_MONTHS = (1 << 13) - 2
ALL_WEEKDAYS = (1 << 7) - 1

_FEBRUARY = 2
_DECEMBER = 12
_EVERY_SEVENTH_BIT = sum(1 << (7 * week) for week in range(5))
_LONGEST_MONTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _from(start: int) -> int:
    """Mask of all bits from `start` up."""
    return -1 << start


def _below(end: int) -> int:
    """Mask of all bits below `end`."""
    return (1 << end) - 1


def _nth_lowest(bits: int, n: int) -> int:
    """Return the place of the n-th set bit, counted from 1 at the lowest."""
    for _ in range(n - 1):
        bits &= bits - 1
    return _lowest(bits)


@dataclass(frozen=True, slots=True)
class WallClock:
    """The five fields of a cron text, each as a set of bits: bit 5 of `hours` is five o'clock.

    Bits are numbered as cron numbers the values, so those of `month_days` and `months` start at 1. A day
    matches by its month and by both of `month_days` and `weekdays` (Sunday is 0), or by one of the two where
    `either_day` is set.
    """

    minutes: int
    hours: int
    month_days: int
    months: int
    weekdays: int
    either_day: bool

    _days_by_first_weekday: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _every_day: bool = field(init=False, repr=False, compare=False)
    slots_a_day: int = field(init=False, repr=False, compare=False)
    """How many minutes of a matching day match."""
    never: bool = field(init=False, repr=False, compare=False)
    """Whether no minute of any year matches, as with the 30th of February."""
    leap_days_only: bool = field(init=False, repr=False, compare=False)
    """Whether only the 29th of February matches: no other days are ever more than five years apart."""

    def __post_init__(self) -> None:
        """Lay the weekdays over a month, once for each weekday that its first day can be."""
        days: list[int] = []
        for first in range(7):
            week = (self.weekdays >> first | self.weekdays << (7 - first)) & ALL_WEEKDAYS
            by_weekday = (week * _EVERY_SEVENTH_BIT << 1) & ALL_MONTH_DAYS
            days.append(self.month_days | by_weekday if self.either_day else self.month_days & by_weekday)
        object.__setattr__(self, "_days_by_first_weekday", tuple(days))
        every_day = self.months == ALL_MONTHS and all(bits == ALL_MONTH_DAYS for bits in days)
        object.__setattr__(self, "_every_day", every_day)
        object.__setattr__(self, "slots_a_day", self.minutes.bit_count() * self.hours.bit_count())
        months = {month: bits for month in range(1, 13) if (bits := self._longest_month(month))}
        object.__setattr__(self, "never", not self.slots_a_day or not months)
        object.__setattr__(self, "leap_days_only", months == {_FEBRUARY: 1 << 29})

    def _longest_month(self, month: int) -> int:
        """Return the days that match in some year's month."""
        if not self.months >> month & 1:
            return 0
        days = 0
        for bits in self._days_by_first_weekday:
            days |= bits
        return days & _below(_LONGEST_MONTHS[month] + 1)

    def matches_day(self, day: date) -> bool:
        """Tell whether the day of the month and the weekday match, whatever the month."""
        of_month = self.month_days >> day.day & 1
        of_week = self.weekdays >> (day.toordinal() % 7) & 1
        return bool(of_month | of_week if self.either_day else of_month & of_week)

    def matches(self, wall_minute: int) -> bool:
        """Tell whether this very minute matches."""
        day, minute = divmod(wall_minute, DAY_MINUTES)
        hour, minute = divmod(minute, 60)
        return bool(self.minutes >> minute & self.hours >> hour & 1) and self._has_day(day)

    def count(self, start: int, end: int) -> int:
        """Count the matching minutes in [start, end)."""
        if end <= start:
            return 0
        first, first_minute = divmod(start, DAY_MINUTES)
        last, last_minute = divmod(end, DAY_MINUTES)
        slots = self._count_days(first, last) * self.slots_a_day
        if last_minute and self._has_day(last):
            slots += self._count_in_day(last_minute)
        if first_minute and self._has_day(first):
            slots -= self._count_in_day(first_minute)
        return slots

    def nth_from(self, start: int, end: int, n: int) -> int | None:
        """Return the n-th matching minute (1 is the first) in [start, end), None where there are fewer."""
        if not self.slots_a_day:
            return None
        day, minute = divmod(start, DAY_MINUTES)
        if minute and self._has_day(day):
            # As if the whole first day counted: its minutes before `start` are stepped over.
            n += self._count_in_day(minute)
        elif minute:
            day += 1
        days, nth_in_day = divmod(n - 1, self.slots_a_day)
        found = self._nth_day_from(day, (end + DAY_MINUTES - 1) // DAY_MINUTES, days + 1)
        if found is None:
            return None
        wall_minute = found * DAY_MINUTES + self._nth_in_day(nth_in_day + 1)
        return wall_minute if wall_minute < end else None

    def nth_back(self, start: int, end: int, n: int) -> int | None:
        """Return the n-th matching minute from the end (1 is the last) in [start, end)."""
        if not self.slots_a_day:
            return None
        day, minute = divmod(end, DAY_MINUTES)
        if minute and self._has_day(day):
            n += self.slots_a_day - self._count_in_day(minute)
            day += 1
        days, nth_in_day = divmod(n - 1, self.slots_a_day)
        found = self._nth_day_back(start // DAY_MINUTES, day, days + 1)
        if found is None:
            return None
        wall_minute = found * DAY_MINUTES + self._nth_in_day(self.slots_a_day - nth_in_day)
        return wall_minute if wall_minute >= start else None

    def _has_day(self, day: int) -> bool:
        if self._every_day:
            return True
        day_of_year = date.fromordinal(day + _EPOCH_ORDINAL)
        return bool(self.months >> day_of_year.month & 1) and self.matches_day(day_of_year)

    def _count_in_day(self, end: int) -> int:
        """Count the matching minutes of a matching day before its minute `end`."""
        hour, minute = divmod(end, 60)
        slots = (self.hours & _below(hour)).bit_count() * self.minutes.bit_count()
        if self.hours >> hour & 1:
            slots += (self.minutes & _below(minute)).bit_count()
        return slots

    def _nth_in_day(self, n: int) -> int:
        hours, nth_in_hour = divmod(n - 1, self.minutes.bit_count())
        return _nth_lowest(self.hours, hours + 1) * 60 + _nth_lowest(self.minutes, nth_in_hour + 1)

    def _month(self, year: int, month: int) -> tuple[int, int]:
        """Return the ordinal of the day before the month's first, and the month's matching days as bits."""
        before_first = date(year, month, 1).toordinal() - 1
        if not self.months >> month & 1:
            return before_first, 0
        days = self._days_by_first_weekday[(before_first + 1) % 7]
        if month == _FEBRUARY:
            leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
            return before_first, days & _below(30 if leap else 29)
        return before_first, days & _below(_LONGEST_MONTHS[month] + 1)

    def _count_days(self, start: int, end: int) -> int:
        """Count the matching days in [start, end)."""
        if self._every_day or end <= start:
            return max(end - start, 0)
        first, last = date.fromordinal(start + _EPOCH_ORDINAL), date.fromordinal(end + _EPOCH_ORDINAL)
        year, month, skipped = first.year, first.month, _below(first.day)
        days = 0
        while (year, month) < (last.year, last.month):
            days += (self._month(year, month)[1] & ~skipped).bit_count()
            skipped = 0
            year, month = (year, month + 1) if month < _DECEMBER else (year + 1, 1)
        return days + (self._month(year, month)[1] & ~skipped & _below(last.day)).bit_count()

    def _nth_day_from(self, start: int, end: int, n: int) -> int | None:
        """Return the n-th matching day in [start, end)."""
        if self._every_day:
            return start + n - 1 if start + n - 1 < end else None
        start, end = start + _EPOCH_ORDINAL, min(end + _EPOCH_ORDINAL, _LAST_ORDINAL + 1)
        if start >= end:
            return None
        first = date.fromordinal(start)
        year, month, wanted = first.year, first.month, _from(first.day)
        while year <= date.max.year:
            before_first, days = self._month(year, month)
            if before_first + 1 >= end:
                return None
            days &= wanted
            count = days.bit_count()
            if n <= count:
                ordinal = before_first + _nth_lowest(days, n)
                return ordinal - _EPOCH_ORDINAL if ordinal < end else None
            n -= count
            wanted = -1
            year, month = (year, month + 1) if month < _DECEMBER else (year + 1, 1)
        return None

    def _nth_day_back(self, start: int, end: int, n: int) -> int | None:
        """Return the n-th matching day from the end in [start, end)."""
        if self._every_day:
            return end - n if end - n >= start else None
        start, end = max(start + _EPOCH_ORDINAL, 1), end + _EPOCH_ORDINAL
        if start >= end:
            return None
        last = date.fromordinal(end - 1)
        year, month, wanted = last.year, last.month, _below(last.day + 1)
        while year >= date.min.year:
            before_first, days = self._month(year, month)
            days &= wanted
            count = days.bit_count()
            if n <= count:
                ordinal = before_first + _nth_lowest(days, count - n + 1)
                return ordinal - _EPOCH_ORDINAL if ordinal >= start else None
            if before_first < start:
                return None
            n -= count
            wanted = -1
            year, month = (year, month - 1) if month > 1 else (year - 1, _DECEMBER)
        return None
