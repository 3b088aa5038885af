"""Monitors, check-ins and their pace."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator.models import HistoryEntry, Ongoing, Result, Spec, Status
from crontabber_operator.observed import Job, Run, RunKind
from crontabber_operator.schedule import parse_schedule
from crontabber_operator.sentry_crons import (
    CHECK_INS_MAX,
    WAITING_MAX,
    WINDOW,
    CheckIn,
    CheckInStatus,
    MonitorConfig,
    Monitors,
    Thresholds,
    check_ins,
    merge,
    monitor_config,
    slug,
)
from crontabber_operator.sentry_news import check_in_id, trace_id

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OPEN, OK, ERROR = CheckInStatus.IN_PROGRESS, CheckInStatus.OK, CheckInStatus.ERROR


def spec(**fields: Any) -> Spec:
    """Read a spec; a backfill job each hour unless said otherwise."""
    given_schedule = {"schedule", "frequency"} & set(fields)
    return Spec.read({"command": "x", **({} if given_schedule else {"frequency": "1h"}), **fields})


# --- Monitors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("web", "reports", "web-reports-"),
        ("web", "reports.daily", "web-reports-daily-"),
        ("a" * 63, "b" * 48, "a" * 41 + "-"),
        ("a" * 40, "b", "a" * 40 + "-"),
        ("1", "2", "1-2-"),
    ],
)
def test_slug_is_what_sentry_keeps(namespace: str, name: str, expected: str) -> None:
    """At most 50 characters, of those that are allowed; readable first, a hash behind."""
    made = slug(namespace, name)
    assert made.startswith(expected)
    assert len(made) == len(expected) + 8 <= 50
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")


def test_slugs_are_unique() -> None:
    """Also where namespace and name run into each other, or only their ends differ."""
    long = "a" * 41
    names = [
        ("a", "b-c"),
        ("a-b", "c"),
        ("a", "b.c"),
        (long, "x"),
        (long, "y"),
        ("a" * 63, "b" * 48),
        ("a" * 63, "b" * 47),
    ]
    assert len({slug(*one) for one in names}) == len(names)


@pytest.mark.parametrize(
    ("fields", "schedule", "zone"),
    [
        ({"schedule": "0 5 * * *"}, {"type": "crontab", "value": "0 5 * * *"}, "UTC"),
        ({"schedule": "*/15  3 1 * MON-FRI"}, {"type": "crontab", "value": "*/15 3 1 * MON-FRI"}, "UTC"),
        (
            {"schedule": "0 5 * * 1", "timeZone": "Europe/Berlin"},
            {"type": "crontab", "value": "0 5 * * 1"},
            "Europe/Berlin",
        ),
        ({"schedule": "@daily"}, {"type": "crontab", "value": "0 0 * * *"}, "UTC"),
        ({"schedule": "@midnight"}, {"type": "crontab", "value": "0 0 * * *"}, "UTC"),
        ({"schedule": "@yearly"}, {"type": "crontab", "value": "0 0 1 1 *"}, "UTC"),
        ({"schedule": "5/20 3 ? * *"}, {"type": "crontab", "value": "5,25,45 3 * * *"}, "UTC"),
        # Sentry would take the star for any day; robfig/cron runs on either.
        (
            {"schedule": "0 5 */10 * 1"},
            {"type": "crontab", "value": "0 5 1,11,21,31 * 1"},
            "UTC",
        ),
        ({"schedule": "0 5 1-31 * 1"}, {"type": "crontab", "value": "0 5 1-31 * 1"}, "UTC"),
        ({"frequency": "1h"}, {"type": "crontab", "value": "0 * * * *"}, "UTC"),
        ({"frequency": "1d", "time": "05:30"}, {"type": "crontab", "value": "30 5 * * *"}, "UTC"),
        ({"frequency": "7d", "time": "05:00"}, {"type": "crontab", "value": "0 5 * * 1"}, "UTC"),
        ({"frequency": "15m"}, {"type": "crontab", "value": "*/15 * * * *"}, "UTC"),
        ({"frequency": "45m"}, {"type": "interval", "value": 45, "unit": "minute"}, "UTC"),
        ({"frequency": "7h"}, {"type": "interval", "value": 7, "unit": "hour"}, "UTC"),
        ({"frequency": "90m"}, {"type": "interval", "value": 90, "unit": "minute"}, "UTC"),
        ({"frequency": "48h"}, {"type": "interval", "value": 2, "unit": "day"}, "UTC"),
        ({"frequency": "3d"}, {"type": "interval", "value": 3, "unit": "day"}, "UTC"),
    ],
)
def test_monitor_has_the_jobs_schedule(fields: dict[str, str], schedule: dict[str, Any], zone: str) -> None:
    """As cron text where there is one, exact also with days; rolling frequencies as an interval, in whole numbers."""
    payload = monitor_config(spec(**fields)).payload()
    assert payload["schedule"] == schedule
    assert payload["timezone"] == zone


fields = st.sampled_from(["*", "?", "*/2", "*/7", "3", "1-5", "2-2/3", "1-6/2", "4/2", "1,3", "5,1-2", "*/1"])


@settings(max_examples=200, deadline=None)
@given(st.lists(fields, min_size=5, max_size=5).map(" ".join))
def test_cron_text_for_sentry_has_the_same_slots(text: str) -> None:
    """However it is rewritten, it means the same to robfig/cron, and has nothing that only one of them reads."""
    written = monitor_config(spec(schedule=text)).schedule
    assert isinstance(written, str)
    before, after = parse_schedule(text), parse_schedule(written)
    instant: datetime | None = NOW
    for _ in range(5):
        assert instant is not None
        following = before.next_after(instant)
        assert after.next_after(instant) == following
        instant = following
    assert "?" not in written
    days = written.split()[2::2]
    assert "*" in days or not any(day.startswith("*") for day in days)


def test_monitor_has_margin_runtime_and_thresholds() -> None:
    """In whole minutes, within Sentry's limits; who waits for others may be late."""
    payload = monitor_config(spec()).payload()
    assert (payload["checkin_margin"], payload["max_runtime"]) == (5, 121)
    assert (payload["failure_issue_threshold"], payload["recovery_threshold"]) == (1, 1)
    assert monitor_config(spec(activeDeadlineSeconds=30)).runtime_minutes == 2
    assert monitor_config(spec(activeDeadlineSeconds=61)).runtime_minutes == 3
    assert monitor_config(spec(activeDeadlineSeconds=10**9)).runtime_minutes == 10_080
    assert monitor_config(spec(dependsOn=[{"name": "a"}])).margin_minutes == 30
    assert monitor_config(spec(concurrencyGroup="db")).margin_minutes == 30
    payload = monitor_config(spec(), Thresholds(failures=3, recoveries=2)).payload()
    assert (payload["failure_issue_threshold"], payload["recovery_threshold"]) == (3, 2)


# --- Check-ins --------------------------------------------------------------------------------------------


def job(status: Status, **fields: Any) -> Job:
    """Return a resource; gated unless said otherwise."""
    return Job(
        namespace="web",
        name="reports",
        uid="uid",
        resource_version="1",
        generation=1,
        created=NOW,
        spec=spec(**{"backfill": True, **fields}),
        status=status,
    )


def run(name: str, uid: str) -> Run:
    """Return a Kubernetes Job."""
    return Run(
        name=name,
        uid=uid,
        resource_version="1",
        kind=RunKind.NATIVE,
        slot=NOW,
        through=NOW,
        attempt=0,
        template_hash="",
        created=NOW,
        suspended=False,
        released=True,
    )


def claim(attempt: int = 1, uid: str = "run-1", name: str = "r-1") -> Ongoing:
    """Return the claim of a run."""
    return Ongoing(slot=NOW, through=NOW, job=name, uid=uid, attempt=attempt, since=NOW)


def ended(result: Result, attempt: int = 1, name: str = "r-1") -> HistoryEntry:
    """Return the entry of a run that took a minute."""
    return HistoryEntry(
        slot=NOW,
        job=name,
        attempt=attempt,
        started=NOW,
        finished=NOW + 60 * SECOND,
        seconds=60.0,
        result=result,
    )


def told(
    before: Status, after: Status, *runs: Run, **fields: Any
) -> list[tuple[CheckInStatus, str, float | None]]:
    """Return the check-ins of a change."""
    return [(one.status, one.id, one.seconds) for one in check_ins(job(before, **fields), after, runs)]


def test_gated_run_is_opened_by_its_claim_and_closed_by_its_outcome() -> None:
    """Both under the id of uid and attempt."""
    idle, claimed = Status(), Status(ongoing=claim())
    first = check_in_id("run-1", 1)
    assert told(idle, claimed) == [(OPEN, first, None)]
    good = Status(history=(ended(Result.SUCCEEDED),))
    assert told(claimed, good) == [(OK, first, 60.0)]
    # In the write that records an outcome, the next run may be claimed already.
    next_claimed = replace(good, ongoing=claim(uid="run-2", name="r-2"))
    assert told(claimed, next_claimed) == [(OK, first, 60.0), (OPEN, check_in_id("run-2", 1), None)]


@pytest.mark.parametrize("result", [one for one in Result if one is not Result.SUCCEEDED])
def test_every_kind_of_failure_is_an_error(result: Result) -> None:
    """Also those that are not the command's fault: the slot did not run."""
    assert told(Status(ongoing=claim()), Status(history=(ended(result),)))[0][0] is ERROR


def test_nothing_is_said_where_nothing_happened() -> None:
    """Other changes of the books, and a claim that only goes on."""
    claimed = Status(ongoing=claim())
    assert told(claimed, replace(claimed, missed=5)) == []
    assert told(claimed, replace(claimed, ongoing=replace(claim(), since=NOW + SECOND))) == []
    assert told(claimed, Status()) == []


def test_job_that_is_never_reported_has_no_monitor() -> None:
    """`reportErrors: Never` keeps all of it away from Sentry."""
    assert told(Status(), Status(ongoing=claim()), reportErrors="Never") == []


def test_plain_jobs_attempts_are_one_check_in_each() -> None:
    """A retry is only closed: it waits first, and nobody sees when it starts."""
    fields = {"backfill": False}
    first, second = Status(ongoing=claim()), Status(ongoing=claim(2), history=(ended(Result.FAILED),))
    assert told(Status(), first, **fields) == [(OPEN, check_in_id("run-1", 1), None)]
    assert told(first, second, **fields) == [(ERROR, check_in_id("run-1", 1), 60.0)]
    good = Status(history=(ended(Result.SUCCEEDED, 2), *second.history))
    assert told(second, good, **fields) == [(OK, check_in_id("run-1", 2), 60.0)]


def test_plain_run_that_was_never_seen_running_is_closed_under_its_jobs_uid() -> None:
    """A Job that was made again under the same name is another."""
    after = Status(history=(ended(Result.SUCCEEDED),))
    assert told(Status(), after, run("other", "x"), run("r-1", "again"), backfill=False) == [
        (OK, check_in_id("again", 1), 60.0)
    ]
    assert told(Status(), after, backfill=False) == [(OK, check_in_id("r-1", 1), 60.0)]


def test_check_in_is_what_sentry_takes() -> None:
    """Its payload, with the trace that ties it to the attempt's errors."""
    (one,) = check_ins(job(Status(ongoing=claim())), Status(history=(ended(Result.FAILED),)), ())
    assert one.payload(release="1.4.2", environment="staging") == {
        "type": "check_in",
        "check_in_id": check_in_id("run-1", 1),
        "monitor_slug": slug("web", "reports"),
        "status": "error",
        "duration": 60.0,
        "release": "1.4.2",
        "environment": "staging",
        "monitor_config": monitor_config(spec()).payload(),
        "contexts": {"trace": {"trace_id": trace_id("run-1", 1), "span_id": trace_id("run-1", 1)[:16]}},
    }


def test_duration_that_sentry_would_refuse_is_left_out() -> None:
    """The check-in itself is worth more."""
    assert replace(check_in(OK), seconds=60.0).payload()["duration"] == 60.0
    for seconds in (-1.0, 1_795_573_414.0):
        assert "duration" not in replace(check_in(OK), seconds=seconds).payload()


# --- Pace -------------------------------------------------------------------------------------------------

CONFIG = MonitorConfig("0 * * * *", "UTC", 5, 121)


def check_in(
    status: CheckInStatus, uid: str = "u", name: str = "a", before: tuple[datetime, ...] = ()
) -> CheckIn:
    """Return a check-in."""
    return CheckIn(
        namespace="web", slug=name, status=status, run_uid=uid, attempt=1, monitor=CONFIG, before=before
    )


def taken(monitors: Monitors, now: datetime) -> list[CheckIn]:
    """Take all that may be sent now."""
    found = []
    while (one := monitors.take(now)) is not None:
        found.append(one)
    return found


def test_slow_jobs_are_told_as_it_happens() -> None:
    """A beginning and an end, each at once."""
    monitors = Monitors()
    for minute in range(3):
        now = NOW + minute * 60 * SECOND
        monitors.offer(check_in(OPEN, str(minute)), now)
        assert [one.status for one in taken(monitors, now)] == [OPEN]
        monitors.offer(check_in(OK, str(minute)), now + SECOND)
        assert [one.status for one in taken(monitors, now + SECOND)] == [OK]
    assert monitors.waiting == 0
    assert monitors.next_at(now) is None


def test_catching_up_sends_six_a_minute_and_ends_with_the_last_word() -> None:
    """A hundred runs within seconds: nothing is left open, and the last success is told in the end."""
    monitors, sent, now = Monitors(), [], NOW
    for number in range(100):
        now = NOW + number * SECOND / 10
        monitors.offer(check_in(OPEN, str(number)), now)
        sent += [(now, one) for one in taken(monitors, now)]
        monitors.offer(check_in(OK, str(number)), now + SECOND / 20)
        sent += [(now, one) for one in taken(monitors, now + SECOND / 20)]
    assert len(sent) <= CHECK_INS_MAX
    while (at := monitors.next_at(now)) is not None:
        now = at
        sent += [(now, one) for one in taken(monitors, now)]
    assert sent[-1][1].id == check_in(OK, "99").id
    assert now <= NOW + 2 * WINDOW
    opened = {one.id for _, one in sent if one.status is OPEN}
    assert opened <= {one.id for _, one in sent if one.status is OK}


def test_failure_is_told_even_in_a_flood_of_successes() -> None:
    """Successes are merged first: a later one says the same."""
    monitors = Monitors()
    for number in range(20):
        monitors.offer(check_in(ERROR if number == 10 else OK, str(number)), NOW)
    told_ids = {one.id for one in taken(monitors, NOW)}
    for minute in (1, 2):
        told_ids |= {one.id for one in taken(monitors, NOW + minute * WINDOW)}
    assert {check_in(ERROR, "10").id, check_in(OK, "19").id} <= told_ids
    assert monitors.waiting == 0


def test_end_makes_a_waiting_beginning_needless() -> None:
    """And the same thing said twice is said once."""
    waiting = merge([], check_in(OPEN))
    waiting = merge(waiting, check_in(OPEN))
    assert [one.status for one in waiting] == [OPEN]
    waiting = merge(waiting, check_in(OK))
    assert [one.status for one in waiting] == [OK]
    assert merge(waiting, check_in(OPEN)) == waiting
    assert merge(waiting, check_in(OK)) == waiting


def test_end_of_what_was_opened_is_not_merged_away() -> None:
    """Sentry would take the run for a zombie."""
    opened = check_in(OK, "opened")
    waiting = [opened]
    for number in range(10):
        waiting = merge(waiting, check_in(OK, str(number)), {opened.id})
    assert opened in waiting
    assert len(waiting) == WAITING_MAX


def test_what_an_earlier_operator_may_have_sent_counts() -> None:
    """After a restart the books tell what happened in the last minute."""
    monitors = Monitors()
    before = tuple(NOW - number * 9 * SECOND for number in range(20))
    monitors.offer(check_in(OPEN, before=before), NOW)
    assert taken(monitors, NOW) == []
    at = monitors.next_at(NOW)
    assert at is not None
    assert NOW < at <= NOW + WINDOW
    assert [one.status for one in taken(monitors, at)] == [OPEN]


def test_monitors_do_not_wait_for_each_other() -> None:
    """One that has sent too much holds up no other."""
    monitors = Monitors()
    for number in range(20):
        monitors.offer(check_in(ERROR, str(number), "busy"), NOW)
        taken(monitors, NOW)
    monitors.offer(check_in(OK, "1", "calm"), NOW)
    assert [one.slug for one in taken(monitors, NOW)] == ["calm"]


def test_what_could_not_be_sent_is_tried_again_unless_it_is_outdated() -> None:
    """In its old place; a beginning whose end waits already is given up."""
    monitors = Monitors()
    monitors.offer(check_in(ERROR, "1"), NOW)
    (first,) = taken(monitors, NOW)
    monitors.offer(check_in(OK, "2"), NOW)
    monitors.give_back(first, NOW)
    assert [one.status for one in taken(monitors, NOW)] == [ERROR, OK]
    monitors.offer(check_in(OPEN, "3"), NOW + WINDOW)
    (opening,) = taken(monitors, NOW + WINDOW)
    monitors.offer(check_in(OK, "3"), NOW + WINDOW)
    monitors.give_back(opening, NOW + WINDOW)
    assert [one.status for one in taken(monitors, NOW + WINDOW)] == [OK]
    assert monitors.waiting == 0


def test_monitors_of_jobs_that_are_gone_are_forgotten() -> None:
    """Ten thousand jobs that came and went leave nothing behind."""
    monitors = Monitors()
    for number in range(5000):
        now = NOW + number * SECOND
        monitors.offer(check_in(OK, "u", f"job-{number}"), now)
        taken(monitors, now)
    assert len(monitors._monitors) <= 1001  # noqa: SLF001 - memory is not to be seen otherwise


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.sampled_from(["begin", "good", "bad", "away", "wait"]), st.integers(0, 1)
        ),
        max_size=120,
    )
)
def test_sentry_never_gets_more_than_six_a_minute_and_nothing_stays_open(
    steps: list[tuple[int, str, int]],
) -> None:
    """Whatever happens when: the limit holds in any minute, beginnings are closed, and the last word arrives."""
    monitors, now = Monitors(), NOW
    sent: dict[str, list[tuple[datetime, CheckIn]]] = {"0": [], "1": []}
    running: dict[str, CheckIn | None] = {"0": None, "1": None}
    last: dict[str, CheckIn] = {}

    def deliver() -> None:
        while (one := monitors.take(now)) is not None:
            sent[one.slug].append((now, one))

    for number, (seconds, what, which) in enumerate(steps):
        name = str(which)
        now += seconds * SECOND
        if what == "begin" and running[name] is None:
            running[name] = check_in(OPEN, str(number), name)
            monitors.offer(check_in(OPEN, str(number), name), now)
        elif what in ("good", "bad"):
            going = running[name]
            uid = going.run_uid if going is not None else str(number)
            last[name] = check_in(OK if what == "good" else ERROR, uid, name)
            monitors.offer(last[name], now)
            running[name] = None
        elif what == "away":
            one = monitors.take(now)
            if one is not None:
                monitors.give_back(one, now)
        deliver()
    while (at := monitors.next_at(now)) is not None:
        now = max(now, at)
        deliver()
    assert monitors.waiting == 0
    for name, all_sent in sent.items():
        times = [at for at, _ in all_sent]
        assert all(
            later - earlier >= WINDOW for earlier, later in zip(times, times[CHECK_INS_MAX:], strict=False)
        )
        going = running[name]
        closed = {one.id for _, one in all_sent if one.status is not OPEN}
        opened = {one.id for _, one in all_sent if one.status is OPEN}
        assert opened - closed <= ({going.id} if going is not None else set())
        if name in last:
            assert last[name].id in closed
