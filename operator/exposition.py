"""Prometheus' text format for the metrics of jobs: their names, what they mean, their lines.

PURE. The lines come in slices, so that whoever serves ten thousand jobs can do other work in between. (The
client library's own writer takes seven times as long for them; it writes the metrics that are no job's.)
It must not import kopf, kubernetes or aiohttp, or read a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from crontabber_operator.bookkeeping import new_entries
from crontabber_operator.figures import Figures
from crontabber_operator.models import InvalidSpec, Result, Spec, Status
from crontabber_operator.store import Resource

SECONDS_BUCKETS: Final = (1, 5, 15, 60, 300, 900, 3600, 7200)
"""How long runs take; the last one is the default of activeDeadlineSeconds."""
SLICE_LINES: Final = 500


class SkipReason:
    """The values of the label `reason`, as `status.skippedBy` has them."""

    BACKFILL_LIMIT: Final = "backfillLimit"
    STARTING_DEADLINE: Final = "startingDeadline"
    RETRY_LIMIT: Final = "retryLimit"


@dataclass(slots=True)
class Counts:
    """What this operator wrote into the books of a job since it started: counted by no other one."""

    uid: str
    """The resource's: one of the same name that is made anew starts at 0."""
    results: dict[str, int] = field(
        default_factory=lambda: {Result.SUCCEEDED.value: 0, Result.FAILED.value: 0}
    )
    """A rate needs the 0 from before the first run; the other results are rare."""
    skipped: dict[str, int] = field(default_factory=dict)
    in_buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, before: Status, after: Status) -> None:
        """Count what came with a change of the books."""
        failures = 0
        for entry in new_entries(before, after):
            self.results[entry.result.value] = self.results.get(entry.result.value, 0) + 1
            failures += entry.result is not Result.SUCCEEDED
            if entry.seconds is not None:
                self.seconds += entry.seconds
                self.in_buckets[bisect_left(SECONDS_BUCKETS, entry.seconds)] += 1
        # More of them than the history has room for: a plain job that failed on while no operator was there.
        unseen = after.error_count - before.error_count - failures
        if unseen > 0:
            self.results[Result.FAILED.value] += unseen
        for reason, count in _skipped(after).items():
            grown = count - _skipped(before)[reason]
            if grown > 0:
                self.skipped[reason] = self.skipped.get(reason, 0) + grown


def _skipped(status: Status) -> dict[str, int]:
    by = status.skipped_by
    return {
        SkipReason.BACKFILL_LIMIT: by.backfill_limit if by is not None else 0,
        SkipReason.STARTING_DEADLINE: by.starting_deadline if by is not None else 0,
        SkipReason.RETRY_LIMIT: by.retry_limit if by is not None else 0,
    }


@dataclass(frozen=True, slots=True)
class JobSample:
    """One job at the moment of a scrape."""

    resource: Resource
    figures: Figures | None
    """None: its spec is invalid, so nothing can be said about slots."""
    counts: Counts
    labels: str

    @classmethod
    def of(cls, resource: Resource, figures: Figures | None, counts: Counts) -> JobSample:
        """Take a job as it is."""
        owner = resource.owner
        labels = f'namespace="{escaped(owner.namespace)}",crontabberjob="{escaped(owner.name)}"'
        return cls(resource, figures, counts, labels)


def escaped(text: str) -> str:
    """Write a label's value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


Line = tuple[str, str, float]
"""What follows the name, the further labels, the value."""
_JOB: Final = ("namespace", "crontabberjob")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    lines: Callable[[JobSample, datetime], Iterable[Line]]


def _info(sample: JobSample, _now: datetime) -> Iterable[Line]:
    spec = sample.resource.spec
    if isinstance(spec, InvalidSpec):
        command, schedule, mode = "", sample.resource.status.schedule, ""
    else:
        command, schedule, mode = spec.command, spec.schedule_text, "plain" if spec.is_plain else "gated"
    return (("", f',command="{escaped(command)}",schedule="{escaped(schedule)}",mode="{mode}"', 1),)


def _state(sample: JobSample, _now: datetime) -> Iterable[Line]:
    state = sample.resource.status.state
    return (("", f',state="{state.value}"', 1),) if state is not None else ()


def _last_success(sample: JobSample, _now: datetime) -> Iterable[Line]:
    time = sample.resource.status.last_success_time
    return (("", "", time.timestamp() if time is not None else 0),)


def _next_run(sample: JobSample, _now: datetime) -> Iterable[Line]:
    time = sample.resource.status.next_run_time
    return (("", "", time.timestamp()),) if time is not None else ()


def _missed(sample: JobSample, _now: datetime) -> Iterable[Line]:
    return (("", "", sample.figures.missed),) if sample.figures is not None else ()


def _oldest_missed(sample: JobSample, _now: datetime) -> Iterable[Line]:
    oldest = sample.figures.oldest_missed if sample.figures is not None else None
    return (("", "", oldest.timestamp()),) if oldest is not None else ()


def _overdue(sample: JobSample, now: datetime) -> Iterable[Line]:
    return (("", "", sample.figures.overdue(now).total_seconds()),) if sample.figures is not None else ()


def _errors(sample: JobSample, _now: datetime) -> Iterable[Line]:
    return (("", "", sample.resource.status.error_count),)


def _runs(sample: JobSample, _now: datetime) -> Iterable[Line]:
    return (("", f',result="{result}"', count) for result, count in sample.counts.results.items())


def _skips(sample: JobSample, _now: datetime) -> Iterable[Line]:
    reasons = {**dict.fromkeys(_may_skip(sample.resource.spec), 0), **sample.counts.skipped}
    return (("", f',reason="{reason}"', count) for reason, count in reasons.items())


def _may_skip(spec: Spec | InvalidSpec) -> Iterator[str]:
    if isinstance(spec, InvalidSpec):
        return
    if spec.backfill_limit is not None:
        yield SkipReason.BACKFILL_LIMIT
    if spec.starting_deadline_seconds is not None:
        yield SkipReason.STARTING_DEADLINE
    if spec.retry_limit is not None and spec.is_plain:
        yield SkipReason.RETRY_LIMIT


def _durations(sample: JobSample, _now: datetime) -> Iterator[Line]:
    total = 0
    for bound, count in zip((*SECONDS_BUCKETS, "+Inf"), sample.counts.in_buckets, strict=True):
        total += count
        yield "_bucket", f',le="{bound}"', total
    yield "_sum", "", sample.counts.seconds
    yield "_count", "", total


JOB_FAMILIES: Final = (
    Family(
        "crontabber_job_info",
        "gauge",
        (*_JOB, "command", "schedule", "mode"),
        "Always 1; what the job is. mode is plain (Kubernetes runs it) or gated (the operator starts each run).",
        _info,
    ),
    Family("crontabber_job_state", "gauge", (*_JOB, "state"), "Always 1; the label is status.state.", _state),
    Family(
        "crontabber_job_last_success_timestamp_seconds",
        "gauge",
        _JOB,
        "status.lastSuccessTime; 0 before any success.",
        _last_success,
    ),
    Family(
        "crontabber_job_next_run_timestamp_seconds",
        "gauge",
        _JOB,
        "status.nextRunTime; absent while nothing is going to run.",
        _next_run,
    ),
    Family(
        "crontabber_job_missed_slots", "gauge", _JOB, "Slots that are due and have not succeeded.", _missed
    ),
    Family(
        "crontabber_job_oldest_missed_slot_timestamp_seconds",
        "gauge",
        _JOB,
        "The oldest of them; absent where none is missed.",
        _oldest_missed,
    ),
    Family(
        "crontabber_job_success_overdue_seconds",
        "gauge",
        _JOB,
        "Since when a success is owed, slots that were skipped or given up included; 0 while none is.",
        _overdue,
    ),
    Family("crontabber_job_consecutive_errors", "gauge", _JOB, "Failures since the last success.", _errors),
    Family(
        "crontabber_job_runs_total",
        "counter",
        (*_JOB, "result"),
        "Runs that ended, as the operator recorded them; not those made by hand.",
        _runs,
    ),
    Family(
        "crontabber_job_skipped_slots_total",
        "counter",
        (*_JOB, "reason"),
        "Slots that were skipped or given up.",
        _skips,
    ),
    Family(
        "crontabber_job_run_duration_seconds",
        "histogram",
        _JOB,
        "How long runs took that ended, whatever their result.",
        _durations,
    ),
)


def exposition(samples: Sequence[JobSample], now: datetime) -> Iterator[str]:
    """Write all families of these jobs, in slices."""
    lines: list[str] = []
    for family in JOB_FAMILIES:
        lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n")
        for sample in samples:
            lines += [
                f"{family.name}{suffix}{{{sample.labels}{more}}} {value}\n"
                for suffix, more, value in family.lines(sample, now)
            ]
            if len(lines) >= SLICE_LINES:
                yield "".join(lines)
                lines.clear()
    yield "".join(lines)
