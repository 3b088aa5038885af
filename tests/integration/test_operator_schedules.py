"""Suspending, resuming and editing invent no runs; rolling frequencies stay on their grid; native slots are taken."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Body, Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side

GRID_START = datetime(1970, 1, 5, tzinfo=UTC)
EVERY_MINUTE = "* * * * *"


def hourly_ten_minutes_ago() -> str:
    """Return a cron text for every hour, whose newest slot was ten minutes ago."""
    return f"{(now() - timedelta(minutes=10)).minute} * * * *"


def run_once(bed: Testbed, job: str, runs: int = 1) -> None:
    """Make one slot missed and wait for its run; so often the command must have run by then, and no oftener."""
    slots = bed.missed_slots(1)
    bed.annotate(job, mark_success=before(slots))
    bed.wait(lambda: len(bed.good(job)) >= runs, f"run {runs} of {job} is good")
    bed.wait_status(job, missed=0)
    assert len(bed.runs(job)) == runs, bed.report()


def last_schedule(bed: Testbed, job: str) -> datetime:
    """Return the CronJob's lastScheduleTime."""
    text = bed.get("cronjobs", job)["status"]["lastScheduleTime"]
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def is_suspended(bed: Testbed, job: str) -> bool:
    """Tell whether the CronJob is suspended."""
    return bool(bed.get("cronjobs", job)["spec"].get("suspend"))


# --- Suspending and resuming -----------------------------------------------------------------------------


def test_resuming_a_plain_job_invents_no_run(bed: Testbed) -> None:
    """Slots that passed while it was suspended are not run, though the CronJob controller would."""
    job = bed.job("job")
    bed.wait_ready(job)
    run_once(bed, job)
    bed.change(job, suspend=True)
    status = bed.wait_status(job, state="Suspended", missed=0)
    assert "nextRunTime" not in status
    bed.wait(lambda: is_suspended(bed, job), "the CronJob is suspended")
    long_ago = {"status": {"lastScheduleTime": written(bed.missed_slots(3)[0])}}
    bed.patch("cronjobs", job, long_ago, subresource="status")
    # What is changed after that is mended by an operator that has seen it.
    bed.patch("cronjobs", job, {"spec": {"concurrencyPolicy": "Allow"}})
    bed.wait(
        lambda: bed.get("cronjobs", job)["spec"]["concurrencyPolicy"] == "Forbid", "the operator has seen it"
    )
    bed.change(job, suspend=False)
    bed.wait(lambda: not is_suspended(bed, job), "the CronJob is resumed")
    assert last_schedule(bed, job) >= bed.missed_slots(1)[0]
    # The controller acts on this only after it has looked at the resumed CronJob.
    run_once(bed, job, runs=2)
    assert bed.status(job)["state"] == "Waiting"


def test_resuming_a_gated_job_without_backfill_invents_no_run(bed: Testbed) -> None:
    """Slots that passed while it was suspended are settled when it is resumed."""
    slots = bed.missed_slots(3)
    job = bed.job("job", passLastSuccess=True, suspend=True, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, state="Suspended", lastSuccessTime=before(slots))
    assert status["missed"] == 0
    bed.change(job, suspend=False)
    bed.wait_status(job, state="Waiting", missed=0)
    bed.wait(lambda: not is_suspended(bed, job), "the CronJob is resumed")
    run_once(bed, job)


def test_resuming_with_backfill_runs_what_was_missed(bed: Testbed) -> None:
    """With backfill slots since the cursor always count; while suspended they are told and not run."""
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, suspend=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, state="Suspended", missed=2)
    assert bed.condition(job, "CaughtUp")["reason"] == "Suspended"
    assert bed.objects("jobs", job) == []
    bed.change(job, suspend=False)
    bed.wait_status(job, missed=0, state="Waiting")
    assert bed.good(job) == [short(slot) for slot in slots]


def test_suspending_lets_a_run_end_and_starts_no_other(bed: Testbed) -> None:
    """The run that goes on is left to end and counts; the next one does not start."""
    slots = bed.missed_slots(3)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    bed.change(job, suspend=True)
    bed.wait_status(job, state="Suspended")
    bed.control("job")
    bed.wait_status(job, state="Suspended", missed=2, settledThrough=written(slots[0]))
    assert len(bed.runs(job)) == 1
    bed.change(job, suspend=False)
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert len(bed.runs(job)) == 3


# --- Editing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"passLastSuccess": True}], ids=["plain", "gated"])
def test_editing_the_schedule_invents_no_run(bed: Testbed, fields: Body) -> None:
    """A slot of the new schedule that lies before the edit is not run; the next one is the first."""
    job = bed.job("job", **fields)
    bed.wait_ready(job)
    run_once(bed, job)
    edited = hourly_ten_minutes_ago()
    bed.change(job, schedule=edited)
    bed.wait(
        lambda: bed.get("cronjobs", job)["spec"]["schedule"] == edited, "the CronJob has the new schedule"
    )
    status = bed.wait_status(job, schedule=edited, missed=0)
    assert status["nextRunTime"] > written(now())
    slot = now().replace(second=0) - timedelta(minutes=10)
    bed.annotate(job, mark_success=written(slot - timedelta(minutes=15)))
    bed.wait(lambda: len(bed.good(job)) >= 2, "the slot that is marked as missed runs")
    bed.wait_status(job, missed=0)
    assert len(bed.runs(job)) == 2, bed.report()
    assert len(bed.objects("jobs", job)) == 2, bed.report()


def test_editing_the_time_zone_invents_no_run(bed: Testbed) -> None:
    """A daily slot that another time zone moved into the past is not run."""
    # In UTC the daily slot is in an hour; in a zone two hours ahead of UTC it was an hour ago.
    at = now() + timedelta(hours=1)
    job = bed.job("job", schedule=f"{at.minute} {at.hour} * * *")
    bed.wait_ready(job)
    bed.annotate(job, mark_success=written(now() - timedelta(hours=30)))
    bed.wait(lambda: len(bed.good(job)) == 1, "yesterday's slot runs late")
    bed.wait_status(job, missed=0)
    bed.change(job, timeZone="Etc/GMT-2")
    bed.wait(lambda: bed.get("cronjobs", job)["spec"]["timeZone"] == "Etc/GMT-2", "the CronJob has the zone")
    status = bed.wait_status(job, missed=0, nextRunTime=written(at.replace(second=0) + timedelta(hours=22)))
    assert status["state"] == "Waiting"
    bed.annotate(job, mark_success=written(now() - timedelta(hours=2)))
    bed.wait(lambda: len(bed.good(job)) >= 2, "today's slot runs when it is un-marked")
    assert len(bed.runs(job)) == 2, bed.report()


def test_job_becomes_gated_and_plain_again_while_it_runs(bed: Testbed) -> None:
    """The run that goes on is left alone and recorded under the new rules; nothing overlaps."""
    slots = bed.missed_slots(1)
    bed.control("job", hold=True)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    bed.wait(lambda: bed.status(job).get("ongoing"), "the run is in the books")
    bed.change(job, passLastSuccess=True)
    bed.wait(lambda: "suspend" in bed.get("cronjobs", job)["spec"]["jobTemplate"]["spec"], "it is gated")
    bed.control("job")
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    assert [entry["result"] for entry in status["history"]] == ["Succeeded"]
    bed.control("job", hold=True)
    bed.annotate(job, mark_success=before(slots))
    bed.wait_running(job, count=2)
    bed.change(job, passLastSuccess=None)
    generation = bed.resource(job)["metadata"]["generation"]
    bed.wait_status(job, observedGeneration=generation)
    bed.control("job")
    bed.wait(lambda: len(bed.good(job)) == 2, "the run ends well")
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    runs = bed.runs(job)
    assert len(runs) == 2
    assert not any(run.overlapped for run in runs)
    assert [entry["result"] for entry in status["history"]] == ["Succeeded", "Succeeded"]


def test_slots_that_are_too_late_to_start_are_skipped(bed: Testbed) -> None:
    """With startingDeadlineSeconds only the slots that may still start are caught up."""
    slots = bed.missed_slots(4)
    job = bed.job(
        "job",
        backfill=True,
        startingDeadlineSeconds=int((now() - slots[2]).total_seconds()) + 600,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots[2:]]
    assert status["skipped"] == 2


# --- Rolling frequencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"passLastSuccess": True}], ids=["plain", "gated"])
def test_rolling_frequency_stays_on_its_grid(bed: Testbed, fields: Body) -> None:
    """An `@every` CronJob counts from a point of the grid when it is made, when it fires and when it is edited."""
    # None of them can be written as cron text.
    first = quiet(timedelta(minutes=count) for count in range(31, 60))
    edited = quiet(timedelta(hours=count) for count in (7, 9, 10, 11))
    minutes, hours = first // timedelta(minutes=1), edited // timedelta(hours=1)
    job = bed.job("job", frequency=f"{minutes}m", **fields)
    on_grid(bed, job, first)
    assert bed.get("cronjobs", job)["spec"]["schedule"] == f"@every {minutes}m"
    assert bed.objects("jobs", job) == []
    newest = newest_on_grid(first)
    bed.annotate(job, mark_success=written(newest - first + timedelta(minutes=1)))
    status = bed.wait_status(job, missed=0, settledThrough=written(newest))
    assert status["history"][0]["slot"] == written(newest)
    on_grid(bed, job, first)
    bed.change(job, frequency=f"{hours}h")
    bed.wait(
        lambda: bed.get("cronjobs", job)["spec"]["schedule"] == f"@every {hours}h", "the CronJob is edited"
    )
    on_grid(bed, job, edited)
    bed.wait_status(job, missed=0, nextRunTime=written(newest_on_grid(edited) + edited))
    assert len(bed.runs(job)) == 1, bed.report()


def quiet(intervals: Iterable[timedelta]) -> timedelta:
    """Return the first interval with no point of its grid while a test runs."""
    return next(one for one in intervals if newest_on_grid(one) + one > now() + timedelta(minutes=15))


def newest_on_grid(interval: timedelta) -> datetime:
    """Return the newest point of a frequency's grid."""
    return GRID_START + (now() - GRID_START) // interval * interval


def on_grid(bed: Testbed, job: str, interval: timedelta) -> None:
    """Wait until the CronJob counts from the grid's newest point."""

    def holds() -> bool:
        found = bed.find("cronjobs", job)
        counted = ((found or {}).get("status") or {}).get("lastScheduleTime")
        return bool(counted == written(newest_on_grid(interval)))

    bed.wait(holds, f"the CronJob of {job} counts from the grid of {interval}")


# --- Native slots ----------------------------------------------------------------------------------------


@pytest.mark.side_by_side(waits_for_the_clock=True)
def test_native_slot_arrives_while_catching_up(bed: Testbed) -> None:
    """A slot that falls due meanwhile waits for its turn behind the missed ones, and its own Job runs it."""
    newest = now().replace(second=0)
    bed.control("job", hold=True)
    mark = written(newest - timedelta(seconds=150))
    job = bed.job("job", schedule=EVERY_MINUTE, backfill=True, annotations={"mark-success": mark})
    bed.wait_running(job)
    native = bed.wait(
        lambda: next((one for one in bed.objects("jobs", job) if is_native(one)), None),
        "the CronJob controller makes the Job of the next minute",
    )
    assert native["spec"]["suspend"] is True
    assert len(bed.runs(job)) == 1
    bed.control("job")
    native_slot = native["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    bed.wait(lambda: bed.status(job)["settledThrough"] >= native_slot, "the native slot ran")
    bed.change(job, suspend=True)
    # The next minute's run may have begun.
    bed.wait_status(job, state="Suspended", ongoing=None)
    runs = bed.runs(job)
    first = newest - timedelta(minutes=2)
    assert bed.good(job) == [short(first + timedelta(minutes=at)) for at in range(len(runs))]
    assert not any(run.overlapped for run in runs)
    history = {entry["slot"]: entry["job"] for entry in bed.status(job)["history"]}
    assert history[native_slot] == native["metadata"]["name"]


def is_native(job: Body) -> bool:
    """Tell whether the CronJob controller made a Job."""
    return any(one["kind"] == "CronJob" for one in job["metadata"].get("ownerReferences") or [])


@pytest.mark.side_by_side(waits_for_the_clock=True)
@pytest.mark.parametrize("fault", ["claim:before", "claim:after", "release:before", "release:after"])
def test_killed_around_the_claim_or_release_of_a_native_run(own: OwnOperators, fault: str) -> None:
    """The Job that the CronJob controller made is claimed and released once by whoever comes next."""
    bed = own.bed
    first = own.start(f"{fault}:1")
    slot = next_slot()
    job = bed.job("job", schedule=hourly(slot), backfill=True)
    bed.wait_ready(job)
    bed.wait(lambda: not first.runs, "the operator has killed itself")
    own.start()
    status = bed.wait_history(job, 1)
    assert status["history"][0]["slot"] == written(slot)
    assert [run.run_time for run in bed.runs(job)] == bed.good(job) == [short(slot)]
    assert any(is_native(one) for one in bed.objects("jobs", job))


def next_slot() -> datetime:
    """Return a minute that begins soon, with half a minute at least to make a CronJob before."""
    return (now() + timedelta(seconds=90)).replace(second=0)


def hourly(slot: datetime) -> str:
    """Return a cron text for every hour with this slot: none but it falls due while a test runs."""
    return f"{slot.minute} * * * *"


def due_soon(bed: Testbed, **fields: Any) -> tuple[str, datetime]:
    """Make a job with a slot that falls due soon; return its name and the slot."""
    slot = next_slot()
    job = bed.job("job", schedule=hourly(slot), **fields)
    bed.wait_ready(job)
    return job, slot


@pytest.mark.side_by_side(waits_for_the_clock=True)
@pytest.mark.parametrize("fields", [{}, {"passLastSuccess": True}], ids=["plain", "gated"])
def test_native_slot_runs_and_is_recorded(bed: Testbed, fields: Body) -> None:
    """With nothing missed the CronJob controller's own Job runs the slot, and nobody makes another."""
    job, slot = due_soon(bed, **fields)
    bed.wait(lambda: now() >= slot, "the slot is due")
    status = bed.wait_history(job, 1)
    assert status["history"][0]["slot"] == written(slot)
    assert status["history"][0]["result"] == "Succeeded"
    assert all(is_native(one) for one in bed.objects("jobs", job))
    assert status["lastSuccessTime"] >= status["history"][0]["slot"]


@pytest.mark.side_by_side(waits_for_the_clock=True)
def test_a_success_that_no_watch_shows_is_looked_up(own: OwnOperators) -> None:
    """The CronJob tells of it sooner than the Job does, which alone knows when it began."""
    bed = own.bed
    own.start("blind-to-jobs")
    job, slot = due_soon(bed)
    bed.wait(lambda: now() >= slot, "the slot is due")
    status = bed.wait_history(job, 1)
    [run] = bed.objects("jobs", job)
    assert status["history"][0]["started"] == run["status"]["startTime"]


@pytest.mark.side_by_side(waits_for_the_clock=True)
def test_a_run_that_ended_before_a_mark_is_not_taken_for_one_after_it(own: OwnOperators) -> None:
    """Also where the watches have not shown it by then: what is marked as to run again does."""
    bed = own.bed
    own.start("blind-to-runs")
    job, slot = due_soon(bed)
    bed.wait(
        lambda: (bed.get("cronjobs", job).get("status") or {}).get("lastSuccessfulTime"),
        "the slot has run, and the controller knows that it succeeded",
    )
    assert not bed.resource(job)["status"].get("history")
    bed.annotate(job, mark_success=before([slot]))
    bed.wait(lambda: len(bed.runs(job)) == 2, "the slot runs again")
