"""Which Events a change of the status is worth: what a person on call would want to have seen.

Pure: `changes()` compares two statuses. Events are told after the status was written; recorder.py sends
and aggregates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crontabber_operator.bookkeeping import CANNOT_START, failure_message, says_cannot_start
from crontabber_operator.commands import PENDING, REFUSED
from crontabber_operator.models import Condition, ConditionType, Result, State, Status, format_time
from crontabber_operator.observed import Attempt, Run

MANY_SLOTS = 1000
"""So many slots about to be caught up without a limit are worth a warning."""


@dataclass(frozen=True, slots=True)
class Telling:
    """One Event."""

    reason: str
    message: str
    warning: bool = False


def changes(before: Status, after: Status) -> Iterator[Telling]:
    """Yield what became true between two statuses of a resource."""
    yield from _acceptance(before, after)
    yield from _commands(before, after)
    yield from _runs(before, after)
    yield from _starts(before, after)
    yield from _backlog(before, after)


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


def run_now_failed(run: Run, attempt: Attempt) -> Telling:
    """Return the Event on a run that was made by hand and failed: nothing else tells of it."""
    message = f"Job {run.name}, made by hand, failed: {failure_message(attempt).rstrip('.')}."
    return Telling("RunNowFailed", message, warning=True)


_REASONS = {
    Result.TIMED_OUT: "RunTimedOut",
    Result.OUT_OF_MEMORY: "RunOutOfMemory",
    Result.EVICTED: "RunEvicted",
    Result.LOST: "RunLost",
}


def _backlog(before: Status, after: Status) -> Iterator[Telling]:
    if after.skipped > before.skipped:
        count = after.skipped - before.skipped
        were = "slots were" if count > 1 else "slot was"
        yield Telling("SlotsSkipped", f"{count} {were} skipped.", warning=True)
    if after.missed > 1 >= before.missed:
        yield Telling("SlotsMissed", f"{after.missed} slots are due.")
    if _many_to_catch_up(after) and not _many_to_catch_up(before):
        message = f"{after.missed} slots are about to be caught up; spec.backfillLimit would limit them."
        yield Telling("ManySlotsMissed", message, warning=True)
    if after.state is State.CATCHING_UP and before.state is not State.CATCHING_UP:
        yield Telling("CatchingUp", f"Catching up {after.missed} slots, oldest first.")
    if before.state is State.CATCHING_UP and after.missed == 0:
        yield Telling("CaughtUp", "Every slot that was due is settled.")


def _many_to_catch_up(status: Status) -> bool:
    return status.state is State.CATCHING_UP and status.missed > MANY_SLOTS
