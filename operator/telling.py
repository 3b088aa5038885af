"""Which Events a change of the status is worth: what a person on call would want to have seen.

Pure: `changes()` compares two statuses. Events are told after the status was written; recorder.py sends
and aggregates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from crontabber_operator.bookkeeping import CANNOT_START, says_cannot_start
from crontabber_operator.commands import PENDING, REFUSED
from crontabber_operator.models import (
    Condition,
    ConditionType,
    Result,
    SkippedBy,
    Spec,
    State,
    Status,
    failure_message,
)
from crontabber_operator.observed import Attempt, Run
from crontabber_operator.times import format_time

LATE = timedelta(minutes=5)
"""A slot that starts so long after its time was missed, as a person on call sees it."""
MANY_SLOTS = 1000
"""So many slots about to be caught up without a limit are worth a warning."""


@dataclass(frozen=True, slots=True)
class Telling:
    """One Event."""

    reason: str
    message: str
    warning: bool = False


def changes(before: Status, after: Status, spec: Spec | None) -> Iterator[Telling]:
    """Yield what became true between two statuses of a resource; `spec` is None where it is invalid."""
    yield from _acceptance(before, after)
    yield from _commands(before, after)
    yield from _runs(before, after)
    yield from _starts(before, after)
    yield from _backlog(before, after, spec)


def _acceptance(before: Status, after: Status) -> Iterator[Telling]:
    old, new = before.condition(ConditionType.READY), after.condition(ConditionType.READY)
    if new is None or _same(old, new):
        return
    if new.status == "False":
        yield Telling(new.reason, new.message, warning=True)
    elif old is not None and old.status == "False":
        yield Telling("Accepted", new.message)


def _same(old: Condition | None, new: Condition) -> bool:
    return old is not None and (old.status, old.reason, old.message) == (new.status, new.reason, new.message)


def _commands(before: Status, after: Status) -> Iterator[Telling]:
    pending = {(record.id, record.name) for record in before.last_commands if record.result == PENDING}
    for record in after.last_commands:
        if (record.id, record.name) not in pending or record.result == PENDING:
            continue
        if record.result.startswith(REFUSED):
            yield Telling("CommandRefused", record.result.removeprefix(f"{REFUSED}: "), warning=True)
        else:
            given = f"{record.name}={record.value}" if record.value else record.name
            yield Telling("CommandDone", f"{given}: {_effect(record.name, after)}")


def _effect(name: str, after: Status) -> str:
    if name == "mark-success" and after.last_success_time is not None:
        return f"last success is {format_time(after.last_success_time)}."
    if name == "reset":
        return "all bookkeeping is forgotten."
    return "a Job was made."


def _runs(before: Status, after: Status) -> Iterator[Telling]:
    known = before.history
    for entry in reversed([entry for entry in after.history if entry not in known]):
        slot = format_time(entry.slot)
        if entry.result is Result.SUCCEEDED:
            if before.error_count:
                yield Telling("Recovered", f"The run of slot {slot} succeeded at attempt {entry.attempt}.")
            continue
        retry = ""
        if after.retry is not None and after.retry.not_before is not None and after.state is State.RETRYING:
            retry = f" Next attempt at {format_time(after.retry.not_before)}."
        message = entry.message.rstrip(".")
        yield Telling(
            _REASONS.get(entry.result, "RunFailed"),
            f"Attempt {entry.attempt} at slot {slot} (Job {entry.job}) failed: {message}.{retry}",
            warning=True,
        )
    if after.state is State.RETRIES_EXHAUSTED and before.state is not State.RETRIES_EXHAUSTED:
        condition = after.condition(ConditionType.CAUGHT_UP)
        yield Telling("RetriesExhausted", condition.message if condition is not None else "", warning=True)


def _starts(before: Status, after: Status) -> Iterator[Telling]:
    if says_cannot_start(after) and not says_cannot_start(before):
        condition = after.condition(ConditionType.CAUGHT_UP)
        yield Telling(CANNOT_START, condition.message if condition is not None else "", warning=True)


def too_large() -> Telling:
    """Return the Event on a resource whose status can't be written: no condition can say so."""
    message = "There is no room in the resource for its status, so nothing can run: shorten spec.args or spec.template."
    return Telling("TooLarge", message, warning=True)


def run_now_failed(run: Run, attempt: Attempt) -> Telling:
    """Return the Event on a run that was made by hand and failed: nothing else tells of it."""
    message = (
        f"Job {run.name}, made by hand, failed: {failure_message(attempt.type, attempt.value).rstrip('.')}."
    )
    return Telling("RunNowFailed", message, warning=True)


_REASONS = {
    Result.TIMED_OUT: "RunTimedOut",
    Result.OUT_OF_MEMORY: "RunOutOfMemory",
    Result.EVICTED: "RunEvicted",
    Result.LOST: "RunLost",
}


def _backlog(before: Status, after: Status, spec: Spec | None) -> Iterator[Telling]:
    yield from _skipped(before.skipped_by or SkippedBy(), after.skipped_by or SkippedBy())
    if after.missed > 1 >= before.missed:
        yield Telling("SlotsMissed", f"{after.missed} slots are due.")
    elif _starts_late(before, after):
        yield Telling("SlotsMissed", "A slot was missed at its time; its run starts late.")
    if _many_to_catch_up(after, spec) and not _many_to_catch_up(before, spec):
        message = f"{after.missed} slots are about to be caught up; spec.backfillLimit would limit them."
        yield Telling("ManySlotsMissed", message, warning=True)
    if after.state is State.CATCHING_UP and before.state is not State.CATCHING_UP:
        yield Telling("CatchingUp", f"Catching up {after.missed} slots, oldest first.")
    if before.state is State.CATCHING_UP and after.missed == 0:
        yield Telling("CaughtUp", "Every slot that was due is settled.")


def _skipped(before: SkippedBy, after: SkippedBy) -> Iterator[Telling]:
    for field, why in _SKIPPED.items():
        count = getattr(after, field) - getattr(before, field)
        if count > 0:
            slots = "1 slot was" if count == 1 else f"{count} slots were"
            yield Telling("SlotsSkipped", f"{slots} skipped: {why}.", warning=True)


_SKIPPED = {
    "backfill_limit": "more were missed than spec.backfillLimit allows",
    "starting_deadline": "it was too late to start, by spec.startingDeadlineSeconds",
    "retry_limit": "the attempts used up spec.retryLimit, so Kubernetes gave up",
}
"""By the fields of SkippedBy."""


def _starts_late(before: Status, after: Status) -> bool:
    """Tell whether the first attempt at a slot starts long after its time; a longer backlog is told otherwise."""
    claim, known = after.ongoing, before.ongoing
    if claim is None or claim.since is None or claim.attempt > 1 or before.missed > 1 or after.missed > 1:
        return False
    return (known is None or known.uid != claim.uid) and claim.since - claim.slot > LATE


def _many_to_catch_up(status: Status, spec: Spec | None) -> bool:
    if spec is None or not spec.backfill or spec.backfill_limit is not None or spec.suspend:
        return False
    return status.state is not State.SUSPENDED and status.missed > MANY_SLOTS
