"""The books: how a status changes when something happened, and what it then says to people.

Every function takes a status and gives the next one; nothing is written here and no clock is read.
`report()` derives all that is only for the reader (state, conditions, missed, next run) from the rest,
so that a status can never contradict itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from crontabber_operator.models import (
    HISTORY_LENGTH,
    Condition,
    ConditionType,
    Disregarded,
    HistoryEntry,
    LastError,
    Ongoing,
    Result,
    Retry,
    SkippedBy,
    State,
    Status,
    failure_message,
)
from crontabber_operator.observed import SECOND, Attempt, Hold, Job, Observed, Run, RunKind, View

MESSAGE_MAX_CHARACTERS = 1000
CANNOT_START = "CannotStart"
"""The reason of `CaughtUp=False` while the pod of the run that goes on waits for what is not to be had."""


# --- What is due ----------------------------------------------------------------------------------------


def cursor(job: Job, status: Status) -> datetime:
    """Every slot at or before this needs no run. Nothing runs for slots before the resource was made."""
    if status.settled_through is not None:
        return status.settled_through
    if job.spec.backfill and job.spec.backfill_since is not None:
        return job.spec.backfill_since - SECOND
    return job.created


def failing_slot(view: View, status: Status) -> datetime | None:
    """Return the slot whose last attempt failed and that has to succeed before any later one.

    A slot that the schedule lost in an edit is not tried again.
    """
    error = status.last_error
    if error is None or not status.error_count or error.slot is None:
        return None
    if error.slot <= cursor(view.job, status) or not view.is_slot(error.slot):
        return None
    return error.slot


def head(view: View, status: Status) -> datetime | None:
    """Return the slot to run next, if one is due.

    With backfill the oldest missed slot. Without it the missed slots collapse into the newest one;
    but a slot that failed stays first until it succeeds, as Kubernetes' own Forbid does it.
    """
    settled = cursor(view.job, status)
    if view.newest is None or view.newest <= settled:
        return None
    if not view.spec.backfill:
        return failing_slot(view, status) or view.newest
    oldest = view.spec.slots.next_after(settled)
    return oldest if oldest is not None and oldest <= view.now else None


def after_claim(job: Job, status: Status, claim: Ongoing) -> Status:
    """Return the books as they are once the run that goes on has succeeded, as far as slots are concerned."""
    settled = max(claim.through, cursor(job, status))
    return replace(status, settled_through=settled, error_count=0, ongoing=None)


def missed(view: View, status: Status) -> int:
    """Count the slots that are due and did not succeed yet, those of an ongoing run included.

    While a job without backfill is suspended, none are: on resuming it starts afresh.
    """
    settled = cursor(view.job, status)
    if view.newest is None or view.newest <= settled or (view.spec.suspend and not view.spec.backfill):
        return 0
    return view.spec.slots.count(settled, view.now)


# --- What happened --------------------------------------------------------------------------------------


def record_success(job: Job, status: Status, entry: HistoryEntry, *, through: datetime) -> Status:
    """Count a run that succeeded, for its slot and those up to `through`: the error state is cleared.

    The last success is the newest slot with backfill, otherwise the time the run started
    (the original crontabber's rule); it never moves back.
    """
    success = through if job.spec.backfill else entry.started or entry.slot
    return replace(
        settle_success(job, status, through, success=success),
        ongoing=None,
        history=(entry, *status.history)[:HISTORY_LENGTH],
    )


def settle_success(job: Job, status: Status, through: datetime, *, success: datetime | None = None) -> Status:
    """Count the slots up to `through` as succeeded; `success`: when, where that is not the slot itself."""
    success = success or through
    if status.last_success_time is not None:
        success = max(success, status.last_success_time)
    return replace(
        status,
        last_success_time=success,
        settled_through=max(through, cursor(job, status)),
        error_count=0,
        last_error=None,
        retry=None,
    )


def record_failure(
    job: Job, status: Status, entry: HistoryEntry, attempt: Attempt, *, of: str, at: datetime
) -> Status:
    """Count a failed attempt. `of` is the template it ran with, `at` the time it ended.

    A run that got lost or was evicted is not the command's failure: it doesn't use up the retries.
    """
    before = status.retry.failures if status.retry is not None and status.retry.of == of else 0
    failures = before + (0 if attempt.result in (Result.LOST, Result.EVICTED) else 1)
    return replace(
        status,
        error_count=status.error_count + 1,
        last_error=LastError(
            type=attempt.type,
            # Many show it alone: an exception without a message would leave it blank.
            value=attempt.value if attempt.value.strip() else attempt.type,
            traceback=attempt.traceback,
            slot=entry.slot,
            time=at,
            job=entry.job,
        ),
        retry=Retry(of=of, failures=failures, not_before=at + delay(job, max(1, failures))),
        ongoing=None,
        history=(entry, *status.history)[:HISTORY_LENGTH],
    )


def record_vanished(view: View, status: Status, claim: Ongoing) -> Status:
    """Drop the claim of a run that is no more; unless the operator itself removed it, it counts as lost."""
    if claim.uid in view.seen.replaced:
        return replace(status, ongoing=None)
    attempt = Attempt(
        Result.LOST, "Lost", f"Job {claim.job} vanished before it ended; its slot runs again.", "", None, None
    )
    entry = HistoryEntry(
        slot=claim.slot,
        job=claim.job,
        attempt=claim.attempt,
        started=claim.since,
        result=Result.LOST,
        message="The Job vanished before it ended.",
    )
    return record_failure(view.job, status, entry, attempt, of=view.of, at=view.now.replace(microsecond=0))


def success_entry(run: Run, number: int, started: datetime, finished: datetime) -> HistoryEntry:
    """Write down a run that succeeded."""
    return HistoryEntry(
        slot=run.slot,
        job=run.name,
        attempt=number,
        started=started,
        finished=finished,
        seconds=_seconds(started, finished),
        result=Result.SUCCEEDED,
    )


def failure_entry(
    run: Run, number: int, attempt: Attempt, started: datetime, finished: datetime
) -> HistoryEntry:
    """Write down an attempt that failed."""
    return HistoryEntry(
        slot=run.slot,
        job=run.name,
        attempt=number,
        started=started,
        finished=finished,
        seconds=_seconds(started, finished),
        result=attempt.result,
        message=failure_message(attempt.type, attempt.value),
    )


def new_entries(before: Status, after: Status) -> list[HistoryEntry]:
    """Return the entries of the history that came with a change of the status, newest first."""
    return [entry for entry in after.history if entry not in before.history]


def _seconds(started: datetime, finished: datetime) -> float:
    return max(0.0, (finished - started).total_seconds())


def failed_unseen(run: Run) -> Attempt:
    """Say what can be said about a failure that no pod is left of."""
    if run.reason == "DeadlineExceeded":
        return Attempt(
            Result.TIMED_OUT, "DeadlineExceeded", "It ran longer than activeDeadlineSeconds.", "", None, None
        )
    return Attempt(
        Result.FAILED, run.reason or "Failed", "The run failed and left no pod to say why.", "", None, None
    )


def delay(job: Job, failures: int) -> timedelta:
    """How long to wait after so many failures: doubling, up to the maximum."""
    first, most = job.spec.effective_retry_delay_seconds, job.spec.effective_retry_max_delay_seconds
    doublings = min(failures - 1, 32)
    return timedelta(seconds=min(first * 2**doublings, most))


class Skip(StrEnum):
    """Why slots are skipped: fields of SkippedBy."""

    BACKFILL_LIMIT = "backfill_limit"
    STARTING_DEADLINE = "starting_deadline"
    RETRY_LIMIT = "retry_limit"


def skip_through(status: Status, through: datetime, count: int, why: Skip) -> Status:
    """Settle `count` slots that will not run."""
    by = status.skipped_by or SkippedBy()
    by = replace(by, **{why.value: getattr(by, why.value) + count})
    return replace(status, settled_through=through, skipped=status.skipped + count, skipped_by=by)


def skip_late(view: View, status: Status, now: datetime) -> Status:
    """Settle the slots that startingDeadlineSeconds rules out at `now`; a failing one did start."""
    deadline = view.spec.starting_deadline_seconds
    if deadline is None or view.spec.suspend or failing_slot(view, status) is not None:
        return status
    settled = cursor(view.job, status)
    late = view.spec.slots.newest_until(now - timedelta(seconds=deadline))
    if late is None or late <= settled:
        return status
    return skip_through(status, late, view.spec.slots.count(settled, late), Skip.STARTING_DEADLINE)


def skip_surplus(view: View, status: Status) -> Status:
    """Settle the oldest missed slots where there are more than backfillLimit; a failing one did start."""
    limit = view.spec.backfill_limit
    if limit is None or not view.spec.backfill or view.spec.suspend or failing_slot(view, status) is not None:
        return status
    surplus = view.spec.slots.count(cursor(view.job, status), view.now) - limit
    last = view.spec.slots.nth_newest_until(view.now, limit + 1) if surplus > 0 else None
    return skip_through(status, last, surplus, Skip.BACKFILL_LIMIT) if last is not None else status


def late_at(view: View, due: datetime) -> datetime | None:
    """Return when a slot that can't start yet is skipped by startingDeadlineSeconds."""
    deadline = view.spec.starting_deadline_seconds
    return due + timedelta(seconds=deadline) if deadline is not None else None


def retries_exhausted(view: View, status: Status) -> bool:
    """No further attempt until somebody marks, resets or changes the job."""
    limit, retry = view.spec.retry_limit, status.retry
    return (
        limit is not None
        and retry is not None
        and retry.of == view.of
        and retry.failures > limit
        and failing_slot(view, status) is not None
    )


def retry_at(view: View, status: Status) -> datetime | None:
    """Return the time before which the failed slot is not tried again; None: at once, the job was changed."""
    return status.retry.not_before if status.retry is not None and status.retry.of == view.of else None


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


def disregard(seen: Observed) -> Disregarded | None:
    """What must not count after a mark or a reset: everything that exists now."""
    jobs = tuple(sorted(run.uid for run in seen.runs if run.kind is RunKind.NATIVE))
    successful_time = seen.cronjob.last_successful if seen.cronjob is not None else None
    if not jobs and successful_time is None:
        return None
    return Disregarded(jobs=jobs, successful_time=successful_time)


def settle_edits(view: View, status: Status) -> Status:
    """Without backfill, the slots before a changed schedule or a resumption was seen are settled.

    Once for each edit: the same write sets `observedGeneration`.
    """
    told, spec, live = view.job.status, view.spec, view.seen.cronjob
    if spec.backfill or spec.suspend or told.observed_generation in (None, view.job.generation):
        return status
    resumed = told.state is State.SUSPENDED or (live is not None and live.suspended)
    rescheduled = told.schedule != spec.schedule_text or (
        live is not None and view.desired is not None and live.schedule != view.desired.schedule
    )
    if not (resumed or rescheduled):
        return status
    return replace(status, settled_through=max(cursor(view.job, status), view.now.replace(microsecond=0)))


# --- What it says to people -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Situation:
    """What `decide()` found out and the status alone doesn't show."""

    waiting_for: Hold | None = None
    """Why the due slot is not started (a dependency, a group, a person)."""
    cannot_start: str | None = None
    """Why the pod of the run that goes on can't start."""
    exhausted: bool = False
    not_ready: tuple[str, str] | None = None
    """Reason and message of `Ready=False`, for what the operator can't do just now."""
    stalled: bool = False


def report(view: View, status: Status, situation: Situation, *, now: datetime) -> Status:
    """Derive state, conditions, `missed` and `nextRunTime` as of the view; conditions change at `now`."""
    count = missed(view, status)
    return _changed(
        status,
        observed_generation=view.job.generation,
        schedule=view.spec.schedule_text,
        missed=count,
        next_run_time=_next_run(view, status, situation),
        state=_state(view, status, situation, count),
        conditions=_merge(
            status.conditions, view.job.generation, now, _wanted(view, status, situation, count)
        ),
    )


def only_counts_more(before: Status, after: Status) -> bool:
    """Tell whether a status says no more than that further slots fell due: what needs no hurry."""
    counted = replace(
        before,
        missed=after.missed,
        next_run_time=after.next_run_time,
        state=after.state,
        conditions=after.conditions,
    )
    others = [
        [one for one in status.conditions if one.type != ConditionType.CAUGHT_UP]
        for status in (before, after)
    ]
    return after.missed > before.missed and counted == after and others[0] == others[1]


def says_cannot_start(status: Status) -> bool:
    """Whether a status says that the pod of the run that goes on can't start."""
    condition = status.condition(ConditionType.CAUGHT_UP)
    return condition is not None and condition.reason == CANNOT_START


def invalid(status: Status, generation: int, sentences: tuple[str, ...], now: datetime) -> Status:
    """The spec can't be carried out; the bookkeeping is kept for the day it can."""
    message = " ".join(sentences)[:MESSAGE_MAX_CHARACTERS]
    wanted = (("Ready", "False", "Invalid", message), ("Stalled", "True", "Invalid", message))
    return _changed(
        status,
        observed_generation=generation,
        state=State.INVALID,
        next_run_time=None,
        conditions=_merge(status.conditions, generation, now, wanted),
    )


def _changed(status: Status, **values: Any) -> Status:
    """Return the status itself where nothing changed: that is what most looks at most jobs find."""
    if all(getattr(status, name) == value for name, value in values.items()):
        return status
    return replace(status, **values)


def _next_run(view: View, status: Status, situation: Situation) -> datetime | None:
    if view.spec.suspend or situation.exhausted:
        return None
    if status.ongoing is not None:
        return head(view, after_claim(view.job, status, status.ongoing)) or view.spec.slots.next_after(
            max(view.now, status.ongoing.through)
        )
    due = head(view, status)
    if due is None:
        return view.upcoming
    if due == failing_slot(view, status):
        return retry_at(view, status) or due
    return due


def _state(view: View, status: Status, situation: Situation, count: int) -> State:
    if situation.stalled:
        return State.INVALID
    if view.spec.suspend:
        return State.SUSPENDED
    if situation.exhausted:
        return State.RETRIES_EXHAUSTED
    if _is_retrying(view, status):
        return State.RETRYING
    if view.spec.backfill and (count > 1 or (count and status.state is State.CATCHING_UP)):
        return State.CATCHING_UP
    if status.ongoing is not None:
        return State.RUNNING
    return State.WAITING


def _is_retrying(view: View, status: Status) -> bool:
    """A slot that failed runs again or will; one that was given up does not."""
    if not status.error_count or status.last_error is None:
        return False
    slot = status.ongoing.slot if status.ongoing is not None else failing_slot(view, status)
    return slot is not None and slot == status.last_error.slot


_Told = tuple[str, str, str, str]
"""A condition's type, status, reason and message."""


def _wanted(view: View, status: Status, situation: Situation, count: int) -> tuple[_Told, ...]:
    ready: _Told = ("Ready", "True", "Scheduled", f"Accepted and scheduled: {view.spec.schedule_text}.")
    stalled: _Told = ("Stalled", "False", "Accepted", "Nothing in the spec needs a person.")
    if situation.not_ready is not None:
        ready = ("Ready", "False", *situation.not_ready)
        if situation.stalled:
            stalled = ("Stalled", "True", *situation.not_ready)
    return ready, _last_run(status), _caught_up(view, status, situation, count), stalled


def _last_run(status: Status) -> _Told:
    kind = "LastRunSucceeded"
    if status.error_count and status.last_error is not None:
        what = status.last_error.message
        return kind, "False", "Failed", f"{status.error_count} failed in a row; the last one: {what}"
    if status.last_success_time is None:
        return kind, "Unknown", "NeverRun", "No run has succeeded yet."
    if status.history and status.history[0].result is Result.SUCCEEDED:
        slot = status.history[0].slot
        return kind, "True", "Succeeded", f"The run of slot {slot:%Y-%m-%dT%H:%MZ} succeeded."
    return kind, "True", "Marked", f"Marked as succeeded at {status.last_success_time:%Y-%m-%dT%H:%MZ}."


def _caught_up(view: View, status: Status, situation: Situation, count: int) -> _Told:
    kind = "CaughtUp"
    if count == 0:
        return kind, "True", "NothingMissed", "Every slot that was due is settled."
    reason, why = _why_not_caught_up(view, status, situation)
    return kind, "False", reason, f"{count} slot{'s are' if count > 1 else ' is'} due; {why}"


def _why_not_caught_up(view: View, status: Status, situation: Situation) -> tuple[str, str]:
    if situation.exhausted:
        return (
            "RetriesExhausted",
            (
                f"the retries are used up. Mend the command or the spec, or run 'kubectl annotate ctj"
                f" {view.job.name} crontabber.dev/mark-success=now' to go on without the failed slot."
            ),
        )
    if view.spec.suspend:
        return "Suspended", "set spec.suspend to false to run them."
    if situation.cannot_start is not None:
        return CANNOT_START, situation.cannot_start
    if status.ongoing is not None and situation.waiting_for is None:
        return "Running", f"slot {status.ongoing.slot:%Y-%m-%dT%H:%MZ} is running."
    if situation.waiting_for is not None:
        return situation.waiting_for.reason, situation.waiting_for.message
    at = retry_at(view, status)
    if status.ongoing is None and at is not None and _is_retrying(view, status):
        return "Retrying", f"the next attempt is at {at:%Y-%m-%dT%H:%M:%SZ}."
    return "Starting", "the oldest is about to start."


def _merge(
    existing: tuple[Condition, ...], generation: int, now: datetime, wanted: Iterable[_Told]
) -> tuple[Condition, ...]:
    """Set the wanted conditions; a transition time changes only where the status does, others are kept."""
    merged = {condition.type: condition for condition in existing}
    for kind, status, reason, message in wanted:
        before = merged.get(kind)
        if before is not None and (
            (before.status, before.reason, before.message, before.observed_generation)
            == (status, reason, message, generation)
        ):
            continue
        since = (
            before.last_transition_time
            if before is not None and before.status == status
            else now.replace(microsecond=0)
        )
        merged[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            observed_generation=generation,
            last_transition_time=since,
        )
    return tuple(merged.values())
