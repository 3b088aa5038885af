"""Clocks: the operator's own is off, or is set while it runs; years of downtime. The API server's time counts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.operator_process import OperatorProcess
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Requests, before, now, short, written

pytestmark = pytest.mark.side_by_side

YEAR = timedelta(days=365)
WRITES_MAX = 8
"""Accepting it, its CronJob, one slot's Job, claim and release: whatever the number of slots."""


def start(own: OwnOperators, ahead: timedelta) -> OperatorProcess:
    """Start an operator on a machine whose clock is wrong."""
    set_clock(own, ahead)
    return own.start(environment={"OPERATOR_CLOCK": str(own.bed.folder / "clock")})


def set_clock(own: OwnOperators, ahead: timedelta) -> None:
    """Set the clock of the operator's machine."""
    file = own.bed.folder / "clock"
    draft = file.with_suffix(".draft")
    draft.write_text(str(ahead.total_seconds()), encoding="utf-8")
    draft.replace(file)


@pytest.mark.parametrize("ahead", [timedelta(minutes=50), timedelta(minutes=-50), YEAR])
def test_a_wrong_clock_starts_no_slot_early_and_none_late(own: OwnOperators, ahead: timedelta) -> None:
    """The next slot, half an hour away, is not due; the missed ones run; a mark is of the true time."""
    bed = own.bed
    slots = bed.missed_slots(2)
    operator = start(own, ahead)
    bed.control("job", failures=1)
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    bed.wait_good(job, 2)
    upcoming = slots[-1] + timedelta(hours=1)
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]), nextRunTime=written(upcoming))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert all(
        written(now() - timedelta(minutes=9)) < one["time"] <= written(now())
        for one in status["lastCommands"]
    )
    given = now()
    bed.annotate(job, mark_success="now")
    bed.wait_event(job, "CommandDone")
    bed.wait(lambda: [one["result"] for one in bed.status(job)["lastCommands"]] == ["Done"] * 2, "it is done")
    status = bed.wait_status(job, missed=0)
    # The API server tells its time in whole seconds.
    assert (
        written(given - timedelta(seconds=3))
        <= status["lastSuccessTime"]
        <= written(now() + timedelta(seconds=1))
    )
    assert "the API server's, which counts" in operator.log()


def test_a_clock_that_is_set_forth_and_back_changes_nothing(own: OwnOperators) -> None:
    """Not before a slot, not during a run, not while a failed one waits for its next attempt."""
    bed = own.bed
    slots = bed.missed_slots(3)
    operator = start(own, timedelta())
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, retryDelaySeconds=2, annotations={"mark-success": before(slots)})
    for ahead in (timedelta(hours=3), timedelta(hours=-3), timedelta(minutes=31), timedelta()):
        runs = bed.wait_running(job)
        set_clock(own, ahead)
        assert len(runs) == 1
    bed.control("job", failures={short(slots[1]): 99})
    bed.wait_failed(job)
    set_clock(own, timedelta(hours=-3))
    bed.control("job")
    bed.wait_good(job, 3)
    bed.wait_status(job, missed=0, errorCount=0)
    set_clock(own, timedelta(hours=3))
    bed.annotate(job, mark_success=before(slots[2:]))
    bed.wait_good(job, 4)
    assert bed.good(job) == [*(short(slot) for slot in slots), short(slots[2])]
    assert not any(run.overlapped for run in bed.runs(job))
    assert operator.runs


@pytest.mark.parametrize("schedule", ["hourly", "each minute"])
def test_a_year_of_downtime_costs_no_more_than_an_hour(own: OwnOperators, schedule: str) -> None:
    """The slots are counted, not listed; the oldest runs first; that there is no limit is told once."""
    bed = own.bed
    slots = bed.missed_slots(1)
    job = bed.job("job", backfill=True, schedule="* * * * *" if schedule == "each minute" else bed.schedule)
    back = slots[0] - YEAR
    bed.patch("crontabberjobs", job, {"status": {"settledThrough": written(back)}}, subresource="status")
    bed.control(job, hold=True)
    requests = Requests(own.cluster.audit_log, bed.namespace)
    own.start()
    bed.wait_running(job)
    writes = [one for one in requests.writes() if one.code < 300]
    assert len(writes) <= WRITES_MAX, writes
    status = bed.wait_status(job, state="CatchingUp")
    expected = YEAR // timedelta(minutes=1 if schedule == "each minute" else 60)
    assert expected <= status["missed"] <= expected + 120
    event = bed.wait_event(job, "ManySlotsMissed")
    assert (event["type"], event.get("count")) == ("Warning", 1)
    assert "spec.backfillLimit would limit them" in event["message"]
    first = back + timedelta(minutes=1 if schedule == "each minute" else 60)
    assert bed.runs(job)[0].run_time == short(first)
