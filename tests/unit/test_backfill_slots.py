"""Which slot is due: first run, collapsing, chains, limits, edits. Tables of (time, what exists, what is expected)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from crontabber_operator.models import LastError, Retry, State, Status
from crontabber_operator.observed import Hold
from tests.unit.backfill_scene import Scene, at, clock, slots

GATED: dict[str, Any] = {"frequency": "1h", "passLastSuccess": True}
BACKFILL: dict[str, Any] = {"frequency": "1h", "backfill": True}
PLAIN: dict[str, Any] = {"frequency": "1h"}


def without_natives(scene: Scene) -> Scene:
    """Nothing but one-offs can come: the CronJob is still to be made."""
    scene.cronjob = None
    return scene


# --- The first run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "due", "missed", "next_run"),
    [
        ("09:30", [], 0, "10:00"),
        ("09:59:59.9", [], 0, "10:00"),
        ("10:00", ["10:00"], 0, "10:00"),  # told a moment later, see test_a_slot_is_told_as_missed
        ("10:00:01", ["10:00"], 1, "10:00"),
        ("10:59:59", ["10:00"], 1, "10:00"),
    ],
)
@pytest.mark.parametrize("fields", [GATED, BACKFILL], ids=["collapsing", "backfill"])
def test_nothing_runs_before_the_first_slot_after_creation(
    fields: dict[str, Any], now: str, due: list[str], missed: int, next_run: str
) -> None:
    """A resource made at 09:30 has its first run at 10:00, as GitOps must be able to make it anew."""
    scene = without_natives(Scene(**fields))
    decision = scene.rest(now)
    assert slots(decision.create) == due
    assert scene.status.missed == missed
    assert clock(scene.status.next_run_time) == next_run


def test_a_slot_at_the_very_creation_is_not_run() -> None:
    """The first slot is one after the creation."""
    scene = without_natives(Scene(created="10:00", **BACKFILL))
    assert not scene.decide("10:30").create
    assert slots(scene.decide("11:00").create) == ["11:00"]


@pytest.mark.parametrize(
    ("since", "now", "due", "missed"),
    [
        ("2026-06-03T07:00:00Z", "09:31", "07:00", 3),  # the slot at that time itself counts
        ("2026-06-03T07:00:01Z", "09:31", "08:00", 2),
        ("2026-06-03T12:00:00Z", "11:31", None, 0),  # later than the creation: earlier ones don't count
        ("2026-06-03T12:00:00Z", "12:31", "12:00", 1),
    ],
)
def test_backfill_since_counts_slots_from_before_the_creation(
    since: str, now: str, due: str | None, missed: int
) -> None:
    """With no success yet, the slots from backfillSince on are missed."""
    scene = without_natives(Scene(**BACKFILL, backfillSince=since))
    decision = scene.rest(now)
    assert slots(decision.create) == ([due] if due else [])
    assert scene.status.missed == missed


def test_backfill_since_is_of_no_account_after_a_success() -> None:
    """The cursor counts once there is one."""
    scene = without_natives(Scene(**BACKFILL, backfillSince="2026-06-01T00:00:00Z"))
    scene.status = Status(settled_through=at("10:00"), last_success_time=at("10:00"))
    assert slots(scene.decide("11:10").create) == ["11:00"]


# --- Missed slots ---------------------------------------------------------------------------------------


def test_missed_slots_collapse_into_one_late_run() -> None:
    """Without backfill the newest missed slot runs, the older ones with it."""
    scene = without_natives(Scene(**GATED))
    decision = scene.rest("13:20")
    assert slots(decision.create) == ["13:00"]
    assert scene.status.missed == 4
    run = scene.claimed(scene.one_off("13:00"), released="13:20:01")
    scene.succeeded(run, "13:21")
    scene.rest("13:21:01")
    assert clock(scene.status.settled_through) == "13:00"
    assert (scene.status.missed, scene.status.skipped) == (0, 0)
    assert clock(scene.status.last_success_time) == "13:20:01"


def test_missed_slots_run_each_oldest_first() -> None:
    """With backfill each missed slot runs, and its success is told as the slot."""
    scene = without_natives(Scene(**BACKFILL))
    order = []
    for number in range(4):
        decision = scene.rest("13:20")
        order += slots(decision.create)
        assert scene.status.missed == 4 - number
        run = scene.claimed(scene.one_off(order[-1] or ""), released="13:20:01")
        scene.succeeded(run, "13:20:02")
        scene.take("13:20")
        assert clock(scene.status.last_success_time) == order[-1]
    assert order == ["10:00", "11:00", "12:00", "13:00"]
    assert not scene.rest("13:20:30").create


def test_first_failure_holds_back_later_slots() -> None:
    """A failed slot is tried again before any later one runs."""
    scene = without_natives(Scene(**BACKFILL))
    run = scene.claimed(scene.one_off("10:00"), released="12:30")
    scene.failed(run, "12:31")
    decision = scene.rest("12:31:01")
    assert not decision.create
    assert clock(decision.wake_at) == "12:31:10"
    decision = scene.rest("12:31:10")
    assert [(clock(new.slot), new.attempt) for new in decision.create] == [("10:00", 2)]


def test_without_backfill_too_a_failed_slot_stays_first() -> None:
    """As Kubernetes' own Forbid does it; then the newest missed slot follows."""
    scene = without_natives(Scene(**GATED))
    scene.failed(scene.claimed(scene.one_off("10:00"), released="10:00:01"), "10:00:05")
    assert slots(scene.rest("12:30").create) == ["10:00"]
    scene.succeeded(scene.claimed(scene.one_off("10:00", 2), 2, released="12:30"), "12:31")
    scene.take("12:31")
    assert slots(scene.rest("12:31").create) == ["12:00"]


def test_a_year_of_missed_minutes_has_a_head_and_a_count() -> None:
    """No list of slots is made: the count is exact and the head the oldest."""
    scene = without_natives(Scene(schedule="* * * * *", backfill=True))
    scene.created = at("09:30") - timedelta(days=365)
    decision = scene.rest("09:30:30")
    assert scene.status.missed == 365 * 24 * 60
    assert decision.create[0].slot == at("09:31") - timedelta(days=365)


# --- Limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "due", "skipped", "missed"),
    [(1, "13:00", 3, 1), (2, "12:00", 2, 2), (4, "10:00", 0, 4), (9, "10:00", 0, 4)],
)
def test_backfill_limit_keeps_the_newest_missed_slots(
    limit: int, due: str, skipped: int, missed: int
) -> None:
    """Older ones are skipped, counted and told, once."""
    scene = without_natives(Scene(**BACKFILL, backfillLimit=limit))
    decision = scene.rest("13:20")
    assert slots(decision.create) == [due]
    assert (scene.status.skipped, scene.status.missed) == (skipped, missed)
    scene.rest("13:20:10")
    assert scene.status.skipped == skipped


@pytest.mark.parametrize(
    ("fields", "now", "due", "skipped"),
    [
        (BACKFILL, "10:09:59", "10:00", 0),
        (BACKFILL, "10:10", None, 1),
        (BACKFILL, "12:05", "12:00", 2),
        (GATED, "12:05", "12:00", 2),
        (GATED, "12:10", None, 3),
    ],
)
def test_a_slot_that_could_not_start_in_time_is_skipped(
    fields: dict[str, Any], now: str, due: str | None, skipped: int
) -> None:
    """By startingDeadlineSeconds; the CronJob controller's limit is exclusive, too."""
    scene = without_natives(Scene(**fields, startingDeadlineSeconds=600))
    decision = scene.rest(now)
    assert slots(decision.create) == ([due] if due else [])
    assert scene.status.skipped == skipped


def test_a_slot_that_waits_is_skipped_in_time() -> None:
    """Nothing else may happen until then: the operator wakes by itself."""
    scene = without_natives(Scene(**BACKFILL, startingDeadlineSeconds=600))
    scene.hold = lambda _slot: Hold("WaitingForDependency", "it waits for another job.")
    assert clock(scene.rest("10:01").wake_at) == "10:10"


@pytest.mark.parametrize("limits", [{"startingDeadlineSeconds": 60}, {"backfillLimit": 1}])
def test_a_slot_that_failed_is_not_skipped(limits: dict[str, Any]) -> None:
    """It did start; it holds back the others until it succeeds, then the limits count for those."""
    scene = without_natives(Scene(**BACKFILL, **limits))
    scene.failed(scene.claimed(scene.one_off("10:00"), released="10:00:01"), "10:00:05")
    decision = scene.rest("12:00:30")
    assert slots(decision.create) == ["10:00"]
    assert scene.status.skipped == 0
    scene.succeeded(scene.claimed(scene.one_off("10:00", 2), 2, released="12:00:31"), "12:00:32")
    scene.take("12:00:32")
    assert slots(scene.rest("12:00:33").create) == ["12:00"]
    assert scene.status.skipped == 1


def test_the_time_to_wake_is_never_past() -> None:
    """A failing slot's own deadline is long over: it is the retry that is waited for."""
    scene = without_natives(Scene(**BACKFILL, startingDeadlineSeconds=60, retryDelaySeconds=600))
    scene.failed(scene.claimed(scene.one_off("10:00"), released="10:00:01"), "10:04")
    assert clock(scene.rest("10:05").wake_at) == "10:14"


def test_a_suspended_job_skips_nothing() -> None:
    """With backfill its slots wait; what is too late then is skipped on resuming."""
    scene = without_natives(Scene(**BACKFILL, startingDeadlineSeconds=60, suspend=True))
    scene.rest("12:30")
    assert (scene.status.skipped, scene.status.missed) == (0, 3)
    scene.edit(backfill=True, startingDeadlineSeconds=60, suspend=None)
    scene.rest("12:30:30")
    assert (scene.status.skipped, scene.status.missed) == (3, 0)


# --- Edits ----------------------------------------------------------------------------------------------


def settled_at_ten(**fields: Any) -> Scene:
    """A job that ran at 10:00 and is told at 10:30."""
    scene = Scene(**fields, fired="23:00")
    scene.status = Status(settled_through=at("10:00"), last_success_time=at("10:00"))
    scene.rest("10:30")
    return scene


@pytest.mark.parametrize(
    ("backfill", "due"), [(False, []), (True, ["10:15"])], ids=["collapsing", "backfill"]
)
def test_an_edited_schedule_invents_no_run(backfill: bool, due: list[str]) -> None:
    """Slots that the new schedule had before the edit don't count; with backfill those since the cursor do."""
    kept = {"backfill": True} if backfill else {"passLastSuccess": True}
    scene = settled_at_ten(frequency="1h", **kept)
    scene.edit(frequency="15m", **kept)
    decision = scene.take("10:50")
    assert slots(decision.create) == due


def test_slots_after_the_edit_still_count() -> None:
    """The cursor moves once for each edit, to where it was seen."""
    scene = settled_at_ten(**GATED)
    scene.edit(frequency="15m", passLastSuccess=True)
    scene.take("10:50")
    assert clock(scene.status.settled_through) == "10:50"
    assert slots(scene.rest("11:01").create) == ["11:00"]
    assert clock(scene.status.settled_through) == "10:50"


@pytest.mark.parametrize("resumed", ["12:59", "13:00", "13:00:01", "13:00:30"])
def test_resuming_invents_no_run(resumed: str) -> None:
    """The slots of the time that it was suspended are settled."""
    scene = settled_at_ten(**GATED)
    scene.edit(passLastSuccess=True, suspend=True)
    assert scene.told("12:30").state is State.SUSPENDED
    assert scene.status.missed == 0
    scene.edit(passLastSuccess=True, suspend=None)
    assert not scene.rest(resumed).create
    assert slots(scene.rest("14:00:05").create) == ["14:00"]


def test_resuming_with_backfill_runs_what_was_missed() -> None:
    """Slots since the cursor always count there."""
    scene = settled_at_ten(**BACKFILL)
    scene.edit(suspend=True)
    assert scene.told("12:30").missed == 2
    assert not scene.decide("12:30").create
    scene.edit(suspend=None)
    assert slots(scene.rest("13:30").create) == ["11:00"]


def test_resuming_after_a_mistake_in_the_spec_invents_no_run_either() -> None:
    """Suspended, then invalid for a time, then mended and resumed in one edit: the CronJob tells of it."""
    scene = settled_at_ten(**GATED)
    scene.edit(passLastSuccess=True, suspend=True)
    scene.rest("11:30")
    scene.change_cronjob(suspended=True)
    scene.status = replace(scene.status, state=State.INVALID)
    scene.edit(passLastSuccess=True, suspend=None)
    assert not scene.rest("12:30").create


def test_an_edit_while_suspended_is_settled_on_resuming() -> None:
    """Only then slots can be invented."""
    scene = settled_at_ten(**GATED)
    scene.edit(passLastSuccess=True, suspend=True)
    scene.rest("11:30")
    scene.edit(frequency="15m", passLastSuccess=True, suspend=True)
    scene.rest("12:10")
    scene.edit(frequency="15m", passLastSuccess=True, suspend=None)
    assert not scene.rest("12:40").create
    assert slots(scene.rest("12:45:05").create) == ["12:45"]


def test_a_time_zone_edited_invents_no_run() -> None:
    """It is in no column; the CronJob has it."""
    scene = settled_at_ten(schedule="0 * * * *", passLastSuccess=True)
    scene.edit(schedule="0 * * * *", timeZone="Asia/Kolkata", passLastSuccess=True)
    scene.desired = replace(scene.desired, schedule="schedule-2", hash="cronjob-2")  # type: ignore[arg-type]
    assert not scene.rest("10:59").create
    assert slots(scene.rest("11:31").create) == ["11:30"]


def test_an_edit_that_changes_no_slot_settles_nothing() -> None:
    """A missed slot stays missed when the arguments are edited."""
    scene = settled_at_ten(**GATED)
    scene.edit(passLastSuccess=True, args=["--all"])
    assert slots(scene.rest("11:30").create) == ["11:00"]


def test_an_edited_schedule_with_backfill_loses_no_slot_before_a_failing_one() -> None:
    """Daily became hourly while a day's run fails: the hours before that day's slot run, too."""
    scene = without_natives(Scene(frequency="1d", backfill=True))
    scene.status = Status(
        settled_through=at("2T00:00"),
        error_count=1,
        last_error=LastError(type="E", slot=at("3T00:00")),
        retry=Retry(of=f"1/{'template-1'}", failures=1, not_before=at("23:00")),
        observed_generation=1,
    )
    scene.edit(frequency="1h")
    assert slots(scene.rest("10:30").create) == ["2T01:00"]


def test_a_failing_slot_that_the_schedule_lost_is_not_tried_again() -> None:
    """The chain goes on with the slots of the schedule as it is."""
    scene = without_natives(Scene(frequency="15m", backfill=True))
    scene.failed(scene.claimed(scene.one_off("09:45"), released="09:46"), "09:47")
    scene.rest("09:47:01")
    scene.edit(frequency="1h")
    assert not scene.rest("09:50").create
    assert scene.status.state is State.WAITING
    assert slots(scene.rest("10:00:01").create) == ["10:00"]


def test_switching_backfill_on_runs_what_was_missed_since_the_cursor() -> None:
    """What an earlier run settled stays settled."""
    scene = settled_at_ten(**GATED)
    scene.edit(backfill=True)
    assert slots(scene.rest("12:30").create) == ["11:00"]


# --- Reports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "missed"), [("10:00", 0), ("10:00:00.7", 0), ("10:00:00.8", 1), ("10:05", 1)]
)
def test_a_slot_is_told_as_missed_a_moment_after_it_fell_due(now: str, missed: int) -> None:
    """Mostly its claim comes first and tells it too: one write less for each run."""
    scene = Scene(**BACKFILL)
    scene.rest("09:59")
    decision = scene.rest(now)
    assert scene.status.missed == missed
    if not missed:
        assert decision.wake_at == at("10:00") + timedelta(milliseconds=800)


@pytest.mark.parametrize("fields", [BACKFILL, GATED, PLAIN], ids=["backfill", "gated", "plain"])
@pytest.mark.parametrize("ends", ["10:00:00.5", "10:00:03"], ids=["at once", "later"])
def test_a_run_is_told_twice_as_it_begins_and_as_it_ends(fields: dict[str, Any], ends: str) -> None:
    """What was told once stays told: `kubectl get` must not flicker, and each write has its price."""
    scene = Scene(**fields)
    scene.rest("09:59")
    run = scene.native("10:00", active=True)
    told = []
    for now in sorted(
        {"10:00:00.1", "10:00:00.2", "10:00:00.4", ends, "10:00:00.6", "10:00:00.9", "10:00:05"}
    ):
        if now == ends:
            scene.succeeded(run, now)
        decision = scene.take(now)
        if decision.status is not None:
            told.append(
                (scene.status.missed, clock(scene.status.next_run_time), scene.status.ongoing is not None)
            )
        if decision.release:
            claim = scene.status.ongoing
            assert claim is not None
            scene.change(run, suspended=False, released=True, claimed=claim.since, started=now)
    assert told == [(1, "11:00", True), (0, "11:00", False)]


def test_an_idle_job_wakes_for_its_next_slot_only() -> None:
    """Nothing else changes by time alone."""
    scene = settled_at_ten(**BACKFILL)
    decision = scene.rest("10:30")
    assert clock(decision.wake_at) == "11:00"
    assert (decision.status, decision.cronjob, decision.create, decision.prune) == (None, None, (), ())


@pytest.mark.parametrize(
    ("ahead", "due"), [("09:59:59", []), ("10:00:02", ["10:00"])], ids=["not yet", "due by then"]
)
def test_the_clock_may_be_behind_what_exists(ahead: str, due: list[str]) -> None:
    """What the API server stamped has happened: the later of both clocks counts."""
    scene = without_natives(Scene(**BACKFILL))
    scene.manual(ahead, finished=ahead, succeeded=True)
    assert slots(scene.decide("09:55").create) == due


def test_a_native_run_proves_that_its_slot_is_due() -> None:
    """Also where the controller's clock is ahead of all others."""
    scene = Scene(**BACKFILL)
    run = scene.native("10:00", created="09:59:58")
    claim = scene.decide("09:59:57").status
    assert claim is not None
    assert claim.ongoing is not None
    assert claim.ongoing.uid == run.uid


def test_a_run_from_the_far_future_proves_nothing() -> None:
    """Somebody's forgery must not make a century of slots due."""
    scene = without_natives(Scene(**BACKFILL))
    run = scene.native("10:00", created="09:59")
    scene.change(run, slot=at("10:00").replace(year=2126))
    scene.take("09:59:30")
    assert scene.status.missed == 0


def test_a_schedule_without_slots_is_idle() -> None:
    """The 30th of February never comes."""
    scene = Scene(schedule="0 0 30 2 *", backfill=True)
    decision = scene.rest("12:00")
    assert decision.wake_at is None
    assert (scene.status.missed, scene.status.next_run_time) == (0, None)
