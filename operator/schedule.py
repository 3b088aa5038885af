"""The slots of a schedule or a frequency: which come next, which is the newest, how many lie between.

PURE: reads no clock; the time zones' data is all that it looks up. It neither knows what ran nor decides what
should run.

A `schedule` has exactly the slots that the CronJob controller fires (robfig/cron v3, `ParseStandard` and
`Next`). A `frequency` has the multiples of its interval since Monday 1970-01-05 at `time` UTC, whenever the
resource was made. Slots are computed, never listed: a year of missed minutes costs no more than an hour of
them.

Instants are aware datetimes, in any zone as arguments and in UTC as results; fractions of a second are
dropped. A naive datetime is a TypeError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfoNotFoundError

from crontabber_operator.cron_chain import CronChain
from crontabber_operator.cron_text import ScheduleError, cron_fields, parse_cron_text
from crontabber_operator.zone_offsets import FIRST_INSTANT, LAST_INSTANT, ZoneOffsets, zone_offsets

__all__ = [
    "FREQUENCY_PATTERN",
    "MAX_FREQUENCY",
    "CronSchedule",
    "Frequency",
    "ScheduleError",
    "Slots",
    "parse_frequency",
    "parse_schedule",
]

FREQUENCY_PATTERN: Final = r"^[1-9][0-9]{0,5}[mhd]$"
MAX_FREQUENCY: Final = timedelta(days=366)
"""A frequency is at most a year: what happens more rarely has a date, which a schedule can name."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_UNITS: Final = {"m": _MINUTE, "h": _HOUR, "d": _DAY}
_FIRST_MONDAY_SECONDS = 4 * 86_400
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

# What the API server takes for the name of a zone; its names that are no IANA names mean another zone on
# another machine (Local, localtime) or count leap seconds (right/…).
_ZONE_NAME = re.compile(r"(?!.*\.\.)(?:(?!-)[A-Za-z0-9._+-]{1,14})(?:/(?!-)[A-Za-z0-9._+-]{1,14})*")
_NO_IANA_ZONE = re.compile(r"local|localtime|posixrules|factory|(?:posix|right)/.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """The slots of a cron text in a time zone, from `parse_schedule`.

    The slots are the chain that robfig/cron gives when it is asked for the next one again and again. Where
    a clock change is unusual (midnight skipped, or not by one hour; docs/schedules.md has the list) that
    chain can depend on where it starts. There `next_after`, `nth_after` and `count` follow the chain from
    the instant that they are given, as the CronJob controller does from its lastScheduleTime, and
    `newest_until` and `nth_newest_until` follow the one that comes from long before.
    """

    text: str
    time_zone: str | None
    _chain: CronChain = field(repr=False, compare=False)

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after an instant.

        None where there is none until the end of the fifth calendar year after it: there robfig/cron gives
        up.
        """
        return _next_after(self._chain, _seconds(instant))

    def newest_until(self, instant: datetime) -> datetime | None:
        """Return the newest slot at or before an instant, None where the schedule has no slots at all."""
        return self.nth_newest_until(instant, 1)

    def count(self, after: datetime, until: datetime) -> int:
        """Count the slots in (after, until]; 0 where `until` is not later."""
        return self._chain.count(_seconds(after), _seconds(until))

    def nth_after(self, instant: datetime, n: int) -> datetime | None:
        """Return the n-th slot after an instant; 1 is `next_after`. Raises ValueError for n < 1."""
        return _datetime(self._chain.nth_after(_seconds(instant), _counted(n)))

    def nth_newest_until(self, instant: datetime, n: int) -> datetime | None:
        """Return the n-th newest slot at or before an instant, from 1. Raises ValueError for n < 1."""
        return _nth_newest_until(self._chain, _seconds(instant), _counted(n))

    def describe(self) -> str:
        """Return the cron text for people, with its zone where one is given: `0 5 * * 1 (Europe/Berlin)`."""
        text = " ".join(cron_fields(self.text))
        return f"{text} ({self.time_zone})" if self.time_zone else text


@dataclass(frozen=True, slots=True)
class Frequency:
    """The slots of a frequency, from `parse_frequency`: an even grid in UTC."""

    text: str
    interval: timedelta
    time_of_day: timedelta | None
    """How long after 00:00 UTC the slots of a frequency in days are; None for minutes and hours."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after an instant. None only where the calendar ends (year 9999)."""
        return self.nth_after(instant, 1)

    def newest_until(self, instant: datetime) -> datetime | None:
        """Return the newest slot at or before an instant. None only where the calendar begins (year 1)."""
        return self.nth_newest_until(instant, 1)

    def count(self, after: datetime, until: datetime) -> int:
        """Count the slots in (after, until]; 0 where `until` is not later."""
        return max(self._grid_number(until) - self._grid_number(after), 0)

    def nth_after(self, instant: datetime, n: int) -> datetime | None:
        """Return the n-th slot after an instant; 1 is `next_after`. Raises ValueError for n < 1."""
        return self._grid_point(self._grid_number(instant) + _counted(n))

    def nth_newest_until(self, instant: datetime, n: int) -> datetime | None:
        """Return the n-th newest slot at or before an instant, from 1. Raises ValueError for n < 1."""
        return self._grid_point(self._grid_number(instant) + 1 - _counted(n))

    def describe(self) -> str:
        """Return the frequency for people: `every 7h`, `every 1d @ 05:00 UTC`."""
        if self.time_of_day is None:
            return f"every {self.text}"
        hour, minute = divmod(self.time_of_day // _MINUTE, 60)
        return f"every {self.text} @ {hour:02}:{minute:02} UTC"

    def static_cron(self) -> str | None:
        """Return a cron text whose slots in UTC are exactly these.

        None where there is none, because the interval does not divide an hour, a day or a week (45m, 7h, 3d).
        """
        hour, minute = divmod((self.time_of_day or timedelta()) // _MINUTE, 60)
        if _HOUR % self.interval == timedelta():
            return f"{_every(self.interval // _MINUTE, 60)} * * * *"
        if _DAY % self.interval == timedelta() and self.interval < _DAY:
            return f"0 {_every(self.interval // _HOUR, 24)} * * *" if not self.interval % _HOUR else None
        if self.interval == _DAY:
            return f"{minute} {hour} * * *"
        if self.interval == _WEEK:
            return f"{minute} {hour} * * 1"
        return None

    def every(self) -> str:
        """Return the interval as the CronJob controller reads it: `@every 45m`, `@every 72h`.

        It counts from the CronJob's lastScheduleTime, so that must be one of these slots.
        """
        hours, rest = divmod(self.interval, _HOUR)
        return f"@every {self.interval // _MINUTE}m" if rest else f"@every {hours}h"

    @property
    def _offset_seconds(self) -> int:
        return _FIRST_MONDAY_SECONDS + (self.time_of_day or timedelta()) // _SECOND

    def _grid_number(self, instant: datetime) -> int:
        """Return the number of the newest slot at or before an instant; the first Monday's is 0."""
        return (_seconds(instant) - self._offset_seconds) // (self.interval // _SECOND)

    def _grid_point(self, number: int) -> datetime | None:
        return _datetime(number * (self.interval // _SECOND) + self._offset_seconds)


Slots: TypeAlias = CronSchedule | Frequency


@lru_cache(maxsize=16_384)
def parse_schedule(text: str, time_zone: str | None = None) -> CronSchedule:
    """Read a `schedule` and its `timeZone`; without one, it is in UTC.

    Resources with the same text and zone share one object. Raises ScheduleError, which names `schedule` or
    `timeZone`.
    """
    wall = parse_cron_text(text)
    return CronSchedule(text, time_zone, CronChain(wall, _find_zone(time_zone)))


@lru_cache(maxsize=16_384)
def parse_frequency(text: str, time: str | None = None) -> Frequency:
    """Read a `frequency` and its `time`, which only one in days may have; without, that is 00:00 UTC.

    Raises ScheduleError, which names `frequency` or `time`.
    """
    if not re.fullmatch(FREQUENCY_PATTERN, text):
        raise ScheduleError(
            f"frequency {text!r}: must be a number from 1 and a unit, m for minutes, h for hours or d for"
            " days, such as 45m, 7h or 1d."
        )
    interval = int(text[:-1]) * _UNITS[text[-1]]
    if interval > MAX_FREQUENCY:
        raise ScheduleError(
            f"frequency {text!r}: is longer than {MAX_FREQUENCY.days} days; set a schedule with a date"
            " instead, such as '0 5 1 1 *'."
        )
    in_days = text.endswith("d")
    if time is None:
        return Frequency(text, interval, timedelta() if in_days else None)
    if not in_days:
        raise ScheduleError(
            f"time {time!r}: goes only with a frequency in days, not with {text}; remove time."
        )
    match = _TIME.fullmatch(time)
    if match is None:
        raise ScheduleError(f"time {time!r}: must be HH:MM in UTC, from 00:00 to 23:59, such as 05:00.")
    return Frequency(text, interval, timedelta(hours=int(match[1]), minutes=int(match[2])))


def _find_zone(name: str | None) -> ZoneOffsets:
    if name is None:
        return zone_offsets("UTC")
    if _ZONE_NAME.fullmatch(name) and not _NO_IANA_ZONE.fullmatch(name):
        try:
            return zone_offsets(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # unknown, or no file of a zone (a folder such as America)
    raise ScheduleError(
        f"timeZone {name!r}: is not known; set an IANA name, written exactly as there, such as Europe/Berlin"
        " or UTC."
    )


def _every(step: int, whole: int) -> str:
    return {1: "*", whole: "0"}.get(step, f"*/{step}")


def _counted(n: int) -> int:
    if n < 1:
        raise ValueError(f"slots are counted from 1, not from {n}")
    return n


# One decision asks the same a few times over, and all jobs of a schedule that fall due in the same second do.
_ANSWERS_REMEMBERED = 8192


@lru_cache(maxsize=_ANSWERS_REMEMBERED)
def _next_after(chain: CronChain, seconds: int) -> datetime | None:
    return _datetime(chain.next_after(seconds))


@lru_cache(maxsize=_ANSWERS_REMEMBERED)
def _nth_newest_until(chain: CronChain, seconds: int, n: int) -> datetime | None:
    return _datetime(chain.nth_newest_until(seconds, n))


def _seconds(instant: datetime) -> int:
    seconds = (instant - _EPOCH) // _SECOND
    return min(max(seconds, FIRST_INSTANT), LAST_INSTANT)


def _datetime(seconds: int | None) -> datetime | None:
    if seconds is None or not FIRST_INSTANT <= seconds <= LAST_INSTANT:
        return None
    return _EPOCH + timedelta(seconds=seconds)
