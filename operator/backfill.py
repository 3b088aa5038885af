"""Decide what a job needs next: which slots are missed, what to create, claim, release, discard and record.

`decide()` is a pure function of the job, of what exists, and of the time. It is level-triggered: it never
asks what happened, only what is, so a restart, a lost event or a repeated one changes nothing. The shell
(reconciler.py) carries a decision out and asks again until nothing is left to do.

First the books are brought up to what exists, then it is decided what comes next: by gated.py where the
operator starts each run, by plain.py where Kubernetes does. upkeep.py cares for the CronJob and old Jobs.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping, gated, plain, upkeep
from crontabber_operator.bookkeeping import Situation
from crontabber_operator.decision import Decision, RemoveFormer, next_of
from crontabber_operator.models import Status
from crontabber_operator.observed import Job, Observed, Unavailable, View

REPORT_LAG = timedelta(milliseconds=800)
"""So long a slot that fell due is not yet told as missed: mostly its claim comes first and tells it too."""


def decide(job: Job, seen: Observed, now: datetime) -> Decision:
    """Say what is to be done for `job` at `now` (the operator's clock, aware)."""
    view = View.of_job(job, seen, now)
    if seen.cronjob is not None and not seen.cronjob.ours:
        return _tell_conflict(view)
    record, next_steps = (
        (gated.record, gated.next_steps) if job.spec.is_gated else (plain.record, plain.next_steps)
    )
    books, question = record(view, job.status)
    if question is not None:
        return question
    books = bookkeeping.settle_edits(view, books)
    books, situation, steps = next_steps(view, books)
    return _finish(view, books, situation, steps)


def _tell_conflict(view: View) -> Decision:
    name = view.job.name
    message = (
        f"CronJob {name} exists and was not made for this resource. "
        f"Delete that CronJob or give this resource another name (metadata.name)."
    )
    situation = Situation(not_ready=("NameConflict", message), stalled=True)
    former = view.seen.cronjob is not None and view.seen.cronjob.former
    return Decision(
        status=_to_write(view, bookkeeping.report(view, view.job.status, situation, now=view.now)),
        cronjob=RemoveFormer() if former else None,
    )


def _finish(view: View, books: Status, situation: Situation, steps: Decision) -> Decision:
    """Complete a decision with the report, the CronJob, the pruning and the time to wake."""
    desired, problem = view.seen.desired, view.seen.problem
    if isinstance(desired, Unavailable):
        problem = desired
    if problem is not None:
        situation = replace(situation, not_ready=(problem.reason, problem.message), stalled=problem.stalled)
    told, told_at = view, None
    if view.newest is not None and _can_wait(view, books, view.newest):
        told, told_at = view.before_newest(), view.newest + REPORT_LAG
    status = bookkeeping.report(told, books, situation, now=view.now)
    cronjob, cronjob_at = steps.cronjob, None
    if cronjob is None:
        cronjob, cronjob_at = upkeep.care_for_cronjob(view, books)
    prune, prune_at = upkeep.prune(view, books)
    return replace(
        steps,
        status=_to_write(view, status),
        cronjob=cronjob,
        tell=tuple(run for run in view.seen.runs if run.is_untold),
        prune=prune,
        wake_at=next_of(view.now, steps.wake_at, view.upcoming, told_at, cronjob_at, prune_at),
    )


def _can_wait(view: View, books: Status, newest: datetime) -> bool:
    """Tell whether nobody needs to be told of the newest slot just now: the claim, or its outcome, comes soon.

    What was told already, or is settled, stays so.
    """
    before = view.job.status
    count = bookkeeping.missed(view, before)
    is_told = count > 0 and before.missed == count
    is_settled = newest <= bookkeeping.cursor(view.job, books)
    is_fresh = view.now - newest < REPORT_LAG and books.ongoing == before.ongoing
    return is_fresh and not is_told and not is_settled


def _to_write(view: View, status: Status) -> Status | None:
    return status if status != view.job.status else None
