"""Care for what both kinds of job have: the CronJob, what people did by hand, Jobs no longer needed.

Pure; a part of `decide()`. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from crontabber_operator import bookkeeping
from crontabber_operator.decision import ApplyCronJob, MoveLastSchedule, Release, next_of
from crontabber_operator.manifests import native_name
from crontabber_operator.models import Result, Spec, Status
from crontabber_operator.observed import CronJobSeen, Desired, Hold, Run, RunKind, View
from crontabber_operator.schedule import Frequency

QUIET = timedelta(seconds=5)
"""No write to the CronJob so near to one of its slots: the controller could fire on a stale copy."""
KUEUE = "ManagedByKueue"
KEEP_FAILED = timedelta(minutes=10)
"""Failed attempts of a slot stay so long after the slot succeeded."""


def unseen_native(view: View, slot: datetime) -> str | None:
    """Return the name of the controller's Job of a slot; None where a Job of that name is seen, whosoever made it.

    Then there is no other, and nothing to look for.
    """
    name = native_name(view.job.name, slot)
    return None if any(run.name == name for run in view.seen.runs) else name


# --- The CronJob ----------------------------------------------------------------------------------------


def care_for_cronjob(
    view: View, books: Status
) -> tuple[ApplyCronJob | MoveLastSchedule | None, datetime | None]:
    """Keep the CronJob as the spec asks for it; say when to look again where a slot is too near."""
    live = view.seen.cronjob
    if live is None:
        return (ApplyCronJob() if view.desired is not None else None), None
    action = _mend(view, books, live)
    if action is None or (view.spec.suspend and not live.suspended):
        return action, None
    quiet_at = quiet_until(view, live)
    return (action, None) if quiet_at is None else (None, quiet_at)


def _mend(view: View, books: Status, live: CronJobSeen) -> ApplyCronJob | MoveLastSchedule | None:
    desired = view.desired
    if view.spec.suspend and not live.suspended:
        return ApplyCronJob(only_suspend=desired is None)
    if view.spec.is_plain and any(run.running and run.kind is RunKind.ONE_OFF for run in view.seen.runs):
        return None  # the controller would not know of it, and fire the next slot beside it
    starts_anew = (desired is not None and live.schedule != desired.schedule) or live.suspended
    if (view.spec.is_plain or starts_anew) and fires_settled(view, books):
        return MoveLastSchedule(to=grid_point(view, bookkeeping.cursor(view.job, books)))
    if desired is None:
        return None
    if not is_as_asked(view, live, desired):
        return ApplyCronJob()
    if is_rolling(view.spec) and not _on_grid(view.spec, live.last_schedule) and view.newest is not None:
        return MoveLastSchedule(to=view.newest)
    return None


def is_as_asked(view: View, live: CronJobSeen, desired: Desired) -> bool:
    """Tell whether nothing has to be written into the CronJob's spec."""
    return live.hash == desired.hash and not live.drifted and live.suspended == view.spec.suspend


def fires_settled(view: View, books: Status) -> bool:
    """Tell whether the controller, left alone, may fire a slot that the books have settled."""
    live = view.seen.cronjob
    if live is None or view.spec.suspend:
        return False
    cursor, settled = bookkeeping.cursor(view.job, books), view.newest
    if settled is None or settled > cursor or cursor > view.now:
        settled = view.spec.slots.newest_until(cursor)
    if settled is None:
        return False
    late_at = bookkeeping.late_at(view, settled)
    return fired_until(live) < settled and (late_at is None or view.now < late_at)


def grid_point(view: View, time: datetime) -> datetime:
    """Return where the controller may count from: any time, but for rolling frequencies a slot."""
    return (view.spec.slots.newest_until(time) or time) if is_rolling(view.spec) else time


def fired_until(live: CronJobSeen) -> datetime:
    """Return the time up to which the controller never looks at slots any more."""
    return live.last_schedule if live.last_schedule is not None else live.created


def is_rolling(spec: Spec) -> bool:
    """Tell whether the slots can't be written as cron text: the CronJob counts from its own last firing."""
    return isinstance(spec.slots, Frequency) and spec.slots.static_cron() is None


def _on_grid(spec: Spec, time: datetime | None) -> bool:
    return time is not None and spec.slots.newest_until(time) == time


def quiet_until(view: View, live: CronJobSeen) -> datetime | None:
    """Return when the slots of the CronJob, as it is and as it will be, are far enough; None: they are."""
    for slots in (live.slots, view.spec.slots):
        near = slots.next_after(view.now - QUIET) if slots is not None else None
        if near is not None and near - QUIET < view.now:
            return near + QUIET
    return None


# --- By hand --------------------------------------------------------------------------------------------


def release_by_hand(view: View, books: Status) -> tuple[Release, ...]:
    """Release the Jobs that a person made from the CronJob: at once, outside the bookkeeping."""
    return tuple(
        Release(
            run=run,
            slot=view.now.replace(microsecond=0),
            attempt=1,
            run_time=view.spec.written(view.now),
            last_success=view.spec.written(books.last_success_time),
        )
        for run in view.seen.runs
        if run.kind is RunKind.MANUAL
        and run.unfinished
        and run.suspended
        and not run.released
        and not run.deleting
        and not run.queue
    )


def suspended_by_hand(run: Run) -> Hold | None:
    """Tell that a run was suspended after it was released: it is never released again."""
    if not (run.running and run.suspended):
        return None
    if run.queue:
        return Hold(KUEUE, f"Job {run.name} waits until Kueue admits it: it is in its queue {run.queue}.")
    return Hold("SuspendedByHand", f"Job {run.name} was suspended by hand; resume it or delete it.")


def still_runs(run: Run) -> Hold:
    """Tell that a run has to end first."""
    if not run.by_hand:
        return Hold("Waiting", f"Job {run.name} still runs.")
    of_whom = f"Kueue's queue {run.queue}" if run.queue else "hand"
    return Hold(
        KUEUE if run.queue else "Waiting",
        f"Job {run.name} was started by {of_whom}, not told its slot, and settles nothing; it still runs.",
    )


def started_by_kueue(run: Run) -> Hold | None:
    """Tell that a run that the operator should start is Kueue's to start, so it is left alone.

    Kueue would stop it again, put its former pod template back, and start that when it admits it: without the
    run time.
    """
    if not run.queue:
        return None
    return Hold(
        KUEUE,
        f"Job {run.name} is in Kueue's queue {run.queue}, and Kueue starts Jobs without telling them their slot: "
        "only a plain job's Jobs can be queued. Queue its pods, or keep Kueue out of the namespace.",
    )


# --- Starting -------------------------------------------------------------------------------------------


def cannot_start(view: View, run: Run) -> str | None:
    """Tell why the pod of a run that was released can't start, as far as it is known."""
    why = view.seen.cannot_start.get(run.uid) if run.is_starting else None
    return f"the pod of Job {run.name} can't start: {why}" if why is not None else None


# --- Not needed any more --------------------------------------------------------------------------------


def needless_retries(view: View, books: Status) -> tuple[Run, ...]:
    """Find plain runs that Kubernetes would retry for nothing, between two of their attempts.

    Their slot is settled by now (marked, reset, edited), or the job became gated or has another template.
    """
    ignored = books.disregarded.jobs if books.disregarded is not None else ()
    claimed = books.ongoing.uid if books.ongoing is not None else None
    settled = bookkeeping.cursor(view.job, books)
    return tuple(
        run
        for run in view.seen.runs
        if run.between_attempts
        and (
            run.uid in ignored
            or (run.slot <= settled and (run.uid != claimed or view.is_outdated(run)))
            or (view.spec.is_gated and view.is_outdated(run))
        )
    )


def prune(view: View, books: Status) -> tuple[tuple[Run, ...], datetime | None]:
    """Return the finished runs that are not kept, and when there will be more of them.

    Only those whose outcome is in the status as it was written.
    """
    told = view.job.status
    if books.ongoing != told.ongoing or books.settled_through != told.settled_through:
        return (), None
    claimed = books.ongoing.uid if books.ongoing is not None else None
    finished = sorted(
        (
            run
            for run in view.seen.runs
            if run.finished is not None and run.uid != claimed and not run.deleting
        ),
        key=lambda run: (run.finished, run.name),
        reverse=True,
    )
    good = [run for run in finished if run.succeeded]
    bad = [run for run in finished if not run.succeeded]
    kept = bad[: view.spec.failed_jobs_history_limit]
    surplus = good[view.spec.successful_jobs_history_limit :] + bad[view.spec.failed_jobs_history_limit :]
    wake_at: datetime | None = None
    for run, gone_at in [(run, _needless_at(view, books, run, good)) for run in kept]:
        if gone_at is not None and gone_at <= view.now:
            surplus.append(run)
        else:
            wake_at = next_of(view.now, wake_at, gone_at)
    return tuple(surplus), wake_at


def _needless_at(view: View, books: Status, failed: Run, good: list[Run]) -> datetime | None:
    """Return when a failed attempt goes; None: it stays, its slot did not succeed yet or was given up."""
    if failed.kind is RunKind.MANUAL or failed.through > bookkeeping.cursor(view.job, books):
        return None
    healed = [run.finished for run in good if run.kind is not RunKind.MANUAL and run.slot == failed.slot]
    healed += [
        entry.finished
        for entry in books.history
        if entry.slot == failed.slot and entry.result is Result.SUCCEEDED
    ]
    if failed.attempt:
        # A gated job gives no slot up: it was marked, or the run that succeeded is pruned and forgotten.
        healed.append(failed.finished)
    healed_at = next((time for time in healed if time is not None), None)
    return healed_at + KEEP_FAILED if healed_at is not None else None
