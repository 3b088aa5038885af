"""The CronJob is kept as the spec asks for it, its lever moved with care, old Jobs removed. Tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from crontabber_operator.decision import ApplyCronJob, MoveLastSchedule
from crontabber_operator.models import ConditionType, HistoryEntry, Result, Status
from crontabber_operator.observed import Run, Unavailable
from tests.unit.backfill_scene import Scene, at, clock, slots

PLAIN: dict[str, Any] = {"frequency": "1h"}
GATED: dict[str, Any] = {"frequency": "1h", "passLastSuccess": True}
BACKFILL: dict[str, Any] = {"frequency": "1h", "backfill": True}
all_kinds = pytest.mark.parametrize("fields", [PLAIN, GATED, BACKFILL], ids=["plain", "gated", "backfill"])


def settled(fields: dict[str, Any], through: str = "10:00", fired: str = "10:00") -> Scene:
    """A job all of whose slots are settled."""
    scene = Scene(**fields, fired=fired)
    scene.status = Status(settled_through=at(through), last_success_time=at(through), observed_generation=1)
    scene.rest("10:30")
    return scene


# --- Written where it has to be -------------------------------------------------------------------------


@all_kinds
def test_a_cronjob_that_is_missing_is_made(fields: dict[str, Any]) -> None:
    """At once, also near a slot."""
    scene = Scene(**fields)
    scene.cronjob = None
    assert scene.rest("09:31").cronjob == ApplyCronJob()
    assert scene.rest("10:00:01").cronjob == ApplyCronJob()


@all_kinds
def test_a_cronjob_as_it_should_be_is_not_written(fields: dict[str, Any]) -> None:
    """Not a single write of an idle job."""
    assert settled(fields).rest("10:31").cronjob is None


@pytest.mark.parametrize(
    "changes",
    [{"hash": "another"}, {"hash": ""}, {"drifted": True}, {"suspended": True}],
    ids=["another spec", "never written", "written by somebody", "suspended"],
)
@all_kinds
def test_a_cronjob_that_differs_is_brought_back(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    """Drift is repaired."""
    scene = settled(fields)
    scene.change_cronjob(**changes)
    assert scene.rest("10:31").cronjob == ApplyCronJob()


@pytest.mark.parametrize(
    ("now", "written", "wake"),
    [
        ("10:59:54.9", True, None),
        ("10:59:55", True, None),
        ("10:59:55.1", False, "11:00"),
        ("11:00:02", False, "11:00:05"),
        ("11:00:05", True, None),
    ],
)
def test_a_cronjob_is_not_written_near_its_slots(now: str, written: bool, wake: str | None) -> None:
    """Within 5 s the controller could fire on a stale copy; it is written right afterwards."""
    scene = settled(BACKFILL, through="11:00")
    scene.change_cronjob(drifted=True)
    decision = scene.rest(now)
    assert (decision.cronjob == ApplyCronJob()) is written
    if wake:
        assert clock(decision.wake_at) == wake


def test_neither_the_old_nor_the_new_slots_may_be_near() -> None:
    """A schedule that is edited to a slot of this very moment."""
    scene = settled({"schedule": "0 * * * *", "passLastSuccess": True})
    scene.edit(schedule="31 * * * *", passLastSuccess=True)
    scene.desired = replace(scene.desired, schedule="schedule-2", hash="another")  # type: ignore[arg-type]
    assert scene.rest("10:30:58").cronjob is None
    assert scene.rest("10:59:58").cronjob is None
    assert scene.rest("10:45").cronjob is not None


@all_kinds
def test_a_suspension_is_written_at_once(fields: dict[str, Any]) -> None:
    """A run that starts all the same would be worse than a stale copy."""
    scene = settled(fields)
    scene.edit(**{name: value for name, value in fields.items() if name != "frequency"}, suspend=True)
    scene.desired = replace(scene.desired, hash="suspended")  # type: ignore[arg-type]
    assert scene.rest("10:59:59").cronjob == ApplyCronJob()


@all_kinds
def test_a_suspension_is_written_also_without_a_template(fields: dict[str, Any]) -> None:
    """The web app is gone: nothing can be planned, and yet no new run may start."""
    scene = settled(fields)
    scene.desired = Unavailable("WebAppNotFound", "gone", stalled=True)
    assert scene.rest("10:31").cronjob is None
    scene.edit(**{name: value for name, value in fields.items() if name != "frequency"}, suspend=True)
    assert scene.rest("10:32").cronjob == ApplyCronJob(only_suspend=True)
    scene.change_cronjob(suspended=True)
    assert scene.rest("10:33").cronjob is None


def test_a_cronjob_suspended_without_a_template_is_resumed_with_the_job() -> None:
    """Its hash is that of the spec as it was before the suspension, and is again."""
    scene = settled(PLAIN)
    scene.change_cronjob(suspended=True)
    assert scene.rest("10:33").cronjob == ApplyCronJob()


# --- The lever, up --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [PLAIN, GATED], ids=["plain", "gated"])
def test_before_a_resumption_the_controller_is_moved_up_to_now(fields: dict[str, Any]) -> None:
    """Resumed as it is, it would start the newest missed slot at once."""
    extra = {name: value for name, value in fields.items() if name != "frequency"}
    scene = settled(fields)
    scene.edit(**extra, suspend=True)
    scene.applied()
    scene.rest("10:40")
    scene.edit(**extra, suspend=None)
    decision = scene.take("13:20:30")
    assert decision.cronjob == MoveLastSchedule(to=at("13:20:30"))
    scene.change_cronjob(last_schedule=at("13:20:30"))
    assert scene.rest("13:20:31").cronjob == ApplyCronJob()


def test_a_resumption_near_a_slot_waits_and_keeps_the_slot() -> None:
    """Settled is what was before the resumption was seen; the slot after it runs."""
    scene = settled(PLAIN)
    scene.edit(suspend=True)
    scene.applied()
    scene.rest("10:40")
    scene.edit(suspend=None)
    scene.take("12:59:58")
    assert clock(scene.status.settled_through) == "12:59:58"
    decision = scene.rest("13:00:05")
    assert decision.cronjob == MoveLastSchedule(to=at("12:59:58"))
    scene.change_cronjob(last_schedule=at("12:59:58"))
    assert scene.rest("13:00:06").cronjob == ApplyCronJob()


@pytest.mark.parametrize(
    ("old", "new", "fired", "now", "to"),
    [
        # A slot of the new schedule is before now and after what was fired: up, so that it isn't invented.
        ("0 0 * * *", "*/20 * * * *", "3T00:00", "10:50", "10:50"),
        # Nothing of the new schedule lies between: no need.
        ("*/20 * * * *", "0 0 * * *", "10:40", "10:50", None),
        ("0 * * * *", "30 * * * *", "10:00", "10:29", None),
        ("0 * * * *", "30 * * * *", "10:00", "10:35:10", "10:35:10"),
    ],
)
def test_before_a_new_schedule_the_controller_is_moved_up(
    old: str, new: str, fired: str, now: str, to: str | None
) -> None:
    """Only where it would fire a slot from before the edit."""
    scene = settled({"schedule": old}, fired=fired)
    scene.edit(schedule=new)
    scene.desired = replace(scene.desired, schedule="schedule-2", hash="another")  # type: ignore[arg-type]
    assert scene.take(now).cronjob == (MoveLastSchedule(to=at(to)) if to else ApplyCronJob())


def test_a_slot_settled_ahead_of_the_clock_is_not_fired_either() -> None:
    """The operator's clock is behind: the edit was seen together with what proved a later time."""
    scene = settled(PLAIN)
    scene.status = replace(scene.status, settled_through=at("11:00"))
    scene.change_cronjob(suspended=True)
    assert scene.rest("10:59:50").cronjob == MoveLastSchedule(to=at("11:00"))


def test_before_a_cronjob_starts_runs_by_itself_it_is_moved_up() -> None:
    """The job became plain; a one-off ran what the controller had not fired, while that was down."""
    scene = settled(GATED, fired="09:45")
    scene.edit()
    scene.rollout()
    assert scene.rest("10:31").cronjob == MoveLastSchedule(to=at("10:00"))
    scene.change_cronjob(last_schedule=at("10:00"))
    assert scene.rest("10:31").cronjob == ApplyCronJob()


def test_a_cronjob_does_not_start_runs_by_itself_beside_a_one_off() -> None:
    """The job became plain while one ran, which the controller knows nothing of."""
    scene = settled(GATED)
    run = scene.claimed(scene.one_off("11:00"), released="11:00:10")
    scene.edit()
    scene.rollout()
    assert scene.rest("11:01").cronjob is None
    scene.succeeded(run, "11:02")
    assert scene.rest("11:02").cronjob == MoveLastSchedule(to=at("11:00"))


def test_a_cronjob_whose_settings_alone_changed_is_not_moved() -> None:
    """A missed slot is fired as it should."""
    scene = settled(PLAIN, through="09:45", fired="09:45")
    scene.rollout()
    assert scene.rest("12:30").cronjob == ApplyCronJob()


# --- Rolling frequencies --------------------------------------------------------------------------------


def rolling(**fields: Any) -> Scene:
    """A job every 45 minutes: its slots on this day are at 09:00, 09:45, 10:30, 11:15, 12:00 and so on."""
    scene = Scene(**{"frequency": "45m", **fields})
    newest = scene.spec.slots.newest_until(at("10:40"))
    assert clock(newest) == "10:30"
    return scene


def test_a_rolling_cronjob_is_put_on_its_grid_when_it_was_made() -> None:
    """It counts from its lastScheduleTime."""
    scene = rolling()
    decision = scene.rest("09:31")
    assert decision.cronjob == MoveLastSchedule(to=at("09:00"))
    scene.change_cronjob(last_schedule=at("09:00"))
    assert scene.rest("09:31").cronjob is None


def test_a_rolling_cronjob_on_its_grid_is_left_alone() -> None:
    """However long ago it fired last: the controller stays on the grid."""
    scene = rolling(backfill=True)
    scene.change_cronjob(last_schedule=at("09:00"))
    scene.status = Status(settled_through=at("12:00"))
    assert scene.rest("12:01").cronjob is None


def test_a_rolling_cronjob_off_its_grid_is_put_back() -> None:
    """Whoever moved it; not near a slot."""
    scene = rolling(backfill=True)
    scene.status = Status(settled_through=at("10:30"))
    scene.change_cronjob(last_schedule=at("10:35"))
    assert scene.rest("10:40").cronjob == MoveLastSchedule(to=at("10:30"))
    assert scene.rest("11:14:57").cronjob is None


def test_an_edited_rolling_frequency_starts_on_the_new_grid() -> None:
    """Moved up before, put right after: neither fires anything."""
    scene = rolling()
    scene.status = Status(settled_through=at("10:30"), observed_generation=1)
    scene.change_cronjob(last_schedule=at("10:30"))
    scene.rest("10:40")
    scene.edit(frequency="25m")
    grid = scene.spec.slots.newest_until(at("10:50"))
    assert grid is not None
    scene.desired = replace(scene.desired, schedule="schedule-2", hash="another")  # type: ignore[arg-type]
    decision = scene.take("10:50")
    assert decision.cronjob == (MoveLastSchedule(to=grid) if grid > at("10:30") else ApplyCronJob())
    if isinstance(decision.cronjob, MoveLastSchedule):
        scene.change_cronjob(last_schedule=decision.cronjob.to)
    assert scene.rest("10:50").cronjob == ApplyCronJob()
    scene.applied()
    decision = scene.rest("10:50")
    assert decision.cronjob in (None, MoveLastSchedule(to=grid))


def test_firing_a_rolling_slot_again_stays_on_the_grid() -> None:
    """It is moved to the grid point before, where the rule of the grid leaves it."""
    scene = rolling()
    scene.change_cronjob(last_schedule=at("10:30"))
    scene.status = Status(settled_through=at("09:45"))
    assert scene.rest("10:41").cronjob == MoveLastSchedule(to=at("09:45"), fires=at("10:30"))
    scene.change_cronjob(last_schedule=at("09:45"))
    assert scene.rest("10:41").cronjob is None


def test_a_frequency_that_cron_text_can_say_needs_no_grid() -> None:
    """An hourly job's CronJob may have been moved to any time."""
    scene = settled(BACKFILL, fired="10:00:30")
    assert scene.rest("10:31").cronjob is None


# --- Old Jobs -------------------------------------------------------------------------------------------


def finished(scene: Scene, slot: str, *, good: bool, attempt: int = 0, at_: str | None = None) -> Run:
    """A run of this slot ended a minute after it."""
    run = scene.one_off(slot, attempt) if attempt else scene.native(slot)
    return scene.change(
        run,
        suspended=False,
        released=True,
        started=slot,
        attempt=max(1, attempt) if scene.spec.is_gated else 0,
        finished=at(at_) if at_ else at(slot) + timedelta(minutes=1),
        succeeded=good,
    )


def kept(scene: Scene, now: str) -> list[str]:
    """Prune, and name the runs that stay by slot and attempt."""
    gone = {run.uid for run in scene.rest(now).prune}
    return [f"{clock(run.slot)}/{run.attempt}" for run in scene.runs.values() if run.uid not in gone]


@pytest.mark.parametrize(("limit", "stay"), [(0, 0), (1, 1), (3, 3), (9, 5)])
def test_the_newest_succeeded_jobs_are_kept(limit: int, stay: int) -> None:
    """As many as asked for."""
    scene = settled({**BACKFILL, "successfulJobsHistoryLimit": limit}, through="09:00")
    hours = ["04:00", "05:00", "06:00", "07:00", "08:00"]
    for hour in hours:
        finished(scene, hour, good=True)
    assert kept(scene, "09:30") == [f"{hour}/1" for hour in hours[5 - stay :]]


@pytest.mark.parametrize(("limit", "stay"), [(0, []), (1, ["10:00/3"]), (2, ["10:00/2", "10:00/3"])])
def test_the_newest_failed_jobs_are_kept(limit: int, stay: list[str]) -> None:
    """While their slot fails."""
    scene = settled({**BACKFILL, "failedJobsHistoryLimit": limit}, through="09:00")
    for attempt in (1, 2, 3):
        finished(scene, "10:00", good=False, attempt=attempt, at_=f"10:0{attempt}")
    assert kept(scene, "10:30") == stay


def test_nothing_is_pruned_before_it_is_recorded_in_the_written_status() -> None:
    """Not in the decision that records it; and never the claimed run."""
    scene = settled({**BACKFILL, "successfulJobsHistoryLimit": 0}, through="09:00")
    run = scene.claimed(scene.one_off("10:00"), released="10:00:01")
    scene.succeeded(run, "10:01")
    decision = scene.take("10:01")
    assert (decision.prune, clock(scene.status.settled_through)) == ((), "10:00")
    assert slots(scene.rest("10:01").prune) == ["10:00"]


def test_a_plain_run_is_not_pruned_in_the_decision_that_records_it() -> None:
    """A crash after the deletion and before the write would forget that it succeeded."""
    scene = Scene(**PLAIN, successfulJobsHistoryLimit=0)
    scene.succeeded(scene.native("10:00"), "10:01")
    decision = scene.take("10:02")
    assert (decision.prune, clock(scene.status.settled_through)) == ((), "10:00")
    assert slots(scene.rest("10:02").prune) == ["10:00"]


def test_a_failed_attempt_goes_ten_minutes_after_its_slot_succeeded() -> None:
    """So that it doesn't alert for ever, and can still be looked at for a while."""
    scene = settled(BACKFILL, through="10:00")
    finished(scene, "10:00", good=False, attempt=1, at_="10:01")
    finished(scene, "10:00", good=True, attempt=2, at_="10:20")
    decision = scene.rest("10:29:59")
    assert decision.prune == ()
    assert clock(decision.wake_at) == "10:30"
    assert kept(scene, "10:30") == ["10:00/2"]


def test_a_failed_attempt_goes_also_where_the_good_one_is_pruned_already() -> None:
    """Its entry in the history tells when that was."""
    scene = settled({**BACKFILL, "successfulJobsHistoryLimit": 0}, through="10:00")
    finished(scene, "10:00", good=False, attempt=1, at_="10:01")
    entry = HistoryEntry(slot=at("10:00"), attempt=2, finished=at("10:20"), result=Result.SUCCEEDED)
    scene.status = replace(scene.status, history=(entry,))
    assert clock(scene.rest("10:25").wake_at) == "10:30"
    assert kept(scene, "10:30") == []


def test_a_failed_attempt_of_a_slot_marked_as_succeeded_goes_too() -> None:
    """Ten minutes after it failed."""
    scene = settled(BACKFILL, through="10:00")
    finished(scene, "10:00", good=False, attempt=1, at_="10:01")
    assert kept(scene, "10:10:59") == ["10:00/1"]
    assert kept(scene, "10:11") == []


def test_a_failed_attempt_of_a_slot_that_fails_still_stays() -> None:
    """It says why."""
    scene = settled(BACKFILL, through="09:00")
    finished(scene, "10:00", good=False, attempt=1, at_="10:01")
    assert kept(scene, "10:59") == ["10:00/1"]


def test_a_batch_that_failed_stays_until_all_its_slots_succeeded() -> None:
    """Its first slot may be settled long before."""
    scene = settled(BACKFILL, through="10:00")
    run = finished(scene, "10:00", good=False, attempt=1, at_="10:01")
    scene.change(run, through="12:00")
    assert kept(scene, "10:59") == ["10:00/1"]


def test_a_plain_run_that_was_given_up_stays() -> None:
    """Its slot never succeeded: it is the failed Job that is asked to be kept."""
    scene = settled(PLAIN, through="10:00")
    finished(scene, "10:00", good=False)
    assert kept(scene, "10:59") == ["10:00/0"]


@pytest.mark.parametrize("changes", [{"deleting": True}, {"finished": None}], ids=["deleting", "unfinished"])
def test_what_goes_by_itself_or_runs_is_not_pruned(changes: dict[str, Any]) -> None:
    """Only finished Jobs that are not being deleted already."""
    scene = settled({**BACKFILL, "successfulJobsHistoryLimit": 0})
    scene.change(finished(scene, "10:00", good=True), **changes)
    assert scene.rest("10:31").prune == ()


def test_jobs_made_by_hand_count_among_the_kept() -> None:
    """And a failed one goes by the limit alone."""
    scene = settled({**BACKFILL, "failedJobsHistoryLimit": 1})
    older = scene.manual("08:00", released=True, finished="08:01")
    newer = scene.manual("08:10", released=True, finished="08:11")
    assert scene.rest("10:31").prune == (older,)
    assert newer.uid in scene.runs


# --- Told by themselves ---------------------------------------------------------------------------------


@all_kinds
def test_failures_of_jobs_made_by_hand_are_told_until_their_job_says_so(fields: dict[str, Any]) -> None:
    """Each once: how many were told is on the Job itself, so a restart tells none again."""
    scene = settled({**fields, "failedJobsHistoryLimit": 9})
    run = scene.manual("10:05", released=True, suspended=False)
    assert scene.rest("10:31").tell == ()
    run = scene.change(run, failed_pods=1)
    assert scene.rest("10:31").tell == (run,)
    run = scene.change(run, told=1)
    assert scene.rest("10:31").tell == ()
    run = scene.change(run, failed_pods=2)
    assert scene.rest("10:31").tell == (run,)
    run = scene.change(run, told=2, finished="10:20")
    assert scene.rest("10:31").tell == ()


@all_kinds
def test_a_job_made_by_hand_that_failed_as_a_whole_is_told_once(fields: dict[str, Any]) -> None:
    """Its pods may be gone; one that succeeded, or is being deleted, has nothing to tell."""
    scene = settled({**fields, "failedJobsHistoryLimit": 9})
    run = scene.manual("10:05", released=True, suspended=False, finished="10:06")
    assert scene.rest("10:31").tell == (run,)
    scene.change(run, told=1)
    assert scene.rest("10:31").tell == ()
    scene.change(run, told=0, deleting=True)
    assert scene.rest("10:31").tell == ()
    scene.change(run, deleting=False, succeeded=True)
    assert scene.rest("10:31").tell == ()


@all_kinds
def test_runs_of_slots_are_told_by_the_books_alone(fields: dict[str, Any]) -> None:
    """What is recorded needs no telling by itself."""
    scene = settled(fields)
    finished(scene, "10:00", good=False)
    assert scene.rest("10:31").tell == ()


# --- Starting -------------------------------------------------------------------------------------------


@all_kinds
def test_a_run_whose_pod_cannot_start_is_told_as_long_as_it_cannot(fields: dict[str, Any]) -> None:
    """In the condition that says why a due slot is not settled; once its pod runs, no more."""
    scene = settled(fields)
    run = scene.native("11:00")
    scene.claimed(run, released="11:00:01")
    run = scene.change(run, active=True)
    scene.cannot_start = {run.uid: "ErrImagePull: not found"}
    why = scene.told("11:01").condition(ConditionType.CAUGHT_UP)
    assert why is not None
    assert (why.status, why.reason) == ("False", "CannotStart")
    assert why.message == f"1 slot is due; the pod of Job {run.name} can't start: ErrImagePull: not found"
    scene.change(run, ready=True)
    why = scene.told("11:02").condition(ConditionType.CAUGHT_UP)
    assert why is not None
    assert why.reason == "Running"
