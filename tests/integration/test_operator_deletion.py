"""Deleting a CrontabberJob removes all that was made for it, with the operator there or not."""

from __future__ import annotations

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Testbed, before, short, written

pytestmark = pytest.mark.side_by_side


def wait_gone(bed: Testbed, job: str) -> None:
    """Wait until nothing is left of a resource: CronJob, Jobs, pods, processes."""
    bed.wait(lambda: bed.find("crontabberjobs", job) is None, "it is gone itself")
    bed.wait(lambda: bed.find("cronjobs", job) is None, "its CronJob is gone")
    bed.wait(lambda: not bed.objects("jobs", job) + bed.objects("pods", job), "its Jobs and pods are gone")
    bed.wait(lambda: not bed.living(job), "its processes have ended")


def test_nothing_of_ours_can_hold_a_resource(bed: Testbed) -> None:
    """No finalizers, no annotations of kopf's, nothing in metadata that wasn't put there by its user."""
    slots = bed.missed_slots(1)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    metadata = bed.resource(job)["metadata"]
    assert "finalizers" not in metadata
    assert not metadata.get("annotations")
    assert "labels" not in metadata
    assert metadata["generation"] == 1
    assert "finalizers" not in bed.get("cronjobs", job)["metadata"]


def test_deletion_while_it_runs_removes_everything(bed: Testbed) -> None:
    """Also the run that goes on, the one made ahead, one by hand and finished ones go."""
    slots = bed.missed_slots(4)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait(lambda: bed.good(job), "the first slot ran")
    bed.control("job", hold=True)
    bed.annotate(job, run_now="")
    bed.wait_running(job, count=3)
    bed.delete("crontabberjobs", job)
    wait_gone(bed, job)


def test_deletion_works_without_an_operator(own: OwnOperators) -> None:
    """The garbage collector alone removes everything: nothing waits for an operator."""
    bed = own.bed
    slots = bed.missed_slots(2)
    operator = own.start()
    for name in ("plain", "gated"):
        bed.control(name, hold=True)
    plain = bed.job("plain", annotations={"mark-success": before(slots)})
    gated = bed.job("gated", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(plain)
    bed.wait_running(gated)
    operator.kill()
    for job in (plain, gated):
        bed.delete("crontabberjobs", job)
    for job in (plain, gated):
        wait_gone(bed, job)


def test_deletion_in_the_foreground_works(bed: Testbed) -> None:
    """`kubectl delete --cascade=foreground` waits for the dependents and ends; nothing is made anew meanwhile."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    bed.delete("crontabberjobs", job, policy="Foreground")
    wait_gone(bed, job)


def test_resource_that_is_made_again_starts_afresh(bed: Testbed) -> None:
    """Runs of a former resource of the name don't count for the new one, not even while they are still there."""
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    bed.delete("crontabberjobs", job)
    job = bed.job("job", backfill=True)
    status = bed.wait_ready(job)
    assert not status["history"]
    assert "lastSuccessTime" not in status
    bed.annotate(job, mark_success=before(slots))
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == 2 * [short(slot) for slot in slots]
    bed.wait(lambda: len(bed.objects("jobs", job)) == 2, "the former Jobs are gone")
