"""Which cron texts and time zones are accepted, and what is said of the others."""

from __future__ import annotations

import pytest

from crontabber_operator.schedule import ScheduleError, parse_schedule

REFUSED = [
    # Two forms that robfig/cron takes, and that have fields of their own here.
    ("TZ=Europe/Berlin 0 5 * * *", "remove 'TZ=Europe/Berlin' and set timeZone: Europe/Berlin"),
    ("CRON_TZ=UTC @daily", "remove 'CRON_TZ=UTC' and set timeZone: UTC"),
    ("TZ= 0 5 * * *", "set timeZone: UTC"),
    ("0 5 * * * TZ=Asia/Tokyo", "remove 'TZ=Asia/Tokyo' and set timeZone: Asia/Tokyo"),
    ("*-TZ 5 * * *", "a zone can't be given here"),
    ("@every 5m", "set frequency instead"),
    ("@every", "set frequency instead"),
    # Not five fields.
    ("", "has 0 fields, but must have 5"),
    ("   ", "has 0 fields, but must have 5"),
    ("5 * * *", "has 4 fields, but must have 5: minute, hour, day of month, month and day of week"),
    ("0 5 * * * *", "has 6 fields, but must have 5"),
    ("0 0 5 * * * 2026", "(no seconds, no year)"),
    ("@reboot", "is none of @yearly"),
    ("@Daily", "written exactly so"),
    (" @daily", "written exactly so"),
    ("@daily ", "written exactly so"),
    ("@daily 5", "written exactly so"),
    # Out of range: field by field.
    ("60 * * * *", "minute '60': 60 is not within 0-59"),
    ("* 24 * * *", "hour '24': 24 is not within 0-23"),
    ("* * 0 * *", "day of month '0': 0 is not within 1-31"),
    ("* * 1-32 * *", "day of month '1-32': 32 is not within 1-31"),
    ("* * * 13 *", "month '13': 13 is not within 1-12 or JAN-DEC"),
    ("* * * 0 *", "month '0': 0 is not within 1-12 or JAN-DEC"),
    ("* * * * 7", "day of week '7': 7 is not within 0-6 or SUN-SAT; Sunday is 0"),
    ("* * * * 5-7", "Sunday is 0"),
    # Not a value.
    ("a * * * *", "minute 'a': 'a' is not a value; write 0-59, *, lists, ranges or steps"),
    ("* * * monday *", "month 'monday': 'monday' is not a value"),
    ("* * * * monday", "day of week 'monday'"),
    ("* * L * *", "day of month 'L'"),
    ("* * 15W * *", "day of month '15W'"),
    ("* * * * 5#3", "day of week '5#3'"),
    ("H * * * *", "minute 'H'"),
    ("jan * * * *", "minute 'jan'"),
    ("1.5 * * * *", "minute '1.5'"),
    ("1_0 * * * *", "minute '1_0'"),
    ("\u0663 * * * *", "is not a value"),
    ("* * * * \u017fun", "is not a value"),
    ("-5 * * * *", "a value is missing"),
    ("5- * * * *", "a value is missing"),
    ("+-5 * * * *", "'+' is not a value"),
    # Not a range, not a step.
    ("30-10 * * * *", "the range '30-10' ends before it begins; write it as two, with a comma"),
    ("* 22-2 * * *", "the range '22-2' ends before it begins"),
    ("* * * * sat-sun", "ends before it begins"),
    ("1-5-9 * * * *", "has more than one '-'"),
    ("*/5/5 * * * *", "has more than one '/'"),
    ("*/0 * * * *", "the step '0' must be a whole number from 1"),
    ("*/-5 * * * *", "the step '-5' must be a whole number from 1"),
    ("*/ * * * *", "the step '' must be a whole number from 1"),
    ("*/x * * * *", "the step 'x' must be"),
    ("*/99999999999999999999 * * * *", "the step '99999999999999999999' must be"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused_texts_get_a_sentence_with_the_field_and_the_mend(text: str, said: str) -> None:
    """The sentence starts with the spec's field, and says what is wrong and what to write."""
    with pytest.raises(ScheduleError) as refusal:
        parse_schedule(text, "UTC")
    sentence = str(refusal.value)
    assert sentence.startswith(f"schedule {text!r}: ")
    assert said in sentence
    assert sentence.endswith(".")


# Odd, but the API server and the CronJob controller take them.
ACCEPTED = [
    ("+5 05 * * *", "5 5 * * *"),
    (",1,,2, * * * *", "1,2 * * * *"),
    ("*/99 * * * *", "0 * * * *"),
    ("5/15 * * * *", "5-59/15 * * * *"),
    ("?/15 * * * *", "*/15 * * * *"),
    ("*-5 * * * *", "* * * * *"),
    ("*-x/20 * * * *", "*/20 * * * *"),
    ("0\t0\u00a0*\u2003* \n *", "0 0 * * *"),
    ("0 0 * JaN-mAr sUn", "0 0 * 1-3 0"),
    ("0 0 * 1-mar *", "0 0 * 1-3 *"),
    ("0 0 * * Mon-5", "0 0 * * 1-5"),
    ("0-59 0-23 1-31 1-12 0-6", "* * * * *"),
]


@pytest.mark.parametrize(("text", "plain"), ACCEPTED)
def test_odd_texts_mean_what_they_mean_to_robfig_cron(text: str, plain: str) -> None:
    """Both texts have the same slots: compared by their number in each of 40 weeks, and by the next one."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    start = datetime(2026, 1, 1, tzinfo=UTC)
    odd, usual = parse_schedule(text), parse_schedule(plain)
    for week in range(40):
        after = start + timedelta(days=7 * week)
        assert odd.next_after(after) == usual.next_after(after)
        assert odd.count(after, after + timedelta(days=7)) == usual.count(after, after + timedelta(days=7))


@pytest.mark.parametrize(
    "zone",
    [
        "",
        " ",
        "Mars/Base",
        "europe/berlin ",
        "Europe",
        "Europe/",
        "/Europe/Berlin",
        "Europe//Berlin",
        "../UTC",
        "Europe/../UTC",
        ".",
        "-Europe/Berlin",
        "Local",
        "local",
        "localtime",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "Factory",
        "tzdata.zi",
        "zone.tab",
        "UTC+2:00",
        "CET-1CEST",
        "Europe/B\u00e9rlin",
        "Europe/Berlin\x00",
        "A" * 300,
    ],
)
def test_unknown_time_zones_are_refused(zone: str) -> None:
    """Only IANA names are known: what the API server takes for a zone must be one on every machine."""
    with pytest.raises(ScheduleError) as refusal:
        parse_schedule("0 5 * * *", zone)
    assert str(refusal.value).startswith(f"timeZone {zone!r}: is not known; set an IANA name")


@pytest.mark.parametrize(
    "zone", ["UTC", "Etc/UTC", "Etc/GMT+5", "Europe/Berlin", "America/Argentina/Ushuaia", "EST5EDT", "GMT0"]
)
def test_iana_time_zones_are_accepted(zone: str) -> None:
    """Names with digits and signs too."""
    assert parse_schedule("0 5 * * *", zone).time_zone == zone


def test_a_refusal_is_not_remembered_as_an_answer() -> None:
    """The same mistake gets the same sentence again, although schedules are cached."""
    for _ in range(2):
        with pytest.raises(ScheduleError, match="60 is not within 0-59"):
            parse_schedule("60 * * * *")
