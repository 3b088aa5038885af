"""The books: what a status says to people, how it changes by a person's command, and that it is read as written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator import bookkeeping
from crontabber_operator.bookkeeping import Situation
from crontabber_operator.models import (
    CommandRecord,
    Condition,
    ConditionType,
    Disregarded,
    HistoryEntry,
    LastError,
    Ongoing,
    Result,
    Retry,
    State,
    Status,
)
from crontabber_operator.observed import Attempt, Hold, View
from tests.unit.backfill_scene import Scene, at, clock, failure

BACKFILL: dict[str, Any] = {"frequency": "1h", "backfill": True}
ENTRY = HistoryEntry(slot=at("10:00"), started=at("10:00:05"), finished=at("10:01"), result=Result.SUCCEEDED)
ONGOING = Ongoing(slot=at("10:00"), through=at("10:00"), job="job-1", uid="uid", since=at("10:00"))


def look(scene: Scene, now: str) -> View:
    """Look at a scene."""
    return View.of_job(scene.job, scene.seen, at(now))


def report(scene: Scene, now: str, situation: Situation | None = None) -> Status:
    """Report a scene's status."""
    return bookkeeping.report(look(scene, now), scene.status, situation or Situation(), now=at(now))


def condition(status: Status, kind: ConditionType) -> Condition:
    """Return a condition that must be there."""
    found = status.condition(kind)
    assert found is not None
    return found


# --- The report -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "change", "only_counts"),
    [
        ("10:30", {}, True),
        ("13:30", {}, True),
        ("09:50", {}, False),  # nothing is due
        ("10:30", {"error_count": 1}, False),
        ("10:30", {"ongoing": ONGOING}, False),
        ("10:30", {"settled_through": at("09:00")}, False),
        ("10:30", {"skipped": 1}, False),
    ],
)
def test_that_more_slots_fell_due_can_wait_and_nothing_else(
    now: str, change: dict[str, Any], *, only_counts: bool
) -> None:
    """What else a status tells is told at once."""
    scene = Scene(**BACKFILL)
    scene.status = report(scene, "09:45")
    after = bookkeeping.report(look(scene, now), replace(scene.status, **change), Situation(), now=at(now))
    assert bookkeeping.only_counts_more(scene.status, after) is only_counts
    assert not bookkeeping.only_counts_more(after, scene.status)


def test_what_is_wrong_or_edited_is_told_at_once_though_more_slots_fell_due() -> None:
    """A person waits for it."""
    scene = Scene(**BACKFILL)
    scene.status = report(scene, "09:45")
    refused = Situation(not_ready=("Refused", "a quota."))
    assert not bookkeeping.only_counts_more(scene.status, report(scene, "10:30", refused))
    scene.edit(suspend=True)
    assert not bookkeeping.only_counts_more(scene.status, report(scene, "10:30"))


@pytest.mark.parametrize(
    ("fields", "status", "situation", "now", "state"),
    [
        ({}, {}, {}, "09:40", State.WAITING),
        ({}, {}, {}, "10:30", State.WAITING),
        ({}, {}, {}, "11:30", State.CATCHING_UP),
        ({}, {"ongoing": ONGOING}, {}, "10:30", State.RUNNING),
        ({}, {"ongoing": ONGOING}, {}, "11:30", State.CATCHING_UP),
        ({}, {"ongoing": ONGOING, "state": State.CATCHING_UP}, {}, "10:30", State.CATCHING_UP),
        ({}, {"state": State.CATCHING_UP}, {}, "09:40", State.WAITING),
        ({"backfill": False, "passLastSuccess": True}, {}, {}, "13:30", State.WAITING),
        ({"backfill": False}, {"ongoing": ONGOING}, {}, "13:30", State.RUNNING),
        (
            {},
            {"error_count": 1, "last_error": LastError(type="E", slot=at("10:00"))},
            {},
            "10:30",
            State.RETRYING,
        ),
        (
            {},
            {"error_count": 1, "last_error": LastError(type="E", slot=at("09:00"))},
            {},
            "09:40",
            State.WAITING,
        ),
        ({}, {"error_count": 1}, {}, "10:30", State.WAITING),
        ({}, {}, {"exhausted": True}, "10:30", State.RETRIES_EXHAUSTED),
        ({"suspend": True}, {"ongoing": ONGOING}, {}, "10:30", State.SUSPENDED),
        ({}, {}, {"not_ready": ("No", "no"), "stalled": True}, "10:30", State.INVALID),
        ({}, {}, {"not_ready": ("No", "no")}, "10:30", State.WAITING),
    ],
)
def test_the_state_is_one_word_for_people(
    fields: dict[str, Any], status: dict[str, Any], situation: dict[str, Any], now: str, state: State
) -> None:
    """The most important thing about the job."""
    scene = Scene(**{**BACKFILL, **fields})
    scene.status = replace(Status(), **status)
    assert report(scene, now, Situation(**situation)).state is state


@pytest.mark.parametrize(
    ("status", "now", "next_run"),
    [
        ({}, "09:40", "10:00"),
        ({}, "10:30", "10:00"),
        ({"settled_through": at("10:00")}, "10:30", "11:00"),
        ({"ongoing": ONGOING}, "10:30", "11:00"),
        ({"ongoing": ONGOING}, "12:30", "11:00"),
        ({"ongoing": replace(ONGOING, through=at("12:00"))}, "12:30", "13:00"),
    ],
)
def test_the_next_run_is_the_slot_after_what_is_settled_or_runs(
    status: dict[str, Any], now: str, next_run: str
) -> None:
    """A slot that is due already is the next one, too."""
    scene = Scene(**BACKFILL)
    scene.status = replace(Status(), **status)
    assert clock(report(scene, now).next_run_time) == next_run


@pytest.mark.parametrize("now", ["10:00:01", "12:30"])
def test_a_suspended_or_exhausted_job_has_no_next_run(now: str) -> None:
    """Nothing will run before somebody does something."""
    assert report(Scene(**BACKFILL, suspend=True), now).next_run_time is None
    assert report(Scene(**BACKFILL), now, Situation(exhausted=True)).next_run_time is None


@pytest.mark.parametrize(
    ("status", "situation", "now", "reason", "message"),
    [
        ({}, {}, "09:40", "NothingMissed", "Every slot that was due is settled."),
        ({}, {}, "10:30", "Starting", "1 slot is due; the oldest is about to start."),
        (
            {},
            {"waiting_for": Hold("WaitingForDependency", "it waits for b.")},
            "11:30",
            "WaitingForDependency",
            "2 slots are due; it waits for b.",
        ),
        ({"ongoing": ONGOING}, {}, "11:30", "Running", "2 slots are due; slot 2026-06-03T10:00Z is running."),
        (
            {"ongoing": ONGOING},
            {"waiting_for": Hold("Waiting", "it was suspended by hand.")},
            "10:30",
            "Waiting",
            "1 slot is due; it was suspended by hand.",
        ),
    ],
)
def test_caught_up_says_why_not(
    status: dict[str, Any], situation: dict[str, Any], now: str, reason: str, message: str
) -> None:
    """In a sentence, with what to do where a person must do it."""
    scene = Scene(**BACKFILL)
    scene.status = replace(Status(), **status)
    told = condition(report(scene, now, Situation(**situation)), ConditionType.CAUGHT_UP)
    assert (told.status, told.reason, told.message) == (
        "True" if reason == "NothingMissed" else "False",
        reason,
        message,
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ("Unknown", "NeverRun")),
        ({"last_success_time": at("10:00"), "history": (ENTRY,)}, ("True", "Succeeded")),
        ({"last_success_time": at("10:00")}, ("True", "Marked")),
        (
            {
                "last_success_time": at("10:00"),
                "history": (replace(ENTRY, result=Result.FAILED), ENTRY),
            },
            ("True", "Marked"),
        ),
        ({"error_count": 2, "last_error": LastError(type="E", value="a\nb")}, ("False", "Failed")),
    ],
)
def test_last_run_succeeded_tells_how_the_last_run_ended(
    status: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Never is a run's result told by Ready."""
    scene = Scene(**BACKFILL)
    scene.status = replace(Status(), **status)
    reported = report(scene, "10:30")
    told = condition(reported, ConditionType.LAST_RUN_SUCCEEDED)
    assert (told.status, told.reason) == expected
    assert condition(reported, ConditionType.READY).status == "True"
    assert "\n" not in told.message


def test_a_transition_time_changes_only_with_the_status() -> None:
    """Reason and message may change meanwhile."""
    scene = Scene(**BACKFILL)
    scene.status = report(scene, "10:30")
    first = condition(scene.status, ConditionType.CAUGHT_UP)
    scene.status = report(scene, "11:30")
    second = condition(scene.status, ConditionType.CAUGHT_UP)
    assert first.message != second.message
    assert first.last_transition_time == second.last_transition_time == at("10:30")
    scene.status = replace(scene.status, settled_through=at("11:00"))
    scene.status = report(scene, "11:31")
    third = condition(scene.status, ConditionType.CAUGHT_UP)
    assert (third.status, third.last_transition_time) == ("True", at("11:31"))


def test_a_run_that_ends_just_after_a_slot_changes_its_condition_then() -> None:
    """What is told is that of before the slot, for a moment; the time of the change is that of the change."""
    scene = Scene(**BACKFILL, fired="23:00")
    scene.status = Status(settled_through=at("09:00"), last_success_time=at("09:00"))
    run = scene.claimed(scene.one_off("10:00"), released="10:30")
    scene.failed(run, "11:00")
    status = scene.decide("11:00:00.3").status
    assert status is not None
    assert condition(status, ConditionType.LAST_RUN_SUCCEEDED).last_transition_time == at("11:00")


def test_conditions_of_others_are_kept() -> None:
    """Somebody else may write one."""
    scene = Scene(**BACKFILL)
    other = Condition(type="Mine", status="True", reason="Because", last_transition_time=at("08:00"))
    scene.status = Status(conditions=(other,))
    assert other in report(scene, "10:30").conditions


def test_a_report_at_rest_is_the_status_itself() -> None:
    """Nothing is built anew for ten thousand idle jobs."""
    scene = Scene(**BACKFILL)
    scene.status = report(scene, "10:30")
    assert report(scene, "10:31") is scene.status


def test_conditions_speak_about_the_generation_that_was_seen() -> None:
    """So kstatus can tell that a status is up to date."""
    scene = Scene(**BACKFILL)
    scene.generation = 7
    status = report(scene, "10:30")
    assert status.observed_generation == 7
    assert {one.observed_generation for one in status.conditions} == {7}


def test_an_invalid_spec_keeps_the_books() -> None:
    """It is told with each mistake; once it is mended, all goes on where it was."""
    before = Status(last_success_time=at("10:00"), settled_through=at("10:00"), missed=3, schedule="every 1h")
    status = bookkeeping.invalid(before, 5, ("spec.schedule: no.", "spec.time: no."), at("10:30"))
    assert (status.last_success_time, status.settled_through) == (at("10:00"), at("10:00"))
    assert (status.state, status.next_run_time, status.observed_generation) == (State.INVALID, None, 5)
    assert status.schedule == "every 1h"
    for kind, value in ((ConditionType.READY, "False"), (ConditionType.STALLED, "True")):
        told = condition(status, kind)
        assert (told.status, told.reason, told.message) == (
            value,
            "Invalid",
            "spec.schedule: no. spec.time: no.",
        )
    assert bookkeeping.invalid(status, 5, ("spec.schedule: no.", "spec.time: no."), at("11:00")) is status


def test_a_very_long_list_of_mistakes_is_cut() -> None:
    """A status must stay small."""
    status = bookkeeping.invalid(Status(), 1, ("x" * 5000,), at("10:30"))
    assert len(condition(status, ConditionType.READY).message) == bookkeeping.MESSAGE_MAX_CHARACTERS


# --- Successes and failures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "success"), [(BACKFILL, "12:00"), ({"frequency": "1h"}, "10:00:05")], ids=["backfill", "plain"]
)
def test_the_last_success_is_the_slot_or_when_the_run_started(fields: dict[str, Any], success: str) -> None:
    """With backfill the newest slot, otherwise the start: the original crontabber's rule."""
    scene = Scene(**fields)
    status = bookkeeping.record_success(scene.job, Status(), ENTRY, through=at("12:00"))
    assert clock(status.last_success_time) == success
    assert clock(status.settled_through) == "12:00"
    assert status.history == (ENTRY,)


def test_a_success_never_moves_anything_back() -> None:
    """A late one of an older slot."""
    before = Status(last_success_time=at("15:00"), settled_through=at("15:00"))
    status = bookkeeping.record_success(Scene(**BACKFILL).job, before, ENTRY, through=at("10:00"))
    assert (status.last_success_time, status.settled_through) == (at("15:00"), at("15:00"))


def test_a_failure_keeps_the_end_of_a_long_traceback() -> None:
    """At most 4 KiB, whole lines."""
    attempt = Attempt(Result.FAILED, "E", "v", "\n".join(f"line {n}" for n in range(2000)), None, at("10:01"))
    run = Scene(**BACKFILL).one_off("10:00")
    entry = bookkeeping.failure_entry(run, 1, attempt, at("10:00"), at("10:01"))
    status = bookkeeping.record_failure(
        Scene(**BACKFILL).job, Status(), entry, attempt, of="1/t", at=at("10:01")
    )
    assert status.last_error is not None
    assert len(status.last_error.traceback.encode()) <= 4096
    assert status.last_error.traceback.endswith("line 1999")
    assert status.last_error.traceback.startswith("line ")


def test_an_exception_without_a_message_is_shown_by_its_name() -> None:
    """The column LAST ERROR shows the value alone; in sentences the name stands once."""
    scene = Scene(frequency="1h", backfill=True)
    run = scene.claimed(scene.one_off("10:00"), released="10:00:01")
    scene.failed(run, "10:01", replace(failure("10:01", "AssertionError"), value="\n"))
    status = scene.told("10:01:01")
    assert status.last_error is not None
    assert (status.last_error.type, status.last_error.value) == ("AssertionError", "AssertionError")
    last = status.condition(ConditionType.LAST_RUN_SUCCEEDED)
    assert last is not None
    assert last.message.endswith("the last one: AssertionError")
    assert status.history[0].message == "AssertionError"


def test_a_run_that_ended_before_it_started_took_no_time() -> None:
    """The clocks of nodes differ."""
    run = Scene(**BACKFILL).one_off("10:00")
    entry = bookkeeping.failure_entry(run, 1, failure("10:01"), at("10:02"), at("10:01"))
    assert entry.seconds == 0.0


# --- Marks and resets -----------------------------------------------------------------------------------

FULL = Status(
    observed_generation=3,
    schedule="every 1h",
    state=State.RETRYING,
    first_run_time=at("08:00"),
    last_run_time=at("10:00"),
    last_success_time=at("09:00"),
    settled_through=at("09:00"),
    next_run_time=at("11:00"),
    missed=2,
    skipped=4,
    error_count=3,
    last_error=LastError(type="E", value="v", traceback="t", slot=at("10:00"), time=at("10:01"), job="job-1"),
    ongoing=ONGOING,
    retry=Retry(of="3/t", failures=3, not_before=at("10:05")),
    disregarded=Disregarded(jobs=("a", "b"), successful_time=at("08:00")),
    history=(ENTRY,),
    last_commands=(CommandRecord(id="1", name="reset", time=at("08:00"), result="Done"),),
    conditions=(
        Condition(type="Ready", status="True", reason="Scheduled", last_transition_time=at("08:00")),
    ),
)


def test_a_mark_sets_the_last_success_and_clears_the_error() -> None:
    """What ran before stays in the history."""
    status = bookkeeping.mark_success(FULL, at("07:00"), None)
    assert (status.last_success_time, status.settled_through) == (at("07:00"), at("07:00"))
    assert (status.error_count, status.last_error, status.retry, status.ongoing) == (0, None, None, None)
    assert (status.history, status.last_commands) == (FULL.history, FULL.last_commands)


def test_a_reset_forgets_all_but_who_asked_for_it() -> None:
    """As if it had never run; earlier slots are not run."""
    status = bookkeeping.reset(FULL, at("10:30"), None)
    kept: dict[str, Any] = {
        "settled_through": at("10:30"),
        "last_commands": FULL.last_commands,
        "conditions": FULL.conditions,
        "observed_generation": 3,
        "schedule": "every 1h",
        "state": State.RETRYING,
    }
    assert status == Status(**kept)


def test_what_exists_is_disregarded_after_a_mark() -> None:
    """The controller's own runs, and when the CronJob last succeeded."""
    scene = Scene(frequency="1h")
    assert bookkeeping.disregard(scene.seen) is None
    first, second = scene.native("10:00"), scene.native("11:00")
    scene.one_off("12:00")
    scene.change_cronjob(last_successful=at("11:01"))
    assert bookkeeping.disregard(scene.seen) == Disregarded(
        jobs=tuple(sorted((first.uid, second.uid))), successful_time=at("11:01")
    )


# --- Read as written ------------------------------------------------------------------------------------


def test_a_full_status_is_read_as_it_was_written() -> None:
    """State lives in the status alone."""
    assert Status.read(FULL.write()) == FULL


texts = st.text(max_size=60)
names = st.text(min_size=1, max_size=20)
times = st.integers(min_value=0, max_value=2**32).map(
    lambda seconds: at("2T00:00") + timedelta(seconds=seconds)
)
maybe_times = st.none() | times
entries = st.builds(
    HistoryEntry,
    slot=times,
    job=texts,
    attempt=st.integers(min_value=1, max_value=10**6),
    started=maybe_times,
    finished=maybe_times,
    seconds=st.none() | st.floats(min_value=0, max_value=1e9),
    result=st.sampled_from(Result),
    message=texts,
)
statuses = st.builds(
    Status,
    observed_generation=st.none() | st.integers(min_value=0),
    schedule=texts,
    state=st.none() | st.sampled_from(State),
    last_success_time=maybe_times,
    settled_through=maybe_times,
    missed=st.integers(min_value=0),
    error_count=st.integers(min_value=0),
    last_error=st.none() | st.builds(LastError, type=texts, value=texts, traceback=texts, slot=maybe_times),
    ongoing=st.none()
    | st.builds(Ongoing, slot=times, through=times, job=names, uid=names, since=maybe_times),
    retry=st.none() | st.builds(Retry, of=texts, not_before=maybe_times),
    disregarded=st.none() | st.builds(Disregarded, jobs=st.tuples(texts, texts), successful_time=maybe_times),
    history=st.lists(entries, max_size=4).map(tuple),
    last_commands=st.lists(
        st.builds(CommandRecord, id=texts, name=texts, value=texts, time=maybe_times, result=texts),
        max_size=3,
    ).map(tuple),
)


@given(status=statuses)
def test_any_status_is_read_as_it_was_written(status: Status) -> None:
    """Whatever it holds."""
    assert Status.read(status.write()) == status
