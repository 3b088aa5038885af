"""The slots of a cron schedule, as tables: what people rely on, and what clock changes do to it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from types import FrameType

import pytest

from crontabber_operator.schedule import CronSchedule, parse_schedule


def at(text: str) -> datetime:
    """Read an instant, in UTC where it has no offset."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def following(schedule: CronSchedule, after: str, count: int) -> list[str]:
    """Return the slots that follow on an instant, in UTC, without seconds where there are none."""
    slots: list[str] = []
    slot: datetime | None = at(after)
    while slot is not None and len(slots) < count:
        slot = schedule.next_after(slot)
        if slot is not None:
            slots.append(slot.isoformat().removesuffix("+00:00").removesuffix(":00"))
    return slots


PLAIN = [
    ("* * * * *", "2026-03-01T00:00", ["2026-03-01T00:01", "2026-03-01T00:02"]),
    ("*/15 * * * *", "2026-03-01T00:44", ["2026-03-01T00:45", "2026-03-01T01:00"]),
    ("0 5 * * *", "2026-03-01T05:00", ["2026-03-02T05:00", "2026-03-03T05:00"]),
    ("30 6-16/4 * * 1-5", "2026-03-06T14:30", ["2026-03-09T06:30", "2026-03-09T10:30"]),
    ("0 0 1 jan,JUL *", "2026-03-01T00:00", ["2026-07-01T00:00", "2027-01-01T00:00"]),
    ("0 0 * * sun-Tue", "2026-03-01T00:00", ["2026-03-02T00:00", "2026-03-03T00:00", "2026-03-08T00:00"]),
    ("5/20 3 * * *", "2026-03-01T00:00", ["2026-03-01T03:05", "2026-03-01T03:25", "2026-03-01T03:45"]),
    ("0 0 31 * *", "2026-01-31T00:00", ["2026-03-31T00:00", "2026-05-31T00:00"]),
    ("59 23 31 12 *", "2026-12-31T23:58:59", ["2026-12-31T23:59", "2027-12-31T23:59"]),
    ("0 0 29 2 *", "2026-03-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ("0 12 ? * ?", "2026-03-01T00:00", ["2026-03-01T12:00", "2026-03-02T12:00"]),
    ("@hourly", "2026-03-01T00:00", ["2026-03-01T01:00"]),
    ("@daily", "2026-03-01T00:00", ["2026-03-02T00:00"]),
    ("@midnight", "2026-03-01T00:00", ["2026-03-02T00:00"]),
    ("@weekly", "2026-03-01T00:00", ["2026-03-08T00:00"]),
    ("@monthly", "2026-03-01T00:00", ["2026-04-01T00:00"]),
    ("@yearly", "2026-03-01T00:00", ["2027-01-01T00:00"]),
    ("@annually", "2026-03-01T00:00", ["2027-01-01T00:00"]),
]


@pytest.mark.parametrize(("text", "after", "slots"), PLAIN)
def test_slots_are_the_times_that_the_cron_text_names(text: str, after: str, slots: list[str]) -> None:
    """Ranges, lists, steps, names and descriptors, without a time zone."""
    assert following(parse_schedule(text), after, len(slots)) == slots


# 2026-03-01 is a Sunday.
DAYS = [
    ("0 0 13 * 5", ["2026-03-06", "2026-03-13", "2026-03-20"], "both set: either day will do"),
    ("0 0 13 * *", ["2026-03-13", "2026-04-13", "2026-05-13"], "only the day of the month is set"),
    ("0 0 * * 5", ["2026-03-06", "2026-03-13", "2026-03-20"], "only the weekday is set"),
    (
        "0 0 */10 * 1",
        ["2026-03-02", "2026-03-09", "2026-03-11"],
        "a step above 1 is no star: either day will do",
    ),
    ("0 0 20 * */3", ["2026-03-04", "2026-03-07", "2026-03-08"], "so is one in the weekday"),
    ("0 0 */1 * 1", ["2026-03-02", "2026-03-09", "2026-03-16"], "a step of 1 is a star"),
    ("0 0 3,* * 1", ["2026-03-02", "2026-03-09", "2026-03-16"], "a star in a list is a star"),
    ("0 0 1-31 * 1", ["2026-03-02", "2026-03-03", "2026-03-04"], "all days written out are no star"),
    ("0 0 ? * 1", ["2026-03-02", "2026-03-09", "2026-03-16"], "a question mark is a star"),
]


@pytest.mark.parametrize(("text", "days", "why"), DAYS)
def test_day_of_month_and_weekday_both_set_mean_either(text: str, days: list[str], why: str) -> None:
    """Whether a field counts as a star decides whether one of the two days is enough."""
    assert [slot[:10] for slot in following(parse_schedule(text), "2026-03-01T00:00", 3)] == days, why


CLOCK_CHANGES = [
    # Europe/Berlin, 2026-03-29: 02:00 to 03:00 is missing. 2026-10-25: 02:00 to 03:00 comes twice.
    ("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", ["2026-03-28T01:30", "2026-03-30T00:30"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T01:00"]),
    ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", ["2026-03-29T00:00", "2026-03-29T01:00"]),
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00",
        ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30"],
    ),
    # America/New_York, 2026-11-01: 01:00 to 02:00 comes twice.
    (
        "15 1 * * *",
        "America/New_York",
        "2026-10-31T12:00",
        ["2026-11-01T05:15", "2026-11-01T06:15", "2026-11-02T06:15"],
    ),
    # Australia/Lord_Howe, 2025-10-05: 02:00 to 02:30 is missing; the walk by hours comes from 02:30 to 03:30.
    ("0 3 * * *", "Australia/Lord_Howe", "2025-10-03T20:00", ["2025-10-05T16:00"]),
    # Asia/Beirut, 2026-03-29, a Sunday: 00:00 to 01:00 is missing, and the walk by days steps over the day.
    ("0 12 * * 0", "Asia/Beirut", "2026-03-22T10:00", ["2026-04-05T09:00"]),
    ("0 12 * * 0", "Asia/Beirut", "2026-03-29T00:00", ["2026-03-29T09:00"]),
    # America/Sao_Paulo, 2018-11-04: 00:00 to 01:00 is missing.
    ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T04:00", ["2018-11-05T02:00"]),
    ("30 0 * * *", "America/Sao_Paulo", "2018-11-02T12:00", ["2018-11-03T03:30", "2018-11-05T02:30"]),
    # Africa/Cairo, 2026-04-24, a Friday: 00:00 to 01:00 is missing.
    ("0 0 * * *", "Africa/Cairo", "2026-04-22T23:00", ["2026-04-24T21:00"]),
    # Antarctica/Troll, 2025-03-30: 01:00 to 03:00 is missing. 2025-10-26: 01:00 to 03:00 comes twice.
    ("30 2 * * *", "Antarctica/Troll", "2025-03-29T01:00", ["2025-03-29T02:30", "2025-03-31T00:30"]),
    ("30 2 * * *", "Antarctica/Troll", "2025-10-25T12:00", ["2025-10-26T00:30", "2025-10-26T02:30"]),
    # Pacific/Apia has no 2011-12-30. robfig/cron never returns from a walk over it: the next match is taken.
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", ["2011-12-29T22:00", "2011-12-30T22:00"]),
    ("0 0 1 * *", "Pacific/Apia", "2011-12-20T00:00", ["2011-12-31T10:00", "2012-01-31T10:00"]),
    # Pacific/Chatham, 2026-04-05: 02:45 to 03:45 comes twice. robfig/cron goes back in time there: we don't.
    (
        "27-51/10 3 * * *",
        "Pacific/Chatham",
        "2026-04-04T13:30",
        ["2026-04-04T13:42", "2026-04-04T13:52", "2026-04-04T14:02", "2026-04-04T14:42"],
    ),
]


@pytest.mark.parametrize(("text", "zone", "after", "slots"), CLOCK_CHANGES)
def test_clock_changes_are_taken_as_robfig_cron_takes_them(
    text: str, zone: str, after: str, slots: list[str]
) -> None:
    """Times that are missing don't fire, times that come twice fire twice; unusual changes as found."""
    schedule = parse_schedule(text, zone)
    assert following(schedule, after, len(slots)) == slots
    assert schedule.count(at(after), at(slots[-1])) == len(slots)
    assert schedule.nth_after(at(after), len(slots)) == at(slots[-1])


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 , * *", ", * * * *", "0 0 * , *"])
def test_a_schedule_without_slots_is_accepted_and_has_none(text: str) -> None:
    """ParseStandard accepts a day that never comes, and a field without any value."""
    for schedule in (parse_schedule(text), parse_schedule(text, "Europe/Berlin")):
        now = at("2026-03-01T00:00")
        assert schedule.next_after(now) is None
        assert schedule.newest_until(now) is None
        assert schedule.nth_after(now, 3) is None
        assert schedule.nth_newest_until(now, 3) is None
        assert schedule.count(at("1970-01-01T00:00"), now) == 0


def test_the_next_slot_is_given_up_after_five_years() -> None:
    """robfig/cron looks until the fifth calendar year ends; from 2096 the next leap day is 8 years off."""
    schedule = parse_schedule("0 0 29 2 *")
    assert following(schedule, "2088-03-01T00:00", 3) == ["2092-02-29T00:00", "2096-02-29T00:00"]
    assert schedule.next_after(at("2098-12-31T23:59")) is None
    assert schedule.next_after(at("2099-01-01T00:00")) == at("2104-02-29T00:00")
    assert schedule.count(at("2088-03-01T00:00"), at("2110-01-01T00:00")) == 2
    assert schedule.nth_after(at("2088-03-01T00:00"), 3) is None


def test_the_newest_slot_is_found_however_long_ago() -> None:
    """Nothing is given up looking back: a leap day is at most eight years ago."""
    schedule = parse_schedule("0 0 29 2 *", "Asia/Beirut")
    assert schedule.newest_until(at("2104-01-01T00:00")) == at("2096-02-28T22:00")
    assert schedule.nth_newest_until(at("2105-01-01T00:00"), 3) == at("2092-02-28T22:00")


def test_bounds_are_exclusive_after_and_inclusive_until() -> None:
    """A slot at `after` is not counted, one at `until` is."""
    schedule = parse_schedule("0 5 * * *")
    slot = at("2026-03-01T05:00")
    second = timedelta(seconds=1)
    assert schedule.newest_until(slot) == slot
    assert schedule.newest_until(slot - second) == slot - timedelta(days=1)
    assert schedule.next_after(slot - second) == slot
    assert schedule.count(slot, slot) == 0
    assert schedule.count(slot - second, slot) == 1
    assert schedule.count(slot, slot + timedelta(days=1)) == 1
    assert schedule.count(slot + timedelta(days=1), slot) == 0
    assert schedule.nth_newest_until(slot, 2) == slot - timedelta(days=1)


def test_instants_may_be_in_any_zone_and_results_are_utc() -> None:
    """Only the instant counts; fractions of a second are dropped."""
    schedule = parse_schedule("* * * * *")
    plus_two = timezone(timedelta(hours=2))
    slot = schedule.next_after(datetime(2026, 3, 1, 2, 0, 0, 999_999, tzinfo=plus_two))
    assert slot == at("2026-03-01T00:01")
    assert slot is not None
    assert slot.tzinfo is UTC


def test_naive_instants_are_refused() -> None:
    """A time without a zone would be guessed at."""
    naive = at("2026-03-01T00:00").replace(tzinfo=None)
    with pytest.raises(TypeError):
        parse_schedule("* * * * *").next_after(naive)


@pytest.mark.parametrize("n", [0, -1])
def test_slots_are_counted_from_one(n: int) -> None:
    """There is no slot number 0."""
    schedule = parse_schedule("* * * * *")
    with pytest.raises(ValueError, match="counted from 1"):
        schedule.nth_after(at("2026-03-01T00:00"), n)
    with pytest.raises(ValueError, match="counted from 1"):
        schedule.nth_newest_until(at("2026-03-01T00:00"), n)


@pytest.mark.parametrize("zone", [None, "Pacific/Auckland", "America/Havana"])
def test_the_calendar_ends_without_an_error(zone: str | None) -> None:
    """A time of the year 1 or 9999 is unusual, but nothing to break over."""
    first = datetime.min.replace(tzinfo=UTC)
    last = datetime.max.replace(tzinfo=UTC)
    for text in ("* * * * *", "0 0 1 1 *", "0 0 29 2 *", "30 2 * * 0"):
        schedule = parse_schedule(text, zone)
        assert schedule.next_after(last) is None
        assert schedule.nth_after(last - timedelta(days=9), 10**9) is None
        assert schedule.newest_until(first) is None
        assert schedule.nth_newest_until(first + timedelta(days=9), 10**9) is None
        newest = schedule.newest_until(last)
        assert newest is not None
        assert newest.year > 9990
        oldest = schedule.next_after(first)
        assert oldest is None or oldest.year < 9
    assert parse_schedule("0 0 1 1 *", zone).count(at("9900-06-01T00:00"), last) == 99


def calls_of(schedule: CronSchedule, after: datetime, until: datetime) -> int:
    """Return how many Python functions it takes to find the head, the newest and the number of slots."""
    calls = 0

    def count_call(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    def ask() -> None:
        schedule.next_after(after)
        schedule.nth_newest_until(until, schedule.count(after, until))

    ask()  # when the zone's offset changes is found out once
    sys.setprofile(count_call)
    try:
        ask()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe"])
@pytest.mark.parametrize("text", ["* * * * *", "* 0-22 * * *", "*/2 * * * 1-5"])
def test_a_year_of_missed_minutes_is_not_listed(text: str, zone: str | None) -> None:
    """Head, newest and number of them take some hundred steps, more where clock changes are unusual."""
    schedule = parse_schedule(text, zone)
    now = at("2026-12-01T00:00")
    steps = calls_of(schedule, now - timedelta(days=365), now)
    assert schedule.count(now - timedelta(days=365), now) > 180_000
    assert steps < (1_000 if zone in (None, "Europe/Berlin") else 10_000)


def test_schedules_with_the_same_text_and_zone_are_one_object() -> None:
    """Ten thousand resources with a few hundred schedules need no more memory than those."""
    assert parse_schedule("7 3 * * 1", "Europe/Berlin") is parse_schedule("7 3 * * 1", "Europe/Berlin")
    assert parse_schedule("7 3 * * 1", "Europe/Berlin") != parse_schedule("7 3 * * 1")
    assert hash(parse_schedule("7 3 * * 1")) == hash(parse_schedule("7 3 * * 1", None))


def test_describe_is_the_text_with_its_zone() -> None:
    """The column SCHEDULE."""
    assert parse_schedule("0 5  * *\t1").describe() == "0 5 * * 1"
    assert parse_schedule("@daily", "Europe/Berlin").describe() == "@daily (Europe/Berlin)"


def test_slots_of_a_whole_clock_change_day() -> None:
    """Whatever the clocks do, an hourly slot comes every hour; only the local day is longer or shorter."""
    schedule = parse_schedule("0 * * * *", "Europe/Berlin")
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)):
        offset = "+01:00" if day == "2026-03-29" else "+02:00"
        start = at(f"{day}T00:00:00{offset}") - timedelta(seconds=1)
        slots = [schedule.nth_after(start, n) for n in range(1, hours + 1)]
        assert schedule.count(start, start + timedelta(hours=hours)) == hours
        assert all(
            earlier is not None and later is not None and later - earlier == timedelta(hours=1)
            for earlier, later in pairwise(slots)
        )
