"""The operator is killed before and after each of its writes, stopped and woken too late, or there twice.

Each time: every slot runs, in order, none twice once it was recorded, and no two runs overlap.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime

import pytest

from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Body, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side

FENCE = [f"{point}:{when}" for point in ("create", "claim", "release") for when in ("before", "after")]


def wait_killed(bed: Testbed, operator: OperatorProcess) -> None:
    """Wait until an operator's fault has struck."""
    bed.wait(lambda: not operator.runs, "the operator has killed itself")
    assert operator.exit_code == -signal.SIGKILL, operator.log_tail()


def wait_stopped(bed: Testbed, operator: OperatorProcess) -> None:
    """Wait until an operator's fault has stopped it."""
    bed.wait(lambda: operator.is_stopped, "the operator has stopped itself")


def assert_each_ran_once(bed: Testbed, job: str, slots: Sequence[datetime]) -> Body:
    """Wait for the end of the chain; each slot succeeded once, in order, one at a time. Return the status."""
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]), errorCount=0)
    runs = bed.runs(job)
    assert bed.good(job) == [short(slot) for slot in slots], bed.report()
    assert not any(run.overlapped for run in runs), bed.report()
    succeeded = [entry["slot"] for entry in status["history"] if entry["result"] == "Succeeded"]
    assert succeeded == [written(slot) for slot in reversed(slots)]
    assert "ongoing" not in status
    return status


@pytest.mark.parametrize("fault", FENCE)
def test_killed_around_a_write_of_the_fence(own: OwnOperators, fault: str) -> None:
    """Killed around the creation, the claim or the release of the second run, which then fails once."""
    bed = own.bed
    slots = bed.missed_slots(3)
    job = bed.job(
        "job",
        backfill=True,
        passLastSuccess=True,
        retryDelaySeconds=1,
        annotations={"mark-success": before(slots)},
    )
    bed.control(job, failures={short(slots[1]): 1})
    wait_killed(bed, own.start(f"{fault}:2"))
    own.start()
    status = assert_each_ran_once(bed, job, slots)
    assert [run.run_time for run in bed.runs(job)] == [short(slots[at]) for at in (0, 1, 1, 2)]
    assert [entry["result"] for entry in reversed(status["history"])] == [
        "Succeeded",
        "Failed",
        "Succeeded",
        "Succeeded",
    ]


@pytest.mark.parametrize("fault", ["cronjob:before", "cronjob:after", "move:before", "move:after"])
def test_plain_job_survives_a_kill_around_its_cronjob(own: OwnOperators, fault: str) -> None:
    """Killed around making the CronJob or moving its lastScheduleTime, the missed slot runs once."""
    bed = own.bed
    slots = bed.missed_slots(2)
    job = bed.job("job", annotations={"mark-success": before(slots)})
    wait_killed(bed, own.start(fault))
    own.start()
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [run.outcome for run in bed.runs(job)] == ["good"]
    assert [entry["slot"] for entry in status["history"]] == [written(slots[-1])]


@pytest.mark.parametrize("fault", ["create:before", "claim:before", "claim:after", "release:before"])
def test_operator_that_was_stopped_and_wakes_up_late_changes_nothing(own: OwnOperators, fault: str) -> None:
    """While it was stopped around a write of the fence, another operator did all the work."""
    bed = own.bed
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    stale = own.start(f"{fault}:1:stop")
    wait_stopped(bed, stale)
    fresh = own.start()
    assert_each_ran_once(bed, job, slots)
    stale.go_on()
    bed.annotate(job, mark_success=before(slots))
    assert_ran_so_often(bed, job, slots, 2)
    # Alone it goes on from what is, not from what it knew when it was stopped.
    fresh.kill()
    bed.annotate(job, mark_success=before(slots))
    assert_ran_so_often(bed, job, slots, 3)


def assert_ran_so_often(bed: Testbed, job: str, slots: Sequence[datetime], times: int) -> None:
    """Wait until all slots ran so often; no more than that, in order, one at a time."""
    bed.wait(lambda: len(bed.good(job)) >= times * len(slots), f"all slots ran {times} times")
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == times * [short(slot) for slot in slots], bed.report()
    assert not any(run.overlapped for run in bed.runs(job)), bed.report()


def test_two_operators_at_once_share_the_work(own: OwnOperators) -> None:
    """Without any election between them, no slot runs twice, the order is kept, and nothing overlaps."""
    bed = own.bed
    slots = bed.missed_slots(6)
    own.start()
    own.start()
    bed.control("job", failures={short(slots[3]): 1})
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    plain = bed.job("plain", annotations={"mark-success": before(slots)})
    status = assert_each_ran_once(bed, job, slots)
    assert [run.run_time for run in bed.runs(job)] == [short(slots[at]) for at in (0, 1, 2, 3, 3, 4, 5)]
    assert len(status["history"]) == 7
    bed.wait_status(plain, missed=0, settledThrough=written(slots[-1]))
    assert len(bed.runs(plain)) == 1


def test_killed_again_and_again_while_catching_up(own: OwnOperators) -> None:
    """Operators that crash one after the other, each at its first write of another kind, get every slot done once."""
    bed = own.bed
    slots = bed.missed_slots(6)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    for fault in (*FENCE, "record:before", "record:after"):
        wait_killed(bed, own.start(f"{fault}:1"))
    own.start()
    assert_each_ran_once(bed, job, slots)


def test_what_ran_while_no_operator_was_there_is_recorded(own: OwnOperators) -> None:
    """A released run goes on without an operator, a plain job retries; the next operator finds the outcomes."""
    bed = own.bed
    slots = bed.missed_slots(2)
    bed.control("gated", hold=True)
    bed.control("plain", hold=True)
    gated = bed.job("gated", backfill=True, annotations={"mark-success": before(slots)})
    plain = bed.job("plain", annotations={"mark-success": before(slots)})
    first = own.start()
    bed.wait_running(gated)
    bed.wait_running(plain)
    first.kill()
    bed.control("gated")
    bed.control("plain")
    bed.wait(lambda: bed.good(gated) and bed.good(plain), "both runs end without an operator")
    own.start()
    assert_each_ran_once(bed, gated, slots)
    status = bed.wait_status(plain, missed=0, settledThrough=written(slots[-1]))
    assert [entry["result"] for entry in status["history"]] == ["Succeeded"]
    assert len(bed.runs(plain)) == 1


def test_job_that_vanished_while_no_operator_was_there_is_lost(own: OwnOperators) -> None:
    """Nobody saw the claimed Job go: the next operator asks for it, records it as Lost and runs the slot again."""
    bed = own.bed
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    first = own.start()
    bed.wait_running(job)
    first.kill()
    bed.delete("jobs", bed.status(job)["ongoing"]["job"])
    bed.wait(lambda: not bed.objects("pods", job), "its pod is gone")
    bed.control("job")
    own.start()
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert [entry["result"] for entry in reversed(status["history"])] == ["Lost", "Succeeded", "Succeeded"]
