"""Sentry Crons: which check-ins a change of the books is worth, for which monitor, and when each may be sent.

PURE. A monitor is upserted with each check-in: its schedule, time zone, margin, longest runtime and thresholds
come from the resource alone. Two limits of Sentry's are kept here: a monitor's slug has at most 50 characters,
and a monitor takes 6 check-ins a minute. A closing check-in (ok, error) stands alone where there was no room
for the opening one; an opening one is sent only if there is room to close it, because Sentry would take a run
that never ends for a zombie.

Ids come from the run's uid and attempt (sentry_news.py), so that a run that is opened in one life of the
operator is closed in the next. It must not import kopf, kubernetes or sentry_sdk, or read a clock.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from crontabber_operator.bookkeeping import new_entries
from crontabber_operator.cron_text import cron_fields, parse_cron_text
from crontabber_operator.models import Ongoing, Result, Spec, Status
from crontabber_operator.observed import Job, Run
from crontabber_operator.report_errors import is_wanted
from crontabber_operator.schedule import Frequency
from crontabber_operator.sentry_events import trace_context
from crontabber_operator.sentry_news import JobTold, check_in_id
from crontabber_operator.wall_clock import WallClock

SLUG_NAME_MAX_CHARACTERS: Final = 41
SLUG_HASH_CHARACTERS: Final = 8
"""With the hyphen between, a slug has at most the 50 characters that Sentry keeps."""
CHECK_INS_MAX: Final = 6
WINDOW: Final = timedelta(minutes=1)
"""Sentry takes so many check-ins of a monitor in a minute, and drops what is more."""
MARGIN_MINUTES: Final = 5
"""A run may start so late: waiting for the CronJob controller's Job takes up to a minute, then come the
scheduler and the image."""
WAITING_MARGIN_MINUTES: Final = 30
"""The same for jobs that wait for other jobs."""
RUNTIME_GRACE_MINUTES: Final = 1
MINUTES_MAX: Final = 7 * 24 * 60
"""The longest runtime that Sentry accepts."""
SWEEP_FROM: Final = 1000
SECONDS_MAX: Final = 2_147_483
"""Sentry refuses a check-in with a longer duration; it counts milliseconds in 31 bits."""
WAITING_MAX: Final = 3
"""So many check-ins of one monitor wait at most; what is more is merged."""


class CheckInStatus(StrEnum):
    """What a check-in says, by Sentry's names."""

    IN_PROGRESS = "in_progress"
    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """After how many check-ins in a row Sentry opens and resolves an issue about a monitor."""

    failures: int = 1
    recoveries: int = 1


DEFAULT_THRESHOLDS: Final = Thresholds()


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """A monitor, as Sentry takes it."""

    schedule: str | tuple[int, str]
    """Cron text, or a number and `minute`, `hour` or `day`."""
    time_zone: str
    margin_minutes: int
    runtime_minutes: int
    thresholds: Thresholds = DEFAULT_THRESHOLDS

    def payload(self) -> dict[str, Any]:
        """Return it as Sentry's `monitor_config`."""
        if isinstance(self.schedule, str):
            schedule: dict[str, Any] = {"type": "crontab", "value": self.schedule}
        else:
            schedule = {"type": "interval", "value": self.schedule[0], "unit": self.schedule[1]}
        return {
            "schedule": schedule,
            "timezone": self.time_zone,
            "checkin_margin": self.margin_minutes,
            "max_runtime": self.runtime_minutes,
            "failure_issue_threshold": self.thresholds.failures,
            "recovery_threshold": self.thresholds.recoveries,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """One check-in."""

    namespace: str
    slug: str
    status: CheckInStatus
    run_uid: str
    attempt: int
    monitor: MonitorConfig
    seconds: float | None = None
    """How long the run took; only of one that ended."""
    before: tuple[datetime, ...] = field(default=(), repr=False)
    """When earlier runs started and ended: what an earlier life of the operator may have sent for."""

    @property
    def id(self) -> str:
        """Return the id, the same for the beginning and the end of an attempt."""
        return check_in_id(self.run_uid, self.attempt)

    def payload(self, *, release: str = "", environment: str = "") -> dict[str, Any]:
        """Return it as Sentry takes it."""
        payload: dict[str, Any] = {
            "type": "check_in",
            "check_in_id": self.id,
            "monitor_slug": self.slug,
            "status": str(self.status),
            "monitor_config": self.monitor.payload(),
            "contexts": {"trace": trace_context(self.run_uid, self.attempt)},
        }
        if self.seconds is not None and 0 <= self.seconds <= SECONDS_MAX:
            payload["duration"] = self.seconds
        if release:
            payload["release"] = release
        if environment:
            payload["environment"] = environment
        return payload


def slug(namespace: str, name: str) -> str:
    """Return the monitor's slug: the beginning of namespace and name, and a hash of both.

    Sentry allows small letters, digits, `-` and `_`. The hash keeps `a/b-c` and `a-b/c` apart.
    """
    readable = re.sub(r"[^a-z0-9_-]", "-", f"{namespace}-{name}".lower())[:SLUG_NAME_MAX_CHARACTERS]
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:SLUG_HASH_CHARACTERS]
    return f"{readable.strip('-')}-{digest}"


def monitor_config(spec: Spec, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> MonitorConfig:
    """Return what Sentry must know of a job to notice that it was missed or hangs."""
    waits = bool(spec.depends_on) or spec.concurrency_group is not None
    schedule, time_zone = _schedule(spec)
    return MonitorConfig(
        schedule=schedule,
        time_zone=time_zone,
        margin_minutes=WAITING_MARGIN_MINUTES if waits else MARGIN_MINUTES,
        runtime_minutes=min(-(-spec.active_deadline_seconds // 60) + RUNTIME_GRACE_MINUTES, MINUTES_MAX),
        thresholds=thresholds,
    )


def check_ins(
    job: Job,
    after: Status,
    runs: Iterable[Run],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> Iterator[CheckIn]:
    """Yield the check-ins that a change of the books is worth, in the order of what happened.

    `job` has the status of before; `runs` are its Jobs that exist. Called after the new status was written. A
    job with `reportErrors: Never` has no monitor: nothing about it goes to Sentry.
    """
    before = job.status
    if not is_wanted(JobTold.of(job)):
        return
    entries = new_entries(before, after)
    claim = after.ongoing
    if not entries and (claim is None or claim == before.ongoing):
        return
    monitor = monitor_config(job.spec, thresholds)
    uids = {run.name: run.uid for run in runs}
    common: dict[str, Any] = {
        "namespace": job.namespace,
        "slug": slug(job.namespace, job.name),
        "monitor": monitor,
        "before": tuple(_times(before)),
    }
    for entry in reversed(entries):
        good = entry.result is Result.SUCCEEDED
        yield CheckIn(
            status=CheckInStatus.OK if good else CheckInStatus.ERROR,
            run_uid=_claimed_uid(entry.job, before.ongoing, claim) or uids.get(entry.job, entry.job),
            attempt=entry.attempt,
            seconds=entry.seconds,
            **common,
        )
    if claim is not None and _is_new(claim, before.ongoing) and not (job.spec.is_plain and claim.attempt > 1):
        # Of a plain job's retry nobody sees when it starts: it waits first, and then may take its whole time.
        yield CheckIn(status=CheckInStatus.IN_PROGRESS, run_uid=claim.uid, attempt=claim.attempt, **common)


def _is_new(claim: Ongoing, before: Ongoing | None) -> bool:
    return before is None or (claim.uid, claim.attempt) != (before.uid, before.attempt)


def _claimed_uid(run: str, *claims: Ongoing | None) -> str | None:
    return next((claim.uid for claim in claims if claim is not None and claim.job == run), None)


def _times(status: Status) -> Iterator[datetime]:
    for entry in status.history:
        yield from (time for time in (entry.started, entry.finished) if time is not None)


# --- Schedules --------------------------------------------------------------------------------------------

_COMMON_FIELD = re.compile(
    r"\*(?:/\d+)?|(?:\d+|[A-Za-z]{3})(?:-(?:\d+|[A-Za-z]{3}))?(?:,(?:\d+|[A-Za-z]{3})(?:-(?:\d+|[A-Za-z]{3}))?)*"
)


def _schedule(spec: Spec) -> tuple[str | tuple[int, str], str]:
    slots = spec.slots
    if isinstance(slots, Frequency):
        cron = slots.static_cron()
        return (cron if cron is not None else _interval(slots.interval)), "UTC"
    return _cron_text(spec.schedule or ""), spec.time_zone or "UTC"


def _interval(interval: timedelta) -> tuple[int, str]:
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if interval % length == timedelta():
            return interval // length, unit
    return interval // timedelta(minutes=1), "minute"


def _cron_text(text: str) -> str:
    """Write a schedule in the words that Sentry's reader of cron texts and robfig/cron have in common.

    Sentry's takes `*/n` in a day's field for a star, robfig/cron doesn't; and it knows no `?`.
    """
    fields = cron_fields(text)
    days = fields[2::2]
    is_odd = "*" not in days and any(day.startswith("*") for day in days)
    if len(fields) > 1 and all(_COMMON_FIELD.fullmatch(part) for part in fields) and not is_odd:
        return " ".join(fields)
    return _written_out(parse_cron_text(text))


def _written_out(wall: WallClock) -> str:
    # Where either day will do, neither may look like a star; where both must match, a full one has to.
    whole_day = "*" if not wall.either_day else None
    return " ".join(
        (
            _field(wall.minutes, range(60), "*"),
            _field(wall.hours, range(24), "*"),
            _field(wall.month_days, range(1, 32), whole_day),
            _field(wall.months, range(1, 13), "*"),
            _field(wall.weekdays, range(7), whole_day),
        )
    )


def _field(bits: int, values: range, whole: str | None) -> str:
    chosen = [value for value in values if bits >> value & 1]
    if len(chosen) == len(values):
        return whole or f"{values[0]}-{values[-1]}"
    return ",".join(map(str, chosen))


# --- When they may be sent --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Monitor:
    sent: deque[datetime]
    """When check-ins were sent in the last minute."""
    waiting: list[CheckIn] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    """Ids that Sentry was told have begun, and not yet that they ended."""
    is_ready: bool = False
    is_later: bool = False


class Monitors:
    """The check-ins that wait to be sent, each monitor at its pace. Not thread-safe.

    `now` is an argument everywhere, and never goes back.
    """

    def __init__(self) -> None:
        self._monitors: dict[str, _Monitor] = {}
        self._ready: deque[str] = deque()
        self._later: list[tuple[datetime, str]] = []
        self._with_waiting: dict[str, None] = {}
        """In the order in which they began to wait."""
        self._sweep_at = SWEEP_FROM
        self.waiting = 0
        """How many check-ins wait."""

    def offer(self, check_in: CheckIn, now: datetime) -> None:
        """Take a check-in; it waits until its monitor may send it."""
        monitor = self._monitors.get(check_in.slug)
        if monitor is None:
            self._sweep(now)
            recent = sorted(time for time in check_in.before if now - WINDOW < time <= now)
            monitor = self._monitors[check_in.slug] = _Monitor(deque(recent[-CHECK_INS_MAX:]))
        self._set_waiting(check_in.slug, monitor, merge(monitor.waiting, check_in, monitor.open))

    def take(self, now: datetime) -> CheckIn | None:
        """Return a check-in that may be sent now, and count it as sent; None: there is none."""
        while self._later and self._later[0][0] <= now:
            _, name = heapq.heappop(self._later)
            self._monitors[name].is_later = False
            self._make_ready(name)
        while self._ready:
            name = self._ready.popleft()
            monitor = self._monitors[name]
            monitor.is_ready = False
            if not monitor.waiting:
                continue
            at = _may_at(monitor, now)
            if at <= now:
                check_in, *rest = monitor.waiting
                _count(monitor, check_in, now)
                self._set_waiting(name, monitor, rest)
                return check_in
            if not monitor.is_later:
                monitor.is_later = True
                heapq.heappush(self._later, (at, name))
        return None

    def give_back(self, check_in: CheckIn, now: datetime) -> None:
        """Take back one that could not be sent, unless a later one says more by now."""
        monitor = self._monitors.setdefault(check_in.slug, _Monitor(deque([now])))
        is_beginning = check_in.status is CheckInStatus.IN_PROGRESS
        if is_beginning:
            monitor.open.discard(check_in.id)
        has_ended = is_beginning and any(one.id == check_in.id for one in monitor.waiting)
        if not has_ended and len(monitor.waiting) < WAITING_MAX:
            self._set_waiting(check_in.slug, monitor, [check_in, *monitor.waiting])

    def drop_some(self) -> int:
        """Give up the check-ins of the monitor that has waited longest, and return how many they were."""
        name = next(iter(self._with_waiting), None)
        if name is None:
            return 0
        monitor = self._monitors[name]
        dropped = len(monitor.waiting)
        self._set_waiting(name, monitor, [])
        return dropped

    def next_at(self, now: datetime) -> datetime | None:
        """Return from when on `take` may have one; None: not until one is offered."""
        if self._ready:
            return now
        return self._later[0][0] if self._later else None

    def _set_waiting(self, name: str, monitor: _Monitor, waiting: list[CheckIn]) -> None:
        self.waiting += len(waiting) - len(monitor.waiting)
        monitor.waiting = waiting
        if waiting:
            self._with_waiting.setdefault(name)
            self._make_ready(name)
        else:
            self._with_waiting.pop(name, None)

    def _make_ready(self, name: str) -> None:
        monitor = self._monitors[name]
        if not monitor.is_ready:
            monitor.is_ready = True
            self._ready.append(name)

    def _sweep(self, now: datetime) -> None:
        """Now and then, forget the monitors that there is nothing to be remembered of."""
        if len(self._monitors) < self._sweep_at:
            return
        self._monitors = {
            name: one
            for name, one in self._monitors.items()
            if one.waiting
            or one.open
            or one.is_ready
            or one.is_later
            or (one.sent and one.sent[-1] > now - WINDOW)
        }
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._monitors))


def _may_at(monitor: _Monitor, now: datetime) -> datetime:
    """Return when the first that waits may be sent."""
    sent, first = monitor.sent, monitor.waiting[0]
    while sent and sent[0] <= now - WINDOW:
        sent.popleft()
    # Room must be left for the end of what has begun, and of what would begin now.
    places = 2 if first.status is CheckInStatus.IN_PROGRESS else 1
    places += len(monitor.open - {first.id})
    surplus = len(sent) + places - CHECK_INS_MAX
    return now if surplus <= 0 else sent[surplus - 1] + WINDOW


def _count(monitor: _Monitor, check_in: CheckIn, now: datetime) -> None:
    monitor.sent.append(now)
    if check_in.status is CheckInStatus.IN_PROGRESS:
        # One run of a job goes on at a time: what had begun before is over, or lost.
        monitor.open = {check_in.id}
    else:
        monitor.open.discard(check_in.id)


def merge(waiting: list[CheckIn], new: CheckIn, opened: Iterable[str] = ()) -> list[CheckIn]:
    """Add a check-in to those of its monitor that wait.

    The end of a run makes its beginning needless. Of too many, the oldest success goes first, then the oldest
    of all; one whose beginning Sentry was told (its id is in `opened`) stays as long as there are others.
    """
    kept = [one for one in waiting if one.id != new.id or one.status is not CheckInStatus.IN_PROGRESS]
    kept = [one for one in kept if (one.id, one.status) != (new.id, new.status)]
    if new.status is CheckInStatus.IN_PROGRESS and any(one.id == new.id for one in kept):
        return kept
    kept.append(new)
    opened = frozenset(opened)
    while len(kept) > WAITING_MAX:
        candidates = [one for one in kept[:-1] if one.id not in opened] or kept[:-1]
        successes = [one for one in candidates if one.status is CheckInStatus.OK]
        kept.remove((successes or candidates)[0])
    return kept
