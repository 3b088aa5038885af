"""Missed slots run, oldest first, with the real operator, the real API server and a real command."""

from __future__ import annotations

from tests.integration.testbed import Testbed, before, missed_slots, short, written


def test_ten_missed_slots_run_in_order_with_exact_arguments(bed: Testbed) -> None:
    """Each slot runs once, oldest first, and is told its slot and the last success."""
    slots = missed_slots(10)
    job = bed.job("ten", backfill=True, passLastSuccess=True, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, settledThrough=written(slots[-1]), missed=0)
    runs = bed.runs(job)
    successes = [before(slots)[:16], *map(short, slots)]
    assert [run.argv for run in runs] == [
        ("record", f"--run-time={short(slot)}", f"--last-success={last}")
        for slot, last in zip(slots, successes, strict=False)
    ]
    assert [(run.run_time, run.last_success) for run in runs] == list(
        zip(map(short, slots), successes, strict=False)
    )
    assert not any(run.overlapped for run in runs)
    assert status["lastSuccessTime"] == written(slots[-1])
    assert [entry["slot"] for entry in status["history"]] == [written(slot) for slot in reversed(slots)]
    assert {entry["result"] for entry in status["history"]} == {"Succeeded"}
    assert status["state"] == "Waiting"
