"""Missed slots that share a Job: `backfillBatch`, on a real API server, with real processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import PREFIX, Body, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side


def batches_of(bed: Testbed, job: str) -> list[tuple[str, str]]:
    """Return the first and the last slot of each Job."""
    found = []
    for one in bed.objects("jobs", job):
        annotations = one["metadata"]["annotations"]
        found.append((annotations[f"{PREFIX}slot"], annotations[f"{PREFIX}through"]))
    return sorted(found)


def runners(bed: Testbed, job: str) -> list[Body]:
    """Return the ConfigMaps that were made for a resource."""
    return bed.objects("configmaps", job)


def test_missed_slots_share_a_job(bed: Testbed) -> None:
    """One Job runs them in order, each told its own slot and last success; the runner belongs to the resource."""
    slots = bed.missed_slots(12)
    job = bed.job(
        "job",
        backfill=True,
        backfillBatch=20,
        passLastSuccess=True,
        args=["--day=$(RUN_TIME)", "$$(RUN_TIME)"],
        env={"WINDOW": "$(LAST_SUCCESS) to $(RUN_TIME)"},
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert batches_of(bed, job) == [(written(slots[0]), written(slots[-1]))]
    last = [before(slots)[:16], *(short(slot) for slot in slots[:-1])]
    for run, slot, success in zip(bed.runs(job), slots, last, strict=True):
        assert run.last_success == success
        assert run.argv == (
            "record",
            f"--day={short(slot)}",
            "$(RUN_TIME)",
            f"--run-time={short(slot)}",
            f"--last-success={success}",
        )
    assert not any(run.overlapped for run in bed.runs(job))
    assert [(one["result"], one["slot"]) for one in status["history"]] == [("Succeeded", written(slots[0]))]
    assert "12 slots" in status["history"][0]["message"]
    (runner,) = runners(bed, job)
    assert runner["metadata"]["ownerReferences"][0]["uid"] == bed.resource(job)["metadata"]["uid"]


def test_nothing_is_brought_where_no_batch_is_used(bed: Testbed) -> None:
    """A job that asks for batches has none while it misses no more than one slot."""
    slots = bed.missed_slots(1)
    job = bed.job("job", backfill=True, backfillBatch=20, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert runners(bed, job) == []


def test_the_first_failure_of_a_batch_stops_it(bed: Testbed) -> None:
    """What was good is settled, the slot that failed is tried again first, and the rest follows in a further batch."""
    slots = bed.missed_slots(10)
    bed.control("job", failures={short(slots[4]): 2})
    job = bed.job(
        "job",
        backfill=True,
        backfillBatch=10,
        retryDelaySeconds=1,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_failed(job)
    assert status["settledThrough"] == status["lastSuccessTime"] == written(slots[3])
    assert status["lastError"]["slot"] == written(slots[4])
    assert status["lastError"]["type"] == "RuntimeError"
    assert "crontabber[" not in status["lastError"]["traceback"]
    bed.wait_status(job, missed=0, errorCount=0, settledThrough=written(slots[-1]))
    ran = [short(slot) for slot in (*slots[:5], slots[4], *slots[4:])]
    assert [run.run_time for run in bed.runs(job)] == ran
    assert bed.good(job) == [short(slot) for slot in slots]
    assert (written(slots[4]), written(slots[-1])) in batches_of(bed, job)


def test_the_books_follow_a_batch(bed: Testbed) -> None:
    """While its one Job runs, `missed` falls and the cursor moves."""
    slots = bed.missed_slots(8)
    bed.control("job", hold=short(slots[5]))
    job = bed.job("job", backfill=True, backfillBatch=8, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, missed=3, settledThrough=written(slots[4]))
    assert status["lastSuccessTime"] == written(slots[4])
    assert (status["ongoing"]["slot"], status["ongoing"]["through"]) == (
        written(slots[5]),
        written(slots[-1]),
    )
    assert status["state"] == "CatchingUp"
    bed.control("job")
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]


def test_a_pod_that_is_killed_in_the_middle_loses_only_its_slot(bed: Testbed) -> None:
    """What it had done is done; what it was doing runs again, and nothing counts that was not."""
    slots = bed.missed_slots(8)
    bed.control("job", hold=short(slots[3]))
    job = bed.job(
        "job",
        backfill=True,
        backfillBatch=8,
        retryDelaySeconds=1,
        annotations={"mark-success": before(slots)},
    )
    killed = bed.wait_running(job, 4)[-1]
    bed.wait_status(job, settledThrough=written(slots[2]))
    (pod,) = bed.objects("pods", job)
    bed.api.request(
        "DELETE",
        bed.path("pods", pod["metadata"]["name"]),
        {"gracePeriodSeconds": 0, "propagationPolicy": "Background"},
    )
    status = bed.wait_failed(job)
    assert status["settledThrough"] == written(slots[2])
    bed.wait(lambda: killed.pid not in bed.living(job), "the killed command has ended")
    bed.control("job")
    bed.wait_status(job, missed=0, errorCount=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]


def test_a_slot_of_a_batch_has_its_own_deadline(bed: Testbed) -> None:
    """One that hangs is stopped and told as such; the others had each their time."""
    slots = bed.missed_slots(4)
    bed.control("job", hold=short(slots[2]), ignore_sigterm=True)
    job = bed.job(
        "job",
        backfill=True,
        backfillBatch=4,
        retryDelaySeconds=1,
        activeDeadlineSeconds=bed.short_deadline_seconds,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_failed(job)
    bed.control("job")
    assert status["history"][0]["result"] == "TimedOut"
    assert status["history"][0]["slot"] == status["lastError"]["slot"] == written(slots[2])
    bed.wait_status(job, missed=0, errorCount=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]


def test_a_batch_goes_on_while_the_operator_is_killed(own: OwnOperators) -> None:
    """The next one takes up what it finds: each slot ran once."""
    bed = own.bed
    operator = own.start()
    slots = bed.missed_slots(8)
    bed.control("job", hold=short(slots[3]))
    job = bed.job("job", backfill=True, backfillBatch=8, annotations={"mark-success": before(slots)})
    bed.wait_running(job, 4)
    operator.kill()
    bed.control("job", hold=short(slots[6]))
    bed.wait(lambda: len(bed.good(job)) == 6, "it goes on without an operator")
    own.start()
    bed.wait_status(job, missed=2, settledThrough=written(slots[5]))
    bed.control("job")
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert batches_of(bed, job) == [(written(slots[0]), written(slots[-1]))]


def test_without_a_python_each_slot_has_a_job_of_its_own(bed: Testbed) -> None:
    """And an Event says why."""
    slots = bed.missed_slots(3)
    job = bed.job(
        "job",
        backfill=True,
        backfillBatch=3,
        managePy=["sh", "-c", 'exec python manage.py "$0" "$@"'],
        annotations={"mark-success": before(slots)},
    )
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert "spec.managePy" in bed.wait_event(job, "BatchImpossible")["message"]
    assert runners(bed, job) == []


def test_a_program_without_django_starts_anew_for_each_slot(bed: Testbed) -> None:
    """In one Job all the same; an Event says why it is slow."""
    slots = bed.missed_slots(3)
    bed.control("job", hold=short(slots[2]))
    job = bed.job("job", backfill=True, backfillBatch=3, annotations={"mark-success": before(slots)})
    assert "does not let Django execute" in bed.wait_event(job, "BatchNote")["message"]
    bed.control("job")
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))


def test_a_runner_that_somebody_else_put_there_is_not_used(bed: Testbed) -> None:
    """It would run with the rights of the web app: each slot has a Job of its own until it is gone."""
    slots = bed.missed_slots(4)
    job = bed.job(
        "job", backfill=True, backfillBatch=2, suspend=True, annotations={"mark-success": before(slots)}
    )
    bed.wait_status(job, missed=4)
    bed.change(job, suspend=None)
    bed.wait_status(job, missed=0)
    (runner,) = runners(bed, job)
    bed.delete("configmaps", runner["metadata"]["name"])
    forged = {
        **runner,
        "metadata": {"name": runner["metadata"]["name"]},
        "data": {"runner.py": "raise SystemExit(0)"},
    }
    bed.create("configmaps", forged)
    bed.annotate(job, mark_success=before(slots))
    assert "other contents" in bed.wait_event(job, "BatchImpossible")["message"]
    bed.wait(lambda: bed.good(job)[4:] == [short(slot) for slot in slots], "all ran again, one by one")
    bed.wait_status(job, missed=0)


def test_the_sample_app_catches_up_in_one_process_tree(bed: Testbed) -> None:
    """Django is started once for all slots: manage.py as it is, its command forked for each."""
    slots = bed.missed_slots(30)
    database = bed.folder / "crashes.sqlite3"
    container = {
        "name": "web",
        "image": "webapp",
        "env": [{"name": "DATABASE_URL", "value": f"sqlite:///{database}"}],
    }
    spec = bed.pod_spec(container)
    migrated = {**container, "name": "migrate", "command": ["python", "manage.py", "migrate", "-v0"]}
    job = bed.job(
        "job",
        command="updatesignatures",
        backfill=True,
        passLastSuccess=True,
        backfillBatch=50,
        template={"spec": {**spec, "initContainers": [migrated]}},
        annotations={"mark-success": before(slots)},
    )
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "select run_time, last_success, outcome from crashes_cronrun order by id"
        ).fetchall()
    assert [row[0][:16].replace(" ", "T") for row in rows] == [short(slot) for slot in slots]
    first = slots[0] - timedelta(minutes=1)
    assert [row[1][:16].replace(" ", "T") for row in rows] == [
        short(first),
        *(short(slot) for slot in slots[:-1]),
    ]
    assert {row[2] for row in rows} == {"succeeded"}
    assert "BatchNote" not in bed.reasons(job)
