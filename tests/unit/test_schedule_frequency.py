"""The slots of a frequency: a grid since Monday 1970-01-05, whenever a resource was made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator.schedule import (
    FREQUENCY_PATTERN,
    MAX_FREQUENCY,
    Frequency,
    ScheduleError,
    parse_frequency,
    parse_schedule,
)

# A machine that is busy with other things is no defect.
untimed = settings(deadline=None)

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 12, 34, 56, tzinfo=UTC)

instants = st.integers(-2_000_000_000, 5_000_000_000).map(lambda second: MONDAY + timedelta(seconds=second))
times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
frequencies = st.one_of(
    st.integers(1, 20_000).map(lambda n: parse_frequency(f"{n}m")),
    st.integers(1, 8_784).map(lambda n: parse_frequency(f"{n}h")),
    st.builds(lambda n, time: parse_frequency(f"{n}d", time), st.integers(1, 366), st.none() | times),
)

FORMS = [
    # frequency, time, next after NOW, static cron, @every, description
    ("1m", None, "2026-11-24T12:35", "* * * * *", "@every 1m", "every 1m"),
    ("15m", None, "2026-11-24T12:45", "*/15 * * * *", "@every 15m", "every 15m"),
    ("45m", None, "2026-11-24T12:45", None, "@every 45m", "every 45m"),
    ("60m", None, "2026-11-24T13:00", "0 * * * *", "@every 1h", "every 60m"),
    ("90m", None, "2026-11-24T13:30", None, "@every 90m", "every 90m"),
    ("120m", None, "2026-11-24T14:00", "0 */2 * * *", "@every 2h", "every 120m"),
    ("1h", None, "2026-11-24T13:00", "0 * * * *", "@every 1h", "every 1h"),
    ("2h", None, "2026-11-24T14:00", "0 */2 * * *", "@every 2h", "every 2h"),
    ("7h", None, "2026-11-24T18:00", None, "@every 7h", "every 7h"),
    ("12h", None, "2026-11-25T00:00", "0 */12 * * *", "@every 12h", "every 12h"),
    ("24h", None, "2026-11-25T00:00", "0 0 * * *", "@every 24h", "every 24h"),
    ("48h", None, "2026-11-25T00:00", None, "@every 48h", "every 48h"),
    ("168h", None, "2026-11-30T00:00", "0 0 * * 1", "@every 168h", "every 168h"),
    ("1d", None, "2026-11-25T00:00", "0 0 * * *", "@every 24h", "every 1d @ 00:00 UTC"),
    ("1d", "05:00", "2026-11-25T05:00", "0 5 * * *", "@every 24h", "every 1d @ 05:00 UTC"),
    ("1d", "12:35", "2026-11-24T12:35", "35 12 * * *", "@every 24h", "every 1d @ 12:35 UTC"),
    ("3d", "05:30", "2026-11-25T05:30", None, "@every 72h", "every 3d @ 05:30 UTC"),
    ("7d", "05:00", "2026-11-30T05:00", "0 5 * * 1", "@every 168h", "every 7d @ 05:00 UTC"),
    ("14d", None, "2026-12-07T00:00", None, "@every 336h", "every 14d @ 00:00 UTC"),
    ("366d", None, "2027-02-17T00:00", None, "@every 8784h", "every 366d @ 00:00 UTC"),
]


@pytest.mark.parametrize(("text", "time", "following", "static", "every", "described"), FORMS)
def test_each_form_has_its_next_slot_its_cron_text_and_its_description(
    text: str, time: str | None, following: str, static: str | None, every: str, described: str
) -> None:
    """7d is every Monday; what divides an hour, a day or a week has a static cron text."""
    frequency = parse_frequency(text, time)
    assert frequency.next_after(NOW) == datetime.fromisoformat(f"{following}Z")
    assert frequency.static_cron() == static
    assert frequency.every() == every
    assert frequency.describe() == described


def test_slots_are_multiples_of_the_interval_since_the_first_monday() -> None:
    """At `time` on that Monday is a slot, whatever the interval; also before 1970 the grid goes on."""
    for days in (1, 2, 3, 7, 30, 365):
        frequency = parse_frequency(f"{days}d", "05:30")
        assert frequency.newest_until(MONDAY + timedelta(hours=5, minutes=30)) == MONDAY + timedelta(
            hours=5.5
        )
        assert frequency.newest_until(MONDAY) == MONDAY + timedelta(hours=5.5) - timedelta(days=days)


@untimed
@given(frequencies, instants, st.integers(1, 1_000))
def test_slots_are_an_even_grid(frequency: Frequency, instant: datetime, n: int) -> None:
    """Next, newest, n-th and count all speak of the same grid."""
    following, newest = frequency.next_after(instant), frequency.newest_until(instant)
    assert following is not None
    assert newest is not None
    assert newest <= instant < following == newest + frequency.interval
    assert (newest - MONDAY - (frequency.time_of_day or timedelta())) % frequency.interval == timedelta()
    assert frequency.nth_newest_until(instant, n) == newest - (n - 1) * frequency.interval
    nth = frequency.nth_after(instant, n)
    assert nth == newest + n * frequency.interval
    assert frequency.count(instant, nth) == n
    assert frequency.count(nth, instant) == 0


@untimed
@given(frequencies, instants, instants, instants)
def test_counts_add_up(frequency: Frequency, first: datetime, second: datetime, third: datetime) -> None:
    """The slots of two times that meet are the slots of both."""
    first, second, third = sorted((first, second, third))
    assert frequency.count(first, third) == frequency.count(first, second) + frequency.count(second, third)


@untimed
@given(st.sampled_from([form for form in FORMS if form[3]]), instants)
def test_the_static_cron_text_has_exactly_the_same_slots(
    form: tuple[str, str | None, str, str, str, str], instant: datetime
) -> None:
    """So a CronJob with that text, in UTC, fires this frequency."""
    frequency, schedule = parse_frequency(form[0], form[1]), parse_schedule(form[3], "UTC")
    assert schedule.next_after(instant) == frequency.next_after(instant)
    assert schedule.newest_until(instant) == frequency.newest_until(instant)
    later = instant + timedelta(days=400)
    assert schedule.count(instant, later) == frequency.count(instant, later)


@untimed
@given(frequencies, instants)
def test_a_static_cron_text_is_given_wherever_there_is_one(frequency: Frequency, instant: datetime) -> None:
    """And it is right, for any frequency that has one."""
    minutes = frequency.interval // timedelta(minutes=1)
    divides = 60 % minutes == 0 or (minutes % 60 == 0 and 1440 % minutes == 0) or minutes == 7 * 1440
    static = frequency.static_cron()
    assert (static is not None) == divides
    if static is not None:
        assert parse_schedule(static).next_after(instant) == frequency.next_after(instant)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "0m",
        "-5m",
        "05m",
        "1.5h",
        "1w",
        "1D",
        " 1d",
        "1d ",
        "1d\n",
        "1h30m",
        "\u0661d",
        "1234567m",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    """A number from 1 without zeros in front, and one unit."""
    with pytest.raises(ScheduleError) as refusal:
        parse_frequency(text)
    assert str(refusal.value).startswith(f"frequency {text!r}: must be a number from 1 and a unit")


@pytest.mark.parametrize(
    ("longest", "too_long"), [("366d", "367d"), ("8784h", "8785h"), ("527040m", "527041m")]
)
def test_a_frequency_is_at_most_a_year(longest: str, too_long: str) -> None:
    """What is rarer has a date: a schedule can name it."""
    assert parse_frequency(longest).interval == MAX_FREQUENCY
    with pytest.raises(ScheduleError, match="is longer than 366 days; set a schedule with a date instead"):
        parse_frequency(too_long)


@pytest.mark.parametrize(
    "time", ["", "5:00", "05:0", "24:00", "05:60", "05:00:00", "05:00Z", " 05:00", "05:00\n", "5am"]
)
def test_a_time_that_is_not_hh_mm_is_refused(time: str) -> None:
    """The sentence names `time`."""
    with pytest.raises(ScheduleError) as refusal:
        parse_frequency("1d", time)
    assert str(refusal.value).startswith(f"time {time!r}: must be HH:MM in UTC")


@pytest.mark.parametrize("text", ["45m", "24h", "7h"])
def test_a_time_goes_only_with_days(text: str) -> None:
    """A frequency in minutes or hours has no time of day."""
    with pytest.raises(ScheduleError, match="time '05:00': goes only with a frequency in days"):
        parse_frequency(text, "05:00")


def test_the_pattern_is_the_one_that_a_crd_can_use() -> None:
    """Anchored, and plain enough for every dialect of regular expressions."""
    assert FREQUENCY_PATTERN == "^[1-9][0-9]{0,5}[mhd]$"


def test_the_calendar_ends_without_an_error_for_frequencies() -> None:
    """There is no slot after the year 9999 and none before the year 1."""
    frequency = parse_frequency("366d")
    assert frequency.next_after(datetime.max.replace(tzinfo=UTC)) is None
    assert frequency.newest_until(datetime.min.replace(tzinfo=UTC)) is None
    assert frequency.nth_after(NOW, 10**12) is None
    with pytest.raises(ValueError, match="counted from 1"):
        frequency.nth_after(NOW, 0)
