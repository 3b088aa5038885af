"""Jobs whose runs the operator starts, one slot after the other.

How a slot runs, the fence: a suspended run exists; the claim (`status.ongoing`) names its uid, written at the
version that was decided on; only then it is released, once. A run counts only if it was claimed. What was
claimed and must not start after all is removed first, its claim after it: so nobody who still believes in the
claim can start it.

Pure; a part of `decide()`. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from crontabber_operator import batches, bookkeeping, upkeep
from crontabber_operator.bookkeeping import Situation
from crontabber_operator.decision import Decision, NewRun, Release, next_of
from crontabber_operator.models import Ongoing, Status
from crontabber_operator.observed import SECOND, Evidence, Hold, Run, RunKind, View

NATIVE_WAIT = timedelta(seconds=60)
"""The newest slot's native run may come so late; until then no one-off is made for it."""
NATIVE_LAG = timedelta(seconds=5)
"""A native run that was made is seen at the latest so long after its slot was fired."""


# --- What happened --------------------------------------------------------------------------------------


def record(view: View, books: Status) -> tuple[Status, Decision | None]:
    """Record how the claimed run ended, if it did; or say what must be asked before that can be told."""
    claim = books.ongoing
    if claim is None:
        return books, None
    run = view.run(claim.uid)
    if run is None:
        if claim.uid not in view.seen.gone:
            return books, Decision(confirm_gone=claim.uid)
        return bookkeeping.record_vanished(view, books, claim), None
    if _comes_to_nothing(run, claim):
        return replace(books, ongoing=None), None
    if run.finished is None:
        return _record_progress(view, books, run, claim), None
    return _record_ended(view, books, run, run.finished, claim)


def _record_ended(
    view: View, books: Status, run: Run, finished: datetime, claim: Ongoing
) -> tuple[Status, Decision | None]:
    if run.succeeded:
        return _record_good(view, books, run, finished, claim, claim.through), None
    evidence = view.seen.evidence.get(run.uid)
    if evidence is None:
        return books, Decision(inspect=(run,))
    good = _last_good(view, run, claim, evidence)
    if good is not None:
        books = _record_good(view, books, run, finished, claim, good)
        if good == claim.through:
            return books, None
        claim = replace(claim, slot=_following(view, claim, good))
    return _record_bad(view, books, run, finished, claim, evidence), None


def _comes_to_nothing(run: Run, claim: Ongoing) -> bool:
    """Tell whether a claimed run was not released for this claim, so that its outcome says nothing of the slot.

    Somebody else released it, and its command was told nothing. Or it was released for a claim before this one,
    which a mark or reset has dropped since, and seemed to wait as it was claimed: the Job as it is came later
    than the resource.
    """
    is_of_former = run.claimed is not None and claim.since is not None and run.claimed != claim.since
    return run.by_hand or is_of_former


def _record_progress(view: View, books: Status, run: Run, claim: Ongoing) -> Status:
    """Take over how far a batch has come. The last of its slots is only done when the whole run is."""
    good = view.seen.progress.get(run.uid)
    if good is None or not claim.slot <= good < claim.through:
        return books
    rest = replace(claim, slot=_following(view, claim, good))
    return replace(bookkeeping.settle_success(view.job, books, good), ongoing=rest)


def _last_good(view: View, run: Run, claim: Ongoing, evidence: Evidence) -> datetime | None:
    """Return the last good slot of a batch that failed, by its own report and by what was recorded before."""
    told = evidence.last_good_slot
    known = view.spec.slots.newest_until(claim.slot - SECOND) if claim.slot > run.slot else None
    goods = [one for one in (told, known) if one is not None and run.slot <= one <= claim.through]
    return max(goods, default=None)


def _following(view: View, claim: Ongoing, good: datetime) -> datetime:
    return min(view.spec.slots.next_after(good) or claim.through, claim.through)


def _record_good(
    view: View, books: Status, run: Run, finished: datetime, claim: Ongoing, through: datetime
) -> Status:
    started = run.started or claim.since or run.created
    entry = bookkeeping.success_entry(run, claim.attempt, started, finished)
    if run.through > run.slot:
        count = view.spec.slots.count(run.slot - SECOND, through)
        entry = replace(entry, message=f"{count} slots, the last {through:%Y-%m-%dT%H:%MZ}.")
    return bookkeeping.record_success(view.job, books, entry, through=through)


def _record_bad(
    view: View, books: Status, run: Run, finished: datetime, claim: Ongoing, evidence: Evidence
) -> Status:
    unseen = bookkeeping.failed_unseen(run)
    attempt = evidence.failures[-1] if evidence.failures else unseen
    if run.reason == "DeadlineExceeded":
        attempt = replace(unseen, traceback=attempt.traceback, started=attempt.started)
    finished = attempt.finished or finished
    started = attempt.started or run.started or claim.since or run.created
    entry = bookkeeping.failure_entry(run, claim.attempt, attempt, started, finished)
    of = f"{view.job.generation}/{run.template_hash}"
    return bookkeeping.record_failure(
        view.job, books, replace(entry, slot=claim.slot), attempt, of=of, at=finished
    )


# --- What comes next ------------------------------------------------------------------------------------


def next_steps(view: View, books: Status) -> tuple[Status, Situation, Decision]:
    """Say what the next run needs, or what surrounds the one that goes on."""
    if books.ongoing is not None:
        run = view.run(books.ongoing.uid)
        if run is not None:
            return _around_claim(view, books, books.ongoing, run)
    return _towards_claim(view, books)


def _towards_claim(view: View, books: Status) -> tuple[Status, Situation, Decision]:
    """Find the slot that is due and the run for it, and claim that; or say why not yet."""
    books = bookkeeping.skip_surplus(view, bookkeeping.skip_late(view, books, view.now))
    due = bookkeeping.head(view, books)
    chosen = _choose(view, due)
    discard = upkeep.needless_retries(view, books) + _superseded(view, books, chosen)
    release = upkeep.release_by_hand(view, books)
    exhausted = bookkeeping.retries_exhausted(view, books)
    situation = Situation(exhausted=exhausted and not view.spec.suspend)
    if due is None:
        return books, situation, Decision(discard=discard, release=release)
    waiting_for, wake_at = _why_not(view, books, due, exhausted=exhausted)
    if waiting_for is None and chosen is None:
        wake_at = _native_until(view, due)
        if wake_at is not None:
            waiting_for = Hold("Waiting", "the CronJob controller is about to make its Job.")
    create: tuple[NewRun, ...] = ()
    turn: datetime | None = None
    # Who can't start in any case asks for no place: it would keep others from it.
    if waiting_for is None and (chosen is not None or view.desired is not None):
        waiting_for = view.seen.hold(due)
        turn = due if waiting_for is None or waiting_for.is_turn else None
        if waiting_for is None and chosen is not None:
            books = _claim(view, books, chosen)
        elif waiting_for is None:
            made = _one_off(view, books, due)
            if made.asks:
                return books, situation, replace(made, turn=turn)
            create = made.create
    if books.ongoing is None:
        wake_at = next_of(view.now, wake_at, bookkeeping.late_at(view, due))
    steps = Decision(discard=discard, create=create, release=release, wake_at=wake_at, turn=turn)
    return books, replace(situation, waiting_for=waiting_for), steps


def _around_claim(view: View, books: Status, claim: Ongoing, run: Run) -> tuple[Status, Situation, Decision]:
    """Release the claimed run, or see to what surrounds it while it goes on."""
    discard = upkeep.needless_retries(view, books) + _superseded(view, books, run)
    release = upkeep.release_by_hand(view, books)
    create: tuple[NewRun, ...] = ()
    waiting_for: Hold | None = None
    if run.released:
        ahead = _ahead(view, books, claim)
        if ahead.asks:
            return books, Situation(), ahead
        create = ahead.create
        waiting_for = upkeep.suspended_by_hand(run)
    elif run.deleting:
        waiting_for = Hold("Waiting", f"Job {run.name} is being deleted.")
    elif view.spec.suspend or view.is_outdated(run):
        discard += (run,)
    else:
        waiting_for = _why_occupied(view) or upkeep.started_by_kueue(run)
        if waiting_for is None and view.seen.left_behind is None:
            return books, Situation(), Decision(look_for_pods=True)
        if waiting_for is None:
            release += (_release(view, books, run, claim),)
    return (
        books,
        Situation(waiting_for=waiting_for, cannot_start=upkeep.cannot_start(view, run)),
        Decision(discard=discard, create=create, release=release),
    )


def _why_not(
    view: View, books: Status, due: datetime, *, exhausted: bool
) -> tuple[Hold | None, datetime | None]:
    """Say what of the job itself keeps the due slot from starting now, and when time alone changes that."""
    if view.spec.suspend:
        return Hold("Suspended", "the job is suspended."), None
    if exhausted:
        return Hold("RetriesExhausted", "its retries are used up."), None
    occupied = _why_occupied(view)
    if occupied is not None:
        return occupied, None
    queued = next(
        (upkeep.started_by_kueue(run) for run in view.waiting if run.slot == due and run.queue), None
    )
    if queued is not None:
        return queued, None
    at = bookkeeping.retry_at(view, books)
    if at is not None and view.now < at and due == bookkeeping.failing_slot(view, books):
        return Hold("Retrying", f"the next attempt is at {at:%Y-%m-%dT%H:%M:%SZ}."), at
    return None, None


def _why_occupied(view: View) -> Hold | None:
    """No run is released while another one that was is unfinished, claimed or not, or may start by itself."""
    live = view.seen.cronjob
    if live is not None and live.starts_runs and not live.suspended:
        return Hold("Waiting", "the CronJob is that of a plain job still, which starts runs by itself.")
    running = next((run for run in view.seen.runs if run.running and run.kind is not RunKind.MANUAL), None)
    if running is None and view.seen.left_behind:
        return Hold("Waiting", f"pod {view.seen.left_behind[0]} of a Job that is gone has not ended.")
    if running is None:
        return None
    return upkeep.suspended_by_hand(running) or upkeep.still_runs(running)


# --- Runs that wait -------------------------------------------------------------------------------------


def _choose(view: View, due: datetime | None) -> Run | None:
    """Find the one run that may be claimed for the slot that is due."""
    fitting = [
        run
        for run in view.waiting
        if run.slot == due and run.through <= view.now and not view.is_outdated(run) and _fits(view, run)
    ]
    return min(fitting, key=_preference, default=None)


def _superseded(view: View, books: Status, chosen: Run | None) -> tuple[Run, ...]:
    """Find the runs that will never be released; `chosen` is the one that was or will be claimed."""
    settled = bookkeeping.cursor(view.job, books)
    if books.ongoing is not None:
        settled = max(settled, books.ongoing.through)
    discard = []
    taken = {chosen.slot} if chosen is not None else set()
    for run in sorted(view.waiting, key=_preference):
        if run is chosen:
            continue
        # Not before there is a run of the newer slot: where the operator's clock is behind, this one may be
        # all that proves that the newer slot is due.
        collapsed = not view.spec.backfill and chosen is not None and run.slot < chosen.slot
        if (
            run.slot <= settled
            or run.slot in taken
            or collapsed
            or view.is_outdated(run)
            or not view.is_slot(run.slot)
            or not _fits(view, run)
        ):
            discard.append(run)
        else:
            taken.add(run.slot)
    return tuple(discard)


def _preference(run: Run) -> tuple[bool, int, str]:
    """Of two runs for one slot, the controller's own is taken before a one-off, an earlier before a later."""
    return run.kind is not RunKind.NATIVE, run.attempt, run.name


# --- The fence ------------------------------------------------------------------------------------------


def _claim(view: View, books: Status, run: Run) -> Status:
    since = view.now.replace(microsecond=0)
    claim = Ongoing(
        slot=run.slot,
        through=run.through,
        job=run.name,
        uid=run.uid,
        attempt=run.attempt or _next_attempt(view, books, run.slot),
        since=since,
    )
    return replace(books, first_run_time=books.first_run_time or since, last_run_time=since, ongoing=claim)


def _release(view: View, books: Status, run: Run, claim: Ongoing) -> Release:
    return Release(
        run=run,
        slot=claim.slot,
        attempt=claim.attempt,
        run_time=view.spec.written(claim.slot),
        last_success=view.spec.written(books.last_success_time),
        claimed=claim.since,
        plan=_plan(view, books, run, claim) if run.through > run.slot else "",
    )


def _plan(view: View, books: Status, run: Run, claim: Ongoing) -> str:
    """List the slots of a batch, each with the last success as it is once those before it have succeeded."""
    listed = []
    slot: datetime | None = claim.slot
    success = books.last_success_time
    while slot is not None and slot <= claim.through:
        listed.append((slot, view.spec.written(slot), view.spec.written(success)))
        success = slot if success is None else max(success, slot)
        slot = view.spec.slots.next_after(slot)
    return batches.plan(run.uid, listed)


# --- One-offs -------------------------------------------------------------------------------------------


def _ahead(view: View, books: Status, claim: Ongoing) -> Decision:
    """While a run goes on, make the next one-off, so that it only needs to be released."""
    if not view.spec.backfill or view.spec.suspend or view.desired is None:
        return Decision()
    following = bookkeeping.after_claim(view.job, books, claim)
    due = bookkeeping.head(view, following)
    if due is None or _choose(view, due) is not None or _native_until(view, due) is not None:
        return Decision()
    return _one_off(view, following, due)


def _one_off(view: View, books: Status, due: datetime) -> Decision:
    """Make the one-off of a slot; or have the controller's Job looked for first."""
    unseen = _unseen_native(view, books, due)
    if unseen is not None:
        return Decision(look_for_job=unseen)
    new = NewRun(slot=due, through=_through(view, due), attempt=_next_attempt(view, books, due))
    return Decision(create=(new,))


def _through(view: View, due: datetime) -> datetime:
    """Return the last slot that a Job starting with `due` may cover.

    Each of its slots must be due, and none may have to wait for other jobs: what keeps a slot waiting keeps
    the later ones, too.
    """
    last = _batch_end(view, due)
    if view.newest is None or last <= due:
        return due
    last = max(due, min(last, view.newest))
    if last == due or view.seen.hold(last) is None:
        return last
    free, held = 0, view.spec.slots.count(due, last)
    while held - free > 1:
        middle = (free + held) // 2
        slot = view.spec.slots.nth_after(due, middle)
        if slot is not None and view.seen.hold(slot) is None:
            free = middle
        else:
            held = middle
    return (view.spec.slots.nth_after(due, free) if free else None) or due


def _fits(view: View, run: Run) -> bool:
    """Tell whether a run that was made for many slots may still cover them."""
    if run.through == run.slot:
        return True
    return run.through <= _batch_end(view, run.slot) and view.seen.hold(run.through) is None


def _batch_end(view: View, first: datetime) -> datetime:
    """Return the last slot of the longest batch that may begin with `first`."""
    count = batches.slots_max(view.spec, first) if view.spec.backfill and view.seen.can_batch else 1
    return (view.spec.slots.nth_after(first, count - 1) if count > 1 else None) or first


def _next_attempt(view: View, books: Status, slot: datetime) -> int:
    """Count on past every attempt that is known, so that a name is never used twice."""
    attempts = [run.attempt for run in view.seen.runs if run.slot == slot and run.kind is not RunKind.MANUAL]
    attempts += [entry.attempt for entry in books.history if entry.slot == slot]
    attempts += [_attempt_of(name) for name in view.seen.taken_names]
    return max(attempts, default=0) + 1


def _attempt_of(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else 0


def _native_until(view: View, due: datetime) -> datetime | None:
    """Return until when the controller may still make the Job of this slot itself; None: it won't."""
    live, desired = view.seen.cronjob, view.desired
    if live is None or desired is None or live.suspended:
        return None
    if live.schedule != desired.schedule or live.template_hash != desired.template_hash:
        return None
    if due != view.newest or due <= live.created:
        return None
    controlled = [run for run in view.seen.runs if run.kind is not RunKind.ONE_OFF]
    if any(run.unfinished or (run.kind is RunKind.NATIVE and run.slot == due) for run in controlled):
        return None
    fired = live.last_schedule is not None and live.last_schedule >= due
    until = due + (NATIVE_LAG if fired else NATIVE_WAIT)
    return until if view.now < until else None


def _unseen_native(view: View, books: Status, due: datetime) -> str | None:
    """Return the name of the Job that the controller may have made of this slot, though no watch has shown it.

    In a storm the watch of Jobs is behind that of CronJobs; a one-off beside it would be one Job to make and one
    to delete for nothing. Only asked once: see `Observed.absent`.
    """
    live = view.seen.cronjob
    if live is None or live.suspended or due != view.newest or due <= live.created:
        return None
    known = [run.slot for run in view.seen.runs if run.kind is not RunKind.MANUAL]
    if due in known or any(entry.slot == due for entry in books.history):
        return None
    name = upkeep.unseen_native(view, due)
    return name if name != view.seen.absent else None
