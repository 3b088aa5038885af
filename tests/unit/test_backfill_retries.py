"""Retries of gated jobs: how long is waited, when no more, and what releases them. Tables."""

from __future__ import annotations

from typing import Any

import pytest

from crontabber_operator import bookkeeping
from crontabber_operator.models import ConditionType, Result, State, Status
from crontabber_operator.observed import Evidence, Unavailable
from tests.unit.backfill_scene import Scene, at, clock, failure, slots

BACKFILL: dict[str, Any] = {"frequency": "1h", "backfill": True}


def failing(times: int = 1, **fields: Any) -> Scene:
    """A job whose slot 10:00 failed so often, the last time at 10:30:00."""
    scene = Scene(**{**BACKFILL, **fields}, fired="23:00")
    for attempt in range(1, times + 1):
        run = scene.claimed(scene.one_off("10:00", attempt), attempt, released="10:20")
        scene.failed(run, "10:30")
        scene.take("10:30")
        scene.runs.clear()
    return scene


@pytest.mark.parametrize(
    ("failures", "fields", "seconds"),
    [
        (1, {}, 10),
        (2, {}, 20),
        (3, {}, 40),
        (6, {}, 320),
        (7, {}, 600),
        (8, {}, 600),
        (1, {"retryDelaySeconds": 60}, 60),
        (4, {"retryDelaySeconds": 60}, 480),
        (5, {"retryDelaySeconds": 60}, 600),
        (3, {"retryDelaySeconds": 60, "retryMaxDelaySeconds": 100}, 100),
        (2, {"retryDelaySeconds": 900}, 900),
        (1, {"retryMaxDelaySeconds": 5}, 5),
        (40, {"retryMaxDelaySeconds": 604800}, 604800),
    ],
)
def test_the_delay_doubles_up_to_its_maximum(failures: int, fields: dict[str, Any], seconds: int) -> None:
    """10 s and 10 min, as Kubernetes does it, where the spec says nothing else."""
    job = Scene(**BACKFILL, **fields).job
    assert bookkeeping.delay(job, failures).total_seconds() == seconds


def test_a_delay_after_ever_so_many_failures_can_be_computed() -> None:
    """A job may fail for years."""
    job = Scene(**BACKFILL).job
    assert bookkeeping.delay(job, 10**9).total_seconds() == 600


@pytest.mark.parametrize(("times", "again"), [(1, "10:30:10"), (2, "10:30:20"), (3, "10:30:40")])
def test_a_failed_slot_waits_for_its_next_attempt(times: int, again: str) -> None:
    """Told as the next run, in CaughtUp, and by waking then."""
    scene = failing(times)
    decision = scene.rest("10:30:01")
    assert not decision.create
    assert clock(decision.wake_at) == again
    assert clock(scene.status.next_run_time) == again
    assert (scene.status.state, scene.status.error_count) == (State.RETRYING, times)
    caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
    assert caught_up is not None
    assert caught_up.message == f"1 slot is due; the next attempt is at 2026-06-03T{again}Z."
    assert [new.attempt for new in scene.rest(again).create] == [times + 1]


def test_a_success_forgets_the_failures() -> None:
    """The next failure waits as short as the first."""
    scene = failing(5)
    scene.succeeded(scene.claimed(scene.one_off("10:00", 6), 6, released="10:40"), "10:41")
    scene.take("10:41")
    assert (scene.status.error_count, scene.status.last_error, scene.status.retry) == (0, None, None)
    scene.failed(scene.claimed(scene.one_off("11:00"), released="11:00"), "11:01")
    assert clock(scene.rest("11:01:01").wake_at) == "11:01:10"


def rolled_out(scene: Scene) -> None:
    """The template changed."""
    scene.rollout()


def edited(scene: Scene) -> None:
    """The spec changed."""
    scene.edit(args=["--all"], retryLimit=scene.spec.retry_limit)


def marked(scene: Scene) -> None:
    """The slot was marked as succeeded."""
    scene.status = bookkeeping.mark_success(scene.status, at("10:00"), None)


def reset(scene: Scene) -> None:
    """All was forgotten."""
    scene.status = bookkeeping.reset(scene.status, at("10:30"), None)


@pytest.mark.parametrize("change", [rolled_out, edited])
def test_a_mended_job_is_tried_again_at_once(change: Any) -> None:
    """With a new template the waiting starts afresh."""
    scene = failing(6)
    change(scene)
    assert slots(scene.rest("10:30:01").create) == ["10:00"]


def test_the_failure_of_an_outdated_run_delays_nothing() -> None:
    """It ran with the template of before the rollout."""
    scene = Scene(**BACKFILL, fired="23:00")
    run = scene.claimed(scene.one_off("10:00"), released="10:20")
    scene.rollout()
    scene.failed(run, "10:30")
    decision = scene.take("10:30")
    assert [(clock(new.slot), new.attempt) for new in decision.create] == [("10:00", 2)]


@pytest.mark.parametrize(
    ("limit", "failures", "exhausted"),
    [(0, 1, True), (1, 1, False), (1, 2, True), (3, 3, False), (3, 4, True), (None, 50, False)],
)
def test_the_retry_limit_counts_attempts_after_the_first(
    limit: int | None, failures: int, exhausted: bool
) -> None:
    """Then the job is RetriesExhausted and the chain held."""
    scene = failing(failures, **({} if limit is None else {"retryLimit": limit}))
    decision = scene.rest("15:30")
    assert (scene.status.state is State.RETRIES_EXHAUSTED) is exhausted
    assert bool(decision.create) is not exhausted
    if exhausted:
        assert scene.status.next_run_time is None
        assert scene.status.missed == 6
        caught_up = scene.status.condition(ConditionType.CAUGHT_UP)
        assert caught_up is not None
        assert caught_up.reason == "RetriesExhausted"
        assert "mark-success=now" in caught_up.message


@pytest.mark.parametrize(
    ("release", "due"),
    [(rolled_out, "10:00"), (edited, "10:00"), (marked, "11:00"), (reset, "11:00")],
)
def test_an_exhausted_job_goes_on_when_marked_reset_or_changed(release: Any, due: str) -> None:
    """Nothing else releases it."""
    scene = failing(2, retryLimit=1)
    scene.rest("11:30")
    assert scene.status.state is State.RETRIES_EXHAUSTED
    release(scene)
    decision = scene.rest("11:30:01")
    assert slots(decision.create) == [due]
    assert scene.status.state is not State.RETRIES_EXHAUSTED


def test_an_exhausted_job_without_backfill_is_held_too() -> None:
    """A newer slot doesn't run in the failed one's stead."""
    scene = Scene(frequency="1h", passLastSuccess=True, retryLimit=0, fired="23:00")
    scene.failed(scene.claimed(scene.one_off("10:00"), released="10:00"), "10:01")
    scene.take("10:01")
    scene.native("11:00")
    decision = scene.rest("11:00:10")
    assert (decision.create, decision.discard, scene.status.ongoing) == ((), (), None)


def test_an_exhausted_job_stays_so_while_its_template_is_unavailable() -> None:
    """What is unknown just now did not change; a run that waits is not tried."""
    scene = failing(1, retryLimit=0)
    scene.desired = Unavailable("WebAppNotFound", "gone")
    scene.cronjob = None
    scene.one_off("10:00", 2)
    scene.rest("10:40")
    assert (scene.status.state, scene.status.ongoing) == (State.RETRIES_EXHAUSTED, None)


def test_a_suspended_job_is_told_as_suspended_however_it_failed() -> None:
    """On resuming it is exhausted again."""
    scene = failing(1, retryLimit=0)
    scene.edit(retryLimit=0, suspend=True)
    assert scene.told("10:40").state is State.SUSPENDED


def test_lost_runs_do_not_use_up_the_retries() -> None:
    """They are no failures of the command."""
    scene = Scene(**BACKFILL, retryLimit=1, fired="23:00")
    for attempt in range(1, 5):
        scene.remove(scene.claimed(scene.one_off("10:00", attempt), attempt, released="10:20"))
        scene.take("10:30")
    assert scene.status.error_count == 4
    assert scene.told("10:40").state is State.RETRYING


# --- How an attempt failed ------------------------------------------------------------------------------


def test_the_pods_are_read_before_a_failure_is_recorded() -> None:
    """They say how it failed."""
    scene = Scene(**BACKFILL, fired="23:00")
    run = scene.claimed(scene.one_off("10:00"), released="10:20")
    run = scene.failed(run, "10:30")
    scene.evidence.clear()
    assert scene.decide("10:31").inspect == (run,)
    assert scene.decide("10:31").status is None


def test_a_failure_is_recorded_as_the_pod_tells_it() -> None:
    """Type, value, traceback, slot, time and Job."""
    scene = failing()
    error = scene.status.last_error
    assert error is not None
    assert (error.type, error.value, error.traceback) == ("ValueError", "no", "Traceback …")
    assert (clock(error.slot), clock(error.time)) == ("10:00", "10:30")
    entry = scene.status.history[0]
    assert (entry.result, entry.attempt, entry.message, entry.seconds) == (
        Result.FAILED,
        1,
        "ValueError: no",
        3.0,
    )
    last = scene.status.condition(ConditionType.LAST_RUN_SUCCEEDED)
    assert last is not None
    assert (last.status, last.message) == ("False", "1 failed in a row; the last one: ValueError: no")


@pytest.mark.parametrize(
    ("reason", "evidence", "result", "kind"),
    [
        ("DeadlineExceeded", (), Result.TIMED_OUT, "DeadlineExceeded"),
        ("DeadlineExceeded", (failure("10:30", "Exit143"),), Result.TIMED_OUT, "DeadlineExceeded"),
        ("BackoffLimitExceeded", (), Result.FAILED, "BackoffLimitExceeded"),
        ("", (), Result.FAILED, "Failed"),
        (
            "BackoffLimitExceeded",
            (failure("10:30", "OOMKilled", Result.OUT_OF_MEMORY),),
            Result.OUT_OF_MEMORY,
            "OOMKilled",
        ),
    ],
)
def test_a_failure_that_no_pod_tells_of_is_told_by_the_job(
    reason: str, evidence: Any, result: Result, kind: str
) -> None:
    """The Job's own deadline is a timeout, whatever its pod said on being stopped."""
    scene = Scene(**BACKFILL, fired="23:00")
    run = scene.claimed(scene.one_off("10:00"), released="10:20")
    scene.failed(run, "10:30")
    scene.change(run, finished="10:30", reason=reason, released=True)
    scene.evidence[run.uid] = Evidence(failures=evidence)
    scene.take("10:31")
    assert scene.status.history[0].result is result
    assert scene.status.last_error is not None
    assert scene.status.last_error.type == kind


def test_a_failure_is_recorded_once() -> None:
    """However often it is decided afterwards."""
    scene = Scene(**BACKFILL, fired="23:00")
    scene.failed(scene.claimed(scene.one_off("10:00"), released="10:20"), "10:30")
    for _ in range(3):
        scene.rest("10:30")
    assert (scene.status.error_count, len(scene.status.history)) == (1, 1)


def test_the_history_keeps_the_newest_ten() -> None:
    """Newest first."""
    scene = failing(12)
    assert [entry.attempt for entry in scene.status.history] == list(range(12, 2, -1))


def test_an_unclaimed_run_does_not_count() -> None:
    """Whatever came of it: a mark or reset dropped its claim."""
    scene = Scene(**BACKFILL, fired="23:00")
    scene.status = Status(settled_through=at("10:00"))
    scene.succeeded(scene.one_off("11:00", released=True, suspended=False), "11:30")
    scene.failed(scene.one_off("10:00", 2, released=True, suspended=False), "10:40")
    scene.rest("11:30:10")
    assert (scene.status.history, scene.status.last_success_time) == ((), None)
    assert scene.status.missed == 1
