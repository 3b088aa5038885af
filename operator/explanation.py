"""What a job will do next and why not sooner, told as a person would; and the slots that it will catch up.

Pure: everything comes from `decide()` and the books, nothing is worked out a second way. This module must not
import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crontabber_operator import bookkeeping
from crontabber_operator.decision import Decision
from crontabber_operator.models import ConditionType, Spec, Status
from crontabber_operator.observed import Desired, Job, Observed, Run, RunKind, Unavailable, View
from crontabber_operator.schedule import Frequency
from crontabber_operator.simulation import SimulatedJob
from crontabber_operator.times import format_time

LISTED_SLOTS = 20
"""So many slots of the dry run are listed, where nobody asks for more."""
_PRETENDED = Desired("dry-run", "dry-run", "")


@dataclass(frozen=True, slots=True)
class Forecast:
    """The dry run: the slots that are due now, in the order in which they will run."""

    slots: tuple[datetime, ...]
    """The first of them."""
    count: int
    """How many there are."""
    running: int = 0
    """How many of them, the first, are being run now."""
    skipped: int = 0
    """How many are due and will not run (backfillLimit, startingDeadlineSeconds)."""
    collapsed: int = 0
    """How many slots the late run of a job without backfill stands for."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a resource beside what the core reads."""

    command: tuple[str, ...]
    """The command line of the next run, as far as it is known."""
    where: str
    """The pod template that it runs in, as a person calls it."""
    refused: str | None = None
    """What the API server said when it refused what the operator wanted to write."""
    waiting_for: str | None = None
    """Why the due slot may not start (dependencies, a concurrency group)."""
    pending: tuple[str, ...] = ()
    """Commands given by annotation that the operator has not taken."""
    unattended: bool = False
    """The operator should have acted by now and did not."""


# --- The dry run ----------------------------------------------------------------------------------------


def forecast(job: Job, seen: Observed, now: datetime, listed: int = LISTED_SLOTS) -> Forecast:
    """Say which slots will be caught up, by letting `decide()` run them.

    Each run succeeds at once. What holds the job back now (suspend, used-up retries, dependencies, a web app
    that can't be found) is taken to be mended. At most `listed` slots are run; the rest are counted.
    """
    resumed = job.spec.suspend
    free = replace(
        job,
        spec=replace(job.spec, suspend=False),
        generation=job.generation + 1 if resumed else job.generation,
        status=replace(job.status, retry=None),
    )
    simulated = SimulatedJob(
        job=free,
        desired=seen.desired if isinstance(seen.desired, Desired) else _PRETENDED,
        runs={run.uid: run for run in seen.runs},
        cronjob=replace(seen.cronjob, ours=True) if seen.cronjob is not None else None,
    )
    running = [slot for run in seen.runs for slot in _running_slots(free, run)]
    for run in seen.runs:
        if run.running:
            simulated.end(run.uid, now, None)
    clock, slots = now, list(running)
    first: Status | None = None
    for _ in range(listed + 100):
        starts = simulated.advance(clock)
        books = simulated.status
        if first is None:
            first = books
        slots += [start.slot for start in starts if not start.by_hand and start.slot <= now]
        if len(slots) >= listed:
            break
        for start in starts:
            simulated.end(start.uid, clock, None)
        if starts:
            continue
        due = bookkeeping.head(View.of_job(simulated.job, simulated.observed(), clock), books)
        if due is None or due > now or simulated.wake_at is None:
            break
        clock = max(clock, simulated.wake_at)
    first = first if first is not None else job.status
    missed = bookkeeping.missed(View.of_job(free, seen, now), first)
    return Forecast(
        slots=tuple(slots[:listed]),
        count=max(missed + len(running), len(slots)) if job.spec.backfill else len(slots),
        running=len(running),
        skipped=max(0, first.skipped - job.status.skipped),
        collapsed=0 if job.spec.backfill else missed,
    )


def _running_slots(job: Job, run: Run) -> Iterator[datetime]:
    """Yield the slots that a run settles when it succeeds."""
    settled = bookkeeping.cursor(job, job.status)
    slot: datetime | None = run.slot
    counts = run.running and run.kind is not RunKind.MANUAL and not run.by_hand
    while counts and slot is not None and slot <= run.through:
        if slot > settled:
            yield slot
        slot = job.spec.slots.next_after(slot)


# --- A job that exists ----------------------------------------------------------------------------------


def explain(job: Job, seen: Observed, decision: Decision, told: Told, now: datetime) -> Iterator[str]:
    """Yield what there is to say about a job of a cluster, a paragraph each.

    `decision` is what `decide()` says of it now.
    """
    view = View.of_job(job, seen, now)
    books = decision.status or job.status
    yield f"{job.namespace}/{job.name}: {_kind(job.spec)}"
    yield " ".join(_now(view, books, told))
    yield " ".join(_next(view, books))
    yield " ".join(_past(books, now))
    if told.command:
        yield f"It runs {_quoted(told.command)}, {told.where}."
    if told.pending:
        yield (
            f"Given by annotation and not done yet: {', '.join(told.pending)}. The operator takes commands within"
            " a second, where it runs."
        )
    if told.unattended:
        yield (
            "The operator has something to do here and does not do it: it seems not to run, or not to watch this"
            " namespace. See its log."
        )


def explain_invalid(place: str, sentences: Sequence[str], status: Status, now: datetime) -> Iterator[str]:
    """Yield what there is to say about a resource that can't be carried out."""
    yield f"{place}: its spec can't be carried out, so nothing new is started until it is mended."
    yield "\n".join(sentences)
    yield " ".join(_past(status, now))


def explain_deleting(place: str) -> str:
    """Tell of a resource that is being deleted."""
    return f"{place}: it is being deleted; nothing more is started, and what was made for it goes with it."


def _now(view: View, books: Status, told: Told) -> Iterator[str]:
    ready, caught_up = books.condition(ConditionType.READY), books.condition(ConditionType.CAUGHT_UP)
    if view.seen.cronjob is not None and not view.seen.cronjob.ours:
        yield ready.message if ready is not None else "A CronJob of its name belongs to somebody else."
        return
    if view.seen.problem is not None:
        yield view.seen.problem.message
    if told.refused is not None:
        yield told.refused
    if isinstance(view.seen.desired, Unavailable):
        yield f"It can't be scheduled: {view.seen.desired.message}"
    if view.spec.suspend:
        yield "It is suspended: no new run starts until spec.suspend is false."
    claim = books.ongoing
    run = view.run(claim.uid) if claim is not None else None
    if claim is not None and run is not None and run.running:
        since = run.started or claim.since or run.created
        yield (
            f"Slot {_slot(claim.slot)}{_through(claim.slot, claim.through)} is running since"
            f" {format_time(since)} (Job {claim.job}, attempt {claim.attempt}); it is stopped if it takes longer"
            f" than {_duration(timedelta(seconds=view.spec.active_deadline_seconds))}."
        )
    if books.missed and caught_up is not None:
        yield caught_up.message
    elif told.waiting_for is not None:
        yield told.waiting_for
    elif claim is None and not view.spec.suspend:
        yield "Every slot that was due is settled."


def _next(view: View, books: Status) -> Iterator[str]:
    at = books.next_run_time
    if at is None:
        # What holds it back was said above.
        upcoming = view.upcoming
        if upcoming is not None:
            yield f"Nothing is planned. Its next slot would be {_slot(upcoming)}."
        else:
            yield "Its schedule has no slot within five years: nothing is planned."
        return
    failing = bookkeeping.failing_slot(view, books)
    if failing is not None and books.ongoing is None and at > view.now:
        yield (
            f"Next: another attempt at slot {_slot(failing)}, at {format_time(at)} ({_until(at, view.now)})."
            " Later slots wait for it."
        )
    elif at > view.now:
        yield f"Next: slot {_slot(at)}, {_until(at, view.now)}. {_why_then(view)}".rstrip()
    elif books.ongoing is not None:
        yield f"Then: slot {_slot(at)}, as soon as that run has succeeded."
    else:
        yield f"Next: slot {_slot(at)}, which is due."


def _why_then(view: View) -> str:
    """Why the next slot is not sooner."""
    since = bookkeeping.cursor(view.job, view.job.status)
    if view.job.status.settled_through is None and view.newest is not None and view.newest <= since:
        made = format_time(view.job.created)
        return f"It was made at {made}, and no slot before that is run. {_grid(view.spec)}"
    return _grid(view.spec)


def _grid(spec: Spec) -> str:
    slots = spec.slots
    if isinstance(slots, Frequency):
        day = timedelta(days=1)
        if slots.interval == timedelta(days=7):
            return "A frequency of 7d means Mondays."
        if slots.interval > day or day % slots.interval:
            return f"The slots of a frequency are the multiples of {slots.text} since Monday 1970-01-05 UTC."
    return ""


def _past(books: Status, now: datetime) -> Iterator[str]:
    success = books.last_success_time
    if success is not None:
        yield f"Last success: {format_time(success)} ({_ago(success, now)})."
    else:
        yield "It has never succeeded."
    error = books.last_error
    if error is not None and books.error_count:
        times = "once" if books.error_count == 1 else f"{books.error_count} times in a row"
        what = ": ".join(part for part in (error.type, error.value.strip().split("\n", 1)[0]) if part)
        yield f"It failed {times}, the last time with {what}."
    if books.skipped:
        yield (
            f"{_slots(books.skipped)} were skipped so far."
            if books.skipped > 1
            else "1 slot was skipped so far."
        )


def tell_forecast(told: Forecast, spec: Spec, *, held_back: bool) -> Iterator[str]:
    """Yield the dry run, a line each."""
    if told.skipped:
        why = "backfillLimit" if spec.backfill_limit is not None else "startingDeadlineSeconds"
        yield f"{_slots(told.skipped)} will be skipped by {why}."
    if not told.count:
        yield "Dry run: no slot would be caught up."
        return
    when = "once nothing holds it back" if held_back else "if each run succeeds"
    order = " in this order" if told.count > 1 else ""
    yield f"Dry run: {_slots(told.count)} would be caught up{order}, {when}:"
    for number, slot in enumerate(told.slots):
        note = " (running)" if number < told.running else ""
        if not note and told.collapsed > 1:
            note = f" (one run for all {told.collapsed} missed slots)"
        yield f"  {format_time(slot)}{note}"
    if told.count > len(told.slots):
        yield f"  … and {told.count - len(told.slots)} more"


# --- A file ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """What a manifest that is not applied yet asks for."""

    place: str
    spec: Spec
    command: tuple[str, ...]
    where: str
    cron_text: str
    time_zone: str


def explain_planned(planned: Planned, now: datetime, listed: int = LISTED_SLOTS) -> Iterator[str]:
    """Yield what would happen if a manifest were applied now, where its resource doesn't exist yet."""
    spec = planned.spec
    yield f"{planned.place}: {_kind(spec)}"
    zone = "" if planned.time_zone in ("UTC", "Etc/UTC") else f" in {planned.time_zone}"
    yield f"Its CronJob would have the schedule '{planned.cron_text}'{zone}."
    job = Job("", "", "", "", 1, now, spec, Status())
    first = spec.slots.next_after(now)
    caught_up = forecast(job, Observed(desired=_PRETENDED), now, listed)
    if spec.suspend:
        yield "It is suspended: nothing starts until spec.suspend is false."
    if caught_up.count or caught_up.skipped:
        yield "backfillSince lies in the past, so slots count as missed from the start."
    elif first is not None:
        yield (
            f"Its first slot would be {_slot(first)}, {_until(first, now)}; nothing runs before that."
            f" {_grid(spec)}".rstrip()
        )
    else:
        yield "Its schedule has no slot within five years: it would never run."
    yield f"It would run {_quoted(planned.command)}, {planned.where}."
    if caught_up.count or caught_up.skipped:
        yield "\n".join(tell_forecast(caught_up, spec, held_back=spec.suspend))


# --- Words ----------------------------------------------------------------------------------------------


def _kind(spec: Spec) -> str:
    """Say when it runs, what becomes of missed slots, and who starts the runs."""
    missed = (
        "each missed slot is caught up, oldest first" if spec.backfill else "missed slots become one late run"
    )
    if spec.is_plain:
        who = "It is plain: Kubernetes starts its runs by itself, also while the operator is down."
    else:
        who = f"It is gated: the operator starts each run, because of {_listed(why_gated(spec))}."
    return f"{spec.slots.describe()}; {missed}. {who}"


def why_gated(spec: Spec) -> list[str]:
    """Name the fields for which Kubernetes alone isn't enough (design: section 3)."""
    reasons = {
        "backfill": spec.backfill,
        "passLastSuccess": spec.pass_last_success,
        "dependsOn": bool(spec.depends_on),
        "concurrencyGroup": spec.concurrency_group is not None,
        "retryDelaySeconds": spec.retry_delay_seconds is not None,
        "retryMaxDelaySeconds": spec.retry_max_delay_seconds is not None,
        "startingDeadlineSeconds on a frequency": (
            spec.starting_deadline_seconds is not None and spec.frequency is not None
        ),
        "$(RUN_TIME) in args": spec.passes_run_time,
        "$(LAST_SUCCESS) in args": spec.passes_last_success,
    }
    return [name for name, holds in reasons.items() if holds]


def next_slot(job: Job, seen: Observed, now: datetime) -> datetime | None:
    """Return the slot of the next run: the one that is due, else the first to come."""
    view = View.of_job(job, seen, now)
    return bookkeeping.head(view, job.status) or view.upcoming


def is_held_back(job: Job, seen: Observed, told: Told, now: datetime) -> bool:
    """Tell whether something has to change before the due slots can run."""
    return bool(
        seen.problem
        or told.refused
        or told.waiting_for
        or told.unattended
        or job.spec.suspend
        or isinstance(seen.desired, Unavailable)
        or (seen.cronjob is not None and not seen.cronjob.ours)
        or bookkeeping.retries_exhausted(View.of_job(job, seen, now), job.status)
    )


def _through(first: datetime, last: datetime) -> str:
    return f" (and those up to {_slot(last)})" if last != first else ""


def _slot(time: datetime) -> str:
    return format_time(time)


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part) if words else "nothing"


def _quoted(words: Sequence[str]) -> str:
    return f"`{' '.join(words)}`"


def _until(time: datetime, now: datetime) -> str:
    return f"in {_duration(time - now)}"


def _ago(time: datetime, now: datetime) -> str:
    return f"{_duration(now - time)} ago"


def _duration(time: timedelta) -> str:
    """Write a duration in its two largest units, as people say it."""
    seconds = max(0, round(time.total_seconds()))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"
