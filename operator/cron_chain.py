"""The slots of a cron text in a time zone: each is what robfig/cron finds from the one before.

PURE. Nearly everywhere the slots are the instants whose local time the cron text names ("matches"), and
those are counted by the calendar (`wall_clock`) between two changes of the zone's offset. Only across a
change that is not smooth (`zone_offsets`) is it found out by walking (`cron_walk`) which of them are slots;
such a walk depends on where it starts.

All instants are whole seconds since 1970-01-01T00:00Z.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from crontabber_operator.cron_walk import GIVE_UP_YEARS, EndlessWalkError, next_slot
from crontabber_operator.zone_offsets import DAY_SECONDS, FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crontabber_operator.wall_clock import WallClock
    from crontabber_operator.zone_offsets import OffsetChange, ZoneOffsets

_MONTH_SECONDS = 32 * DAY_SECONDS
_YEAR_SECONDS = 366 * DAY_SECONDS
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

# However late in the year an instant is: this far ahead, robfig/cron still looks for a slot.
_NEVER_GIVEN_UP_SECONDS = (GIVE_UP_YEARS - 1) * _YEAR_SECONDS

# Runs get longer and longer, so that a near slot isn't paid for with a look at all years to come.
_FIRST_RUN_SECONDS = 4 * _YEAR_SECONDS

# A walk that was thrown off course by a change is back on it at the latest where the next matching date comes
# round, which for the 29th of February is in eight years.
_MEMORY_SECONDS = 9 * _YEAR_SECONDS


class _Span(NamedTuple):
    """A time in which the offset stays the same, as wall minutes [start, end)."""

    start: int
    end: int
    offset: int

    def instant(self, wall_minute: int) -> int:
        return wall_minute * 60 - self.offset


class _Run(NamedTuple):
    """A piece of the chain: all matches in (low, high], or just the one slot `high`."""

    low: int
    high: int
    single: bool


class CronChain:
    """The slots of one cron text in one zone."""

    __slots__ = ("_offsets", "_wall")

    def __init__(self, wall: WallClock, offsets: ZoneOffsets) -> None:
        self._wall = wall
        self._offsets = offsets

    def next_after(self, instant: int) -> int | None:
        """Return what robfig/cron's Next gives: the first slot after an instant, None where it gives up."""
        if not self._wall.slots_a_day:
            return None
        end = instant + _NEVER_GIVEN_UP_SECONDS
        match = None if self._wall.never else self._nth_match(instant, end, 1)
        if match is None:
            end = self._give_up(instant)
            match = None if self._wall.never else self._nth_match(instant, end, 1)
        if not self._may_stray(instant, end if match is None else match):
            return match
        try:
            slot = next_slot(self._wall, self._offsets, instant)
        except EndlessWalkError:
            return match
        # Where a clock is not set back by whole hours, robfig/cron can come to a time before its start.
        return match if slot is not None and slot <= instant else slot

    def count(self, after: int, until: int) -> int:
        """Count the slots in (after, until] that follow on `after`."""
        return sum(
            1 if run.single else self._count_matches(run.low, run.high) for run in self._runs(after, until)
        )

    def nth_after(self, instant: int, n: int) -> int | None:
        """Return the n-th slot that follows on an instant (1 is `next_after`)."""
        for run in self._runs(instant, LAST_INSTANT):
            if run.single:
                n -= 1
                if n == 0:
                    return run.high
            elif (slot := self._nth_match(run.low, run.high, n)) is not None:
                return slot
            else:
                n -= self._count_matches(run.low, run.high)
        return None

    def nth_newest_until(self, instant: int, n: int) -> int | None:
        """Return the n-th newest slot at or before an instant (1 is the newest), None where there is none."""
        if self._wall.never:
            return None
        matches_back = n
        while (match := self._nth_match_back(instant, FIRST_INSTANT, matches_back)) is not None:
            if self._wall.leap_days_only:
                return match
            start = self._slot_until(match)
            beyond = self.count(start, instant) + 1 - n
            if beyond >= 0:
                return self.nth_after(start, beyond) if beyond else start
            # Some of the matches are no slots: begin further back.
            matches_back = 2 * matches_back + 8
        return None

    def _spans(self, after: int, until: int) -> Iterator[_Span]:
        """Cut (after, until] where the offset changes."""
        start, offset = after + 1, self._offsets.at(after + 1)
        for change in self._offsets.changes(start, until):
            yield _span(start, change.at, offset)
            start, offset = change.at, change.after
        yield _span(start, until + 1, offset)

    def _spans_back(self, until: int, after: int) -> Iterator[_Span]:
        """Cut (after, until] where the offset changes, the newest piece first."""
        end, offset = until + 1, self._offsets.at(until)
        for change in self._offsets.changes_back(until, after + 1):
            yield _span(change.at, end, offset)
            end, offset = change.at, change.before
        yield _span(after + 1, end, offset)

    def _count_matches(self, after: int, until: int) -> int:
        if until <= after:
            return 0
        return sum(self._wall.count(span.start, span.end) for span in self._spans(after, until))

    def _nth_match(self, after: int, until: int, n: int) -> int | None:
        for span in self._spans(after, min(until, LAST_INSTANT)):
            found = self._wall.nth_from(span.start, span.end, n)
            if found is not None:
                return span.instant(found)
            n -= self._wall.count(span.start, span.end)
        return None

    def _nth_match_back(self, until: int, after: int, n: int) -> int | None:
        if until <= after:
            return None
        for span in self._spans_back(until, after):
            found = self._wall.nth_back(span.start, span.end, n)
            if found is not None:
                return span.instant(found)
            n -= self._wall.count(span.start, span.end)
        return None

    def _matches(self, instant: int) -> bool:
        minute, second = divmod(instant + self._offsets.at(instant), 60)
        return second == 0 and self._wall.matches(minute)

    def _give_up(self, instant: int) -> int:
        """Return the last instant at which a slot that follows on this one is still looked for."""
        day = (instant + 1 + self._offsets.at(instant + 1)) // DAY_SECONDS
        year = date.fromordinal(day + _EPOCH_ORDINAL).year + GIVE_UP_YEARS + 1
        if year > date.max.year:
            return LAST_INSTANT
        new_year = date(year, 1, 1).toordinal() - _EPOCH_ORDINAL
        return min(self._offsets.instant_of(new_year * DAY_SECONDS) - 1, LAST_INSTANT)

    def _may_stray(self, start: int, end: int) -> bool:
        """Tell whether the walk over these instants may not end at the next match."""
        if self._offsets.zone is None or end > LAST_INSTANT - _YEAR_SECONDS * (GIVE_UP_YEARS + 2):
            return False
        # Zones once kept offsets to the second; by whole minutes the walk then never gets to a local :00.
        if self._offsets.at(start) % 60:
            return True
        # It may first go back to where the local month began.
        changes = self._offsets.changes(start - _MONTH_SECONDS, end + DAY_SECONDS)
        return any(not change.smooth for change in changes)

    def _matches_are_slots_until(self, slot: int, until: int) -> int:
        """Return until when, at most `until`, all matches after a slot are the slots that follow on it.

        From a slot, a walk only goes forward, and it looks a local time up only to get on to a further day.
        So it can go wrong only on the way over a change that isn't smooth, or to a midnight just before it.
        """
        if not self._matches(slot):
            return slot
        if self._wall.leap_days_only:
            until = min(until, self._give_up(slot))
        for change in self._offsets.changes(slot, until + 2 * DAY_SECONDS):
            if not change.smooth:
                same_day = slot + DAY_SECONDS - 1 - (slot + self._offsets.at(slot)) % DAY_SECONDS
                return min(until, max(change.at - change.reach - 1, min(change.at - 1, same_day)))
        return until

    def _runs(self, after: int, until: int) -> Iterator[_Run]:
        """Yield the slots in (after, until] that follow on `after`, as few runs as possible."""
        slot = self.next_after(after) if after < until else None
        length = _FIRST_RUN_SECONDS
        while slot is not None and slot <= until:
            yield _Run(slot - 1, slot, single=True)
            high = self._matches_are_slots_until(slot, min(until, slot + length))
            if high > slot:
                yield _Run(slot, high, single=False)
                slot = self._nth_match_back(high, slot - 1, 1) or slot
                length *= 2
            slot = self.next_after(slot)

    def _slot_until(self, instant: int) -> int:
        """Return a slot at or before an instant, near to it, on the chain that comes from long before."""
        match = self._nth_match_back(instant, FIRST_INSTANT, 1)
        for change in self._offsets.changes_back(instant + DAY_SECONDS, instant - _MEMORY_SECONDS):
            if not change.smooth and change.at - change.reach <= instant:
                before, behind = _crossing(self, change)
                if behind is None or behind > instant:
                    return before
                return behind if match is None else max(match, behind)
        return instant if match is None else match

    def crossing(self, change: OffsetChange) -> tuple[int, int | None]:
        """Return a slot not far before a change that isn't smooth, and the first that is safely behind it."""
        edge = change.at - change.reach - 1
        before = self._nth_match_back(edge, FIRST_INSTANT, 2) or edge
        behind = change.at + change.reach
        for run in self._runs(before, LAST_INSTANT):
            slot = run.high if run.single else self._nth_match(max(run.low, behind - 1), run.high, 1)
            if slot is not None and slot >= behind:
                return before, slot
        return before, None


def _span(start: int, end: int, offset: int) -> _Span:
    return _Span(-(-(start + offset) // 60), -(-(end + offset) // 60), offset)


@lru_cache(maxsize=4096)
def _crossing(chain: CronChain, change: OffsetChange) -> tuple[int, int | None]:
    return chain.crossing(change)
