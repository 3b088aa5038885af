"""The slots of the simple schedules that the chaos uses, computed here anew: the judge must not ask the accused.

Every N minutes, in UTC: `*/N * * * *`, `A-59/N * * * *`, `M * * * *`, `* * * * *`, and frequencies of minutes or hours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
"""Frequencies count from here; whole hours, so `*/N` within an hour does too, where N divides 60."""
_CRON = re.compile(r"(?:(?P<every>\*)|(?P<minute>\d+)|(?:\*|(?P<first>\d+)-59)/(?P<step>\d+)) \* \* \* \*")
_FREQUENCY = re.compile(r"(?P<count>\d+)(?P<unit>[mh])")


class UnknownScheduleError(ValueError):
    """A schedule that this module does not know."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Slots at equal distances."""

    period: timedelta
    offset: timedelta = timedelta(0)

    def newest_until(self, time: datetime) -> datetime:
        """Return the newest slot at or before a time."""
        return time - (time - MONDAY - self.offset) % self.period

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """List the slots after a time, up to another one, oldest first."""
        slots = []
        slot = self.newest_until(after) + self.period
        while slot <= until:
            slots.append(slot)
            slot += self.period
        return slots


def grid_of(spec: Mapping[str, Any]) -> Grid:
    """Return the slots of a CrontabberJob's spec. Raises UnknownScheduleError."""
    if "frequency" in spec:
        found = _FREQUENCY.fullmatch(spec["frequency"])
        if found is None:
            raise UnknownScheduleError(spec["frequency"])
        unit = timedelta(minutes=1) if found["unit"] == "m" else timedelta(hours=1)
        return Grid(int(found["count"]) * unit)
    found = _CRON.fullmatch(spec["schedule"])
    if found is None or spec.get("timeZone", "UTC") != "UTC":
        raise UnknownScheduleError(spec["schedule"])
    if found["every"]:
        return Grid(timedelta(minutes=1))
    if found["minute"]:
        return Grid(timedelta(hours=1), timedelta(minutes=int(found["minute"])))
    step = int(found["step"])
    first = int(found["first"] or 0)
    if 60 % step or first >= step:
        raise UnknownScheduleError(spec["schedule"])
    return Grid(timedelta(minutes=step), timedelta(minutes=first))
