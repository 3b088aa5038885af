"""Decide what a job needs next: which slots are missed, what to create, claim, release, discard and record.

`decide()` is a pure function of the job, of what exists, and of the time. It is level-triggered: it never
asks what happened, only what is, so a restart, a lost event or a repeated one changes nothing. The shell
(reconciler.py) carries a decision out and asks again until nothing is left to do.

How a gated slot runs, the fence: a suspended run exists; the claim (`status.ongoing`) names its uid, written
at the version that was decided on; only then it is released, once. A run counts only if it was claimed.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping
from crontabber_operator.models import Disregarded, HistoryEntry, Ongoing, Result, Spec, State, Status
from crontabber_operator.observed import (
    Attempt,
    CronJobSeen,
    Desired,
    Evidence,
    Job,
    Observed,
    Run,
    RunKind,
    Unavailable,
)
from crontabber_operator.schedule import Frequency

NATIVE_WAIT = timedelta(seconds=60)
"""The newest slot's native run may come so late; until then no one-off is made for it."""
NATIVE_LAG = timedelta(seconds=5)
"""A native run that was made is seen at the latest so long after its slot was fired."""
QUIET = timedelta(seconds=5)
"""No write to the CronJob so near to one of its slots: the controller could fire on a stale copy."""
REPORT_LAG = timedelta(milliseconds=800)
"""So long a slot that fell due is not yet told as missed: its claim, which tells it too, mostly comes first."""
KEEP_FAILED = timedelta(minutes=10)
"""Failed attempts of a slot stay so long after the slot succeeded."""
ATTEMPT_MAX = 99_999
"""The largest attempt whose number fits into a Job's name."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A one-off to be made, suspended."""

    slot: datetime
    through: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Release:
    """Start this run, with these values for its command."""

    run: Run
    slot: datetime
    attempt: int
    run_time: str
    last_success: str


@dataclass(frozen=True, slots=True)
class ApplyCronJob:
    """Create the CronJob, or bring it to what the spec asks for."""


@dataclass(frozen=True, slots=True)
class MoveLastSchedule:
    """Set the CronJob's `lastScheduleTime`: up, so that nothing is invented, or back, so that a slot fires again."""

    to: datetime
    delete_first: Run | None = None
    """The run of the slot that is to fire again; it has the name that the new one needs."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, in this order; `wake_at` is when time alone may change the decision."""

    inspect: tuple[Run, ...] = ()
    """Tell more about these first (did it vanish? how did its pods end?), then decide again."""
    confirm_gone: str | None = None
    """Ask the API server whether the claimed Job with this uid is really gone, then decide again."""
    discard: tuple[Run, ...] = ()
    """Never released, not needed any more."""
    create: tuple[NewRun, ...] = ()
    status: Status | None = None
    """None: the status is right as it is."""
    release: tuple[Release, ...] = ()
    cronjob: ApplyCronJob | MoveLastSchedule | None = None
    prune: tuple[Run, ...] = ()
    """Finished and recorded, beyond the history limits."""
    wake_at: datetime | None = None


def decide(job: Job, seen: Observed, now: datetime) -> Decision:
    """Say what is to be done for `job` at `now` (the operator's clock, aware)."""
    now = _latest_proof(seen, now)
    if seen.cronjob is not None and not seen.cronjob.ours:
        return _decide_conflict(job, now)
    of = _template(job, seen)
    books = _settle_edits(job, seen, now)
    record = _record_gated if job.spec.is_gated else _record_plain
    books, question = record(job, books, seen, of, now)
    if question is not None:
        return question
    if job.spec.is_gated:
        return _decide_gated(job, books, seen, of, now)
    return _decide_plain(job, books, seen, of, now)


# --- Both kinds --------------------------------------------------------------------------------------------------


def _latest_proof(seen: Observed, now: datetime) -> datetime:
    """The later of the clock and what exists: a native run, made when its slot fell due, proves that it is."""
    proofs = [run.created for run in seen.runs]
    if seen.cronjob is not None:
        proofs.append(seen.cronjob.created)
    return max([now, *proofs])


def _template(job: Job, seen: Observed) -> str:
    """What a run runs: an attempt counts against the retry limit only until this changes."""
    if isinstance(seen.desired, Desired):
        template = seen.desired.template_hash
    elif seen.cronjob is not None:
        template = seen.cronjob.template_hash
    else:
        template = ""
    return f"{job.generation}/{template}"


def _settle_edits(job: Job, seen: Observed, now: datetime) -> Status:
    """Without backfill, the slots before a changed schedule or a resumption was seen are settled.

    Once for each edit: the same write sets `observedGeneration`.
    """
    status, spec = job.status, job.spec
    if spec.backfill or status.observed_generation in (None, job.generation) or spec.suspend:
        return status
    resumed = status.state is State.SUSPENDED
    rescheduled = status.schedule != spec.schedule_text or (
        seen.cronjob is not None
        and isinstance(seen.desired, Desired)
        and seen.cronjob.schedule != seen.desired.schedule
    )
    if not (resumed or rescheduled):
        return status
    return replace(status, settled_through=max(bookkeeping.cursor(job, status), _whole(now)))


def _decide_conflict(job: Job, now: datetime) -> Decision:
    message = (
        f"CronJob {job.name} exists and was not made for this resource. "
        f"Delete that CronJob or give this resource another name (metadata.name)."
    )
    situation = bookkeeping.Situation(not_ready=("NameConflict", message), stalled=True)
    status = bookkeeping.report(job, job.status, situation, of="", now=now)
    return Decision(status=_if_changed(job, status))


def _finish(  # noqa: PLR0913 - the parts of a decision
    job: Job,
    books: Status,
    seen: Observed,
    situation: bookkeeping.Situation,
    of: str,
    now: datetime,
    steps: Decision,
) -> Decision:
    """Complete a decision with the report, the CronJob, the pruning and the time to wake."""
    if isinstance(seen.desired, Unavailable):
        blocked = seen.desired
        situation = replace(situation, not_ready=(blocked.reason, blocked.message), stalled=blocked.stalled)
    newest = job.spec.slots.newest_until(now)
    told_at = now
    wake: list[datetime | None] = [steps.wake_at, job.spec.slots.next_after(now)]
    if newest is not None and now - newest < REPORT_LAG and books.ongoing == job.status.ongoing:
        told_at = newest - bookkeeping.SECOND
        wake.append(newest + REPORT_LAG)
    status = bookkeeping.report(job, books, situation, of=of, now=told_at)
    cronjob, cronjob_at = steps.cronjob, None
    if cronjob is None:
        cronjob, cronjob_at = _cronjob(job, books, seen, now)
    prune, prune_at = _prune(job, books, seen, now)
    wake += [cronjob_at, prune_at]
    return replace(
        steps,
        status=_if_changed(job, status),
        cronjob=cronjob,
        prune=prune,
        wake_at=min((at for at in wake if at is not None and at > now), default=None),
    )


def _cronjob(
    job: Job, books: Status, seen: Observed, now: datetime
) -> tuple[ApplyCronJob | MoveLastSchedule | None, datetime | None]:
    """Keep the CronJob as the spec asks for it; say when to look again where a slot is too near."""
    desired, live = seen.desired, seen.cronjob
    if isinstance(desired, Unavailable):
        return None, None
    if live is None:
        return ApplyCronJob(), None
    action: ApplyCronJob | MoveLastSchedule | None = None
    if live.hash != desired.hash or live.drifted:
        action = ApplyCronJob()
        starts_anew = live.schedule != desired.schedule or (live.suspended and not job.spec.suspend)
        settled = job.spec.slots.newest_until(bookkeeping.cursor(job, books))
        if starts_anew and settled is not None and _fired_until(live) < settled:
            action = MoveLastSchedule(to=settled)
    elif _is_rolling(job.spec) and not _on_grid(job.spec, live.last_schedule):
        newest = job.spec.slots.newest_until(now)
        action = MoveLastSchedule(to=newest) if newest is not None else None
    if action is None:
        return None, None
    quiet_at = _quiet_at(job, live, now)
    if quiet_at is not None and not (job.spec.suspend and not live.suspended):
        return None, quiet_at
    return action, None


def _fired_until(live: CronJobSeen) -> datetime:
    """The controller never looks at slots at or before this."""
    return live.last_schedule if live.last_schedule is not None else live.created


def _is_rolling(spec: Spec) -> bool:
    """Its grid can't be written as cron text: the CronJob counts from its own last firing."""
    return isinstance(spec.slots, Frequency) and spec.slots.static_cron() is None


def _on_grid(spec: Spec, time: datetime | None) -> bool:
    return time is not None and spec.slots.newest_until(time) == time


def _quiet_at(job: Job, live: CronJobSeen, now: datetime) -> datetime | None:
    """When the slots of the CronJob, as it is and as it will be, are far enough; None: now."""
    for slots in (live.slots, job.spec.slots):
        if slots is None:
            continue
        near = slots.next_after(now - QUIET)
        if near is not None and near - QUIET < now:
            return near + QUIET
    return None


def _prune(job: Job, books: Status, seen: Observed, now: datetime) -> tuple[tuple[Run, ...], datetime | None]:
    """Finished runs beyond the history limits; only those whose outcome is in the written status."""
    if books.ongoing != job.status.ongoing or books.settled_through != job.status.settled_through:
        return (), None
    claimed = books.ongoing.uid if books.ongoing is not None else None
    finished = sorted(
        (run for run in seen.runs if run.finished is not None and run.uid != claimed and not run.deleting),
        key=lambda run: (run.finished, run.name),
        reverse=True,
    )
    good = [run for run in finished if run.succeeded]
    bad = [run for run in finished if not run.succeeded]
    surplus = good[job.spec.successful_jobs_history_limit :] + bad[job.spec.failed_jobs_history_limit :]
    wake: datetime | None = None
    settled = bookkeeping.cursor(job, books)
    healed = {run.slot: run.finished for run in good if run.kind is not RunKind.MANUAL and run.finished}
    for run in bad[: job.spec.failed_jobs_history_limit]:
        if run.kind is RunKind.MANUAL or run.slot > settled or run.slot not in healed:
            continue
        gone_at = healed[run.slot] + KEEP_FAILED
        if gone_at <= now:
            surplus.append(run)
        else:
            wake = min(wake or gone_at, gone_at)
    return tuple(surplus), wake


def _if_changed(job: Job, status: Status) -> Status | None:
    return status if status != job.status else None


def _whole(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def _entry(
    run: Run, attempt: int, result: Result, message: str, started: datetime, finished: datetime
) -> HistoryEntry:  # noqa: PLR0913, E501
    return HistoryEntry(
        slot=run.slot,
        job=run.name,
        attempt=attempt,
        started=started,
        finished=finished,
        seconds=max(0.0, (finished - started).total_seconds()),
        result=result,
        message=message,
    )


def _failed_as(run: Run) -> Attempt:
    """What to record where no pod can tell how the run failed."""
    if run.reason == "DeadlineExceeded":
        return Attempt(
            Result.TIMED_OUT, "DeadlineExceeded", "It ran longer than activeDeadlineSeconds.", "", None, None
        )
    return Attempt(
        Result.FAILED, run.reason or "Failed", "The run failed and left no pod to say why.", "", None, None
    )


def _lost(job: str) -> Attempt:
    return Attempt(
        Result.LOST, "Lost", f"Job {job} vanished before it ended; its slot runs again.", "", None, None
    )


def disregard(seen: Observed) -> Disregarded | None:
    """What must not count after a mark or a reset: everything that exists now."""
    jobs = tuple(sorted(run.uid for run in seen.runs if run.kind is RunKind.NATIVE))
    successful_time = seen.cronjob.last_successful if seen.cronjob is not None else None
    if not jobs and successful_time is None:
        return None
    return Disregarded(jobs=jobs, successful_time=successful_time)


# --- Gated: the operator decides when a run starts ---------------------------------------------------------------


def _record_gated(
    job: Job, books: Status, seen: Observed, of: str, now: datetime
) -> tuple[Status, Decision | None]:
    """Record how the claimed run ended, if it did; or say what must be asked before that can be told."""
    claim = books.ongoing
    if claim is None:
        return books, None
    run = next((run for run in seen.runs if run.uid == claim.uid), None)
    if run is None:
        if claim.uid not in seen.gone:
            return books, Decision(confirm_gone=claim.uid)
        return _record_vanished(job, books, claim, seen, of, now), None
    if run.finished is None:
        return books, None
    if run.succeeded:
        started = run.started or claim.since or run.created
        entry = _entry(run, claim.attempt, Result.SUCCEEDED, "", started, run.finished)
        return bookkeeping.record_success(
            job, books, slot=claim.slot, through=claim.through, entry=entry, started=started
        ), None
    evidence = seen.evidence.get(run.uid)
    if evidence is None:
        return books, Decision(inspect=(run,))
    books = _count_good_part(job, books, claim, evidence)
    return _record_failed(job, books, run, claim, evidence, now), None


def _record_vanished(  # noqa: PLR0913 - the core's usual arguments
    job: Job, books: Status, claim: Ongoing, seen: Observed, of: str, now: datetime
) -> Status:
    if claim.uid in seen.replaced:
        return replace(books, ongoing=None)
    entry = HistoryEntry(
        slot=claim.slot,
        job=claim.job,
        attempt=claim.attempt,
        started=claim.since,
        finished=None,
        seconds=None,
        result=Result.LOST,
        message="The Job vanished before it ended.",
    )
    return bookkeeping.record_failure(
        job, books, slot=claim.slot, entry=entry, attempt=_lost(claim.job), of=of, at=_whole(now)
    )


def _count_good_part(job: Job, books: Status, claim: Ongoing, evidence: Evidence) -> Status:
    """A batch that stopped at a slot has settled those before it."""
    good = evidence.last_good_slot
    if good is None or not claim.slot <= good <= claim.through:
        return books
    return replace(books, settled_through=good, last_success_time=good)


def _record_failed(  # noqa: PLR0913 - the core's usual arguments
    job: Job, books: Status, run: Run, claim: Ongoing, evidence: Evidence, now: datetime
) -> Status:
    attempt = evidence.failures[-1] if evidence.failures else _failed_as(run)
    finished = attempt.finished or run.finished or _whole(now)
    started = attempt.started or run.started or claim.since or run.created
    slot = claim.slot
    if evidence.last_good_slot is not None and claim.slot <= evidence.last_good_slot < claim.through:
        slot = job.spec.slots.next_after(evidence.last_good_slot) or claim.slot
    entry = _entry(run, claim.attempt, attempt.result, _first_line(attempt), started, finished)
    return bookkeeping.record_failure(
        job,
        books,
        slot=slot,
        entry=replace(entry, slot=slot),
        attempt=attempt,
        of=f"{job.generation}/{run.template_hash}",
        at=finished,
    )


def _first_line(attempt: Attempt) -> str:
    value = attempt.value.strip().split("\n", 1)[0]
    return f"{attempt.type}: {value}" if value else attempt.type


def _decide_gated(job: Job, books: Status, seen: Observed, of: str, now: datetime) -> Decision:
    if books.ongoing is not None:
        return _decide_claimed(job, books, books.ongoing, seen, of, now)
    books = _skip(job, books, now)
    due = bookkeeping.head(job, books, now)
    chosen = _choose(seen, due, now)
    exhausted = bookkeeping.failing_slot(job, books) is not None and bookkeeping.retries_exhausted(
        job, books, of
    )
    waiting_for, wake_at = _why_not(job, books, seen, due, exhausted=exhausted, of=of, now=now)
    create: tuple[NewRun, ...] = ()
    discard = _superseded(job, books, seen, due, chosen)
    if due is not None and waiting_for is None:
        native_until = _native_until(job, seen, due, now)
        if chosen is not None:
            books = _claim(books, seen, chosen, now)
        elif native_until is not None:
            waiting_for, wake_at = "the CronJob controller is about to make its Job.", native_until
        elif isinstance(seen.desired, Desired):
            create = (_one_off(job, books, seen, due, now),)
    situation = bookkeeping.Situation(waiting_for=waiting_for, exhausted=exhausted and not job.spec.suspend)
    steps = Decision(
        discard=discard, create=create, release=_release_by_hand(job, books, seen, now), wake_at=wake_at
    )
    return _finish(job, books, seen, situation, of, now, steps)


def _decide_claimed(  # noqa: PLR0913 - the core's usual arguments
    job: Job, books: Status, claim: Ongoing, seen: Observed, of: str, now: datetime
) -> Decision:
    """Release the claimed run, or see to what surrounds it while it goes on."""
    run = next(run for run in seen.runs if run.uid == claim.uid)
    discard = _superseded(job, books, seen, None, run)
    release = _release_by_hand(job, books, seen, now)
    create: tuple[NewRun, ...] = ()
    waiting_for = None
    if _is_void(job, run, seen):
        discard += (run,)
    elif not run.released:
        release += (_release(job, books, run, claim),)
    else:
        create = _ahead(job, books, seen, claim, now)
        if run.suspended:
            waiting_for = f"Job {run.name} was suspended by hand; resume it or delete it."
    situation = bookkeeping.Situation(waiting_for=waiting_for)
    steps = Decision(discard=discard, create=create, release=release)
    return _finish(job, books, seen, situation, of, now, steps)


def _is_void(job: Job, run: Run, seen: Observed) -> bool:
    """A claimed run that was not released yet and must not be any more.

    It goes first and its claim after it, so that nobody who still believes in the claim can release it.
    """
    return not run.released and (job.spec.suspend or _outdated(run, seen))


def _skip(job: Job, books: Status, now: datetime) -> Status:
    """Settle the slots that the limits rule out: too old to start, or more than may be caught up."""
    spec = job.spec
    if spec.suspend or bookkeeping.failing_slot(job, books) is not None:
        return books
    settled = bookkeeping.cursor(job, books)
    if spec.starting_deadline_seconds is not None:
        late = spec.slots.newest_until(now - timedelta(seconds=spec.starting_deadline_seconds))
        if late is not None and late > settled:
            books = bookkeeping.skip_through(books, late, spec.slots.count(settled, late))
            settled = late
    if spec.backfill and spec.backfill_limit is not None:
        count = spec.slots.count(settled, now)
        if count > spec.backfill_limit:
            last = spec.slots.nth_newest_until(now, spec.backfill_limit + 1)
            if last is not None:
                books = bookkeeping.skip_through(books, last, count - spec.backfill_limit)
    return books


def _waiting_runs(seen: Observed) -> list[Run]:
    """Runs that were never released and could be."""
    return [
        run
        for run in seen.runs
        if run.kind is not RunKind.MANUAL and run.unfinished and not run.released and not run.deleting
    ]


def _outdated(run: Run, seen: Observed) -> bool:
    return isinstance(seen.desired, Desired) and run.template_hash != seen.desired.template_hash


def _choose(seen: Observed, due: datetime | None, now: datetime) -> Run | None:
    """The one run that may be claimed for the slot that is due: the controller's own before a one-off."""
    candidates = [
        run
        for run in _waiting_runs(seen)
        if run.slot == due and run.through <= now and not _outdated(run, seen)
    ]
    return min(candidates, key=_preference, default=None)


def _superseded(
    job: Job, books: Status, seen: Observed, due: datetime | None, chosen: Run | None
) -> tuple[Run, ...]:
    """Runs that were never released and never will be; `chosen` is the one that was or will be claimed."""
    settled = bookkeeping.cursor(job, books)
    if books.ongoing is not None:
        settled = max(settled, books.ongoing.through)
    discard = []
    taken = {chosen.slot} if chosen is not None else set()
    for run in sorted(_waiting_runs(seen), key=_preference):
        if run is chosen:
            continue
        collapsed = not job.spec.backfill and due is not None and run.slot != due
        on_grid = job.spec.slots.newest_until(run.slot) == run.slot
        if run.slot <= settled or run.slot in taken or collapsed or not on_grid or _outdated(run, seen):
            discard.append(run)
        taken.add(run.slot)
    return tuple(discard)


def _preference(run: Run) -> tuple[bool, int, str]:
    """Of two runs for one slot, the controller's own is taken before a one-off, an earlier before a later."""
    return run.kind is not RunKind.NATIVE, run.attempt, run.name


def _why_not(  # noqa: PLR0913 - the core's usual arguments
    job: Job, books: Status, seen: Observed, due: datetime | None, *, exhausted: bool, of: str, now: datetime
) -> tuple[str | None, datetime | None]:
    """Why the due slot must not start now, and when time alone changes that."""
    if due is None:
        return None, None
    if job.spec.suspend:
        return "the job is suspended.", None
    if exhausted:
        return "its retries are used up.", None
    running = next((run for run in seen.runs if run.running and run.kind is not RunKind.MANUAL), None)
    if running is not None:
        if running.suspended:
            return f"Job {running.name} was suspended by hand; resume it or delete it.", None
        return f"Job {running.name} still runs.", None
    at = bookkeeping.retry_at(books, of)
    if due == bookkeeping.failing_slot(job, books) and at is not None and now < at:
        return f"the next attempt is at {at:%Y-%m-%dT%H:%M:%SZ}.", at
    return seen.hold(due), None


def _claim(books: Status, seen: Observed, run: Run, now: datetime) -> Status:
    since = _whole(now)
    return replace(
        books,
        first_run_time=books.first_run_time or since,
        last_run_time=since,
        ongoing=Ongoing(
            slot=run.slot,
            through=run.through,
            job=run.name,
            uid=run.uid,
            attempt=run.attempt or _next_attempt(books, seen, run.slot),
            since=since,
        ),
    )


def _release(job: Job, books: Status, run: Run, claim: Ongoing) -> Release:
    return Release(
        run=run,
        slot=claim.slot,
        attempt=claim.attempt,
        run_time=job.spec.written(claim.slot),
        last_success=job.spec.written(books.last_success_time),
    )


def _release_by_hand(job: Job, books: Status, seen: Observed, now: datetime) -> tuple[Release, ...]:
    """Jobs that a person made from the CronJob: at once, outside the bookkeeping."""
    return tuple(
        Release(
            run=run,
            slot=_whole(now),
            attempt=1,
            run_time=job.spec.written(now),
            last_success=job.spec.written(books.last_success_time),
        )
        for run in seen.runs
        if run.kind is RunKind.MANUAL
        and run.unfinished
        and run.suspended
        and not run.released
        and not run.deleting
    )


def _ahead(job: Job, books: Status, seen: Observed, claim: Ongoing, now: datetime) -> tuple[NewRun, ...]:
    """While a run goes on, make the next one-off, so that it only needs to be released."""
    if not job.spec.backfill or job.spec.suspend or not isinstance(seen.desired, Desired):
        return ()
    following = replace(books, settled_through=claim.through, error_count=0, ongoing=None)
    due = bookkeeping.head(job, following, now)
    if due is None or _choose(seen, due, now) is not None or _native_until(job, seen, due, now) is not None:
        return ()
    return (_one_off(job, following, seen, due, now),)


def _one_off(job: Job, books: Status, seen: Observed, due: datetime, now: datetime) -> NewRun:
    through = _through(job, due, now) if seen.can_batch else due
    return NewRun(slot=due, through=through, attempt=_next_attempt(books, seen, due))


def _through(job: Job, due: datetime, now: datetime) -> datetime:
    """The last slot that a Job starting with `due` may cover."""
    further = job.spec.backfill_batch - 1
    newest = job.spec.slots.newest_until(now)
    if further < 1 or newest is None:
        return due
    return max(due, min(job.spec.slots.nth_after(due, further) or newest, newest))


def _next_attempt(books: Status, seen: Observed, slot: datetime) -> int:
    """Past every attempt that is known, so that a name is never used twice."""
    attempts = [run.attempt for run in seen.runs if run.slot == slot and run.kind is not RunKind.MANUAL]
    attempts += [entry.attempt for entry in books.history if entry.slot == slot]
    attempts += [_attempt_of(name) for name in seen.taken_names if _attempt_of(name)]
    return max(attempts, default=0) + 1


def _attempt_of(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() and int(number) <= ATTEMPT_MAX else 0


def _native_until(job: Job, seen: Observed, due: datetime, now: datetime) -> datetime | None:
    """Until when the controller may still make the Job of this slot itself; None: it won't."""
    live, desired = seen.cronjob, seen.desired
    if (
        live is None
        or isinstance(desired, Unavailable)
        or live.suspended
        or live.schedule != desired.schedule
    ):
        return None
    if due != job.spec.slots.newest_until(now) or due <= live.created:
        return None
    controlled = [run for run in seen.runs if run.kind is not RunKind.ONE_OFF]
    forbidden = any(run.unfinished for run in controlled)
    if forbidden or any(run.kind is RunKind.NATIVE and run.slot == due for run in controlled):
        return None
    fired = live.last_schedule is not None and live.last_schedule >= due
    until = due + (NATIVE_LAG if fired else NATIVE_WAIT)
    return until if now < until else None


# --- Plain: Kubernetes runs it, the operator keeps the books -----------------------------------------------------


def _record_plain(
    job: Job, books: Status, seen: Observed, of: str, now: datetime
) -> tuple[Status, Decision | None]:
    """Read the native runs in slot order; each failed pod is a failed attempt."""
    claim = books.ongoing
    if claim is not None and all(run.uid != claim.uid for run in seen.runs):
        if claim.uid not in seen.gone:
            return books, Decision(confirm_gone=claim.uid)
        books = _record_vanished(job, books, claim, seen, of, now)
    for run in _countable(job, books, seen):
        counted = (
            books.ongoing.attempt - 1 if books.ongoing is not None and books.ongoing.uid == run.uid else 0
        )
        failures = max(run.failed_pods, counted + 1 if run.failed and run.failed_pods <= counted else 0)
        evidence = seen.evidence.get(run.uid)
        if (failures > counted or (run.succeeded and run.failed_pods)) and evidence is None:
            return books, Decision(inspect=(run,))
        books = _record_attempts(job, books, run, counted, failures, evidence or Evidence(), now)
    return _record_unseen_success(job, books, seen), None


def _countable(job: Job, books: Status, seen: Observed) -> list[Run]:
    ignored = set(books.disregarded.jobs) if books.disregarded is not None else set()
    claimed = books.ongoing.uid if books.ongoing is not None else None
    settled = bookkeeping.cursor(job, books)
    return sorted(
        (
            run
            for run in seen.runs
            if run.kind is RunKind.NATIVE
            and run.uid not in ignored
            and not (run.suspended and not run.released)
            and (run.slot > settled or run.uid == claimed)
        ),
        key=lambda run: run.slot,
    )


def _record_attempts(  # noqa: PLR0913 - the core's usual arguments
    job: Job, books: Status, run: Run, counted: int, failures: int, evidence: Evidence, now: datetime
) -> Status:
    started = run.started or run.created
    books = replace(
        books,
        first_run_time=books.first_run_time or started,
        last_run_time=max(started, books.last_run_time or started),
    )
    unseen = failures - counted - len(evidence.failures)
    attempts = (*(_failed_as(run) for _ in range(max(0, unseen))), *evidence.failures)[
        -(failures - counted) :
    ]
    for number, attempt in enumerate(attempts if failures > counted else (), start=counted + 1):
        at = attempt.finished or run.finished or _whole(now)
        entry = _entry(run, number, attempt.result, _first_line(attempt), attempt.started or started, at)
        books = bookkeeping.record_failure(
            job,
            books,
            slot=run.slot,
            entry=entry,
            attempt=attempt,
            of=f"{job.generation}/{run.template_hash}",
            at=at,
        )
    if run.succeeded and run.finished is not None:
        good_started = evidence.good_started or started
        entry = _entry(run, failures + 1, Result.SUCCEEDED, "", good_started, run.finished)
        return bookkeeping.record_success(
            job, books, slot=run.slot, through=run.slot, entry=entry, started=good_started
        )
    if run.failed:
        given_up = bookkeeping.skip_through(books, max(run.slot, bookkeeping.cursor(job, books)), 1)
        return replace(given_up, ongoing=None)
    since = books.ongoing.since if books.ongoing is not None and books.ongoing.uid == run.uid else started
    return replace(
        books,
        ongoing=Ongoing(
            slot=run.slot, through=run.slot, job=run.name, uid=run.uid, attempt=failures + 1, since=since
        ),
    )


def _record_unseen_success(job: Job, books: Status, seen: Observed) -> Status:
    """A run that ended well and was gone before anybody looked: the CronJob itself remembers when."""
    live = seen.cronjob
    if (
        live is None
        or live.last_successful is None
        or live.last_schedule is None
        or books.ongoing is not None
    ):
        return books
    known = [run.finished for run in seen.runs if run.finished is not None]
    known += [entry.finished for entry in books.history if entry.finished is not None]
    if books.disregarded is not None and books.disregarded.successful_time is not None:
        known.append(books.disregarded.successful_time)
    slot = job.spec.slots.newest_until(min(live.last_schedule, live.last_successful))
    if (
        slot is None
        or slot <= bookkeeping.cursor(job, books)
        or live.last_successful <= max(known, default=slot)
    ):
        return books
    return replace(
        books,
        last_success_time=max(slot, books.last_success_time or slot),
        last_run_time=max(slot, books.last_run_time or slot),
        first_run_time=books.first_run_time or slot,
        settled_through=slot,
        error_count=0,
        last_error=None,
        retry=None,
    )


def _decide_plain(job: Job, books: Status, seen: Observed, of: str, now: datetime) -> Decision:
    discard = tuple(run for run in _waiting_runs(seen) if _outdated(run, seen))
    release = _release_by_hand(job, books, seen, now)
    if job.spec.starting_deadline_seconds is not None and books.ongoing is None:
        books = _skip(job, books, now)
    again, wake_at = _fire_again(job, books, seen, now)
    situation = bookkeeping.Situation()
    steps = Decision(discard=discard, release=release, cronjob=again, wake_at=wake_at)
    return _finish(job, books, seen, situation, of, now, steps)


def _fire_again(
    job: Job, books: Status, seen: Observed, now: datetime
) -> tuple[MoveLastSchedule | None, datetime | None]:
    """Have the controller fire a slot anew: its run fails with an outdated template, or it was un-marked or lost."""
    live, desired = seen.cronjob, seen.desired
    if (
        live is None
        or isinstance(desired, Unavailable)
        or live.hash != desired.hash
        or live.drifted
        or live.suspended
    ):
        return None, None
    slot, outdated = bookkeeping.head(job, books, now), None
    native = [run for run in seen.runs if run.kind is not RunKind.ONE_OFF]
    if books.ongoing is not None:
        slot = books.ongoing.slot
        outdated = next((run for run in native if run.uid == books.ongoing.uid), None)
        if outdated is None or not outdated.failed_pods or not _outdated(outdated, seen):
            return None, None
    elif any(run.unfinished for run in native):
        return None, None
    if slot is None or _fired_until(live) < slot:
        return None, None
    if now < slot + 2 * NATIVE_LAG:
        return None, slot + 2 * NATIVE_LAG
    former = outdated or next(
        (run for run in native if run.kind is RunKind.NATIVE and run.slot == slot), None
    )
    quiet_at = _quiet_at(job, live, now)
    if quiet_at is not None:
        return None, quiet_at
    before = slot - bookkeeping.SECOND
    if _is_rolling(job.spec):
        before = job.spec.slots.newest_until(before) or before
    return MoveLastSchedule(to=before, delete_first=former), None
