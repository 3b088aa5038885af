"""What holds for the slots of every cron schedule, in every zone."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crontabber_operator.schedule import CronSchedule, parse_schedule
from crontabber_operator.zone_offsets import zone_offsets

# A machine that is busy with other things is no defect.
untimed = settings(deadline=None)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

# Clocks are turned by one hour, on the hour, and never at midnight; or not at all.
SMOOTH_ZONES = [
    "UTC",
    "Africa/Casablanca",
    "America/New_York",
    "America/Nuuk",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Australia/Adelaide",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Pacific/Auckland",
]
# Midnight is missing or comes twice, or the clock is turned by half an hour, two hours or off the hour.
UNUSUAL_ZONES = [
    "Africa/Cairo",
    "America/Asuncion",
    "America/Havana",
    "America/Santiago",
    "America/Sao_Paulo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    """Make up a field: a star most of the time."""
    values = st.integers(low, high)
    ranges = st.tuples(values, values).map(lambda ends: f"{min(ends)}-{max(ends)}")
    steps = st.builds("{}/{}".format, st.one_of(st.just("*"), ranges), st.integers(1, high))
    lists = st.lists(st.one_of(values.map(str), ranges, steps), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), values.map(str), lists)


texts = st.builds(
    "{} {} {} {} {}".format,
    fields(0, 59),
    fields(0, 23),
    st.one_of(st.just("*"), fields(1, 28)),
    st.one_of(st.just("*"), st.just("*"), fields(1, 12)),
    st.one_of(st.just("*"), fields(0, 6)),
)
smooth_schedules = st.builds(parse_schedule, texts, st.sampled_from(SMOOTH_ZONES))
unusual_schedules = st.builds(parse_schedule, texts, st.sampled_from(UNUSUAL_ZONES))
schedules = st.one_of(smooth_schedules, unusual_schedules)


def near_changes(first: int, last: int) -> st.SearchStrategy[datetime]:
    """Pick instants, mostly in the days around the usual changes of spring and autumn."""
    anywhere = st.integers(first, last).map(lambda second: EPOCH + timedelta(seconds=second))
    seasons = st.builds(
        lambda year, month, minutes: datetime(year, month, 1, tzinfo=UTC) + timedelta(minutes=minutes),
        st.integers(EPOCH.year + first // 31_600_000, EPOCH.year + last // 31_600_000),
        st.sampled_from([3, 4, 9, 10, 11]),
        st.integers(0, 31 * 1440),
    )
    return st.one_of(anywhere, seasons, seasons)


instants = near_changes(1_000_000_000, 2_500_000_000)  # 2001 to 2049


@pytest.fixture(scope="module", autouse=True)
def _zone_data_of_the_package() -> Iterator[None]:
    """Use the tzdata package, so that these tests see the same zones on every machine."""
    search_path = zoneinfo.TZPATH
    caches = (ZoneInfo.clear_cache, zone_offsets.cache_clear, parse_schedule.cache_clear)
    zoneinfo.reset_tzpath(to=())
    for clear in caches:
        clear()
    yield
    zoneinfo.reset_tzpath(to=search_path)
    for clear in caches:
        clear()


def names(schedule: CronSchedule, instant: datetime) -> bool:
    """Tell whether the cron text names an instant's local time, from the text alone."""
    local = instant.astimezone(ZoneInfo(schedule.time_zone or "UTC"))
    minute, hour, month_day, month, weekday = schedule.text.split()
    day = has(month_day, local.day, 1, 31), has(weekday, local.isoweekday() % 7, 0, 6)
    star = any(item in ("*", "*/1") for item in f"{month_day},{weekday}".split(","))
    return (
        local.second == 0
        and has(minute, local.minute, 0, 59)
        and has(hour, local.hour, 0, 23)
        and has(month, local.month, 1, 12)
        and (all(day) if star else any(day))
    )


def has(field: str, value: int, low: int, high: int) -> bool:
    """Tell whether a field of a cron text has a value."""
    for item in field.split(","):
        ends, _, step = item.partition("/")
        first, _, last = ends.partition("-")
        start = low if first == "*" else int(first)
        end = high if first == "*" or (step and not last) else int(last or first)
        if start <= value <= end and (value - start) % int(step or 1) == 0:
            return True
    return False


@untimed
@given(smooth_schedules, instants, st.integers(1, 3 * 1440))
def test_slots_are_the_minutes_whose_local_time_the_text_names(
    schedule: CronSchedule, after: datetime, minutes: int
) -> None:
    """Minute by minute, where clock changes are of the usual kind."""
    start = after.replace(second=0) + MINUTE
    named = [start + n * MINUTE for n in range(minutes) if names(schedule, start + n * MINUTE)]
    until = start + (minutes - 1) * MINUTE
    assert schedule.count(after, until) == len(named)
    if named:
        assert schedule.next_after(after) == named[0]
        assert schedule.newest_until(until) == named[-1]
        middle = len(named) // 2
        assert schedule.nth_after(after, middle + 1) == named[middle]
        assert schedule.nth_newest_until(until, len(named) - middle) == named[middle]
    else:
        following, newest = schedule.next_after(after), schedule.newest_until(until)
        assert following is None or following > until
        assert newest is None or newest <= after


@untimed
@given(schedules, instants)
def test_the_next_slot_is_later_and_the_newest_is_not(schedule: CronSchedule, instant: datetime) -> None:
    """Whatever robfig/cron does at a clock change: time goes on."""
    following, newest = schedule.next_after(instant), schedule.newest_until(instant)
    assert newest is not None
    assert newest <= instant
    if following is not None:
        assert following > instant
        assert schedule.count(instant, following) == 1
        assert schedule.count(instant, following - SECOND) == 0


@untimed
@given(schedules, instants, st.integers(1, 40))
def test_the_nth_slot_is_the_nth_in_the_chain_of_next_ones(
    schedule: CronSchedule, instant: datetime, n: int
) -> None:
    """Counting and stepping agree, in every zone and from every start."""
    slot: datetime | None = instant
    for _ in range(n):
        slot = schedule.next_after(slot) if slot is not None else None
    assert schedule.nth_after(instant, n) == slot
    if slot is not None:
        assert schedule.count(instant, slot) == n
        assert schedule.count(instant, slot - SECOND) == n - 1


@untimed
@given(schedules, instants, st.integers(1, 5_000))
def test_the_nth_slot_has_n_minus_one_before_it(schedule: CronSchedule, instant: datetime, n: int) -> None:
    """However far: the n-th slot and the count agree."""
    slot = schedule.nth_after(instant, n)
    assume(slot is not None)
    assert slot is not None
    assert schedule.count(instant, slot) == n
    assert schedule.count(instant, slot - SECOND) == n - 1


@untimed
@given(smooth_schedules, instants, instants, instants)
def test_counts_of_two_times_that_meet_add_up(
    schedule: CronSchedule, first: datetime, second: datetime, third: datetime
) -> None:
    """Where clock changes are of the usual kind, wherever the times meet."""
    first, second, third = sorted((first, second, third))
    assert schedule.count(first, third) == schedule.count(first, second) + schedule.count(second, third)
    assert schedule.count(third, first) == 0


@untimed
@given(schedules, instants, instants, st.integers(1, 5_000))
def test_counts_of_two_times_that_meet_at_a_slot_add_up(
    schedule: CronSchedule, first: datetime, third: datetime, n: int
) -> None:
    """In every zone: a cursor moves from slot to slot, and nothing is lost or found on the way."""
    first, third = sorted((first, third))
    slot = schedule.nth_after(first, n)
    assume(slot is not None and slot <= third)
    assert slot is not None
    assert schedule.count(first, third) == n + schedule.count(slot, third)


@untimed
@given(smooth_schedules, instants, instants)
def test_the_newest_slot_is_the_last_counted(
    schedule: CronSchedule, first: datetime, second: datetime
) -> None:
    """From any start, where clock changes are of the usual kind."""
    first, second = sorted((first, second))
    count = schedule.count(first, second)
    newest = schedule.newest_until(second)
    assert newest is not None
    if count:
        assert schedule.nth_after(first, count) == newest
        assert schedule.nth_newest_until(second, count) == schedule.next_after(first)
    else:
        assert newest <= first


@untimed
@given(unusual_schedules, instants, instants)
def test_the_newest_slot_is_the_last_counted_from_a_slot(
    schedule: CronSchedule, first: datetime, second: datetime
) -> None:
    """In unusual zones too, from a slot on, as a job does that has been running all along."""
    first, second = sorted((first, second))
    start = schedule.newest_until(first)
    assert start is not None
    count = schedule.count(start, second)
    newest = schedule.nth_after(start, count) if count else start
    assume(newest is not None and schedule.next_after(newest) is not None)  # not given up
    assert schedule.newest_until(second) == newest
    assert schedule.nth_newest_until(second, count + 1) == start


@untimed
@given(schedules, instants, st.integers(1, 5_000))
def test_the_nth_newest_slot_has_n_minus_one_behind_it(
    schedule: CronSchedule, instant: datetime, n: int
) -> None:
    """Looking back and looking ahead agree."""
    slot = schedule.nth_newest_until(instant, n)
    assume(slot is not None)
    assert slot is not None
    assert slot <= instant
    assert schedule.count(slot, instant) == n - 1
