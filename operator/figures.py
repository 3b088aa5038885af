"""What a job's figures are at a moment: missed slots, the oldest of them, since when a success is overdue.

PURE: reads no clock. The books say what they said when they were written; this counts on from there, so that the
figures are right also while nobody writes books: the operator is behind, or the API server is away.
It must not import kopf, kubernetes or aiohttp.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping
from crontabber_operator.models import Status
from crontabber_operator.observed import SECOND, Job, Observed, View


@dataclass(frozen=True, slots=True)
class Figures:
    """They hold from `since` until just before `until`, as long as the resource is the same."""

    since: datetime
    until: datetime | None
    """The next slot; None: there is none."""
    missed: int
    oldest_missed: datetime | None
    expected: datetime | None
    """The slot from which on a success was to be expected and has not come; None: none is overdue."""

    def hold_at(self, now: datetime) -> bool:
        """Tell whether they still hold."""
        return self.since <= now and (self.until is None or now < self.until)

    def overdue(self, now: datetime) -> timedelta:
        """Return how long a success has been overdue."""
        return max(now - self.expected, timedelta()) if self.expected is not None else timedelta()


def figures_of(job: Job, now: datetime) -> Figures:
    """Return a job's figures at a moment (aware)."""
    view = View.of_job(job, Observed(), now)
    missed = bookkeeping.missed(view, job.status)
    oldest = job.spec.slots.next_after(bookkeeping.cursor(job, job.status)) if missed else None
    expected = None
    if not job.spec.suspend:
        first = job.spec.slots.next_after(_answered_until(view, job.status))
        due = [slot for slot in (oldest, first) if slot is not None and slot <= now]
        expected = min(due, default=None)
    return Figures(since=now, until=view.upcoming, missed=missed, oldest_missed=oldest, expected=expected)


def _answered_until(view: View, status: Status) -> datetime:
    """Return the time until which no success is owed.

    A slot that was skipped or given up is settled, yet its success is still owed. So where an outcome moved the
    cursor, to a slot, the last success counts; where a person did (a mark, a reset, an edit, a resumption), to the
    time of that, nothing from before is owed any more.
    """
    job = view.job
    cursor = bookkeeping.cursor(job, status)
    if status.settled_through is None or not view.is_slot(cursor):
        return cursor
    if status.last_success_time is not None:
        return status.last_success_time
    if job.spec.backfill and job.spec.backfill_since is not None:
        return job.spec.backfill_since - SECOND
    return job.created
