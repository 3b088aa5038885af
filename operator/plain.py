"""Jobs that Kubernetes runs alone: the operator only watches, and keeps the books.

Each failed pod is a failed attempt. The one lever is the CronJob's `lastScheduleTime`: moved back to just
before a slot, it makes the controller fire that slot again.

Pure; a part of `decide()`. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping, gated, upkeep
from crontabber_operator.bookkeeping import Situation, Skip
from crontabber_operator.decision import Decision, MoveLastSchedule, next_of
from crontabber_operator.models import HISTORY_LENGTH, Disregarded, HistoryEntry, Ongoing, Result, Status
from crontabber_operator.observed import SECOND, Attempt, Evidence, Hold, Run, RunKind, View

NOT_FIRED = timedelta(seconds=30)
"""A run that the controller has not made so long after its slot, it could not make."""
FIRING_LAG = timedelta(seconds=10)
"""A run that the controller made is seen at the latest so long after its slot."""


# --- What happened --------------------------------------------------------------------------------------


def record(view: View, books: Status) -> tuple[Status, Decision | None]:
    """Read the native runs in slot order, one at a time; or say what must be asked first."""
    books, question = _record_runs(view, books)
    return _remember_successes(view, books), question


def _record_runs(view: View, books: Status) -> tuple[Status, Decision | None]:
    books, question = _record_claimed(view, books)
    if question is not None or books.ongoing is not None:
        return books, question
    for run in sorted(view.seen.runs, key=lambda run: run.slot):
        if not _counts(view, books, run):
            continue
        books, question = _record_run(view, books, run, counted=0)
        if question is not None or books.ongoing is not None:
            return books, question
    return _record_unseen(view, books) or (books, None)


def _counts(view: View, books: Status, run: Run) -> bool:
    ignored = books.disregarded.jobs if books.disregarded is not None else ()
    return (
        run.kind is RunKind.NATIVE
        and not run.attempt  # the operator released it while the job was gated, and recorded it
        and not run.by_hand  # a person did so, in the operator's place
        and run.uid not in ignored
        and (run.released or not run.suspended)
        and run.slot > bookkeeping.cursor(view.job, books)
    )


def _record_claimed(view: View, books: Status) -> tuple[Status, Decision | None]:
    claim = books.ongoing
    run = view.run(claim.uid) if claim is not None else None
    if claim is None:
        return books, None
    if run is not None and not run.attempt and not run.by_hand:
        return _record_run(view, books, run, counted=claim.attempt - 1)
    if run is None and claim.uid in view.seen.gone and claim.uid not in view.seen.replaced:
        recorded = _record_unseen(view, books)
        if recorded is not None:
            return recorded
    # It vanished, or it was released while the job was gated.
    return gated.record(view, books)


def _record_run(view: View, books: Status, run: Run, *, counted: int) -> tuple[Status, Decision | None]:
    """Record the attempts of a run, of which so many were counted before."""
    counted = max(counted, len(_recorded_failures(books, run)))
    new = max(0, run.failed_pods - counted)
    if run.failed and not run.failed_pods and not counted:
        new = 1  # it failed as a whole
    evidence = view.seen.evidence.get(run.uid)
    if evidence is None:
        if new or (run.succeeded and run.failed_pods):
            return books, Decision(inspect=(run,))
        evidence = Evidence()
    claim, started = books.ongoing, run.started or run.created
    books = replace(
        books,
        first_run_time=books.first_run_time or started,
        last_run_time=max(started, books.last_run_time or started),
    )
    newest = _new_failures(books, run, evidence, new)
    older = new - len(newest)
    books = replace(books, error_count=books.error_count + older)
    for number, attempt in enumerate(newest, start=counted + older + 1):
        at = attempt.finished or run.finished or view.now.replace(microsecond=0)
        entry = bookkeeping.failure_entry(run, number, attempt, attempt.started or started, at)
        of = f"{view.job.generation}/{run.template_hash}"
        books = bookkeeping.record_failure(view.job, books, entry, attempt, of=of, at=at)
    number = counted + new + 1
    if run.finished is None:
        since = claim.since if claim is not None and claim.uid == run.uid else started
        ongoing = Ongoing(
            slot=run.slot, through=run.slot, job=run.name, uid=run.uid, attempt=number, since=since
        )
        return replace(books, ongoing=ongoing), None
    if run.succeeded:
        entry = bookkeeping.success_entry(run, number, evidence.good_started or started, run.finished)
        return bookkeeping.record_success(view.job, books, entry, through=run.slot), None
    settled = max(run.slot, bookkeeping.cursor(view.job, books))
    given_up = bookkeeping.skip_through(books, settled, 1, Skip.RETRY_LIMIT)
    return replace(given_up, ongoing=None), None


def _recorded_failures(books: Status, run: Run) -> list[datetime]:
    """Return when the attempts of this very Job ended that are in the history as failed.

    A former Job of the same name (the slot was fired again) ended before this one was made.
    """
    return [
        entry.finished
        for entry in books.history
        if entry.job == run.name
        and entry.result is not Result.SUCCEEDED
        and entry.finished is not None
        and entry.finished >= run.created
    ]


def _new_failures(books: Status, run: Run, evidence: Evidence, count: int) -> list[Attempt]:
    """Return the failures that are not in the books yet, as many as the Job counts, oldest first.

    Of very many (the operator was away for weeks) only the newest, for which the history has room.
    Pods can show more than the Job counts so far, or less where some are gone.
    """
    recorded = _recorded_failures(books, run)
    found = [
        attempt
        for attempt in evidence.failures
        if not recorded or attempt.finished is None or attempt.finished > max(recorded)
    ]
    unseen = [bookkeeping.failed_unseen(run)] * min(count - len(found), HISTORY_LENGTH)
    return (unseen + found[:count])[-HISTORY_LENGTH:]


def _unseen_success(view: View, books: Status) -> HistoryEntry | None:
    """Find a run that ended well and was gone before anybody looked: the CronJob itself remembers when."""
    live = view.seen.cronjob
    if live is None or live.last_successful is None or live.last_schedule is None:
        return None
    if live.active or any(run.unfinished for run in view.seen.runs):
        return None  # it may be the one, and its end not seen yet; or what ended was the run before it
    known = max(filter(None, (_newest_success(view), _remembered_success(books))), default=None)
    slot = view.spec.slots.newest_until(min(live.last_schedule, live.last_successful))
    if slot is None or slot <= bookkeeping.cursor(view.job, books):
        return None
    if any(entry.slot > slot for entry in books.history):
        return None  # runs are one after the other: this was made by hand, or the lever was moved back
    if known is not None and live.last_successful <= known:
        return None
    name = upkeep.unseen_native(view, slot)
    if name is None:
        return None  # it is seen, and does not count; what ended well was another
    return HistoryEntry(
        slot=slot,
        job=name,
        finished=live.last_successful,
        result=Result.SUCCEEDED,
        message="It ended unseen; the CronJob's lastSuccessfulTime tells of it.",
    )


def _record_unseen(view: View, books: Status) -> tuple[Status, Decision | None] | None:
    """Record an unseen success, once its Job was looked for: the watch of Jobs may be behind that of CronJobs."""
    entry = _unseen_success(view, books)
    if entry is None:
        return None
    if entry.job != view.seen.absent:
        return books, Decision(look_for_job=entry.job)
    books = replace(
        bookkeeping.record_success(view.job, books, entry, through=entry.slot),
        first_run_time=books.first_run_time or entry.slot,
        last_run_time=max(entry.slot, books.last_run_time or entry.slot),
    )
    return books, None


def _newest_success(view: View) -> datetime | None:
    ended = [run.finished for run in view.seen.runs if run.succeeded and run.finished is not None]
    return max(ended, default=None)


def _remembered_success(books: Status) -> datetime | None:
    ended = [
        entry.finished
        for entry in books.history
        if entry.result is Result.SUCCEEDED and entry.finished is not None
    ]
    if books.disregarded is not None and books.disregarded.successful_time is not None:
        ended.append(books.disregarded.successful_time)
    return max(ended, default=None)


def _remember_successes(view: View, books: Status) -> Status:
    """Remember when a run ended well that doesn't count (made by hand, disregarded).

    Once it is pruned, nothing else tells that the CronJob's lastSuccessfulTime is not an unseen run's.
    """
    newest, remembered = _newest_success(view), _remembered_success(books)
    if newest is None or (remembered is not None and newest <= remembered):
        return books
    return replace(books, disregarded=replace(books.disregarded or Disregarded(), successful_time=newest))


# --- What comes next ------------------------------------------------------------------------------------


def next_steps(view: View, books: Status) -> tuple[Status, Situation, Decision]:
    """Remove what is left of other times, and have a slot fired again where that is needed."""
    discard = tuple(run for run in view.waiting if view.is_outdated(run))
    if not upkeep.fires_settled(view, books):
        # Otherwise the controller would, as soon as they don't hold it back any more.
        discard += upkeep.needless_retries(view, books)
    late_at: datetime | None = None
    waiting_for: Hold | None = None
    told_at: datetime | None = None
    cannot_start: str | None = None
    due: datetime | None = None
    if books.ongoing is None:
        books = bookkeeping.skip_late(view, books, view.now - FIRING_LAG)
        due = bookkeeping.head(view, books)
        late_at = bookkeeping.late_at(view, due + FIRING_LAG) if due is not None else None
    else:
        run = view.run(books.ongoing.uid)
        if run is not None:
            waiting_for, cannot_start = upkeep.suspended_by_hand(run), upkeep.cannot_start(view, run)
    again, again_at = _fire_again(view, books)
    if due is not None and again is None and again_at is None:
        cannot_start, told_at = _not_fired(view, due)
    steps = Decision(
        discard=discard,
        release=upkeep.release_by_hand(view, books),
        cronjob=again,
        wake_at=next_of(view.now, again_at, late_at, told_at),
    )
    return books, Situation(waiting_for=waiting_for, cannot_start=cannot_start), steps


def _not_fired(view: View, due: datetime) -> tuple[str | None, datetime | None]:
    """Tell, after a while, that the controller has not made the Job of a slot, or say when that is to be told."""
    live = view.seen.cronjob
    if live is None or view.spec.suspend or any(run.unfinished for run in view.seen.runs):
        return None, None
    # The first that it could have fired and did not, however many have followed: it may have been made, resumed, or
    # asked to fire again, long after the slot that is due.
    fired = upkeep.fired_until(live)
    first = view.spec.slots.next_after(fired) or due
    told_at = max(min(first, due), fired, live.written or fired) + NOT_FIRED
    if view.now < told_at:
        return None, told_at
    name = view.job.name
    return (
        f"the CronJob controller has not made its Job. 'kubectl describe cronjob {name}' says why: a quota, or an"
        " admission webhook; or the controller manager is away."
    ), None


def _fire_again(view: View, books: Status) -> tuple[MoveLastSchedule | None, datetime | None]:
    """Have the controller fire a slot anew, or say when that may be done."""
    live, desired = view.seen.cronjob, view.desired
    if live is None or desired is None or live.suspended or not upkeep.is_as_asked(view, live, desired):
        return None, None
    slot, former = _to_fire(view, books)
    if slot is None or upkeep.fired_until(live) < slot:
        return None, None
    if view.now < slot + FIRING_LAG:
        return None, slot + FIRING_LAG
    quiet_at = upkeep.quiet_until(view, live)
    if quiet_at is not None:
        return None, quiet_at
    before = upkeep.grid_point(view, slot - SECOND)
    return MoveLastSchedule(to=before, delete_first=former, fires=slot), None


def _to_fire(view: View, books: Status) -> tuple[datetime | None, Run | None]:
    """Find a slot that fails with an outdated template, was un-marked or lost; and its former run."""
    if books.ongoing is not None:
        run = view.run(books.ongoing.uid)
        if (
            run is None
            or not run.between_attempts
            or not view.is_outdated(run)
            or run.slot <= bookkeeping.cursor(view.job, books)
        ):
            return None, None
        return run.slot, run
    if any(run.unfinished for run in view.seen.runs) or bookkeeping.head(view, books) is None:
        return None, None
    # Whichever slot is missed: of several, the controller fires the newest.
    former = (run for run in view.seen.runs if run.kind is RunKind.NATIVE and run.slot == view.newest)
    return view.newest, next(former, None)
