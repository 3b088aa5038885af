"""Commands by annotation: each is done once, wherever the operator is killed, and what is wrong changes nothing."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import PREFIX, Body, Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side

FAULTS = [
    f"{point}:{when}" for point in ("pending", "removal", "run-now") for when in ("before", "after")
] + [f"done:{when}:{which}" for when in ("before", "after") for which in (1, 2)]


def wait_done(bed: Testbed, job: str, count: int = 1) -> list[Body]:
    """Wait until so many commands were taken and completed; return them, newest first."""

    def holds() -> list[Body] | None:
        done: list[Body] = bed.status(job).get("lastCommands") or []
        return done if len(done) >= count and all(one["result"] != "Pending" for one in done) else None

    done = bed.wait(holds, f"{count} commands are done")
    left = bed.resource(job)["metadata"].get("annotations") or {}
    assert not [key for key in left if key.startswith(PREFIX)]
    return done


def kill_and_restart(own: OwnOperators, fault: str, job: str, **command: str) -> None:
    """Give a command to an operator that kills itself in the middle of it, and start another."""
    faulty = own.start(fault)
    own.bed.annotate(job, **command)
    own.bed.wait(lambda: not faulty.runs, "the operator has killed itself")
    assert faulty.exit_code == -signal.SIGKILL, faulty.log_tail()
    own.start()


# --- mark-success ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "now"])
def test_mark_success_now_clears_the_error_and_moves_on(bed: Testbed, value: str) -> None:
    """The last success is now, nothing is missed, the error state is gone."""
    slots = bed.missed_slots(2)
    bed.control("job", failures=99)
    job = bed.job("job", backfill=True, retryDelaySeconds=3000, annotations={"mark-success": before(slots)})
    bed.wait_status(job, errorCount=1)
    marked = written(now())
    bed.annotate(job, mark_success=value)
    done = wait_done(bed, job, 2)
    assert (done[0]["name"], done[0]["value"], done[0]["result"]) == ("mark-success", value, "Done")
    status = bed.wait_status(job, errorCount=0, missed=0, state="Waiting")
    assert status["lastSuccessTime"] >= marked
    assert "lastError" not in status
    assert len(bed.runs(job)) == 1
    assert bed.wait_event(job, "CommandDone")["type"] == "Normal"


def test_mark_success_in_the_past_runs_a_range_again(bed: Testbed) -> None:
    """Slots since the mark count as missed, also those that ran before; the same command works again."""
    slots = bed.missed_slots(3)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    for times in (2, 3):
        bed.annotate(job, mark_success=before(slots[1:]))
        bed.wait_good(job, 1 + 2 * times)
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slots[0]), *3 * [short(slot) for slot in slots[1:]]]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ({"mark_success": "yesterday"}, "RFC 3339"),
        ({"mark_success": written(now() + timedelta(days=1))}, "in the future"),
        ({"reset": "yes please"}, "takes no value"),
        ({"run_now": "--day='24 Nov"}, "shell quoting"),
    ],
    ids=["no time", "future", "reset with a value", "quote not closed"],
)
def test_bad_value_is_refused_in_words_and_changes_nothing(
    bed: Testbed, command: dict[str, str], said: str
) -> None:
    """A Warning says what is accepted; the bookkeeping is as it was."""
    slots = bed.missed_slots(1)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    good = bed.wait_status(job, missed=0, settledThrough=written(slots[0]))
    bed.annotate(job, **command)
    done = wait_done(bed, job, 2)
    assert done[0]["result"].startswith("Refused")
    event = bed.wait_event(job, "CommandRefused")
    assert event["type"] == "Warning"
    assert said in event["message"]
    status = bed.status(job)
    assert {**status, "lastCommands": []} == {**good, "lastCommands": []}


# --- reset -----------------------------------------------------------------------------------------------


def test_reset_forgets_all_and_runs_nothing(bed: Testbed) -> None:
    """As if never run: no last success, no history, no errors; earlier slots are not run."""
    slots = bed.missed_slots(3)
    bed.control("job", failures={short(slots[1]): 99})
    job = bed.job("job", backfill=True, retryDelaySeconds=1, annotations={"mark-success": before(slots)})
    bed.wait_failed(job, 2)
    bed.annotate(job, reset="")
    wait_done(bed, job, 2)
    status = bed.wait_status(job, errorCount=0, missed=0, state="Waiting")
    assert not {"lastSuccessTime", "firstRunTime", "lastRunTime", "lastError", "ongoing"} & status.keys()
    assert not status["history"]
    assert bed.condition(job, "LastRunSucceeded")["status"] == "Unknown"
    assert short(slots[2]) not in [run.run_time for run in bed.runs(job)]


def test_reset_and_mark_never_let_two_runs_overlap(bed: Testbed) -> None:
    """The run that goes on is left to end and doesn't count; the next one starts only after it."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    running = bed.status(job)["ongoing"]["job"]
    bed.annotate(job, reset="")
    wait_done(bed, job, 2)
    assert "ongoing" not in bed.status(job)
    bed.annotate(job, mark_success=before(slots))
    wait_done(bed, job, 3)
    bed.wait(
        lambda: running in bed.condition(job, "CaughtUp").get("message", ""), "it is told what is waited for"
    )
    assert len(bed.runs(job)) == 1
    bed.control("job")
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    runs = bed.runs(job)
    assert [run.run_time for run in runs] == [short(slots[0]), short(slots[0]), short(slots[1])]
    assert not any(run.overlapped for run in runs)
    assert running not in [entry["job"] for entry in status["history"]]


@pytest.mark.parametrize("fault", ["removal:after", "done:before", "done:after"])
def test_reset_of_a_running_job_is_done_once_wherever_the_operator_is_killed(
    own: OwnOperators, fault: str
) -> None:
    """The run that goes on is left to end; the slots of a later mark run after it."""
    bed = own.bed
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True)
    first = own.start()
    bed.annotate(job, mark_success=before(slots))
    bed.wait_running(job)
    first.kill()
    kill_and_restart(own, fault, job, reset="")
    done = wait_done(bed, job, 2)
    assert [(one["name"], one["result"]) for one in done] == [("reset", "Done"), ("mark-success", "Done")]
    status = bed.wait_status(job, missed=0)
    assert "lastSuccessTime" not in status
    bed.control("job")
    bed.annotate(job, mark_success=before(slots[1:]))
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert bed.good(job) == [short(slot) for slot in slots]
    assert not any(run.overlapped for run in bed.runs(job))


# --- run-now ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"backfill": True, "passLastSuccess": True}], ids=["plain", "gated"])
def test_run_now_runs_once_with_further_arguments(bed: Testbed, fields: Body) -> None:
    """One Job at once, outside the bookkeeping; the arguments are split as a shell would, and no shell sees them."""
    job = bed.job("job", **fields)
    bed.wait_ready(job)
    began = short(now())
    bed.annotate(job, run_now="--dry-run --day='24 Nov' $(touch pwned) ';'")
    done = wait_done(bed, job)
    assert (done[0]["name"], done[0]["result"]) == ("run-now", "Done")
    bed.wait(lambda: [run.outcome for run in bed.runs(job)] == ["good"], "it ran")
    run = bed.runs(job)[0]
    assert run.argv[-5:] == ("--dry-run", "--day=24 Nov", "$(touch", "pwned)", ";")
    if fields:
        assert began <= run.argv[1].removeprefix("--run-time=") <= short(now())
        assert run.argv[2] == "--last-success="
    status = bed.status(job)
    assert not status["history"]
    assert "lastSuccessTime" not in status
    assert len(bed.objects("jobs", job)) == 1


def test_run_now_does_not_wait_for_a_chain(bed: Testbed) -> None:
    """It runs at once beside what is caught up, and the chain is not disturbed."""
    slots = bed.missed_slots(2)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    bed.annotate(job, run_now="--by-hand")
    bed.wait(lambda: len(bed.runs(job)) == 2, "the run-now runs beside it")
    assert bed.runs(job)[1].argv[-1] == "--by-hand"
    bed.control("job")
    status = bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    assert [entry["slot"] for entry in status["history"]] == [written(slot) for slot in reversed(slots)]
    assert len(bed.runs(job)) == 3


# --- Together --------------------------------------------------------------------------------------------


def test_command_with_an_id_is_done_once(bed: Testbed) -> None:
    """A command whose id was done before is not done again; another id is."""
    job = bed.job("job")
    bed.wait_ready(job)
    for number, command_id in enumerate(("a", "a", "b")):
        bed.annotate(job, run_now=f"--number={number}", command_id=command_id)
        bed.wait(
            lambda: not (bed.resource(job)["metadata"].get("annotations") or {}),
            "the annotations are removed",
        )
    bed.wait(lambda: len(bed.runs(job)) == 2, "two runs")
    assert {run.argv[-1] for run in bed.runs(job)} == {"--number=0", "--number=2"}
    assert [one["id"] for one in bed.status(job)["lastCommands"]] == ["b", "a"]


def test_several_commands_at_once_are_done_in_order(bed: Testbed) -> None:
    """reset, then mark-success, then run-now, which is told the marked success."""
    slots = bed.missed_slots(1)
    job = bed.job("job", passLastSuccess=True)
    bed.wait_ready(job)
    bed.annotate(job, run_now="--by-hand", mark_success=written(slots[0]), reset="")
    done = wait_done(bed, job, 3)
    assert {one["result"] for one in done} == {"Done"}
    bed.wait(lambda: bed.good(job), "it ran")
    assert bed.runs(job)[0].argv == ("record", f"--last-success={short(slots[0])}", "--by-hand")
    assert bed.status(job)["lastSuccessTime"] == written(slots[0])


@pytest.mark.parametrize("fault", FAULTS)
def test_commands_are_done_once_wherever_the_operator_is_killed(own: OwnOperators, fault: str) -> None:
    """Recorded as pending, annotations removed, done one by one: killed around each, each is done exactly once."""
    bed = own.bed
    slots = bed.missed_slots(2)
    job = bed.job("job", backfill=True)
    kill_and_restart(own, fault, job, reset="", mark_success=before(slots), run_now="--once")
    done = wait_done(bed, job, 3)
    assert sorted((one["name"], one["result"]) for one in done) == [
        ("mark-success", "Done"),
        ("reset", "Done"),
        ("run-now", "Done"),
    ]
    bed.wait_status(job, missed=0, settledThrough=written(slots[-1]))
    bed.wait(lambda: len(bed.good(job)) == 3, "the slots and the run-now ran")
    by_hand = [run for run in bed.runs(job) if run.argv[-1] == "--once"]
    slots_run = [run.run_time for run in bed.runs(job) if run not in by_hand]
    assert len(by_hand) == 1
    assert slots_run == [short(slot) for slot in slots]
    assert len(bed.objects("jobs", job)) == 3


def test_commands_reach_many_resources(bed: Testbed) -> None:
    """`kubectl annotate --all` gives a command to each resource."""
    jobs = [bed.job(f"job-{number}") for number in range(4)]
    for job in jobs:
        bed.wait_ready(job)
    for job in jobs:
        bed.annotate(job, mark_success="now")
    for job in jobs:
        assert [one["name"] for one in wait_done(bed, job)] == ["mark-success"]
