"""The books: how a status changes when something happened, and what it then says to people.

Every function takes a status and gives the next one; nothing is written here and no clock is read.
`report()` derives all that is only for the reader (state, conditions, missed, next run) from the rest,
so that a status can never contradict itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crontabber_operator.models import (
    HISTORY_LENGTH,
    Condition,
    Disregarded,
    HistoryEntry,
    LastError,
    Result,
    Retry,
    State,
    Status,
)
from crontabber_operator.observed import Attempt, Job

SECOND = timedelta(seconds=1)
MESSAGE_MAX_CHARACTERS = 1000


# --- What is due ----------------------------------------------------------------------------------------


def cursor(job: Job, status: Status) -> datetime:
    """Every slot at or before this needs no run. Nothing runs for slots before the resource was made."""
    if status.settled_through is not None:
        return status.settled_through
    if job.spec.backfill and job.spec.backfill_since is not None:
        return job.spec.backfill_since - SECOND
    return job.created


def failing_slot(job: Job, status: Status) -> datetime | None:
    """The slot whose last attempt failed and that has to succeed before any later one."""
    error = status.last_error
    if error is None or status.error_count == 0 or error.slot is None or error.slot <= cursor(job, status):
        return None
    return error.slot


def head(job: Job, status: Status, now: datetime) -> datetime | None:
    """The slot to run next, if one is due.

    With backfill the oldest missed slot. Without it the missed slots collapse into the newest one;
    but a slot that failed stays first until it succeeds, as Kubernetes' own Forbid does it.
    """
    settled = cursor(job, status)
    failing = failing_slot(job, status)
    if failing is not None and failing <= now:
        return failing
    if job.spec.backfill:
        oldest = job.spec.slots.next_after(settled)
        return oldest if oldest is not None and oldest <= now else None
    newest = job.spec.slots.newest_until(now)
    return newest if newest is not None and newest > settled else None


def missed(job: Job, status: Status, now: datetime) -> int:
    """How many slots are due and did not succeed yet, those of an ongoing run included.

    While a job without backfill is suspended, none are: on resuming it starts afresh.
    """
    if job.spec.suspend and not job.spec.backfill:
        return 0
    return job.spec.slots.count(cursor(job, status), now)


# --- What happened --------------------------------------------------------------------------------------


def record_success(
    job: Job, status: Status, *, slot: datetime, through: datetime, entry: HistoryEntry, started: datetime
) -> Status:
    """Count a run that succeeded: the cursor moves on and the error state is cleared.

    The last success is the newest slot with backfill, otherwise the time the run started
    (the original crontabber's rule); it never moves back.
    """
    success = through if job.spec.backfill else started
    if status.last_success_time is not None:
        success = max(success, status.last_success_time)
    return replace(
        status,
        last_success_time=success,
        settled_through=max(through, cursor(job, status)),
        error_count=0,
        last_error=None,
        retry=None,
        ongoing=None,
        history=(entry, *status.history)[:HISTORY_LENGTH],
    )


def record_failure(  # noqa: PLR0913 - each is a fact of one attempt
    job: Job, status: Status, *, slot: datetime, entry: HistoryEntry, attempt: Attempt, of: str, at: datetime
) -> Status:
    """Count a failed attempt. `of` is the template it ran with, `at` the time it ended.

    A run that got lost is not the command's failure: it doesn't use up the retries.
    """
    before = status.retry.failures if status.retry is not None and status.retry.of == of else 0
    failures = before + (0 if attempt.result is Result.LOST else 1)
    return replace(
        status,
        error_count=status.error_count + 1,
        last_error=LastError(
            type=attempt.type,
            value=attempt.value,
            traceback=attempt.traceback,
            slot=slot,
            time=at,
            job=entry.job,
        ),
        retry=Retry(of=of, failures=failures, not_before=at + delay(job, max(1, failures))),
        ongoing=None,
        history=(entry, *status.history)[:HISTORY_LENGTH],
    )


def delay(job: Job, failures: int) -> timedelta:
    """How long to wait after so many failures: doubling, up to the maximum."""
    first, most = job.spec.effective_retry_delay_seconds, job.spec.effective_retry_max_delay_seconds
    doublings = min(failures - 1, 32)
    return timedelta(seconds=min(first * 2**doublings, most))


def skip_through(status: Status, through: datetime, count: int) -> Status:
    """Settle `count` slots that will not run."""
    return replace(status, settled_through=through, skipped=status.skipped + count)


def retries_exhausted(job: Job, status: Status, of: str) -> bool:
    """No further attempt until somebody marks, resets or changes the job."""
    limit, retry = job.spec.retry_limit, status.retry
    return limit is not None and retry is not None and retry.of == of and retry.failures > limit


def retry_at(status: Status, of: str) -> datetime | None:
    """The time before which the failed slot is not tried again; None: at once, the job was changed."""
    return status.retry.not_before if status.retry is not None and status.retry.of == of else None


# --- What a person did ----------------------------------------------------------------------------------


def mark_success(status: Status, time: datetime, disregarded: Disregarded | None) -> Status:
    """Set the last success; a time in the past makes the slots since then missed."""
    return replace(
        status,
        last_success_time=time,
        settled_through=time,
        error_count=0,
        last_error=None,
        retry=None,
        ongoing=None,
        disregarded=disregarded,
    )


def reset(status: Status, now: datetime, disregarded: Disregarded | None) -> Status:
    """Forget everything, as if it had never run; earlier slots are not run."""
    return Status(
        settled_through=now,
        disregarded=disregarded,
        last_commands=status.last_commands,
        conditions=status.conditions,
        observed_generation=status.observed_generation,
        schedule=status.schedule,
        state=status.state,
    )


# --- What it says to people -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Situation:
    """What `decide()` found out and the status alone doesn't show."""

    waiting_for: str | None = None
    """Why the due slot is not started (a dependency, a group, a person)."""
    exhausted: bool = False
    not_ready: tuple[str, str] | None = None
    """Reason and message of `Ready=False`, for what the operator can't do just now."""
    stalled: bool = False


def report(job: Job, status: Status, situation: Situation, *, of: str, now: datetime) -> Status:
    """Derive state, conditions, `missed` and `nextRunTime` as of `now`."""
    count = missed(job, status, now)
    status = replace(
        status,
        observed_generation=job.generation,
        schedule=job.spec.schedule_text,
        missed=count,
        next_run_time=_next_run(job, status, situation, of, now),
        state=_state(job, status, situation, count),
    )
    return replace(status, conditions=_conditions(job, status, situation, count, of, now))


def invalid(status: Status, generation: int, sentences: tuple[str, ...], now: datetime) -> Status:
    """The spec can't be carried out; the bookkeeping is kept for the day it can."""
    message = " ".join(sentences)[:MESSAGE_MAX_CHARACTERS]
    return replace(
        status,
        observed_generation=generation,
        state=State.INVALID,
        next_run_time=None,
        conditions=_merge(
            status.conditions,
            generation,
            now,
            ("Ready", "False", "Invalid", message),
            ("Stalled", "True", "Invalid", message),
        ),
    )


def _next_run(job: Job, status: Status, situation: Situation, of: str, now: datetime) -> datetime | None:
    if job.spec.suspend or situation.exhausted:
        return None
    if status.ongoing is not None:
        settled = replace(status, settled_through=status.ongoing.through, error_count=0)
        return head(job, settled, now) or job.spec.slots.next_after(max(now, status.ongoing.through))
    due = head(job, status, now)
    if due is None:
        return job.spec.slots.next_after(now)
    if due == failing_slot(job, status):
        return retry_at(status, of) or due
    return due


def _state(job: Job, status: Status, situation: Situation, count: int) -> State:
    if situation.stalled:
        return State.INVALID
    if job.spec.suspend:
        return State.SUSPENDED
    if situation.exhausted:
        return State.RETRIES_EXHAUSTED
    if status.error_count:
        return State.RETRYING
    if job.spec.backfill and (count > 1 or (count and status.state is State.CATCHING_UP)):
        return State.CATCHING_UP
    if status.ongoing is not None:
        return State.RUNNING
    return State.WAITING


def _conditions(  # noqa: PLR0913 - each is a fact of the report
    job: Job, status: Status, situation: Situation, count: int, of: str, now: datetime
) -> tuple[Condition, ...]:
    if situation.not_ready is not None:
        ready = ("Ready", "False", *situation.not_ready)
    else:
        ready = ("Ready", "True", "Scheduled", f"Accepted and scheduled: {job.spec.schedule_text}.")
    stalled = (
        ("Stalled", "True", *situation.not_ready)
        if situation.stalled and situation.not_ready is not None
        else ("Stalled", "False", "Accepted", "Nothing in the spec needs a person.")
    )
    return _merge(
        status.conditions,
        job.generation,
        now,
        ready,
        _last_run(status),
        _caught_up(job, status, situation, count, of),
        stalled,
    )


def _last_run(status: Status) -> tuple[str, str, str, str]:
    kind = "LastRunSucceeded"
    if status.error_count and status.last_error is not None:
        error = status.last_error
        what = ": ".join(part for part in (error.type, error.value.strip().split("\n", 1)[0]) if part)
        return kind, "False", "Failed", f"{status.error_count} failed in a row; the last one: {what}"
    if status.last_success_time is None:
        return kind, "Unknown", "NeverRun", "No run has succeeded yet."
    if status.history and status.history[0].result is Result.SUCCEEDED:
        return (
            kind,
            "True",
            "Succeeded",
            f"The run of slot {status.history[0].slot:%Y-%m-%dT%H:%MZ} succeeded.",
        )
    return kind, "True", "Marked", f"Marked as succeeded at {status.last_success_time:%Y-%m-%dT%H:%MZ}."


def _caught_up(
    job: Job, status: Status, situation: Situation, count: int, of: str
) -> tuple[str, str, str, str]:
    kind = "CaughtUp"
    if count == 0:
        return kind, "True", "NothingMissed", "Every slot that was due is settled."
    slots = f"{count} slot{'s are' if count > 1 else ' is'} due"
    if situation.exhausted:
        return (
            kind,
            "False",
            "RetriesExhausted",
            (
                f"{slots}; the retries are used up. Mend the command or the spec, or run "
                f"'kubectl annotate ctj {job.name} crontabber.dev/mark-success=now' to go on without the failed slot."
            ),
        )
    if job.spec.suspend:
        return kind, "False", "Suspended", f"{slots}; set spec.suspend to false to run them."
    if status.ongoing is not None and situation.waiting_for is None:
        return kind, "False", "Running", f"{slots}; slot {status.ongoing.slot:%Y-%m-%dT%H:%MZ} is running."
    at = retry_at(status, of)
    if status.error_count and at is not None and status.ongoing is None:
        return kind, "False", "Retrying", f"{slots}; the next attempt is at {at:%Y-%m-%dT%H:%M:%SZ}."
    if situation.waiting_for is not None:
        return kind, "False", "Waiting", f"{slots}; {situation.waiting_for}"
    return kind, "False", "Starting", f"{slots}; the oldest is about to start."


def _merge(
    existing: tuple[Condition, ...], generation: int, now: datetime, *wanted: tuple[str, str, str, str]
) -> tuple[Condition, ...]:
    """Set the wanted conditions; a transition time changes only where the status does, others are kept."""
    known = {condition.type: condition for condition in existing}
    for kind, status, reason, message in wanted:
        before = known.get(kind)
        known[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            observed_generation=generation,
            last_transition_time=(
                before.last_transition_time
                if before is not None and before.status == status
                else now.replace(microsecond=0)
            ),
        )
    return tuple(known.values())
