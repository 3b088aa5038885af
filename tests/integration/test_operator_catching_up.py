"""Gated jobs: missed slots run in order, the first failure holds back the rest, the command is told its slot."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from devcluster import Cluster
from tests.integration.testbed import Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side


def test_ten_missed_slots_run_in_order_with_exact_arguments(bed: Testbed) -> None:
    """Each slot runs once, oldest first, and is told its slot and the last success."""
    slots = bed.missed_slots(10)
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
    bed.wait_event(job, "CaughtUp")
    assert {"SlotsMissed", "CatchingUp"} <= set(bed.reasons(job))


def test_first_failure_holds_back_later_slots_until_its_retry_succeeds(bed: Testbed) -> None:
    """The slot that fails is tried again with a growing delay; no later slot starts before it succeeded."""
    slots = bed.missed_slots(5)
    bed.control("job", failures={short(slots[2]): 3})
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    status = bed.wait_failed(job)
    assert status["settledThrough"] == written(slots[1])
    assert status["state"] == "Retrying"
    assert status["missed"] == 3
    assert bed.condition(job, "CaughtUp")["status"] == "False"
    status = bed.wait_status(job, missed=0, errorCount=0)
    ran = [*slots[:2], *[slots[2]] * 4, *slots[3:]]
    runs = bed.runs(job)
    assert [run.run_time for run in runs] == [short(slot) for slot in ran]
    assert bed.good(job) == [short(slot) for slot in slots]
    assert not any(run.overlapped for run in runs)
    waits = [later.started - (earlier.ended or 0) for earlier, later in pairwise(runs[2:6])]
    # The end of a run is known in whole seconds.
    assert all(wait > delay - 1 for wait, delay in zip(waits, (1, 2, 4), strict=True)), waits
    attempts = [entry["attempt"] for entry in status["history"] if entry["slot"] == written(slots[2])]
    assert attempts == [4, 3, 2, 1]


def test_chain_is_held_when_retries_are_exhausted_until_marked(bed: Testbed) -> None:
    """With its retries used up the job waits for a person; a mark lets it go on behind the slot."""
    slots = bed.missed_slots(3)
    bed.control("job", failures={short(slots[0]): 99}, how="exit")
    job = bed.job(
        "job", backfill=True, retryDelaySeconds=1, retryLimit=1, annotations={"mark-success": before(slots)}
    )
    status = bed.wait_status(job, state="RetriesExhausted")
    assert status["errorCount"] == 2
    assert status["lastError"]["type"] == "Exit3"
    assert "nextRunTime" not in status
    bed.wait_event(job, "RetriesExhausted")
    bed.annotate(job, mark_success=written(slots[0]))
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slots[1]), short(slots[2])]
    assert status["state"] == "Waiting"


def test_hanging_gated_run_times_out_and_its_slot_runs_again(bed: Testbed) -> None:
    """A run beyond its deadline is killed, even where it ignores SIGTERM; then the slot is tried again."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True, ignore_sigterm=True)
    job = bed.job(
        "job",
        backfill=True,
        retryDelaySeconds=1,
        activeDeadlineSeconds=bed.short_deadline_seconds,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_failed(job)
    bed.control("job")
    assert status["history"][0]["result"] == "TimedOut"
    bed.wait_status(job, missed=0, errorCount=0)
    runs = bed.runs(job)
    assert [run.outcome for run in runs] == [None, "good", "good"]
    assert not any(run.overlapped for run in runs)


def test_missed_slots_collapse_without_backfill(bed: Testbed) -> None:
    """A gated job without backfill runs the newest missed slot once, and is told the last success."""
    slots = bed.missed_slots(6)
    job = bed.job("job", passLastSuccess=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [(run.run_time, run.argv) for run in bed.runs(job)] == [
        (short(slots[-1]), ("record", f"--last-success={before(slots)[:16]}"))
    ]


def test_absent_last_success_is_passed_as_the_empty_string(bed: Testbed) -> None:
    """With `backfillSince` and no success yet the command gets `--last-success=`."""
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True, passLastSuccess=True, backfillSince=written(slots[0]))
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [run.argv[2] for run in bed.runs(job)] == ["--last-success=", f"--last-success={short(slots[0])}"]


def test_own_argument_names_format_and_places(bed: Testbed) -> None:
    """`args` may hold the variables, options may have other names or none, times another format."""
    slots = bed.missed_slots(1)
    job = bed.job(
        "job",
        backfill=True,
        passLastSuccess=True,
        args=["--day=$(RUN_TIME)", "it's $$(RUN_TIME)", "a b"],
        runTimeArgument="",
        lastSuccessArgument="--since",
        timeFormat="%Y%m%d %H:%M",
        annotations={"mark-success": before(slots)},
    )
    bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    day, since = slots[0].strftime("%Y%m%d %H:%M"), (slots[0] - timedelta(minutes=1)).strftime("%Y%m%d %H:%M")
    assert bed.runs(job)[0].argv == (
        "record",
        f"--day={day}",
        "it's $(RUN_TIME)",
        "a b",
        f"--since={since}",
    )


def test_backfill_limit_skips_the_oldest_slots_and_tells_it(bed: Testbed) -> None:
    """Only the newest slots are caught up; the others are counted as skipped."""
    slots = bed.missed_slots(8)
    job = bed.job("job", backfill=True, backfillLimit=3, annotations={"mark-success": before(slots)})
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots[-3:]]
    assert status["skipped"] == 5
    bed.wait_event(job, "SlotsSkipped")


def test_failed_attempts_and_old_jobs_are_pruned(bed: Testbed) -> None:
    """After catching up only as many finished Jobs are left as the limits say, and their pods with them."""
    slots = bed.missed_slots(6)
    bed.control("job", failures={short(slots[1]): 2, short(slots[4]): 1})
    job = bed.job(
        "job",
        backfill=True,
        retryDelaySeconds=1,
        successfulJobsHistoryLimit=2,
        failedJobsHistoryLimit=1,
        annotations={"mark-success": before(slots)},
    )
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    bed.wait(lambda: len(bed.objects("jobs", job)) == 3, "two good Jobs and one failed are left")
    bed.wait(lambda: len(bed.objects("pods", job)) == 3, "their pods are left")
    slots_left = [one["metadata"]["annotations"]["crontabber.dev/slot"] for one in bed.objects("jobs", job)]
    assert sorted(slots_left) == [written(slots[4]), written(slots[4]), written(slots[5])]


def test_suspended_by_hand_in_the_middle_is_told_and_not_released(bed: Testbed) -> None:
    """A running Job that a person suspends stays as it is: it is told, and goes on when the person resumes it."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    name = bed.status(job)["ongoing"]["job"]
    bed.patch("jobs", name, {"spec": {"suspend": True}})
    bed.wait(
        lambda: "suspended by hand" in bed.condition(job, "CaughtUp").get("message", ""),
        "it is told that the Job was suspended by hand",
    )
    bed.wait(lambda: bed.runs(job)[0].outcome == "terminated", "its pod ended")
    bed.control("job")
    assert bed.get("jobs", name)["spec"]["suspend"] is True
    bed.patch("jobs", name, {"spec": {"suspend": False}})
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert status["history"][-1]["job"] == name


def test_job_that_vanishes_is_lost_and_its_slot_runs_again(bed: Testbed) -> None:
    """A claimed Job that somebody deletes is recorded as Lost; at least once its slot runs to the end."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    bed.delete("jobs", bed.status(job)["ongoing"]["job"])
    bed.control("job")
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job)[-2:] == [short(slot) for slot in slots]
    assert [entry["result"] for entry in reversed(status["history"])] == ["Lost", "Succeeded", "Succeeded"]
    bed.wait_event(job, "RunLost")


def test_job_made_by_kubectl_from_the_cronjob_is_released(bed: Testbed, cluster: Cluster) -> None:
    """`kubectl create job --from=cronjob/x` runs at once, outside the bookkeeping."""
    job = bed.job("job", backfill=True, passLastSuccess=True)
    bed.wait_ready(job)
    cluster.kubectl("-n", bed.namespace, "create", "job", "by-hand", f"--from=cronjob/{job}")
    run = bed.wait(lambda: next((one for one in bed.runs(job) if one.outcome == "good"), None), "it ran")
    assert run.argv[0] == "record"
    assert short(now() - timedelta(minutes=2)) <= str(run.run_time) <= short(now())
    assert not bed.status(job).get("history")
    assert "lastSuccessTime" not in bed.status(job)


def test_unknown_image_times_out_and_heals(bed: Testbed) -> None:
    """A pod whose image can't be pulled is stopped at the deadline; with the image mended the slot runs."""
    slots = bed.missed_slots(1)
    template = bed.template("job")
    template["spec"]["containers"][0]["image"] = "no-such-image"
    job = bed.job(
        "job",
        backfill=True,
        retryDelaySeconds=1,
        activeDeadlineSeconds=bed.short_deadline_seconds,
        template=template,
        annotations={"mark-success": before(slots)},
    )
    status = bed.wait_failed(job)
    assert status["history"][0]["result"] == "TimedOut"
    bed.change(job, template=bed.template("job"))
    bed.wait_status(job, missed=0, errorCount=0)
    assert bed.good(job) == [short(slots[0])]
