"""What is missed and overdue at a moment, whatever the books said when they were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crontabber_operator.bookkeeping import missed
from crontabber_operator.figures import Figures, figures_of
from crontabber_operator.models import Spec, Status
from crontabber_operator.observed import Job, Observed, View

CREATED = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    """Return a time of the day."""
    return datetime.fromisoformat(f"2026-11-24T{text}:00+00:00")


def job(status: Status, **spec: Any) -> Job:
    """Return a job, every hour where nothing else is said."""
    when = {} if "schedule" in spec else {"frequency": "1h"}
    read = Spec.read({"command": "work", **when, **spec})
    return Job(
        namespace="web",
        name="job",
        uid="u",
        resource_version="1",
        generation=1,
        created=CREATED,
        spec=read,
        status=status,
    )


def figures(now: str, status: Status | None = None, **spec: Any) -> Figures:
    """Return the figures at a time of the day."""
    return figures_of(job(status or Status(), **spec), at(now))


def test_nothing_is_missed_before_the_first_slot() -> None:
    """A new job owes nothing."""
    told = figures("06:59")
    assert (told.missed, told.oldest_missed, told.overdue(at("06:59"))) == (0, None, timedelta())
    assert told.until == at("07:00")


@pytest.mark.parametrize("backfill", [False, True])
def test_slots_fall_due_while_nobody_writes_the_books(backfill: bool) -> None:
    """They are counted at the moment of asking, not when the status was written."""
    status = Status(settled_through=at("08:00"), last_success_time=at("08:00"), missed=0)
    told = figures("11:20", status, backfill=backfill)
    assert (told.missed, told.oldest_missed) == (3, at("09:00"))
    assert told.overdue(at("11:20")) == timedelta(hours=2, minutes=20)


def test_a_slot_that_was_given_up_is_not_missed_but_its_success_is_owed() -> None:
    """Skipped slots are settled; still nothing has succeeded since."""
    status = Status(settled_through=at("11:00"), last_success_time=at("08:00"), skipped=3)
    told = figures("11:20", status)
    assert (told.missed, told.oldest_missed) == (0, None)
    assert told.overdue(at("11:20")) == timedelta(hours=2, minutes=20)


def test_a_slot_that_was_given_up_before_any_success_is_owed_since_creation() -> None:
    """There is no last success to count from."""
    told = figures("11:20", Status(settled_through=at("11:00"), skipped=5))
    assert told.overdue(at("11:20")) == timedelta(hours=4, minutes=20)


def test_backfill_since_is_where_a_new_job_begins() -> None:
    """Its slots count from there on."""
    told = figures("06:40", backfill=True, backfillSince="2026-11-24T03:00:00Z")
    assert (told.missed, told.oldest_missed) == (4, at("03:00"))
    later = figures(
        "06:40", Status(settled_through=at("06:00")), backfill=True, backfillSince="2026-11-24T03:00:00Z"
    )
    assert (later.missed, later.expected) == (0, at("03:00"))


def test_after_a_mark_a_reset_an_edit_or_a_resumption_nothing_from_before_is_owed() -> None:
    """All of them move the cursor to the moment they were done, which is no slot."""
    for last in (None, at("02:00"), at("11:17")):
        status = Status(settled_through=at("11:17"), last_success_time=last)
        assert figures("11:59", status).overdue(at("11:59")) == timedelta()
        assert figures("12:10", status).overdue(at("12:10")) == timedelta(minutes=10)


def test_a_suspended_job_owes_nothing() -> None:
    """Though with backfill its slots are missed: they will run."""
    status = Status(settled_through=at("08:00"), last_success_time=at("08:00"))
    plain, gated = (
        figures("11:20", status, suspend=True),
        figures("11:20", status, suspend=True, backfill=True),
    )
    assert (plain.missed, plain.expected) == (0, None)
    assert (gated.missed, gated.oldest_missed, gated.expected) == (3, at("09:00"), None)


def test_a_late_run_answers_for_the_slots_before_it() -> None:
    """Without backfill the missed slots collapse into one run; its start is the last success."""
    status = Status(settled_through=at("10:00"), last_success_time=at("10:40"))
    assert figures("10:59", status).overdue(at("10:59")) == timedelta()


def test_a_schedule_without_slots_has_no_figures() -> None:
    """30 February never comes."""
    told = figures("11:20", schedule="0 0 30 2 *")
    assert (told.missed, told.oldest_missed, told.expected, told.until) == (0, None, None, None)


FAR = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC, microsecond=0)]
TIMES = st.integers(0, 10 * 86_400).map(lambda seconds: CREATED + timedelta(seconds=seconds))


@settings(deadline=None)  # of a schedule that begins in the year 1 there is a lot to count
@given(
    settled=st.none() | TIMES | st.sampled_from(FAR),
    success=st.none() | TIMES | st.sampled_from(FAR),
    now=TIMES,
    later=st.integers(0, 86_400),
    spec=st.fixed_dictionaries({"backfill": st.booleans(), "suspend": st.booleans()}),
    schedule=st.sampled_from(["*/7 * * * *", "0 5 * * *", "15 3 * * 1"]),
)
def test_figures_hold_until_they_say(
    settled: datetime | None,
    success: datetime | None,
    now: datetime,
    later: int,
    spec: dict[str, bool],
    schedule: str,
) -> None:
    """What is remembered is what would be counted anew; and it agrees with the books' own count."""
    status = Status(settled_through=settled, last_success_time=success)
    one = job(status, schedule=schedule, **spec)
    told = figures_of(one, now)
    assert told.missed == missed(View.of_job(one, Observed(), now), status)
    assert (told.oldest_missed is not None) == (told.missed > 0)
    assert told.oldest_missed is None or told.oldest_missed <= now
    assert told.overdue(now) >= timedelta()
    then = now + timedelta(seconds=later)
    again = figures_of(one, then)
    if told.hold_at(then):
        assert (again.missed, again.oldest_missed, again.expected, again.until) == (
            told.missed,
            told.oldest_missed,
            told.expected,
            told.until,
        )
    assert not told.hold_at(now - timedelta(seconds=1))
