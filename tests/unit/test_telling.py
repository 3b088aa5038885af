"""Which Events a change of the status is worth. Tables of two statuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crontabber_operator import bookkeeping
from crontabber_operator.models import (
    CommandRecord,
    Condition,
    HistoryEntry,
    Ongoing,
    Result,
    Retry,
    SkippedBy,
    Spec,
    State,
    Status,
)
from crontabber_operator.telling import MANY_SLOTS, Telling, changes, run_now_failed
from tests.unit.backfill_scene import Scene, at, failure

CATCHING_UP = State.CATCHING_UP
SPEC = Spec.read({"command": "work", "frequency": "1h", "backfill": True})


def ready(status: str, reason: str = "Scheduled", message: str = "fine") -> Condition:
    """Build a condition Ready."""
    return Condition(
        type="Ready", status=status, reason=reason, message=message, last_transition_time=at("10:00")
    )


def told(before: Status, after: Status) -> list[tuple[str, str, bool]]:
    """List the Events: reason, message, warning."""
    return [(one.reason, one.message, one.warning) for one in changes(before, after, SPEC)]


def entry(result: Result, attempt: int = 1, message: str = "ValueError: no") -> HistoryEntry:
    """Build an entry of slot 10:00."""
    return HistoryEntry(slot=at("10:00"), job="job-1", attempt=attempt, result=result, message=message)


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ((), (ready("True"),), []),
        ((), (ready("False", "Invalid", "bad"),), [("Invalid", "bad", True)]),
        ((ready("False", "Invalid", "bad"),), (ready("False", "Invalid", "bad"),), []),
        (
            (ready("False", "Invalid", "bad"),),
            (ready("False", "Invalid", "worse"),),
            [("Invalid", "worse", True)],
        ),
        ((ready("False", "Invalid", "bad"),), (ready("True"),), [("Accepted", "fine", False)]),
        ((ready("True"),), (ready("True", message="finer"),), []),
        ((ready("True"),), (), []),
    ],
)
def test_acceptance_and_refusal_are_told(
    before: tuple[Condition, ...], after: tuple[Condition, ...], events: list[Any]
) -> None:
    """Once each; a new resource that is accepted is no news."""
    assert told(Status(conditions=before), Status(conditions=after)) == events


def test_a_failure_is_told_with_its_next_attempt() -> None:
    """While the slot is retried."""
    after = Status(
        history=(entry(Result.FAILED, 2),),
        state=State.RETRYING,
        retry=Retry(of="1/t", failures=2, not_before=at("10:05")),
    )
    message = (
        "Attempt 2 at slot 2026-06-03T10:00:00Z (Job job-1) failed: ValueError: no."
        " Next attempt at 2026-06-03T10:05:00Z."
    )
    assert told(Status(), after) == [("RunFailed", message, True)]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Result.FAILED, "RunFailed"),
        (Result.TIMED_OUT, "RunTimedOut"),
        (Result.OUT_OF_MEMORY, "RunOutOfMemory"),
        (Result.EVICTED, "RunEvicted"),
        (Result.LOST, "RunLost"),
    ],
)
def test_each_kind_of_failure_has_its_reason(result: Result, reason: str) -> None:
    """So it can be counted and alerted on."""
    after = Status(history=(entry(result, message="It ended."),))
    assert told(Status(), after) == [
        (reason, "Attempt 1 at slot 2026-06-03T10:00:00Z (Job job-1) failed: It ended.", True)
    ]


def test_a_success_is_news_only_after_failures() -> None:
    """A healthy job makes no Events."""
    after = Status(history=(entry(Result.SUCCEEDED, 3),))
    assert told(Status(), after) == []
    before = Status(error_count=2)
    assert told(before, after) == [
        ("Recovered", "The run of slot 2026-06-03T10:00:00Z succeeded at attempt 3.", False)
    ]


def test_several_outcomes_are_told_oldest_first() -> None:
    """The operator was down meanwhile."""
    after = Status(history=(entry(Result.FAILED, 2), entry(Result.FAILED, 1)))
    assert [message.split(" at ")[0] for _, message, _ in told(Status(), after)] == ["Attempt 1", "Attempt 2"]


def test_exhausted_retries_are_told_with_what_to_do() -> None:
    """Once."""
    condition = Condition(
        type="CaughtUp", status="False", reason="R", message="mark it", last_transition_time=at("10:00")
    )
    after = Status(state=State.RETRIES_EXHAUSTED, conditions=(condition,))
    assert told(Status(), after) == [("RetriesExhausted", "mark it", True)]
    assert told(after, after) == []


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ({"skipped": 5, "skipped_by": SkippedBy(retry_limit=5)}, {}, []),
        ({}, {"missed": 1}, []),
        ({"missed": 1}, {"missed": 2}, [("SlotsMissed", "2 slots are due.", False)]),
        ({"missed": 2}, {"missed": 3}, []),
        (
            {"missed": 2},
            {"missed": 2, "state": CATCHING_UP},
            [("CatchingUp", "Catching up 2 slots, oldest first.", False)],
        ),
        (
            {"missed": 1, "state": CATCHING_UP},
            {},
            [("CaughtUp", "Every slot that was due is settled.", False)],
        ),
        ({"missed": 5, "state": CATCHING_UP}, {"missed": 4, "state": CATCHING_UP}, []),
        (
            {"missed": MANY_SLOTS + 2, "state": CATCHING_UP},
            {"missed": MANY_SLOTS + 1, "state": CATCHING_UP},
            [],
        ),
    ],
)
def test_the_backlog_is_told_where_it_begins_and_ends(
    before: dict[str, Any], after: dict[str, Any], events: list[Any]
) -> None:
    """Not for each slot of it."""
    assert told(replace(Status(), **before), replace(Status(), **after)) == events


def test_very_many_slots_to_catch_up_are_a_warning() -> None:
    """Of a job with backfill; for others they collapse into one run."""
    after = Status(missed=MANY_SLOTS + 1, state=CATCHING_UP)
    before = Status(missed=2)
    (warning,) = [event for event in told(before, after) if event[2]]
    assert warning[0] == "ManySlotsMissed"
    assert "spec.backfillLimit" in warning[1]
    suspended = replace(after, state=State.SUSPENDED)
    assert not [event for event in told(before, suspended) if event[2]]
    assert [event[0] for event in told(suspended, after) if event[2]] == ["ManySlotsMissed"], "it is resumed"
    for spec in (
        replace(SPEC, backfill=False),
        replace(SPEC, backfill_limit=2000),
        replace(SPEC, suspend=True),
        None,
    ):
        assert not [one for one in changes(before, after, spec) if one.warning]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            SkippedBy(),
            SkippedBy(backfill_limit=1),
            ["1 slot was skipped: more were missed than spec.backfillLimit allows."],
        ),
        (
            SkippedBy(starting_deadline=2),
            SkippedBy(starting_deadline=5),
            ["3 slots were skipped: it was too late to start, by spec.startingDeadlineSeconds."],
        ),
        (
            SkippedBy(),
            SkippedBy(retry_limit=1),
            ["1 slot was skipped: the attempts used up spec.retryLimit, so Kubernetes gave up."],
        ),
        (SkippedBy(retry_limit=1), SkippedBy(retry_limit=1), []),
    ],
)
def test_skipped_slots_are_told_with_the_reason(before: SkippedBy, after: SkippedBy, said: list[str]) -> None:
    """So that a person knows which field to change."""
    events = told(Status(skipped_by=before), Status(skipped_by=after))
    assert [(reason, warning) for reason, _, warning in events] == len(said) * [("SlotsSkipped", True)]
    assert [message for _, message, _ in events] == said


def claim(slot: str, since: str, attempt: int = 1) -> Ongoing:
    """Build a claim."""
    return Ongoing(slot=at(slot), through=at(slot), job="job-1", uid=slot, attempt=attempt, since=at(since))


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ({}, {"missed": 1, "ongoing": claim("10:00", "10:06")}, True),
        ({}, {"missed": 1, "ongoing": claim("10:00", "10:04")}, False),
        ({}, {"missed": 1, "ongoing": claim("10:00", "10:06", attempt=2)}, False),
        ({"ongoing": claim("10:00", "10:06")}, {"ongoing": claim("10:00", "10:06")}, False),
        ({"missed": 3}, {"missed": 3, "ongoing": claim("10:00", "10:06")}, False),
    ],
    ids=["late", "in time", "a retry", "goes on", "catching up"],
)
def test_a_slot_that_starts_late_was_missed(
    before: dict[str, Any], after: dict[str, Any], is_told: bool
) -> None:
    """The operator was down, say; also where only one slot was missed."""
    events = told(replace(Status(), **before), replace(Status(), **after))
    assert ("SlotsMissed" in [reason for reason, _, _ in events]) is is_told


def record(name: str, result: str, value: str = "", command_id: str = "1") -> CommandRecord:
    """Build a command's record."""
    return CommandRecord(id=command_id, name=name, value=value, result=result)


@pytest.mark.parametrize(
    ("name", "value", "result", "event"),
    [
        (
            "mark-success",
            "now",
            "Done",
            ("CommandDone", "mark-success=now: last success is 2026-06-03T10:00:00Z.", False),
        ),
        ("reset", "", "Done", ("CommandDone", "reset: all bookkeeping is forgotten.", False)),
        ("run-now", "--all", "Done", ("CommandDone", "run-now=--all: a Job was made.", False)),
        ("reset", "x", "Refused: reset takes no value.", ("CommandRefused", "reset takes no value.", True)),
    ],
)
def test_a_command_is_told_when_it_is_done_or_refused(
    name: str, value: str, result: str, event: tuple[str, str, bool]
) -> None:
    """With its effect, or what is accepted."""
    before = Status(last_commands=(record(name, "Pending", value),))
    after = Status(last_commands=(record(name, result, value),), last_success_time=at("10:00"))
    assert told(before, after) == [event]
    assert told(after, after) == []


def test_a_command_that_is_taken_is_no_news() -> None:
    """It follows."""
    assert told(Status(), Status(last_commands=(record("reset", "Pending"),))) == []


def test_commands_with_one_id_are_told_once_each() -> None:
    """Given together they share it."""
    pending = Status(last_commands=(record("mark-success", "Pending"), record("reset", "Pending")))
    first = Status(last_commands=(record("mark-success", "Pending"), record("reset", "Done")))
    second = Status(last_commands=(record("mark-success", "Done"), record("reset", "Done")))
    assert [event[1] for event in told(pending, first)] == ["reset: all bookkeeping is forgotten."]
    assert [event[1].split(":")[0] for event in told(first, second)] == ["mark-success"]


def test_a_mark_tells_of_no_run() -> None:
    """It changes the books, nothing ran."""
    before = Status(history=(entry(Result.FAILED),), error_count=1, state=State.RETRYING)
    assert told(before, bookkeeping.mark_success(before, at("10:00"), None)) == []


# --- What can't start, what was made by hand ------------------------------------------------------------


def caught_up(reason: str, message: str = "why") -> Status:
    """Build a status with this condition CaughtUp."""
    return Status(
        conditions=(
            Condition(
                type="CaughtUp",
                status="False",
                reason=reason,
                message=message,
                last_transition_time=at("10:00"),
            ),
        )
    )


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (caught_up("Running"), caught_up(bookkeeping.CANNOT_START), [("CannotStart", "why", True)]),
        (Status(), caught_up(bookkeeping.CANNOT_START), [("CannotStart", "why", True)]),
        (caught_up(bookkeeping.CANNOT_START), caught_up(bookkeeping.CANNOT_START, "more"), []),
        (caught_up(bookkeeping.CANNOT_START), caught_up("Running"), []),
    ],
)
def test_a_run_that_cannot_start_is_told_once(before: Status, after: Status, events: list[Any]) -> None:
    """When it becomes known, whatever the kubelet says later."""
    assert told(before, after) == events


def test_a_run_made_by_hand_that_failed_is_told_by_its_job() -> None:
    """No books tell of it; in a line, whatever was raised."""
    scene = Scene(frequency="1h")
    run = scene.failed(scene.manual("10:00", released=True), "10:01")
    attempt = replace(failure("10:01"), value="no\nmore.")
    assert run_now_failed(run, attempt) == Telling(
        "RunNowFailed", f"Job {run.name}, made by hand, failed: ValueError: no.", warning=True
    )
