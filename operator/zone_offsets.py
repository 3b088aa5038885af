"""When a time zone's distance to UTC changes.

PURE: reads the tz data through the standard library's zoneinfo, no clock. It knows nothing of cron, except
which changes cron takes without a stumble.

All instants are whole seconds since 1970-01-01T00:00Z, all offsets are seconds east of UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_SECONDS = 86_400
_HOUR_SECONDS = 3_600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _seconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(seconds=1)


# Python's dates end with the years 1 and 9999; two days inside of them, local times can be computed as well.
FIRST_INSTANT = _seconds(datetime(1, 1, 3, tzinfo=UTC))
LAST_INSTANT = _seconds(datetime(9999, 12, 29, tzinfo=UTC))

# Before it, every zone keeps its local mean time: the first change in the tz data is of 1844.
_FIRST_CHANGE = _seconds(datetime(1840, 1, 1, tzinfo=UTC))

# The standard library answers for an instant, but doesn't list the changes. So it is asked for an instant
# every four days: two changes of a zone were never less than 6.9 days apart (a test watches over that).
_PROBE_DAYS = 4
# Changes are found and remembered in blocks of about a year.
_BLOCK_SECONDS = 390 * DAY_SECONDS
# Into the neighbouring blocks as well: whether a change is smooth depends on what is near it.
_PROBES = tuple(
    range(
        -2 * _PROBE_DAYS * DAY_SECONDS,
        _BLOCK_SECONDS + 3 * _PROBE_DAYS * DAY_SECONDS,
        _PROBE_DAYS * DAY_SECONDS,
    )
)


class OffsetChange(NamedTuple):
    """A moment from which on a zone has another offset."""

    at: int
    before: int
    after: int
    smooth: bool
    """Whether cron takes this change without losing or inventing slots, see `_is_smooth`."""

    @property
    def reach(self) -> int:
        """How many seconds around `at` a local time may not exist, exist twice, or be taken for another."""
        return abs(self.after - self.before)


class ZoneOffsets:
    """The offsets of one zone. Get it from `zone_offsets`: all schedules in the zone share it."""

    __slots__ = ("_epoch", "zone")

    def __init__(self, zone: ZoneInfo | None) -> None:
        """Take the zone to look up, or None for UTC."""
        self.zone = zone
        self._epoch = datetime(1970, 1, 1, tzinfo=zone)

    def at(self, instant: int) -> int:
        """Return the offset that holds at an instant."""
        if self.zone is None:
            return 0
        block = _block(self, max(instant, _FIRST_CHANGE) // _BLOCK_SECONDS)
        offset = block.offset
        for change in block.changes:
            if change.at > instant:
                break
            offset = change.after
        return offset

    def look_up(self, instant: int) -> int:
        """Ask the tz data for the offset at an instant. `at` returns the same and is faster."""
        if self.zone is None:
            return 0
        if not _FIRST_CHANGE < instant < LAST_INSTANT:
            instant = min(max(instant, _FIRST_CHANGE), LAST_INSTANT)
        utc = self._epoch + timedelta(0, instant)
        offset = self.zone.fromutc(utc) - utc
        return offset.days * DAY_SECONDS + offset.seconds

    def instant_of(self, local: int) -> int:
        """Return the instant of a local time, given as seconds since 1970-01-01 00:00 on the wall.

        Where that local time doesn't exist or exists twice, it is the one that Go's time.Date takes: it
        corrects a first guess once.
        """
        return local - self.at(local - self.at(local))

    def changes(self, after: int, until: int) -> Iterator[OffsetChange]:
        """Yield the changes in (after, until], oldest first."""
        if self.zone is None:
            return
        first = max(after, _FIRST_CHANGE)
        for block in range(first // _BLOCK_SECONDS, min(until, LAST_INSTANT) // _BLOCK_SECONDS + 1):
            for change in _block(self, block).changes:
                if after < change.at <= until:
                    yield change

    def changes_back(self, until: int, after: int) -> Iterator[OffsetChange]:
        """Yield the changes in (after, until], newest first."""
        if self.zone is None:
            return
        first = max(after, _FIRST_CHANGE)
        for block in range(min(until, LAST_INSTANT) // _BLOCK_SECONDS, first // _BLOCK_SECONDS - 1, -1):
            for change in reversed(_block(self, block).changes):
                if after < change.at <= until:
                    yield change


@lru_cache(maxsize=1024)
def zone_offsets(name: str) -> ZoneOffsets:
    """Look a zone up by its IANA name.

    Raises what zoneinfo raises for an unknown one: ZoneInfoNotFoundError, ValueError or OSError.
    """
    return ZoneOffsets(None if name == "UTC" else ZoneInfo(name))


class _Block(NamedTuple):
    """About a year of a zone."""

    offset: int
    """What holds at its beginning."""
    changes: tuple[OffsetChange, ...]


@lru_cache(maxsize=8192)
def _block(offsets: ZoneOffsets, number: int) -> _Block:
    start = number * _BLOCK_SECONDS
    look_up = offsets.look_up
    found: list[tuple[int, int, int]] = []
    for (earlier, before), (later, after) in pairwise(
        [(start + probe, look_up(start + probe)) for probe in _PROBES]
    ):
        if before != after:
            low, high = earlier, later
            while high - low > 1:
                middle = (low + high) // 2
                if look_up(middle) == before:
                    low = middle
                else:
                    high = middle
            found.append((high, before, after))
    changes = tuple(
        OffsetChange(
            at, before, after, smooth=_is_smooth(at, before, after) and not _has_neighbour(at, found)
        )
        for at, before, after in found
        if start < at <= start + _BLOCK_SECONDS
    )
    return _Block(look_up(start), changes)


def _has_neighbour(when: int, found: list[tuple[int, int, int]]) -> bool:
    return any(other != when and abs(other - when) < 2 * DAY_SECONDS for other, _, _ in found)


def _is_smooth(when: int, before: int, after: int) -> bool:
    """Tell whether cron's walk by local days and hours meets nothing unusual at this change.

    It goes from one local midnight to the next and by whole hours within a day. That is exact where the
    clock is turned by one hour, on the hour, and no midnight is in the gap or comes twice: nearly all
    daylight saving time is like that.
    """
    if abs(after - before) != _HOUR_SECONDS or (when + before) % _HOUR_SECONDS:
        return False
    # The first local time that is missing (spring) or that comes a second time (autumn).
    return (when + min(before, after)) % DAY_SECONDS != 0
