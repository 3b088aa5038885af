"""Jobs that wait for each other: dependsOn, concurrency groups, the namespace's limit of runs."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Body, CommandRun, Testbed, before, short, written

pytestmark = pytest.mark.side_by_side

LIMIT = {"CRONTABBER_MAX_CONCURRENT_RUNS_PER_NAMESPACE": "2"}


def wait_reason(bed: Testbed, name: str, kind: str, reason: str, message: str = "") -> Body:
    """Wait until a condition has this reason, and says this; return it."""

    def holds() -> Body | None:
        condition = bed.condition(name, kind)
        told = condition.get("reason") == reason and message in ("", condition["message"])
        return condition if told else None

    return bed.wait(holds, f"{kind} of {name} is {reason}")


def wait_settled(bed: Testbed, name: str, slot: datetime) -> Body:
    """Wait until a job has caught up."""
    return bed.wait_status(name, missed=0, settledThrough=written(slot))


def most_at_once(runs: list[CommandRun]) -> int:
    """Count the most runs that went on at one moment."""
    moments = [(run.started, 1) for run in runs]
    moments += [(run.ended, -1) for run in runs if run.ended is not None]
    most = count = 0
    for _, change in sorted(moments):
        count += change
        most = max(most, count)
    return most


# --- dependsOn --------------------------------------------------------------------------------------------


def test_each_slot_waits_for_its_dependencies_through_catching_up(bed: Testbed) -> None:
    """Both catch up three slots; none of the second starts before the first has succeeded for it."""
    slots = bed.missed_slots(3)
    bed.control("first", hold=True)
    second = bed.job(
        "second", backfill=True, dependsOn=[{"name": "first"}], annotations={"mark-success": before(slots)}
    )
    missing = wait_reason(bed, second, "Ready", "DependencyMissing")
    assert "no CrontabberJob first in this namespace" in missing["message"]
    first = bed.job("first", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(first)
    wait_reason(bed, second, "Ready", "Scheduled")
    # While the mark of the first is still to be done, it waits for that.
    message = f"3 slots are due; it waits for slot {short(slots[0])}Z of first."
    wait_reason(bed, second, "CaughtUp", "WaitingForDependency", message)
    bed.control("first")
    wait_settled(bed, second, slots[-1])
    ends = {run.run_time: run.ended for run in bed.runs(first)}
    assert bed.good(second) == [short(slot) for slot in slots]
    for run in bed.runs(second):
        end = ends[run.run_time]
        assert end is not None
        assert end <= run.started


def test_a_failing_dependency_holds_back_what_depends_on_it_until_it_is_marked(bed: Testbed) -> None:
    """Marking it is enough: its dependent goes on at once."""
    slots = bed.missed_slots(1)
    bed.control("first", failures={short(slots[0]): 99})
    bed.job("first", backfill=True, retryLimit=0, annotations={"mark-success": before(slots)})
    second = bed.job(
        "second",
        passLastSuccess=True,
        dependsOn=[{"name": "first"}],
        annotations={"mark-success": before(slots)},
    )
    bed.wait_status("first", state="RetriesExhausted")
    wait_reason(bed, second, "CaughtUp", "WaitingForDependency")
    bed.annotate("first", mark_success="now")
    wait_settled(bed, second, slots[0])
    assert len(bed.runs(second)) == 1


def test_a_reset_dependency_holds_nothing_back(bed: Testbed) -> None:
    """As if it had never run: earlier slots are not run, so nobody waits for them."""
    slots = bed.missed_slots(1)
    bed.control("first", failures={short(slots[0]): 99})
    bed.job("first", backfill=True, annotations={"mark-success": before(slots)})
    second = bed.job(
        "second", backfill=True, dependsOn=[{"name": "first"}], annotations={"mark-success": before(slots)}
    )
    wait_reason(bed, second, "CaughtUp", "WaitingForDependency")
    bed.annotate("first", reset="")
    wait_settled(bed, second, slots[0])


def test_a_circle_is_told_by_all_in_it_and_disturbs_nobody_else(bed: Testbed) -> None:
    """Cutting one link heals all of them, without anything else being done."""
    slots = bed.missed_slots(1)
    marks = {"mark-success": before(slots)}
    for name, needs in (("a", "c"), ("b", "a"), ("c", "b")):
        bed.job(name, backfill=True, dependsOn=[{"name": needs}], annotations=marks)
    other = bed.job("other", backfill=True, annotations=marks)
    for name in "abc":
        ready = wait_reason(bed, name, "Ready", "DependencyCycle")
        assert ready["status"] == "False"
        assert wait_reason(bed, name, "Stalled", "DependencyCycle")["status"] == "True"
        wait_reason(bed, name, "CaughtUp", "DependencyCycle")
    wait_settled(bed, other, slots[0])
    assert bed.find("cronjobs", "a") is not None
    bed.change("a", dependsOn=None)
    for name in "abc":
        wait_reason(bed, name, "Ready", "Scheduled")
        wait_settled(bed, name, slots[0])
    starts = [bed.runs(name)[0].started for name in "abc"]
    assert starts == sorted(starts)


def test_a_dependency_that_is_deleted_is_told_and_waited_for(bed: Testbed) -> None:
    """And one that is made anew heals it; nothing of the old one counts."""
    slots = bed.missed_slots(1)
    bed.control("first", hold=True)
    bed.job("first", backfill=True, annotations={"mark-success": before(slots)})
    second = bed.job(
        "second", backfill=True, dependsOn=[{"name": "first"}], annotations={"mark-success": before(slots)}
    )
    wait_reason(bed, second, "CaughtUp", "WaitingForDependency")
    bed.delete("crontabberjobs", "first")
    wait_reason(bed, second, "Ready", "DependencyMissing")
    bed.control("first")
    bed.job("first", backfill=True, annotations={"mark-success": before(slots)})
    wait_settled(bed, second, slots[0])
    wait_reason(bed, second, "Ready", "Scheduled")


# --- concurrencyGroup -------------------------------------------------------------------------------------


def test_of_a_group_one_runs_at_a_time_the_oldest_slot_first(bed: Testbed) -> None:
    """Three jobs that catch up take turns by the age of their slots; what they wait for is told."""
    slots = bed.missed_slots(4)
    bed.control("first", hold=True)
    first = bed.job(
        "first", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[3:])}
    )
    bed.wait_running(first)
    young = bed.job(
        "young", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[1:])}
    )
    old = bed.job("old", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots)})
    for name in (young, old):
        told = wait_reason(bed, name, "CaughtUp", "WaitingForConcurrencyGroup")
        assert "it waits for its turn: of concurrencyGroup g one run goes on at a time" in told["message"]
    bed.control("first")
    for name in (first, young, old):
        wait_settled(bed, name, slots[-1])
    runs = {name: bed.runs(name) for name in (first, young, old)}
    assert most_at_once([run for some in runs.values() for run in some]) == 1
    order = sorted((run.started, name, run.run_time) for name, some in runs.items() for run in some)
    assert [(name, run_time) for _, name, run_time in order] == [
        (first, short(slots[3])),
        (old, short(slots[0])),
        (old, short(slots[1])),
        (young, short(slots[1])),
        (old, short(slots[2])),
        (young, short(slots[2])),
        (old, short(slots[3])),
        (young, short(slots[3])),
    ]


@pytest.mark.parametrize("how", ["delete", "suspend the next", "edit"])
def test_a_place_that_becomes_free_is_taken_however_it_came(bed: Testbed, how: str) -> None:
    """The one that runs is deleted or leaves the group; or the next in line is suspended meanwhile."""
    slots = bed.missed_slots(2)
    bed.control("holder", hold=True)
    holder = bed.job(
        "holder", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[1:])}
    )
    bed.wait_running(holder)
    old = bed.job("old", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots)})
    young = bed.job(
        "young", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[1:])}
    )
    for name in (old, young):
        wait_reason(bed, name, "CaughtUp", "WaitingForConcurrencyGroup")
    if how == "delete":
        bed.delete("crontabberjobs", holder)
    elif how == "edit":
        bed.change(holder, concurrencyGroup="h")
    else:
        bed.change(old, suspend=True)
        bed.wait_status(old, state="Suspended")
        bed.control("holder")
    wait_settled(bed, young, slots[-1])
    if how == "suspend the next":
        assert bed.runs(old) == []
    else:
        wait_settled(bed, old, slots[-1])
        assert bed.runs(old)[0].started < bed.runs(young)[0].started


def test_turns_are_taken_on_by_the_next_operator(own: OwnOperators) -> None:
    """What runs is read from the claims; whoever has the oldest slot goes first, though nobody asked it before."""
    bed = own.bed
    slots = bed.missed_slots(3)
    bed.control("holder", hold=True)
    holder = bed.job(
        "holder", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[2:])}
    )
    first = own.start()
    bed.wait_running(holder)
    first.kill()
    young = bed.job(
        "a-young", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[2:])}
    )
    old = bed.job(
        "z-old", backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots[1:])}
    )
    own.start()
    for name in (young, old):
        wait_reason(bed, name, "CaughtUp", "WaitingForConcurrencyGroup")
    assert bed.runs(young) == bed.runs(old) == []
    bed.control("holder")
    for name in (holder, young, old):
        wait_settled(bed, name, slots[-1])
    runs = [run for name in (holder, young, old) for run in bed.runs(name)]
    assert most_at_once(runs) == 1
    assert [run.run_time for run in bed.runs(old)] == [short(slot) for slot in slots[1:]]
    assert bed.runs(old)[0].started < bed.runs(young)[0].started


@pytest.mark.parametrize("fault", ["claim:after:2", "release:after:2", "record:before", "create:after:2"])
def test_a_group_holds_wherever_the_operator_is_killed(own: OwnOperators, fault: str) -> None:
    """A claim that was written counts, released or not; one that was not written doesn't."""
    bed = own.bed
    slots = bed.missed_slots(2)
    names = [
        bed.job(name, backfill=True, concurrencyGroup="g", annotations={"mark-success": before(slots)})
        for name in "abc"
    ]
    killed = own.start(fault)
    bed.wait(lambda: killed.exit_code is not None, "the operator killed itself")
    own.start()
    for name in names:
        wait_settled(bed, name, slots[-1])
    runs = [run for name in names for run in bed.runs(name)]
    assert most_at_once(runs) == 1
    assert all(bed.good(name) == [short(slot) for slot in slots] for name in names)


# --- The namespace's limit --------------------------------------------------------------------------------


def test_not_more_runs_of_a_namespace_go_on_than_the_limit(own: OwnOperators) -> None:
    """Those with the oldest slots go first; a run of a plain job counts and is not held back; run-now is aside."""
    bed = own.bed
    slots = bed.missed_slots(2)
    own.start(environment=LIMIT)
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        bed.control(name, hold=True)
        bed.job(name, backfill=True, annotations={"mark-success": before(slots)})

    def held() -> list[str] | None:
        reasons = [(name, bed.condition(name, "CaughtUp").get("reason")) for name in names]
        found = [name for name, reason in reasons if reason == "WaitingForNamespaceLimit"]
        return found if len(found) == len(names) - 2 else None

    waiting = bed.wait(held, "three of them wait")
    message = bed.condition(waiting[0], "CaughtUp")["message"]
    assert "at most 2 runs of this namespace go on at a time" in message
    for name in set(names) - set(waiting):
        bed.wait_running(name)
    bed.annotate(waiting[0], run_now="--by-hand")
    bed.wait_running(waiting[0])
    by_hand = bed.runs(waiting[0])[0]
    assert by_hand.argv[-1] == "--by-hand"
    assert sum(len(bed.runs(name)) for name in names) == 3
    for name in names:
        bed.control(name)
    for name in names:
        wait_settled(bed, name, slots[-1])
    runs = [run for name in names for run in bed.runs(name) if run.id != by_hand.id]
    assert most_at_once(runs) == 2
    assert len(runs) == 2 * len(names)
