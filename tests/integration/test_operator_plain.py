"""Plain jobs: Kubernetes runs and retries them, the operator keeps the books and has one lever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.testbed import Testbed, before, now, written

pytestmark = pytest.mark.side_by_side


def test_plain_job_that_fails_twice_is_in_the_books_and_then_recovers(bed: Testbed) -> None:
    """Each failed pod is a failed attempt in the books; of the failed pods only the newest is kept."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=2)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    failed_once = bed.wait_status(job, errorCount=1)
    assert failed_once["state"] == "Retrying"
    assert failed_once["lastError"]["type"] == "RuntimeError"
    # What it had printed to standard output before may come behind the traceback (docs/output.md).
    assert failed_once["lastError"]["value"].splitlines()[0] == "the database is on fire"
    assert failed_once["lastError"]["traceback"].startswith("Traceback (most recent call last):")
    assert failed_once["lastError"]["slot"] == written(slots[0])
    assert failed_once["missed"] == 1
    assert bed.condition(job, "LastRunSucceeded")["status"] == "False"
    assert bed.condition(job, "Ready")["status"] == "True"
    bed.wait_status(job, errorCount=2)
    bed.wait(lambda: len(bed.objects("pods", job)) == 1, "all failed pods but the newest are deleted")
    status = bed.wait_status(job, errorCount=0, missed=0, settledThrough=written(slots[0]))
    assert "lastError" not in status
    assert [(entry["result"], entry["attempt"]) for entry in status["history"]] == [
        ("Succeeded", 3),
        ("Failed", 2),
        ("Failed", 1),
    ]
    assert {entry["slot"] for entry in status["history"]} == {written(slots[0])}
    assert [run.outcome for run in bed.runs(job)] == ["failed", "failed", "good"]
    assert bed.runs(job)[0].argv == ("record",)
    assert [pod["status"]["phase"] for pod in bed.objects("pods", job)] == ["Failed", "Succeeded"]
    assert bed.condition(job, "LastRunSucceeded")["status"] == "True"
    bed.wait_event(job, "Recovered")
    assert "RunFailed" in bed.reasons(job)


def test_plain_job_gives_a_slot_up_at_its_retry_limit(bed: Testbed) -> None:
    """With `retryLimit: 0` the failed slot is skipped, counted, and the books say why."""
    slots = bed.missed_slots(1)
    bed.control("job", failures=9, how="command-error")
    job = bed.job("job", retryLimit=0, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, skipped=1, missed=0)
    assert status["errorCount"] == 1
    assert (status["lastError"]["type"], status["lastError"]["value"]) == (
        "CommandError",
        "no such signature",
    )
    assert status["history"][0]["result"] == "Failed"
    assert len(bed.runs(job)) == 1


def test_plain_run_beyond_its_deadline_is_a_failed_attempt_and_is_retried(bed: Testbed) -> None:
    """A hanging run is stopped after activeDeadlineSeconds, counts as TimedOut, and Kubernetes tries again."""
    slots = bed.missed_slots(1)
    bed.control("job", hold=True)
    job = bed.job(
        "job", activeDeadlineSeconds=bed.short_deadline_seconds, annotations={"mark-success": before(slots)}
    )
    status = bed.wait_status(job, errorCount=1)
    bed.control("job")
    assert status["history"][0]["result"] == "TimedOut"
    assert status["lastError"]["type"] == "DeadlineExceeded"
    status = bed.wait_status(job, errorCount=0, missed=0)
    assert [entry["result"] for entry in status["history"]] == ["Succeeded", "TimedOut"]
    bed.wait_event(job, "RunTimedOut")


def test_missed_slots_of_a_plain_job_collapse_into_one_run(bed: Testbed) -> None:
    """Without backfill, however many slots were missed, one late run settles them."""
    slots = bed.missed_slots(7)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert len(bed.runs(job)) == 1
    assert status["history"][0]["slot"] == written(slots[-1])
    assert status["lastSuccessTime"] > written(slots[-1])
    assert status["nextRunTime"] == written(slots[-1] + timedelta(hours=1))


def test_nothing_runs_before_the_first_slot(bed: Testbed) -> None:
    """A new resource is scheduled and waits; no past slot is run."""
    plain, gated = bed.job("plain"), bed.job("gated", backfill=True)
    for job in (plain, gated):
        status = bed.wait_ready(job)
        assert status["state"] == "Waiting"
        assert status["missed"] == 0
        assert status["nextRunTime"] == written(bed.missed_slots(1)[0] + timedelta(hours=1))
        assert "lastSuccessTime" not in status
        assert bed.get("cronjobs", job)["spec"]["schedule"] == bed.schedule
    assert bed.objects("jobs") == []


def test_plain_history_is_pruned_to_its_limits(bed: Testbed) -> None:
    """Of the finished Jobs only as many stay as the limits say; the books keep them all."""
    slots = bed.missed_slots(1)
    job = bed.job("job", successfulJobsHistoryLimit=1, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    first = bed.objects("jobs", job)
    assert len(first) == 1
    bed.annotate(job, mark_success=before(slots))
    status = bed.wait_history(job, 2)
    assert status["missed"] == 0
    bed.wait(
        lambda: (
            [one["metadata"]["uid"] for one in bed.objects("jobs", job)] != [first[0]["metadata"]["uid"]]
            and len(bed.objects("jobs", job)) == 1
        ),
        "only the newest finished Job is left",
    )
    assert status["lastSuccessTime"] <= written(now())
