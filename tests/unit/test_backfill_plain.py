"""Plain jobs: Kubernetes runs them, the operator keeps the books and has one lever. Tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crontabber_operator import bookkeeping
from crontabber_operator.decision import MoveLastSchedule
from crontabber_operator.models import ConditionType, Disregarded, Result, State, Status
from crontabber_operator.observed import Evidence, Run, RunKind, Unavailable
from tests.unit.backfill_scene import Scene, at, clock, failure, slots


def plain(**fields: Any) -> Scene:
    """A plain job, hourly, made at 09:30."""
    scene = Scene(**{"frequency": "1h", **fields})
    assert scene.spec.is_plain
    return scene


def failing(scene: Scene, run: Run, *finished: str, active: bool = False) -> Run:
    """The pods of a run failed at these times, and Kubernetes tries on."""
    scene.evidence[run.uid] = Evidence(failures=tuple(failure(time) for time in finished))
    return scene.change(run, failed_pods=len(finished), active=active)


# --- Watching -------------------------------------------------------------------------------------------


def test_a_native_run_that_goes_on_is_told() -> None:
    """It is the ongoing one; nothing is asked of Kubernetes."""
    scene = plain()
    run = scene.native("10:00", active=True)
    decision = scene.rest("10:00:05")
    assert (decision.release, decision.create, decision.discard, decision.cronjob) == ((), (), (), None)
    assert scene.status.ongoing is not None
    assert (scene.status.ongoing.uid, scene.status.ongoing.attempt) == (run.uid, 1)
    assert (scene.status.state, scene.status.missed) == (State.RUNNING, 1)
    assert clock(scene.status.next_run_time) == "11:00"


def test_a_success_is_told_as_the_time_the_run_started() -> None:
    """Without backfill that is the last success."""
    scene = plain()
    scene.succeeded(scene.native("10:00", started="10:00:03"), "10:02")
    scene.rest("10:02")
    assert clock(scene.status.last_success_time) == "10:00:03"
    assert clock(scene.status.settled_through) == "10:00"
    assert (scene.status.missed, scene.status.ongoing, scene.status.state) == (0, None, State.WAITING)
    assert [(entry.result, entry.attempt) for entry in scene.status.history] == [(Result.SUCCEEDED, 1)]


def test_runs_that_ended_while_nobody_looked_are_recorded_in_slot_order() -> None:
    """Whatever order they are seen in."""
    scene = plain()
    for slot in ("12:00", "10:00", "11:00"):
        scene.succeeded(scene.native(slot), slot.replace(":00", ":05"))
    scene.rest("12:30")
    assert slots(reversed(scene.status.history)) == ["10:00", "11:00", "12:00"]
    assert clock(scene.status.last_success_time) == "12:00"


def test_each_failed_pod_is_one_failed_attempt() -> None:
    """Counted once each, as it is seen, with what the pod tells."""
    scene = plain()
    run = scene.native("10:00")
    for number, finished in enumerate((["10:01"], ["10:01", "10:03"], ["10:01", "10:03", "10:07"]), start=1):
        failing(scene, run, *finished)
        for _ in range(2):
            scene.rest("10:08")
        assert scene.status.error_count == number
        assert scene.status.ongoing is not None
        assert scene.status.ongoing.attempt == number + 1
        assert scene.status.state is State.RETRYING
    assert [(clock(one.finished), one.attempt) for one in scene.status.history] == [
        ("10:07", 3),
        ("10:03", 2),
        ("10:01", 1),
    ]


def test_the_pods_are_read_when_more_of_them_failed() -> None:
    """And not again before that."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.evidence.clear()
    assert scene.decide("10:02").inspect == (run,)
    failing(scene, run, "10:01")
    scene.rest("10:02")
    scene.evidence.clear()
    assert scene.decide("10:02").inspect == ()


def test_failures_whose_pods_are_gone_are_counted_all_the_same() -> None:
    """The Job counts them; the pods that are left tell of the newest."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:07")
    scene.change(run, failed_pods=3)
    scene.rest("10:08")
    assert scene.status.error_count == 3
    assert [one.message for one in scene.status.history] == [
        "ValueError: no",
        "Failed: The run failed and left no pod to say why.",
        "Failed: The run failed and left no pod to say why.",
    ]


def test_a_pod_that_failed_before_the_job_counts_it_is_not_recorded_twice() -> None:
    """The pods can be ahead of the Job's own count."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01", "10:03")
    scene.change(run, failed_pods=1)
    scene.rest("10:03")
    failing(scene, run, "10:01", "10:03")
    scene.rest("10:04")
    assert [clock(one.finished) for one in scene.status.history] == ["10:03", "10:01"]


def test_a_success_after_failures_is_the_next_attempt() -> None:
    """Told by when the good pod started."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.rest("10:02")
    scene.succeeded(run, "10:12")
    scene.evidence[run.uid] = Evidence(failures=(failure("10:01"),), good_started=at("10:11"))
    scene.rest("10:13")
    newest = scene.status.history[0]
    assert (newest.attempt, newest.result, clock(newest.started)) == (2, Result.SUCCEEDED, "10:11")
    assert clock(scene.status.last_success_time) == "10:11"
    assert (scene.status.error_count, scene.status.last_error) == (0, None)


def test_failures_and_the_success_that_ended_them_can_be_seen_at_once() -> None:
    """The operator was down meanwhile."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01", "10:03")
    scene.succeeded(run, "10:12")
    scene.rest("10:13")
    assert [one.result for one in scene.status.history] == [Result.SUCCEEDED, Result.FAILED, Result.FAILED]
    assert (scene.status.error_count, clock(scene.status.settled_through)) == (0, "10:00")


@pytest.mark.parametrize("pods", [["10:01", "10:03"], []], ids=["two pods", "no pod at all"])
def test_a_slot_that_kubernetes_gave_up_is_settled(pods: list[str]) -> None:
    """At retryLimit: skipped, counted and told; nothing is retried any more."""
    scene = plain(retryLimit=1)
    run = failing(scene, scene.native("10:00"), *pods)
    scene.change(run, finished="10:03", reason="BackoffLimitExceeded")
    scene.rest("10:04")
    assert (clock(scene.status.settled_through), scene.status.skipped) == ("10:00", 1)
    assert (scene.status.error_count, scene.status.state) == (len(pods) or 1, State.WAITING)
    assert (scene.status.missed, scene.status.last_success_time) == (0, None)
    assert scene.decide("10:04").cronjob is None


def test_a_job_that_is_said_to_have_failed_after_its_last_pod_is_no_further_attempt() -> None:
    """The pod is counted first, the Job's condition comes a moment later."""
    scene = plain(retryLimit=1)
    run = failing(scene, scene.native("10:00"), "10:01", "10:03")
    scene.rest("10:03")
    scene.change(run, finished="10:04", reason="BackoffLimitExceeded")
    scene.rest("10:05")
    assert [one.attempt for one in scene.status.history] == [2, 1]


def test_of_two_runs_at_once_each_is_recorded_once() -> None:
    """Forbid can slip: the earlier one first, the other when that has ended."""
    scene = plain()
    first = failing(scene, scene.native("10:00"), "10:01")
    second = failing(scene, scene.native("11:00"), "11:01")
    scene.rest("11:02")
    assert scene.status.error_count == 1
    scene.succeeded(first, "11:03")
    scene.rest("11:04")
    assert clock(scene.status.settled_through) == "10:00"
    scene.succeeded(second, "11:05")
    scene.rest("11:06")
    assert [clock(one.slot) for one in scene.status.history] == ["11:00", "11:00", "10:00", "10:00"]


def test_a_run_suspended_by_hand_is_told() -> None:
    """Kubernetes waits for a person."""
    scene = plain()
    scene.change(scene.native("10:00"), suspended=True)
    scene.rest("10:05")
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert "suspended by hand" in caught_up.message


def test_a_run_that_kueue_holds_is_told_as_waiting_for_it() -> None:
    """A plain job's Jobs may be queued: Kueue suspends and starts them, and the books follow."""
    scene = plain()
    run = scene.native("10:00", queue="batch")
    scene.change(run, suspended=True)
    scene.rest("10:05")
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert (caught_up.reason, "its queue batch" in caught_up.message) == ("ManagedByKueue", True)
    scene.change(run, suspended=False)
    scene.succeeded(run, "10:40")
    scene.rest("10:41")
    assert clock(scene.status.settled_through) == "10:00"


def test_a_job_made_by_hand_is_outside_of_the_books() -> None:
    """Its success is not the job's."""
    scene = plain()
    scene.succeeded(scene.manual("10:10", released=True, suspended=False), "10:11")
    scene.change_cronjob(last_successful=at("10:11"), last_schedule=at("10:00"))
    scene.rest("10:12")
    assert (scene.status.last_success_time, scene.status.history) == (None, ())


# --- Runs that nobody saw -------------------------------------------------------------------------------


def test_a_success_that_nobody_saw_is_known_from_the_cronjob() -> None:
    """By lastSuccessfulTime: the run is gone already."""
    scene = plain(fired="11:00")
    scene.change_cronjob(last_successful=at("11:02"))
    scene.rest("11:30")
    assert clock(scene.status.settled_through) == "11:00"
    assert clock(scene.status.last_success_time) == "11:00"
    assert clock(scene.status.last_run_time) == "11:00"
    assert [(clock(one.slot), clock(one.finished)) for one in scene.status.history] == [("11:00", "11:02")]
    assert scene.status.missed == 0
    scene.rest("11:31")
    assert len(scene.status.history) == 1


def test_a_success_that_no_watch_has_shown_yet_is_looked_for() -> None:
    """The watch of CronJobs may be ahead of that of Jobs: then the Job itself tells when it ran."""
    scene = plain(fired="11:00")
    scene.change_cronjob(last_successful=at("11:02"))
    decision = scene.decide("11:02:01")
    assert (decision.look_for_job, decision.status, decision.asks) == (
        f"job-{int(at('11:00').timestamp()) // 60}",
        None,
        True,
    )
    scene.succeeded(scene.native("11:00", started=at("11:00:30")), "11:02")
    scene.rest("11:02:02")
    assert clock(scene.status.last_success_time) == "11:00:30"


@pytest.mark.parametrize(
    "known",
    [
        "history",
        "a run",
        "a run by hand",
        "disregarded",
        "its Job does not count",
        "may be one that goes on",
        "the controller knows of one that goes on",
        "already settled",
    ],
)
def test_a_success_that_is_accounted_for_is_not_another_one(known: str) -> None:
    """The CronJob's lastSuccessfulTime is that of a run known otherwise."""
    scene = plain(fired="11:00")
    scene.status = Status(settled_through=at("10:00"))
    scene.change_cronjob(last_successful=at("11:02"))
    if known == "history":
        entry = bookkeeping.success_entry(scene.native("10:00"), 1, at("10:00"), at("11:02"))
        scene.runs.clear()
        scene.status = replace(scene.status, history=(entry,))
    elif known == "a run":
        scene.succeeded(scene.native("10:00"), "11:02")
    elif known == "a run by hand":
        scene.succeeded(scene.manual("11:01", released=True), "11:02")
    elif known == "disregarded":
        scene.status = replace(scene.status, disregarded=Disregarded(successful_time=at("11:02")))
    elif known == "its Job does not count":
        scene.succeeded(scene.native("11:00"), "11:01")
        scene.status = replace(scene.status, disregarded=Disregarded(jobs=tuple(scene.runs)))
    elif known == "the controller knows of one that goes on":
        scene.change_cronjob(active=True)
    elif known == "may be one that goes on":
        scene.manual("11:01", released=True, suspended=False)
    else:
        scene.status = replace(scene.status, settled_through=at("11:00"))
    before = scene.status.settled_through
    assert scene.rest("11:30").look_for_job is None
    assert (scene.status.settled_through, scene.status.last_success_time) == (before, None)


def test_an_unseen_success_is_not_older_than_what_was_seen() -> None:
    """A later slot failed and its run was removed to be fired again; what succeeded was made by hand."""
    scene = plain(frequency="45m")
    run = failing(scene, scene.native("11:15"), "11:16")
    scene.rest("11:17")
    scene.remove(run, by_operator=True)
    scene.change_cronjob(last_schedule=at("10:30"), last_successful=at("11:00"))
    scene.rest("11:18")
    assert (scene.status.settled_through, scene.status.last_success_time) == (None, None)


def test_failures_in_the_history_are_not_counted_again() -> None:
    """The claim got lost (somebody edited the status); of a former Job of the same name they are another's."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01", "10:03")
    scene.rest("10:04")
    scene.status = replace(scene.status, ongoing=None)
    scene.rest("10:05")
    assert scene.status.error_count == 2
    assert scene.status.ongoing is not None
    assert scene.status.ongoing.attempt == 3
    scene.remove(run, by_operator=True)
    again = failing(scene, scene.native("10:00", created="10:06"), "10:07")
    scene.rest("10:08")
    assert (scene.status.error_count, scene.status.history[0].attempt) == (3, 1)
    assert again.name == run.name


def test_of_several_missed_slots_the_newest_is_fired() -> None:
    """The controller would fire no other; an older one that got lost collapses into it."""
    scene = plain()
    run = scene.native("10:00")
    scene.rest("10:00:05")
    scene.remove(run)
    scene.change_cronjob(last_schedule=at("12:00"))
    assert scene.rest("12:30").cronjob == MoveLastSchedule(to=at("11:59:59"), fires=at("12:00"))


def test_a_late_slot_that_is_being_fired_is_not_told_as_one_that_can_not_start() -> None:
    """Neither while the lever is to be moved nor right after it."""
    scene = plain(fired="12:00")
    assert scene.rest("12:30").cronjob == MoveLastSchedule(to=at("11:59:59"), fires=at("12:00"))
    scene.change_cronjob(last_schedule=at("11:59:59"), written=at("12:30"))
    decision = scene.rest("12:30:01")
    assert clock(decision.wake_at) == "12:30:30"
    for now, told in (("12:30", False), ("12:30:01", False), ("12:30:31", True)):
        caught_up = scene.told(now).condition(ConditionType.CAUGHT_UP)
        assert caught_up is not None
        assert (caught_up.reason == "CannotStart") is told


def test_a_success_made_by_hand_is_remembered_after_its_job_is_pruned() -> None:
    """Otherwise the CronJob's lastSuccessfulTime would look like a slot's."""
    scene = plain(fired="11:00")
    scene.status = Status(settled_through=at("10:00"))
    run = scene.succeeded(scene.manual("11:01", released=True), "11:02")
    scene.change_cronjob(last_successful=at("11:02"))
    scene.rest("11:05")
    scene.remove(run)
    scene.rest("11:05")
    assert scene.status.last_success_time is None


def test_a_run_that_vanished_counts_as_lost_and_is_fired_again() -> None:
    """At least once."""
    scene = plain()
    run = scene.native("10:00")
    scene.rest("10:00:05")
    del scene.runs[run.uid]
    assert scene.decide("10:05").confirm_gone == run.uid
    scene.gone.add(run.uid)
    decision = scene.rest("10:05")
    assert scene.status.history[0].result is Result.LOST
    assert decision.cronjob == MoveLastSchedule(to=at("09:59:59"), fires=at("10:00"))


def test_a_run_that_vanished_after_its_success_is_not_lost() -> None:
    """The CronJob knows that it succeeded."""
    scene = plain()
    run = scene.native("10:00")
    scene.rest("10:00:05")
    scene.remove(run)
    scene.change_cronjob(last_successful=at("10:03"))
    decision = scene.rest("10:05")
    assert [one.result for one in scene.status.history] == [Result.SUCCEEDED]
    assert (decision.cronjob, scene.status.ongoing, scene.status.error_count) == (None, None, 0)


# --- Marked and reset -----------------------------------------------------------------------------------


def mark(scene: Scene, time: str) -> None:
    """What mark-success does."""
    disregarded = bookkeeping.disregard(scene.seen)
    scene.status = bookkeeping.mark_success(scene.status, at(time), disregarded)


def test_what_existed_at_a_mark_does_not_count() -> None:
    """Neither the runs nor the CronJob's lastSuccessfulTime."""
    scene = plain(fired="11:00")
    scene.succeeded(scene.native("11:00"), "11:02")
    scene.change_cronjob(last_successful=at("11:02"))
    scene.rest("11:05")
    mark(scene, "09:45")
    scene.take("11:05:30")
    assert clock(scene.status.last_success_time) == "09:45"
    assert clock(scene.status.settled_through) == "09:45"


def test_an_unmarked_slot_is_fired_again_in_the_place_of_its_former_run() -> None:
    """The newest one: without backfill the others collapse into it."""
    scene = plain()
    former = scene.succeeded(scene.native("11:00"), "11:02")
    scene.rest("11:05")
    mark(scene, "09:45")
    decision = scene.rest("11:06")
    assert decision.cronjob == MoveLastSchedule(to=at("10:59:59"), delete_first=former, fires=at("11:00"))


def test_the_success_of_a_run_that_makes_room_is_not_counted_afterwards() -> None:
    """Its Job is deleted, the CronJob remembers the time; the mark stands."""
    scene = plain()
    former = scene.native("11:00")
    scene.rest("11:00:05")
    mark(scene, "09:45")
    scene.succeeded(former, "11:10")
    scene.change_cronjob(last_successful=at("11:10"))
    decision = scene.rest("11:11")
    assert isinstance(decision.cronjob, MoveLastSchedule)
    assert decision.cronjob.delete_first is not None
    scene.remove(former, by_operator=True)
    scene.rest("11:11")
    scene.change_cronjob(last_schedule=at("10:59:59"))
    scene.rest("11:11")
    assert clock(scene.status.last_success_time) == "09:45"


def test_a_running_run_is_left_to_end_after_a_mark_and_is_not_counted() -> None:
    """Nothing is fired meanwhile."""
    scene = plain()
    run = scene.native("10:00", active=True)
    scene.rest("10:00:05")
    mark(scene, "10:05")
    decision = scene.rest("10:06")
    assert (decision.discard, decision.cronjob, scene.status.ongoing) == ((), None, None)
    scene.succeeded(run, "10:10")
    scene.rest("10:11")
    assert (scene.status.history, clock(scene.status.last_success_time)) == ((), "10:05")


@pytest.mark.parametrize("active", [True, False], ids=["an attempt goes on", "between two attempts"])
@pytest.mark.parametrize("how", ["mark", "reset"])
def test_a_failing_run_does_not_retry_for_ever_after_a_mark_or_reset(how: str, active: bool) -> None:
    """It would hold back all later slots by Forbid: it goes between two of its attempts."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.rest("10:02")
    if how == "mark":
        mark(scene, "10:05")
    else:
        scene.status = bookkeeping.reset(scene.status, at("10:05"), bookkeeping.disregard(scene.seen))
    run = scene.change(run, active=active)
    decision = scene.rest("10:06")
    assert decision.discard == (() if active else (run,))


# --- Fired again ----------------------------------------------------------------------------------------


def outdated(*, active: bool = False, failed: bool = True, **fields: Any) -> tuple[Scene, Run]:
    """A run of slot 10:00 that goes on while the job's template changed."""
    scene = plain(**fields)
    run = scene.native("10:00", active=active)
    if failed:
        run = failing(scene, run, "10:01", active=active)
    scene.rest("10:02")
    scene.rollout()
    scene.applied()
    return scene, run


def test_a_failing_outdated_run_is_fired_again_with_the_new_template() -> None:
    """A failing job gets the mended image at once."""
    scene, run = outdated()
    assert scene.rest("10:03").cronjob == MoveLastSchedule(
        to=at("09:59:59"), delete_first=run, fires=at("10:00")
    )
    scene.remove(run, by_operator=True)
    scene.rest("10:03")
    assert (scene.status.ongoing, scene.status.error_count) == (None, 1)
    scene.change_cronjob(last_schedule=at("09:59:59"))
    assert scene.rest("10:03").cronjob is None
    again = scene.native("10:00", template_hash="template-2", created="10:03:02", started="10:03:02")
    scene.succeeded(again, "10:03:05")
    scene.rest("10:03:06")
    assert (clock(scene.status.settled_through), scene.status.error_count) == ("10:00", 0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"failed": False}, "it did not fail"),
        ({"active": True}, "an attempt of it goes on: two must not overlap"),
    ],
)
def test_an_outdated_run_is_left_alone(fields: dict[str, Any], why: str) -> None:
    """Where it did not fail, or just tries."""
    scene, _ = outdated(**fields)
    decision = scene.rest("10:03")
    assert (decision.cronjob, decision.discard) == (None, ()), why


@pytest.mark.parametrize(
    "why",
    [
        lambda scene: scene.change_cronjob(last_schedule=at("09:59:59")),
        lambda scene: scene.change_cronjob(suspended=True),
        lambda scene: setattr(scene, "desired", Unavailable("No", "no")),
        lambda scene: setattr(scene, "cronjob", None),
        lambda scene: scene.manual("10:02", released=True, suspended=False),
    ],
    ids=["already moved back", "suspended", "unavailable", "no CronJob", "Forbid by a Job made by hand"],
)
def test_the_lever_is_not_moved_where_it_would_do_nothing(why: Any) -> None:
    """Or where the CronJob has to be written first."""
    scene = plain(fired="10:00")
    scene.rest("10:05")
    why(scene)
    assert not isinstance(scene.rest("10:05").cronjob, MoveLastSchedule)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("10:01:29", False),
        ("10:01:31", True),
        ("10:02:01", True),
        ("10:03:40", True),
    ],
)
def test_a_slot_that_the_controller_can_not_fire_is_told_and_stays_told(now: str, told: bool) -> None:
    """Also where the next slot falls due meanwhile: each minute would otherwise take it back, and tell it again."""
    scene = Scene(schedule="* * * * *", fired="10:00")
    assert scene.spec.is_plain
    scene.status = Status(settled_through=at("10:00"), last_success_time=at("10:00"))
    scene.rest(now)
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert (caught_up.reason == "CannotStart") is told


def test_a_slot_that_was_just_fired_is_not_fired_again() -> None:
    """Its run may be seen later than the CronJob's own status."""
    scene = plain(fired="10:00")
    decision = scene.rest("10:00:09")
    assert decision.cronjob is None
    assert clock(decision.wake_at) == "10:00:10"


def test_the_lever_is_not_moved_near_a_slot() -> None:
    """The controller could fire on a stale copy."""
    scene, _ = outdated(frequency="5m")
    scene.change_cronjob(last_schedule=at("10:00"))
    decision = scene.rest("10:04:57")
    assert decision.cronjob is None
    assert clock(decision.wake_at) == "10:05"
    assert clock(scene.rest("10:05:01").wake_at) == "10:05:05"


def test_a_settled_run_that_fails_with_an_outdated_template_goes() -> None:
    """The schedule was edited together with the command: nothing is fired for the old slot."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.rest("10:02")
    scene.edit(frequency="30m")
    scene.rollout()
    scene.rest("10:10")
    scene.applied()
    decision = scene.rest("10:11")
    assert (decision.discard, decision.cronjob) == ((run,), None)


def test_a_failing_run_goes_on_when_only_the_schedule_is_edited() -> None:
    """It is counted when it succeeds."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.rest("10:02")
    scene.edit(frequency="30m")
    assert scene.rest("10:10").discard == ()
    assert scene.status.state is State.RETRYING
    scene.succeeded(run, "10:11")
    scene.rest("10:12")
    assert clock(scene.status.last_success_time) == "10:00"


def test_a_slot_missed_before_the_cronjob_was_there_is_fired() -> None:
    """The web app's Deployment came late: one late run, as without backfill."""
    scene = plain()
    scene.change_cronjob(created=at("12:20"))
    assert scene.rest("12:30").cronjob == MoveLastSchedule(to=at("11:59:59"), fires=at("12:00"))


@pytest.mark.parametrize(
    ("now", "skipped"), [("10:00:59", 0), ("10:01:09.9", 0), ("10:01:10", 1), ("12:02", 3)]
)
def test_a_slot_too_late_to_start_is_skipped(now: str, skipped: int) -> None:
    """By startingDeadlineSeconds, when its run can't only be not seen yet; and no lever is moved for it."""
    scene = plain(frequency=None, schedule="0 * * * *", startingDeadlineSeconds=60)
    scene.change_cronjob(last_schedule=at("09:00"))
    decision = scene.rest(now)
    assert scene.status.skipped == skipped
    assert decision.cronjob is None
    if not skipped:
        assert clock(decision.wake_at) == "10:01:10"


def test_a_run_that_goes_on_is_not_skipped() -> None:
    """It did start."""
    scene = plain(frequency=None, schedule="0 * * * *", startingDeadlineSeconds=60)
    scene.native("10:00", active=True)
    scene.rest("12:00:30")
    assert scene.status.skipped == 0


# --- What is left of other times ------------------------------------------------------------------------


def test_what_waits_from_a_time_when_the_job_was_gated_goes() -> None:
    """A suspended run holds the controller back by Forbid."""
    scene = plain()
    run = scene.native("10:00", suspended=True, released=False, template_hash="gated")
    assert scene.rest("10:05").discard == (run,)
    assert run.kind is RunKind.NATIVE


def test_a_run_seen_together_with_an_edit_of_the_schedule_counts() -> None:
    """It had started before the edit was seen."""
    scene = plain()
    scene.rest("09:50")
    scene.edit(frequency="30m")
    run = scene.native("10:00", active=True)
    scene.rest("10:00:10")
    assert scene.status.ongoing is not None
    scene.succeeded(run, "10:02")
    scene.rest("10:02")
    assert len(scene.status.history) == 1


# --- The lever, up --------------------------------------------------------------------------------------


def test_a_slot_that_was_marked_is_not_fired_when_the_run_before_it_ends() -> None:
    """Forbid held it back; the mark settled it: the controller is moved up before the failing run goes."""
    scene = plain()
    run = failing(scene, scene.native("10:00"), "10:01")
    scene.rest("11:30")
    mark(scene, "11:30")
    decision = scene.rest("11:30:30")
    assert (decision.cronjob, decision.discard) == (MoveLastSchedule(to=at("11:30")), ())
    scene.change_cronjob(last_schedule=at("11:30"))
    decision = scene.rest("11:30:31")
    assert (decision.cronjob, decision.discard) == (None, (run,))


def test_what_an_edit_has_settled_is_not_fired_though_the_template_is_unavailable() -> None:
    """The lever needs no template."""
    scene = plain()
    scene.rest("09:40")
    scene.edit(frequency="30m")
    scene.desired = Unavailable("WebAppNotFound", "gone")
    decision = scene.take("11:40")
    assert decision.cronjob == MoveLastSchedule(to=at("11:40"))


def test_the_lever_of_a_suspended_job_is_left_alone() -> None:
    """It is moved on resuming."""
    scene = plain(suspend=True)
    mark(scene, "11:30")
    assert scene.rest("11:40").cronjob is None


# --- Hostile --------------------------------------------------------------------------------------------


def test_very_many_failures_are_counted_and_the_newest_told() -> None:
    """The operator was away for months, or somebody edited the Job's status: 2 billion entries hold up all jobs."""
    scene = plain()
    run = scene.native("10:00")
    scene.evidence[run.uid] = Evidence(failures=(failure("10:05"),))
    scene.change(run, failed_pods=2**31 - 1)
    scene.rest("10:06")
    assert scene.status.error_count == 2**31 - 1
    assert [entry.attempt for entry in scene.status.history] == [2**31 - 1 - back for back in range(10)]
    assert clock(scene.status.history[0].finished) == "10:05"
    assert scene.status.ongoing is not None
    assert scene.status.ongoing.attempt == 2**31


def test_a_job_that_the_controller_could_not_make_is_told_after_a_while() -> None:
    """A quota or a webhook refuses it to the controller, and nobody else is told."""
    scene = plain(fired="09:00")
    assert clock(scene.take("10:00:05").wake_at) == "10:00:30"
    told = scene.told("10:00:31").condition(ConditionType.CAUGHT_UP)
    assert told is not None
    assert (told.status, told.reason) == ("False", bookkeeping.CANNOT_START)
    assert "kubectl describe cronjob job" in told.message
    scene.native("10:00", active=True)
    told = scene.told("10:00:40").condition(ConditionType.CAUGHT_UP)
    assert told is not None
    assert told.reason == "Running"
