"""What Kueue does to Jobs, done by hand: the operator tells it, and fights nobody for a Job."""

from __future__ import annotations

import pytest

from crontabber_operator.manifests import QUEUE, RUN_TIME
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Testbed, before, short

pytestmark = pytest.mark.side_by_side


def wait_reason(bed: Testbed, job: str, reason: str) -> None:
    """Wait until the job is behind for this reason."""
    bed.wait(
        lambda: bed.condition(job, "CaughtUp").get("reason") == reason, f"{job} is behind because of {reason}"
    )


def test_a_gated_job_is_not_started_where_kueue_would_start_it(own: OwnOperators) -> None:
    """A Job in a queue is left alone and told; out of it, it runs; stopped and put back as Kueue does, it is told."""
    bed = own.bed
    operator = own.start()
    bed.control("job", hold=True)
    job = bed.job("job", passLastSuccess=True, backfill=True)
    bed.wait_ready(job)
    operator.terminate()
    slots = bed.missed_slots(1)
    bed.annotate(job, mark_success=before(slots))
    bed.patch("cronjobs", job, {"status": {"lastScheduleTime": before(slots)}}, subresource="status")
    (made,) = bed.wait(lambda: bed.objects("jobs", job), "the controller made a Job of the missed slot")
    name = made["metadata"]["name"]
    bed.patch("jobs", name, {"metadata": {"labels": {QUEUE: "batch"}}})
    own.start()
    wait_reason(bed, job, "ManagedByKueue")
    assert [one["spec"]["suspend"] for one in bed.objects("jobs", job)] == [True]

    bed.patch("jobs", name, {"metadata": {"labels": {QUEUE: None}}})
    bed.wait_running(job)
    bed.patch("jobs", name, {"spec": {"suspend": True}})
    bed.wait(lambda: not bed.get("jobs", name)["status"].get("active"), "its pod is gone")
    bed.patch("jobs", name, {"status": {"startTime": None}}, subresource="status")
    former = {"metadata": {"annotations": {RUN_TIME: ""}}}
    bed.patch("jobs", name, {"spec": {"template": former}})
    wait_reason(bed, job, "SuspendedByHand")
    bed.annotate(job, mark_success="never")  # answered by a decision that saw all of it
    bed.wait(lambda: "CommandRefused" in bed.reasons(job), "the operator has looked at the job")
    assert bed.get("jobs", name)["spec"]["suspend"] is True
    assert [run.run_time for run in bed.runs(job)] == [short(slots[0])]


def test_a_plain_job_waits_for_kueue(bed: Testbed) -> None:
    """Its Job is suspended and started by Kueue; the operator follows."""
    slots = bed.missed_slots(1)
    bed.control("job", hold=True)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    name = bed.wait(lambda: bed.status(job).get("ongoing"), "the operator has seen the run")["job"]
    bed.patch("jobs", name, {"metadata": {"labels": {QUEUE: "batch"}}, "spec": {"suspend": True}})
    wait_reason(bed, job, "ManagedByKueue")
    bed.control("job")
    bed.patch("jobs", name, {"spec": {"suspend": False}})
    bed.wait_status(job, missed=0, state="Waiting")
    assert bed.status(job)["history"][0]["job"] == name
